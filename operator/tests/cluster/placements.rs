//! Where pods go, and what they find there: whole Jobs as YAML, from manifests.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bam_crds::BamRunSpec;
use bam_crds::run::Role;
use bam_operator::cluster::job::{self, Owner, Trainer};
use bam_operator::cluster::observe::Seen;
use bam_operator::cluster::placement::{Access, Claim};
use bam_operator::cluster::slice;
use bam_operator::manifest;
use bam_operator::plan::run::AttemptState;
use bam_operator::plan::{Start, graph};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::fixture::{RUN, container, guarded, pod, put, run};

/// The run of an experiment with these lines in its specification: its only training, or the check of its inputs.
fn made(role: Role, lines: &str) -> BamRunSpec {
    let storage = "storage: {persistentVolumeClaim: {claimName: bam-dir}}";
    let storage = if lines.contains("storage:") { "" } else { storage };
    let sound = format!("tasks: [{{name: rte}}]\nmodel: {{pretrained: tiny}}\n{storage}\n{lines}");
    let spec: String = sound.lines().map(|line| format!("  {line}\n")).collect();
    let text = format!("apiVersion: bam.dev/v1alpha1\nkind: BamExperiment\nmetadata: {{name: x}}\nspec:\n{spec}");
    let manifest = manifest::read(&text);
    assert_eq!(manifest.faults, [], "{lines}");
    let experiment = &manifest.experiments[0].spec;
    if role == Role::Inputs {
        return graph::inputs(experiment, "key").spec;
    }
    let digest = |letter: &str| letter.repeat(64);
    let found = serde_json::from_value(json!({
        "model": { "config": digest("a"), "vocabulary": digest("b"), "weights": digest("c") },
        "tasks": { "rte": {
            "train": digest("d"), "trainRows": 1600, "unordered": false, "dev": digest("e"), "devRows": 320,
        } },
    }));
    let trainings = graph::trainings(experiment, &found.unwrap(), &Default::default(), &Default::default());
    trainings.unwrap().remove(0).spec
}

fn job_of(spec: &BamRunSpec, access: Access) -> Job {
    let claim = job::claim(spec).map(|name| Claim { name, access });
    let trainer = Trainer { image: "trainer:1".to_owned(), pull_policy: "IfNotPresent".to_owned() };
    let start = Start { run: RUN.to_owned(), number: 1, rung: None };
    job::job(Owner { namespace: "lab", uid: "r", made_by: "", spec, claim: claim.as_ref() }, &start, &trainer)
}

/// The file, what the manifest says, and who can use the claim.
const JOBS: [(&str, &str, Access); 27] = [
    ("cpu", "", Access::Anywhere),
    ("nvidia", "compute: {accelerator: {nvidia: {}}}", Access::Anywhere),
    ("nvidia-t4", "compute: {accelerator: {nvidia: {product: Tesla-T4}}}", Access::Anywhere),
    ("nvidia-a100", "compute: {accelerator: {nvidia: {product: NVIDIA-A100-SXM4-40GB}}}", Access::Anywhere),
    ("nvidia-a100-80gb", "compute: {accelerator: {nvidia: {product: NVIDIA-A100-SXM4-80GB}}}", Access::Anywhere),
    ("nvidia-h200", "compute: {accelerator: {nvidia: {product: NVIDIA-H200}}}", Access::Anywhere),
    ("nvidia-b200", "compute: {accelerator: {nvidia: {product: NVIDIA-B200}}}", Access::Anywhere),
    ("nvidia-h100-x8-gke", H100_X8, Access::Anywhere),
    (
        "nvidia-l4-spot",
        "compute: {spot: true, accelerator: {nvidia: {product: NVIDIA-L4}}}\npriorityClassName: batch-low",
        Access::Anywhere,
    ),
    ("tpu-v4", "compute: {accelerator: {tpu: {type: tpu-v4-podslice, topology: 2x2x1}}}", Access::Anywhere),
    ("tpu-v5e", "compute: {accelerator: {tpu: {type: tpu-v5-lite-podslice, topology: 2x4}}}", Access::Anywhere),
    (
        "tpu-v5e-one-chip",
        "compute: {accelerator: {tpu: {type: tpu-v5-lite-podslice, topology: 1x1}}}",
        Access::Anywhere,
    ),
    ("tpu-v6e-x8", "compute: {accelerator: {tpu: {type: tpu-v6e-slice, topology: 2x4}}}", Access::Anywhere),
    ("tpu-v4-four-hosts", "compute: {accelerator: {tpu: {type: tpu-v4-podslice, topology: 2x2x4}}}", Access::Anywhere),
    (
        "tpu-v5e-four-hosts",
        "compute: {accelerator: {tpu: {type: tpu-v5-lite-podslice, topology: 4x4}}}",
        Access::Anywhere,
    ),
    (
        "tpu-v5e-two-hosts",
        "compute: {accelerator: {tpu: {type: tpu-v5-lite-podslice, topology: 2x4, chipsPerHost: 4}}}",
        Access::Anywhere,
    ),
    (
        "tpu-v6e-eight-hosts-spot",
        "compute: {spot: true, accelerator: {tpu: {type: tpu-v6e-slice, topology: 4x8}}}\nqueueName: team-a",
        Access::Anywhere,
    ),
    ("tpu-v5p", "compute: {accelerator: {tpu: {type: tpu-v5p-slice, topology: 2x2x1}}}", Access::Anywhere),
    (
        "tpu-v6e-spot",
        "compute: {spot: true, accelerator: {tpu: {type: tpu-v6e-slice, topology: 2x2}}}",
        Access::Anywhere,
    ),
    ("tpu-v7x", "compute: {accelerator: {tpu: {type: tpu7x, topology: 2x2x1}}}", Access::Anywhere),
    ("overlay", OVERLAY, Access::Anywhere),
    (
        "spot-object-store",
        "compute: {spot: true}\nstorage: {objectStore: {uri: \"s3://models/bam\"}}",
        Access::Anywhere,
    ),
    ("read-write-once", "compute: {accelerator: {nvidia: {}}}", Access::OneNode),
    ("read-write-once-pod", "", Access::OnePod),
    ("queue", "queueName: team-a", Access::Anywhere),
    ("inputs-of-nvidia-h100-x8-gke", H100_X8, Access::Anywhere),
    ("inputs-of-tpu-spot-read-write-once", TPU_SPOT, Access::OneNode),
];

const H100_X8: &str = "compute: {accelerator: {nvidia: {count: 8}}, podTemplate: {spec: {nodeSelector: \
                       {cloud.google.com/gke-accelerator: nvidia-h100-80gb}}}}";
const TPU_SPOT: &str = "compute: {spot: true, accelerator: {tpu: {type: tpu-v6e-slice, topology: 2x4}}}";
const OVERLAY: &str = "
compute:
  podTemplate:
    metadata:
      labels: {team: nlp}
      annotations: {cluster-autoscaler.kubernetes.io/safe-to-evict: \"false\"}
    spec:
      nodeSelector: {kubernetes.io/arch: amd64}
      tolerations:
      - {key: sku, value: gpu, effect: NoSchedule}
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 60}
      imagePullSecrets: [{name: registry}]
      serviceAccountName: trainer
      runtimeClassName: nvidia
      schedulerName: my-scheduler";

#[test]
fn every_accelerator_has_its_job() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/jobs");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for (name, lines, access) in JOBS {
        let role = if name.starts_with("inputs") { Role::Inputs } else { Role::Student };
        let spec = made(role, lines);
        let mut job = serde_json::to_value(job_of(&spec, access)).unwrap();
        // What the trainer is told is another test's matter.
        job["spec"]["template"]["metadata"]["annotations"]["bam.dev/config"] = "…".into();
        let said: String = lines.trim().lines().map(|line| format!("# {line}\n")).collect();
        let service = slice::service("lab", RUN, "r", &spec).map(|it| serde_saphyr::to_string(&it).unwrap() + "---\n");
        let yaml = said + &service.unwrap_or_default() + &serde_saphyr::to_string(&job).unwrap();
        let path = folder.join(format!("{name}.yaml"));
        if update {
            fs::write(&path, &yaml).unwrap();
        }
        let wanted = fs::read_to_string(&path).unwrap_or_default();
        assert!(yaml == wanted, "{} differs; UPDATE_GOLDEN=1 writes it anew. It is now:\n{yaml}", path.display());
    }
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(files.collect::<BTreeSet<_>>(), JOBS.map(|(name, ..)| format!("{name}.yaml")).into());
}

#[test]
fn nothing_of_this_makes_another_model() {
    let hash = |lines: &str| made(Role::Student, lines).config.unwrap().science_hash;
    for (name, lines, _) in JOBS {
        assert_eq!(hash(lines), hash(""), "{name}");
    }
}

#[test]
fn what_the_operator_knows_its_pods_by_stays() {
    let mut spec = made(Role::Student, "");
    let metadata = &mut spec.pod.pod_template.metadata;
    metadata.labels = [("bam.dev/run", "another"), ("bam.dev/claim", "another"), ("team", "nlp")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    metadata.annotations.insert("bam.dev/config".to_owned(), "another".to_owned());
    let template = job_of(&spec, Access::OneNode).spec.unwrap().template.metadata.unwrap();
    let (labels, annotations) = (template.labels.unwrap(), template.annotations.unwrap());
    assert_eq!((&*labels["bam.dev/run"], &*labels["bam.dev/claim"], &*labels["team"]), (RUN, "bam-dir", "nlp"));
    assert_ne!(annotations["bam.dev/config"], "another");
}

#[test]
fn a_claim_with_a_name_longer_than_a_label_is_known_by_a_digest() {
    let long = "c".repeat(64);
    let spec = made(Role::Student, &format!("storage: {{persistentVolumeClaim: {{claimName: {long}}}}}"));
    let template = job_of(&spec, Access::OneNode).spec.unwrap().template;
    let value = &template.metadata.unwrap().labels.unwrap()["bam.dev/claim"];
    assert!(value.starts_with("claim-") && value.len() <= 63, "{value}");
    let affinity = serde_json::to_value(template.spec.unwrap().affinity).unwrap();
    let term = &affinity["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0];
    assert_eq!(term["labelSelector"]["matchLabels"], json!({ "bam.dev/claim": value }));
}

#[test]
fn a_pod_that_waits_for_its_node_says_how_its_claim_is_shared() {
    let once = "waits for a node: no place (the claim bam-dir is ReadWriteOnce: all its pods run on one node)";
    let once_pod = "waits for a node: no place (the claim bam-dir is ReadWriteOncePod: its pods run one after another)";
    let no_place = json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "message": "no place" }] });
    let pulls = container(json!({ "waiting": { "reason": "ImagePullBackOff" } }));
    // (what, modes that were asked for, modes of the volume, on a node, the pod's status, what is waited for)
    type Case<'a> = (&'a str, &'a [&'a str], &'a [&'a str], bool, &'a Value, &'a str);
    let cases: [Case<'_>; 8] = [
        ("any pod may use it", &["ReadWriteMany"], &[], false, &no_place, "waits for a node: no place"),
        ("only pods of one node may", &["ReadWriteOnce"], &["ReadWriteOnce"], false, &no_place, once),
        ("it has no volume yet", &["ReadWriteOnce"], &[], false, &no_place, once),
        (
            "the volume can do more",
            &["ReadWriteOnce"],
            &["ReadWriteOnce", "ReadWriteMany"],
            false,
            &no_place,
            "waits for a node: no place",
        ),
        ("other nodes may read it", &["ReadWriteOnce", "ReadOnlyMany"], &[], false, &no_place, once),
        ("only one pod may", &["ReadWriteOncePod"], &["ReadWriteOncePod"], false, &no_place, once_pod),
        ("it says nothing", &[], &[], false, &no_place, "waits for a node: no place"),
        ("the pod has its node", &["ReadWriteOnce"], &[], true, &pulls, "waits for its container (ImagePullBackOff)"),
    ];
    for (what, asked, given, has_node, status, waits) in cases {
        let seen = Seen::default();
        put(&seen.runs, guarded(run("r", json!({ "phase": "Running", "attempts": 1 }))));
        put(&seen.jobs, crate::fixture::job(1, "r", None));
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({
            "metadata": { "name": "bam-dir", "namespace": "lab" },
            "spec": { "accessModes": asked }, "status": { "accessModes": given },
        }))
        .unwrap();
        put(&seen.claims, claim);
        let mut pod = pod(1, status.clone());
        pod.spec.get_or_insert_default().node_name = has_node.then(|| "node-1".to_owned());
        put(&seen.pods, pod);
        let (_, mut observed) = seen.run("lab", RUN, None, Timestamp::UNIX_EPOCH).unwrap();
        let state = observed.attempts.remove(&1).unwrap().state;
        assert_eq!(state, AttemptState::Starting(waits.to_owned()), "{what}");
    }
}
