//! The reference's options: one JSON object in snake case, every problem of it said at once.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use bam_crds::config::{Distillation, Precision};
use bam_crds::hyperparameters::{LARGEST_SEED, NAMES, camel_case};
use bam_crds::{ExitReason, HyperparameterOverrides, nearest};
use serde_json::{Map, Value};

use super::custom::{CustomTasks, custom_tasks};
use crate::failure::{Failure, Problems};
use crate::prepare::unknown_task;
use crate::task::{self, Task};

/// Options that mean nothing here, what their values are in the reference, and why they have none: scripts that set them go
/// on working.
const WITHOUT_MEANING: &[(&str, Form, &str)] = &[
    ("pretrained", Form::Switch, "the reference never reads it either"),
    ("eval_batch_size", Form::Count, "rows are not padded to whole batches"),
    ("predict_batch_size", Form::Count, "rows are cut into micro-batches by length"),
    ("iterations_per_loop", Form::Count, "progress is shown all the time"),
    ("use_tfrecords_if_existing", Form::Switch, "there are no record files that could be out of date"),
    ("use_tpu", Form::Switch, "TPUs are used through the operator"),
    ("num_tpu_cores", Form::Count, "TPUs are used through the operator"),
    ("tpu_name", Form::Text, "TPUs are used through the operator"),
    ("tpu_zone", Form::Text, "TPUs are used through the operator"),
    ("gcp_project", Form::Text, "TPUs are used through the operator"),
];

/// What the value of an option without a meaning may be.
#[derive(Clone, Copy)]
enum Form {
    Switch,
    Count,
    /// Or nothing.
    Text,
}

impl Form {
    fn admits(self, value: &Value) -> bool {
        match self {
            Self::Switch => value.is_boolean(),
            Self::Count => whole(value).as_ref().unwrap_or(value).as_u64().is_some_and(|count| count > 0),
            Self::Text => value.is_string() || value.is_null(),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Switch => "true or false",
            Self::Count => "a whole number above 0",
            Self::Text => "a text, or null",
        }
    }
}

/// Options of the program, beside those of the training in [`NAMES`].
const OTHERS: &[&str] = &[
    "task_names",
    "custom_tasks",
    "pretrained_model_name",
    "distill",
    "teachers",
    "teacher_annealing",
    "distill_weight",
    "distill_temperature",
    "num_trials",
    "write_test_outputs",
    "write_distill_outputs",
    "n_writes_test",
    "n_writes_distill",
    "save_checkpoints_steps",
    "seed",
    "precision",
    "write_trace",
    "write_tensorboard",
];

/// Trials of one command.
const MOST_TRIALS: u32 = 10_000;

/// The options of one command line, resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The tasks in order.
    pub task_names: Vec<String>,
    /// What tasks are that are not built in (this program's own option).
    pub custom_tasks: CustomTasks,
    /// Folder below `pretrained_models`.
    pub pretrained_model_name: String,
    /// Model names of each task's teachers; empty unless `distill`. The reference has one for each.
    pub teachers: BTreeMap<String, Vec<String>>,
    /// `teacher_annealing`, `distill_weight`, and `distill_temperature` (this program's own option).
    pub distillation: Distillation,
    /// Trainings, each with the next seed.
    pub num_trials: u32,
    /// Predictions of the test splits, for so many trials.
    pub test_outputs: u32,
    /// Pickled targets, for so many trials.
    pub distill_outputs: u32,
    /// A checkpoint at least every so many steps.
    pub save_checkpoints_steps: u32,
    /// Seed of the first trial (this program's own option).
    pub seed: u32,
    /// `fp32` or `bf16` (this program's own option).
    pub precision: Precision,
    /// Trace every trial (this program's own option).
    pub write_trace: bool,
    /// Write TensorBoard's events of every trial (this program's own option).
    pub write_tensorboard: bool,
    /// The options of the training.
    pub hyperparameters: HyperparameterOverrides,
    /// One sentence for each option that was given and means nothing.
    pub warnings: Vec<String>,
}

impl Options {
    /// A task by its name.
    pub fn task(&self, name: &str) -> Option<Task> {
        task::one(name, self.custom_tasks.meanings.get(name), self.custom_tasks.files.get(name))
    }
}

/// Parses JSON text, or the content of the file that `text` names.
///
/// # Errors
/// All problems at once.
pub fn parse(text: &str) -> Result<Options, Failure> {
    let mut problems = Problems::default();
    let given = object(text)?;
    let mut reader = Reader { given, problems: &mut problems };
    let warnings = reader.take_those_without_meaning();
    let hyperparameters = reader.hyperparameters();
    let options = reader.options(hyperparameters, warnings);
    reader.refuse_the_rest();
    check(&options, &mut problems);
    problems.check()?;
    Ok(options)
}

fn object(text: &str) -> Result<Map<String, Value>, Failure> {
    let bad = |message: String| Failure::new(ExitReason::BadConfig, message);
    let (source, text) = match text.trim_start().starts_with('{') {
        true => ("HPARAMS".to_owned(), text.to_owned()),
        false => {
            let read = std::fs::read_to_string(text);
            let hint = "HPARAMS must be a JSON object like '{\"task_names\": [\"rte\"]}' (on Windows in double quotes, with \
                        \\\" inside), or the name of a file that holds one";
            (text.to_owned(), read.map_err(|error| bad(format!("{text}: {error}; {hint}")))?)
        }
    };
    serde_json::from_str(&text).map_err(|error| bad(format!("{source}: not a JSON object: {error}")))
}

struct Reader<'a> {
    given: Map<String, Value>,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    fn take_those_without_meaning(&mut self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (name, form, why) in WITHOUT_MEANING {
            match self.given.remove(*name) {
                None => {}
                Some(value) if form.admits(&value) => {
                    warnings.push(format!("{name} has no meaning here and is ignored: {why}"));
                }
                Some(value) => self.problem(name, &format!("must be {}, but is {value}", form.words())),
            }
        }
        warnings
    }

    fn hyperparameters(&mut self) -> HyperparameterOverrides {
        let mut overrides = Map::new();
        for name in NAMES {
            let Some(value) = self.given.remove(*name) else { continue };
            let one = |value: Value| Map::from_iter([(camel_case(name), value)]);
            let read = |value: Value| serde_json::from_value::<HyperparameterOverrides>(one(value).into());
            // A manifest wants decimal numbers as text, this command line as numbers.
            let text = value.is_f64().then(|| Value::String(value.to_string()));
            let other_ways = text.into_iter().chain(whole(&value));
            match read(value.clone()) {
                Ok(_) => overrides.extend(one(value)),
                Err(error) => match other_ways.into_iter().find(|way| read(way.clone()).is_ok()) {
                    Some(way) => overrides.extend(one(way)),
                    None => self.problem(name, &format!("is {value}: {error}")),
                },
            }
        }
        serde_json::from_value(overrides.into()).expect("each option was read by itself")
    }

    fn options(&mut self, hyperparameters: HyperparameterOverrides, warnings: Vec<String>) -> Options {
        let task_names = self.take("task_names", vec!["rte".to_owned(), "mrpc".to_owned()]);
        let distill = self.take("distill", false);
        let teachers = self.take("teachers", BTreeMap::new());
        let write = |on: bool, trials: u32| if on { trials } else { 0 };
        let custom = self.take("custom_tasks", BTreeMap::new());
        // The reference's debug run is over before its first one.
        let save_checkpoints_steps = if hyperparameters.debug == Some(true) { 1_000_000 } else { 2000 };
        Options {
            custom_tasks: custom_tasks(custom, &mut |problem| self.problem("custom_tasks", &problem)),
            pretrained_model_name: self.take("pretrained_model_name", "uncased_L-12_H-768_A-12".to_owned()),
            teachers: if distill { self.teachers(&task_names, teachers) } else { BTreeMap::new() },
            task_names,
            distillation: Distillation {
                annealing: self.take("teacher_annealing", true),
                weight: self.take("distill_weight", 0.5),
                temperature: self.take("distill_temperature", 1.0),
            },
            num_trials: self.between("num_trials", 1..=MOST_TRIALS, 1),
            test_outputs: write(self.take("write_test_outputs", true), self.take("n_writes_test", 1)),
            distill_outputs: write(self.take("write_distill_outputs", true), self.take("n_writes_distill", 1)),
            save_checkpoints_steps: self.between("save_checkpoints_steps", 1..=u32::MAX, save_checkpoints_steps),
            seed: self.between("seed", 0..=LARGEST_SEED, 1),
            precision: self.take("precision", Precision::default()),
            write_trace: self.take("write_trace", false),
            write_tensorboard: self.take("write_tensorboard", false),
            hyperparameters,
            warnings,
        }
    }

    /// With `distill`, every task has a teacher, or several in a list.
    fn teachers(&mut self, task_names: &[String], given: BTreeMap<String, Value>) -> BTreeMap<String, Vec<String>> {
        let mut teachers = BTreeMap::new();
        for name in task_names {
            let models = match given.get(name).cloned() {
                None => Some(Vec::new()),
                Some(Value::String(model)) => Some(vec![model]),
                Some(other) => serde_json::from_value(other).ok(),
            };
            match models {
                None => {
                    self.problem("teachers", &format!("must have the name of a model for {name}, or a list of such"))
                }
                Some(models) if models.is_empty() => {
                    let example = format!("add \"{name}\": \"{name}-model\" to teachers, or leave distill out");
                    self.problem("teachers", &format!("has no teacher for {name}: {example}"));
                }
                Some(models) => _ = teachers.insert(name.clone(), models),
            }
        }
        teachers
    }

    fn take<T: serde::de::DeserializeOwned>(&mut self, name: &str, default: T) -> T {
        let Some(value) = self.given.remove(name) else { return default };
        let read = |value: Value| serde_json::from_value(value);
        match read(value.clone()) {
            Ok(value) => value,
            Err(error) => whole(&value).and_then(|whole| read(whole).ok()).unwrap_or_else(|| {
                self.problem(name, &format!("is {value}: {error}"));
                default
            }),
        }
    }

    fn between(&mut self, name: &str, range: RangeInclusive<u32>, default: u32) -> u32 {
        let value: i64 = self.take(name, default.into());
        match u32::try_from(value).ok().filter(|value| range.contains(value)) {
            Some(value) => value,
            None => {
                let (least, most) = range.into_inner();
                self.problem(name, &format!("must be between {least} and {most}, but is {value}"));
                default
            }
        }
    }

    fn refuse_the_rest(&mut self) {
        let known = || NAMES.iter().chain(OTHERS).chain(WITHOUT_MEANING.iter().map(|(name, ..)| name)).copied();
        for name in std::mem::take(&mut self.given).keys() {
            let nearest = nearest(name, known()).map(|nearest| format!("; did you mean {nearest}?"));
            self.problem(name, &format!("is not an option{}", nearest.unwrap_or_default()));
        }
    }

    fn problem(&mut self, option: &str, problem: &str) {
        self.problems.push(ExitReason::BadConfig, format!("{option} {problem}"));
    }
}

/// 64.0 as 64: Python's programs write whole numbers so.
fn whole(value: &Value) -> Option<Value> {
    let number = value.as_f64().filter(|_| value.is_f64())?;
    (number.fract() == 0.0 && number.abs() < 1e15).then(|| (number as i64).into())
}

/// Ranges, and names of tasks.
fn check(options: &Options, problems: &mut Problems) {
    let mut problem = |message: String| problems.push(ExitReason::BadConfig, message);
    for (option, wrong) in options.hyperparameters.resolve(options.task_names.len()).problems() {
        problem(format!("{option} {wrong}"));
    }
    if options.task_names.is_empty() {
        problem("task_names is empty: name at least one task".to_owned());
    }
    for (position, name) in options.task_names.iter().enumerate() {
        if options.task(name).is_none() {
            problem(format!("task_names: {}", unknown_task(name)));
        }
        if options.task_names[..position].contains(name) {
            problem(format!("task_names has {name} twice"));
        }
    }
    for (option, wrong) in options.distillation.problems() {
        problem(format!("distill_{option} {wrong}"));
    }
    let seeds = &options.hyperparameters;
    if options.num_trials > 1 && [seeds.init_seed, seeds.data_seed, seeds.dropout_seed].iter().all(Option::is_some) {
        let message = "init_seed, data_seed and dropout_seed together leave nothing in which trials could differ: remove one \
                       of them, or set num_trials to 1";
        problem(message.to_owned());
    }
}

/// All names that the command line knows.
#[cfg(test)]
fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = NAMES.iter().chain(OTHERS).copied().collect();
    names.extend(WITHOUT_MEANING.iter().map(|(name, ..)| name));
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let failure = parse(text).unwrap_err();
        assert_eq!(failure.reason, ExitReason::BadConfig);
        failure.message.lines().map(str::to_owned).collect()
    }

    #[test]
    fn no_options_are_the_reference_s_defaults() {
        let options = parse("{}").unwrap();
        assert_eq!(options.task_names, ["rte", "mrpc"]);
        assert_eq!(options.pretrained_model_name, "uncased_L-12_H-768_A-12");
        assert_eq!((options.num_trials, options.test_outputs, options.distill_outputs), (1, 1, 1));
        assert_eq!(options.save_checkpoints_steps, 2000);
        assert_eq!(options.hyperparameters, HyperparameterOverrides::default());
    }

    #[test]
    fn debug_saves_no_checkpoints_unless_told_to() {
        let steps = |text: &str| parse(text).unwrap().save_checkpoints_steps;
        assert_eq!(steps(r#"{"debug": true}"#), 1_000_000);
        assert_eq!(steps(r#"{"debug": true, "save_checkpoints_steps": 5}"#), 5);
        assert_eq!(steps(r#"{"debug": false}"#), 2000);
    }

    #[test]
    fn every_problem_is_said_at_once() {
        let said = problems(
            r#"{"learning_rte": 1e-4, "train_batch_size": "big", "num_trials": 0, "task_names": ["rte", "mnly"],
                "warmup_proportion": 2, "distill": true, "teachers": {"rte": "rte-model"}}"#,
        );
        let begins = [
            "train_batch_size is \"big\": invalid type",
            "teachers has no teacher for mnly: add \"mnly\": \"mnly-model\"",
            "num_trials must be between 1 and 10000, but is 0",
            "learning_rte is not an option; did you mean learning_rate?",
            "warmup_proportion must be between 0 and 1, but is 2",
            "task_names: there is no task \"mnly\"; did you mean mnli?",
        ];
        assert_eq!(said.len(), begins.len(), "{said:#?}");
        for (said, begin) in said.iter().zip(begins) {
            assert!(said.starts_with(begin), "{said}");
        }
    }

    #[test]
    fn seeds_and_trials_have_bounds_that_are_said() {
        let options = parse(r#"{"seed": 1000000000, "num_trials": 10000}"#).unwrap();
        assert_eq!((options.seed, options.num_trials), (1_000_000_000, 10_000));
        for (text, sentence) in [
            (r#"{"seed": 1000000001}"#, "seed must be between 0 and 1000000000, but is 1000000001"),
            (r#"{"seed": 5000000000}"#, "seed must be between 0 and 1000000000, but is 5000000000"),
            (r#"{"seed": -1}"#, "seed must be between 0 and 1000000000, but is -1"),
            (r#"{"num_trials": 10001}"#, "num_trials must be between 1 and 10000, but is 10001"),
        ] {
            assert_eq!(problems(text), [sentence]);
        }
    }

    #[test]
    fn whole_numbers_may_be_written_with_a_point_and_others_are_said_as_they_were_written() {
        let options = parse(r#"{"train_batch_size": 64.0, "num_train_epochs": 2.0, "seed": 7.0}"#).unwrap();
        let hyperparameters = options.hyperparameters.resolve(1);
        assert_eq!((hyperparameters.train_batch_size, hyperparameters.num_train_epochs, options.seed), (64, 2.0, 7));
        for (text, begin) in [
            (r#"{"train_batch_size": 64.5}"#, "train_batch_size is 64.5: "),
            (r#"{"seed": 0.5}"#, "seed is 0.5: "),
            (r#"{"debug": 1.0}"#, "debug is 1.0: "),
        ] {
            assert!(problems(text)[0].starts_with(begin), "{:?}", problems(text));
        }
    }

    #[test]
    fn options_without_a_meaning_are_taken_with_a_warning() {
        let options = parse(r#"{"use_tpu": true, "tpu_name": null, "iterations_per_loop": 1, "pretrained": false}"#);
        assert_eq!(options.unwrap().warnings.len(), 4);
    }

    #[test]
    fn options_without_a_meaning_have_a_type_all_the_same() {
        let said = problems(r#"{"use_tpu": "yes", "iterations_per_loop": 0, "eval_batch_size": 8.0, "tpu_zone": 5}"#);
        let sentences = [
            "iterations_per_loop must be a whole number above 0, but is 0",
            "use_tpu must be true or false, but is \"yes\"",
            "tpu_zone must be a text, or null, but is 5",
        ];
        assert_eq!(said, sentences);
    }

    #[test]
    fn seeds_dropout_rates_and_temperature_have_the_reference_s_constants_as_defaults() {
        let options = parse("{}").unwrap();
        assert_eq!(options.distillation, Distillation::default());
        assert_eq!(options.hyperparameters.resolve(2), Default::default());
        let text = r#"{"init_seed": 5, "hidden_dropout_prob": 0.0, "head_dropout_prob": 0.25, "distill_temperature": 2,
                       "num_trials": 2, "data_seed": 6}"#;
        let options = parse(text).unwrap();
        let resolved = options.hyperparameters.resolve(2);
        assert_eq!((resolved.init_seed, resolved.data_seed, resolved.dropout_seed), (Some(5), Some(6), None));
        assert_eq!((resolved.hidden_dropout_prob, resolved.head_dropout_prob), (Some(0.0), 0.25));
        assert_eq!(options.distillation.temperature, 2.0);
        assert_eq!(
            problems(
                r#"{"init_seed": 5, "data_seed": 6, "dropout_seed": 7, "num_trials": 2, "distill_temperature": 0}"#
            ),
            [
                "distill_temperature must be between 0.1 and 100, but is 0",
                "init_seed, data_seed and dropout_seed together leave nothing in which trials could differ: remove one of \
                 them, or set num_trials to 1"
            ]
        );
    }

    #[test]
    fn a_task_has_one_teacher_or_a_list_of_them() {
        let text = r#"{"distill": true, "teachers": {"rte": ["rte-1", "rte-2"], "mrpc": "mrpc-1", "sts": 5}}"#;
        let teachers = parse(text).unwrap().teachers;
        let said: Vec<_> = teachers.iter().map(|(task, models)| format!("{task}: {}", models.join(", "))).collect();
        assert_eq!(said, ["mrpc: mrpc-1", "rte: rte-1, rte-2"]);
        let said = problems(r#"{"distill": true, "teachers": {"rte": [], "mrpc": [5]}}"#);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].starts_with("teachers has no teacher for rte: add "), "{said:?}");
        assert_eq!(said[1], "teachers must have the name of a model for mrpc, or a list of such");
    }

    #[test]
    fn teachers_without_distill_are_ignored_as_in_the_reference() {
        assert!(parse(r#"{"teachers": {"rte": "rte-model"}}"#).unwrap().teachers.is_empty());
    }

    #[test]
    fn every_option_of_the_reference_s_table_is_known() {
        let table = "debug num_trials write_test_outputs write_distill_outputs n_writes_test n_writes_distill task_names \
            pretrained pretrained_model_name do_lower_case learning_rate weight_decay_rate lr_decay num_train_epochs \
            warmup_proportion distill teachers teacher_annealing distill_weight max_seq_length train_batch_size \
            eval_batch_size predict_batch_size double_unordered task_weight_exponent dataset_multiples \
            save_checkpoints_steps iterations_per_loop use_tfrecords_if_existing use_tpu num_tpu_cores tpu_name tpu_zone \
            gcp_project";
        for option in table.split_whitespace() {
            assert!(names().contains(&option), "{option}");
        }
        let ours = [
            "custom_tasks",
            "distill_temperature",
            "seed",
            "precision",
            "init_seed",
            "data_seed",
            "dropout_seed",
            "hidden_dropout_prob",
            "attention_probs_dropout_prob",
            "head_dropout_prob",
            "write_trace",
            "write_tensorboard",
        ];
        assert_eq!(names().len(), table.split_whitespace().count() + ours.len());
    }

    #[test]
    fn text_that_is_no_json_says_how_it_should_look() {
        for text in ["", "true}'", "nowhere.json"] {
            assert!(problems(text)[0].contains("HPARAMS must be a JSON object like"), "{text}");
        }
        assert!(problems("{\"a\": 1")[0].starts_with("HPARAMS: not a JSON object: EOF"));
    }
}
