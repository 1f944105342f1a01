//! A report as a pod's termination message: of that the kubelet reads 4096 bytes and no more.

use bam_crds::RunReport;

/// The longest message, in bytes.
pub const LONGEST: usize = 4096;

/// Teachers that a message names, if it cannot name all of them: they are trained again, and the next attempt names others.
const TEACHERS: usize = 20;

/// The report as JSON that is short enough. What does not fit is given up in this order: the log, the end of the sentence for a
/// person, metrics but the main ones, the scores, teachers beyond the first ones, and what a check of the inputs found
/// (half of that would be a lie).
pub fn message(report: &RunReport) -> Vec<u8> {
    let whole = json(report);
    if whole.len() <= LONGEST {
        return whole;
    }
    let sacrifices: [fn(&mut RunReport); 5] = [
        |_| {},
        keep_main_metrics,
        |report| report.results.clear(),
        name_fewer_teachers,
        |report| report.inputs = None,
    ];
    let mut rest = RunReport { message: String::new(), log: Vec::new(), ..report.clone() };
    for sacrifice in sacrifices {
        sacrifice(&mut rest);
        if json(&rest).len() <= LONGEST {
            break;
        }
    }
    with_message(rest, &report.message)
}

fn keep_main_metrics(report: &mut RunReport) {
    for result in &mut report.results {
        result.metrics.retain(|name, _| *name == result.main_metric);
    }
}

fn name_fewer_teachers(report: &mut RunReport) {
    report.missing.truncate(TEACHERS);
    report.changed.truncate(TEACHERS);
}

/// The report with the message, or with as many of its characters as there is room for.
fn with_message(mut report: RunReport, message: &str) -> Vec<u8> {
    let mut with = |message: String| {
        report.message = message;
        json(&report)
    };
    // Every character takes a byte at least: a longer message need not be looked at.
    if message.len() <= LONGEST {
        let whole = with(message.to_owned());
        if whole.len() <= LONGEST {
            return whole;
        }
    }
    let mut cut = |end: usize| with(if end == 0 { String::new() } else { format!("{}…", &message[..end]) });
    let ends: Vec<usize> = message.char_indices().map(|(at, _)| at).take(LONGEST).collect();
    let short_enough = ends.partition_point(|&end| cut(end).len() <= LONGEST);
    cut(ends[..short_enough].last().copied().unwrap_or_default())
}

fn json(report: &RunReport) -> Vec<u8> {
    serde_json::to_vec(report).expect("a report is plain data")
}

#[cfg(test)]
#[path = "termination_tests.rs"]
mod tests;
