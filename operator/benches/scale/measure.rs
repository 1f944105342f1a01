//! What is measured: times, memory of a process, an operator's own metrics.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// The value below which this share of all lies (nearest rank); nothing of nothing.
pub fn percentile(values: &mut [Duration], share: f64) -> Option<Duration> {
    values.sort();
    let rank = (share * values.len() as f64).ceil() as usize;
    values.get(rank.max(1) - 1).copied()
}

/// Resident memory of a process and its peak, in MiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Now.
    pub now: f64,
    /// At most, since its start or since it was last forgotten.
    pub peak: f64,
}

/// Memory of a process, as `/proc/PID/status` has it.
pub fn memory(pid: u32) -> Memory {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() / 1024.0
    };
    Memory { now: field("VmRSS:"), peak: field("VmHWM:") }
}

/// Seconds of processor time that a process took so far.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before the last bracket may hold anything. A tick is a hundredth of a second.
    let fields: Vec<f64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().map(|field| field.parse().unwrap_or_default()).collect())
        .unwrap_or_default();
    (fields.get(11).copied().unwrap_or_default() + fields.get(12).copied().unwrap_or_default()) / 100.0
}

/// Prometheus' text, by series.
#[derive(Clone, Debug, Default)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads it.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let series = lines.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self(series.collect())
    }

    /// How many series there are.
    pub fn series(&self) -> usize {
        self.0.len()
    }

    /// The sum of a metric's series that have all of these labels (`verb="create"`).
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let its = self.0.iter().filter(|(series, _)| series.split('{').next() == Some(name));
        its.filter(|(series, _)| labels.iter().all(|label| series.contains(label))).map(|(_, value)| value).sum()
    }
}
