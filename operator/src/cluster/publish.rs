//! A status, written once, and what is told with it: counts and events.

use bam_crds::run::RunPhase;
use bam_crds::{BamExperiment, BamRun};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;

use super::execute::expect;
use super::facts::PodFacts;
use super::story::{self, Chapter};
use super::{Cluster, Error, Look, object, thing};
use crate::platform::{Change, Kind, Outcome, Platform, Status, Subject};

impl Cluster {
    pub(super) async fn write_status(&self, subject: &Subject, change: &Change) -> Result<Outcome, Error> {
        let Some(look) = self.looks().remove(subject) else { return Ok(Outcome::Done) };
        // Decided from what is outdated by now: the watch has told, or will, and it is looked at again.
        if self.awaits(subject, &look) || self.version(subject).is_some_and(|known| known != look.version) {
            return Ok(Outcome::DoneBefore);
        }
        let Look { uid, version, .. } = look;
        let of = object(subject, &uid);
        let (written, story) = match (&change.before, &change.after) {
            (Status::Experiment(before), Status::Experiment(after)) => {
                let written = self.server.write_experiment_status(of, &version, after).await;
                (written, story::of_experiment(before, after))
            }
            (Status::Run(before), Status::Run(after)) => {
                (self.server.write_run_status(of, &version, after).await, story::of_run(before, after))
            }
            // A status is of the kind of its subject.
            _ => return Ok(Outcome::Done),
        };
        let written = written.map(|metadata| self.unseen.changed(thing(subject), &metadata));
        // It is gone, or was changed since it was looked at: the watch tells, and it is looked at again.
        if expect(written, &[404, 409], Outcome::NotNow)? == Outcome::NotNow {
            return Ok(Outcome::NotNow);
        }
        self.count(subject, change);
        if let Status::Run(after) = &change.after {
            let settled = after.settled();
            self.seen.pods.forget_gone(&subject.namespace, &subject.name, |pod: &PodFacts| pod.number <= settled);
        }
        self.tell(subject, &uid, story).await;
        Ok(Outcome::Done)
    }

    /// Counts what a status that was just written says for the first time.
    fn count(&self, Subject { namespace, name, .. }: &Subject, change: &Change) {
        match (&change.before, &change.after) {
            (Status::Run(before), Status::Run(after)) => {
                let Some(run) = self.seen.runs.get(namespace, name) else { return };
                if !run.is_living() {
                    return;
                }
                let role = run.role;
                story::ended(before, after).for_each(|record| self.metrics.attempt_ended(role, record));
                self.metrics.used(role, before.usage, after.usage);
                if before.phase != RunPhase::Running && after.phase == RunPhase::Running {
                    let made = self.seen.jobs.of_run(namespace, name).into_iter().map(|(_, job)| job.created_at).max();
                    made.inspect(|made| self.metrics.attempt_at_work(role, self.now().duration_since(*made)));
                }
            }
            (Status::Experiment(before), Status::Experiment(after)) => {
                let Some(facts) = self.seen.experiments.get(namespace, name) else { return };
                if after.phase.is_final() && !before.phase.is_final() {
                    let made = facts.living().and_then(|it| it.metadata.creation_timestamp);
                    made.inspect(|made| self.metrics.experiment_ended(after.phase, self.now().duration_since(made.0)));
                }
            }
            // A status is of the kind of its subject.
            _ => {}
        }
    }

    /// Tells what happened.
    async fn tell(&self, subject: &Subject, uid: &str, story: Vec<Chapter>) {
        for mut chapter in story {
            let related = chapter.run.take().and_then(|run| {
                let facts = self.seen.runs.get(&subject.namespace, &run)?;
                Some(reference_of::<BamRun>(&subject.namespace, &run, &facts.uid))
            });
            self.events.tell(reference(subject, uid), related, chapter, self.now()).await;
        }
    }

    /// An object that cannot be understood has no plan; whoever made it must hear of it.
    pub(super) async fn tell_undecodable(&self, subject: &Subject, uid: &str, error: &str) {
        tracing::warn!("{subject} cannot be understood: {error}");
        let note = format!("this operator cannot understand the object, and leaves it alone: {error}");
        let story = vec![Chapter::new(true, "Undecodable", "Read", note)];
        self.tell(subject, uid, story).await;
    }
}

fn reference(subject: &Subject, uid: &str) -> ObjectReference {
    match subject.kind {
        Kind::Experiment => reference_of::<BamExperiment>(&subject.namespace, &subject.name, uid),
        Kind::Run => reference_of::<BamRun>(&subject.namespace, &subject.name, uid),
    }
}

fn reference_of<K: Resource<DynamicType = ()>>(namespace: &str, name: &str, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}
