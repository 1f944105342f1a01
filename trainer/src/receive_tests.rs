use std::fs;

use bam_crds::store::Machine;
use bam_crds::{Digest, Science};
use serde_json::json;
use tempfile::TempDir;

use super::*;

const FILES: [(&str, &str); 3] =
    [("model/model.safetensors", "weights"), ("report.json", "{}"), ("targets/rte", "logits")];

/// A run of this seed, as its manifest tells of it.
fn run(seed: u32) -> Manifest {
    let digest = Digest::of_bytes(b"");
    let science: Science = serde_json::from_value(json!({
        "semanticsVersion": 1, "model": { "config": digest, "vocabulary": digest },
        "tasks": [{ "name": "rte", "train": digest, "dev": digest }], "seed": seed,
    }))
    .unwrap();
    let artifact =
        |content: &str| Artifact { sha256: Digest::of_bytes(content.as_bytes()), bytes: content.len() as u64 };
    Manifest {
        science_hash: science.hash(),
        science,
        files: FILES.iter().map(|(name, content)| ((*name).to_owned(), artifact(content))).collect(),
        used_targets: Default::default(),
        machine: Machine {
            device: "cpu".into(),
            threads: 1,
            instruction_set: "avx2".into(),
            micro_batch_tokens: 2048,
            trainer: "0.1.0".into(),
        },
        attempt: "at-home".into(),
    }
}

fn stream(runs: &[Manifest], content: &str) -> Vec<u8> {
    let offer = serde_json::to_string(&Offer { runs: runs.to_vec() }).unwrap();
    format!("{offer}\n{content}").into_bytes()
}

/// What is in a run's folder, if there is one.
fn files(store: &TempDir, manifest: &Manifest) -> Vec<String> {
    let folder = store.path().join(bam_crds::store::run(&manifest.science_hash));
    let below = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|it| it.path());
    let all = below(&folder).flat_map(|path| if path.is_dir() { below(&path).collect() } else { vec![path] });
    let mut names: Vec<_> = all.map(|path| path.strip_prefix(&folder).unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn received(store: &TempDir, stream: &[u8]) -> (Vec<Answer>, Result<(), Failure>) {
    let mut said = Vec::new();
    let ended = receive(&Store::open(store.path()).unwrap(), stream, &mut said);
    let said = String::from_utf8(said).unwrap();
    (said.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), ended)
}

const WHOLE: &str = "weights{}logits";

#[test]
fn what_is_not_there_comes_and_what_is_there_is_not_sent() {
    let (store, first, second) = (tempfile::tempdir().unwrap(), run(1), run(2));
    let (hash, other) = (first.science_hash.clone(), second.science_hash.clone());
    let (said, ended) = received(&store, &stream(std::slice::from_ref(&first), WHOLE));
    ended.unwrap();
    assert_eq!(said, [Answer::Wants(vec![hash.clone()]), Answer::Placed(hash.clone())]);
    assert_eq!(Store::open(store.path()).unwrap().run(&hash).whole().unwrap(), Some(first.clone()));
    let (said, ended) = received(&store, &stream(&[first, second], WHOLE));
    ended.unwrap();
    assert_eq!(said, [Answer::Wants(vec![other.clone()]), Answer::Placed(other)]);
}

#[test]
fn wherever_the_stream_breaks_off_nothing_counts_and_the_next_one_is_as_good_as_the_first() {
    let manifest = run(1);
    let whole = stream(std::slice::from_ref(&manifest), WHOLE);
    for length in (0..WHOLE.len()).map(|missing| whole.len() - 1 - missing).chain([0, 1, 100]) {
        let store = tempfile::tempdir().unwrap();
        let (_, ended) = received(&store, &whole[..length]);
        let failure = ended.unwrap_err();
        assert!(failure.message.contains("broke off at") && failure.message.contains("push again"), "{failure}");
        assert_eq!(failure.reason, ExitReason::StoreUnavailable);
        let left = files(&store, &manifest);
        assert!(left.iter().all(|name| FILES.iter().any(|(file, _)| name == file)), "{length}: {left:?}");
        received(&store, &whole).1.unwrap();
        assert_eq!(files(&store, &manifest), ["manifest.json", FILES[0].0, FILES[1].0, FILES[2].0]);
    }
}

#[test]
fn what_is_damaged_is_refused_by_name_and_the_next_run_comes_all_the_same() {
    let (store, first, second) = (tempfile::tempdir().unwrap(), run(1), run(2));
    let sent = format!("weightz{{}}logitz{WHOLE}");
    let (said, ended) = received(&store, &stream(&[first.clone(), second.clone()], &sent));
    let (bad, good) = (first.science_hash.clone(), second.science_hash.clone());
    let files_of_it = vec![FILES[0].0.to_owned(), FILES[2].0.to_owned()];
    let damaged = Answer::Damaged { run: bad.clone(), files: files_of_it };
    assert_eq!(said, [Answer::Wants(vec![bad, good.clone()]), damaged, Answer::Placed(good)]);
    let failure = ended.unwrap_err();
    assert_eq!(failure.reason, ExitReason::BadData);
    assert!(failure.message.contains("model/model.safetensors, targets/rte"), "{failure}");
    assert!(files(&store, &first).is_empty(), "{:?}", files(&store, &first));
}

#[test]
fn a_run_that_is_damaged_in_the_store_is_set_aside_and_comes_again() {
    let (store, manifest) = (tempfile::tempdir().unwrap(), run(1));
    let whole = stream(std::slice::from_ref(&manifest), WHOLE);
    received(&store, &whole).1.unwrap();
    let folder = store.path().join(bam_crds::store::run(&manifest.science_hash));
    fs::write(folder.join("report.json"), "[]").unwrap();
    received(&store, &whole).1.unwrap();
    assert_eq!(fs::read_to_string(folder.join("report.json")).unwrap(), "{}");
    assert_eq!(fs::read_to_string(folder.with_extension("damaged-1").join("report.json")).unwrap(), "[]");
}

#[test]
fn what_is_no_run_is_refused_before_anything_is_written() {
    let bad = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = run(1);
        change(&mut manifest);
        stream(&[manifest], WHOLE)
    };
    let named = |name: &'static str| {
        bad(&move |manifest| drop(manifest.files.insert(name.into(), manifest.files["report.json"].clone())))
    };
    for (what, stream, words) in [
        ("another run's manifest", bad(&|manifest| manifest.science.seed = 7), "is that of another run"),
        ("a file elsewhere", named("../../glue_data/rte/train.tsv"), "no place in a run's folder"),
        ("a file at the root", named("/etc/passwd"), "no place in a run's folder"),
        ("the manifest itself", named("manifest.json"), "no place in a run's folder"),
        ("a checkpoint", named("checkpoints/run-1/step-1.json"), "no place in a run's folder"),
        ("no offer", b"hello\n".to_vec(), "no offer of runs"),
    ] {
        let store = tempfile::tempdir().unwrap();
        let (said, ended) = received(&store, &stream);
        let failure = ended.unwrap_err();
        assert!(failure.reason == ExitReason::BadConfig && failure.message.contains(words), "{what}: {failure}");
        assert!(said.is_empty() && fs::read_dir(store.path()).unwrap().next().is_none(), "{what}");
    }
}
