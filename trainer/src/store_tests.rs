use bam_crds::Science;
use bam_crds::store::Machine;
use serde_json::json;

use super::*;

fn manifest(science: &Science, attempt: &str, files: Files) -> Manifest {
    let machine = Machine {
        device: "cpu".into(),
        threads: 1,
        instruction_set: "avx2".into(),
        micro_batch_tokens: 2048,
        trainer: "0.1.0".into(),
    };
    let (science_hash, science) = (science.hash(), science.clone());
    Manifest { science_hash, science, files, used_targets: BTreeMap::new(), machine, attempt: attempt.into() }
}

#[test]
fn who_finishes_second_changes_nothing_of_what_the_first_one_left() {
    let digest = Digest::of_bytes(b"");
    let science: Science = serde_json::from_value(json!({
        "semanticsVersion": 1,
        "model": { "config": digest, "vocabulary": digest },
        "tasks": [{ "name": "rte", "train": digest, "dev": digest }],
        "seed": 1,
    }))
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let run = || Store::open(folder.path()).unwrap().run(&science.hash());
    let place = |run: &RunFolder, name: &str, bytes: &[u8]| (name.to_owned(), run.place(name, bytes).unwrap());

    // Both have begun; the second one is on another kind of machine, and gets to other bytes.
    let (first, second) = (run(), run());
    let mut late = Files::from([place(&second, "targets", b"of the second")]);
    let files = Files::from([place(&first, "targets", b"of the first"), place(&first, "weights", b"of the first")]);
    first.finish(&manifest(&science, "first", files.clone())).unwrap();
    late.extend([place(&second, "targets", b"of the second"), place(&second, "weights", b"of the second")]);
    second.finish(&manifest(&science, "second", late)).unwrap();

    let whole = run().whole().unwrap().expect("it is whole");
    assert_eq!((whole.attempt.as_str(), whole.files), ("first", files));
    assert_eq!(fs::read(first.path("weights")).unwrap(), b"of the first");
    let left = fs::read_dir(first.path("")).unwrap().count();
    assert_eq!(left, 3, "two files and the manifest, and nothing unfinished");
}
