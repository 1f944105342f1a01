//! The data side against peers: tokenizer, truncation and metrics by golden files
//! (`tests/parity/README.md` says who wrote them), and the real GLUE files by their known counts.
//!
//! Golden files come from `BAM_GOLDEN_DIR`, else from `tests/golden`. Tests on real data need
//! `BAM_GLUE_DIR`, the folder that holds `glue_data`; without it they say so and pass.

use bam_trainer::data::features::{Features, featurise, layout, truncate_pair};
use bam_trainer::data::rows::{DEBUG_LINES, Label, Row, read_split};
use bam_trainer::data::tokenize::Tokenizer;
use bam_trainer::metrics::{argmax, majority_baseline, of_classes, of_scores};
use bam_trainer::task::{Metric, Split, Task, find, names};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn golden_dir() -> PathBuf {
    match std::env::var_os("BAM_GOLDEN_DIR") {
        Some(dir) => dir.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"),
    }
}

fn golden<T: DeserializeOwned>(file: &str) -> T {
    let path = golden_dir().join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

// ---- tokenizer ---------------------------------------------------------------------------------

#[derive(Deserialize)]
struct Tokenization {
    vocab: String,
    cases: Vec<TokenizerCase>,
}

#[derive(Deserialize)]
struct TokenizerCase {
    text: String,
    lower: bool,
    pieces: Vec<String>,
    ids: Vec<u32>,
}

#[test]
fn every_awkward_text_becomes_the_pieces_of_the_reference() {
    let golden: Tokenization = golden("tokenizer.json");
    let vocab = golden_dir().join(&golden.vocab);
    let tokenizers = [true, false].map(|lower| (lower, Tokenizer::from_vocab(&vocab, lower).unwrap()));
    assert!(golden.cases.len() > 100);
    let mut wrong = Vec::new();
    for case in &golden.cases {
        let tokenizer = &tokenizers.iter().find(|(lower, _)| *lower == case.lower).unwrap().1;
        let ids = tokenizer.encode(&case.text);
        if ids != case.ids {
            wrong.push(format!("{:?} lower {}: {:?} {:?}, got {ids:?}", case.text, case.lower, case.pieces, case.ids));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), golden.cases.len(), wrong.join("\n"));
}

#[derive(Deserialize)]
struct Generated {
    vocab: String,
    cases: Vec<GeneratedCase>,
}

#[derive(Deserialize)]
struct GeneratedCase {
    kind: String,
    text: String,
    lower: bool,
    ids: Vec<u32>,
    /// Why transformers' tokenizer in Python has other pieces, if it has.
    slow: Option<String>,
    /// Whether its tokenizer in Rust has.
    fast: Option<String>,
}

#[test]
fn ten_thousand_generated_texts_become_the_ids_of_the_reference_also_where_the_peers_differ_from_it() {
    let golden: Generated = golden("tokenizer_generated.json");
    let vocab = golden_dir().join(&golden.vocab);
    let [lower, cased] = [true, false].map(|lower| Tokenizer::from_vocab(&vocab, lower).unwrap());
    let texts: BTreeSet<&str> = golden.cases.iter().map(|case| case.text.as_str()).collect();
    assert!(texts.len() >= 10_000, "{} texts", texts.len());
    let enough = |what: &str, has: fn(&str) -> bool| {
        let count = texts.iter().filter(|text| has(text)).count();
        assert!(count >= 100, "{count} texts have {what}");
    };
    enough("combining marks", |text| text.contains(|c| ('\u{300}'..'\u{370}').contains(&c)));
    enough("CJK extensions", |text| text.contains(|c| ('\u{20000}'..'\u{31350}').contains(&c)));
    enough("emoji joiners", |text| text.contains("\u{200d}"));
    enough("control characters", |text| text.contains(char::is_control));
    enough("words of 200 characters", |text| text.split(' ').any(|word| word.chars().count() >= 200));
    let wrong: Vec<String> = (golden.cases.iter())
        .filter(|case| if case.lower { &lower } else { &cased }.encode(&case.text) != case.ids)
        .map(|case| format!("{}: {:?}, lower {}: {:?}", case.kind, case.text, case.lower, case.ids))
        .collect();
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), golden.cases.len(), wrong.join("\n"));
    let differs =
        |peer: fn(&GeneratedCase) -> &Option<String>| golden.cases.iter().filter(|it| peer(it).is_some()).count();
    let (slow, fast) = (differs(|case| &case.slow), differs(|case| &case.fast));
    println!(
        "the slow peer differs from the reference on {slow} texts, the fast one on {fast}: this tokenizer on none"
    );
    assert!(slow > 0 && fast > 0, "the texts are not awkward enough");
}

// ---- truncation --------------------------------------------------------------------------------

#[derive(Deserialize)]
struct Truncation {
    pairs: Vec<PairCase>,
    singles: Vec<SingleCase>,
    layouts: Vec<LayoutCase>,
}

#[derive(Deserialize)]
struct PairCase {
    a: usize,
    b: usize,
    max_seq_length: usize,
    kept_a: usize,
    kept_b: usize,
}

#[derive(Deserialize)]
struct SingleCase {
    a: usize,
    max_seq_length: usize,
    kept_a: usize,
}

#[derive(Deserialize)]
struct LayoutCase {
    a: Vec<u32>,
    b: Option<Vec<u32>>,
    max_seq_length: usize,
    input_ids: Vec<u32>,
    input_mask: Vec<u32>,
    segment_ids: Vec<u32>,
}

#[test]
fn pairs_and_singles_are_cut_as_the_peer_cuts_them() {
    let golden: Truncation = golden("truncation.json");
    for case in &golden.pairs {
        let kept = truncate_pair(case.a, case.b, case.max_seq_length - 3);
        assert_eq!(kept, (case.kept_a, case.kept_b), "{}, {} within {}", case.a, case.b, case.max_seq_length);
    }
    for case in &golden.singles {
        let mut ids = Vec::new();
        layout(&vec![7; case.a], &[], (1, 2), case.max_seq_length, &mut ids);
        assert_eq!(ids.len(), case.kept_a + 2, "{} within {}", case.a, case.max_seq_length);
    }
}

#[test]
fn rows_are_laid_out_as_the_peer_lays_them_out() {
    let ends = (101, 102);
    for case in golden::<Truncation>("truncation.json").layouts {
        let mut ids = Vec::new();
        let second = layout(&case.a, case.b.as_deref().unwrap_or(&[]), ends, case.max_seq_length, &mut ids);
        let padded = |values: Vec<u32>| {
            let mut values = values;
            values.resize(case.max_seq_length, 0);
            values
        };
        let segments = Features { ids: &ids, second }.segment_ids().map(u32::from).collect();
        assert_eq!(padded(vec![1; ids.len()]), case.input_mask);
        assert_eq!(padded(segments), case.segment_ids);
        assert_eq!(padded(ids), case.input_ids);
    }
}

// ---- metrics -----------------------------------------------------------------------------------

#[derive(Deserialize)]
struct Metrics {
    classification: Vec<ClassificationCase>,
    regression: Vec<RegressionCase>,
    argmax: Vec<ArgmaxCase>,
}

#[derive(Deserialize)]
struct ClassificationCase {
    name: String,
    predictions: Vec<usize>,
    golds: Vec<usize>,
    accuracy: Option<f64>,
    matthews: Option<f64>,
    #[serde(default)]
    f1: Option<f64>,
    labels: usize,
}

#[derive(Deserialize)]
struct RegressionCase {
    name: String,
    predictions: Vec<f32>,
    golds: Vec<f32>,
    pearson: Option<f64>,
    spearman: Option<f64>,
    mse: Option<f64>,
}

#[derive(Deserialize)]
struct ArgmaxCase {
    logits: Vec<f32>,
    label: usize,
}

/// Ours is a percentage, the peer's a fraction; `scale` says which.
fn close(name: &str, ours: Option<f64>, peer: Option<f64>, scale: f64) {
    match (ours, peer) {
        (None, None) => {}
        (Some(ours), Some(peer)) => {
            let difference = (ours - peer * scale).abs();
            assert!(difference <= 1e-9 * scale.max(peer.abs()), "{name}: {ours} and {}", peer * scale);
        }
        _ => panic!("{name}: {ours:?} and {peer:?}"),
    }
}

#[test]
fn scores_of_classes_equal_scikit_learn() {
    for case in golden::<Metrics>("metrics.json").classification {
        let score = |metric| of_classes(metric, &case.predictions, &case.golds);
        close(&case.name, score(Metric::Accuracy), case.accuracy, 100.0);
        close(&case.name, score(Metric::Mcc), case.matthews, 100.0);
        if case.labels == 2 {
            close(&case.name, score(Metric::F1), case.f1, 100.0);
        }
    }
}

#[test]
fn scores_of_numbers_equal_scipy() {
    for case in golden::<Metrics>("metrics.json").regression {
        let score = |metric| of_scores(metric, &case.predictions, &case.golds);
        close(&case.name, score(Metric::Pearson), case.pearson, 100.0);
        close(&case.name, score(Metric::Spearman), case.spearman, 100.0);
        close(&case.name, score(Metric::Mse), case.mse, 1.0);
    }
}

#[test]
fn the_first_of_several_largest_logits_is_the_answer() {
    for case in golden::<Metrics>("metrics.json").argmax {
        assert_eq!(argmax(&case.logits), case.label, "{:?}", case.logits);
    }
}

// ---- real data ---------------------------------------------------------------------------------

/// The folder of a task's real files, if there is one.
fn glue(test: &str) -> Option<PathBuf> {
    let dir = std::env::var_os("BAM_GLUE_DIR").map(|dir| PathBuf::from(dir).join("glue_data"));
    if dir.is_none() {
        println!("SKIPPED: {test}: BAM_GLUE_DIR is not set");
    }
    dir
}

fn read(glue: &Path, task: &Task, split: Split) -> Vec<Row> {
    read_split(task, &glue.join(&task.name), split, true, None).unwrap()
}

/// The numbers in the tables below are of excerpts of these three, whole files of the others. Who
/// has the whole files of these too has other numbers.
fn is_other_excerpt(task: &str, rows: usize, expected: usize) -> bool {
    let other = ["mnli", "qnli", "qqp"].contains(&task) && rows != expected;
    if other {
        println!("{task}: {rows} rows and not {expected}, so its numbers are not compared");
    }
    other
}

/// Rows per label, in class order.
fn distribution(task: &Task, rows: &[Row]) -> Vec<usize> {
    let mut counts = vec![0; task.labels().len()];
    for row in rows {
        if let Label::Class(class) = row.label {
            counts[usize::from(class)] += 1;
        }
    }
    counts
}

#[test]
fn real_files_have_their_rows_and_labels() {
    let Some(glue) = glue("real_files_have_their_rows_and_labels") else {
        return;
    };
    // Rows of train (swapped copies included) and dev with their labels in class order.
    type Counts = (usize, &'static [usize]);
    let table: [(&str, Counts, Counts); 8] = [
        ("cola", (8_551, &[2_528, 6_023]), (1_043, &[322, 721])),
        ("mnli", (8_999, &[2_958, 3_061, 2_980]), (1_000, &[320, 347, 333])),
        ("mrpc", (7_336, &[2_388, 4_948]), (408, &[129, 279])),
        ("qnli", (9_999, &[5_027, 4_972]), (5_463, &[2_702, 2_761])),
        ("qqp", (29_372, &[18_558, 10_814]), (3_496, &[2_172, 1_324])),
        ("rte", (2_490, &[1_249, 1_241]), (277, &[146, 131])),
        ("sst", (67_349, &[29_780, 37_569]), (872, &[428, 444])),
        ("sts", (11_498, &[]), (1_500, &[])),
    ];
    assert_eq!(table.map(|row| row.0).to_vec(), names().into_iter().filter(|name| *name != "wnli").collect::<Vec<_>>());
    for (name, train, dev) in table {
        let task = find(name).unwrap();
        for (split, (count, labels)) in [(Split::Train, train), (Split::Dev, dev)] {
            let rows = read(&glue, task, split);
            if is_other_excerpt(name, rows.len(), count) {
                continue;
            }
            assert_eq!(rows.len(), count, "{name} {split}");
            assert_eq!(distribution(task, &rows), labels, "{name} {split}");
            assert!(rows.iter().enumerate().all(|(i, row)| row.eid as usize == i), "{name} {split}");
            let in_range = |row: &Row| !matches!(row.label, Label::Score(s) if !(0.0..=1.0).contains(&s));
            assert!(rows.iter().all(in_range), "{name} {split}");
        }
        let debug = read_split(task, &glue.join(name), Split::Train, true, Some(DEBUG_LINES)).unwrap();
        let lines = if name == "cola" { 50 } else { 49 };
        assert_eq!(debug.len(), lines * if task.unordered { 2 } else { 1 }, "{name} in debug mode");
    }
}

#[test]
fn real_test_files_have_their_rows_and_no_labels() {
    let Some(glue) = glue("real_test_files_have_their_rows_and_no_labels") else {
        return;
    };
    for (name, split, count) in [
        ("cola", Split::Test, 1_063),
        ("mnli", Split::Diagnostic, 1_104),
        ("mrpc", Split::Test, 1_725),
        ("qnli", Split::Test, 5_463),
        ("rte", Split::Test, 3_000),
        ("sst", Split::Test, 1_821),
        ("sts", Split::Test, 1_379),
    ] {
        let rows = read(&glue, find(name).unwrap(), split);
        assert_eq!(rows.len(), count, "{name} {split}");
        assert!(rows.iter().all(|row| row.label == Label::None && !row.text_a.is_empty()), "{name} {split}");
    }
}

#[test]
fn the_diagnostic_set_with_its_labels_has_the_rows_of_the_one_without() {
    let Some(glue) = glue("the_diagnostic_set_with_its_labels_has_the_rows_of_the_one_without") else {
        return;
    };
    let mnli = find("mnli").unwrap();
    let (gold, blank) = (read(&glue, mnli, Split::DiagnosticGold), read(&glue, mnli, Split::Diagnostic));
    assert_eq!(distribution(mnli, &gold), [258, 460, 386]);
    // Some texts end with a blank in one of the files.
    let texts = |rows: &[Row]| -> Vec<[String; 2]> {
        let trimmed = |text: &str| text.trim().to_owned();
        rows.iter().map(|row| [trimmed(&row.text_a), trimmed(row.text_b.as_deref().unwrap())]).collect()
    };
    assert_eq!(texts(&gold), texts(&blank));
}

#[test]
fn a_byte_order_mark_does_not_reach_the_rows_of_mrpc() {
    let Some(glue) = glue("a_byte_order_mark_does_not_reach_the_rows_of_mrpc") else {
        return;
    };
    let rows = read(&glue, find("mrpc").unwrap(), Split::Train);
    assert!(rows[0].text_a.starts_with("Amrozi accused his brother , whom he called \" the witness \" ,"));
    assert_eq!((rows[0].label, rows[0].line), (Label::Class(1), 2));
    let copy = &rows[3_668];
    assert_eq!((copy.eid, copy.line), (3_668, 2));
    assert_eq!(Some(&copy.text_a), rows[0].text_b.as_ref());
}

#[test]
fn majority_baselines_of_the_real_dev_sets() {
    let Some(glue) = glue("majority_baselines_of_the_real_dev_sets") else {
        return;
    };
    for (name, baseline) in [("rte", Some(52.71)), ("mrpc", Some(68.38)), ("cola", Some(0.0)), ("sts", None)] {
        let task = find(name).unwrap();
        let labels = |split| read(&glue, task, split).iter().map(|row| row.label).collect::<Vec<_>>();
        let score = majority_baseline(task, &labels(Split::Dev), &labels(Split::Train));
        assert_eq!(score.map(|s| (s * 100.0).round() / 100.0), baseline, "{name}");
    }
}

/// A `vocab.txt` of bert-base-uncased beside the real data, or the one that other tests fetched.
fn real_vocab(test: &str) -> Option<PathBuf> {
    let roots = ["BAM_GLUE_DIR", "BAM_TEST_BAM_DIR"].into_iter().filter_map(std::env::var_os);
    let folders = roots.filter_map(|root| PathBuf::from(root).join("pretrained_models").read_dir().ok());
    let mut models: Vec<PathBuf> = folders.flatten().flatten().map(|model| model.path().join("vocab.txt")).collect();
    models.sort();
    // All uncased English BERTs share one vocabulary of this many pieces.
    let found = models.into_iter().find(|v| std::fs::read_to_string(v).is_ok_and(|t| t.lines().count() == 30_522));
    if found.is_none() {
        println!("SKIPPED: {test}: no pretrained model with BERT's uncased vocabulary was found");
    }
    found
}

#[test]
fn real_rows_have_the_lengths_that_were_measured_with_another_tokenizer() {
    let test = "real_rows_have_the_lengths_that_were_measured_with_another_tokenizer";
    let Some(glue) = glue(test) else { return };
    let Some(vocab) = real_vocab(test) else {
        return;
    };
    let tokenizer = Tokenizer::from_vocab(&vocab, true).unwrap();
    // Train files without swapped copies: rows, mean when cut at 128; 90 %, 99 %, longest uncut.
    let table: [(&str, usize, f64, [usize; 3]); 8] = [
        ("cola", 8_551, 11.3, [17, 25, 47]),
        ("sst", 67_349, 13.3, [27, 44, 66]),
        ("sts", 5_749, 27.8, [51, 75, 125]),
        ("qqp", 29_372, 30.7, [47, 75, 312]),
        ("mnli", 8_999, 40.2, [64, 101, 254]),
        ("qnli", 9_999, 49.2, [71, 106, 305]),
        ("mrpc", 3_668, 53.2, [70, 83, 103]),
        ("rte", 2_490, 66.6, [135, 197, 289]),
    ];
    for (name, count, mean, quantiles) in table {
        let task = find(name).unwrap();
        let rows = read_split(task, &glue.join(name), Split::Train, false, None).unwrap();
        if is_other_excerpt(name, rows.len(), count) {
            continue;
        }
        let ends = featurise(&tokenizer, &rows, 512, 2).ends;
        let begins = std::iter::once(&0).chain(&ends);
        let mut lengths: Vec<usize> = begins.zip(&ends).map(|(begin, end)| (end - begin) as usize).collect();
        let cut: usize = lengths.iter().map(|length| length.min(&128)).sum();
        let cut = cut as f64 / lengths.len() as f64;
        lengths.sort_unstable();
        let at = |share: f64| lengths[(share * (lengths.len() - 1) as f64).round() as usize];
        let found = [at(0.9), at(0.99), lengths[lengths.len() - 1]];
        println!("{name}: mean {cut:.2}, 90 %, 99 %, longest {found:?}");
        assert!((cut - mean).abs() <= 0.06, "{name}: {cut}");
        assert_eq!(found, quantiles, "{name}");
    }
}
