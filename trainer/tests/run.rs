//! A run on real libtorch, from the command line: what it writes, and what happens when it is stopped or lied to.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use bam_crds::config::Fold;
use bam_crds::report::Stage;
use bam_crds::{Digest, ExitReason, RunReport};
use bam_trainer::data::targets::Targets;
use common::Fixture;
use serde_json::{Value, json};

const SHORT: &str = r#"{"maxSeqLength": 32, "trainBatchSize": 8, "numTrainEpochs": "2", "learningRate": "1e-3"}"#;

#[test]
fn a_finished_run_has_a_manifest_that_names_every_artifact() {
    let fixture = Fixture::new();
    let config = fixture.config(&["rte", "mrpc"], SHORT, &[]);
    let report = fixture.train(&config, "first");
    assert_eq!(report.reason, ExitReason::Completed, "{}", report.message);
    let scored: Vec<_> = report.results.iter().map(|result| (result.task.as_str(), result.rows)).collect();
    assert_eq!(scored, [("rte", 20), ("mrpc", 20)]);
    assert!(report.results.iter().all(|result| result.metrics.contains_key("accuracy") && result.majority.is_some()));

    let names: Vec<String> = fixture.artifacts(&config).into_iter().map(|(name, _)| name).collect();
    let expected = [
        "model/config.json",
        "model/heads.json",
        "model/model.safetensors",
        "model/mrpc/config.json",
        "model/mrpc/head.safetensors",
        "model/mrpc/model.safetensors.index.json",
        "model/mrpc/tokenizer_config.json",
        "model/mrpc/vocab.txt",
        "model/rte/config.json",
        "model/rte/head.safetensors",
        "model/rte/model.safetensors.index.json",
        "model/rte/tokenizer_config.json",
        "model/rte/vocab.txt",
        "model/vocab.txt",
        "results.json",
        "targets/mrpc.safetensors",
        "targets/rte.safetensors",
    ];
    assert_eq!(names, expected);
    assert!(!fixture.run_folder(&config).join("checkpoints").exists(), "a whole run needs no checkpoints");
}

#[test]
fn the_same_configuration_gives_the_same_bytes() {
    let (one, other) = (Fixture::new(), Fixture::new());
    let [one, other] = [one, other].map(|fixture| {
        let config = fixture.config(&["rte", "mrpc"], SHORT, &[]);
        fixture.train(&config, "first");
        fixture.artifacts(&config)
    });
    assert!(one == other, "weights, targets or results differ");
}

#[test]
fn a_run_that_is_whole_is_not_trained_again() {
    let fixture = Fixture::new();
    let config = fixture.config(&["rte"], SHORT, &[]);
    let first = fixture.train(&config, "first");
    assert_eq!(fixture.train(&config, "second"), first);
    assert!(!fixture.run_folder(&config).join("checkpoints").exists());
}

#[test]
fn sigterm_is_answered_with_a_checkpoint_and_the_report_says_how_far_it_was() {
    let fixture = Fixture::new();
    let long = SHORT.replace("\"2\"", "\"200\"");
    let config = fixture.config(&["rte", "mrpc"], &long, &[]);
    let (mut command, report) = fixture.train_command(&config, "first");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut progress = lines.map(|line| serde_json::from_str::<bam_crds::Progress>(&line.unwrap()).unwrap());
    assert!(progress.any(|said| said.stage == Stage::Training && said.done > 2), "it never trained");
    // SAFETY: a signal to a child of ours that was not waited for, so its pid is still its own.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
    assert_eq!(child.wait().unwrap().code(), Some(81));
    let stopped: bam_crds::RunReport = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    assert_eq!(stopped.reason, ExitReason::Checkpointed);
    assert!(stopped.saved_steps > 2 && stopped.saved_steps < stopped.total_steps, "{stopped:#?}");

    let (mut command, _) = fixture.train_command(&config, "second");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut progress = lines.map(|line| serde_json::from_str::<bam_crds::Progress>(&line.unwrap()).unwrap());
    let first = progress.find(|said| said.stage == Stage::Training).expect("it trains");
    assert_eq!(first.done, stopped.saved_steps, "it goes on where it was");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn cutting_a_step_into_smaller_micro_batches_changes_nothing_but_rounding() {
    let fixture = Fixture::new();
    let config = fixture.config(&["rte", "mrpc"], SHORT, &[]);
    let whole = fixture.train(&config, "whole");
    let other = Fixture::new();
    let mut config = other.config(&["rte", "mrpc"], SHORT, &[]);
    config.execution.micro_batch_tokens = Some(40);
    let cut = other.train(&config, "cut");
    for (whole, cut) in whole.results.iter().zip(&cut.results) {
        let difference = whole.metrics["loss"] - cut.metrics["loss"];
        assert!(difference.abs() < 1e-4, "{}: dev loss differs by {difference}", whole.task);
    }
}

/// Teachers of both tasks, and the configuration of their student.
fn teachers_and_student(fixture: &Fixture) -> (Vec<bam_crds::RunConfig>, bam_crds::RunConfig) {
    let teachers: Vec<_> = ["rte", "mrpc"].map(|task| fixture.config(&[task], SHORT, &[])).into();
    for (number, teacher) in teachers.iter().enumerate() {
        assert_eq!(fixture.train(teacher, &format!("teacher-{number}")).reason, ExitReason::Completed);
    }
    let hashes: Vec<&Digest> = teachers.iter().map(|teacher| &teacher.science_hash).collect();
    let student = fixture.config(&["rte", "mrpc"], SHORT, &hashes);
    (teachers, student)
}

#[test]
fn a_student_learns_from_its_teachers_and_says_which_targets_it_used() {
    let fixture = Fixture::new();
    let (teachers, student) = teachers_and_student(&fixture);
    let report = fixture.train(&student, "student");
    assert_eq!(report.reason, ExitReason::Completed, "{}", report.message);
    let manifest = fs::read(fixture.run_folder(&student).join("manifest.json")).unwrap();
    let manifest: bam_crds::Manifest = serde_json::from_slice(&manifest).unwrap();
    let mut expected: Vec<_> = teachers
        .iter()
        .zip(["rte", "mrpc"])
        .map(|(teacher, task)| format!("{}/{task}", teacher.science_hash))
        .collect();
    expected.sort();
    assert_eq!(manifest.used_targets.keys().cloned().collect::<Vec<_>>(), expected);
}

#[test]
fn several_teachers_of_one_task_and_one_teacher_of_several_tasks_teach() {
    let fixture = Fixture::new();
    let (teachers, student) = teachers_and_student(&fixture);
    let multi = fixture.config(&["rte", "mrpc"], SHORT, &[]);
    fixture.train(&multi, "multi");
    let of = |several: &[&Digest]| {
        let mut science = student.science.clone();
        science.tasks[0].teachers = several.iter().map(|digest| (*digest).clone()).collect();
        science.tasks[1].teachers = vec![multi.science_hash.clone()];
        bam_crds::RunConfig::new(science, student.execution.clone())
    };
    let alone = of(&[&teachers[0].science_hash]);
    let ensemble = of(&[&teachers[0].science_hash, &multi.science_hash]);
    let weights = [&alone, &ensemble].map(|config| {
        let report = fixture.train(config, config.science_hash.short());
        assert_eq!(report.reason, ExitReason::Completed, "{}", report.message);
        fs::read(fixture.run_folder(config).join("model/model.safetensors")).unwrap()
    });
    assert!(weights[0] != weights[1], "the second teacher taught nothing");
    let manifest = fs::read(fixture.run_folder(&ensemble).join("manifest.json")).unwrap();
    let manifest: bam_crds::Manifest = serde_json::from_slice(&manifest).unwrap();
    let mut expected = [
        format!("{}/rte", teachers[0].science_hash),
        format!("{}/rte", multi.science_hash),
        format!("{}/mrpc", multi.science_hash),
    ];
    expected.sort();
    assert_eq!(manifest.used_targets.keys().cloned().collect::<Vec<_>>(), expected);
}

#[test]
fn teachers_of_folds_write_targets_of_rows_that_they_have_not_seen_and_all_of_them_are_needed() {
    let fixture = Fixture::new();
    let teacher = |index: u32| {
        let mut science = fixture.config(&["mrpc"], SHORT, &[]).science;
        science.fold = Some(Fold { index, of: 2 });
        let config = bam_crds::RunConfig::new(science, fixture.execution());
        let report = fixture.train(&config, &format!("fold-{index}"));
        assert_eq!(report.reason, ExitReason::Completed, "{}", report.message);
        config
    };
    let teachers = [teacher(0), teacher(1)];
    let eids = teachers.each_ref().map(|config| {
        let path = fixture.run_folder(config).join("targets/mrpc.safetensors");
        bam_trainer::data::targets::Targets::read(&path).unwrap().eids
    });
    // The first of 50 rows is in line 2; copies have the ids from 50 on.
    assert!(eids[0].iter().all(|eid| eid % 2 == 0) && eids[1].iter().all(|eid| eid % 2 == 1), "{eids:?}");
    assert_eq!(eids.each_ref().map(Vec::len), [50, 50]);

    let student = |several: &[&bam_crds::RunConfig]| {
        let mut science = fixture.config(&["mrpc"], SHORT, &[]).science;
        science.tasks[0].teachers = several.iter().map(|config| config.science_hash.clone()).collect();
        let config = bam_crds::RunConfig::new(science, fixture.execution());
        fixture.train(&config, &format!("student-of-{}", several.len()))
    };
    let alone = student(&[&teachers[0]]);
    assert_eq!(alone.reason, ExitReason::BadConfig);
    assert!(
        alone.message.starts_with("mrpc/train.tsv:3 (eid 1): every teacher has learned from this row"),
        "{}",
        alone.message
    );
    assert!(alone.message.ends_with("... and 30 more rows"), "{}", alone.message);
    let both = student(&[&teachers[0], &teachers[1]]);
    assert_eq!(both.reason, ExitReason::Completed, "{}", both.message);
}

#[test]
fn a_temperature_changes_what_a_student_learns() {
    let fixture = Fixture::new();
    let (_, mut student) = teachers_and_student(&fixture);
    let weights = [1.0, 4.0].map(|temperature| {
        student.science.distillation.temperature = temperature;
        student = bam_crds::RunConfig::new(student.science.clone(), student.execution.clone());
        let report = fixture.train(&student, &format!("temperature-{temperature}"));
        assert_eq!(report.reason, ExitReason::Completed, "{}", report.message);
        fs::read(fixture.run_folder(&student).join("model/model.safetensors")).unwrap()
    });
    assert!(weights[0] != weights[1]);
}

#[test]
fn the_three_seeds_together_are_the_run_s_seed_and_each_alone_changes_the_weights() {
    let fixture = Fixture::new();
    let weights = |seed: u32, options: &str| {
        let options = SHORT.replace("\"2\"", "1").replace('}', &format!("{options}}}"));
        let mut science = fixture.config(&["rte"], &options, &[]).science;
        science.seed = seed;
        let config = bam_crds::RunConfig::new(science, fixture.execution());
        assert_eq!(fixture.train(&config, config.science_hash.short()).reason, ExitReason::Completed);
        fs::read(fixture.run_folder(&config).join("model/model.safetensors")).unwrap()
    };
    let plain = weights(3, "");
    assert!(weights(9, r#", "initSeed": 3, "dataSeed": 3, "dropoutSeed": 3"#) == plain);
    for one in ["initSeed", "dataSeed", "dropoutSeed"] {
        assert!(weights(3, &format!(r#", "{one}": 9"#)) != plain, "{one} does nothing");
    }
}

#[test]
fn dropout_rates_of_nothing_leave_no_use_for_a_seed_of_dropout() {
    let fixture = Fixture::new();
    let weights = |options: &str| {
        let options = SHORT.replace("\"2\"", "1").replace('}', &format!("{options}}}"));
        let config = fixture.config(&["rte"], &options, &[]);
        assert_eq!(fixture.train(&config, config.science_hash.short()).reason, ExitReason::Completed);
        fs::read(fixture.run_folder(&config).join("model/model.safetensors")).unwrap()
    };
    let rates = [r#", "hiddenDropoutProb": 0"#, r#", "attentionProbsDropoutProb": 0"#, r#", "headDropoutProb": 0"#];
    let none = rates.concat();
    assert!(weights(&none) == weights(&format!(r#"{none}, "dropoutSeed": 9"#)), "something is still dropped");
    for left in 0..rates.len() {
        let others: String = rates.iter().enumerate().filter(|(at, _)| *at != left).map(|(_, rate)| *rate).collect();
        assert!(weights(&others) != weights(&format!(r#"{others}, "dropoutSeed": 9"#)), "{} is ignored", rates[left]);
    }
}

#[test]
fn a_missing_teacher_is_named_before_the_first_step() {
    let fixture = Fixture::new();
    let absent = Digest::of_bytes(b"absent");
    let student = fixture.config(&["rte"], SHORT, &[&absent]);
    let report = fixture.train(&student, "student");
    assert_eq!(report.reason, ExitReason::MissingInput);
    assert_eq!(report.missing, [absent]);
    assert!(report.message.ends_with("manifest.json: the teacher of rte is not in the store; train it first"));
}

#[test]
fn targets_that_changed_are_not_used_and_training_the_teacher_again_mends_them() {
    let fixture = Fixture::new();
    let (teachers, student) = teachers_and_student(&fixture);
    let targets = fixture.run_folder(&teachers[0]).join("targets/rte.safetensors");
    let good = fs::read(&targets).unwrap();
    let mut flipped = good.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    fs::write(&targets, &flipped).unwrap();

    let report = fixture.train(&student, "student");
    assert_eq!(report.reason, ExitReason::BadData, "{}", report.message);
    assert_eq!(report.changed, [teachers[0].science_hash.clone()]);

    let again = fixture.train(&teachers[0], "again");
    assert_eq!(again.reason, ExitReason::Completed);
    assert!(fs::read(&targets).unwrap() == good, "trained again to the same bytes");
    let aside = fixture.run_folder(&teachers[0]).with_extension("damaged-1");
    assert!(fs::read(aside.join("targets/rte.safetensors")).unwrap() == flipped, "what was there is kept");
    assert_eq!(fixture.train(&student, "student-2").reason, ExitReason::Completed);
}

#[test]
fn a_teacher_without_the_swapped_rows_is_refused_with_the_option_that_is_to_blame() {
    let fixture = Fixture::new();
    let narrow = r#"{"maxSeqLength": 32, "trainBatchSize": 8, "numTrainEpochs": 1, "doubleUnordered": false}"#;
    let teacher = fixture.config(&["mrpc"], narrow, &[]);
    fixture.train(&teacher, "teacher");
    let student = fixture.config(&["mrpc"], SHORT, &[&teacher.science_hash]);
    let report = fixture.train(&student, "student");
    assert_eq!(report.reason, ExitReason::BadData);
    let said =
        "no targets for the 50 swapped copies of mrpc (eids 50 to 99): it was trained with double_unordered=false";
    assert!(report.message.contains(said), "{}", report.message);
    assert_eq!(report.changed, [], "training it again would not help");
}

#[test]
fn a_teacher_that_saw_another_text_is_refused_with_the_file_the_row_and_the_id() {
    let fixture = Fixture::new();
    let teacher = fixture.config(&["rte"], SHORT, &[]);
    fixture.train(&teacher, "teacher");
    let path = fixture.path("glue_data/rte/train.tsv");
    let text = fs::read_to_string(&path).unwrap();
    let lines = text.lines().enumerate().map(|(number, line)| match number {
        4 => line.replace("the", "a") + "\n",
        _ => line.to_owned() + "\n",
    });
    fs::write(&path, lines.collect::<String>()).unwrap();
    let student = fixture.config(&["rte"], SHORT, &[&teacher.science_hash]);
    let report = fixture.train(&student, "student");
    assert_eq!(report.reason, ExitReason::BadData);
    assert!(report.message.contains("rte/train.tsv:5 (eid 3)"), "{}", report.message);
}

#[test]
fn a_training_of_no_step_is_refused_and_not_called_done() {
    let fixture = Fixture::new();
    let config =
        fixture.config(&["rte"], r#"{"maxSeqLength": 32, "trainBatchSize": 60, "numTrainEpochs": "0.5"}"#, &[]);
    let report = fixture.train(&config, "first");
    assert_eq!(report.reason, ExitReason::BadConfig);
    assert!(report.message.starts_with("numTrainEpochs is 0.5, which is less than one step of 60 rows"), "{report:#?}");
    assert!(!fixture.run_folder(&config).join("manifest.json").exists());
}

#[test]
fn what_a_dead_attempt_left_is_replaced_by_the_one_that_finishes() {
    let fixture = Fixture::new();
    let config = fixture.config(&["rte"], SHORT, &[]);
    let stale = fixture.run_folder(&config).join("targets/rte.safetensors");
    fs::create_dir_all(stale.parent().unwrap()).unwrap();
    fs::write(&stale, "of an attempt that never got to its manifest").unwrap();
    // Killed while it wrote a file that is as large as the model.
    let torn = fixture.run_folder(&config).join("model/model.safetensors.a-pod-7.partial");
    fs::create_dir_all(torn.parent().unwrap()).unwrap();
    fs::write(&torn, "half of the weights").unwrap();
    assert_eq!(fixture.train(&config, "first").reason, ExitReason::Completed);
    assert!(!torn.exists(), "it would lie there for ever");
    fs::write(&torn, "half of the weights").unwrap();
    assert_eq!(fixture.train(&config, "second").reason, ExitReason::Completed);
    assert!(!torn.exists(), "left by an attempt that came late");
    assert!(fs::read(&stale).unwrap().len() > 1000);
}

#[test]
fn wrong_arguments_are_a_bad_configuration() {
    let fixture = Fixture::new();
    let output = fixture.trainer().args(["train", "--config", "nowhere"]).output().unwrap();
    assert_eq!(output.status.code(), Some(64), "{}", common::text(&output));
}

#[test]
fn every_fault_of_the_inputs_is_said_at_once() {
    let fixture = Fixture::new();
    let append = |path: &str, line: &str| {
        let path = fixture.path(path);
        let text = fs::read_to_string(&path).unwrap() + line;
        fs::write(path, text).unwrap();
    };
    append("glue_data/rte/train.tsv", "60\tthe man\tthe dog\tmaybe\n");
    append("glue_data/mrpc/train.tsv", "1\t2\t3\n");
    fs::remove_file(fixture.path("glue_data/mrpc/dev.tsv")).unwrap();
    append("pretrained_models/tiny/vocab.txt", "one\nmore\n");
    let report = fixture.inputs(&["rte", "mrpc", "mnly"]);
    assert_eq!(report.reason, ExitReason::BadConfig, "an unknown task is the gravest of them");
    for part in [
        "glue_data/rte/train.tsv:62",
        "\"maybe\"",
        "glue_data/mrpc/train.tsv:52",
        "glue_data/mrpc/dev.tsv",
        "the vocabulary has 32 word pieces, but the model embeds 30",
        "did you mean mnli?",
    ] {
        assert!(report.message.contains(part), "{part:?} is not in:\n{}", report.message);
    }
}

/// A small MNLI, with what lies beside its dev set.
fn write_mnli(fixture: &Fixture) {
    fs::create_dir_all(fixture.path("glue_data/mnli")).unwrap();
    let labels = ["contradiction", "entailment", "neutral"];
    let text = |row: usize| (format!("the man sees {} house", row % 5), format!("a dog finds {} river", row % 3));
    for (file, rows) in [("train", 30), ("dev_matched", 9), ("dev_mismatched", 12)] {
        let line = |row: usize| {
            let (a, b) = text(row);
            format!("{row}\t1\t2\t3\t4\t5\t6\t7\t{a}\t{b}\tx\t{}\n", labels[row % 3])
        };
        let lines: String = (0..rows).map(line).collect();
        fs::write(fixture.path(&format!("glue_data/mnli/{file}.tsv")), "header\n".to_owned() + &lines).unwrap();
    }
    let line = |row: usize| format!("\t\tNegation\t\tNews\t{}\t{}\t{}\r\n", text(row).0, text(row).1, labels[row % 3]);
    let lines: String = (0..7).map(line).collect();
    fs::write(fixture.path("glue_data/mnli/diagnostic-full.tsv"), "header\r\n".to_owned() + &lines).unwrap();
}

#[test]
fn mnli_is_measured_on_its_other_labelled_sets_where_they_are_there_and_stays_the_same_run() {
    let metrics = |report: &bam_crds::RunReport| report.results[0].metrics.keys().cloned().collect::<Vec<_>>();
    let fixture = Fixture::new();
    write_mnli(&fixture);
    let config = fixture.config(&["mnli"], SHORT, &[]);
    let with = fixture.train(&config, "with");
    assert_eq!(metrics(&with), ["accuracy", "diagnostic_mcc", "loss", "mismatched_accuracy"], "{}", with.message);
    assert_eq!((with.results[0].main_metric.as_str(), with.results[0].rows), ("accuracy", 9));

    let other = Fixture::new();
    write_mnli(&other);
    for file in ["dev_mismatched", "diagnostic-full"] {
        fs::remove_file(other.path(&format!("glue_data/mnli/{file}.tsv"))).unwrap();
    }
    let same = other.config(&["mnli"], SHORT, &[]);
    assert_eq!(same.science_hash, config.science_hash);
    let without = other.train(&same, "without");
    assert_eq!(metrics(&without), ["accuracy", "loss"]);
    assert_eq!(without.results[0].metrics["loss"], with.results[0].metrics["loss"]);

    let path = fixture.path("glue_data/mnli/dev_mismatched.tsv");
    fs::write(&path, fs::read_to_string(&path).unwrap() + "0\t1\n").unwrap();
    let report = fixture.inputs(&["mnli"]);
    assert_eq!(report.reason, ExitReason::BadData);
    assert!(report.message.contains("glue_data/mnli/dev_mismatched.tsv:14"), "{}", report.message);
}

#[test]
fn data_that_changed_after_the_check_are_refused() {
    let fixture = Fixture::new();
    let config = fixture.config(&["rte"], SHORT, &[]);
    let path = fixture.path("glue_data/rte/dev.tsv");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("london", "paris")).unwrap();
    let report = fixture.train(&config, "first");
    assert_eq!(report.reason, ExitReason::BadData);
    assert!(report.message.contains("dev.tsv: the file changed since the inputs were checked"), "{}", report.message);
}

#[test]
fn a_run_starts_from_a_checkpoint_of_tensorflows_and_knows_when_that_was_changed() {
    let fixture = Fixture::new();
    let folder = fixture.path("pretrained_models/tiny");
    fs::remove_dir_all(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    for file in fs::read_dir("tests/golden/checkpoint").unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.join(file.file_name())).unwrap();
    }
    let config = fixture.config(&["rte"], SHORT, &[]);
    let report = fixture.train(&config, "first");
    assert_eq!(report.reason, ExitReason::Completed, "{}", report.message);
    fs::remove_dir_all(fixture.run_folder(&config)).unwrap();

    let data = folder.join("bert_model.ckpt.data-00000-of-00001");
    let mut bytes = fs::read(&data).unwrap();
    bytes[1000] ^= 1;
    fs::write(&data, &bytes).unwrap();
    let report = fixture.train(&config, "second");
    assert_eq!(report.reason, ExitReason::BadData);
    let expected = "bert_model.ckpt: the file changed since the inputs were checked";
    assert!(report.message.contains(expected), "{}", report.message);
    // An experiment that takes the weights as they are now learns of it from their checksums.
    let config = fixture.config(&["rte"], SHORT, &[]);
    let report = fixture.train(&config, "third");
    assert_eq!(report.reason, ExitReason::BadData);
    assert!(report.message.contains("the checksum of bert/"), "{}", report.message);
}

/// Rows of similar texts, in STS-B's format.
fn write_sts(fixture: &Fixture) {
    let folder = fixture.path("glue_data/sts");
    fs::create_dir_all(&folder).unwrap();
    for (split, rows) in [("train", 30), ("dev", 10)] {
        let row = |row: u32| format!("{row}\tthe man buys a house .\tthe dog sees a river .\t{}.5\n", row % 5);
        fs::write(
            folder.join(format!("{split}.tsv")),
            "a header\n".to_owned() + &(0..rows).map(row).collect::<String>(),
        )
        .unwrap();
    }
}

/// Raises a teacher's scores of some rows beyond all measure, in its targets and in its manifest.
fn spoil(fixture: &Fixture, teacher: &bam_crds::RunConfig, is_spoilt: impl Fn(u32) -> bool) {
    let folder = fixture.run_folder(teacher);
    let path = folder.join("targets/sts.safetensors");
    let mut targets = Targets::read(&path).unwrap();
    for (eid, score) in targets.eids.iter().zip(&mut targets.logits) {
        if is_spoilt(*eid) {
            *score = f32::MAX;
        }
    }
    let bytes = targets.to_bytes();
    fs::write(&path, &bytes).unwrap();
    let manifest = folder.join("manifest.json");
    let mut said: bam_crds::Manifest = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    let artifact = said.files.get_mut("targets/sts.safetensors").unwrap();
    artifact.sha256 = Digest::of_bytes(&bytes);
    fs::write(&manifest, serde_json::to_vec(&said).unwrap()).unwrap();
}

/// The student of a spoilt teacher, which believes it.
fn student_of(fixture: &Fixture, tasks: &[&str], teacher: &bam_crds::RunConfig) -> bam_crds::RunConfig {
    let mut science = fixture.config(tasks, SHORT, &[&teacher.science_hash]).science;
    science.distillation.annealing = false;
    science.distillation.weight = 1.0;
    bam_crds::RunConfig::new(science, fixture.execution())
}

fn spoilt_teacher(is_spoilt: impl Fn(u32) -> bool) -> (Fixture, bam_crds::RunConfig) {
    let fixture = Fixture::new();
    write_sts(&fixture);
    let teacher = fixture.config(&["sts"], SHORT, &[]);
    assert_eq!(fixture.train(&teacher, "teacher").reason, ExitReason::Completed);
    spoil(&fixture, &teacher, is_spoilt);
    (fixture, teacher)
}

#[test]
fn a_step_whose_gradient_is_not_finite_is_skipped_told_with_its_rows_and_counted_also_across_a_kill() {
    let (fixture, teacher) = spoilt_teacher(|eid| eid == 5);
    let mut config = student_of(&fixture, &["sts", "rte"], &teacher);
    let trace = fixture.path("trace.jsonl");
    let traced = |config: &bam_crds::RunConfig, attempt: &str| {
        let (mut command, report) = fixture.train_command(config, attempt);
        command.arg("--trace").arg(&trace);
        (command, report)
    };
    let (mut command, report) = traced(&config, "straight");
    let output = command.output().unwrap();
    let said = common::text(&output);
    assert!(output.status.success(), "{said}");
    let steps: Vec<Value> =
        fs::read_to_string(&trace).unwrap().lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut skipped = Vec::new();
    for line in &steps {
        let has_the_row = line["rows"].as_array().unwrap().contains(&json!(["sts", 5]));
        assert_eq!(line["gradientNorm"].is_null(), has_the_row, "{line}");
        if has_the_row {
            let step = line["step"].as_u64().unwrap();
            let warning = format!("warning: a gradient of step {step} is not finite (mean losses: sts inf, rte ");
            let told = said.lines().find(|line| line.starts_with(&warning)).unwrap_or_else(|| panic!("{said}"));
            let rows = told.split_once("Its rows (task/eid): ").unwrap().1.split(' ');
            let expected = line["rows"].as_array().unwrap().iter();
            assert!(rows.eq(expected.map(|row| format!("{}/{}", row[0].as_str().unwrap(), row[1]))), "{told}\n{line}");
            skipped.push(step);
        }
    }
    assert!(skipped.len() > 1, "at least once in each epoch");
    let count = |report: &Path| {
        let report: RunReport = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
        (report.skipped_steps, report.resumed_from)
    };
    assert_eq!(count(&report), (skipped.len() as u64, 0));
    // The schedule goes on as if nothing had happened.
    let rate = |step: u64| steps[step as usize]["learningRate"].as_f64().unwrap();
    let next = skipped[0];
    assert!((rate(next) - rate(next + 1) - (rate(next + 1) - rate(next + 2))).abs() < 1e-12);

    let (expected, straight) = (fixture.artifacts(&config), fs::read(&trace).unwrap());
    fs::remove_dir_all(fixture.run_folder(&config)).unwrap();
    config.execution.save_checkpoints_steps = Some(1);
    let (mut command, _) = traced(&config, "killed");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let checkpoint = fixture.run_folder(&config).join(format!("checkpoints/killed/step-{:06}.json", skipped[0] + 1));
    while !checkpoint.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before its checkpoint was seen");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let (mut command, report) = traced(&config, "resumed");
    assert!(command.output().unwrap().status.success());
    let (total, resumed_from) = count(&report);
    assert_eq!(total, skipped.len() as u64);
    assert!(resumed_from > skipped[0], "resumed from {resumed_from}, skipped {skipped:?}");
    assert!(fixture.artifacts(&config) == expected && fs::read(&trace).unwrap() == straight, "bytes differ");
}

#[test]
fn when_no_step_has_a_finite_gradient_it_gives_up_soon() {
    let (fixture, teacher) = spoilt_teacher(|_| true);
    let report = fixture.train(&student_of(&fixture, &["sts"], &teacher), "student");
    assert_eq!(report.reason, ExitReason::Diverged);
    assert_eq!(report.skipped_steps, 3);
    let begin = "a gradient of step 2 is not finite (mean losses: sts inf). It was not applied, like those of 2 steps before \
                 it, and that is too much. Try a lower learningRate. Rows of the step (task/eid): sts/";
    assert!(report.message.starts_with(begin), "{}", report.message);
    assert!(!fixture.path("runs").join(report.science_hash.unwrap().as_str()).join("manifest.json").exists());
}
