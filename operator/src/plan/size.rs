//! A status that stays short: the API server stores all of it at every change, and sends it to everybody who watches.

use bam_crds::BamExperimentStatus;
use bam_crds::experiment::RunSummary;
use bam_crds::run::Role;

/// Letters of a sentence, where there is no room for all of it.
const SHORT: usize = 160;

type Step = fn(&mut BamExperimentStatus);

/// What is left out, the first one first. All of it stands in the status of the run that it is about.
const STEPS: [Step; 4] = [main_metrics_alone, scores_of_the_first_trial_alone, short_sentences, no_scores_of_runs];

/// Leaves out what stands elsewhere too, until `status` has at most `limit` bytes as JSON, or nothing is left of that.
pub(super) fn fit(status: &mut BamExperimentStatus, limit: usize) {
    for step in STEPS {
        if bytes(status) <= limit {
            return;
        }
        step(status);
    }
}

fn bytes(status: &BamExperimentStatus) -> usize {
    serde_json::to_vec(status).map_or(0, |json| json.len())
}

fn main_metrics_alone(status: &mut BamExperimentStatus) {
    for result in status.runs.iter_mut().flat_map(|run| &mut run.results) {
        let main = result.main_metric.clone();
        result.metrics.retain(|metric, _| *metric == main);
        result.majority = None;
    }
}

/// Of all trials the summary tells.
fn scores_of_the_first_trial_alone(status: &mut BamExperimentStatus) {
    let is_later = |run: &&mut RunSummary| run.role == Role::Student && run.trial != Some(1);
    status.runs.iter_mut().filter(is_later).for_each(|run| run.results.clear());
}

fn no_scores_of_runs(status: &mut BamExperimentStatus) {
    status.runs.iter_mut().for_each(|run| run.results.clear());
}

fn short_sentences(status: &mut BamExperimentStatus) {
    let of_runs = status.runs.iter_mut().flat_map(|run| [&mut run.message, &mut run.shared]);
    let of_conditions = status.conditions.iter_mut().map(|condition| &mut condition.message);
    of_runs.chain(of_conditions).for_each(|sentence| shorten(sentence, SHORT));
}

/// Cuts a sentence to so many letters.
pub(super) fn shorten(sentence: &mut String, letters: usize) {
    if let Some((end, _)) = sentence.char_indices().nth(letters) {
        sentence.truncate(end);
        sentence.push('…');
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Five runs that failed, with sentences of so many letters.
    fn failed(letters: usize) -> BamExperimentStatus {
        let sentence = "é".repeat(letters);
        let run = |number: u32| {
            let result = json!({
                "task": "rte", "mainMetric": "accuracy", "metrics": { "accuracy": 66.5, "loss": 0.5 }, "rows": 277,
            });
            json!({
                "name": format!("run-{number}"), "role": "Student", "tasks": ["rte"], "trial": number,
                "phase": "Failed", "message": sentence, "results": [result],
            })
        };
        let runs: Vec<_> = (1..=5).map(run).collect();
        serde_json::from_value(json!({ "phase": "Failed", "runs": runs })).unwrap()
    }

    #[test]
    fn what_fits_stays_as_it_is() {
        let mut status = failed(10);
        fit(&mut status, bytes(&failed(10)));
        assert_eq!(status, failed(10));
    }

    #[test]
    fn the_least_is_left_out_that_will_do() {
        let whole = failed(1000);
        let mut seen = Vec::new();
        for limit in [bytes(&whole) - 1, bytes(&whole) - 150, 3000, 1] {
            let mut status = whole.clone();
            fit(&mut status, limit);
            let results = |status: &BamExperimentStatus| status.runs.iter().flat_map(|run| &run.results).count();
            let metrics = status.runs.iter().flat_map(|run| &run.results).map(|result| result.metrics.len()).max();
            seen.push((results(&status), metrics.unwrap_or(0), status.runs[0].message.chars().count()));
        }
        assert_eq!(seen, [(5, 1, 1000), (1, 1, 1000), (1, 1, SHORT + 1), (0, 0, SHORT + 1)]);
    }
}
