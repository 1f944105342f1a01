//! The bar that a teacher clears before a student learns from it, and the choice among several that differ in their seed.

use std::collections::BTreeMap;
use std::fmt;

use bam_crds::experiment::{GateFailure, QualityGate};
use bam_crds::hyperparameters::Decimal;
use bam_crds::report::TaskResult;

use super::Why;
use super::graph::Node;

/// By task whose teachers must reach something: those that do, by the names of their runs; or why none does (yet).
pub type Gates = BTreeMap<String, Result<Vec<String>, Why>>;

/// How a run that may teach stands, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Stand {
    /// It may still come to something.
    #[default]
    Open,
    /// It will not be tried again.
    Failed,
    /// It is done, with these dev scores.
    Done(Vec<TaskResult>),
}

/// All of these, if each of them is good enough.
///
/// # Errors
/// Why none of them teaches (yet).
pub fn all(
    gate: &QualityGate,
    task: &str,
    candidates: &[Node],
    stand: &impl Fn(&str) -> Stand,
) -> Result<Vec<String>, Why> {
    wait_for_all(candidates, stand)?;
    let each = candidates.iter().map(|node| best(gate, task, std::slice::from_ref(node), stand));
    each.collect::<Result<Vec<_>, _>>().map(|names| names.concat())
}

/// The best of these, if it is good enough.
///
/// # Errors
/// Why none of them teaches (yet).
pub fn best(
    gate: &QualityGate,
    task: &str,
    candidates: &[Node],
    stand: &impl Fn(&str) -> Stand,
) -> Result<Vec<String>, Why> {
    wait_for_all(candidates, stand)?;
    let mut best: Option<(Reached, &Node)> = None;
    for node in candidates {
        match stand(&node.name) {
            Stand::Open | Stand::Failed => {}
            Stand::Done(results) => {
                let reached = Reached::of(gate, task, &results);
                // The first of several that are as good: it does not depend on who was done first.
                if best.as_ref().is_none_or(|(most, _)| reached.score > most.score) {
                    best = Some((reached, node));
                }
            }
        }
    }
    // All failed: so does the student, for want of the first one.
    let Some((reached, node)) = best else {
        return Ok(candidates.iter().take(1).map(|node| node.name.clone()).collect());
    };
    match gate.min.as_ref().map(Decimal::value) {
        Some(min) if gate.on_failure == GateFailure::Fail && reached.score.is_none_or(|score| score < min) => {
            Err(Why::BelowGate { teacher: node.title.clone(), reached: reached.to_string(), min: min.to_string() })
        }
        _ => Ok(vec![node.name.clone()]),
    }
}

fn wait_for_all(candidates: &[Node], stand: &impl Fn(&str) -> Stand) -> Result<(), Why> {
    let open = candidates.iter().filter(|node| stand(&node.name) == Stand::Open);
    let teachers: Vec<_> = open.map(|node| node.title.clone()).collect();
    if teachers.is_empty() { Ok(()) } else { Err(Why::TeachersNotDone { teachers }) }
}

/// What a teacher reached. No score, because its metric is undefined or unknown, is less than any.
struct Reached {
    metric: String,
    score: Option<f64>,
}

impl Reached {
    fn of(gate: &QualityGate, task: &str, results: &[TaskResult]) -> Self {
        let result = results.iter().find(|result| result.task == task);
        let main = result.map(|result| result.main_metric.as_str()).unwrap_or("score");
        let metric = gate.metric.as_deref().unwrap_or(main).to_owned();
        let score = result.and_then(|result| result.metrics.get(&metric)).copied().filter(|score| score.is_finite());
        Self { metric, score }
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.score {
            Some(score) => write!(f, "{} {score:.1}", self.metric),
            None => write!(f, "no {}", self.metric),
        }
    }
}
