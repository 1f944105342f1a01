//! Which objects a run's checkpoints are, and which of them are of no more use. Pure.

use std::collections::BTreeSet;

use bam_crds::store::CHECKPOINTS;

use crate::checkpoint;

/// One of the two objects of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// From the root of the artifact store.
    pub(super) name: String,
    attempt: String,
    step: u64,
    /// The second object, which makes the first one count.
    is_seal: bool,
}

impl Part {
    /// What the name says; none if it is of nothing here.
    pub(super) fn of(name: String) -> Option<Self> {
        let (folder, file) = name.rsplit_once('/')?;
        let (above, attempt) = folder.rsplit_once('/')?;
        let (step, is_seal) = checkpoint::parse(file)?;
        above.ends_with(CHECKPOINTS).then(|| Self { attempt: attempt.to_owned(), step, is_seal, name: name.clone() })
    }
}

/// The two objects of a checkpoint, from the run's folder: tensors, then the seal.
pub(super) fn names(attempt: &str, step: u64) -> [String; 2] {
    checkpoint::names(step).map(|name| format!("{CHECKPOINTS}/{attempt}/{name}"))
}

/// Steps and attempts of which both objects are there, newest first.
pub(super) fn whole(parts: &[Part]) -> Vec<(u64, String)> {
    let of = |seals: bool| -> BTreeSet<(u64, &str)> {
        parts.iter().filter(|part| part.is_seal == seals).map(|part| (part.step, part.attempt.as_str())).collect()
    };
    let (seals, tensors) = (of(true), of(false));
    seals.iter().rev().filter(|of| tensors.contains(of)).map(|(step, attempt)| (*step, (*attempt).to_owned())).collect()
}

/// What may go when `attempt` has sent the checkpoint of `step`: all but its newest `keep`, and those of other attempts that got
/// no further. Seals, then tensors: between the two removals, what remains is visibly unfinished.
pub(super) fn surplus(parts: &[Part], attempt: &str, step: u64, keep: usize) -> [Vec<String>; 2] {
    let own = whole(parts).into_iter().filter(|(_, of)| of == attempt);
    let kept: Vec<u64> = own.map(|(step, _)| step).take(keep).collect();
    let newest = |attempt: &str| parts.iter().filter(|part| part.attempt == attempt).map(|part| part.step).max();
    let goes = |part: &&Part| match part.attempt == attempt {
        true => !kept.contains(&part.step),
        false => newest(&part.attempt) <= Some(step),
    };
    let of = |seals: bool| {
        let parts = parts.iter().filter(goes).filter(|part| part.is_seal == seals);
        parts.map(|part| part.name.clone()).collect()
    };
    [of(true), of(false)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(names: &[&str]) -> Vec<Part> {
        names.iter().map(|name| Part::of(format!("runs/abc/checkpoints/{name}")).unwrap()).collect()
    }

    #[test]
    fn only_a_pair_of_objects_is_a_checkpoint_and_the_newest_comes_first() {
        let found = parts(&[
            "a/step-000003.json",
            "a/step-000003.safetensors",
            "a/step-000012.safetensors",
            "b/step-000005.json",
            "b/step-000005.safetensors",
        ]);
        assert_eq!(whole(&found), [(5, "b".to_owned()), (3, "a".to_owned())]);
        for name in ["runs/abc/checkpoints/a/other.json", "runs/abc/checkpoints/step-000001.json", "step-000001.json"] {
            assert_eq!(Part::of(name.to_owned()), None, "{name}");
        }
    }

    #[test]
    fn an_attempt_keeps_its_newest_checkpoints_and_those_of_attempts_that_are_ahead() {
        let found = parts(&[
            "ahead/step-000009.safetensors",
            "behind/step-000004.json",
            "behind/step-000004.safetensors",
            "own/step-000003.json",
            "own/step-000003.safetensors",
            "own/step-000004.safetensors",
            "own/step-000005.json",
            "own/step-000005.safetensors",
            "own/step-000007.json",
            "own/step-000007.safetensors",
        ]);
        let full = |names: &[&str]| names.iter().map(|name| format!("runs/abc/checkpoints/{name}")).collect::<Vec<_>>();
        let [seals, tensors] = surplus(&found, "own", 7, 2);
        assert_eq!(seals, full(&["behind/step-000004.json", "own/step-000003.json"]));
        let expected = ["behind/step-000004.safetensors", "own/step-000003.safetensors", "own/step-000004.safetensors"];
        assert_eq!(tensors, full(&expected));
    }
}
