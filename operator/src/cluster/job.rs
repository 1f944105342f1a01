//! An attempt as a Job. Pure: the same run, number and settings make the same Job.

use std::collections::BTreeMap;

use bam_crds::experiment::{Resources, StorageSpec};
use bam_crds::{BamRun, BamRunSpec, names};
use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
    PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, DownwardAPIVolumeFile, DownwardAPIVolumeSource, EmptyDirVolumeSource,
    EnvFromSource, EnvVar, EnvVarSource, ObjectFieldSelector, PersistentVolumeClaimVolumeSource, PodSecurityContext,
    PodSpec, PodTemplateSpec, ResourceRequirements, SeccompProfile, SecretEnvSource, SecurityContext, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

use super::placement::{self, Claim};
use super::slice;
use crate::attempt;
use crate::plan::{Rung, Start};

/// Name of the trainer's container.
pub const CONTAINER: &str = "trainer";
/// Port at which a trainer tells its progress.
pub const PORT: u16 = 8080;
/// The user that trainers run as.
pub const USER: i64 = 65_532;
/// Where a trainer sees the store, or has its working copy of it.
const STORE: &str = "/bam";
/// Where a trainer sees what it is told.
const CONFIG: &str = "/etc/bam";
/// Where a trainer leaves its last word.
pub(super) const LAST_WORD: &str = "/dev/termination-log";
/// How long a trainer has to write a checkpoint after SIGTERM: a large model into a slow store.
const GRACE_SECONDS: i64 = 120;

/// What the operator was told about trainers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trainer {
    /// Its image, where a run names none.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub pull_policy: String,
}

/// The run that a Job belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its identity.
    pub uid: &'a str,
    /// The experiment that made it; empty: nobody knows.
    pub made_by: &'a str,
    /// What it is.
    pub spec: &'a BamRunSpec,
    /// The claim that holds its store, if it is in one.
    pub claim: Option<&'a Claim>,
}

/// The Job of an attempt.
pub fn job(run: Owner<'_>, start: &Start, trainer: &Trainer) -> Job {
    let labels = labels(run, start);
    let queue_name = run.spec.pod.queue_name.as_ref();
    let queue = queue_name.map(|queue| (names::QUEUE_LABEL.to_owned(), queue.clone()));
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels.clone()),
            annotations: Some(annotations(run.spec, start.rung)),
            ..ObjectMeta::default()
        }),
        spec: Some(pod(run.spec, trainer)),
    };
    let job = Job {
        metadata: ObjectMeta {
            name: Some(names::attempt(&start.run, start.number)),
            namespace: Some(run.namespace.to_owned()),
            labels: Some(labels.clone().into_iter().chain(queue).collect()),
            owner_references: Some(vec![owner(&start.run, run.uid)]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            // One try: the operator alone decides about the next one.
            backoff_limit: Some(0),
            completions: Some(1),
            parallelism: Some(1),
            pod_replacement_policy: Some("Failed".to_owned()),
            pod_failure_policy: queue_name.is_none().then(failure_policy),
            // From its first moment on, also where Kueue's webhook is not asked: nobody gets past the queue.
            suspend: queue_name.is_some().then_some(true),
            template: placement::placed(template, run.spec, run.claim),
            ..JobSpec::default()
        }),
        status: None,
    };
    match run.spec.hosts() {
        ..=1 => job,
        hosts => slice::spread(job, run.uid, start, hosts),
    }
}

/// A run as the owner of what is made for it.
pub(super) fn owner(run: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: BamRun::api_version(&()).into_owned(),
        kind: BamRun::kind(&()).into_owned(),
        name: run.to_owned(),
        uid: uid.to_owned(),
        controller: Some(true),
        // Nothing waits for Jobs to go, and nobody needs the right to hold up a run's deletion.
        block_owner_deletion: None,
    }
}

fn labels(run: Owner<'_>, start: &Start) -> BTreeMap<String, String> {
    let experiment = Some(run.made_by).filter(|name| !name.is_empty()).map(names::experiment_label);
    let labels = [
        ("app.kubernetes.io/managed-by", names::OPERATOR.to_owned()),
        ("app.kubernetes.io/name", "bam-trainer".to_owned()),
        (names::RUN_LABEL, start.run.clone()),
        (names::ATTEMPT_LABEL, start.number.to_string()),
        (names::ROLE_LABEL, run.spec.role.noun().to_owned()),
    ];
    let labels = labels.into_iter().chain(experiment.map(|name| (names::EXPERIMENT_LABEL, name)));
    labels.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The configuration travels with the pod: no second object that could be missing or be changed.
pub(super) fn annotations(spec: &BamRunSpec, rung: Option<Rung>) -> BTreeMap<String, String> {
    let config = attempt::config(spec, STORE, rung);
    let config = serde_json::to_string(&config).expect("a configuration is plain data");
    BTreeMap::from([(names::CONFIG_ANNOTATION.to_owned(), config)])
}

/// Changes nothing, since a Job has one try: it makes the Job's condition name the exit code or the disruption, also when
/// the pod is gone. Not of a Job in a queue: its rules also fail one that is held back, by the end of the pod that it lost for
/// this, if that is seen in the moment before the pod goes.
fn failure_policy() -> PodFailurePolicy {
    let rule = PodFailurePolicyRule { action: "FailJob".to_owned(), ..PodFailurePolicyRule::default() };
    let disrupted =
        PodFailurePolicyOnPodConditionsPattern { type_: "DisruptionTarget".to_owned(), status: "True".to_owned() };
    let ended_badly = PodFailurePolicyOnExitCodesRequirement {
        container_name: Some(CONTAINER.to_owned()),
        operator: "NotIn".to_owned(),
        values: vec![0],
    };
    PodFailurePolicy {
        rules: vec![
            PodFailurePolicyRule { on_pod_conditions: Some(vec![disrupted]), ..rule.clone() },
            PodFailurePolicyRule { on_exit_codes: Some(ended_badly), ..rule },
        ],
    }
}

/// The pod of an attempt, wherever it may run.
pub(super) fn pod(spec: &BamRunSpec, trainer: &Trainer) -> PodSpec {
    PodSpec {
        restart_policy: Some("Never".to_owned()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        // The trainer is not process 1, for which a signal without a handler is no signal.
        share_process_namespace: Some(true),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        containers: vec![container(spec, trainer)],
        volumes: Some(volumes(spec)),
        ..PodSpec::default()
    }
}

/// What a trainer is told.
pub(super) fn config_file() -> String {
    format!("{CONFIG}/config.json")
}

fn container(spec: &BamRunSpec, trainer: &Trainer) -> Container {
    let config = config_file();
    let listen = format!("0.0.0.0:{PORT}");
    let attempt: &[&str] = if spec.inputs.is_some() { &["inputs"] } else { &["train", "--attempt", "$(POD_NAME)"] };
    let rest = ["--config", &config, "--report", LAST_WORD, "--serve", &listen];
    Container {
        name: CONTAINER.to_owned(),
        image: Some(spec.pod.image.clone().unwrap_or_else(|| trainer.image.clone())),
        image_pull_policy: Some(trainer.pull_policy.clone()),
        command: Some(vec!["bam-trainer".to_owned()]),
        args: Some(attempt.iter().chain(&rest).map(|argument| (*argument).to_owned()).collect()),
        env: Some(vec![
            // The attempt's name in the store: unlike a Job's, a pod's name is never used again.
            EnvVar { name: "POD_NAME".to_owned(), value_from: Some(field("metadata.name")), ..EnvVar::default() },
            // As the trainer would set it, if it had to start itself once more for that.
            EnvVar { name: "OMP_WAIT_POLICY".to_owned(), value: Some("PASSIVE".to_owned()), ..EnvVar::default() },
        ]),
        // The operator has no right to read it, and needs none.
        env_from: spec.pod.secret.clone().map(|name| {
            let secret_ref = SecretEnvSource { name, optional: None };
            vec![EnvFromSource { secret_ref: Some(secret_ref), ..EnvFromSource::default() }]
        }),
        ports: Some(vec![ContainerPort {
            name: Some("http".to_owned()),
            container_port: i32::from(PORT),
            ..ContainerPort::default()
        }]),
        resources: Some(resources(&spec.pod.resources)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..SecurityContext::default()
        }),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(vec![
            mount("store", STORE, false),
            mount("config", CONFIG, true),
            mount("tmp", "/tmp", false),
        ]),
        ..Container::default()
    }
}

fn resources(resources: &Resources) -> ResourceRequirements {
    let quantities = |of: &BTreeMap<String, bam_crds::quantity::Quantity>| {
        (!of.is_empty()).then(|| of.iter().map(|(name, it)| (name.clone(), Quantity(it.0.clone()))).collect())
    };
    ResourceRequirements {
        requests: quantities(&resources.requests),
        limits: quantities(&resources.limits),
        ..ResourceRequirements::default()
    }
}

fn volumes(spec: &BamRunSpec) -> Vec<Volume> {
    let store = Volume { name: "store".to_owned(), ..Volume::default() };
    let store = match storage(spec) {
        // A working copy, which goes with the pod.
        Some(StorageSpec { object_store: Some(_), .. }) => {
            Volume { empty_dir: Some(EmptyDirVolumeSource::default()), ..store }
        }
        _ => {
            let claim_name = claim(spec).unwrap_or_default();
            let claim = PersistentVolumeClaimVolumeSource { claim_name, read_only: None };
            Volume { persistent_volume_claim: Some(claim), ..store }
        }
    };
    let config = DownwardAPIVolumeFile {
        path: "config.json".to_owned(),
        field_ref: field(&format!("metadata.annotations['{}']", names::CONFIG_ANNOTATION)).field_ref,
        ..DownwardAPIVolumeFile::default()
    };
    let config = DownwardAPIVolumeSource { items: Some(vec![config]), default_mode: None };
    vec![
        store,
        Volume { name: "config".to_owned(), downward_api: Some(config), ..Volume::default() },
        Volume { name: "tmp".to_owned(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() },
    ]
}

/// The claim that holds a run's store, if it is in one.
pub fn claim(spec: &BamRunSpec) -> Option<String> {
    Some(storage(spec)?.persistent_volume_claim?.claim_name)
}

fn storage(spec: &BamRunSpec) -> Option<StorageSpec> {
    let config = spec.config.as_ref().map(|config| &config.execution);
    let execution = config.or(spec.inputs.as_ref().map(|inputs| &inputs.execution))?;
    StorageSpec::from_uri(&execution.store)
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

/// A field of the pod itself.
pub(super) fn field(path: &str) -> EnvVarSource {
    let field = ObjectFieldSelector { api_version: None, field_path: path.to_owned() };
    EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }
}
