//! `bam` with the real trainer on real libtorch, as a user runs it: one manifest, killed, joined, lied to.
//!
//! Needs a BAM_DIR with the small pretrained model and the demo data, in `BAM_TEST_BAM_DIR`; `make test` makes one.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use s3::{OWNER, S3};
use serde_json::Value;
use server::{Fault, Page, Server};

#[path = "../trainer/tests/common/s3.rs"]
mod s3;
#[path = "../trainer/tests/common/server.rs"]
mod server;

/// A tiny random model on the first 50 lines of the demo data: seconds instead of minutes, and the whole way.
const DEBUG: &str = r#"
apiVersion: bam.dev/v1alpha1
kind: BamExperiment
metadata: { name: debug-bam }
spec:
  tasks: [ { name: rte }, { name: mrpc } ]
  distill: {}
  hyperparameters: { debug: true, maxSeqLength: 32 }
  model: { pretrained: all-MiniLM-L6-v2 }
  storage: { persistentVolumeClaim: { claimName: bam-dir } }
  compute: { threads: 1, saveCheckpointsSteps: 1 }
"#;

/// A fresh store with the demo's inputs, or nothing where there are none.
struct Store {
    folder: tempfile::TempDir,
}

impl Store {
    fn new(test: &str) -> Option<Self> {
        let Some(inputs) = std::env::var_os("BAM_TEST_BAM_DIR").map(PathBuf::from) else {
            println!("SKIPPED: {test}: BAM_TEST_BAM_DIR is not set (`make test` sets it)");
            return None;
        };
        let store = Self { folder: tempfile::tempdir().unwrap() };
        symlink(inputs.join("pretrained_models"), store.path("pretrained_models")).unwrap();
        for task in ["rte", "mrpc"] {
            let folder = store.path(&format!("glue_data/{task}"));
            fs::create_dir_all(&folder).unwrap();
            for split in ["train.tsv", "dev.tsv", "test.tsv"] {
                fs::copy(inputs.join("glue_data").join(task).join(split), folder.join(split)).unwrap();
            }
        }
        Some(store)
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    fn manifest(&self, text: &str) -> PathBuf {
        let path = self.path("manifest.yaml");
        fs::write(&path, text).unwrap();
        path
    }

    fn bam(&self, command: &str, manifest: &Path) -> Command {
        let mut bam = Command::new(env!("CARGO_BIN_EXE_bam"));
        bam.arg(command).arg("-f").arg(manifest).arg("--bam-dir").arg(self.folder.path());
        bam.env("BAM_DEVICE", "cpu").stdin(Stdio::null());
        bam
    }

    fn run(&self, manifest: &str) -> Output {
        self.bam("run", &self.manifest(manifest)).output().unwrap()
    }

    /// The experiment's runs by title (`Teacher rte`), as `bam report --output json` tells of them.
    fn runs(&self, experiment: &str) -> BTreeMap<String, Value> {
        let mut bam = Command::new(env!("CARGO_BIN_EXE_bam"));
        bam.args(["report", experiment, "--output", "json", "--bam-dir"]).arg(self.folder.path());
        let output = bam.output().unwrap();
        let report: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
        let title = |run: &Value| {
            let tasks: Vec<_> = run["tasks"].as_array().unwrap().iter().map(|task| task.as_str().unwrap()).collect();
            format!("{} {}", run["role"].as_str().unwrap(), tasks.join("+"))
        };
        report["runs"].as_array().unwrap().iter().map(|run| (title(run), run.clone())).collect()
    }

    /// Every artifact of every run by its path, reports (they tell of time) left out.
    fn artifacts(&self) -> BTreeMap<String, Vec<u8>> {
        let mut artifacts = BTreeMap::new();
        for run in fs::read_dir(self.path("runs")).unwrap().flatten() {
            let manifest = fs::read(run.path().join("manifest.json")).unwrap();
            let manifest: Value = serde_json::from_slice(&manifest).unwrap();
            for name in manifest["files"].as_object().unwrap().keys().filter(|name| *name != "report.json") {
                let key = format!("{}/{name}", run.file_name().to_string_lossy());
                artifacts.insert(key, fs::read(run.path().join(name)).unwrap());
            }
        }
        artifacts
    }

    /// The final reports of all attempts of a run, in order.
    fn reports(&self, run: &str) -> Vec<Value> {
        let report = |number: usize| fs::read(self.path(&format!(".bam/attempts/{run}-{number}/report.json")));
        let begun = |number: usize| self.path(&format!(".bam/attempts/{run}-{number}")).exists();
        let attempts = (1..).take_while(|number| begun(*number));
        attempts.filter_map(|number| serde_json::from_slice(&report(number).ok()?).ok()).collect()
    }
}

fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn one_manifest_trains_two_teachers_and_then_the_student() {
    let Some(store) = Store::new("one manifest") else { return };
    let output = store.run(DEBUG);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("task  metric    majority  teacher  student"), "{said}");

    let runs = store.runs("debug-bam");
    assert_eq!(runs.keys().collect::<Vec<_>>(), ["Student rte+mrpc", "Teacher mrpc", "Teacher rte"]);
    for (title, run) in &runs {
        assert_eq!(run["phase"], "Succeeded", "{title}");
        let model = PathBuf::from(run["model"].as_str().unwrap());
        assert!(model.join("model.safetensors").exists(), "{title}: {}", model.display());
    }

    let begin = Instant::now();
    let again = store.run(DEBUG);
    assert!(again.status.success(), "{}", text(&again));
    assert_eq!(again.stdout, output.stdout, "a finished experiment shows its table at once");
    assert!(begin.elapsed() < Duration::from_secs(30), "it was trained again");
}

#[test]
fn a_manifest_that_says_so_fetches_the_model_once_and_without_a_second_check() {
    let Some(store) = Store::new("a manifest that fetches") else { return };
    let whole = store.path("pretrained_models/all-MiniLM-L6-v2");
    let server = Server::start();
    for (name, faults) in [("config.json", 0), ("vocab.txt", 1), ("model.safetensors", 1)] {
        let faults = vec![Fault::Cut(1000); faults];
        server.put(
            &format!("/org/minilm/resolve/main/{name}"),
            Page::new(fs::read(whole.join(name)).unwrap()).with(faults),
        );
    }
    fs::remove_file(store.path("pretrained_models")).unwrap();
    let fetch = format!("  fetch: {{ model: org/minilm, modelUrl: {:?} }}\n", server.url);
    let manifest = format!("{}{fetch}", DEBUG.replace("{ name: rte }, ", "").replace("  distill: {}\n", ""));
    let output = store.run(&manifest);
    assert!(output.status.success(), "{}", text(&output));
    assert!(store.path("pretrained_models/all-MiniLM-L6-v2/fetched.json").exists());
    let asked = server.paths();
    let again = store.run(&manifest);
    assert!(again.status.success(), "{}", text(&again));
    assert_eq!(server.paths(), asked);
    let attempts = fs::read_dir(store.path(".bam/attempts")).unwrap().count();
    assert_eq!(attempts, 2, "one check of the inputs, one training");
}

/// Waits for a child at most so long.
fn ended_within(child: &mut Child, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

#[test]
fn killed_with_9_again_and_again_it_goes_on_and_trains_nothing_twice() {
    let (Some(store), Some(undisturbed)) = (Store::new("killed with -9"), Store::new("killed with -9")) else { return };
    assert!(undisturbed.run(DEBUG).status.success());
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    println!("delays from seed {seed}");
    let mut random = u64::from(seed) | 1;
    let mut finished: BTreeMap<PathBuf, SystemTime> = BTreeMap::new();
    let manifest = store.manifest(DEBUG);
    for kill in 0..8 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let delay = Duration::from_millis(100 + (random >> 33) % 2500);
        let mut bam = store.bam("run", &manifest);
        // Every second time its trainers go with it at once, as when the machine loses power.
        let mut child = bam.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        if ended_within(&mut child, delay) {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for (manifest, written) in &finished {
            let now = fs::metadata(manifest).unwrap().modified().unwrap();
            assert_eq!(now, *written, "kill {kill}: {} was written again", manifest.display());
        }
        for run in fs::read_dir(store.path("runs")).into_iter().flatten().flatten() {
            let manifest = run.path().join("manifest.json");
            if let Ok(found) = fs::metadata(&manifest) {
                finished.entry(manifest).or_insert(found.modified().unwrap());
            }
        }
    }
    let output = store.bam("run", &manifest).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(
        store.artifacts() == undisturbed.artifacts(),
        "weights, targets or results differ from an undisturbed run's"
    );
    for (title, run) in store.runs("debug-bam") {
        let reports = store.reports(run["name"].as_str().unwrap());
        let mut saved = 0;
        for report in &reports {
            let resumed = report["resumedFrom"].as_u64().unwrap_or(0);
            assert!(resumed >= saved, "{title} went back from step {saved} to {resumed}: {reports:#?}");
            saved = report["savedSteps"].as_u64().unwrap_or(0);
        }
    }
}

#[test]
fn a_second_manifest_finds_the_teacher_that_the_first_one_trained() {
    let Some(store) = Store::new("shared teacher") else { return };
    assert!(store.run(DEBUG).status.success());
    let rte_only = DEBUG.replace("debug-bam", "rte-only").replace(", { name: mrpc }", "");
    let manifest = store.manifest(&rte_only);
    let plan = store.bam("plan", &manifest).output().unwrap();
    let said = text(&plan);
    assert!(plan.status.success(), "{said}");
    let teacher = said.lines().find(|line| line.contains("teacher rte")).unwrap_or_else(|| panic!("{said}"));
    assert!(teacher.contains("cached") || teacher.contains("joined") || teacher.contains("done"), "{said}");

    let output = store.bam("run", &manifest).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let (first, second) = (store.runs("debug-bam"), store.runs("rte-only"));
    assert_eq!(first["Teacher rte"]["name"], second["Teacher rte"]["name"]);
    assert_eq!(store.reports(second["Teacher rte"]["name"].as_str().unwrap()).len(), 1, "one attempt in all");
}

#[test]
fn a_bad_row_stops_it_before_the_first_step_and_nothing_trained_is_lost() {
    let Some(store) = Store::new("a bad row") else { return };
    let mrpc_only = DEBUG.replace("debug-bam", "mrpc-only").replace("{ name: rte }, ", "");
    assert!(store.run(&mrpc_only).status.success());
    let before = store.artifacts();

    let data = store.path("glue_data/rte/dev.tsv");
    let good = fs::read_to_string(&data).unwrap();
    fs::write(&data, good.replacen("\tentailment\n", "\tmaybe\n", 1)).unwrap();
    let output = store.run(DEBUG);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("glue_data/rte/dev.tsv:") && said.contains("maybe"), "{said}");
    assert!(store.artifacts() == before);

    fs::write(&data, good).unwrap();
    let output = store.run(DEBUG);
    assert!(output.status.success(), "{}", text(&output));
    let teacher = &store.runs("debug-bam")["Teacher mrpc"];
    assert_eq!(store.reports(teacher["name"].as_str().unwrap()).len(), 1, "the teacher of mrpc was there already");
}

#[test]
fn real_weights_learn_the_demo_s_paraphrases() {
    let Some(store) = Store::new("real weights") else { return };
    let manifest = r#"
apiVersion: bam.dev/v1alpha1
kind: BamExperiment
metadata: { name: paraphrases }
spec:
  tasks: [ { name: mrpc } ]
  hyperparameters: { numTrainEpochs: 1, learningRate: "1e-4", maxSeqLength: 48 }
  model: { pretrained: all-MiniLM-L6-v2 }
  storage: { persistentVolumeClaim: { claimName: bam-dir } }
"#;
    let output = store.run(manifest);
    assert!(output.status.success(), "{}", text(&output));
    let result = &store.runs("paraphrases")["Student mrpc"]["results"][0];
    let (accuracy, majority) = (result["metrics"]["accuracy"].as_f64().unwrap(), result["majority"].as_f64().unwrap());
    // 95 here; the majority class has 65. One epoch of noise would be near the latter.
    assert!(accuracy > majority + 15.0, "accuracy {accuracy}, always the most frequent class {majority}");
}

#[test]
fn a_bucket_is_as_good_a_store_as_a_folder_and_what_it_holds_is_not_trained_again() {
    let Some(store) = Store::new("a bucket") else { return };
    let Some(server) = S3::start("bam run with a bucket") else { return };
    server.put_folder(&store.path("glue_data"), "bam/glue_data");
    for file in ["config.json", "vocab.txt"] {
        let name = format!("pretrained_models/all-MiniLM-L6-v2/{file}");
        server.put(&format!("bam/{name}"), fs::read(store.path(&name)).unwrap());
    }
    assert!(store.run(DEBUG).status.success());

    let claim = "persistentVolumeClaim: { claimName: bam-dir }";
    let manifest = DEBUG.replace(claim, "objectStore: { uri: \"s3://models/bam\" }");
    let manifests = || {
        let names = server.names("bam/runs").into_iter().filter(|name| name.ends_with("/manifest.json"));
        names.map(|name| fs::read(server.file(&name)).unwrap()).collect::<Vec<_>>()
    };
    let mut before = None;
    for _ in 0..2 {
        let copy = Store { folder: tempfile::tempdir().unwrap() };
        let output = copy.bam("run", &copy.manifest(&manifest)).envs(server.environment(OWNER)).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        assert!(!text(&output).contains(OWNER.1), "a secret was told: {}", text(&output));
        assert!(copy.artifacts() == store.artifacts(), "weights, targets or results differ");
        assert_eq!(manifests().len(), 3);
        assert!(before.replace(manifests()).is_none_or(|before| before == manifests()));
    }
}

#[test]
fn a_task_of_one_s_own_is_learned_beside_one_of_glue_s() {
    let Some(store) = Store::new("a task of one's own") else { return };
    fs::create_dir(store.path("tweets")).unwrap();
    for (split, rows) in [("train", 40), ("dev", 12), ("test", 6)] {
        let row = |n: usize| {
            let feeling = ["negative", "neutral", "positive"][n % 3];
            format!("{n},{feeling},\"a {feeling} day,\nhe said: \"\"number {n}\"\"\"\n")
        };
        let rows: String = (0..rows).map(row).collect();
        fs::write(store.path(&format!("tweets/{split}.csv")), format!("id,sentiment,text\n{rows}")).unwrap();
    }
    let example = include_str!("../examples/custom-task.yaml");
    let quick = "  distill: {}\n  hyperparameters: { debug: true, maxSeqLength: 32 }\n  compute: { threads: 1, writeTestOutputs: true }\n";
    let output = store.run(&example.replace("  distill: {}\n", quick));
    assert!(output.status.success(), "{}", text(&output));

    let runs = store.runs("tweets-rte");
    assert_eq!(runs.keys().collect::<Vec<_>>(), ["Student tweets+rte", "Teacher rte", "Teacher tweets"]);
    let student = &runs["Student tweets+rte"];
    let results = student["results"].as_array().unwrap();
    let told: Vec<_> =
        results.iter().map(|result| (result["task"].as_str().unwrap(), result["rows"].as_u64().unwrap())).collect();
    // Debugging, it reads the first 50 lines of a file of GLUE's, one of which is the header.
    assert_eq!(told, [("tweets", 12), ("rte", 49)]);
    let artifacts = store.artifacts();
    assert!(
        artifacts.keys().any(|name| name.ends_with("/predictions/tweets_test.safetensors")),
        "{:?}",
        artifacts.keys()
    );
    let labels = artifacts.iter().filter(|(name, _)| name.contains("/model/") && name.ends_with("config.json"));
    let labels = labels.filter(|(_, bytes)| String::from_utf8_lossy(bytes).contains("neutral")).count();
    assert!(labels >= 2, "teacher and student know the labels by name: {:?}", artifacts.keys());
}

#[test]
fn targets_that_lie_in_the_store_teach_as_the_run_does_that_wrote_them() {
    let Some(store) = Store::new("stored targets") else { return };
    assert!(store.run(DEBUG).status.success());
    let before = store.artifacts();
    let of = |task: &str| {
        let mut files = before.keys().filter(|name| name.ends_with(&format!("/targets/{task}.safetensors")));
        let taught = |name: &&String| {
            !before.contains_key(&name.replace(&format!("/{task}."), if task == "rte" { "/mrpc." } else { "/rte." }))
        };
        files.find(taught).unwrap().clone()
    };
    let (rte, mrpc) = (of("rte"), of("mrpc"));
    // One of them comes from elsewhere.
    fs::create_dir(store.path("teachers")).unwrap();
    fs::copy(store.path(&format!("runs/{mrpc}")), store.path("teachers/mrpc.safetensors")).unwrap();
    let teachers = format!(
        "  distill: {{ teachers: {{ rte: {{ targets: runs/{rte} }}, mrpc: {{ targets: teachers/mrpc.safetensors }} }} }}\n"
    );
    let manifest = DEBUG.replace("  distill: {}\n", &teachers).replace("debug-bam", "taught");
    let output = store.run(&manifest);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(store.runs("taught").keys().collect::<Vec<_>>(), ["Student rte+mrpc"]);
    let weights = |artifacts: &BTreeMap<String, Vec<u8>>, run: &Value| {
        let model = run["model"].as_str().unwrap();
        let folder = Path::new(model).parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        artifacts[&format!("{folder}/model/model.safetensors")].clone()
    };
    let student = |experiment: &str| weights(&store.artifacts(), &store.runs(experiment)["Student rte+mrpc"]);
    assert!(student("taught") == student("debug-bam"), "the weights differ");

    // Another file is another teacher: its name says so, and its rows are looked at before anything is trained.
    fs::write(store.path("teachers/mrpc.safetensors"), &before[&rte]).unwrap();
    let output = store.run(&manifest);
    assert!(!output.status.success() && text(&output).contains("teachers/mrpc.safetensors"), "{}", text(&output));
}
