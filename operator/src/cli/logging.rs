//! Log lines on standard error.

use std::io::{self, Write};

use indicatif::MultiProgress;
use tracing_subscriber::EnvFilter;

/// Logs `level` and above, unless `BAM_LOG` says otherwise (whoever makes a request tells of its failure); above the progress bars, where there are some.
pub fn start(level: &str, bars: Option<&MultiProgress>) {
    let filter = EnvFilter::try_from_env("BAM_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("{level},kube_client=off,kube_runtime=off")));
    let bars = bars.cloned();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(false)
        .with_timer(Clock)
        .with_writer(move || AboveBars(bars.clone()));
    // A second call keeps the first log: tests may run several commands.
    let _ = log.try_init();
}

/// Local time, to the second: for a person who watches.
struct Clock;

impl tracing_subscriber::fmt::time::FormatTime for Clock {
    fn format_time(&self, writer: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(writer, "{}", k8s_openapi::jiff::Zoned::now().strftime("%H:%M:%S"))
    }
}

struct AboveBars(Option<MultiProgress>);

impl Write for AboveBars {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let write = || io::stderr().write(text);
        self.0.as_ref().map_or_else(write, |bars| bars.suspend(write))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
