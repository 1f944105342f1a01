//! One table, two judges: `bam check` and an API server give every manifest of `tests/manifests` the same verdict, and blame
//! the same field.
//!
//! The API server is asked where `BAM_TEST_KUBECONFIG` names a kubeconfig of a cluster for tests: this applies our CRDs
//! there, and works in a namespace of its own.
//!
//! # How to read the table
//!
//! - `good` or `bad`: the case, as a sentence. `at`: the fields that are at fault, and no others (`document`: no field).
//! - `spec`: lines of the specification of an experiment that is sound otherwise: two tasks, a model, and a claim. A field
//!   that stands here replaces the sound one.
//! - `before`: the specification of the same object before. The case is an update then, on which `bam check` has no opinion;
//!   the rules of the schema, as `bam check` reads them, stand for it.
//! - `run`: the whole specification of a run. `profile`: that of a BamProfile.
//! - `manifest`: the whole file instead, with `<head>` for the API version and the kind, and `<spec>` for the sound spec.
//! - `<253*a>` is 253 times an `a`, and a `#` in it the count; `<config>` is a run's configuration.
//!
//! The API server gets the text itself, in the way of `kubectl create` with strict validation. Where `kubectl` is more
//! lenient than the server (of a field that stands twice it takes the last, and `apply` drops nulls), the server is the judge.

use std::collections::BTreeSet;
use std::path::Path;

use bam_crds::{BamExperiment, BamProfile, BamRun, ClusterBamProfile, schema};
use bam_operator::manifest;
use futures_util::{StreamExt as _, stream};
use http_body_util::BodyExt as _;
use hyper::{Method, Request};
use kube::Client;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde::Deserialize;
use serde_json::{Value, json};

const HEAD: &str = "apiVersion: bam.dev/v1alpha1\nkind: BamExperiment";
const RUN: &str = "apiVersion: bam.dev/v1alpha1\nkind: BamRun";
const PROFILE: &str = "apiVersion: bam.dev/v1alpha1\nkind: BamProfile";
const SOUND: [&str; 3] = [
    "tasks: [{name: rte}, {name: mrpc}]",
    "model: {pretrained: tiny}",
    "storage: {persistentVolumeClaim: {claimName: bam-dir}}",
];
const CONFIG: &str = "config: {scienceHash: <64*e>, science: {semanticsVersion: 1, seed: 1, model: {config: <64*a>, vocabulary: \
                      <64*b>}, tasks: [{name: rte, train: <64*c>, dev: <64*d>}]}, execution: {store: \"pvc://bam-dir\", \
                      pretrained: tiny}}";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    good: Option<String>,
    bad: Option<String>,
    at: Option<String>,
    spec: Option<String>,
    run: Option<String>,
    profile: Option<String>,
    manifest: Option<String>,
    before: Option<String>,
}

struct Case {
    /// The file, the verdict and the sentence.
    name: String,
    /// What is sent.
    text: String,
    /// What is there already.
    before: Option<String>,
    /// The faulty fields; none: it is good.
    at: BTreeSet<String>,
    /// What it is said to be. (A file may hold others.)
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Experiment,
    Run,
    Profile,
}

impl Case {
    fn new(file: &str, row: Row) -> Self {
        let (verdict, sentence) = match (&row.good, &row.bad) {
            (Some(sentence), None) => ("good", sentence),
            (None, Some(sentence)) => ("bad", sentence),
            _ => panic!("{file}: a case is `good` or `bad`"),
        };
        let name = format!("{file}: {verdict}: {sentence}");
        let at: BTreeSet<_> = row.at.iter().flat_map(|at| at.split(", ")).map(|at| at.trim().to_owned()).collect();
        assert_eq!(row.bad.is_some(), !at.is_empty(), "{name}: a bad case, and no good one, says `at` what it is bad");
        let (kind, text) = match (&row.spec, &row.run, &row.profile, &row.manifest) {
            (Some(spec), None, None, None) => (Kind::Experiment, experiment(spec)),
            (None, Some(spec), None, None) => (Kind::Run, run(spec)),
            (None, None, Some(spec), None) => (Kind::Profile, profile(spec)),
            (None, None, None, Some(text)) => (Kind::Experiment, fill(text)),
            _ => panic!("{name}: say one of `spec`, `run`, `profile` and `manifest`"),
        };
        let before = row.before.as_deref().map(|spec| match kind {
            Kind::Experiment => experiment(spec),
            Kind::Run => run(spec),
            Kind::Profile => profile(spec),
        });
        Self { name, text, before, at, kind }
    }
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/manifests");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let mut cases = Vec::new();
    for path in files {
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let rows: Vec<Row> = serde_saphyr::from_str(&std::fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|error| panic!("{file}: {error}"));
        cases.extend(rows.into_iter().map(|row| Case::new(&file, row)));
    }
    let names: BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
    assert!(cases.len() >= 70);
    cases
}

fn experiment(spec: &str) -> String {
    fill(&format!("{HEAD}\nmetadata: {{name: x}}\n{}", specification(spec)))
}

fn run(spec: &str) -> String {
    fill(&format!("{RUN}\nmetadata: {{name: run-0123456789abcdef}}\n{}", indented(spec.lines())))
}

fn profile(spec: &str) -> String {
    let spec = if spec.is_empty() { "spec: {}\n".to_owned() } else { indented(spec.lines()) };
    fill(&format!("{PROFILE}\nmetadata: {{name: x}}\n{spec}"))
}

/// The sound specification, but for what `spec` says otherwise.
fn specification(spec: &str) -> String {
    let says = |field: &str| spec.lines().any(|line| line.split(':').next() == field.split(':').next());
    indented(SOUND.into_iter().filter(|field| !says(field)).chain(spec.lines()))
}

fn indented<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.fold("spec:\n".to_owned(), |text, line| text + "  " + line + "\n")
}

/// The text, with everything between `<` and `>` filled in.
fn fill(text: &str) -> String {
    let mut text = text.replace("<config>", CONFIG).replace("<head>", HEAD).replace("<spec>\n", &specification(""));
    let mut from = 0;
    while let Some(start) = text[from..].find('<').map(|at| from + at) {
        from = start + 1;
        let Some(end) = text[start..].find('>').map(|at| start + at) else { break };
        let Some((count, what)) = text[start + 1..end].split_once('*') else { continue };
        let Ok(count) = count.parse::<usize>() else { continue };
        let filled: String = (0..count).map(|index| what.replace('#', &index.to_string())).collect();
        from = start + filled.len();
        text.replace_range(start..=end, &filled);
    }
    text
}

fn say(disagreements: &[String], judge: &str) {
    assert!(
        disagreements.is_empty(),
        "{} times {judge} says otherwise:\n\n{}",
        disagreements.len(),
        disagreements.join("\n\n")
    );
}

#[test]
fn bam_check_gives_every_verdict_of_the_table() {
    let mut disagreements = Vec::new();
    for case in cases() {
        let (found, said) = match &case.before {
            None if case.kind != Kind::Run => checked(&case.text),
            before => by_the_rules(&case, before.as_deref()),
        };
        if found != case.at {
            disagreements.push(format!("{}\n  at {:?}, not {:?}\n  {}", case.name, found, case.at, said.join("\n  ")));
        }
    }
    say(&disagreements, "`bam check`");
}

fn checked(text: &str) -> (BTreeSet<String>, Vec<String>) {
    let manifest = manifest::read(text);
    let is_empty = manifest.experiments.is_empty() && manifest.profiles.is_empty();
    assert_eq!(is_empty, !manifest.faults.is_empty());
    let path = |path: &str| if path.is_empty() { "document".to_owned() } else { path.to_owned() };
    let paths = manifest.faults.iter().map(|fault| path(&fault.path)).collect();
    (paths, manifest.faults.iter().map(ToString::to_string).collect())
}

/// For what `bam check` does not read: runs and updates.
fn by_the_rules(case: &Case, before: Option<&str>) -> (BTreeSet<String>, Vec<String>) {
    let crd = match case.kind {
        Kind::Experiment => schema::experiment(),
        Kind::Run => schema::run(),
        Kind::Profile => schema::profile(),
    };
    let faults = manifest::judge(&crd, &case.text, before);
    let faults = faults.into_iter().map(|fault| (fault.path.clone(), fault.to_string()));
    faults.unzip()
}

/// An API server, and a namespace in it.
struct Cluster {
    client: Client,
    namespace: String,
}

struct Answer {
    status: u16,
    body: Value,
    warnings: Vec<String>,
}

impl Answer {
    fn is_yes(&self) -> bool {
        self.status < 300
    }

    /// The fields that the server blames.
    fn fields(&self) -> BTreeSet<String> {
        let causes = self.body.pointer("/details/causes").and_then(Value::as_array);
        let mut fields: BTreeSet<_> =
            causes.into_iter().flatten().filter_map(|cause| Some(plain(cause["field"].as_str()?))).collect();
        fields.remove("<nil>");
        let unknown = self.message().split("unknown field \"").skip(1);
        fields.extend(unknown.filter_map(|rest| Some(plain(rest.split_once('"')?.0))));
        fields
    }

    fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

/// The server writes the keys of a map in brackets, or not.
fn plain(field: &str) -> String {
    field.replace('[', ".").replace(']', "")
}

impl Cluster {
    /// One with our CRDs, and a namespace for this test. None where nobody named a cluster.
    async fn new(test: &str) -> Option<Self> {
        let Some(path) = std::env::var_os("BAM_TEST_KUBECONFIG") else {
            println!("SKIPPED: no cluster: set BAM_TEST_KUBECONFIG");
            return None;
        };
        let kubeconfig = Kubeconfig::read_from(path).expect("BAM_TEST_KUBECONFIG names a kubeconfig");
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        let cluster = Self { client, namespace: format!("bam-{test}-{}", std::process::id()) };
        cluster.define().await;
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": cluster.namespace}});
        let made = cluster.send(Method::POST, "/api/v1/namespaces", "application/json", &namespace.to_string()).await;
        assert!(made.is_yes(), "{}", made.message());
        Some(cluster)
    }

    async fn say(self, disagreements: &[String]) {
        self.send(Method::DELETE, &format!("/api/v1/namespaces/{}", self.namespace), YAML, "").await;
        say(disagreements, "the API server");
    }

    async fn send(&self, method: Method, path: &str, content: &str, body: &str) -> Answer {
        let request = Request::builder().method(method).uri(path).header("Content-Type", content);
        let response = self.client.send(request.body(Body::from(body.as_bytes().to_vec())).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let warnings = head.headers.get_all("Warning").iter().map(|it| it.to_str().unwrap().to_owned()).collect();
        let body = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into());
        Answer { status: head.status.as_u16(), body, warnings }
    }

    /// Applies our CRDs, and waits until they are served.
    async fn define(&self) {
        let mut changed = false;
        for (file, crd) in schema::files() {
            let name = file.trim_end_matches(".yaml");
            let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
            let before = self.send(Method::GET, &path, YAML, "").await.body["metadata"]["generation"].clone();
            let apply = format!("{path}?fieldManager=bam-test&force=true&fieldValidation=Strict");
            let answer = self.send(Method::PATCH, &apply, "application/apply-patch+yaml", &crd).await;
            assert!(answer.is_yes(), "{file}: {}", answer.message());
            assert_eq!(answer.warnings, Vec::<String>::new(), "{file}: nobody wants to read warnings");
            changed |= before != answer.body["metadata"]["generation"];
            let list = format!("/apis/bam.dev/v1alpha1/{}?limit=1", name.split('.').next().unwrap());
            while !self.send(Method::GET, &list, YAML, "").await.is_yes() {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
        if changed {
            // The old schema is served until the server has seen its own change.
            tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        }
    }

    /// The verdict on one document.
    async fn judge(&self, case: &Case, document: &str) -> Answer {
        let said: Value = serde_saphyr::from_str(document).unwrap_or_default();
        let namespace = said.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or(&self.namespace);
        let all = match said["kind"].as_str() {
            Some("ClusterBamProfile") => "/apis/bam.dev/v1alpha1/clusterbamprofiles".to_owned(),
            kind => {
                let kind = match kind {
                    Some("BamRun") => "bamruns",
                    Some("BamProfile") => "bamprofiles",
                    _ => "bamexperiments",
                };
                format!("/apis/bam.dev/v1alpha1/namespaces/{namespace}/{kind}")
            }
        };
        let dry = "dryRun=All&fieldValidation=Strict";
        let Some(before) = &case.before else {
            return self.send(Method::POST, &format!("{all}?{dry}"), YAML, document).await;
        };
        let old = self.send(Method::POST, &format!("{all}?fieldValidation=Strict"), YAML, before).await;
        assert!(old.is_yes(), "{}: before: {}", case.name, old.message());
        let one = format!("{all}/{}", old.body["metadata"]["name"].as_str().unwrap());
        let answer = loop {
            // An operator may live in this cluster, and write a status in between.
            let now = self.send(Method::GET, &one, YAML, "").await.body;
            let version = format!("metadata: {{resourceVersion: {}, ", now["metadata"]["resourceVersion"]);
            let document = document.replacen("metadata: {", &version, 1);
            let answer = self.send(Method::PUT, &format!("{one}?{dry}"), YAML, &document).await;
            if answer.status != 409 {
                break answer;
            }
        };
        assert!(self.send(Method::DELETE, &one, YAML, "").await.is_yes());
        answer
    }

    /// What is wrong with the server's verdict.
    async fn disagreement(&self, case: &Case) -> Option<String> {
        let mut accepted = Vec::new();
        for document in documents(&case.text) {
            let answer = self.judge(case, document).await;
            if !answer.warnings.is_empty() {
                return Some(format!("it warns: {}", answer.warnings.join(", ")));
            }
            if answer.is_yes() {
                accepted.push(answer.body);
                continue;
            }
            let fields = answer.fields();
            // Of something else than an object, it blames the fields below.
            let is_at = |at: &str| fields.iter().any(|it| it == at || it.starts_with(&format!("{at}.")));
            let is_right = case.at.iter().any(|at| is_at(&plain(at)) || blames(answer.message(), at));
            let place = if is_right { return None } else { format!("at {fields:?}, not {:?}: ", case.at) };
            return Some(place + &answer.message().chars().take(1000).collect::<String>());
        }
        if !case.at.is_empty() {
            return Some("it accepts this".to_owned());
        }
        if case.kind == Kind::Run {
            return accepted
                .into_iter()
                .find_map(|run| serde_json::from_value::<BamRun>(run).err())
                .map(|it| it.to_string());
        }
        // What the operator reads from the cluster is what `bam run` reads from the file.
        let there: Result<Vec<Value>, _> = accepted.into_iter().map(specified).collect();
        let here = manifest::read(&case.text);
        let experiments = here.experiments.iter().map(|it| json!(it.spec));
        let mut here: Vec<_> = experiments.chain(here.profiles.iter().map(|it| json!(it.spec))).collect();
        match there {
            Ok(mut there) => {
                // In a file they may stand in any order.
                there.sort_by_key(ToString::to_string);
                here.sort_by_key(ToString::to_string);
                let other = || Some(format!("it reads something else: {}, not {}", json!(there), json!(here)));
                if there == here { None } else { other() }
            }
            Err(error) => Some(format!("the operator cannot read it: {error}")),
        }
    }
}

/// What the operator reads of an object: its specification, and nothing that its type does not have.
fn specified(object: Value) -> serde_json::Result<Value> {
    match object["kind"].as_str() {
        Some("BamProfile") => serde_json::from_value::<BamProfile>(object).map(|it| json!(it.spec)),
        Some("ClusterBamProfile") => serde_json::from_value::<ClusterBamProfile>(object).map(|it| json!(it.spec)),
        _ => serde_json::from_value::<BamExperiment>(object).map(|it| json!(it.spec)),
    }
}

/// Sound experiments that together have every field: some exclude each other.
fn whole() -> [Value; 2] {
    let options = json!({
        "learningRate": "5e-5", "weightDecayRate": "0.01", "lrDecay": "0.9", "numTrainEpochs": 6, "warmupProportion": "0.1",
        "maxSeqLength": 128, "trainBatchSize": 128, "doLowerCase": true, "doubleUnordered": true,
        "taskWeightExponent": "0.75", "datasetMultiples": true, "debug": false, "initSeed": 1, "dataSeed": 2,
        "hiddenDropoutProb": "0.1", "attentionProbsDropoutProb": "0.1", "headDropoutProb": "0.1",
    });
    let teachers = with(&options, "dropoutSeed", 3.into());
    let gate = json!({ "min": "60", "metric": "accuracy", "bestOf": 2, "onFailure": "Continue" });
    let files = json!({ "train": "own/train.csv", "dev": "own/dev.csv", "test": "own/test.csv" });
    let classes = json!({
        "format": "CSV", "header": true, "textA": "text", "textB": 1, "label": "label", "labels": ["a", "b"], "metric": "F1",
        "unordered": true,
    });
    let scores = json!({
        "format": "TSV", "header": false, "textA": 0, "label": -1, "range": {"min": 0, "max": "5"}, "metric": "Spearman",
    });
    let tolerated =
        json!({"key": "a", "operator": "Equal", "value": "b", "effect": "NoExecute", "tolerationSeconds": 9});
    let metadata = json!({"name": "x", "labels": {"team": "nlp"}, "annotations": {"note": "all"}});
    let of = |spec: Value| json!({"apiVersion": "bam.dev/v1alpha1", "kind": "BamExperiment", "metadata": metadata, "spec": spec});
    let distilled = json!({
        "tasks": [
            {"name": "rte", "teacher": {"hyperparameters": teachers, "qualityGate": gate}}, {"name": "mrpc"}, {"name": "mnli"},
            {"name": "sts"}, {"name": "qnli"}, {"name": "own", "files": files, "custom": classes},
        ],
        "distill": {
            "annealing": false, "weight": "0.3", "temperature": 2, "hyperparameters": teachers, "qualityGate": gate,
            "teachers": {
                "mnli": {"experiment": "mnli-model"}, "mrpc": {"run": "run-0123456789abcdef"},
                "sts": {"ensemble": [
                    {"experiment": "sts-model"}, {"run": "run-fedcba9876543210"}, {"targets": "teachers/sts.pkl"},
                ]},
                "qnli": {"targets": "runs/abc/targets/qnli.safetensors"},
            },
        },
        "hyperparameters": options,
        "seed": 7, "precision": "bf16", "trials": 3, "maxParallelRuns": 2,
        "model": {"pretrained": "tiny"},
        "storage": {"persistentVolumeClaim": {"claimName": "bam-dir"}},
        "fetch": {
            "glue": true, "model": "google/model", "revision": "main", "glueUrl": "https://example.com/glue",
            "modelUrl": "https://example.com/models", "lock": {"RTE.zip": "a".repeat(64)}, "secretRef": {"name": "token"},
        },
        "compute": {
            "image": "trainer:1", "threads": 4, "microBatchTokens": 4096, "saveCheckpointsSteps": 100,
            "writeTestOutputs": true, "keepJobs": "Always", "spot": true,
            "profile": {"name": "l4", "kind": "ClusterBamProfile"},
            "accelerator": {"nvidia": {"count": 2, "product": "NVIDIA-L4"}},
            "podTemplate": {
                "metadata": {"labels": {"team": "nlp"}, "annotations": {"note": "all"}},
                "spec": {
                    "nodeSelector": {"pool": "train"}, "imagePullSecrets": [{"name": "registry"}], "tolerations": [tolerated],
                    "serviceAccountName": "trainer", "runtimeClassName": "nvidia", "schedulerName": "mine",
                },
            },
            "resources": {"requests": {"cpu": 1, "memory": "4Gi"}, "limits": {"cpu": 2, "memory": "8Gi"}},
        },
        "failurePolicy": {"applicationRetries": 2, "infrastructureRetries": 3, "pendingDeadlineSeconds": 600},
        "suspend": true, "cancel": true, "retry": 1, "managedBy": "example.com/other", "priorityClassName": "batch-low", "queueName": "team-a",
        "activeDeadlineSeconds": 3600, "ttlSecondsAfterFinished": 60,
    });
    let folds = json!({
        "tasks": [{"name": "own", "files": files, "custom": scores}],
        "distill": {"outOfFold": 5},
        "hyperparameters": {"dropoutSeed": 3},
        "model": {"pretrained": "tiny"},
        "storage": {"objectStore": {"uri": "s3://bucket/folder", "secretRef": {"name": "keys"}}},
        "compute": {"accelerator": {"tpu": {"type": "tpu-v6e-slice", "topology": "2x4", "chipsPerHost": 4}}},
    });
    [of(distilled), of(folds)]
}

fn with(object: &Value, field: &str, value: Value) -> Value {
    let mut object = object.clone();
    object[field] = value;
    object
}

/// The fields of a schema, as JSON pointers with `*` for an item of a list or map.
fn fields(schema: &Value, pointer: &str) -> BTreeSet<String> {
    let named = schema["properties"].as_object().into_iter().flatten();
    let named = named.map(|(name, below)| (format!("{pointer}/{name}"), below));
    let items = ["items", "additionalProperties"].into_iter().filter_map(|each| schema.get(each));
    let below = items.filter(|items| items.is_object()).map(|items| (format!("{pointer}/*"), items));
    let all = named.chain(below).flat_map(|(pointer, below)| {
        let mut its = fields(below, &pointer);
        its.insert(pointer);
        its
    });
    all.collect()
}

/// As in [`fields`], of a value.
fn filled(schema: &Value, value: &Value, pointer: &str) -> BTreeSet<String> {
    let is_map = schema["additionalProperties"].is_object();
    let below: Vec<_> = match value {
        Value::Object(map) if is_map => map.values().map(|it| ("*", &schema["additionalProperties"], it)).collect(),
        Value::Object(map) => map.iter().map(|(name, it)| (name.as_str(), &schema["properties"][name], it)).collect(),
        Value::Array(items) => items.iter().map(|it| ("*", &schema["items"], it)).collect(),
        _ => Vec::new(),
    };
    let below = below.into_iter().flat_map(|(step, schema, value)| filled(schema, value, &format!("{pointer}/{step}")));
    std::iter::once(pointer.to_owned()).chain(below).collect()
}

#[test]
fn the_whole_experiments_are_sound_and_have_every_field() {
    let schema = schema::experiment();
    let spec = schema.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").unwrap();
    let mut there = BTreeSet::new();
    for experiment in whole() {
        let (faults, said) = checked(&experiment.to_string());
        assert!(faults.is_empty(), "{}", said.join("\n"));
        there.extend(filled(spec, &experiment["spec"], ""));
    }
    let missing: Vec<_> = fields(spec, "").into_iter().filter(|field| !there.contains(field)).collect();
    assert_eq!(missing, Vec::<String>::new(), "put them into `whole`");
}

/// A profile says of runs what an experiment says of them.
#[test]
fn the_whole_profiles_are_sound_and_have_every_field() {
    for (kind, crd) in [("BamProfile", schema::profile()), ("ClusterBamProfile", schema::cluster_profile())] {
        let schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").unwrap();
        let mut there = BTreeSet::new();
        for mut object in whole() {
            let spec = object["spec"].as_object_mut().unwrap();
            spec.retain(|field, _| {
                ["compute", "priorityClassName", "queueName", "failurePolicy"].contains(&field.as_str())
            });
            spec["compute"].as_object_mut().unwrap().remove("profile");
            object["kind"] = kind.into();
            let (faults, said) = checked(&object.to_string());
            assert!(faults.is_empty(), "{}", said.join("\n"));
            there.extend(filled(schema, &object["spec"], ""));
        }
        let missing: Vec<_> = fields(schema, "").into_iter().filter(|field| !there.contains(field)).collect();
        assert_eq!(missing, Vec::<String>::new(), "{kind}");
    }
}

/// What people, editors and templates may put into a field.
const ODD: [&str; 52] = [
    "",
    "null",
    "~",
    "true",
    "yes",
    "On",
    "\"true\"",
    "0",
    "-0",
    "1",
    "-1",
    "+1",
    "1.0",
    "1.5",
    "-0.5",
    ".5",
    "5.",
    "1e3",
    "1e-3",
    "5E-5",
    "017",
    "08",
    "0x1F",
    "0b11",
    "1_000",
    "1:30",
    "65537",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "1e400",
    "\"1\"",
    "\"0.5\"",
    "\"1e3\"",
    "\" 1\"",
    "\"1\\n\"",
    "\"\"",
    "text",
    "TEXT",
    "Ünïcode",
    "a b",
    "4Gi",
    "500m",
    "2024-11-01",
    "2024-11-01T10:00:00Z",
    "[]",
    "{}",
    "[1]",
    "{a: 1}",
    "{rte: null}",
];

/// The places of all values below, as JSON pointers.
fn places(value: &Value, pointer: &str) -> Vec<String> {
    let below: Vec<_> = match value {
        Value::Object(fields) => fields.iter().map(|(field, value)| (field.replace('/', "~1"), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect(),
        _ => Vec::new(),
    };
    let below = below.into_iter().flat_map(|(step, value)| places(value, &format!("{pointer}/{step}")));
    std::iter::once(pointer.to_owned()).chain(below).collect()
}

/// Cases by name and text, with the verdicts of `bam check`: they take a processor for a minute.
fn judged_here(texts: &[(String, String)]) -> Vec<(Case, Vec<String>)> {
    let judge = |(name, text): &(String, String)| {
        let (at, said) = checked(text);
        (Case { name: name.clone(), text: text.clone(), before: None, at, kind: Kind::Experiment }, said)
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let parts = texts.chunks(texts.len().div_ceil(threads).max(1));
        let parts: Vec<_> = parts.map(|part| scope.spawn(move || part.iter().map(judge).collect::<Vec<_>>())).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    })
}

#[tokio::test]
async fn every_field_takes_every_odd_value_or_refuses_it_on_both_sides() {
    let Some(cluster) = Cluster::new("odd").await else { return };
    let mut seen = BTreeSet::new();
    let each = whole();
    let places = each.iter().flat_map(|whole| places(whole, "").into_iter().skip(1).map(move |place| (whole, place)));
    let texts = places.filter(|(_, place)| seen.insert(place.clone())).flat_map(|(whole, place)| {
        let mut object = whole.clone();
        *object.pointer_mut(&place).unwrap() = "ODD".into();
        let object = object.to_string();
        ODD.map(|odd| (format!("{place}: {odd}"), object.replacen("\"ODD\"", &format!(" {odd} "), 1)))
    });
    let judged = stream::iter(judged_here(&texts.collect::<Vec<_>>())).map(|(case, said)| {
        let cluster = &cluster;
        async move {
            let disagreement = cluster.disagreement(&case).await?;
            Some(format!("{}\n  {disagreement}\n  {}", case.name, said.join("\n  ")))
        }
    });
    let disagreements: Vec<_> = judged.buffer_unordered(8).filter_map(|it| async { it }).collect().await;
    cluster.say(&disagreements).await;
}

/// Some refusals name no field.
fn blames(message: &str, at: &str) -> bool {
    let words: &[&str] = match at {
        "document" => &["yaml:", "json:", "cannot unmarshal"],
        "apiVersion" => &["API version", "apiVersion", "in version \"v1\" cannot be handled"],
        "kind" => &["kind", "Kind"],
        "spec.on" | "spec.y" => &["unknown field \"spec.true\""],
        "metadata.name" => &["name or generateName is required", "ObjectMeta.name"],
        "metadata.namespace" => &["namespace", "ObjectMeta.namespace"],
        _ if at.starts_with("metadata") => &["metadata", "ObjectMeta"],
        _ => &[],
    };
    words.iter().any(|word| message.contains(word))
}

const YAML: &str = "application/yaml";

/// Our documents of a file, taken apart as `kubectl` does it: it sends each one by itself.
fn documents(text: &str) -> impl Iterator<Item = &str> {
    let is_ours = |document: &&str| !document.contains("apiVersion: v1\n");
    let is_empty = |document: &&str| document.lines().all(|line| line.is_empty() || line.starts_with('#'));
    text.split("---\n").filter(is_ours).filter(move |document| !is_empty(document))
}

#[tokio::test]
async fn an_api_server_gives_every_verdict_of_the_table() {
    let Some(cluster) = Cluster::new("verdicts").await else { return };
    let mut disagreements = Vec::new();
    for case in cases() {
        let disagreement = cluster.disagreement(&case).await;
        disagreements.extend(disagreement.map(|what| format!("{}\n  {what}", case.name)));
    }
    cluster.say(&disagreements).await;
}
