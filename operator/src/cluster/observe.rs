//! From facts about objects to what the planner is told. Pure: looks at nothing but what it is given.

use std::collections::BTreeMap;

use bam_crds::run::{Role, RunProgress};
use bam_crds::{BamExperiment, BamExperimentSpec, BamExperimentStatus, BamRunSpec, Digest, names};
use k8s_openapi::jiff::Timestamp;

use super::attempts::{Parts, attempts, hosts};
use super::cache::Cache;
use super::facts::{ClaimFacts, ExperimentFacts, HindranceFacts, JobFacts, PodFacts, RunFacts};
use super::job;
use super::placement::Claim;
use super::profiles::Profiles;
use super::queue::WorkloadFacts;
use crate::plan::Why;
use crate::plan::experiment::{self, Run};
use crate::plan::graph;
use crate::plan::run::{self, Stored, Teacher};
use crate::plan::teachers::{self, Registry};
use crate::platform::{Kind, Subject};

/// The most bytes of an experiment's status, as far as there is something to leave out. All of it is stored at every change.
pub const LONGEST_STATUS: usize = 16 * 1024 - 1;
/// More owners a run does not get: what is shared by so many stays anyway.
const MOST_OWNERS: usize = 200;

/// What is known of the cluster.
#[derive(Debug, Default)]
pub struct Seen {
    /// Of experiments.
    pub experiments: Cache<ExperimentFacts>,
    /// Of runs.
    pub runs: Cache<RunFacts>,
    /// Of the runs' Jobs.
    pub jobs: Cache<JobFacts>,
    /// Of the runs' pods.
    pub pods: Cache<PodFacts>,
    /// Of what kept their pods from being made.
    pub hindrances: Cache<HindranceFacts>,
    /// Of volume claims.
    pub claims: Cache<ClaimFacts>,
    /// Of what Kueue says of the runs' Jobs.
    pub workloads: Cache<WorkloadFacts>,
    /// Of profiles.
    pub profiles: Profiles,
}

impl Seen {
    /// Forgets the last words of a run's pods, if the run is gone: nobody will ask for them.
    pub fn forget(&self, namespace: &str, run: &str) {
        if self.runs.get(namespace, run).is_none() {
            self.pods.forget_gone(namespace, run, |_| true);
        }
    }

    /// Can this one wait while others are due? Not if something of it has ended, so that something else may begin; but what
    /// has nothing under way yet, what is over, and what is only to be told.
    pub fn can_wait(&self, Subject { kind, namespace, name }: &Subject) -> bool {
        match kind {
            Kind::Experiment => self.experiments.get(namespace, name).is_some_and(|facts| {
                let has_ended = |run: &String| self.runs.get(namespace, run).is_some_and(|run| run.phase.is_final());
                facts.is_living() && !facts.open_runs.iter().any(has_ended)
            }),
            Kind::Run => self.runs.get(namespace, name).is_some_and(|facts| {
                let jobs = self.jobs.of_run(namespace, name);
                let mut open = jobs.iter().filter(|(_, job)| job.number > facts.settled).peekable();
                // Whom a student learns from is done: nothing else is left to be done for its experiment.
                let is_new = facts.role != Role::Student && facts.attempts == 0 && open.peek().is_none();
                let is_at_work = open.peek().is_some() && open.all(|(_, job)| job.end.is_none());
                facts.is_living() && (facts.phase.is_final() || is_new || is_at_work)
            }),
        }
    }

    /// An experiment, if there is one.
    pub fn experiment(&self, namespace: &str, name: &str) -> Option<(BamExperiment, experiment::Observed)> {
        let facts = self.experiments.get(namespace, name)?;
        let experiment = facts.living().filter(|experiment| experiment.spec.is_ours())?;
        let mut seen = experiment::Observed {
            status: experiment.status.clone().unwrap_or_default(),
            // The check is the experiment's own: what it finds may be out of date for the next one.
            inputs_key: facts.uid.clone(),
            timed: true,
            limit: experiment.spec.max_parallel_runs,
            longest_status: Some(LONGEST_STATUS),
            ..experiment::Observed::default()
        };
        let profile = experiment.spec.compute.profile.as_ref();
        seen.profile = profile.map(|profile| self.profiles.find(namespace, profile));
        let here = Namespace { seen: self, namespace };
        seen.teachers = teachers::find(name, &experiment.spec, &seen.status, &here);
        // The other runs have names only after this one has said what the inputs are.
        here.add(&mut seen, &graph::inputs(&experiment.spec, &facts.uid).name, &facts.uid);
        let graph = seen.graph(&experiment);
        for node in &graph.trainings {
            here.add(&mut seen, &node.name, &facts.uid);
        }
        // Who teaches, and so the students' names, is known only when the teachers are.
        if !graph.gates.is_empty() {
            for node in seen.graph(&experiment).trainings {
                here.add(&mut seen, &node.name, &facts.uid);
            }
        }
        here.add_teachers_of_named(&mut seen, &facts.uid);
        Some((experiment, seen))
    }

    /// A run, if there is one.
    pub fn run(
        &self,
        namespace: &str,
        name: &str,
        progress: Option<RunProgress>,
        now: Timestamp,
    ) -> Option<(BamRunSpec, run::Observed)> {
        let facts = self.runs.get(namespace, name)?;
        let (spec, status) = facts.living()?;
        let jobs = self.jobs.of_run(namespace, name);
        let pods = self.pods.of_run(namespace, name);
        let claim = self.claim(namespace, &spec);
        let parts = Parts {
            jobs: &jobs,
            pods: &pods,
            hindrances: &self.hindrances.of_run(namespace, name),
            workloads: &self.workloads.of_run(namespace, name),
            claim: claim.as_ref(),
        };
        let seen = run::Observed {
            attempts: attempts(&facts.uid, &status, &parts, progress, now),
            status,
            stored: Stored::Unseen,
            teachers: self.teachers(namespace, &spec),
            reopened: facts.reopened.clone(),
            generation: facts.generation,
            suspended: self.is_suspended(namespace, &facts.owners),
            obstacle: self.obstacle(namespace, &spec),
            refused: None,
            look_again: pods.iter().filter_map(|(_, pod)| pod.lost_at()).filter(|at| *at > now).min(),
        };
        Some((spec, seen))
    }

    /// The Jobs that a run's status speaks of, and that were not seen: of attempts that did not end, as far as it says.
    pub fn missing_jobs(&self, namespace: &str, name: &str) -> Vec<String> {
        let Some(facts) = self.runs.get(namespace, name) else { return Vec::new() };
        if !facts.is_living() {
            return Vec::new();
        }
        let jobs = self.jobs.of_run(namespace, name);
        let seen = |number: u32| jobs.iter().any(|(_, job)| job.run_uid == facts.uid && job.number == number);
        let unsettled = facts.settled + 1..=facts.attempts;
        unsettled.filter(|number| !seen(*number)).map(|number| names::attempt(name, number)).collect()
    }

    /// The identities of the Jobs that are over, of attempts that did not end as far as the run's status says, and not all pods
    /// of which were seen to end; with the names of those that were.
    pub fn ends_without_a_word(&self, namespace: &str, name: &str) -> Vec<(String, Vec<String>)> {
        let Some(facts) = self.runs.get(namespace, name) else { return Vec::new() };
        if !facts.is_living() {
            return Vec::new();
        }
        let (jobs, pods) = (self.jobs.of_run(namespace, name), self.pods.of_run(namespace, name));
        let is_over = |job: &JobFacts| job.run_uid == facts.uid && job.number > facts.settled && job.end.is_some();
        let over = jobs.iter().map(|(_, job)| job).filter(|job| is_over(job));
        let without = over.filter_map(|job| {
            let ended = hosts(&pods, |pod| pod.job_uid == job.uid).into_values().filter(|pod| pod.end.is_some());
            if ended.count() >= job.hosts as usize {
                return None;
            }
            let heard = pods.iter().filter(|(_, pod)| pod.job_uid == job.uid && pod.end.is_some());
            Some((job.uid.clone(), heard.map(|(pod, _)| pod.clone()).collect()))
        });
        without.collect()
    }

    fn teachers(&self, namespace: &str, spec: &BamRunSpec) -> BTreeMap<Digest, Teacher> {
        let teachers = teachers::of(spec).into_iter().filter_map(|(hash, run)| {
            let facts = self.runs.get(namespace, &run)?;
            if !facts.is_living() {
                return None;
            }
            let teacher = Teacher { phase: facts.phase, attempts: facts.attempts, reopened: facts.reopened.clone() };
            Some((hash.clone(), teacher))
        });
        teachers.collect()
    }

    /// Are all of these known, and suspended or out of time? A run without an owner was left to itself by a person, and goes on.
    fn is_suspended(&self, namespace: &str, owners: &[(String, String)]) -> bool {
        let suspended = |name: &str, uid: &str| {
            let facts = self.experiments.get(namespace, name).filter(|facts| facts.uid == uid);
            facts.is_some_and(|facts| facts.is_halted())
        };
        !owners.is_empty() && owners.iter().all(|(name, uid)| suspended(name, uid))
    }

    fn obstacle(&self, namespace: &str, spec: &BamRunSpec) -> Option<Why> {
        let claim = job::claim(spec)?;
        self.claims.get(namespace, &claim).is_none().then_some(Why::ClaimMissing { claim })
    }

    /// The claim that holds a run's store, if it is in one and that is there.
    pub fn claim(&self, namespace: &str, spec: &BamRunSpec) -> Option<Claim> {
        let name = job::claim(spec)?;
        let access = self.claims.get(namespace, &name)?.access;
        Some(Claim { name, access })
    }
}

/// What names stand for in a namespace.
struct Namespace<'a> {
    seen: &'a Seen,
    namespace: &'a str,
}

impl Namespace<'_> {
    /// The run of this name, if there is one.
    fn add(&self, seen: &mut experiment::Observed, name: &str, uid: &str) {
        let Some(facts) = self.seen.runs.get(self.namespace, name) else { return };
        let Some((spec, status)) = facts.living() else {
            let why = match &facts.kept {
                Err(message) => Why::Undecodable { message: message.clone() },
                Ok(_) => Why::Leaving,
            };
            seen.unusable.insert(name.to_owned(), why);
            return;
        };
        let owns = facts.owners.iter().any(|(_, owner)| owner == uid);
        let run = Run {
            made_by: facts.made_by.clone(),
            owned: owns || facts.owners.len() >= MOST_OWNERS,
            spec,
            status,
            reopened: facts.reopened.clone(),
        };
        seen.runs.insert(name.to_owned(), run);
    }

    /// The runs that the named teachers learned from, and those that these learned from, and so on.
    fn add_teachers_of_named(&self, seen: &mut experiment::Observed, uid: &str) {
        let named = seen.teachers.values().filter_map(|teacher| teacher.as_ref().ok());
        let names = |spec: &BamRunSpec| teachers::of(spec).into_iter().map(|(_, name)| name).collect::<Vec<_>>();
        let mut open: Vec<_> = named.flat_map(|teacher| names(&teacher.spec)).collect();
        while let Some(name) = open.pop() {
            if seen.runs.contains_key(&name) {
                continue;
            }
            self.add(seen, &name, uid);
            open.extend(seen.runs.get(&name).into_iter().flat_map(|run| names(&run.spec)));
        }
    }
}

impl Registry for Namespace<'_> {
    fn experiment(&self, name: &str) -> Option<(BamExperimentSpec, BamExperimentStatus)> {
        let facts = self.seen.experiments.get(self.namespace, name)?;
        let experiment = facts.living()?;
        Some((experiment.spec, experiment.status.unwrap_or_default()))
    }

    fn run(&self, name: &str) -> Option<BamRunSpec> {
        Some(self.seen.runs.get(self.namespace, name)?.living()?.0)
    }
}
