//! The Job of an attempt.

use bam_crds::BamRunSpec;
use bam_operator::cluster::job::{Owner, Trainer, job};
use bam_operator::plan::{Rung, Start};
use serde_json::{Value, json};

use crate::fixture::{RUN, run};

fn built(image: Option<&str>, rung: Option<Rung>) -> Value {
    let mut spec = run("r", json!({})).spec;
    spec.pod.image = image.map(ToOwned::to_owned);
    spec.pod.resources.limits.insert("memory".to_owned(), bam_crds::quantity::Quantity("4Gi".to_owned()));
    let trainer = Trainer { image: "trainer:1".to_owned(), pull_policy: "IfNotPresent".to_owned() };
    let start = Start { run: RUN.to_owned(), number: 2, rung };
    serde_json::to_value(job(
        Owner { namespace: "lab", uid: "r", made_by: "exp", spec: &spec, claim: None },
        &start,
        &trainer,
    ))
    .unwrap()
}

#[test]
fn a_job_is_one_try_that_belongs_to_its_run() {
    let job = built(None, None);
    let expected = [
        ("/metadata/name", json!(format!("{RUN}-2"))),
        ("/metadata/ownerReferences/0/uid", json!("r")),
        ("/metadata/ownerReferences/0/controller", json!(true)),
        ("/metadata/labels/bam.dev~1run", json!(RUN)),
        ("/metadata/labels/bam.dev~1experiment", json!("exp")),
        ("/spec/template/metadata/labels/bam.dev~1run", json!(RUN)),
        ("/spec/template/metadata/labels/bam.dev~1experiment", json!("exp")),
        ("/spec/template/metadata/labels/bam.dev~1attempt", json!("2")),
        ("/spec/backoffLimit", json!(0)),
        ("/spec/podReplacementPolicy", json!("Failed")),
        ("/spec/template/spec/restartPolicy", json!("Never")),
        ("/spec/template/spec/containers/0/image", json!("trainer:1")),
        ("/spec/template/spec/containers/0/resources/limits/memory", json!("4Gi")),
        ("/spec/template/spec/volumes/0/persistentVolumeClaim/claimName", json!("bam-dir")),
        ("/spec/ttlSecondsAfterFinished", Value::Null),
        ("/spec/suspend", Value::Null),
    ];
    for (path, value) in expected {
        assert_eq!(job.pointer(path).unwrap_or(&Value::Null), &value, "{path}");
    }
}

#[test]
fn a_job_in_a_queue_is_made_held_back_and_may_lose_its_pod_for_it() {
    let mut spec = run("r", json!({})).spec;
    let built = |spec: &BamRunSpec| {
        let trainer = Trainer { image: "trainer:1".to_owned(), pull_policy: "IfNotPresent".to_owned() };
        let start = Start { run: RUN.to_owned(), number: 1, rung: None };
        let owner = Owner { namespace: "lab", uid: "r", made_by: "exp", spec, claim: None };
        serde_json::to_value(job(owner, &start, &trainer)).unwrap()
    };
    let free = built(&spec);
    assert_eq!(free["spec"]["podFailurePolicy"]["rules"][1]["onExitCodes"]["values"], json!([0]));
    spec.pod.queue_name = Some("team".to_owned());
    let queued = built(&spec);
    assert_eq!(queued["metadata"]["labels"]["kueue.x-k8s.io/queue-name"], json!("team"));
    assert_eq!(queued["spec"]["suspend"], json!(true));
    // Its rules are asked about a pod that was deleted to hold the Job back, too.
    assert_eq!(queued["spec"]["podFailurePolicy"], Value::Null);
}

#[test]
fn a_pod_has_no_right_that_it_does_not_need() {
    let job = built(None, None);
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], json!(false));
    assert_eq!(pod["securityContext"]["runAsNonRoot"], json!(true));
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], json!("RuntimeDefault"));
    let container = &pod["containers"][0]["securityContext"];
    assert_eq!(container["allowPrivilegeEscalation"], json!(false));
    assert_eq!(container["readOnlyRootFilesystem"], json!(true));
    assert_eq!(container["capabilities"]["drop"], json!(["ALL"]));
}

#[test]
fn the_trainer_is_told_where_it_sees_the_store_and_which_rung_it_is_on() {
    let job = built(Some("mine:2"), Some(Rung { micro_batch_tokens: 512, activation_checkpointing: true }));
    let pod = &job["spec"]["template"];
    let config: Value =
        serde_json::from_str(pod["metadata"]["annotations"]["bam.dev/config"].as_str().unwrap()).unwrap();
    assert_eq!(config["execution"]["store"], json!("/bam"));
    assert_eq!(config["execution"]["microBatchTokens"], json!(512));
    assert_eq!(config["execution"]["activationCheckpointing"], json!(true));
    assert_eq!(pod["spec"]["containers"][0]["image"], json!("mine:2"));
    let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().any(|mount| mount["mountPath"] == json!("/bam")));
}

#[test]
fn of_an_object_store_the_pod_has_a_working_copy_and_the_credentials_that_nobody_else_sees() {
    let mut spec = run("r", json!({})).spec;
    spec.inputs.as_mut().unwrap().execution.store = "s3://models/bam".to_owned();
    spec.pod.secret = Some("keys".to_owned());
    let trainer = Trainer { image: "trainer:1".to_owned(), pull_policy: "IfNotPresent".to_owned() };
    let start = Start { run: RUN.to_owned(), number: 1, rung: None };
    let job = job(Owner { namespace: "lab", uid: "r", made_by: "exp", spec: &spec, claim: None }, &start, &trainer);
    let job = serde_json::to_value(job).unwrap();
    let pod = &job["spec"]["template"];
    assert_eq!(pod["spec"]["volumes"][0], json!({ "name": "store", "emptyDir": {} }));
    assert_eq!(pod["spec"]["containers"][0]["envFrom"], json!([{ "secretRef": { "name": "keys" } }]));
    let config: Value =
        serde_json::from_str(pod["metadata"]["annotations"]["bam.dev/config"].as_str().unwrap()).unwrap();
    assert_eq!(config["execution"]["store"], json!("/bam"));
    assert_eq!(config["execution"]["objectStore"], json!("s3://models/bam"));
}
