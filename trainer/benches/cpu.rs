//! What this machine's libtorch can do at most, and how quickly text becomes word pieces: figures to hold the speed of a
//! training against. `cargo bench -p bam-trainer`; BAM_DIR names a folder with glue_data/mnli, else the texts are made up.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bam_trainer::data::features::featurise;
use bam_trainer::data::rows::{Label, Row, read_split};
use bam_trainer::data::tokenize::Tokenizer;
use bam_trainer::device;
use bam_trainer::task::{Split, find};
use tch::{Device, Kind, Tensor};

fn main() {
    // `cargo test` may start it too.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    device::cpu_settings();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    device::set_threads(threads);
    println!("{threads} threads, {}", device::instruction_set());
    for (kind, name) in [(Kind::Float, "fp32"), (Kind::BFloat16, "bf16")] {
        for [rows, inner, columns] in [[2048, 2048, 2048], [4096, 768, 3072]] {
            let rate = product(kind, rows, inner, columns) / 1e9;
            println!("{name} [{rows}, {inner}] x [{inner}, {columns}]: {rate:.0} GFLOP/s");
        }
    }
    match vocabulary() {
        Some(path) => word_pieces(&path),
        None => println!("no vocabulary in target/bench/pretrained_models: word pieces are not measured"),
    }
}

/// FLOP per second of a matrix product.
fn product(kind: Kind, rows: i64, inner: i64, columns: i64) -> f64 {
    let random = |size: [i64; 2]| Tensor::randn(size, (Kind::Float, Device::Cpu)).to_kind(kind);
    let (left, right) = (random([rows, inner]), random([columns, inner]));
    let time = quickest(|| drop(left.linear::<&Tensor>(&right, None)));
    (2 * rows * inner * columns) as f64 / time.as_secs_f64()
}

fn word_pieces(vocabulary: &Path) {
    let tokenizer = Tokenizer::from_vocab(vocabulary, true).expect("the vocabulary is good");
    let rows = rows();
    let time = quickest(|| drop(featurise(&tokenizer, &rows, 128, 1)));
    println!("{} pairs to word pieces on one core: {:.0} a second", rows.len(), rows.len() as f64 / time.as_secs_f64());
}

/// Of MNLI, if it is at hand.
fn rows() -> Vec<Row> {
    let mnli = std::env::var_os("BAM_DIR").map(|folder| PathBuf::from(folder).join("glue_data/mnli"));
    let task = find("mnli").expect("MNLI is a task");
    if let Some(rows) = mnli.and_then(|folder| read_split(task, &folder, Split::Train, false, None).ok()) {
        return rows;
    }
    let text = |eid: u32| format!("The {eid}th Commissioner, unfortunately, hadn't re-read its preliminary findings.");
    let row = |eid| Row { eid, text_a: text(eid), text_b: Some(text(2 * eid)), label: Label::None, line: eid + 1 };
    (0..10_000).map(row).collect()
}

fn vocabulary() -> Option<PathBuf> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench/pretrained_models");
    let folders = fs::read_dir(models).ok()?.flatten();
    folders.map(|folder| folder.path().join("vocab.txt")).find(|path| path.is_file())
}

/// The least time of several, after one that is not counted.
fn quickest(mut work: impl FnMut()) -> Duration {
    work();
    let timed = |()| {
        let begin = Instant::now();
        work();
        begin.elapsed()
    };
    [(); 8].map(timed).into_iter().min().expect("there are eight")
}
