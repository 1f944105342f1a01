//! What trainers say at their end, as the simulation's do: every training ends well.

use bam_crds::report::TaskResult;
use bam_crds::{ExitReason, InputsConfig, RunConfig, RunReport};

use crate::findings::findings;

/// Optimizer steps of every training.
const STEPS: u64 = 100;

/// The termination message of a trainer that was told this.
pub fn last_word(config: &str) -> String {
    let mut report = RunReport::new(ExitReason::Completed, "");
    report.seconds = 12.5;
    if let Ok(config) = serde_json::from_str::<RunConfig>(config) {
        report.science_hash = Some(config.science_hash.clone());
        (report.total_steps, report.saved_steps) = (STEPS, STEPS);
        report.results = config.science.tasks.iter().map(|task| result(&task.name)).collect();
    } else if let Ok(config) = serde_json::from_str::<InputsConfig>(config) {
        report.inputs = Some(findings(&config.tasks));
    }
    serde_json::to_string(&report).expect("a report is plain data")
}

/// What a training is known by.
pub fn science_hash(config: &str) -> Option<String> {
    serde_json::from_str::<RunConfig>(config).ok().map(|config| config.science_hash.to_string())
}

/// The trainings that a student learns from.
pub fn teachers(config: &str) -> Vec<String> {
    let config = serde_json::from_str::<RunConfig>(config);
    config.map(|it| it.science.teachers().into_iter().map(ToString::to_string).collect()).unwrap_or_default()
}

fn result(task: &str) -> TaskResult {
    let metrics = [("accuracy", 71.480_144_404_332_13), ("loss", 0.563_912)];
    TaskResult {
        task: task.to_owned(),
        main_metric: "accuracy".to_owned(),
        metrics: metrics.map(|(name, value)| (name.to_owned(), value)).into(),
        majority: Some(52.7),
        rows: 277,
    }
}
