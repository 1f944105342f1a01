//! One action of a plan, carried out.

use std::sync::Arc;

use bam_crds::BamRunSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use super::api::Object;
use super::facts::{ExperimentFacts, RunFacts};
use super::job::{self, Owner};
use super::slice;
use super::unseen::Known;
use super::{Cluster, Error, JOBS, Look, RUNS, object, thing};
use crate::plan::status::condition;
use crate::plan::{Action, Reopened, Start, teachers};
use crate::platform::{Outcome, Platform, Subject};

impl Cluster {
    pub(super) async fn carry_out(&self, subject: &Subject, action: &Action) -> Result<Outcome, Error> {
        let namespace = &subject.namespace;
        match action {
            Action::CreateRun { name, spec } => self.create_run(subject, name, spec).await,
            Action::JoinRun { name } => self.join_run(subject, name).await,
            Action::Reopen { run, reopened } => self.reopen_run(namespace, run, reopened).await,
            Action::StartAttempt(start) => self.start_attempt(namespace, start).await,
            Action::RemoveExperiment => self.remove_experiment(subject).await,
            // A pod whose Job is removed is told to end, and has time for a checkpoint.
            Action::StopAttempt { run, number } | Action::RemoveAttempt { run, number } => {
                self.remove_attempt(namespace, run, *number).await
            }
        }
    }

    async fn create_run(&self, experiment: &Subject, name: &str, spec: &BamRunSpec) -> Result<Outcome, Error> {
        let Some(facts) = self.seen.experiments.get(&experiment.namespace, &experiment.name) else {
            return Ok(Outcome::NotNow);
        };
        if self.awaits_run(&experiment.namespace, name) {
            return Ok(Outcome::NotNow);
        }
        let maker = object(experiment, &facts.uid);
        // A deleted experiment's runs may be seen to go before it does: making them anew, for an owner that is gone, would
        // give them to the garbage collector, and perhaps take them from another experiment that has joined them.
        if !self.lives(experiment, maker).await? {
            return Ok(Outcome::NotNow);
        }
        // Another experiment's pass may have made it meanwhile, or be at it.
        let Some(_making) = self.unseen.making((RUNS, &experiment.namespace, name)) else { return Ok(Outcome::NotNow) };
        let is_seen = self.seen.runs.get(&experiment.namespace, name).is_some();
        if is_seen || self.awaits_run(&experiment.namespace, name) {
            return Ok(Outcome::NotNow);
        }
        let made = self.server.create_run(maker, name, spec).await;
        let made = made.map(|metadata| self.unseen.made((RUNS, &experiment.namespace, name), &metadata));
        // One of that name that was not there a moment ago: another experiment's, or one on its way out. Both are seen soon.
        expect(made, &[409], Outcome::NotNow)
    }

    async fn join_run(&self, experiment: &Subject, name: &str) -> Result<Outcome, Error> {
        let Some((owner, run)) = self.both(experiment, name) else { return Ok(Outcome::NotNow) };
        if self.awaits_run(&experiment.namespace, name) {
            return Ok(Outcome::NotNow);
        }
        // Deleted with its orphans left behind, it is taken out of its runs before it is seen to go: it must not come back
        // as the one owner, who is gone, of a run that was to stay.
        if !self.server.is_living(object(experiment, &owner.uid)).await? {
            return Ok(Outcome::NotNow);
        }
        let run = Object { namespace: &experiment.namespace, name, uid: &run.uid };
        let joined = self.server.join_run(object(experiment, &owner.uid), run).await;
        expect(self.changed_run(run, joined), &[404, 409], Outcome::NotNow)
    }

    /// Is this experiment still there, and to stay? Asked once in a pass: what the pass has seen to be missing was missing
    /// before, and so not because of the experiment's end.
    async fn lives(&self, experiment: &Subject, of: Object<'_>) -> Result<bool, Error> {
        let its = |look: &&mut Look| look.uid == of.uid;
        if self.looks().get_mut(experiment).filter(its).is_some_and(|look| look.lives) {
            return Ok(true);
        }
        let lives = self.server.is_living(of).await?;
        if let Some(look) = self.looks().get_mut(experiment).filter(its) {
            look.lives = lives;
        }
        Ok(lives)
    }

    /// Does a watch still have to tell of what was done to this run?
    fn awaits_run(&self, namespace: &str, name: &str) -> bool {
        let facts = self.seen.runs.get(namespace, name);
        let known = facts.as_ref().map(|facts| Known { uid: &facts.uid, version: Some(&facts.version) });
        self.unseen.awaits((RUNS, namespace, name), known)
    }

    fn changed_run(&self, run: Object<'_>, changed: Result<ObjectMeta, Error>) -> Result<(), Error> {
        changed.map(|metadata| self.unseen.changed((RUNS, run.namespace, run.name), &metadata))
    }

    fn both(&self, experiment: &Subject, run: &str) -> Option<(Arc<ExperimentFacts>, Arc<RunFacts>)> {
        let owner = self.seen.experiments.get(&experiment.namespace, &experiment.name)?;
        Some((owner, self.seen.runs.get(&experiment.namespace, run)?))
    }

    async fn reopen_run(&self, namespace: &str, name: &str, reopened: &Reopened) -> Result<Outcome, Error> {
        let Some(run) = self.seen.runs.get(namespace, name) else { return Ok(Outcome::NotNow) };
        if run.reopened.clone().merged(reopened) == run.reopened {
            return Ok(Outcome::DoneBefore);
        }
        if self.awaits_run(namespace, name) {
            return Ok(Outcome::NotNow);
        }
        let run = Object { namespace, name, uid: &run.uid };
        expect(self.changed_run(run, self.server.reopen_run(run, reopened).await), &[404, 409], Outcome::NotNow)
    }

    async fn start_attempt(&self, namespace: &str, start: &Start) -> Result<Outcome, Error> {
        let Some(run) = self.seen.runs.get(namespace, &start.run) else { return Ok(Outcome::NotNow) };
        let Some((spec, _)) = run.living() else { return Ok(Outcome::NotNow) };
        let claim = self.seen.claim(namespace, &spec);
        let owner = Owner { namespace, uid: &run.uid, made_by: &run.made_by, spec: &spec, claim: claim.as_ref() };
        let job = job::job(owner, start, &self.trainer);
        let name = job.metadata.name.clone().unwrap_or_default();
        let known = self.seen.jobs.get(namespace, &name);
        let known = known.as_ref().map(|job| Known { uid: &job.uid, version: None });
        if self.unseen.awaits((JOBS, namespace, &name), known) {
            return Ok(Outcome::NotNow);
        }
        // Its name has the run's identity in it: what is there is this run's.
        if let Some(service) = slice::service(namespace, &start.run, &run.uid, &spec) {
            expect(self.server.create_service(namespace, &service).await, &[409], Outcome::DoneBefore)?;
        }
        let begun = self.server.create_job(namespace, &job).await.map(|metadata| {
            self.unseen.made((JOBS, namespace, &name), &metadata);
            self.metrics.attempt_started(spec.role, start.number);
            if let Some(since) = self.ready_since(namespace, &run).filter(|_| start.number == 1) {
                self.metrics.student_started(self.now().duration_since(since));
            }
        });
        let outcome = expect(begun, &[409], Outcome::NotNow)?;
        let Some(job) = self.seen.jobs.get(namespace, &name).filter(|_| outcome == Outcome::NotNow) else {
            return Ok(outcome);
        };
        if job.run_uid == run.uid {
            return Ok(Outcome::DoneBefore);
        }
        // Of an earlier run of that name: it goes by itself, unless somebody has left it without an owner.
        if !job.deleting {
            self.remove_job(Object { namespace, name: &name, uid: &job.uid }).await?;
        }
        Ok(Outcome::NotNow)
    }

    async fn remove_attempt(&self, namespace: &str, run: &str, number: u32) -> Result<Outcome, Error> {
        let jobs = self.seen.jobs.of_run(namespace, run);
        let Some((name, job)) = jobs.iter().find(|(_, job)| job.number == number) else {
            return Ok(Outcome::DoneBefore);
        };
        if job.deleting {
            return Ok(Outcome::DoneBefore);
        }
        self.remove_job(Object { namespace, name, uid: &job.uid }).await
    }

    async fn remove_job(&self, job: Object<'_>) -> Result<Outcome, Error> {
        let thing = (JOBS, job.namespace, job.name);
        if self.unseen.awaits(thing, Some(Known { uid: job.uid, version: None })) {
            return Ok(Outcome::DoneBefore);
        }
        let removed = self.server.delete_job(job).await.map(|()| self.unseen.removed(thing, job.uid));
        expect(removed, &[404, 409], Outcome::DoneBefore)
    }

    async fn remove_experiment(&self, experiment: &Subject) -> Result<Outcome, Error> {
        // The version that was looked at: if somebody has just asked for more of it, it stays.
        let Some(look) = self.looks().get(experiment).cloned() else { return Ok(Outcome::NotNow) };
        let deleted = self.server.delete_experiment(object(experiment, &look.uid), &look.version).await;
        let deleted = deleted.map(|()| self.unseen.removed(thing(experiment), &look.uid));
        expect(deleted, &[404, 409], Outcome::DoneBefore)
    }

    /// Since when a run could have been begun, as far as is known: its teachers were done, and its experiment made.
    fn ready_since(&self, namespace: &str, run: &RunFacts) -> Option<Timestamp> {
        let done = |run: &str| {
            let facts = self.seen.runs.get(namespace, run)?;
            let (_, status) = facts.living()?;
            condition(&status.conditions, "Complete").map(|complete| complete.last_transition_time.0)
        };
        let (spec, _) = run.living()?;
        let taught = teachers::of(&spec).into_iter().map(|(_, run)| done(&run)).collect::<Option<Vec<_>>>()?;
        let maker = self.seen.experiments.get(namespace, &run.made_by)?;
        let made = maker.living()?.metadata.creation_timestamp.as_ref()?.0;
        taught.into_iter().max().map(|taught| taught.max(made))
    }
}

/// What is told by these HTTP statuses is no error.
pub(super) fn expect(result: Result<(), Error>, codes: &[u16], outcome: Outcome) -> Result<Outcome, Error> {
    match result {
        Ok(()) => Ok(Outcome::Done),
        Err(error) if error.code().is_some_and(|code| codes.contains(&code)) => Ok(outcome),
        Err(error) => Err(error),
    }
}
