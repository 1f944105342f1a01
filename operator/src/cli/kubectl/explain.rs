//! `kubectl bam explain`: where an experiment stands, run by run, and what it waits for.

use bam_crds::BamExperimentStatus;
use bam_crds::run::{RunPhase, RunProgress};
use serde_json::{Value, json};

use super::super::describe::{self, Logs};
use crate::plan::status::{condition, title};
use crate::plan::why::duration;

/// For a person.
pub fn text(name: &str, status: &BamExperimentStatus, logs: &Logs) -> String {
    let done = if status.progress.is_empty() { String::new() } else { format!(", {} done", status.progress) };
    let mut text = format!("{name}: {:?}{done}\n", status.phase);
    let trials = describe::trials(status);
    let titles: Vec<_> = status.runs.iter().map(|run| title(run, trials)).collect();
    let width = titles.iter().map(|title| title.chars().count()).max().unwrap_or_default();
    for (run, title) in status.runs.iter().zip(titles) {
        let progress = run.progress.as_ref().filter(|_| run.phase == RunPhase::Running);
        let progress = progress.map(|RunProgress { stage, done, total, resumed_from, seconds_left }| {
            let left = seconds_left.map(|seconds| format!(", {} left", duration(seconds))).unwrap_or_default();
            let from = if *resumed_from > 0 { format!(", resumed from step {resumed_from}") } else { String::new() };
            match total {
                0 => stage.words().to_owned() + &from + &left,
                total => format!("{} {done} of {total}{from}{left}", stage.words()),
            }
        });
        let says = [progress.unwrap_or_default(), run.message.clone(), run.shared.clone()];
        let says = says.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ");
        text += format!("  {title:<width$}  {}  {:<9}  {says}", run.name, format!("{:?}", run.phase)).trim_end();
        text.push('\n');
        text += &describe::indented(logs.get(&run.name).map_or(&[], Vec::as_slice), width + 4);
    }
    if status.observed_generation.is_none() {
        text += "no operator has looked at it yet: is one running? (`kubectl get deployments --all-namespaces -l \
                 app.kubernetes.io/name=bam-operator`)\n";
    }
    if !status.waiting_for.is_empty() {
        text += &format!("it waits: {}\n", status.waiting_for);
    }
    if let Some(failed) = condition(&status.conditions, "Failed") {
        // What a run's line says already is not said again.
        let told = status.runs.iter().map(|run| format!(": {}", run.message)).filter(|message| message.len() > 2);
        let message = told.fold(failed.message.clone(), |message, told| message.replace(&told, ""));
        text += &format!("it failed: {message}\n");
    }
    text
}

/// For a program.
pub fn json(name: &str, status: &BamExperimentStatus, logs: &Logs) -> Value {
    let trials = describe::trials(status);
    let runs = status.runs.iter().map(|run| {
        json!({
            "name": run.name, "title": title(run, trials), "role": run.role, "tasks": run.tasks, "trial": run.trial,
            "phase": run.phase, "message": run.message, "shared": run.shared, "progress": run.progress,
            "log": logs.get(&run.name),
        })
    });
    json!({
        "experiment": name,
        "phase": status.phase,
        "progress": status.progress,
        "waitingFor": status.waiting_for,
        "failed": condition(&status.conditions, "Failed").map(|failed| &failed.message),
        "runs": runs.collect::<Vec<_>>(),
    })
}
