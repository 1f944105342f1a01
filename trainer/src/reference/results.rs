//! `models/<model name>/results.json`: every trial, and what they say together.

use std::collections::BTreeMap;

use bam_crds::report::TaskResult;
use bam_crds::{Digest, Statistics};
use serde::Serialize;

use super::outputs::Trials;

/// The file's content.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Results<'a> {
    /// Finished trials in order.
    trials: Vec<Trial<'a>>,
    /// By task and metric; a trial in which a metric is undefined does not count for it.
    summary: BTreeMap<&'a str, BTreeMap<&'a str, Statistics>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Trial<'a> {
    seed: u32,
    /// The folder below `runs`.
    run: &'a Digest,
    results: &'a [TaskResult],
}

impl<'a> Results<'a> {
    pub(super) fn of(trials: &'a Trials) -> Self {
        let mut scores: BTreeMap<_, BTreeMap<_, Vec<f64>>> = BTreeMap::new();
        for result in trials.iter().flat_map(|(_, report)| &report.results) {
            let of_task = scores.entry(result.task.as_str()).or_default();
            for (metric, value) in &result.metrics {
                of_task.entry(metric.as_str()).or_default().push(*value);
            }
        }
        let summary = |metrics: BTreeMap<&'a str, Vec<f64>>| {
            metrics.into_iter().filter_map(|(metric, scores)| Some((metric, Statistics::of(&scores)?))).collect()
        };
        Self {
            trials: trials
                .iter()
                .map(|(config, report)| Trial {
                    seed: config.science.seed,
                    run: &config.science_hash,
                    results: &report.results,
                })
                .collect(),
            summary: scores.into_iter().map(|(task, metrics)| (task, summary(metrics))).collect(),
        }
    }
}
