use super::*;
use crate::model::{Dropout, Head, HeadOutput, MicroBatch, Row};
use crate::optim::{CLIP_NORM, Gradients, Outcome, Settings};
use serde_json::json;
use std::fs;
use tch::{Device, Kind};
use tempfile::{TempDir, tempdir};

struct Run {
    folder: TempDir,
    model: Model,
    optimizer: AdamWeightDecay,
    step: u64,
}

/// What the checkpoints in here were trained on.
fn basis() -> Value {
    json!({ "targets": "ä \"quoted\"", "float": 0.1 })
}

/// A run that is trained a little and checkpointed.
fn run(layers: usize) -> Run {
    let config = json!({ "vocab_size": 20, "hidden_size": 8, "num_hidden_layers": layers, "num_attention_heads": 2,
        "intermediate_size": 12, "max_position_embeddings": 16 });
    let heads = vec![Head { task: "rte".into(), outputs: 2 }];
    let model = Model::random(serde_json::from_value(config).unwrap(), heads, 1, Device::Cpu);
    let settings = Settings { weight_decay_rate: 0.01, lr_decay: 0.9, layers, clip_norm: CLIP_NORM };
    let optimizer = AdamWeightDecay::new(model.parameters(), settings);
    Run { folder: tempdir().unwrap(), model, optimizer, step: 0 }
}

impl Run {
    fn train(&mut self) {
        let rows = [Row { number: 0, input_ids: &[1, 5, 9, 2], second: 3 }];
        let dropout = Dropout::of_step(1, self.step, Device::Cpu);
        let loss = |said: Vec<HeadOutput>| (said[0].logits.square().sum(Kind::Float), ());
        let (new, ()) = self.model.gradients(&MicroBatch::pack(&rows, Device::Cpu), &[0], &dropout, loss);
        let mut gradients = Gradients::new(self.model.parameters().len());
        gradients.add(new);
        self.optimizer.step(self.model.parameters_mut(), gradients, 0.1);
        self.step += 1;
    }

    fn attempt(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn save(&self, attempt: &str) -> PathBuf {
        save(&self.attempt(attempt), self.step, &self.model, &self.optimizer, &basis()).unwrap()
    }

    fn search(&self) -> Search {
        latest_valid(self.folder.path(), &basis()).unwrap()
    }

    /// Trains two steps in attempt a1 and saves after each.
    fn two_checkpoints() -> (Self, PathBuf) {
        let mut run = run(1);
        run.train();
        run.save("a1");
        run.train();
        let newest = run.save("a1");
        (run, newest)
    }

    /// The newest checkpoint must be passed over, with a warning that names the file.
    #[track_caller]
    fn assert_falls_back(&self, newest: &Path, why: &str) {
        let search = self.search();
        assert_eq!(search.found.unwrap().step, 1);
        let [warning] = search.warnings.as_slice() else { panic!("{:?}", search.warnings) };
        assert!(warning.contains(&newest.display().to_string()) && warning.contains(why), "{warning}");
    }
}

fn values(run: &Run) -> Vec<Tensor> {
    tensors(&run.model, &run.optimizer).map(|(_, tensor)| tensor.detach().copy()).collect()
}

#[test]
fn training_goes_on_from_a_checkpoint_as_if_it_had_never_stopped() {
    let (mut straight, _) = Run::two_checkpoints();
    let mut resumed = run(1);
    let found = straight.search().found.unwrap();
    found.restore(&mut resumed.model, &mut resumed.optimizer).unwrap();
    resumed.step = found.step;
    for run in [&mut straight, &mut resumed] {
        run.train();
        run.train();
    }
    assert_eq!(values(&straight), values(&resumed));
}

#[test]
fn skipped_steps_are_counted_on_across_a_checkpoint_and_without_any_there_is_no_word_of_them() {
    let mut straight = run(1);
    straight.train();
    let plain = straight.save("a1");
    assert_eq!(TensorFile::open(&plain).unwrap().metadata(SKIPPED), None);
    let bad =
        Gradients::from_tensors(straight.model.parameters().iter().map(|it| Some(&it.value * f64::NAN)).collect());
    assert_eq!(straight.optimizer.step(straight.model.parameters_mut(), bad, 0.1), Outcome::NonFinite);
    straight.step += 1;
    straight.save("a1");
    let mut resumed = run(1);
    straight.search().found.unwrap().restore(&mut resumed.model, &mut resumed.optimizer).unwrap();
    assert_eq!(resumed.optimizer.skipped(), Skipped { total: 1, in_a_row: 1 });
    assert_eq!(values(&resumed), values(&straight));
    // And one that counts none takes the count back.
    Found { path: plain, step: 1 }.restore(&mut resumed.model, &mut resumed.optimizer).unwrap();
    assert_eq!(resumed.optimizer.skipped(), Skipped::default());
}

#[test]
fn no_folder_and_an_empty_folder_hold_no_checkpoint() {
    let folder = tempdir().unwrap();
    assert_eq!(latest_valid(folder.path(), &basis()).unwrap(), Search::default());
    assert_eq!(latest_valid(&folder.path().join("none"), &basis()).unwrap(), Search::default());
}

#[test]
fn the_newest_step_of_any_attempt_is_found_and_other_files_do_not_matter() {
    let (mut run, _) = Run::two_checkpoints();
    run.train();
    let newest = run.save("a0");
    fs::write(run.attempt("a0").join("notes.txt"), "").unwrap();
    fs::write(run.attempt("a0").join("step-000009.safetensors.partial"), "").unwrap();
    fs::write(run.folder.path().join("step-000009.safetensors"), "").unwrap();
    assert_eq!(run.search(), Search { found: Some(Found { path: newest, step: 3 }), warnings: vec![] });
}

#[test]
fn a_truncated_checkpoint_is_passed_over() {
    let (run, newest) = Run::two_checkpoints();
    let whole = fs::read(&newest).unwrap();
    for length in [0, 7, whole.len() / 2, whole.len() - 1] {
        fs::write(&newest, &whole[..length]).unwrap();
        run.assert_falls_back(&newest, "bytes instead of");
    }
}

#[test]
fn a_checkpoint_with_a_flipped_bit_is_passed_over() {
    let (run, newest) = Run::two_checkpoints();
    let whole = fs::read(&newest).unwrap();
    for at in [0, 9, 40, whole.len() / 2, whole.len() - 1] {
        let mut content = whole.clone();
        content[at] ^= 4;
        fs::write(&newest, content).unwrap();
        run.assert_falls_back(&newest, "content has changed");
    }
}

#[test]
fn a_checkpoint_whose_second_file_is_missing_or_damaged_is_passed_over() {
    let (run, newest) = Run::two_checkpoints();
    let seal = seal_of(&newest);
    let whole = fs::read_to_string(&seal).unwrap();
    fs::write(&seal, &whole[..whole.len() / 2]).unwrap();
    run.assert_falls_back(&newest, "step-000002.json");
    fs::write(&seal, whole.replace("\"step\":2", "\"step\":6")).unwrap();
    run.assert_falls_back(&newest, "says step 6");
    fs::remove_file(&seal).unwrap();
    run.assert_falls_back(&newest, "step-000002.json is missing");
}

#[test]
fn a_kill_at_any_moment_of_writing_leaves_the_older_checkpoint() {
    let (mut run, second) = Run::two_checkpoints();
    run.train();
    let third = run.save("a1");
    let (tensors, seal) = (fs::read(&third).unwrap(), fs::read(seal_of(&third)).unwrap());
    let partial = |path: &Path| PathBuf::from(format!("{}.partial", path.display()));
    let remove_third = || {
        for path in [third.clone(), seal_of(&third), partial(&third), partial(&seal_of(&third))] {
            let _ = fs::remove_file(path);
        }
    };
    // (written so far, the step that must be found)
    for moment in 0..5 {
        remove_third();
        match moment {
            0 => fs::write(partial(&third), &tensors[..tensors.len() / 3]).unwrap(),
            1 => fs::write(partial(&third), &tensors).unwrap(),
            2 => fs::write(&third, &tensors).unwrap(),
            3 => {
                fs::write(&third, &tensors).unwrap();
                fs::write(partial(&seal_of(&third)), &seal[..9]).unwrap();
            }
            _ => {
                fs::write(&third, &tensors).unwrap();
                fs::write(seal_of(&third), &seal).unwrap();
            }
        }
        let found = run.search().found.unwrap();
        let expected = if moment == 4 { &third } else { &second };
        assert_eq!(&found.path, expected, "moment {moment}");
        // And writing it again succeeds over what is left.
        assert_eq!(run.save("a1"), third);
        assert_eq!(run.search().found.unwrap().step, 3);
    }
}

#[test]
fn pruning_keeps_the_newest_whole_ones_of_its_own_attempt() {
    let (mut run, _) = Run::two_checkpoints();
    run.save("other");
    run.train();
    run.save("a1");
    // A torn one must not count as one of those that are kept.
    fs::write(run.attempt("a1").join("step-000099.safetensors"), "torn").unwrap();
    fs::write(run.attempt("a1").join("step-000004.safetensors.partial"), "torn").unwrap();
    prune(&run.attempt("a1"), 2).unwrap();
    let names = |attempt: &str| -> Vec<String> {
        let paths = list(&run.attempt(attempt)).unwrap();
        paths.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    };
    let of = |step: u64| [format!("step-{step:06}.json"), format!("step-{step:06}.safetensors")];
    assert_eq!(names("a1"), [of(2), of(3)].concat());
    assert_eq!(names("other"), of(2));
}

#[test]
fn the_checkpoint_of_another_model_is_refused_and_changes_nothing() {
    let (small, _) = Run::two_checkpoints();
    let mut large = run(2);
    let before = values(&large);
    let error = small.search().found.unwrap().restore(&mut large.model, &mut large.optimizer).unwrap_err();
    assert!(error.to_string().contains("parameter/encoder.layer.1.output.dense.weight is missing"), "{error}");
    assert_eq!(values(&large), before);
}

#[test]
fn a_checkpoint_that_was_trained_on_something_else_is_passed_over_and_kept() {
    let (run, newest) = Run::two_checkpoints();
    let other = json!({ "targets": "others" });
    let search = latest_valid(run.folder.path(), &other).unwrap();
    assert_eq!(search.found, None);
    assert!(search.warnings[0].contains("is skipped: it was trained on other targets"), "{:?}", search.warnings);
    assert!(newest.exists());
    save(&run.attempt("a2"), 1, &run.model, &run.optimizer, &other).unwrap();
    assert_eq!(latest_valid(run.folder.path(), &other).unwrap().found.unwrap().step, 1);
    assert_eq!(run.search().found.unwrap().path, newest);
}

#[test]
fn checkpoints_of_other_attempts_that_are_behind_are_removed_and_those_ahead_stay() {
    let (mut run, _) = Run::two_checkpoints();
    run.train();
    run.save("ahead");
    prune_others(&run.attempt("a1"), 2).unwrap();
    assert!(run.attempt("a1").exists() && run.attempt("ahead").exists());
    prune_others(&run.attempt("ahead"), 3).unwrap();
    assert!(!run.attempt("a1").exists() && run.attempt("ahead").exists());
}

#[test]
fn a_full_disk_is_told_apart_and_leaves_the_older_checkpoint() {
    let (mut run, newest) = Run::two_checkpoints();
    run.train();
    // Writing to /dev/full fails as a full disk does.
    let unfinished = crate::durable::unfinished(&run.attempt("a1").join("step-000003.safetensors"));
    std::os::unix::fs::symlink("/dev/full", unfinished).unwrap();
    let error = save(&run.attempt("a1"), 3, &run.model, &run.optimizer, &json!({})).unwrap_err();
    assert!(matches!(error, CheckpointError::Write(WriteError::DiskFull { .. })), "{error}");
    assert!(error.to_string().contains("step-000003.safetensors"), "{error}");
    assert_eq!(run.search().found.unwrap().path, newest);
}
