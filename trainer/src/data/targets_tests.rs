//! Files of targets: there and back, and broken ones.

use super::*;
use proptest::prelude::*;

fn targets() -> Targets {
    Targets {
        task: "mnli".into(),
        labels: ["contradiction", "entailment", "neutral"].map(String::from).to_vec(),
        eids: vec![0, 1, 5],
        row_hashes: vec![1, u64::MAX, 1 << 63],
        logits: vec![0.5, -1.0, 2.0, f32::MIN_POSITIVE, 1e30, -0.0, 3.25, 4.0, 5.0],
    }
}

#[test]
fn targets_come_back_from_a_file_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mnli.safetensors");
    let scores = Targets { task: "sts".into(), labels: vec![], logits: vec![0.1, 0.9, -0.1], ..targets() };
    for targets in [targets(), scores] {
        std::fs::write(&path, targets.to_bytes()).unwrap();
        assert_eq!(Targets::read(&path).unwrap(), targets);
    }
}

#[test]
fn the_same_targets_are_the_same_bytes() {
    let bytes = targets().to_bytes();
    assert!((0..20).all(|_| targets().to_bytes() == bytes));
    let header = String::from_utf8(bytes[8..].iter().copied().take_while(|b| *b < 0x80).collect()).unwrap();
    assert!(
        header.starts_with(r#"{"__metadata__":{"targets":"{\"format\":\"bam-targets-1\",\"task\":\"mnli\""#),
        "{header}"
    );
    assert!(header.contains(r#""logits":{"dtype":"F32","shape":[3,3]"#), "{header}");
}

#[test]
fn a_broken_file_is_refused_with_what_is_wrong() {
    let path = Path::new("t/mnli.safetensors");
    let refuse = |bytes: &[u8]| Targets::from_bytes(bytes, path).unwrap_err().to_string();
    let whole = targets().to_bytes();
    let message = refuse(&whole[..whole.len() - 1]);
    assert!(message.starts_with("t/mnli.safetensors: not a file of targets: "), "{message}");
    assert!(message.ends_with("; train the teacher again"), "{message}");
    assert!(refuse(b"").contains("not a file of targets"));

    // The numbers keep their width, so the header stays whole.
    let swap = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = whole.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
        [&whole[..at], to.as_bytes(), &whole[at + from.len()..]].concat()
    };
    assert!(refuse(&swap("bam-targets-1", "bam-targets-9")).contains("its format is \"bam-targets-9\""));
    assert!(refuse(&swap("\"targets\"", "\"targetz\"")).contains("its metadata say nothing of targets"));
    assert!(refuse(&swap("\"row_hash\"", "\"row_hush\"")).contains("it has no tensor \"row_hash\""));
    assert!(refuse(&swap("\\\"neutral\\\"", "\\\"a\\\",\\\"b\\\"")).contains("do not fit together"));
    assert!(refuse(&swap("\"F32\",\"shape\":[3,3]", "\"I32\",\"shape\":[3,3]")).contains("holds I32 and not F32"));

    let twice = Targets { eids: vec![0, 5, 5], ..targets() };
    assert!(refuse(&twice.to_bytes()).contains("the example id 5 stands twice"));
    let missing = Targets::read(Path::new("no/such/file")).unwrap_err();
    assert!(missing.is_missing_input() && !missing.may_pass());
}

proptest! {
    #[test]
    fn damaged_bytes_are_refused_or_read_but_never_panic(
        at in 0usize..400,
        to: u8,
        cut in 0usize..400,
    ) {
        let mut bytes = targets().to_bytes();
        let length = bytes.len();
        bytes[at % length] = to;
        bytes.truncate(length - cut % length);
        let _ = Targets::from_bytes(&bytes, Path::new("f"));
    }
}
