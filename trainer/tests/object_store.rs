//! Runs whose artifact store is an object store: a real S3 server, and a working copy that is empty each time.

mod common;
#[path = "common/s3.rs"]
mod s3;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use bam_crds::{Digest, ExitReason, InputsConfig, Manifest, RunConfig, RunReport};
use common::Fixture;
use s3::{BUCKET, GUEST, OWNER, S3};

const SHORT: &str = r#"{"maxSeqLength": 32, "trainBatchSize": 8, "numTrainEpochs": "2", "learningRate": "1e-3"}"#;
/// More steps than anybody waits for.
const LONG: &str = r#"{"maxSeqLength": 32, "trainBatchSize": 8, "numTrainEpochs": "2000", "learningRate": "1e-3"}"#;

/// A store in a bucket, and the folder that it was filled from, which stays as it is.
struct Place {
    fixture: Fixture,
    server: S3,
    copies: tempfile::TempDir,
}

/// A trainer that was started.
struct Attempt {
    child: Child,
    report: PathBuf,
}

impl Place {
    fn new(test: &str) -> Option<Self> {
        let (server, fixture) = (S3::start(test)?, Fixture::new());
        for folder in ["glue_data", "pretrained_models"] {
            server.put_folder(&fixture.path(folder), &format!("bam/{folder}"));
        }
        Some(Self { fixture, server, copies: tempfile::tempdir().unwrap() })
    }

    /// The name of an object of a run.
    fn name(&self, config: &RunConfig, relative: &str) -> String {
        format!("bam/runs/{}/{relative}", config.science_hash)
    }

    /// A command of a trainer of `config`, whose working copy is called `copy`.
    fn command(&self, config: &RunConfig, copy: &str, attempt: &str) -> (Command, PathBuf) {
        let mut config = config.clone();
        config.execution.store = self.copies.path().join(copy).display().to_string();
        config.execution.object_store = Some(format!("s3://{BUCKET}/bam"));
        let (mut command, report) = self.fixture.train_command(&config, attempt);
        command.envs(self.server.environment(OWNER)).env("BAM_STORE_RETRY_SECONDS", "1");
        (command, report)
    }

    fn start(&self, config: &RunConfig, copy: &str, attempt: &str) -> Attempt {
        let (mut command, report) = self.command(config, copy, attempt);
        Attempt { child: command.stdout(Stdio::null()).spawn().unwrap(), report }
    }

    /// Trains in an empty working copy of the attempt's own.
    fn train(&self, config: &RunConfig, attempt: &str) -> RunReport {
        self.start(config, attempt, attempt).end()
    }

    fn manifest(&self, config: &RunConfig) -> Manifest {
        serde_json::from_slice(&fs::read(self.server.file(&self.name(config, "manifest.json"))).unwrap()).unwrap()
    }

    /// The objects that a manifest names and their contents, without the report (it tells of time); each is what it says.
    fn artifacts(&self, config: &RunConfig) -> Vec<(String, Vec<u8>)> {
        let read = |(name, artifact): (&String, &bam_crds::store::Artifact)| {
            let bytes = fs::read(self.server.file(&self.name(config, name))).unwrap();
            assert_eq!(Digest::of_bytes(&bytes), artifact.sha256, "{name}");
            (name.clone(), bytes)
        };
        let manifest = self.manifest(config);
        manifest.files.iter().map(read).filter(|(name, _)| name != "report.json").collect()
    }

    /// The run in a folder, of which nobody knows that there are object stores.
    fn in_a_folder(&self, config: &RunConfig) -> Vec<(String, Vec<u8>)> {
        let report = self.fixture.train(config, "folder");
        assert_eq!(report.reason, ExitReason::Completed, "{}", report.message);
        self.fixture.artifacts(config)
    }

    /// Waits until an attempt has sent the checkpoint of any step from `from` on.
    fn wait_for_checkpoint(&self, config: &RunConfig, attempt: &mut Attempt, from: u64) {
        let folder = self.server.file(&self.name(config, "checkpoints"));
        let step = |path: PathBuf| -> Option<u64> {
            path.file_name()?.to_str()?.strip_prefix("step-")?.strip_suffix(".json")?.parse().ok()
        };
        let begin = Instant::now();
        loop {
            let attempts = fs::read_dir(&folder).into_iter().flatten().flatten();
            let files = attempts.flat_map(|attempt| fs::read_dir(attempt.path()).into_iter().flatten().flatten());
            if files.filter_map(|file| step(file.path())).any(|step| step >= from) {
                return;
            }
            assert!(attempt.child.try_wait().unwrap().is_none(), "it ended before it sent a checkpoint");
            assert!(begin.elapsed() < Duration::from_secs(60), "it sends no checkpoint");
            sleep(Duration::from_millis(2));
        }
    }
}

impl Attempt {
    fn end(mut self) -> RunReport {
        let status = self.child.wait().unwrap();
        let report: RunReport = serde_json::from_slice(&fs::read(&self.report).unwrap()).unwrap();
        assert_eq!(status.code(), Some(report.reason.code()), "{}", report.message);
        report
    }

    fn signal(&self, signal: i32) {
        // SAFETY: a signal to a child of ours that was not waited for, so its pid is still its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
    }
}

#[test]
fn from_an_empty_working_copy_a_run_ends_with_the_bytes_of_the_same_run_in_a_folder() {
    let Some(place) = Place::new("a whole run in S3") else { return };
    let mut config = place.fixture.config(&["rte", "mrpc"], SHORT, &[]);
    config.execution.write_test_outputs = true;
    let report = place.train(&config, "first");
    assert_eq!(report.reason, ExitReason::Completed, "{}", report.message);
    assert!(place.artifacts(&config) == place.in_a_folder(&config), "weights, targets or results differ");
    let mut expected: Vec<_> = place.manifest(&config).files.keys().map(|name| place.name(&config, name)).collect();
    expected.push(place.name(&config, "manifest.json"));
    expected.sort();
    assert_eq!(place.server.names(&place.name(&config, "")), expected, "a whole run needs no checkpoints");

    assert_eq!(place.train(&config, "second"), report, "it is not trained again");
}

#[test]
fn the_check_of_the_inputs_reads_the_store_and_names_its_objects() {
    let Some(place) = Place::new("inputs in S3") else { return };
    let config = InputsConfig {
        tasks: vec!["rte".to_owned(), "mrpc".to_owned()],
        custom: Default::default(),
        targets: Default::default(),
        max_seq_length: 32,
        debug: false,
        fetch: None,
        execution: bam_crds::Execution {
            store: place.copies.path().join("inputs").display().to_string(),
            object_store: Some(format!("s3://{BUCKET}/bam")),
            ..place.fixture.execution()
        },
    };
    let check = || {
        let (path, report) = (place.copies.path().join("inputs.json"), place.copies.path().join("report.json"));
        fs::write(&path, serde_json::to_vec(&config).unwrap()).unwrap();
        let mut command = common::trainer();
        command.arg("inputs").arg("--config").arg(&path).arg("--report").arg(&report);
        command.envs(place.server.environment(OWNER));
        Attempt { child: command.stdout(Stdio::null()).spawn().unwrap(), report }.end()
    };
    assert_eq!(check().inputs, place.fixture.inputs(&["rte", "mrpc"]).inputs);

    // Of what is unchanged, the second check fetches nothing.
    let bad = String::from_utf8(fs::read(place.fixture.path("glue_data/rte/dev.tsv")).unwrap()).unwrap();
    place.server.put("bam/glue_data/rte/dev.tsv", bad.replacen("not_entailment", "maybe", 1).into_bytes());
    fs::remove_file(place.server.file("bam/glue_data/mrpc/train.tsv")).unwrap();
    let report = check();
    assert_eq!(report.reason, ExitReason::BadData);
    assert!(report.message.contains("s3://models/bam/glue_data/mrpc/train.tsv"), "{}", report.message);
    assert!(report.message.contains("maybe"), "{}", report.message);
    assert!(!report.message.contains(&config.execution.store), "{}", report.message);
    assert_eq!(place.server.gets("bam/glue_data/rte/train.tsv"), [200, 304]);
    assert_eq!(place.server.gets("bam/glue_data/rte/dev.tsv"), [200, 200]);
    assert_eq!(place.server.gets("bam/pretrained_models/tiny/model.safetensors"), [200, 304]);
}

#[test]
fn killed_or_stopped_it_goes_on_in_a_new_empty_working_copy_and_ends_with_the_same_bytes() {
    let Some(place) = Place::new("resuming out of S3") else { return };
    let mut config = place.fixture.config(&["rte", "mrpc"], &SHORT.replace("\"2\"", "\"3\""), &[]);
    config.execution.save_checkpoints_steps = Some(1);
    let mut reached = 0;
    for (attempt, signal) in [("killed", libc::SIGKILL), ("stopped", libc::SIGTERM), ("killed-too", libc::SIGKILL)] {
        let mut running = place.start(&config, attempt, attempt);
        place.wait_for_checkpoint(&config, &mut running, reached + 3);
        running.signal(signal);
        if signal == libc::SIGTERM {
            let report = running.end();
            assert_eq!(report.reason, ExitReason::Checkpointed, "{}", report.message);
            assert!(report.resumed_from >= reached, "{report:?}");
            let seal = format!("checkpoints/{attempt}/step-{:06}.json", report.saved_steps);
            assert!(place.server.file(&place.name(&config, &seal)).exists(), "{seal} was not sent before it ended");
            reached = report.saved_steps;
        } else {
            running.child.wait().unwrap();
            reached += 3;
        }
    }
    config.execution.save_checkpoints_steps = None;
    let report = place.train(&config, "last");
    assert_eq!(report.reason, ExitReason::Completed, "{}", report.message);
    assert!(report.resumed_from >= reached && report.resumed_from < report.total_steps, "{report:?}");
    assert!(place.artifacts(&config) == place.in_a_folder(&config), "weights, targets or results differ");
}

#[test]
fn a_damaged_checkpoint_is_passed_over_for_the_one_before() {
    let Some(place) = Place::new("damaged checkpoints in S3") else { return };
    let mut config = place.fixture.config(&["rte"], LONG, &[]);
    config.execution.save_checkpoints_steps = Some(1);
    let mut running = place.start(&config, "first", "first");
    place.wait_for_checkpoint(&config, &mut running, 3);
    running.signal(libc::SIGTERM);
    let saved = running.end().saved_steps;
    let newest = place.server.file(&place.name(&config, &format!("checkpoints/first/step-{saved:06}.safetensors")));
    let mut bytes = fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&newest, bytes).unwrap();

    let mut running = place.start(&config, "second", "second");
    place.wait_for_checkpoint(&config, &mut running, saved + 1);
    running.signal(libc::SIGTERM);
    assert_eq!(running.end().resumed_from, saved - 1);
}

#[test]
fn a_student_learns_from_targets_out_of_the_store_and_what_is_damaged_there_is_trained_again() {
    let Some(place) = Place::new("teachers in S3") else { return };
    let teacher = place.fixture.config(&["rte"], SHORT, &[]);
    let student = place.fixture.config(&["rte"], SHORT, &[&teacher.science_hash]);
    let missing = place.train(&student, "too-early");
    assert_eq!((missing.reason, &missing.missing), (ExitReason::MissingInput, &vec![teacher.science_hash.clone()]));
    let manifest = format!("s3://{BUCKET}/{}", place.name(&teacher, "manifest.json"));
    let message = format!("{manifest}: the teacher of rte is not in the store; train it first");
    assert_eq!(missing.message, message);

    assert_eq!(place.train(&teacher, "teacher").reason, ExitReason::Completed);
    let targets = place.server.file(&place.name(&teacher, "targets/rte.safetensors"));
    let good = fs::read(&targets).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    fs::write(&targets, flipped).unwrap();
    let changed = place.train(&student, "student");
    assert_eq!((changed.reason, &changed.changed), (ExitReason::BadData, &vec![teacher.science_hash.clone()]));
    assert!(changed.message.ends_with("not what the teacher's manifest says; train it again"), "{}", changed.message);

    assert_eq!(place.train(&teacher, "teacher-again").reason, ExitReason::Completed);
    assert!(fs::read(&targets).unwrap() == good);
    let aside = place.server.names(&format!("bam/runs/{}.damaged-1", teacher.science_hash));
    assert!(aside.iter().any(|name| name.ends_with("/manifest.json")), "{aside:?}");
    let report = place.train(&student, "student-again");
    assert_eq!(report.reason, ExitReason::Completed, "{}", report.message);
    let used: Vec<_> = place.manifest(&student).used_targets.into_iter().collect();
    assert_eq!(used, [(format!("{}/rte", teacher.science_hash), Digest::of_bytes(&good))]);
}

#[test]
fn of_attempts_that_race_for_one_manifest_one_wins_and_all_say_what_it_says() {
    let Some(place) = Place::new("a race in S3") else { return };
    let config = place.fixture.config(&["rte"], SHORT, &[]);
    let racers = ["one", "other", "third"].map(|attempt| place.start(&config, attempt, attempt));
    let reports = racers.map(Attempt::end);
    for report in &reports {
        assert_eq!(report.reason, ExitReason::Completed, "{}", report.message);
        assert_eq!(report, &reports[0], "each tells what the winner did");
    }
    let attempt = place.manifest(&config).attempt;
    assert!(["one", "other", "third"].contains(&attempt.as_str()), "{attempt}");
    assert!(place.artifacts(&config) == place.in_a_folder(&config), "the manifest is of other bytes");
}

/// Starts a run that cannot succeed, and returns why.
fn refused(place: &Place, change: impl FnOnce(&mut RunConfig, &mut Vec<(&'static str, String)>)) -> RunReport {
    let mut config = place.fixture.config(&["rte"], SHORT, &[]);
    config.execution.store = place.copies.path().join("refused").display().to_string();
    config.execution.object_store = Some(format!("s3://{BUCKET}/bam"));
    let mut environment = place.server.environment(OWNER);
    change(&mut config, &mut environment);
    let (mut command, report) = place.fixture.train_command(&config, "refused");
    command.env("BAM_STORE_RETRY_SECONDS", "1").envs(environment);
    let output = command.output().unwrap();
    for secret in [OWNER.1, GUEST.1, "wrong-secret"] {
        assert!(!common::text(&output).contains(secret), "a secret was told: {}", common::text(&output));
    }
    let report: RunReport = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    assert_eq!(output.status.code(), Some(report.reason.code()));
    report
}

#[test]
fn whoever_is_not_let_in_hears_why_and_no_secret_is_told() {
    let Some(place) = Place::new("credentials of S3") else { return };
    let of = |(access, secret): (&str, &str)| {
        let environment = place.server.environment((access, secret));
        let report = refused(&place, |_, changed| *changed = environment);
        (report.reason, report.message)
    };
    let checkpoints = format!(
        "s3://models/bam/runs/{}/checkpoints: cannot list",
        place.fixture.config(&["rte"], SHORT, &[]).science_hash
    );
    let check = "the store does not accept the credentials: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION in \
                 the environment of the trainer";
    let unknown = "InvalidAccessKeyId: The AWS Access Key Id you provided does not exist in our records";
    assert_eq!(of(("nobody", "x")), (ExitReason::StoreUnavailable, format!("{checkpoints}: {unknown}; {check}")));
    let (reason, message) = of((OWNER.0, "wrong-secret"));
    assert_eq!(reason, ExitReason::StoreUnavailable);
    assert!(message.starts_with(&format!("{checkpoints}: SignatureDoesNotMatch: ")), "{message}");
    assert!(message.ends_with(check), "{message}");
    let denied = "AccessDenied: Access Denied; give these credentials the permission s3:ListBucket";
    assert_eq!(of(GUEST), (ExitReason::StoreUnavailable, format!("{checkpoints}: {denied}")));
}

#[test]
fn a_bucket_that_is_not_there_is_a_missing_input_and_a_store_that_does_not_answer_may_come_back() {
    let Some(mut place) = Place::new("no bucket in S3") else { return };
    let report = refused(&place, |config, _| config.execution.object_store = Some("s3://absent/bam".to_owned()));
    let message = "s3://absent: there is no such bucket (NoSuchBucket: The specified bucket does not exist); create it, \
                   with glue_data and pretrained_models in s3://absent/bam";
    assert_eq!((report.reason, report.message.as_str()), (ExitReason::MissingInput, message));
    let report = refused(&place, |config, _| config.execution.object_store = Some("ftp://models/bam".to_owned()));
    assert_eq!(report.reason, ExitReason::BadConfig, "{}", report.message);

    place.server.stop();
    let report = refused(&place, |_, _| {});
    assert_eq!(report.reason, ExitReason::StoreUnavailable);
    let end = format!(
        "cannot list: Connection refused (os error 111); check that {} can be reached from here, and start again: what was \
         sent before is whole",
        place.server.endpoint()
    );
    assert!(report.message.ends_with(&end), "{}", report.message);
}

#[test]
fn a_store_that_goes_away_in_the_middle_ends_the_attempt_and_costs_no_step_that_was_sent() {
    let Some(mut place) = Place::new("a lost S3") else { return };
    let mut config = place.fixture.config(&["rte"], LONG, &[]);
    config.execution.save_checkpoints_steps = Some(1);
    let mut running = place.start(&config, "first", "first");
    place.wait_for_checkpoint(&config, &mut running, 3);
    place.server.stop();
    let report = running.end();
    assert_eq!(report.reason, ExitReason::StoreUnavailable);
    let begin = format!("s3://models/{}/step-", place.name(&config, "checkpoints/first"));
    assert!(report.message.starts_with(&begin), "{}", report.message);
    assert!(report.message.contains(": cannot write: "), "{}", report.message);
    assert!(report.saved_steps >= 3, "{report:?}");
}
