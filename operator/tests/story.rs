//! What happened, as events tell it.

use bam_crds::BamExperimentStatus;
use bam_crds::experiment::ExperimentPhase;
use bam_operator::cluster::story;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

fn waits(phase: ExperimentPhase, reason: &str) -> BamExperimentStatus {
    let condition = Condition {
        type_: "Complete".to_owned(),
        status: "False".to_owned(),
        reason: reason.to_owned(),
        message: "inputs check waits for the PersistentVolumeClaim bam-dir".to_owned(),
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
        observed_generation: None,
    };
    BamExperimentStatus { phase, conditions: vec![condition], ..BamExperimentStatus::default() }
}

fn reasons(before: &BamExperimentStatus, after: &BamExperimentStatus) -> Vec<String> {
    story::of_experiment(before, after).into_iter().map(|chapter| chapter.reason).collect()
}

#[test]
fn what_needs_somebody_is_told_also_when_the_phase_changes_at_the_same_moment() {
    let pending = BamExperimentStatus::default();
    let missing = waits(ExperimentPhase::CheckingInputs, "ClaimMissing");
    assert_eq!(reasons(&pending, &missing), ["CheckingInputs", "ClaimMissing"]);
    assert_eq!(reasons(&missing, &missing), Vec::<String>::new(), "once");
}
