//! Profiles: what comes of them and a manifest, who waits for them, and what a change of them touches.

use bam_crds::experiment::{BamExperiment, ExperimentPhase, PinnedInputs};
use bam_crds::profile::{ProfileInUse, ProfileKind, ProfileRef};
use bam_crds::run::RunPhase;
use bam_crds::{BamExperimentStatus, BamProfileSpec, BamRunSpec, BamRunStatus};
use bam_operator::plan::experiment::{Observed, Run, plan};
use bam_operator::plan::graph::inputs;
use bam_operator::plan::profile::{Found, resolve};
use bam_operator::plan::{Action, Plan, Why};
use serde_json::{Value, json};

use crate::build;

fn profile(spec: Value) -> BamProfileSpec {
    serde_json::from_value(spec).unwrap()
}

/// An experiment that names the profile `l4`, and says this itself.
fn naming(says: Value) -> BamExperiment {
    let mut experiment = build::distilled(&["rte"]);
    let said = profile(says);
    experiment.spec.compute = said.compute;
    experiment.spec.compute.profile = Some(ProfileRef { name: "l4".to_owned(), ..ProfileRef::default() });
    (experiment.spec.priority_class_name, experiment.spec.failure_policy) =
        (said.priority_class_name, said.failure_policy);
    experiment.spec.queue_name = said.queue_name;
    experiment
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(&format!("{{{text}}}")).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// What comes of both, without the profile's name.
fn both(manifest: &str, of: &str) -> BamProfileSpec {
    let mut spec = resolve(&naming(yaml(manifest)).spec, &profile(yaml(of)));
    spec.compute.profile = None;
    let (compute, priority_class_name, failure_policy) = (spec.compute, spec.priority_class_name, spec.failure_policy);
    BamProfileSpec { compute, priority_class_name, queue_name: spec.queue_name, failure_policy }
}

/// By sentence: the manifest, its profile, and what comes of them.
const MERGES: [[&str; 4]; 14] = [
    [
        "silence takes all of it",
        "",
        "compute: {image: a, threads: 4, keepJobs: Always}, priorityClassName: low, failurePolicy: {applicationRetries: 3}",
        "compute: {image: a, threads: 4, keepJobs: Always}, priorityClassName: low, failurePolicy: {applicationRetries: 3}",
    ],
    [
        "silence of the profile takes nothing away",
        "compute: {image: a}, priorityClassName: low, queueName: team-a",
        "",
        "compute: {image: a}, priorityClassName: low, queueName: team-a",
    ],
    [
        "a default that is written out counts",
        "compute: {spot: false, keepJobs: OnFailure, writeTestOutputs: false}",
        "compute: {spot: true, keepJobs: Always, writeTestOutputs: true}",
        "compute: {spot: false, keepJobs: OnFailure, writeTestOutputs: false}",
    ],
    [
        "of retries as well, each for itself",
        "failurePolicy: {applicationRetries: 1}",
        "failurePolicy: {applicationRetries: 5, infrastructureRetries: 30, pendingDeadlineSeconds: 60}",
        "failurePolicy: {applicationRetries: 1, infrastructureRetries: 30, pendingDeadlineSeconds: 60}",
    ],
    [
        "one field leaves the others",
        "compute: {image: mine, microBatchTokens: 512}, priorityClassName: high, queueName: team-b",
        "compute: {image: a, threads: 4, microBatchTokens: 256, saveCheckpointsSteps: 9}, priorityClassName: low, queueName: team-a",
        "compute: {image: mine, threads: 4, microBatchTokens: 512, saveCheckpointsSteps: 9}, priorityClassName: high, queueName: team-b",
    ],
    [
        "amounts are laid over each other by their names",
        "compute: {resources: {requests: {memory: 8Gi}}}",
        "compute: {resources: {requests: {cpu: 1, memory: 4Gi}, limits: {memory: 9Gi}}}",
        "compute: {resources: {requests: {cpu: 1, memory: 8Gi}, limits: {memory: 9Gi}}}",
    ],
    [
        "node selectors too",
        "compute: {podTemplate: {spec: {nodeSelector: {zone: b}}}}",
        "compute: {podTemplate: {spec: {nodeSelector: {pool: nlp, zone: a}}}}",
        "compute: {podTemplate: {spec: {nodeSelector: {pool: nlp, zone: b}}}}",
    ],
    [
        "and labels and annotations",
        "compute: {podTemplate: {metadata: {labels: {team: mine}, annotations: {b: c}}}}",
        "compute: {podTemplate: {metadata: {labels: {team: all, cost: low}, annotations: {a: b}}}}",
        "compute: {podTemplate: {metadata: {labels: {team: mine, cost: low}, annotations: {a: b, b: c}}}}",
    ],
    [
        "tolerations are added, each once",
        "compute: {podTemplate: {spec: {tolerations: [{key: b, value: x}, {key: c, value: x}]}}}",
        "compute: {podTemplate: {spec: {tolerations: [{key: a, value: x}, {key: b, value: x}]}}}",
        "compute: {podTemplate: {spec: {tolerations: [{key: a, value: x}, {key: b, value: x}, {key: c, value: x}]}}}",
    ],
    [
        "and pull secrets",
        "compute: {podTemplate: {spec: {imagePullSecrets: [{name: b}]}}}",
        "compute: {podTemplate: {spec: {imagePullSecrets: [{name: a}, {name: b}]}}}",
        "compute: {podTemplate: {spec: {imagePullSecrets: [{name: a}, {name: b}]}}}",
    ],
    [
        "who runs a pod is one name",
        "compute: {podTemplate: {spec: {schedulerName: mine}}}",
        "compute: {podTemplate: {spec: {schedulerName: theirs, serviceAccountName: trainer, runtimeClassName: nvidia}}}",
        "compute: {podTemplate: {spec: {schedulerName: mine, serviceAccountName: trainer, runtimeClassName: nvidia}}}",
    ],
    [
        "an accelerator is taken as a whole",
        "compute: {accelerator: {nvidia: {count: 2}}}",
        "compute: {accelerator: {nvidia: {count: 1, product: NVIDIA-L4}}}",
        "compute: {accelerator: {nvidia: {count: 2}}}",
    ],
    [
        "who counts GPUs by hand gets no accelerator besides",
        "compute: {resources: {limits: {nvidia.com/gpu: 2}}}",
        "compute: {accelerator: {nvidia: {count: 1}}}",
        "compute: {resources: {limits: {nvidia.com/gpu: 2}}}",
    ],
    [
        "and who names an accelerator none by hand",
        "compute: {accelerator: {nvidia: {count: 1}}}",
        "compute: {resources: {limits: {nvidia.com/gpu: 2, cpu: 4}}}",
        "compute: {accelerator: {nvidia: {count: 1}}, resources: {limits: {cpu: 4}}}",
    ],
];

#[test]
fn what_the_manifest_says_itself_goes_above_its_profile_field_by_field() {
    for [sentence, manifest, of, expected] in MERGES {
        assert_eq!(both(manifest, of), profile(yaml(expected)), "{sentence}");
    }
}

#[test]
fn nothing_but_how_runs_are_carried_out_comes_from_a_profile() {
    let mut experiment = naming(json!({}));
    let named = experiment.spec.compute.profile.clone();
    let spec = resolve(&experiment.spec, &profile(json!({ "compute": { "image": "a" }, "priorityClassName": "low" })));
    assert_eq!(spec.compute.profile, named);
    experiment.spec.compute = spec.compute.clone();
    experiment.spec.priority_class_name = spec.priority_class_name.clone();
    assert_eq!(spec, experiment.spec);
}

/// What is seen of an experiment whose inputs are known; or of a new one.
fn seen(experiment: &BamExperiment, pinned: bool, profile: Result<(i64, Value), Why>) -> Observed {
    let run = inputs(&experiment.spec, "key").name;
    let report = build::findings(&experiment.spec.tasks.iter().map(|task| task.name.clone()).collect::<Vec<_>>());
    let inputs = pinned.then_some(PinnedInputs { run, report });
    Observed {
        status: BamExperimentStatus { inputs, ..Default::default() },
        inputs_key: "key".to_owned(),
        profile: Some(
            profile.map(|(generation, spec)| Found { generation, spec: serde_json::from_value(spec).unwrap() }),
        ),
        ..Observed::default()
    }
}

fn missing() -> Why {
    Why::ProfileMissing { profile: "BamProfile l4".to_owned(), place: "in namespace lab".to_owned() }
}

fn made(plan: &Plan<BamExperimentStatus>) -> Vec<(String, BamRunSpec)> {
    let made = plan.actions.iter().filter_map(|planned| match &planned.action {
        Action::CreateRun { name, spec } => Some((name.clone(), (**spec).clone())),
        _ => None,
    });
    made.collect()
}

fn there(spec: &BamRunSpec, made_by: &str, phase: RunPhase) -> Run {
    let status = BamRunStatus { phase, ..BamRunStatus::default() };
    Run { made_by: made_by.to_owned(), owned: true, spec: spec.clone(), status, reopened: Default::default() }
}

const SAID: &str = "the experiment waits for BamProfile l4, which does not exist in namespace lab: create it, or name another one \
                    in spec.compute.profile";

#[test]
fn without_its_profile_nothing_is_made_and_the_status_says_so_once() {
    for (pinned, phase) in [(false, ExperimentPhase::Pending), (true, ExperimentPhase::TrainingTeachers)] {
        let mut experiment = naming(json!({}));
        experiment.spec.tasks.extend(build::experiment(&["mrpc"]).spec.tasks);
        let plan = plan(&experiment, &seen(&experiment, pinned, Err(missing())), build::start());
        assert_eq!((plan.actions, plan.status.phase), (vec![], phase));
        assert_eq!((plan.status.waiting_for.as_str(), &plan.status.profile), (SAID, &None));
        let complete = plan.status.conditions.iter().find(|it| it.type_ == "Complete").unwrap();
        assert_eq!((complete.reason.as_str(), complete.message.as_str()), ("ProfileMissing", SAID));
    }
}

#[test]
fn what_is_under_way_goes_on_without_its_profile_and_the_status_says_both() {
    let experiment = naming(json!({}));
    let first = plan(&experiment, &seen(&experiment, true, Ok((1, json!({})))), build::start());
    let [(teacher, spec)] = &made(&first)[..] else { panic!("one teacher: {first:#?}") };
    let mut observed = seen(&experiment, true, Err(missing()));
    observed.runs.insert(teacher.clone(), there(spec, "exp", RunPhase::Running));
    let plan = plan(&experiment, &observed, build::start());
    assert_eq!(plan.actions, vec![]);
    assert_eq!(plan.status.waiting_for, format!("{SAID}; teacher rte is under way (attempt 0)"));
}

#[test]
fn a_profile_that_cannot_be_read_is_waited_for_too() {
    let experiment = naming(json!({}));
    let why = Why::ProfileUnreadable { profile: "BamProfile l4".to_owned(), message: "it is odd".to_owned() };
    let plan = plan(&experiment, &seen(&experiment, false, Err(why)), build::start());
    assert_eq!(made(&plan), vec![]);
    let said = "the experiment waits for BamProfile l4, which cannot be read: it is odd";
    assert_eq!(plan.status.waiting_for, said);
}

#[test]
fn who_is_suspended_is_told_nothing_of_it() {
    let mut experiment = naming(json!({}));
    experiment.spec.suspend = true;
    let plan = plan(&experiment, &seen(&experiment, false, Err(missing())), build::start());
    assert!(!plan.status.waiting_for.contains("BamProfile"), "{}", plan.status.waiting_for);
}

#[test]
fn a_run_is_made_with_what_its_profile_says_then_and_the_status_says_which_one_that_is() {
    let experiment = naming(json!({ "compute": { "threads": 2 } }));
    let says = json!({ "compute": { "image": "theirs", "threads": 8, "spot": true }, "failurePolicy": { "applicationRetries": 4 } });
    for pinned in [false, true] {
        let plan = plan(&experiment, &seen(&experiment, pinned, Ok((7, says.clone()))), build::start());
        let [(_, spec)] = &made(&plan)[..] else { panic!("one run: {plan:#?}") };
        assert_eq!((spec.pod.image.as_deref(), spec.pod.spot), (Some("theirs"), true));
        assert_eq!(spec.failure_policy.application_retries, 4);
        let execution = spec.config.as_ref().map(|it| &it.execution).or(spec.inputs.as_ref().map(|it| &it.execution));
        assert_eq!(execution.unwrap().threads, Some(2));
        let in_use = ProfileInUse { kind: ProfileKind::BamProfile, name: "l4".to_owned(), generation: 7 };
        assert_eq!(plan.status.profile, Some(in_use));
    }
}

#[test]
fn a_profile_gives_no_run_another_name() {
    let experiment = naming(json!({}));
    let names = |says: Value| {
        let plan = plan(&experiment, &seen(&experiment, true, Ok((1, says))), build::start());
        plan.status.runs.into_iter().map(|run| run.name).collect::<Vec<_>>()
    };
    assert_eq!(names(json!({})), names(json!({ "compute": { "image": "a", "threads": 3, "spot": true } })));
}

#[test]
fn a_change_of_the_profile_touches_no_run_that_is_there_and_is_no_difference() {
    let experiment =
        naming(json!({ "compute": { "threads": 2, "podTemplate": { "metadata": { "labels": { "a": "b" } } } } }));
    let labels = |label: &str| json!({ "metadata": { "labels": { "from": label } } });
    let says = |image: &str| json!({ "compute": { "image": image, "threads": 8, "podTemplate": labels(image) } });
    let first = plan(&experiment, &seen(&experiment, true, Ok((1, says("one")))), build::start());
    let [(teacher, spec)] = &made(&first)[..] else { panic!("one teacher: {first:#?}") };
    for made_by in ["exp", "theirs"] {
        let mut observed = seen(&experiment, true, Ok((2, says("two"))));
        observed.runs.insert(teacher.clone(), there(spec, made_by, RunPhase::Succeeded));
        let then = plan(&experiment, &observed, build::start());
        let [(_, student)] = &made(&then)[..] else { panic!("the student alone: {then:#?}") };
        assert_eq!(student.pod.image.as_deref(), Some("two"));
        let shared = then.status.runs.iter().find(|run| run.name == *teacher).unwrap().shared.clone();
        let expected = if made_by == "exp" { "" } else { "is shared with experiment theirs, which made it" };
        assert_eq!(shared, expected);
    }
}

#[test]
fn what_the_manifest_says_itself_and_a_shared_run_has_not_is_a_difference() {
    let theirs = naming(json!({}));
    let first = plan(&theirs, &seen(&theirs, true, Ok((1, json!({ "compute": { "image": "one" } })))), build::start());
    let [(teacher, spec)] = &made(&first)[..] else { panic!("one teacher: {first:#?}") };
    let ours =
        naming(json!({ "compute": { "threads": 2, "spot": false }, "failurePolicy": { "applicationRetries": 3 } }));
    let mut observed = seen(&ours, true, Ok((2, json!({ "compute": { "image": "two", "keepJobs": "Never" } }))));
    observed.runs.insert(teacher.clone(), there(spec, "theirs", RunPhase::Running));
    let shared = plan(&ours, &observed, build::start()).status.runs[1].shared.clone();
    let said = "is shared with experiment theirs, which made it; what is said here of failurePolicy and threads does not count";
    assert_eq!(shared, said);
}

#[test]
fn what_is_over_keeps_the_profile_that_it_was_made_with() {
    let experiment = naming(json!({}));
    let mut observed = seen(&experiment, true, Ok((1, json!({}))));
    for _ in 0..2 {
        for (name, spec) in made(&plan(&experiment, &observed, build::start())) {
            observed.runs.insert(name, there(&spec, "exp", RunPhase::Succeeded));
        }
    }
    observed.status = plan(&experiment, &observed, build::start()).status;
    assert_eq!(observed.status.phase, ExperimentPhase::Complete);
    for profile in [Ok(Found { generation: 2, spec: profile(json!({})) }), Err(missing())] {
        observed.profile = Some(profile);
        let again = plan(&experiment, &observed, build::start());
        assert_eq!((again.actions, again.status), (vec![], observed.status.clone()), "nothing is written");
    }
}
