//! Events: what happened, told from two statuses. Pure.

use bam_crds::experiment::{ExperimentPhase, RunSummary};
use bam_crds::run::{AttemptRecord, Role, RunPhase};
use bam_crds::{BamExperimentStatus, BamRunStatus, ExitReason};

use crate::plan::retry::describe;
use crate::plan::status::title;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chapter {
    /// Does it need somebody's attention?
    pub warning: bool,
    /// The stable word.
    pub reason: String,
    /// What was being done, and to what: two events that differ only in their note are one to Kubernetes.
    pub action: String,
    /// The sentence.
    pub note: String,
    /// The run that an experiment's event is about.
    pub run: Option<String>,
}

/// A run is under way.
const STARTED: &str = "RunStarted";
/// An event takes no longer note.
const LONGEST_NOTE: usize = 1000;

impl Chapter {
    /// One that is about nothing but its object; its note is cut to what an event takes.
    pub fn new(warning: bool, reason: &str, action: impl Into<String>, note: impl Into<String>) -> Self {
        let mut note = note.into();
        if note.len() > LONGEST_NOTE {
            let end = (0..=LONGEST_NOTE).rev().find(|at| note.is_char_boundary(*at)).unwrap_or_default();
            note.truncate(end);
            note.push('…');
        }
        Self { warning, reason: reason.to_owned(), action: action.into(), note, run: None }
    }
}

/// What happened to an experiment.
pub fn of_experiment(before: &BamExperimentStatus, after: &BamExperimentStatus) -> Vec<Chapter> {
    let trials = after.runs.iter().filter(|run| run.role == Role::Student).count();
    let mut story = Vec::new();
    for run in &after.runs {
        let known = before.runs.iter().find(|known| known.name == run.name);
        let title = title(run, trials);
        let about = |chapter: Chapter| Chapter { run: Some(run.name.clone()), ..chapter };
        if !run.shared.is_empty() && known.is_none_or(|known| known.shared.is_empty()) {
            story.push(about(Chapter::new(
                false,
                "RunShared",
                format!("Share {title}"),
                format!("{title} {}", run.shared),
            )));
        }
        if known.map(|known| known.phase).unwrap_or_default() != run.phase {
            story.extend(phase(run, &title).map(about));
        }
    }
    story.sort_by_key(|chapter| chapter.reason == STARTED);
    if before.phase != after.phase {
        let reason = format!("{:?}", after.phase);
        let failed = after.phase == ExperimentPhase::Failed;
        let chapter = Chapter::new(failed, &reason, reason.clone(), phase_note(after));
        // What ended opens a phase, and what starts belongs to it; the end of all comes last.
        let over = after.phase.is_final();
        let starts = story.iter().position(|chapter| chapter.reason == STARTED).filter(|_| !over);
        story.insert(starts.unwrap_or(story.len()), chapter);
    }
    story.extend(needs_somebody(after).filter(|waits| needs_somebody(before).as_ref() != Some(waits)));
    story
}

fn phase(run: &RunSummary, title: &str) -> Option<Chapter> {
    match run.phase {
        RunPhase::Pending => None,
        RunPhase::Running => {
            Some(Chapter::new(false, STARTED, format!("Start {title}"), format!("{title} is under way")))
        }
        RunPhase::Succeeded => {
            let scores = run.results.iter().filter_map(|result| {
                let score = result.metrics.get(&result.main_metric)?;
                Some(format!("{} {} {score:.1}", result.task, result.main_metric))
            });
            let scores: Vec<_> = scores.collect();
            let scores = if scores.is_empty() { String::new() } else { format!(": {}", scores.join(", ")) };
            Some(Chapter::new(false, "RunSucceeded", format!("Finish {title}"), format!("{title} is done{scores}")))
        }
        RunPhase::Failed => {
            Some(Chapter::new(true, "RunFailed", format!("Finish {title}"), format!("{title} failed: {}", run.message)))
        }
    }
}

fn phase_note(status: &BamExperimentStatus) -> String {
    let condition = |kind: &str| status.conditions.iter().find(|it| it.type_ == kind).map(|it| it.message.clone());
    match status.phase {
        ExperimentPhase::Complete => {
            let scores =
                status.scores.iter().map(|(task, score)| format!("{task} {} {:.1}", score.metric, score.median));
            format!("all runs are done: {}", scores.collect::<Vec<_>>().join(", "))
        }
        ExperimentPhase::Failed | ExperimentPhase::Cancelled => condition("Failed").unwrap_or_default(),
        ExperimentPhase::Pending | ExperimentPhase::Suspended => status.waiting_for.clone(),
        ExperimentPhase::CheckingInputs => "data and weights are checked, row by row".to_owned(),
        ExperimentPhase::TrainingTeachers => format!("{} teachers are done", status.teachers),
        ExperimentPhase::TrainingStudent => format!("{} students are done", status.students),
    }
}

/// What a person has to do something about, before the experiment can go on.
fn needs_somebody(status: &BamExperimentStatus) -> Option<Chapter> {
    let reasons = [
        "ProfileMissing",
        "ProfileUnreadable",
        "TeacherUnknown",
        "TeacherCycle",
        "ClaimMissing",
        "Refused",
        "Undecodable",
    ];
    let condition = status.conditions.iter().find(|it| reasons.contains(&it.reason.as_str()))?;
    Some(Chapter::new(true, &condition.reason, format!("Wait: {}", condition.reason), condition.message.clone()))
}

/// What happened to a run.
pub fn of_run(before: &BamRunStatus, after: &BamRunStatus) -> Vec<Chapter> {
    let mut story: Vec<_> = ended(before, after)
        .map(|record| {
            let ended_well = record.reason == Some(ExitReason::Completed);
            let free = record.reason == Some(ExitReason::Checkpointed);
            let reason = if ended_well { "AttemptSucceeded" } else { "AttemptFailed" };
            let note = match ended_well {
                true => format!("attempt {} is done", record.number),
                false => format!("attempt {} {}", record.number, describe(record)),
            };
            Chapter::new(!ended_well && !free, reason, format!("Finish attempt {}", record.number), note)
        })
        .collect();
    if after.attempts > before.attempts {
        let number = after.attempts;
        let note = format!("attempt {number} has begun");
        story.push(Chapter::new(false, "AttemptStarted", format!("Start attempt {number}"), note));
    }
    let reasons = ["ClaimMissing", "Refused", "TeacherGone"];
    let waits = |status: &BamRunStatus| {
        let reason = status.conditions.first().map(|it| it.reason.clone());
        reason.filter(|reason| reasons.contains(&reason.as_str()))
    };
    if let Some(reason) = waits(after).filter(|reason| waits(before).as_ref() != Some(reason)) {
        story.push(Chapter::new(true, &reason, format!("Wait: {reason}"), after.waiting_for.clone()));
    }
    story
}

/// The attempts that ended since.
pub fn ended<'a>(before: &BamRunStatus, after: &'a BamRunStatus) -> impl Iterator<Item = &'a AttemptRecord> {
    let known = before.settled();
    after.history.iter().filter(move |record| record.number > known)
}
