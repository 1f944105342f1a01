use super::*;
use crate::model::{Dropout, MicroBatch, Row};
use std::fs;

const CONFIG: &str = r#"{"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 12, "max_position_embeddings": 32}"#;

fn model(seed: u64) -> Model {
    let heads = vec![Head { task: "rte".into(), outputs: 2 }, Head { task: "sts".into(), outputs: 1 }];
    Model::random(serde_json::from_str(CONFIG).unwrap(), heads, seed, Device::Cpu)
}

const VOCABULARY: &str = "vocab.txt";

fn store(folder: &Path, tensors: &[(String, Tensor)]) -> WeightsFiles {
    let path = folder.join(WEIGHTS);
    let file = File::create(&path).unwrap();
    write_tensors(&file, tensors.iter().map(|(name, tensor)| (name.clone(), tensor)), &[]).unwrap();
    WeightsFiles::Safetensors(path)
}

/// The encoder's tensors of a model, by name.
fn encoder(model: &Model) -> Vec<(String, Tensor)> {
    let parameters = model.parameters().iter().filter(|parameter| !parameter.name.starts_with("heads."));
    parameters.map(|parameter| (parameter.name.clone(), parameter.value.detach())).collect()
}

fn pooled(model: &Model) -> Tensor {
    let rows = [Row { number: 0, input_ids: &[1, 5, 9, 2], second: 3 }];
    tch::no_grad(|| model.pooled(&MicroBatch::pack(&rows, Device::Cpu), &Dropout::off()))
}

#[test]
fn a_saved_model_is_read_back_whole_and_saving_it_again_gives_the_same_bytes() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let saved = model(1);
    saved.save(first.path()).unwrap();
    let loaded = Model::load(first.path(), saved.heads().to_vec(), Device::Cpu).unwrap();
    assert_eq!(loaded.config(), saved.config());
    for (loaded, saved) in loaded.parameters().iter().zip(saved.parameters()) {
        assert_eq!((&loaded.name, &loaded.value), (&saved.name, &saved.value));
        assert!(loaded.value.requires_grad());
    }
    loaded.save(second.path()).unwrap();
    for name in [WEIGHTS, "config.json", "rte/head.safetensors", "sts/head.safetensors"] {
        let content = |folder: &tempfile::TempDir| std::fs::read(folder.path().join(name)).unwrap();
        assert!(content(&first) == content(&second), "{name} differs");
    }
}

#[test]
fn a_saved_model_is_also_a_pretrained_encoder() {
    let folder = tempfile::tempdir().unwrap();
    let saved = model(1);
    saved.save(folder.path()).unwrap();
    fs::write(folder.path().join(VOCABULARY), "[PAD]\n").unwrap();
    let found = Pretrained::find(folder.path(), true).unwrap();
    assert_eq!(&found.config, saved.config());
    let mut other = model(2);
    let report = other.load_encoder(&found.weights.unwrap(), 1).unwrap();
    assert_eq!(report.ignored, Vec::<String>::new());
    assert_eq!(report.loaded.len(), 5 + 2 * 16 + 2);
    assert_eq!(pooled(&other), pooled(&saved));
}

#[test]
fn old_names_prefixes_and_the_pre_training_heads_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let source = model(1);
    let mut tensors: Vec<(String, Tensor)> = encoder(&source)
        .into_iter()
        .map(|(name, tensor)| {
            let name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
            (format!("bert.{name}"), tensor)
        })
        .collect();
    for ignored in ["cls.predictions.bias", "bert.embeddings.position_ids"] {
        tensors.push((ignored.into(), Tensor::from_slice(&[1.0f32])));
    }
    let mut target = model(2);
    let report = target.load_encoder(&store(folder.path(), &tensors), 20).unwrap();
    assert_eq!(report.ignored, ["bert.embeddings.position_ids", "cls.predictions.bias"]);
    assert_eq!((report.missing.len(), report.warnings.len()), (0, 0));
    assert_eq!(pooled(&target), pooled(&source));
}

#[test]
fn half_precision_files_are_converted() {
    for (kind, name) in [(Kind::BFloat16, "BF16"), (Kind::Half, "F16")] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(WEIGHTS);
        let source = model(1);
        write_half(&path, &encoder(&source), kind, name);
        let mut target = model(2);
        target.load_encoder(&WeightsFiles::Safetensors(path), 20).unwrap();
        let expected = source.parameters()[0].value.detach().to_kind(kind).to_kind(Kind::Float);
        assert_eq!(target.parameters()[0].value.kind(), Kind::Float);
        assert_eq!(target.parameters()[0].value.detach(), expected);
    }
}

/// A safetensors file of 16-bit numbers, written by the format's own library.
fn write_half(path: &Path, tensors: &[(String, Tensor)], kind: Kind, name: &str) {
    use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
    let dtype = if name == "F16" { Dtype::F16 } else { Dtype::BF16 };
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let mut bytes = vec![0; 2 * tensor.numel()];
            tensor.to_kind(kind).copy_data_u8(&mut bytes, tensor.numel());
            (name.clone(), tensor.size().iter().map(|&size| size as usize).collect(), bytes)
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| (name, TensorView::new(dtype, shape.clone(), bytes).unwrap()));
    serialize_to_file(views, None, path).unwrap();
}

#[test]
fn a_missing_pooler_stays_random_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors = encoder(&model(1));
    tensors.retain(|(name, _)| !name.starts_with("pooler."));
    let mut target = model(2);
    let report = target.load_encoder(&store(folder.path(), &tensors), 20).unwrap();
    assert_eq!(report.missing, ["pooler.dense.weight", "pooler.dense.bias"]);
    assert!(report.warnings[0].contains(WEIGHTS) && report.warnings[0].contains("pooler"), "{:?}", report.warnings);
}

#[test]
fn every_missing_or_misshapen_tensor_is_named_and_nothing_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors = encoder(&model(1));
    tensors.retain(|(name, _)| name != "encoder.layer.0.output.dense.bias");
    tensors[0].1 = Tensor::zeros([19, 8], (Kind::Float, Device::Cpu));
    tensors[7].1 = Tensor::zeros([7], (Kind::Float, Device::Cpu));
    let mut target = model(2);
    let before = pooled(&target);
    let error = target.load_encoder(&store(folder.path(), &tensors), 19).unwrap_err().to_string();
    let expected = [
        WEIGHTS,
        "word_embeddings.weight is [19, 8]",
        "[20, 8]",
        &tensors[7].0,
        "layer.0.output.dense.bias [8] is missing",
    ];
    for part in expected {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
    assert_eq!(pooled(&target), before);
}

#[test]
fn an_encoder_with_fewer_word_pieces_than_the_vocabulary_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = store(folder.path(), &encoder(&model(1)));
    let error = model(2).load_encoder(&path, 21).unwrap_err().to_string();
    assert!(error.contains("20 word pieces") && error.contains("vocabulary has 21"), "{error}");
}

#[test]
fn files_that_are_no_safetensors_are_refused_without_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let files = store(folder.path(), &encoder(&model(1)));
    let path = files.path();
    let whole = fs::read(&path).unwrap();
    let cut = &whole[..whole.len() - 1];
    let lying = [&u64::MAX.to_le_bytes()[..], &whole[8..]].concat();
    for content in [&b""[..], b"no", b"not a safetensors file", cut, &whole[..100], &lying] {
        fs::write(&path, content).unwrap();
        let error = model(2).load_encoder(&files, 20).unwrap_err();
        assert!(matches!(error, WeightsError::File(TensorFileError::Malformed { .. })), "{error}");
        assert!(error.to_string().contains(WEIGHTS), "{error}");
    }
}

#[test]
fn a_folder_without_what_is_needed_says_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let error = Pretrained::find(folder.path(), true).unwrap_err().to_string();
    for part in ["config.json", VOCABULARY, WEIGHTS] {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
    fs::write(folder.path().join("bert_config.json"), CONFIG).unwrap();
    fs::write(folder.path().join(VOCABULARY), "[PAD]\n").unwrap();
    assert!(Pretrained::find(folder.path(), false).unwrap().weights.is_none());
    fs::write(folder.path().join("bert_model.ckpt.index"), "").unwrap();
    let error = Pretrained::find(folder.path(), true).unwrap_err().to_string();
    assert!(error.contains("lacks bert_model.ckpt.data-00000-of-00001;"), "{error}");
}

/// Makes a folder of Google's: the golden checkpoint.
fn googles(folder: &Path) {
    for entry in fs::read_dir("tests/golden/checkpoint").unwrap() {
        let file = entry.unwrap();
        fs::copy(file.path(), folder.join(file.file_name())).unwrap();
    }
}

#[test]
fn of_weights_in_both_formats_safetensors_are_taken_and_a_warning_says_so() {
    let folder = tempfile::tempdir().unwrap();
    googles(folder.path());
    let found = Pretrained::find(folder.path(), true).unwrap();
    assert!(matches!(found.weights, Some(WeightsFiles::TensorFlow { .. })) && found.passed_over.is_none());

    store(folder.path(), &encoder(&model(1)));
    let found = Pretrained::find(folder.path(), true).unwrap();
    assert!(matches!(found.weights, Some(WeightsFiles::Safetensors(_))));
    let (loaded, report) = Model::pretrained(&found, Vec::new(), (1, 20), Device::Cpu).unwrap();
    assert_eq!(pooled(&loaded), pooled(&model(1)));
    let [warning] = report.warnings.as_slice() else { panic!("{:?}", report.warnings) };
    assert!(warning.contains("model.safetensors is taken") && warning.contains("bert_model.ckpt"), "{warning}");
}

#[test]
fn a_checkpoint_is_known_by_both_its_files() {
    let folder = tempfile::tempdir().unwrap();
    googles(folder.path());
    let weights = Pretrained::find(folder.path(), true).unwrap().weights.unwrap();
    let before = weights.digest().unwrap();
    let (index, data) =
        (folder.path().join("bert_model.ckpt.index"), folder.path().join("bert_model.ckpt.data-00000-of-00001"));
    let concatenated = folder.path().join("both");
    fs::write(&concatenated, [fs::read(&index).unwrap(), fs::read(&data).unwrap()].concat()).unwrap();
    assert_eq!(before, WeightsFiles::Safetensors(concatenated).digest().unwrap());
    for path in [index, data] {
        let whole = fs::read(&path).unwrap();
        let mut changed = whole.clone();
        changed[10] ^= 1;
        fs::write(&path, changed).unwrap();
        assert_ne!(weights.digest().unwrap(), before, "{}", path.display());
        fs::write(&path, whole).unwrap();
    }
    assert_eq!(weights.path(), folder.path().join("bert_model.ckpt"));
}

#[test]
fn a_checkpoint_of_another_size_is_refused_with_every_difference() {
    let folder = tempfile::tempdir().unwrap();
    googles(folder.path());
    let mut found = Pretrained::find(folder.path(), true).unwrap();
    found.config.intermediate_size = 16;
    found.config.num_hidden_layers = 3;
    let error = found.check_weights().unwrap_err().to_string();
    for part in [
        "bert_model.ckpt does not fit",
        "encoder.layer.0.intermediate.dense.weight is [12, 8] in the file, [16, 8] by the configuration",
        "encoder.layer.1.output.dense.weight is [8, 12]",
        "encoder.layer.2.attention.self.query.weight [8, 8] is missing",
    ] {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
}

#[test]
fn a_folder_that_is_not_there_is_said_to_be_missing_itself() {
    let folder = tempfile::tempdir().unwrap();
    let error = Pretrained::find(&folder.path().join("uncased"), true).unwrap_err();
    assert!(matches!(error, WeightsError::Incomplete { .. }), "{error}");
    assert!(error.to_string().contains("there is no such folder"), "{error}");
    let error = Pretrained::find(folder.path(), true).unwrap_err().to_string();
    assert!(!error.contains("no such folder"), "{error}");
}

#[test]
fn a_file_that_cannot_be_looked_at_is_not_said_to_be_missing() {
    let folder = tempfile::tempdir().unwrap();
    // A link to itself: an error even for a user who may read everything.
    std::os::unix::fs::symlink(VOCABULARY, folder.path().join(VOCABULARY)).unwrap();
    let error = Pretrained::find(folder.path(), true).unwrap_err();
    assert!(matches!(error, WeightsError::Unreadable { .. }) && error.may_pass(), "{error}");
    assert!(error.to_string().contains(VOCABULARY), "{error}");
}
