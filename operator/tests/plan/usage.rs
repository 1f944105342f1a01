//! What attempts cost.

use bam_crds::placement::{Accelerator, Tpu};
use bam_crds::report::Stage;
use bam_crds::run::{AttemptRecord, RunProgress, Usage};
use bam_crds::{BamRunStatus, ExitReason};
use bam_operator::plan::retry::{Ending, Held};
use bam_operator::plan::usage;
use k8s_openapi::jiff::SignedDuration;

use crate::build::{checkpointed, exit, said, start};
use crate::runs::teacher;

/// 100 seconds of work, after 7 of waiting for an image.
fn held(ending: Ending) -> Ending {
    Ending { held: Held { idle: SignedDuration::from_secs(7), ran: SignedDuration::from_secs(100) }, ..ending }
}

/// A run that had saved so many steps before, and spoke of so many last.
fn status(saved: u64, told: Option<u64>) -> BamRunStatus {
    let record = |saved| AttemptRecord { saved_steps: saved, ..checkpointed(saved).record(1, start()) };
    let progress = told.map(|done| RunProgress::new(Stage::Training, done, 1000));
    BamRunStatus { history: vec![record(saved)], progress, ..BamRunStatus::default() }
}

#[test]
fn the_time_of_an_attempt_is_shared_out_by_what_came_of_its_steps() {
    let killed = |steps| Ending { steps, ..exit(137) };
    let resumed = |from, saved| {
        let mut ending = checkpointed(saved);
        ending.report.as_mut().unwrap().resumed_from = from;
        ending
    };
    let table: [(&str, Ending, BamRunStatus, [u64; 3], u64); 8] = [
        ("it ended well", said(ExitReason::Completed, ""), status(0, Some(500)), [100, 0, 0], 0),
        ("it ended before its first step", said(ExitReason::BadData, ""), status(0, None), [0, 0, 100], 0),
        ("it saved all that it did", checkpointed(80), status(0, Some(80)), [100, 0, 0], 0),
        ("it was killed, and had saved four steps of five", killed(80), status(0, Some(100)), [80, 20, 0], 20),
        ("it was killed, and had saved nothing", killed(0), status(0, Some(100)), [0, 100, 0], 100),
        (
            "it went on from step 100, and saved half of its steps",
            resumed(100, 150),
            status(100, Some(200)),
            [50, 50, 0],
            50,
        ),
        ("it went on from an older checkpoint", resumed(50, 150), status(100, Some(150)), [100, 0, 0], 0),
        ("it spoke of fewer steps than it saved", checkpointed(90), status(0, Some(10)), [100, 0, 0], 0),
    ];
    for (what, ending, status, [productive_seconds, replayed_seconds, wasted_seconds], replayed_steps) in table {
        let expected = Usage { productive_seconds, replayed_seconds, wasted_seconds, idle_seconds: 7, replayed_steps };
        assert_eq!(usage::of(&teacher(), &status, &held(ending)), expected, "{what}");
    }
}

#[test]
fn every_accelerator_of_a_pod_counts() {
    let mut spec = teacher();
    let limits = [("cpu", "4"), ("nvidia.com/gpu", "8")];
    spec.pod.resources.limits = limits
        .into_iter()
        .map(|(name, count)| (name.to_owned(), bam_crds::quantity::Quantity(count.to_owned())))
        .collect();
    let cost = usage::of(&spec, &status(0, None), &held(said(ExitReason::Completed, "")));
    assert_eq!((cost.productive_seconds, cost.idle_seconds), (800, 56));

    let tpu = Tpu { kind: "tpu-v5-lite-podslice".to_owned(), topology: "2x4".to_owned(), chips_per_host: None };
    spec.pod.resources.limits.clear();
    spec.pod.accelerator = Some(Accelerator { tpu: Some(tpu), nvidia: None });
    let cost = usage::of(&spec, &status(0, None), &held(said(ExitReason::Completed, "")));
    assert_eq!((cost.productive_seconds, cost.idle_seconds), (800, 56));

    // Four hosts with four chips each.
    let slice = Tpu { kind: "tpu-v5-lite-podslice".to_owned(), topology: "4x4".to_owned(), chips_per_host: None };
    spec.pod.accelerator = Some(Accelerator { tpu: Some(slice), nvidia: None });
    let cost = usage::of(&spec, &status(0, None), &held(said(ExitReason::Completed, "")));
    assert_eq!((cost.productive_seconds, cost.idle_seconds), (1600, 112));
}
