//! Why something is done, or is not done yet.
//!
//! One type for the reason of an action and of its absence: [`Why::reason`] is the stable word for conditions, events
//! and metrics, and the [`Display`](std::fmt::Display) is the sentence that a person reads in `status.waitingFor`, in a
//! log line and in `bam explain`. The sentence continues "teacher rte …".

use std::fmt;

use bam_crds::report::Stage;
use bam_crds::run::RunProgress;
use k8s_openapi::jiff::Timestamp;

/// Why a run stands where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The check did not say all that is needed.
    InputsIncomplete {
        /// What it says nothing about.
        lacks: String,
    },
    /// A teacher that the manifest names cannot be told yet.
    TeacherUnknown {
        /// What is missing, and what to do.
        message: String,
    },
    /// Experiments name each other as teachers.
    TeacherCycle {
        /// Their names; the last one is the first one.
        experiments: Vec<String>,
    },
    /// A student needs its teachers' targets.
    TeachersNotDone {
        /// The titles of those that are not done.
        teachers: Vec<String>,
    },
    /// A teacher is not good enough.
    BelowGate {
        /// Its title: the best one's, if there are several.
        teacher: String,
        /// What it reached.
        reached: String,
        /// What it was to reach.
        min: String,
    },
    /// A student's teacher failed for good.
    TeacherFailed {
        /// The titles of those that failed.
        teachers: Vec<String>,
    },
    /// No student that is still to be trained learns from this teacher.
    NotNeeded,
    /// As many runs are under way as may be.
    NoPlace {
        /// How many that are.
        limit: u32,
    },
    /// Nobody who needs this run wants anything to be trained now.
    Suspended,
    /// The experiment is not wanted any more.
    Cancelled,
    /// The experiment has taken longer than it may.
    DeadlineExceeded {
        /// How long it may take.
        seconds: u32,
    },
    /// Nobody has made this run yet.
    New,
    /// The store has the whole manifest of this run.
    Cached,
    /// Another experiment made this run.
    Joined {
        /// Which one.
        by: String,
        /// Where its wishes for the execution differ from this experiment's.
        differences: Vec<String>,
    },
    /// Targets of a teacher are missing or not what they were; it is trained again.
    TeacherGone {
        /// The tasks whose targets are waited for.
        tasks: Vec<String>,
    },
    /// The run was done, but its artifacts are gone from the store.
    Lost,
    /// A student's attempt did not find this run's targets as they should be.
    TargetsGone {
        /// The attempts.
        attempts: Vec<String>,
    },
    /// The run itself says what it waits for.
    Waits {
        /// The stable name of that.
        reason: String,
        /// In a person's words.
        message: String,
    },
    /// The profile that the manifest names is not there.
    ProfileMissing {
        /// Its kind and name.
        profile: String,
        /// Where it is not: `in namespace lab`.
        place: String,
    },
    /// The profile that the manifest names cannot be read.
    ProfileUnreadable {
        /// Its kind and name.
        profile: String,
        /// Why, and what to do.
        message: String,
    },
    /// The volume claim that holds the store is not there.
    ClaimMissing {
        /// Its name.
        claim: String,
    },
    /// There is a run of that name, and it is being deleted.
    Leaving,
    /// There is a run of that name, and this operator cannot read it.
    Undecodable {
        /// What is wrong with it.
        message: String,
    },
    /// An attempt could not be begun.
    Refused {
        /// By whom, and why.
        message: String,
    },
    /// An attempt is begun, and waits for its turn.
    Queued {
        /// Its number.
        attempt: u32,
        /// In which queue, and why.
        waits: String,
    },
    /// An attempt is begun, but not at work yet.
    Starting {
        /// Its number.
        attempt: u32,
        /// What it waits for.
        waits: String,
    },
    /// An attempt is over, and the run's status tells of it.
    Settled {
        /// Its number.
        attempt: u32,
    },
    /// A run is tried again although it was over.
    AskedAgain {
        /// Who asked for it.
        by: Vec<String>,
    },
    /// A run is tried for the first time.
    FirstAttempt,
    /// A run is tried again.
    AnotherAttempt {
        /// How the last attempt ended.
        ended: String,
    },
    /// A run is tried again, but not yet.
    BackingOff {
        /// How the last attempt ended.
        ended: String,
        /// When it is tried again.
        until: Timestamp,
    },
    /// An attempt is under way.
    UnderWay {
        /// Its number.
        attempt: u32,
        /// How far it is, as far as that is known.
        progress: Option<RunProgress>,
    },
    /// An attempt was under way when its machine was heard of last.
    NodeSilent {
        /// Its number.
        attempt: u32,
        /// The machine.
        node: String,
    },
    /// An experiment was over so long ago that nobody wants it to be kept.
    Expired {
        /// When it was over.
        since: Timestamp,
    },
    /// The run is done.
    Done,
    /// The run will not be tried again.
    Failed {
        /// Why, and what to do.
        message: String,
    },
}

impl Why {
    /// Does an experiment wait, as a whole, for its profile?
    pub fn is_of_profile(&self) -> bool {
        matches!(self, Self::ProfileMissing { .. } | Self::ProfileUnreadable { .. })
    }

    /// The stable name.
    pub fn reason(&self) -> &str {
        match self {
            Self::TeacherUnknown { .. } => "TeacherUnknown",
            Self::TeacherCycle { .. } => "TeacherCycle",
            Self::ProfileMissing { .. } => "ProfileMissing",
            Self::ProfileUnreadable { .. } => "ProfileUnreadable",
            Self::ClaimMissing { .. } => "ClaimMissing",
            Self::Leaving => "Leaving",
            Self::Undecodable { .. } => "Undecodable",
            Self::Refused { .. } => "Refused",
            Self::Queued { .. } => "Queued",
            Self::Starting { .. } => "Starting",
            Self::Settled { .. } => "Settled",
            Self::InputsIncomplete { .. } => "InputsIncomplete",
            Self::TeachersNotDone { .. } => "TeachersNotDone",
            Self::BelowGate { .. } => "BelowQualityGate",
            Self::TeacherFailed { .. } => "TeacherFailed",
            Self::NotNeeded => "NotNeeded",
            Self::NoPlace { .. } => "NoPlace",
            Self::Suspended => "Suspended",
            Self::Cancelled => "Cancelled",
            Self::DeadlineExceeded { .. } => "DeadlineExceeded",
            Self::New => "New",
            Self::Cached => "Cached",
            Self::Joined { .. } => "Joined",
            Self::TeacherGone { .. } => "TeacherGone",
            Self::Lost => "Lost",
            Self::Waits { reason, .. } if reason.is_empty() => "Waits",
            Self::Waits { reason, .. } => reason,
            Self::TargetsGone { .. } => "TargetsGone",
            Self::AskedAgain { .. } => "AskedAgain",
            Self::FirstAttempt => "FirstAttempt",
            Self::AnotherAttempt { .. } => "AnotherAttempt",
            Self::BackingOff { .. } => "BackingOff",
            Self::UnderWay { .. } => "UnderWay",
            Self::NodeSilent { .. } => "NodeSilent",
            Self::Expired { .. } => "Expired",
            Self::Done => "Done",
            Self::Failed { .. } => "Failed",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InputsIncomplete { lacks } => {
                write!(
                    f,
                    "cannot be named: the check of the inputs says nothing about {lacks}; use the trainer that belongs to this operator"
                )
            }
            Self::TeachersNotDone { teachers } => write!(f, "waits for {}", and(teachers)),
            Self::BelowGate { teacher, reached, min } => write!(
                f,
                "will not start: {teacher} reached {reached} and its qualityGate asks for {min}; train it longer, let more of \
                 them compete (bestOf), or have the student learn from it all the same (onFailure: Continue)"
            ),
            Self::TeacherFailed { teachers } => {
                write!(f, "will not start: {} failed", and(teachers))
            }
            Self::NotNeeded => f.write_str("is not needed: no student that is still to be trained learns from it"),
            Self::NoPlace { limit: 1 } => f.write_str("waits for its turn: one run trains at a time"),
            Self::NoPlace { limit } => {
                write!(f, "waits for its turn: {limit} runs train at a time")
            }
            Self::Suspended => {
                f.write_str("is suspended: it goes on where it was when an experiment that needs it does")
            }
            Self::Cancelled => f.write_str("is cancelled (spec.cancel is true)"),
            Self::DeadlineExceeded { seconds } => write!(
                f,
                "is out of time (spec.activeDeadlineSeconds is {seconds}): raise that, and it goes on where it was"
            ),
            // Three looks at the same thing, a moment apart: one sentence, so that a status is not written for each.
            Self::New | Self::FirstAttempt => f.write_str("is new"),
            Self::Cached => f.write_str("is whole in the store"),
            Self::Joined { by, differences } => {
                write!(f, "is shared with experiment {by}, which made it")?;
                match differences.as_slice() {
                    [] => Ok(()),
                    differences => write!(f, "; what is said here of {} does not count", and(differences)),
                }
            }
            Self::TeacherGone { tasks } => {
                write!(f, "waits until the teacher of {} is trained again: its targets are gone or changed", and(tasks))
            }
            Self::Lost => f.write_str("is trained again: its artifacts are gone from the store"),
            Self::Waits { message, .. } if message.is_empty() => f.write_str("is new"),
            Self::Waits { message, .. } => f.write_str(message),
            Self::TeacherUnknown { message } => f.write_str(message),
            Self::TeacherCycle { experiments } => {
                write!(
                    f,
                    "cannot be named: the experiments teach each other in a circle ({})",
                    experiments.join(" -> ")
                )
            }
            Self::ProfileMissing { profile, place } => write!(
                f,
                "waits for {profile}, which does not exist {place}: create it, or name another one in spec.compute.profile"
            ),
            Self::ProfileUnreadable { profile, message } => {
                write!(f, "waits for {profile}, which cannot be read: {message}")
            }
            Self::ClaimMissing { claim } => write!(
                f,
                "waits for the PersistentVolumeClaim {claim}, which does not exist in this namespace: create it"
            ),
            Self::Leaving => f.write_str("waits until the run of its name that is being deleted is gone"),
            Self::Undecodable { message } => write!(
                f,
                "cannot be made: there is a run of its name that this operator cannot read ({message}); use the operator \
                 that wrote it, or delete that run"
            ),
            Self::Refused { message } => write!(f, "is held up: {message}"),
            Self::Queued { attempt, waits } | Self::Starting { attempt, waits } => {
                write!(f, "has begun attempt {attempt}, which {waits}")
            }
            Self::Settled { attempt } => write!(f, "needs attempt {attempt} no longer"),
            Self::TargetsGone { attempts } => {
                write!(f, "is trained again: {} did not find its targets as they were", and(attempts))
            }
            Self::AskedAgain { by } => write!(f, "is tried again, as {} asked for it", and(by)),
            Self::AnotherAttempt { ended } => write!(f, "is tried again: the last attempt {ended}"),
            Self::BackingOff { ended, until } => {
                write!(f, "is tried again at {until:.0}: the last attempt {ended}")
            }
            Self::UnderWay { attempt, progress } => {
                write!(f, "is under way (attempt {attempt}{})", progress.as_ref().map(how_far).unwrap_or_default())
            }
            Self::NodeSilent { attempt, node } => write!(
                f,
                "waits for the node {node}, which does not answer: attempt {attempt} was under way there, and is tried elsewhere \
                 when Kubernetes gives it up"
            ),
            Self::Expired { since } => write!(f, "was over at {since:.0} (spec.ttlSecondsAfterFinished)"),
            Self::Done => f.write_str("is done"),
            Self::Failed { message } => write!(f, "failed: {message}"),
        }
    }
}

/// `a`, `a and b`, `a, b and c`.
pub(crate) fn and(words: &[impl AsRef<str>]) -> String {
    let words: Vec<_> = words.iter().map(AsRef::as_ref).collect();
    match words.split_last() {
        None => String::new(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

/// To continue "attempt 1".
fn how_far(progress: &RunProgress) -> String {
    let far = match (progress.stage, progress.total) {
        (Stage::Training, 1..) => format!(", {} %", 100 * progress.done / progress.total),
        (stage, _) => format!(", {}", stage.words()),
    };
    let left = progress.seconds_left.map(|seconds| format!(", {} left", duration(seconds))).unwrap_or_default();
    far + &left
}

/// So many seconds in their two largest units.
pub fn duration(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_that_is_under_way_says_how_far_it_is_and_how_long_it_takes() {
        let said = |stage, done, total, seconds_left| {
            let progress = Some(RunProgress { seconds_left, ..RunProgress::new(stage, done, total) });
            Why::UnderWay { attempt: 2, progress }.to_string()
        };
        assert_eq!(Why::UnderWay { attempt: 2, progress: None }.to_string(), "is under way (attempt 2)");
        let table = [
            (Stage::Training, 83, 100, Some(842), "83 %, 14 min 2 s left"),
            (Stage::Training, 83, 100, Some(8000), "83 %, 2 h 13 min left"),
            (Stage::Training, 199, 200, None, "99 %"),
            (Stage::Training, 0, 0, None, "training"),
            (Stage::WritingTargets, 5, 100, Some(9), "writing targets, 9 s left"),
        ];
        for (stage, done, total, left, words) in table {
            assert_eq!(said(stage, done, total, left), format!("is under way (attempt 2, {words})"));
        }
    }
}
