//! The reference's option table: names, defaults, and who overrides whom.

use bam_crds::HyperparameterOverrides;
use bam_crds::hyperparameters::{NAMES, camel_case};

fn given(json: &str) -> HyperparameterOverrides {
    serde_json::from_str(json).unwrap()
}

#[test]
fn several_tasks_have_the_base_defaults() {
    let resolved = given("{}").resolve(2);
    assert_eq!(resolved.learning_rate, 1e-4);
    assert_eq!(resolved.train_batch_size, 128);
    assert_eq!(resolved.num_train_epochs, 6.0);
    assert!(resolved.dataset_multiples);
}

#[test]
fn a_single_task_has_its_own_defaults() {
    let resolved = given("{}").resolve(1);
    assert_eq!(resolved.learning_rate, 5e-5);
    assert_eq!(resolved.train_batch_size, 32);
    assert_eq!(resolved.num_train_epochs, 3.0);
    assert!(!resolved.dataset_multiples);
}

#[test]
fn debug_changes_the_batch_but_not_the_learning_rate() {
    for (tasks, learning_rate) in [(1, 5e-5), (2, 1e-4)] {
        let resolved = given(r#"{"debug": true}"#).resolve(tasks);
        assert_eq!(resolved.learning_rate, learning_rate, "{tasks} tasks");
        assert_eq!(resolved.train_batch_size, 32);
        assert_eq!(resolved.num_train_epochs, 3.0);
        assert!(!resolved.dataset_multiples);
    }
}

#[test]
fn what_the_user_gave_wins_over_every_default() {
    let resolved =
        given(r#"{"debug": true, "trainBatchSize": 8, "numTrainEpochs": 1, "learningRate": "3e-5"}"#).resolve(1);
    assert_eq!(resolved.train_batch_size, 8);
    assert_eq!(resolved.num_train_epochs, 1.0);
    assert_eq!(resolved.learning_rate, 3e-5);
}

#[test]
fn a_teacher_reads_its_inputs_as_its_student_does() {
    let student = given(r#"{"maxSeqLength": 64, "doLowerCase": false, "learningRate": "1e-3"}"#);
    let teacher = given(r#"{"doLowerCase": true}"#).or(&student.of_inputs());
    assert_eq!(teacher, given(r#"{"maxSeqLength": 64, "doLowerCase": true}"#));
}

#[test]
fn numbers_may_be_whole_or_quoted_but_not_floating() {
    assert!(serde_json::from_str::<HyperparameterOverrides>(r#"{"learningRate": 0.1}"#).is_err());
    assert!(serde_json::from_str::<HyperparameterOverrides>(r#"{"learningRate": "fast"}"#).is_err());
    assert_eq!(given(r#"{"numTrainEpochs": 2}"#).resolve(1), given(r#"{"numTrainEpochs": "2.0"}"#).resolve(1));
}

#[test]
fn every_option_is_spelled_the_kubernetes_way_in_a_manifest() {
    assert!(NAMES.contains(&"task_weight_exponent"));
    assert_eq!(camel_case("task_weight_exponent"), "taskWeightExponent");
    assert_eq!(camel_case("debug"), "debug");
    let error = serde_json::from_str::<HyperparameterOverrides>("{\"x\": 1}").unwrap_err().to_string();
    for name in NAMES {
        assert!(error.contains(&format!("`{}`", camel_case(name))), "{name} in {error}");
    }
}

#[test]
fn every_value_out_of_range_is_a_problem_of_its_own() {
    let wrong = given(r#"{"learningRate": 0, "warmupProportion": "1.5", "maxSeqLength": 4, "numTrainEpochs": "-1"}"#);
    let options: Vec<_> = wrong.resolve(1).problems().into_iter().map(|(option, _)| option).collect();
    assert_eq!(options, ["learning_rate", "num_train_epochs", "warmup_proportion", "max_seq_length"]);
    let wrong = given(
        r#"{"hiddenDropoutProb": 1, "attentionProbsDropoutProb": "-0.1", "headDropoutProb": "1.5", "initSeed": 1000000001,
            "dataSeed": 2000000000, "dropoutSeed": 4294967295}"#,
    );
    let said: Vec<_> =
        wrong.resolve(1).problems().into_iter().map(|(option, problem)| format!("{option} {problem}")).collect();
    assert_eq!(
        said,
        [
            "hidden_dropout_prob must be at least 0 and below 1, but is 1",
            "attention_probs_dropout_prob must be at least 0 and below 1, but is -0.1",
            "head_dropout_prob must be at least 0 and below 1, but is 1.5",
            "init_seed must be between 0 and 1000000000, but is 1000000001",
            "data_seed must be between 0 and 1000000000, but is 2000000000",
            "dropout_seed must be between 0 and 1000000000, but is 4294967295",
        ]
    );
}
