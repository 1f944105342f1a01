//! Who has to look when something has changed. Pure.

use std::sync::Arc;

use bam_crds::profile::{ProfileKind, ProfileRef};

use super::cache::Changed;
use super::facts::{ClaimFacts, ExperimentFacts, Facts, RunFacts};
use super::job;
use super::observe::Seen;
use crate::platform::Subject;

/// An experiment changed: it, and those that name it as a teacher.
pub fn by_experiment(seen: &Seen, changed: &Changed<ExperimentFacts>) -> Vec<Subject> {
    let (namespace, name) = &changed.key;
    let names_it = |experiment: &ExperimentFacts| experiment.teachers.contains(name);
    let pupils = experiments(seen, namespace, names_it);
    pupils.into_iter().chain([Subject::experiment(namespace, name)]).chain(its_runs(seen, changed)).collect()
}

/// The runs of an experiment that was suspended or ran out of time, or goes on.
fn its_runs(seen: &Seen, changed: &Changed<ExperimentFacts>) -> Vec<Subject> {
    let halted = |facts: &Option<Arc<ExperimentFacts>>| facts.as_ref().is_some_and(|facts| facts.is_halted());
    let Some(facts) = changed.after.as_ref().filter(|_| halted(&changed.before) != halted(&changed.after)) else {
        return Vec::new();
    };
    let (namespace, _) = &changed.key;
    let runs = seen.runs.within(namespace).into_iter();
    let its = runs.filter(|(_, run)| run.owners.iter().any(|(_, uid)| *uid == facts.uid));
    its.map(|(run, _)| Subject::run(namespace, run)).collect()
}

/// A run changed: it and its owners; if it stands otherwise now, also the runs that learn from it, and the experiments
/// that may have waited for it.
pub fn by_run(seen: &Seen, changed: &Changed<RunFacts>) -> Vec<Subject> {
    let (namespace, name) = &changed.key;
    let known = [&changed.before, &changed.after].into_iter().flatten();
    let owners = known.flat_map(|facts| &facts.owners).map(|(owner, _)| Subject::experiment(namespace, owner));
    let mut subjects: Vec<_> = owners.chain([Subject::run(namespace, name)]).collect();
    // Its name may be free now, or it can be read: whoever waits for that is not known to it. It is rare.
    if changed.before.as_ref().is_some_and(|facts| !facts.is_living()) {
        subjects.extend(experiments(seen, namespace, |_| true));
    }
    let standing = |facts: &RunFacts| facts.is_living().then(|| (facts.phase, facts.attempts, facts.reopened.clone()));
    if changed.before.as_ref().map(|facts| standing(facts)) == changed.after.as_ref().map(|facts| standing(facts)) {
        return subjects;
    }
    let science = changed.after.as_ref().or(changed.before.as_ref()).and_then(|facts| facts.science_hash.clone());
    if let Some(hash) = science {
        let learns = |run: &RunFacts| run.is_living() && run.teachers.contains(&hash);
        let pupils = seen.runs.within(namespace).into_iter().filter(|(_, run)| learns(run));
        subjects.extend(pupils.map(|(run, _)| Subject::run(namespace, run)));
    }
    // One that is halted makes no runs, and so does not come across those that others make and that it needs too.
    let may_wait = |experiment: &ExperimentFacts| experiment.is_halted() || experiment.names_teachers;
    subjects.extend(experiments(seen, namespace, may_wait));
    subjects
}

/// Something that belongs to a run changed.
pub fn by_part<F: Facts>(changed: &Changed<F>) -> Vec<Subject> {
    let facts = changed.after.as_ref().or(changed.before.as_ref());
    let run = facts.and_then(|facts| facts.run()).filter(|run| !run.is_empty());
    run.map(|run| Subject::run(&changed.key.0, run)).into_iter().collect()
}

/// A claim came, went, or can be used in other ways: the runs whose store it is.
pub fn by_claim(seen: &Seen, changed: &Changed<ClaimFacts>) -> Vec<Subject> {
    let (namespace, claim) = &changed.key;
    let runs = seen.runs.within(namespace).into_iter().filter(|(_, run)| {
        !run.phase.is_final() && run.living().is_some_and(|(spec, _)| job::claim(&spec).as_ref() == Some(claim))
    });
    runs.map(|(run, _)| Subject::run(namespace, run)).collect()
}

/// A profile came, went, or says something else: the experiments that name it.
pub fn by_profile<F>(seen: &Seen, kind: ProfileKind, changed: &Changed<F>) -> Vec<Subject> {
    let (namespace, name) = &changed.key;
    let names_it = |profile: &ProfileRef| profile.name == *name;
    match kind {
        ProfileKind::BamProfile => experiments(seen, namespace, |experiment| {
            experiment.profile.as_ref().is_some_and(|it| it.kind == kind && names_it(it))
        }),
        ProfileKind::ClusterBamProfile => by_profiles(seen, kind, names_it),
    }
}

/// Profiles of a kind can be read, or no longer: the experiments that name one, of those that `names_it` takes.
pub fn by_profiles(seen: &Seen, kind: ProfileKind, names_it: impl Fn(&ProfileRef) -> bool) -> Vec<Subject> {
    let all = seen.experiments.all().into_iter().filter(|(_, facts)| {
        let profile = facts.profile.as_ref().filter(|_| facts.is_living());
        profile.is_some_and(|profile| profile.kind == kind && names_it(profile))
    });
    all.map(|((namespace, name), _)| Subject::experiment(namespace, name)).collect()
}

fn experiments(seen: &Seen, namespace: &str, is_it: impl Fn(&ExperimentFacts) -> bool) -> Vec<Subject> {
    let here = seen.experiments.within(namespace).into_iter();
    let those = here.filter(|(_, facts)| facts.is_living() && is_it(facts));
    those.map(|(name, _)| Subject::experiment(namespace, name)).collect()
}
