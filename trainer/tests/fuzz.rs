//! Whatever becomes of a file that this program reads, it is read or refused with its name: no panic, little memory, little time.
//!
//! A valid file is changed as bad disks, editors and merges change files. proptest prints the least change that fails, and its
//! seed; the environment variable PROPTEST_CASES says how many changes each test tries.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use bam_crds::config::{ModelIdentity, TaskIdentity};
use bam_crds::identity::SEMANTICS_VERSION;
use bam_crds::{Digest, Execution, ExitReason, Hyperparameters, RunConfig, Science, TaskFiles};
use bam_trainer::checkpoint::{latest_valid, save};
use bam_trainer::data::rows::parse;
use bam_trainer::data::targets::Targets;
use bam_trainer::data::tokenize::Tokenizer;
use bam_trainer::model::{BertConfig, Head, Model, TensorBundle, TensorFile, TensorFileError};
use bam_trainer::optim::{AdamWeightDecay, CLIP_NORM, Settings};
use bam_trainer::task::{self, Split, Task};
use bam_trainer::{reference, run, unpickle};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};
use tch::{Device, Tensor};

// ----- what a reader may cost

/// What a file of a few kilobytes may take of memory…
const MEMORY: usize = 16 << 20;
/// … where its format has no packed blocks: those of TensorFlow's index may come to 64 MB.
const MEMORY_UNPACKED: usize = 160 << 20;
/// … and of a processor's time.
const TIME: Duration = Duration::from_secs(2);

/// The system's allocator, and what each thread holds of it.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that ends has no count any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are those that are asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Time that this thread had of a processor: however busy the machine is.
fn spent() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it fills what it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[track_caller]
fn within<T>(memory: usize, work: impl FnOnce() -> T) -> T {
    let (held, begin) = (HELD.get(), spent());
    MOST.set(held);
    let result = work();
    let (most, time) = ((MOST.get() - held) as usize, spent() - begin);
    assert!(most <= memory, "it took {most} bytes of memory");
    assert!(time <= TIME, "it took {time:?}");
    result
}

// ----- changes

/// What happens to files.
#[derive(Clone, Debug)]
enum Change {
    Flip(Index, u8),
    Truncate(Index),
    Cut(Index, Index),
    Insert(Index, Vec<u8>),
    Overwrite(Index, Vec<u8>),
    Duplicate(Index, Index),
    /// From here on it is another file, from there on.
    Splice(Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), 0..8u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        1 => at().prop_map(Change::Truncate),
        2 => (at(), at()).prop_map(|(from, to)| Change::Cut(from, to)),
        3 => (at(), word()).prop_map(|(at, word)| Change::Insert(at, word)),
        3 => (at(), word()).prop_map(|(at, word)| Change::Overwrite(at, word)),
        1 => (at(), at()).prop_map(|(from, to)| Change::Duplicate(from, to)),
        1 => (at(), at()).prop_map(|(from, to)| Change::Splice(from, to)),
    ]
}

/// Words that mean something to one format or the other, and numbers that are large.
const WORDS: &[&[u8]] = &[
    b"\t",
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\n",
    b"\"",
    b"\"\"",
    b",",
    b":",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\\",
    b"\\u0000",
    b"null",
    b"-1",
    b"1e999",
    b"18446744073709551615",
    b"\0",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\xc3",
    b"\xe2\x80\xae",
    b"\"shape\":[",
    b"\"data_offsets\":[0,",
    b"\"__metadata__\":",
    &[0xff; 8],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
    &[0, 0, 0, 0, 1, 0, 0, 0],
    &[b'['; 200],
];

/// One of them, or any bytes.
fn word() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => select(WORDS).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 1..20),
        1 => (any::<u8>(), 1..3000usize).prop_map(|(byte, count)| vec![byte; count]),
    ]
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    prop::collection::vec(change(), 1..4)
}

/// A file after these changes. `other` is a file of the same kind.
fn changed(file: &[u8], other: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = file.to_vec();
    for change in changes {
        // One more than there are bytes: its end is a place too.
        let place = |index: &Index| index.index(bytes.len() + 1);
        let range = |from: &Index, to: &Index| place(from).min(place(to))..place(from).max(place(to));
        match change {
            Change::Flip(at, bit) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            Change::Flip(..) => {}
            Change::Truncate(at) => bytes.truncate(place(at)),
            Change::Cut(from, to) => drop(bytes.drain(range(from, to))),
            Change::Insert(at, word) => drop(bytes.splice(place(at)..place(at), word.iter().copied())),
            Change::Overwrite(at, word) => {
                let at = place(at);
                drop(bytes.splice(at..(at + word.len()).min(bytes.len()), word.iter().copied()));
            }
            Change::Duplicate(from, to) => {
                let range = range(from, to);
                let again = bytes[range.clone()].to_vec();
                drop(bytes.splice(range.end..range.end, again));
            }
            Change::Splice(from, to) => {
                bytes.truncate(place(from));
                bytes.extend_from_slice(&other[to.index(other.len() + 1)..]);
            }
        }
    }
    bytes
}

/// Values that somebody may have written in place of another one.
fn odd() -> impl Strategy<Value = Value> {
    let many = vec![json!(1); 300];
    select(vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(0.1),
        json!(-0.0),
        json!(1e308),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(""),
        json!("NaN"),
        json!("1e999"),
        json!("0.5"),
        json!("\u{0}"),
        json!("../.."),
        json!("x".repeat(3000)),
        json!([]),
        json!([[]]),
        json!(["rte", "rte"]),
        json!(many),
        json!({}),
        json!({"a": {"b": 1}}),
    ])
}

/// A value where another one was, or none.
fn grafts() -> impl Strategy<Value = Vec<(Index, Option<Value>)>> {
    prop::collection::vec((any::<Index>(), prop::option::weighted(0.8, odd())), 1..4)
}

fn grafted(value: &Value, grafts: &[(Index, Option<Value>)]) -> Value {
    let mut value = value.clone();
    for (place, new) in grafts {
        let mut pointers = Vec::new();
        collect(&value, "", &mut pointers);
        let pointer = place.get(&pointers);
        match (new, pointer.rsplit_once('/')) {
            (Some(new), _) => *value.pointer_mut(pointer).unwrap() = new.clone(),
            (None, None) => value = Value::Null,
            (None, Some((parent, key))) => match value.pointer_mut(parent).unwrap() {
                Value::Object(object) => _ = object.remove(&key.replace("~1", "/").replace("~0", "~")),
                Value::Array(array) => _ = array.remove(key.parse().unwrap()),
                _ => unreachable!("only these have children"),
            },
        }
    }
    value
}

/// The places in a value, as JSON pointers.
fn collect(value: &Value, at: &str, pointers: &mut Vec<String>) {
    pointers.push(at.to_owned());
    match value {
        Value::Object(object) => object.iter().for_each(|(key, value)| {
            collect(value, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), pointers);
        }),
        Value::Array(array) => {
            array.iter().enumerate().for_each(|(key, value)| collect(value, &format!("{at}/{key}"), pointers));
        }
        _ => {}
    }
}

// ----- valid files

fn golden(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).unwrap()
}

/// A task, and two of its files.
fn tasks() -> Vec<(Task, [String; 2])> {
    let own = |format: &str| {
        let said = json!({"format": format, "textA": "a", "textB": "b", "label": "label", "labels": ["no", "yes"]});
        let files = TaskFiles { train: "f".into(), dev: "f".into(), test: None };
        task::one("own", Some(&serde_json::from_value(said).unwrap()), Some(&files)).unwrap()
    };
    let built_in = |name: &str| task::find(name).unwrap().clone();
    vec![
        (built_in("rte"), ["index\tsentence1\tsentence2\tlabel\n0\ta man\ta dog\tentailment\n1\tx\ty\tnot_entailment\n", "h\n"].map(Into::into)),
        (built_in("cola"), ["gj04\t1\t\tA text.\ngj04\t0\t*\tAnother \"text\".\n", "c\t1\t\tü\n"].map(Into::into)),
        (built_in("sts"), ["h\n0\ta\tb\t2.5\n1\tc\td\t5.000\n", "h\n0\te\tf\t0.0\n"].map(Into::into)),
        (own("TSV"), ["b\tid\tlabel\ta\nhe said\t7\tyes\ta man\nü\t8\tno\t\n", "a\tb\tlabel\nx\ty\tno\n"].map(Into::into)),
        (own("CSV"), ["b,label,a\n\"he said \"\"no\"\",\nand\",yes,a man\r\n,no,\"\"\n", "a,b,label\n\"x\",y,no\n"].map(Into::into)),
        (own("JSONL"), ["{\"a\": \"x\", \"b\": \"\\u00fc\", \"label\": \"yes\", \"more\": [1, {}]}\n{\"label\": \"no\", \"b\": \"\", \"a\": \"y\"}\n", "{\"a\": 1}\n"].map(Into::into)),
    ]
}

/// The configuration of a small model.
fn shape() -> Value {
    json!({ "vocab_size": 20, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 4,
        "max_position_embeddings": 8 })
}

fn model(seed: u64) -> (Model, AdamWeightDecay) {
    let heads = vec![Head { task: "rte".into(), outputs: 2 }];
    let model = Model::random(serde_json::from_value(shape()).unwrap(), heads, seed, Device::Cpu);
    let settings = Settings { weight_decay_rate: 0.01, lr_decay: 0.9, layers: 1, clip_norm: CLIP_NORM };
    let optimizer = AdamWeightDecay::new(model.parameters(), settings);
    (model, optimizer)
}

fn values(model: &Model) -> Vec<Vec<f32>> {
    let flat = |value: &Tensor| Vec::try_from(value.detach().reshape([-1])).unwrap();
    model.parameters().iter().map(|parameter| flat(&parameter.value)).collect()
}

/// A checkpoint: what is in it, and its two files by name, tensors first.
struct Kept {
    values: Vec<Vec<f32>>,
    files: [(String, Vec<u8>); 2],
}

fn basis() -> Value {
    json!({"targets": {}})
}

/// Of the steps 1 and 2.
static CHECKPOINTS: LazyLock<[Kept; 2]> = LazyLock::new(|| {
    [1, 2].map(|step| {
        let folder = tempfile::tempdir().unwrap();
        let (model, optimizer) = model(step);
        let tensors = save(folder.path(), step, &model, &optimizer, &basis()).unwrap();
        let file = |path: PathBuf| (path.file_name().unwrap().display().to_string(), fs::read(path).unwrap());
        Kept { values: values(&model), files: [file(tensors.clone()), file(tensors.with_extension("json"))] }
    })
});

fn run_config() -> Value {
    let digest = |text: &str| Digest::of_bytes(text.as_bytes());
    let task = |name: &str| TaskIdentity {
        name: name.to_owned(),
        custom: None,
        train: digest("train"),
        dev: digest("dev"),
        teachers: [digest("teacher")].into_iter().collect(),
        target_files: Vec::new(),
    };
    let science = Science {
        semantics_version: SEMANTICS_VERSION,
        model: ModelIdentity { config: digest("c"), vocabulary: digest("v"), weights: Some(digest("w")) },
        tasks: vec![task("rte"), task("mrpc")],
        hyperparameters: Hyperparameters::default(),
        distillation: Default::default(),
        seed: 3,
        precision: Default::default(),
        fold: None,
    };
    let execution = Execution { store: "/store".into(), pretrained: "tiny".into(), ..Execution::default() };
    serde_json::to_value(RunConfig::new(science, execution)).unwrap()
}

fn command_line() -> Value {
    json!({ "task_names": ["rte", "mrpc", "own"], "pretrained_model_name": "tiny", "distill": true, "num_trials": 2,
        "teachers": {"rte": "rte-model", "mrpc": ["one", "two"], "own": "own-model"}, "learning_rate": 1e-4, "seed": 7.0,
        "train_batch_size": 64, "warmup_proportion": 0.1, "double_unordered": false, "head_dropout_prob": 0.2, "use_tpu": true,
        "custom_tasks": {"own": {"train": "own/train.csv", "dev": "own/dev.csv", "format": "CSV", "text_a": "a",
            "label": "label", "labels": ["no", "yes"]}} })
}

/// A folder with these files.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

fn assert_names(message: &str, path: &Path) {
    let name = path.file_name().unwrap().to_string_lossy();
    assert!(message.contains(&*name), "{name} is not in: {message}");
    assert!(message.len() < 20_000, "a message of {} bytes", message.len());
}

// ----- the readers

proptest! {
    #[test]
    fn a_data_file_is_rows_or_faults_with_file_and_line(which in any::<Index>(), changes in changes()) {
        let tasks = tasks();
        let (task, [file, other]) = which.get(&tasks);
        let bytes = changed(file.as_bytes(), other.as_bytes(), &changes);
        let lines = bytes.split(|byte| *byte == b'\n').count();
        let path = Path::new("folder/file.data");
        match within(MEMORY, || parse(task, task.layout(Split::Train).unwrap(), path, &bytes, None)) {
            Ok(rows) => prop_assert!(!rows.is_empty() && rows.iter().all(|row| (1..=lines).contains(&(row.line as usize)))),
            Err(error) => {
                assert_names(&error.to_string(), path);
                for fault in &error.faults {
                    let begin = fault.line.map_or("folder/file.data: ".to_owned(), |line| format!("folder/file.data:{line}"));
                    prop_assert!(fault.to_string().starts_with(&begin), "{}", fault);
                    prop_assert!(fault.line.is_none_or(|line| (1..=lines).contains(&line)), "{}", fault);
                }
            }
        }
    }

    #[test]
    fn a_vocabulary_is_read_or_refused(changes in changes(), lower in any::<bool>()) {
        let bytes = changed(&golden("checkpoint/vocab.txt"), b"[PAD]\n[UNK]\n", &changes);
        let path = Path::new("folder/vocab.txt");
        match within(MEMORY, || Tokenizer::from_bytes(&bytes, path, lower)) {
            Ok(tokenizer) => drop(within(MEMORY, || tokenizer.encode("the [SEP] ümläut \u{200d} 日本"))),
            Err(error) => assert_names(&error.to_string(), path),
        }
    }

    #[test]
    fn of_a_damaged_checkpoint_nothing_is_restored(of_seal in any::<bool>(), changes in changes()) {
        let [first, second] = &*CHECKPOINTS;
        let of = |checkpoint: &Kept| checkpoint.files[usize::from(of_seal)].1.clone();
        let (whole, bytes) = (of(second), changed(&of(second), &of(first), &changes));
        let folder = tempfile::tempdir().unwrap();
        let attempt = folder.path().join("first");
        fs::create_dir(&attempt).unwrap();
        for (name, content) in first.files.iter().chain(&second.files) {
            fs::write(attempt.join(name), content).unwrap();
        }
        let damaged = attempt.join(&second.files[usize::from(of_seal)].0);
        fs::write(&damaged, &bytes).unwrap();

        let search = within(MEMORY, || latest_valid(folder.path(), &basis())).unwrap();
        let found = search.found.expect("the one before it is whole");
        if found.step == 1 {
            assert_names(&search.warnings[0], &attempt.join(&second.files[0].0));
        } else {
            // Its other file may have been changed to mean the same.
            prop_assert!(of_seal || bytes == whole);
        }
        let (mut model, mut optimizer) = model(3);
        found.restore(&mut model, &mut optimizer).unwrap();
        prop_assert_eq!(&values(&model), &CHECKPOINTS[found.step as usize - 1].values);
    }

    #[test]
    fn a_file_of_tensors_is_read_or_refused(changes in changes()) {
        let bytes = changed(&golden("training.safetensors"), &golden("checkpoint/values.safetensors"), &changes);
        let folder = folder(&[("model.safetensors", &bytes)]);
        let path = folder.path().join("model.safetensors");
        let read = || {
            let mut file = TensorFile::open(&path)?;
            for name in file.names() {
                let tensor = file.read(&name)?;
                assert_eq!(Some(tensor.size()), file.shape(&name));
            }
            Ok::<(), TensorFileError>(())
        };
        if let Err(error) = within(MEMORY, read) {
            assert_names(&error.to_string(), &path);
        }
    }

    #[test]
    fn a_checkpoint_of_tensorflow_is_read_or_refused(of_index in any::<bool>(), changes in changes()) {
        let [index, data] = ["bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"];
        let (mut table, mut numbers) = (golden(&format!("checkpoint/{index}")), golden(&format!("checkpoint/{data}")));
        let file = if of_index { &mut table } else { &mut numbers };
        *file = changed(file, b"\x00\x01\x02", &changes);
        let folder = folder(&[(index, &table), (data, &numbers)]);
        let read = || {
            let mut bundle = TensorBundle::open(&folder.path().join(index), &folder.path().join(data))?;
            bundle.names().iter().try_for_each(|name| bundle.read(name).map(drop))
        };
        if let Err(error) = within(MEMORY_UNPACKED, read) {
            assert_names(&error.to_string(), &folder.path().join("bert_model.ckpt"));
        }
    }

    #[test]
    fn targets_are_read_or_refused(changes in changes()) {
        let targets = |task: &str, rows: u32| Targets {
            task: task.into(),
            labels: vec!["no".into(), "yes".into()],
            eids: (0..rows).collect(),
            row_hashes: (0..rows.into()).collect(),
            logits: vec![0.5; rows as usize * 2],
        };
        let bytes = changed(&targets("rte", 5).to_bytes(), &targets("mrpc", 9).to_bytes(), &changes);
        let path = Path::new("targets/rte.safetensors");
        if let Err(error) = within(MEMORY, || Targets::from_bytes(&bytes, path)) {
            assert_names(&error.to_string(), path);
        }
    }

    #[test]
    fn pickled_predictions_are_read_or_refused(which in any::<[Index; 2]>(), changes in changes(), width in 1..4usize) {
        let pickles = ["python2.7_numpy1.16", "python3.7_numpy1.16", "python3.12_numpy1.26", "python3.11_numpy2.4"];
        let [one, other] = which.map(|which| golden(&format!("pickles/{}_logits.pkl", which.get(&pickles))));
        let bytes = changed(&one, &other, &changes);
        if let Ok((eids, outputs)) = within(MEMORY, || unpickle::predictions(&bytes, width)) {
            prop_assert_eq!(outputs.len(), eids.len() * width);
        }
    }

    #[test]
    fn a_run_s_configuration_is_read_or_refused(grafts in grafts(), changes in prop::option::weighted(0.3, changes())) {
        let valid = run_config();
        let text = grafted(&valid, &grafts).to_string();
        let bytes = changes.map_or(text.clone().into_bytes(), |changes| changed(text.as_bytes(), b"{}", &changes));
        if let Ok(config) = within(MEMORY, || serde_json::from_slice::<RunConfig>(&bytes)) {
            match within(MEMORY, || run::check(&config)) {
                // What decides on the result is under the hash.
                Ok(()) => prop_assert_eq!(&serde_json::to_value(&config.science).unwrap(), &valid["science"]),
                Err(failure) => prop_assert!(failure.reason == ExitReason::BadConfig && !failure.message.is_empty()),
            }
        }
    }

    #[test]
    fn the_options_of_the_command_line_are_read_or_refused(
        grafts in grafts(),
        more in prop::collection::btree_map("[a-z_]{0,12}", odd(), 0..3),
        changes in prop::option::weighted(0.3, changes()),
    ) {
        let mut value = grafted(&command_line(), &grafts);
        if let Value::Object(object) = &mut value {
            object.extend(more.clone());
        }
        let bytes = changes.map_or(value.to_string().into_bytes(), |changes| changed(value.to_string().as_bytes(), b"{}", &changes));
        // What is no object is the name of a file.
        let text = String::from_utf8_lossy(&bytes);
        if !text.trim_start().starts_with('{') {
            return Ok(());
        }
        match within(MEMORY, || reference::parse(&text)) {
            Ok(options) => prop_assert!(!options.task_names.is_empty() && options.num_trials > 0),
            Err(failure) => prop_assert!(failure.reason == ExitReason::BadConfig && !failure.message.is_empty()),
        }
    }

    #[test]
    fn a_model_s_configuration_is_read_or_refused(grafts in grafts(), changes in prop::option::weighted(0.3, changes())) {
        let text = grafted(&shape(), &grafts).to_string();
        let bytes = changes.map_or(text.clone().into_bytes(), |changes| changed(text.as_bytes(), b"{}", &changes));
        let folder = folder(&[("config.json", &bytes)]);
        let path = folder.path().join("config.json");
        match within(MEMORY, || BertConfig::read(&path)) {
            Ok(config) => drop(within(MEMORY, || (config.validate(), config.debug().validate()))),
            Err(error) => assert_names(&error.to_string(), &path),
        }
    }
}

#[test]
fn what_is_changed_here_is_valid_before_it_is_changed() {
    for (task, [file, _]) in tasks() {
        let rows = parse(&task, task.layout(Split::Train).unwrap(), Path::new("f"), file.as_bytes(), None);
        assert_eq!(rows.unwrap_or_else(|error| panic!("{}: {error}", task.name)).len(), 2, "{}", task.name);
    }
    run::check(&serde_json::from_value(run_config()).unwrap()).unwrap();
    let options = reference::parse(&command_line().to_string()).unwrap();
    assert_eq!(options.teachers.values().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1]);
    assert!(serde_json::from_value::<BertConfig>(shape()).unwrap().validate().is_empty());
}
