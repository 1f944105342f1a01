//! What attempts cost, by what came of them.

use bam_crds::placement::Accelerator;
use bam_crds::report::Stage;
use bam_crds::run::{Role, Usage};
use bam_crds::{BamRunSpec, BamRunStatus, ExitReason};
use k8s_openapi::jiff::SignedDuration;

use super::retry::Ending;

/// What an attempt of a run cost that has just ended, and that `status` does not tell of yet.
///
/// Steps are taken to be equally long, and what an attempt does beside them to belong to them.
pub fn of(spec: &BamRunSpec, status: &BamRunStatus, ending: &Ending) -> Usage {
    let machine = |held: SignedDuration| u64::try_from(held.as_secs()).unwrap_or(0).saturating_mul(accelerators(spec));
    let (ran, idle_seconds) = (machine(ending.held.ran), machine(ending.held.idle));
    let idle = Usage { idle_seconds, ..Usage::default() };
    if ending.reason() == Some(ExitReason::Completed) {
        return Usage { productive_seconds: ran, ..idle };
    }
    let safe_before = status.history.iter().map(|record| record.saved_steps).max().unwrap_or_default();
    let from = ending.report.as_ref().map_or(safe_before, |report| report.resumed_from);
    let told = status.progress.as_ref().filter(|progress| progress.stage == Stage::Training);
    let reached = ending.steps.max(told.map_or(0, |progress| progress.done)).saturating_sub(from);
    if reached == 0 {
        return Usage { wasted_seconds: ran, ..idle };
    }
    let kept = ending.steps.saturating_sub(from).min(reached);
    let productive_seconds = (ran as f64 * (kept as f64 / reached as f64)).round() as u64;
    Usage {
        productive_seconds,
        replayed_seconds: ran.saturating_sub(productive_seconds),
        replayed_steps: reached - kept,
        ..idle
    }
}

/// How many accelerators an attempt of the run has, on all its hosts: also what else its pods ask for that has a domain before
/// it. At least one: a pod without any is paid for as well.
fn accelerators(spec: &BamRunSpec) -> u64 {
    if spec.role == Role::Inputs {
        return 1;
    }
    let limits = spec.pod.resources.limits.iter();
    let counts = limits.filter(|(name, _)| name.contains('/')).filter_map(|(_, count)| count.0.parse::<u64>().ok());
    let accelerators = spec.pod.accelerator.as_ref().map_or(0, Accelerator::count);
    (counts.sum::<u64>() + u64::from(accelerators)).max(1) * u64::from(spec.hosts())
}
