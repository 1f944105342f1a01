//! The reference's command line: `bam-trainer MODEL_NAME BAM_DIR HPARAMS`, with its options, its defaults, and its files
//! in its places. Training itself is [`run`](crate::run): a model name only points at runs in the store.

mod custom;
mod options;
mod outputs;
mod results;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use bam_crds::config::{Distillation, InputsReport, TaskIdentity};
use bam_crds::identity::SEMANTICS_VERSION;
use bam_crds::{Execution, ExitReason, InputsConfig, RunConfig, RunReport, Science};

pub use options::{Options, parse};
pub(crate) use outputs::first_run_at;
use outputs::{ModelFolder, Teacher};

use crate::failure::{Failure, Problems};
use crate::inputs;
use crate::interrupt::Interrupt;
use crate::report::Reporter;
use crate::run::{Machinery, run as run_one};
use crate::store::Store;
use crate::task::Task;

/// Trains all trials of a model and writes what the reference writes.
///
/// # Errors
/// Everything that keeps a trial from being done.
pub fn run(
    model_name: &str,
    bam_dir: &Path,
    hparams: &str,
    reporter: Reporter,
    interrupt: Interrupt,
) -> Result<RunReport, Failure> {
    let options = options::parse(hparams)?;
    check_name(model_name)?;
    for warning in &options.warnings {
        warn(warning);
    }
    let store = Store::open(bam_dir)?;
    let teachers = teachers(&store, &options)?;
    let machinery = Machinery::new(None, reporter, interrupt)?;
    let execution = execution(bam_dir, &options, &teachers);
    let inputs = inputs_config(&options, execution.clone());
    let found = inputs::check(&inputs, &machinery.reporter).map_err(|failure| with_hint(failure, &options))?;

    let folder = ModelFolder::create(&store, model_name)?;
    let mut reports = Vec::new();
    for trial in 1..=options.num_trials {
        machinery.reporter.note(&heading(model_name, trial, options.num_trials));
        let config = RunConfig::new(science(&options, &found, &teachers, trial), execution.clone());
        let report = run_one(&config, &attempt(), &machinery, &folder.journals(&options, trial))?;
        machinery.reporter.finish();
        reports.push((config, report));
        folder.write(&store, &options, &reports)?;
        // The pipe may be closed already; the results are in files too.
        let _ = write!(io::stdout(), "{}", outputs::results_text(&reports[reports.len() - 1..]));
    }
    let (_, last) = reports.pop().expect("there is at least one trial");
    Ok(last)
}

/// A model's name is a folder's name.
fn check_name(name: &str) -> Result<(), Failure> {
    let bad = name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']);
    match bad {
        true => {
            let message =
                format!("MODEL_NAME {name:?} must be the name of a folder: no slash, and no dot at its start");
            Err(Failure::new(ExitReason::BadConfig, message))
        }
        false => Ok(()),
    }
}

fn heading(model_name: &str, trial: u32, trials: u32) -> String {
    let line = "=".repeat(80);
    format!("{line}\n{model_name}: trial {trial} of {trials}\n{line}")
}

fn execution(bam_dir: &Path, options: &Options, teachers: &Teachers) -> Execution {
    let place = |teacher: &Teacher| match teacher {
        Teacher::Run(_) => None,
        Teacher::Pickle(digest, place) => Some((digest.to_string(), place.clone())),
    };
    Execution {
        store: bam_dir.display().to_string(),
        pretrained: options.pretrained_model_name.clone(),
        save_checkpoints_steps: Some(options.save_checkpoints_steps),
        write_test_outputs: options.test_outputs > 0,
        files: options.custom_tasks.files.clone(),
        target_files: teachers.values().flatten().filter_map(place).collect(),
        ..Execution::default()
    }
}

fn inputs_config(options: &Options, execution: Execution) -> InputsConfig {
    let resolved = options.hyperparameters.resolve(options.task_names.len());
    InputsConfig {
        tasks: options.task_names.clone(),
        custom: options.custom_tasks.meanings.clone(),
        targets: Default::default(),
        max_seq_length: resolved.max_seq_length,
        debug: resolved.debug,
        fetch: None,
        execution,
    }
}

/// The reference predicts test splits unless told not to, and some downloads lack them.
fn with_hint(failure: Failure, options: &Options) -> Failure {
    let hint = "\nIf only test files are missing, \"write_test_outputs\": false does without them.";
    let tasks: Vec<Task> = options.task_names.iter().filter_map(|name| options.task(name)).collect();
    let file = |task: &Task, split| format!("/{}: ", task.path(split));
    let files: Vec<String> =
        tasks.iter().flat_map(|task| task.test_splits().map(|split| file(task, split)).collect::<Vec<_>>()).collect();
    let test_file = failure.message.lines().any(|line| files.iter().any(|file| line.contains(file)));
    match failure.reason {
        ExitReason::MissingInput if test_file => Failure { message: failure.message.clone() + hint, ..failure },
        _ => failure,
    }
}

/// Says something on standard error, if anybody listens there.
fn warn(warning: &str) {
    let _ = writeln!(io::stderr(), "warning: {warning}");
}

fn science(options: &Options, inputs: &InputsReport, teachers: &Teachers, trial: u32) -> Science {
    let task = |name: &String| {
        let mut identity = TaskIdentity {
            name: name.clone(),
            custom: options.custom_tasks.meanings.get(name).cloned(),
            train: inputs.tasks[name].train.clone(),
            dev: inputs.tasks[name].dev.clone(),
            teachers: Vec::new(),
            target_files: Vec::new(),
        };
        for teacher in teachers.get(name).into_iter().flatten() {
            match teacher {
                Teacher::Run(run) => identity.teachers.push(run.clone()),
                Teacher::Pickle(file, _) => identity.target_files.push(file.clone()),
            }
        }
        identity
    };
    let distillation = match (teachers.is_empty(), options.distillation.annealing) {
        (true, _) => Distillation::default(),
        // The reference has a weight also where it means nothing.
        (false, true) => Distillation { weight: Distillation::default().weight, ..options.distillation.clone() },
        (false, false) => options.distillation.clone(),
    };
    Science {
        semantics_version: SEMANTICS_VERSION,
        model: inputs.model.clone(),
        tasks: options.task_names.iter().map(task).collect(),
        hyperparameters: options.hyperparameters.resolve(options.task_names.len()),
        distillation,
        seed: options.seed + trial - 1,
        precision: options.precision,
        fold: None,
    }
}

/// The teachers of each task. They are a set: neither their order nor two names for one make another student.
type Teachers = BTreeMap<String, BTreeSet<Teacher>>;

/// The first trial of each teacher.
fn teachers(store: &Store, options: &Options) -> Result<Teachers, Failure> {
    let mut problems = Problems::default();
    let mut teachers = Teachers::new();
    // In the order of the tasks, for the messages.
    for name in &options.task_names {
        for model in options.teachers.get(name).into_iter().flatten() {
            let teacher = problems.take(outputs::first_trial(store, model, name));
            teachers.entry(name.clone()).or_default().extend(teacher);
        }
    }
    problems.check()?;
    Ok(teachers)
}

/// A name that no other process has: two of them may train the same model at once.
fn attempt() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("command-line-{}-{}", now.as_secs(), std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_about_test_files_comes_when_one_is_missing_wherever_the_store_is() {
        let own = r#"{"train": "own/train", "dev": "own/dev", "test": "own/test.csv", "format": "CSV", "text_a": "a",
            "label": "b", "labels": ["no", "yes"]}"#;
        let options =
            options::parse(&format!(r#"{{"task_names": ["rte", "mnli", "own"], "custom_tasks": {{"own": {own}}}}}"#));
        let options = options.unwrap();
        for (path, hinted) in [
            ("/tmp/test-bam/glue_data/rte/train.tsv", false),
            ("/bam/glue_data/mnli/dev_matched.tsv", false),
            ("/bam/pretrained_models/test.tsv/vocab.txt", false),
            ("/bam/glue_data/rte/test.tsv", true),
            ("/bam/glue_data/mnli/diagnostic.tsv", true),
            ("/bam/own/test.csv", true),
            ("/bam/own/dev", false),
        ] {
            let missing = format!("first line\n{path}: the file is missing; put it there");
            let failure = with_hint(Failure::new(ExitReason::MissingInput, missing), &options);
            assert_eq!(failure.message.contains("write_test_outputs"), hinted, "{path}");
        }
    }
}
