//! `kubectl bam plan`: the plan of a manifest against what is in the cluster: runs that other experiments made are joined. It
//! changes nothing, and works without a cluster, too.

use bam_crds::experiment::PinnedInputs;
use bam_crds::profile::{ClusterBamProfileSpec, ProfileKind, ProfileRef};
use bam_crds::{BamExperiment, BamProfile, BamRun, ClusterBamProfile};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Api;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use serde_json::json;

use super::super::dag::{Dag, Inputs};
use super::super::{Exit, Format, input};
use super::Place;
use super::cluster::{Cluster, EXPERIMENTS, causes};
use super::difference::{self, Change};
use crate::cluster::observe::Seen;
use crate::cluster::placement::Claim;
use crate::manifest::Profile;
use crate::plan::Why;
use crate::plan::experiment::Observed;
use crate::plan::graph;

/// Arguments of `kubectl bam plan`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    manifests: input::Manifests,
    /// Ask no cluster: what is there already is not known then.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    format: Format,
}

pub async fn plan(arguments: &Arguments, place: &Place) -> Result<(), Exit> {
    let mut refused = false;
    let (experiments, profiles) = input::manifests(&arguments.manifests.files)?;
    for manifest in experiments {
        // As `kubectl apply` does it: what the manifest says counts.
        let namespace = manifest.metadata.namespace.clone().or_else(|| place.namespace.clone());
        let there = match arguments.offline {
            true => There::nowhere(&namespace, "--offline: no cluster was asked"),
            false => match asked(&Place { namespace: namespace.clone(), ..place.clone() }, &manifest).await {
                Ok(there) => there,
                Err(Exit::Failed(message)) => {
                    super::super::complain(&format!("note: planned without a cluster, since {message}"));
                    There::nowhere(&namespace, "no cluster could be asked")
                }
                Err(other) => return Err(other),
            },
        };
        there.take(&profiles);
        refused |= show(arguments.format, &there, manifest);
    }
    if refused { Err(Exit::Faults) } else { Ok(()) }
}

async fn asked(place: &Place, manifest: &BamExperiment) -> Result<There, Exit> {
    There::of(&Cluster::of(place).await?, manifest).await
}

/// What is in a namespace.
pub struct There {
    namespace: String,
    pub seen: Seen,
    /// The experiment of the manifest's name.
    current: Option<BamExperiment>,
    /// Why nothing is known of it, if that is so.
    unreached: Option<&'static str>,
    /// Whether its claims are known, too.
    sees_claims: bool,
}

impl There {
    fn nowhere(namespace: &Option<String>, why: &'static str) -> Self {
        let namespace = namespace.clone().unwrap_or_else(|| "default".to_owned());
        let seen = Seen::default();
        for kind in [ProfileKind::BamProfile, ProfileKind::ClusterBamProfile] {
            seen.profiles.note(kind, Some(why.to_owned()));
        }
        Self { namespace, seen, current: None, unreached: Some(why), sees_claims: false }
    }

    /// The profiles of the manifest's files: they are as good as there.
    pub fn take(&self, profiles: &[Profile]) {
        for profile in profiles {
            self.seen.profiles.note(profile.named.kind, None);
            let (name, spec) = (&profile.named.name, profile.spec.clone());
            let profiles = &self.seen.profiles;
            match profile.named.kind {
                ProfileKind::BamProfile => {
                    let mut object = BamProfile::new(name, spec);
                    object.metadata.namespace = Some(self.namespace.clone());
                    profiles.namespaced.apply(Event::Apply(DeserializeGuard(Ok(object))));
                }
                ProfileKind::ClusterBamProfile => {
                    let object = ClusterBamProfile::new(name, ClusterBamProfileSpec(spec));
                    profiles.cluster.apply(Event::Apply(DeserializeGuard(Ok(object))));
                }
            }
        }
    }

    pub async fn of(cluster: &Cluster, manifest: &BamExperiment) -> Result<Self, Exit> {
        let (client, namespace) = (&cluster.client, &cluster.namespace);
        let (seen, all) = (Seen::default(), ListParams::default());
        let experiments: Api<DeserializeGuard<BamExperiment>> = Api::namespaced(client.clone(), namespace);
        let mut current = None;
        for experiment in cluster.list(&experiments, EXPERIMENTS, &all).await?.items {
            if let Ok(one) = &experiment.0
                && one.metadata.name == manifest.metadata.name
                && one.metadata.deletion_timestamp.is_none()
            {
                current = Some(one.clone());
            }
            seen.experiments.apply(Event::Apply(experiment));
        }
        let runs: Api<DeserializeGuard<BamRun>> = Api::namespaced(client.clone(), namespace);
        for run in cluster.list(&runs, "bamruns.bam.dev", &all).await?.items {
            seen.runs.apply(Event::Apply(run));
        }
        let mut sees_claims = true;
        if let Some(claim) = claim(manifest) {
            let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
            match claims.get_opt(&claim).await {
                Ok(Some(claim)) => drop(seen.claims.apply(Event::Apply(claim))),
                Ok(None) => {}
                // Whoever may not look at claims can make experiments all the same.
                Err(_) => sees_claims = false,
            }
        }
        if let Some(named) = &manifest.spec.compute.profile {
            see_profile(cluster, &seen, named).await;
        }
        Ok(Self { namespace: namespace.clone(), seen, current, unreached: None, sees_claims })
    }

    /// The experiment as it will be, and what is seen of it: with the operator's eyes.
    pub fn experiment(&self, manifest: BamExperiment) -> (BamExperiment, Observed, Inputs) {
        let mut experiment = manifest;
        experiment.metadata.namespace = Some(self.namespace.clone());
        // Whoever carries it out, its runs are these.
        experiment.spec.managed_by = None;
        if let Some(current) = &self.current {
            experiment.metadata.uid.clone_from(&current.metadata.uid);
            experiment.metadata.generation = current.metadata.generation;
            experiment.status.clone_from(&current.status);
        }
        let seen = self.look(&experiment);
        if seen.graph(&experiment).pinned.is_some() {
            return (experiment, seen, Inputs::Checked);
        }
        let Some((other, report)) = self.checked(&experiment) else {
            let why = self.unreached.unwrap_or("no experiment of this namespace has checked these data yet");
            return (experiment, seen, Inputs::Unknown(why.to_owned()));
        };
        // Now the runs have names, and may be there.
        let run = graph::inputs(&experiment.spec, &seen.inputs_key).name;
        experiment.status.get_or_insert_default().inputs = Some(PinnedInputs { run, report });
        let seen = self.look(&experiment);
        (experiment, seen, Inputs::CheckedBy(other))
    }

    fn look(&self, experiment: &BamExperiment) -> Observed {
        self.seen.experiments.apply(Event::Apply(DeserializeGuard(Ok(experiment.clone()))));
        let name = experiment.metadata.name.as_deref().unwrap_or_default();
        self.seen.experiment(&self.namespace, name).map(|(_, seen)| seen).unwrap_or_default()
    }

    /// What another experiment's check found, of the same files.
    fn checked(&self, experiment: &BamExperiment) -> Option<(String, bam_crds::config::InputsReport)> {
        // By the same key, checks of the same files have the same name.
        let looked_at = |experiment: &BamExperiment| graph::inputs(&experiment.spec, "").name;
        let own = looked_at(experiment);
        let others = self.seen.experiments.within(&self.namespace).into_iter().filter_map(|(name, facts)| {
            let other = facts.living().filter(|other| looked_at(other) == own)?;
            let found = other.status.as_ref()?.inputs.clone()?;
            Some((other.metadata.creation_timestamp.clone(), name, found.report))
        });
        others.max_by_key(|(made, ..)| made.clone()).map(|(_, name, report)| (name, report))
    }

    /// What keeps all its pods from being made, as far as it can be told.
    pub fn obstacle(&self, experiment: &BamExperiment) -> Option<Why> {
        let claim = claim(experiment).filter(|_| self.sees_claims)?;
        self.seen.claims.get(&self.namespace, &claim).is_none().then_some(Why::ClaimMissing { claim })
    }

    /// What may keep its pods waiting for each other, as far as it can be told.
    fn shares(&self, experiment: &BamExperiment) -> Option<String> {
        let name = claim(experiment)?;
        let access = self.seen.claims.get(&self.namespace, &name)?.access;
        Claim { name, access }.why_wait()
    }
}

/// Looks for the profile that a manifest names. Whoever may not look at it can make experiments all the same.
async fn see_profile(cluster: &Cluster, seen: &Seen, named: &ProfileRef) {
    let client = cluster.client.clone();
    let found = match named.kind {
        ProfileKind::BamProfile => {
            let profiles: Api<DeserializeGuard<BamProfile>> = Api::namespaced(client, &cluster.namespace);
            let found = profiles.get_opt(&named.name).await;
            found.map(|found| found.map(|it| drop(seen.profiles.namespaced.apply(Event::Apply(it)))))
        }
        ProfileKind::ClusterBamProfile => {
            let profiles: Api<DeserializeGuard<ClusterBamProfile>> = Api::all(client);
            let found = profiles.get_opt(&named.name).await;
            found.map(|found| found.map(|it| drop(seen.profiles.cluster.apply(Event::Apply(it)))))
        }
    };
    if let Err(error) = found {
        seen.profiles.note(named.kind, Some(causes(&error)));
    }
}

/// The claim that its store is in.
fn claim(experiment: &BamExperiment) -> Option<String> {
    experiment.spec.storage.persistent_volume_claim.as_ref().map(|claim| claim.claim_name.clone())
}

/// Shows the plan of a manifest, and says whether the API server would refuse it.
fn show(format: Format, there: &There, mut manifest: BamExperiment) -> bool {
    let mut changes = None;
    if let Some(current) = &there.current {
        manifest.spec = difference::applied(current, &manifest.spec);
        changes = Some(difference::changes(&current.spec, &manifest.spec));
    }
    let obstacle = there.obstacle(&manifest).map(|why| format!("every run {why}"));
    let mut notes: Vec<_> = obstacle.into_iter().chain(there.shares(&manifest)).collect();
    if let Some(manager) = manifest.spec.managed_by.as_ref().filter(|_| !manifest.spec.is_ours()) {
        notes.push(format!("spec.managedBy is {manager}: the operator of this cluster leaves it alone"));
    }
    let (experiment, seen, inputs) = there.experiment(manifest);
    let graph = seen.graph(&experiment);
    let namespace = match there.unreached {
        None => format!("namespace {}, ", there.namespace),
        Some(_) => String::new(),
    };
    let place = format!("{namespace}store {}", experiment.spec.storage.uri());
    let dag = Dag { experiment: &experiment, place, graph: &graph, seen: &seen, inputs, notes };
    let text = || {
        let mut text = dag.text();
        let name = experiment.metadata.name.as_deref().unwrap_or_default();
        match changes.as_deref() {
            None => {}
            Some([]) => text += &format!("\nExperiment {name} is there, and nothing of it changes.\n"),
            Some(changes) => {
                text += &format!("\nExperiment {name} is there, and changes:\n");
                text.extend(changes.iter().map(|change| format!("  {}\n", change.text())));
            }
        }
        text
    };
    let json = || {
        let mut value = dag.json();
        value["cluster"] = json!(there.unreached.is_none());
        value["changes"] = json!(changes.as_ref().map(|all| all.iter().map(Change::json).collect::<Vec<_>>()));
        value
    };
    format.say(text, json);
    changes.iter().flatten().any(|change| change.refused.is_some())
}
