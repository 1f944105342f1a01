//! How the process ends, whoever ends it: the work, a panic, a signal. One report, and an exit code that says the same.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bam_crds::{ExitReason, RunReport};

use crate::durable::WriteError;
use crate::failure::Failure;
use crate::report::Board;
use crate::{log, store, termination};

/// What panics of libtorch say when memory ran out.
const OUT_OF_MEMORY: [&str; 5] =
    ["not enough memory", "out of memory", "can't allocate memory", "ALLOC_FAILED", "std::bad_alloc"];

/// Where the last word goes.
#[derive(Clone, Debug)]
pub struct Ending {
    /// The file for the report, if one is wanted.
    pub report: Option<PathBuf>,
    /// What is known besides the ending.
    pub board: Board,
}

impl Ending {
    /// Says how it went, and returns the exit code.
    ///
    /// It is that of the work also if nobody can be told: a run is what the store says, and a failure stays what it is.
    /// But a check of the inputs has its report to show and nothing else.
    pub fn say(&self, result: Result<RunReport, Failure>) -> u8 {
        let report = result.unwrap_or_else(|failure| {
            let report = RunReport { log: log::tail(), ..self.board.read().report(&failure) };
            log::line(&failure.message);
            report
        });
        let written = self.report.as_ref().map_or(Ok(()), |path| write(path, &report));
        let reason = match written {
            Err(failure) => {
                log::line(&format!("warning: no report: {failure}"));
                if report.inputs.is_some() { failure.reason } else { report.reason }
            }
            Ok(()) => report.reason,
        };
        exit_code(reason)
    }
}

/// The process's exit code.
pub fn exit_code(reason: ExitReason) -> u8 {
    u8::try_from(reason.code()).unwrap_or(70)
}

/// Writes a report: whole or not at all. Where that cannot be (a pod's termination message is a file that is mounted by
/// itself, in a folder of other people), what is there is overwritten, with as much as such a message can hold.
///
/// # Errors
/// If neither can be done.
pub fn write(path: &Path, report: &RunReport) -> Result<(), Failure> {
    let found = fs::metadata(path).ok();
    // A terminal or a pipe must not be replaced by a file.
    if found.as_ref().is_none_or(fs::Metadata::is_file) {
        let replaced = store::write_json(path, report);
        if replaced.is_ok() || found.is_none() {
            return replaced;
        }
    }
    let file = OpenOptions::new().write(true).truncate(true).open(path);
    file.and_then(|mut file| file.write_all(&termination::message(report)))
        .map_err(|source| WriteError::new(path, source).into())
}

/// Runs `work`; a panic becomes a failure. libtorch tells of a lack of memory by one.
///
/// # Errors
/// Those of `work`, and its panics.
pub fn guarded(work: impl FnOnce() -> Result<RunReport, Failure>) -> Result<RunReport, Failure> {
    // The first one: what follows a thread's panic says only that there was one.
    let first = Arc::new(OnceLock::new());
    let heard = first.clone();
    panic::set_hook(Box::new(move |panic| drop(heard.set(panic.to_string()))));
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    drop(panic::take_hook());
    result.unwrap_or_else(|_| {
        let message = first.get().cloned().unwrap_or_default();
        let reason = match OUT_OF_MEMORY.iter().any(|words| message.contains(words)) {
            true => ExitReason::OutOfMemory,
            false => ExitReason::Internal,
        };
        Err(Failure::new(reason, message))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::failure::Steps;
    use crate::report::Reporter;
    use bam_crds::Digest;
    use bam_crds::config::{InputsReport, ModelIdentity};

    fn read(path: &Path) -> RunReport {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    /// A file that cannot be replaced, whoever tries: no name beside it can be longer.
    fn stuck(folder: &Path) -> PathBuf {
        let path = folder.join("x".repeat(250));
        fs::write(&path, "what was there is longer than what comes".repeat(1000)).unwrap();
        path
    }

    #[test]
    fn a_report_replaces_what_is_there_and_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        let report = RunReport::new(ExitReason::BadData, "a line\n".repeat(2000));
        for _ in 0..2 {
            let before = fs::metadata(&path).map(|found| found.ino()).ok();
            write(&path, &report).unwrap();
            assert_eq!(read(&path), report);
            assert_ne!(fs::metadata(&path).map(|found| found.ino()).ok(), before);
        }
    }

    #[test]
    fn a_file_that_cannot_be_replaced_is_overwritten_with_what_fits_a_termination_message() {
        let folder = tempfile::tempdir().unwrap();
        let path = stuck(folder.path());
        let report = RunReport::new(ExitReason::BadData, "a line\n".repeat(2000));
        write(&path, &report).unwrap();
        assert!(fs::metadata(&path).unwrap().len() <= 4096);
        assert_eq!(read(&path).reason, ExitReason::BadData);
        assert!(read(&path).message.ends_with('…'));
    }

    #[test]
    fn a_device_stays_a_device() {
        write(Path::new("/dev/null"), &RunReport::new(ExitReason::Completed, "")).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn what_was_saved_is_reported_also_after_a_panic() {
        let folder = tempfile::tempdir().unwrap();
        for (message, code) in [("index out of bounds", 70), ("DefaultCPUAllocator: can't allocate memory: …", 80)] {
            let reporter = Reporter::for_a_person();
            let ending = Ending { report: Some(folder.path().join("report.json")), board: reporter.board().clone() };
            let hash = Digest::of_bytes(b"science");
            let result = guarded(|| {
                reporter.run(&hash, 0);
                reporter.steps(Steps { total: 10, saved: 7, resumed_from: 3, skipped: 2 });
                panic!("{message}")
            });
            assert_eq!(ending.say(result), code, "{message}");
            let report = read(ending.report.as_ref().unwrap());
            assert_eq!((report.total_steps, report.saved_steps, report.resumed_from), (10, 7, 3));
            assert_eq!(report.skipped_steps, 2);
            assert_eq!((report.reason.code(), report.science_hash), (code.into(), Some(hash)));
            assert!(report.message.contains(message), "{}", report.message);
        }
    }

    #[test]
    fn a_failure_tells_what_was_said_before_it_and_does_not_say_itself_twice() {
        let folder = tempfile::tempdir().unwrap();
        let report = folder.path().join("report.json");
        let ending = Ending { report: Some(report.clone()), board: Reporter::for_a_person().board().clone() };
        log::line("warning: the disk of this test is slow");
        assert_eq!(ending.say(Err(Failure::new(ExitReason::BadData, "row 7 of this test has no label"))), 65);
        let said = read(&report);
        assert!(said.log.iter().any(|line| line == "warning: the disk of this test is slow"), "{:?}", said.log);
        assert!(!said.log.iter().any(|line| line.contains("row 7 of this test")), "{:?}", said.log);
        assert_eq!(ending.say(Ok(RunReport::new(ExitReason::Completed, ""))), 0);
        assert_eq!(read(&report).log, Vec::<String>::new());
    }

    #[test]
    fn without_a_report_the_exit_code_says_the_same_unless_the_report_was_all_there_is() {
        let nowhere = Some(PathBuf::from("/dev/null/report.json"));
        let ending = Ending { report: nowhere, board: Reporter::for_a_person().board().clone() };
        assert_eq!(ending.say(Ok(RunReport::new(ExitReason::Completed, ""))), 0);
        assert_eq!(ending.say(Err(Failure::new(ExitReason::BadData, "bad"))), 65);
        let digest = Digest::of_bytes(b"");
        let model = ModelIdentity { config: digest.clone(), vocabulary: digest, weights: None };
        let inputs = Some(InputsReport { model, tasks: Default::default() });
        assert_eq!(ending.say(Ok(RunReport { inputs, ..RunReport::new(ExitReason::Completed, "") })), 75);
    }
}
