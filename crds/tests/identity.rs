//! Identity is what users' stores are keyed by. The hashes in here never change: if one does, the change that caused it
//! would train every finished run again.

use bam_crds::config::{Distillation, Fold, ModelIdentity, TaskIdentity};
use bam_crds::identity::{Digest, SEMANTICS_VERSION, canonical};
use bam_crds::{CustomTask, Execution, HyperparameterOverrides, Hyperparameters, RunConfig, Science, TaskFiles, names};
use serde_json::json;

fn digest(of: &str) -> Digest {
    Digest::of_bytes(of.as_bytes())
}

fn teacher() -> Science {
    Science {
        semantics_version: SEMANTICS_VERSION,
        model: ModelIdentity {
            config: digest("config"),
            vocabulary: digest("vocabulary"),
            weights: Some(digest("weights")),
        },
        tasks: vec![TaskIdentity {
            name: "rte".to_owned(),
            custom: None,
            train: digest("train"),
            dev: digest("dev"),
            teachers: Vec::new(),
            target_files: Vec::new(),
        }],
        hyperparameters: HyperparameterOverrides::default().resolve(1),
        distillation: Distillation::default(),
        seed: 1,
        precision: Default::default(),
        fold: None,
    }
}

fn student() -> Science {
    let mut science = teacher();
    science.tasks[0].teachers = vec![teacher().hash()];
    science.hyperparameters = HyperparameterOverrides::default().resolve(2);
    science.distillation = Distillation { annealing: false, weight: 0.25, ..Default::default() };
    science
}

#[test]
fn golden_hashes_never_change() {
    assert_eq!(teacher().hash().as_str(), "21b5cd68d5632a90caa6569c4e22034a1f1f8b8f2901e4edecae5f774de92ffb");
    assert_eq!(student().hash().as_str(), "7a64614235d751585557d7a423d2794c949cf04bd6247841ecf1601e570b4b91");
    let store = json!({"persistentVolumeClaim": {"claimName": "bam-dir"}});
    assert_eq!(names::run(&teacher().hash(), &store), "run-12d87a13f2fad67f");
}

#[test]
fn what_is_hashed_leaves_defaults_out() {
    let text = canonical(&serde_json::to_value(student()).unwrap());
    assert!(!text.contains("hyperparameters"), "all at the reference's default: {text}");
    assert!(!text.contains("precision"), "{text}");
    assert!(text.contains(r#""distillation":{"annealing":false,"weight":0.25}"#), "{text}");
}

#[test]
fn a_store_that_writes_whole_numbers_without_a_fraction_changes_no_hash() {
    let written = canonical(&json!({"numTrainEpochs": 6.0, "seed": 1}));
    assert_eq!(written, r#"{"numTrainEpochs":6,"seed":1}"#);
    let read: Hyperparameters = serde_json::from_str(r#"{"numTrainEpochs":6}"#).unwrap();
    assert_eq!(read, Hyperparameters::default());
}

#[test]
fn a_seed_of_its_own_takes_the_place_of_the_run_s_seed() {
    let mut science = teacher();
    let seeds = |science: &Science| [science.init_seed(), science.data_seed(), science.dropout_seed()];
    assert_eq!(seeds(&science), [1, 1, 1]);
    science.hyperparameters.data_seed = Some(0);
    assert_eq!(seeds(&science), [1, 0, 1]);
    science.hyperparameters.init_seed = Some(7);
    science.hyperparameters.dropout_seed = Some(8);
    assert_eq!(seeds(&science), [7, 0, 8]);
}

#[test]
fn keys_are_sorted_at_every_depth() {
    let value: serde_json::Value = serde_json::from_str(r#"{"b":[{"z":1,"a":"ü\n"}],"a":null}"#).unwrap();
    assert_eq!(canonical(&value), r#"{"a":null,"b":[{"a":"ü\n","z":1}]}"#);
}

#[test]
fn everything_that_decides_what_is_learned_is_in_the_hash() {
    type Change = fn(&mut Science);
    let changes: &[(&str, Change)] = &[
        ("seed", |s| s.seed = 2),
        ("weights", |s| s.model.weights = None),
        ("vocabulary", |s| s.model.vocabulary = digest("other")),
        ("training data", |s| s.tasks[0].train = digest("other")),
        ("dev data", |s| s.tasks[0].dev = digest("other")),
        ("teachers", |s| s.tasks[0].teachers.push(digest("teacher"))),
        ("meaning of the rows", |s| s.tasks[0].custom = Some(custom(&["no", "yes"]))),
        ("files of targets", |s| s.tasks[0].target_files.push(digest("pickle"))),
        ("learning rate", |s| s.hyperparameters.learning_rate = 3e-5),
        ("length", |s| s.hyperparameters.max_seq_length = 64),
        ("fold", |s| s.fold = Some(Fold { index: 0, of: 5 })),
        ("temperature", |s| s.distillation.temperature = 2.0),
        ("dropout of the encoder", |s| s.hyperparameters.hidden_dropout_prob = Some(0.1)),
        ("dropout of attention", |s| s.hyperparameters.attention_probs_dropout_prob = Some(0.0)),
        ("dropout of heads", |s| s.hyperparameters.head_dropout_prob = 0.2),
        ("seed of the heads", |s| s.hyperparameters.init_seed = Some(1)),
        ("seed of the data", |s| s.hyperparameters.data_seed = Some(1)),
        ("seed of dropout", |s| s.hyperparameters.dropout_seed = Some(1)),
        ("semantics", |s| s.semantics_version += 1),
        ("order of tasks", |s| {
            let mut other = s.tasks[0].clone();
            other.name = "mrpc".to_owned();
            s.tasks.insert(0, other);
        }),
    ];
    for (what, change) in changes {
        let mut science = teacher();
        change(&mut science);
        assert_ne!(science.hash(), teacher().hash(), "{what}");
    }
}

fn custom(labels: &[&str]) -> CustomTask {
    serde_json::from_value(json!({"format": "CSV", "textA": "a", "label": "b", "labels": labels})).unwrap()
}

#[test]
fn a_task_of_one_s_own_is_what_its_rows_mean_and_not_where_they_are() {
    let science = |labels: &[&str]| {
        let mut science = teacher();
        science.tasks[0].name = "own".to_owned();
        science.tasks[0].custom = Some(custom(labels));
        science
    };
    let hash = science(&["no", "yes"]).hash();
    assert_eq!(hash.as_str(), "ce1dfc513ad3eaf4b59443c4b9a8fcf9956c1866acdb8e993b77be1dfdb12370");
    assert_ne!(hash, science(&["yes", "no"]).hash(), "the order of the labels is that of the outputs");

    let mut config = RunConfig::new(science(&["no", "yes"]), Execution::default());
    assert_eq!(config.problems(), ["task own: execution.files does not say where its rows are"]);
    let files = |train: &str| TaskFiles { train: train.to_owned(), dev: "dev".to_owned(), test: None };
    for train in ["a/train.csv", "b/train.csv"] {
        config.execution.files.insert("own".to_owned(), files(train));
        assert_eq!((config.problems(), &config.science.hash()), (vec![], &hash));
    }
}

#[test]
fn a_trainer_refuses_an_edited_configuration_and_says_everything_that_is_wrong() {
    let mut config = RunConfig::new(teacher(), Execution::default());
    assert_eq!(config.problems(), Vec::<String>::new());
    config.science.hyperparameters.learning_rate = -1.0;
    config.science.semantics_version = 99;
    let problems = config.problems();
    assert_eq!(problems.len(), 3, "{problems:#?}");
    assert!(problems[0].starts_with("science.semanticsVersion is 99"));
    assert!(problems[1].starts_with("scienceHash is "));
    assert_eq!(problems[2], "science.hyperparameters.learningRate must be above 0 and at most 1, but is -1");
}

#[test]
fn folds_share_the_rows_evenly_and_leave_none_out() {
    for (rows, of) in [(10, 2), (11, 3), (5, 5), (7, 16), (2490, 5)] {
        let folds: Vec<_> = (0..of).map(|index| Fold { index, of }).collect();
        let lines = 2..rows + 2;
        assert!(lines.clone().all(|line| folds.iter().filter(|fold| fold.has(line)).count() == 1), "{rows} rows");
        for fold in folds {
            let size = lines.clone().filter(|line| fold.has(*line)).count() as u32;
            assert!((rows / of..=rows.div_ceil(of)).contains(&size), "{fold} has {size} of {rows} rows");
        }
    }
    let mut science = teacher();
    for (index, of, good) in [(0, 2, true), (15, 16, true), (2, 2, false), (0, 1, false), (0, 17, false), (0, 0, false)]
    {
        science.fold = Some(Fold { index, of });
        assert_eq!(
            RunConfig::new(science.clone(), Execution::default()).problems().is_empty(),
            good,
            "{index} of {of}"
        );
    }
}

#[test]
fn a_file_of_targets_has_a_place() {
    let mut science = teacher();
    science.tasks[0].target_files = vec![digest("pickle")];
    assert!(science.distills());
    let mut config = RunConfig::new(science, Execution::default());
    let problem = format!("execution.targetFiles does not say where the file {} is", digest("pickle"));
    assert_eq!(config.problems(), [problem]);
    config.execution.target_files.insert(digest("pickle").to_string(), "models/rte/targets.pkl".to_owned());
    assert_eq!(config.problems(), Vec::<String>::new());
}
