//! The profile that a manifest names, and what comes of both: what the manifest says itself goes above it, field by field.

use std::collections::BTreeMap;

use bam_crds::experiment::{ComputeSpec, FailurePolicyOverrides, Resources};
use bam_crds::placement::{PodMetadata, PodOverlay, PodTemplate};
use bam_crds::profile::{ProfileInUse, ProfileRef};
use bam_crds::run::RunPod;
use bam_crds::{BamExperimentSpec, BamProfileSpec, BamRunSpec, Execution};

use super::Why;
use super::graph;

/// A profile that was found, and how it stood.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The generation of its spec.
    pub generation: i64,
    /// What it says.
    pub spec: BamProfileSpec,
}

/// The profile that a manifest names, if it names one; or why nobody can tell what it says.
pub type Named = Option<Result<Found, Why>>;

/// How a status shows it.
pub(super) fn in_use(reference: &ProfileRef, found: &Found) -> ProfileInUse {
    ProfileInUse { kind: reference.kind, name: reference.name.clone(), generation: found.generation }
}

/// The manifest with all that its profile says where it is silent: by names (amounts, labels, annotations, node selectors),
/// what is a list together, and everything else as a whole.
pub fn resolve(spec: &BamExperimentSpec, profile: &BamProfileSpec) -> BamExperimentSpec {
    BamExperimentSpec {
        compute: compute(&spec.compute, &profile.compute),
        priority_class_name: either(&spec.priority_class_name, &profile.priority_class_name),
        queue_name: either(&spec.queue_name, &profile.queue_name),
        failure_policy: failure_policy(&spec.failure_policy, &profile.failure_policy),
        ..spec.clone()
    }
}

fn compute(own: &ComputeSpec, base: &ComputeSpec) -> ComputeSpec {
    // Accelerators are asked for in one of two ways: who does it in one has nothing of the other.
    let counts = |resources: &Resources| {
        let mut names = resources.requests.keys().chain(resources.limits.keys());
        names.any(|name| is_accelerator(name))
    };
    let accelerator = if counts(&own.resources) { None } else { base.accelerator.clone() };
    let mut resources = base.resources.clone();
    if own.accelerator.is_some() {
        resources.requests.retain(|name, _| !is_accelerator(name));
        resources.limits.retain(|name, _| !is_accelerator(name));
    }
    ComputeSpec {
        profile: own.profile.clone(),
        image: either(&own.image, &base.image),
        resources: Resources {
            requests: by_name(&own.resources.requests, &resources.requests),
            limits: by_name(&own.resources.limits, &resources.limits),
        },
        accelerator: own.accelerator.clone().or(accelerator),
        spot: own.spot.or(base.spot),
        pod_template: pod_template(&own.pod_template, &base.pod_template),
        threads: own.threads.or(base.threads),
        micro_batch_tokens: own.micro_batch_tokens.or(base.micro_batch_tokens),
        save_checkpoints_steps: own.save_checkpoints_steps.or(base.save_checkpoints_steps),
        write_test_outputs: own.write_test_outputs.or(base.write_test_outputs),
        keep_jobs: own.keep_jobs.or(base.keep_jobs),
    }
}

fn is_accelerator(resource: &str) -> bool {
    ["nvidia.com/gpu", "google.com/tpu"].contains(&resource)
}

fn pod_template(own: &PodTemplate, base: &PodTemplate) -> PodTemplate {
    PodTemplate {
        metadata: PodMetadata {
            labels: by_name(&own.metadata.labels, &base.metadata.labels),
            annotations: by_name(&own.metadata.annotations, &base.metadata.annotations),
        },
        spec: PodOverlay {
            node_selector: by_name(&own.spec.node_selector, &base.spec.node_selector),
            tolerations: together(&own.spec.tolerations, &base.spec.tolerations),
            image_pull_secrets: together(&own.spec.image_pull_secrets, &base.spec.image_pull_secrets),
            service_account_name: either(&own.spec.service_account_name, &base.spec.service_account_name),
            runtime_class_name: either(&own.spec.runtime_class_name, &base.spec.runtime_class_name),
            scheduler_name: either(&own.spec.scheduler_name, &base.spec.scheduler_name),
        },
    }
}

fn failure_policy(own: &FailurePolicyOverrides, base: &FailurePolicyOverrides) -> FailurePolicyOverrides {
    FailurePolicyOverrides {
        application_retries: own.application_retries.or(base.application_retries),
        infrastructure_retries: own.infrastructure_retries.or(base.infrastructure_retries),
        pending_deadline_seconds: own.pending_deadline_seconds.or(base.pending_deadline_seconds),
    }
}

fn either(own: &Option<String>, base: &Option<String>) -> Option<String> {
    own.as_ref().or(base.as_ref()).cloned()
}

fn by_name<T: Clone>(own: &BTreeMap<String, T>, base: &BTreeMap<String, T>) -> BTreeMap<String, T> {
    base.iter().chain(own).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Each once.
fn together<T: Clone + PartialEq>(own: &[T], base: &[T]) -> Vec<T> {
    let new = own.iter().filter(|item| !base.contains(item));
    base.iter().chain(new).cloned().collect()
}

/// What the manifest asks of `made`, a run that is there, if whatever it leaves to its profile is as it was when that was made:
/// profiles change, and runs stay as they are.
pub(super) fn asked_of(made: &BamRunSpec, manifest: &BamExperimentSpec, wanted: &BamRunSpec) -> BamRunSpec {
    let spec = resolve(manifest, &as_made(made));
    let mut asked = wanted.clone();
    asked.failure_policy = spec.failure_policy.resolve();
    asked.pod = RunPod { secret: wanted.pod.secret.clone(), ..graph::pod(&spec) };
    if let Some(config) = &mut asked.config {
        let execution = std::mem::take(&mut config.execution);
        config.execution = Execution {
            threads: spec.compute.threads,
            micro_batch_tokens: spec.compute.micro_batch_tokens,
            save_checkpoints_steps: spec.compute.save_checkpoints_steps,
            write_test_outputs: spec.compute.write_test_outputs.unwrap_or_default(),
            ..execution
        };
    }
    asked
}

/// How a run is carried out, as if a profile said so.
fn as_made(run: &BamRunSpec) -> BamProfileSpec {
    let (pod, policy) = (&run.pod, &run.failure_policy);
    let execution = run.config.as_ref().map(|config| &config.execution);
    BamProfileSpec {
        compute: ComputeSpec {
            profile: None,
            image: pod.image.clone(),
            resources: pod.resources.clone(),
            accelerator: pod.accelerator.clone(),
            spot: Some(pod.spot),
            pod_template: pod.pod_template.clone(),
            threads: execution.and_then(|it| it.threads),
            micro_batch_tokens: execution.and_then(|it| it.micro_batch_tokens),
            save_checkpoints_steps: execution.and_then(|it| it.save_checkpoints_steps),
            write_test_outputs: execution.map(|it| it.write_test_outputs),
            keep_jobs: Some(pod.keep_jobs),
        },
        priority_class_name: pod.priority_class_name.clone(),
        queue_name: pod.queue_name.clone(),
        failure_policy: FailurePolicyOverrides {
            application_retries: Some(policy.application_retries),
            infrastructure_retries: Some(policy.infrastructure_retries),
            pending_deadline_seconds: policy.pending_deadline_seconds,
        },
    }
}
