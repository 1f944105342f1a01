//! Objects that are kept small. What is over is asked for seldom, and there is much of it: it is kept as JSON, compressed
//! against the first of its like, from which it differs in little but names and digests.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::OnceLock;

use bam_crds::run::Role;
use bam_crds::{BamExperiment, BamRunSpec, BamRunStatus};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use serde::Serialize;
use serde::de::DeserializeOwned;

type First = OnceLock<Vec<u8>>;

/// Of which many are kept.
pub trait Many: Serialize + DeserializeOwned + Clone {
    /// The first of its like that was packed: what others have in common with it takes no room.
    fn first(&self) -> &'static First;
}

impl Many for BamExperiment {
    fn first(&self) -> &'static First {
        static FIRST: First = First::new();
        &FIRST
    }
}

impl Many for (BamRunSpec, BamRunStatus) {
    fn first(&self) -> &'static First {
        static FIRST: [First; 3] = [First::new(), First::new(), First::new()];
        match self.0.role {
            Role::Inputs => &FIRST[0],
            Role::Teacher => &FIRST[1],
            Role::Student => &FIRST[2],
        }
    }
}

/// One object.
#[derive(Clone, Debug, PartialEq)]
pub enum Kept<T> {
    /// As it is: it is looked at again and again.
    Whole(Box<T>),
    /// It is over.
    Packed(Packed<T>),
}

impl<T: Many> Kept<T> {
    /// Keeps it: packed, if it is over.
    pub fn of(object: T, is_over: bool) -> Self {
        if is_over { Self::Packed(Packed::of(&object)) } else { Self::Whole(Box::new(object)) }
    }

    /// The object.
    pub fn get(&self) -> T {
        match self {
            Self::Whole(object) => T::clone(object),
            Self::Packed(packed) => packed.get(),
        }
    }
}

/// One object, packed. Equal ones are packed alike.
#[derive(Clone)]
pub struct Packed<T> {
    bytes: Box<[u8]>,
    /// Bytes when it is unpacked.
    length: usize,
    first: &'static First,
    kind: PhantomData<fn() -> T>,
}

impl<T> PartialEq for Packed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes && self.length == other.length
    }
}

thread_local! {
    /// They are large, and made anew for each object they would take longer than their work.
    static MACHINES: RefCell<(Compress, Decompress)> =
        RefCell::new((Compress::new(Compression::fast(), true), Decompress::new(true)));
}

impl<T: Many> Packed<T> {
    fn of(object: &T) -> Self {
        let text = serde_json::to_vec(object).expect("an object is plain data");
        let first = object.first();
        let common = first.get_or_init(|| text.clone());
        // What cannot be compressed grows by a few bytes.
        let mut bytes = Vec::with_capacity(text.len() + text.len() / 100 + 64);
        MACHINES.with_borrow_mut(|(compress, _)| {
            compress.reset();
            compress.set_dictionary(common).expect("nothing was compressed yet");
            compress.compress_vec(&text, &mut bytes, FlushCompress::Finish).expect("there is room");
        });
        Self { bytes: bytes.into_boxed_slice(), length: text.len(), first, kind: PhantomData }
    }

    fn get(&self) -> T {
        let common = self.first.get().expect("it was packed against it");
        let mut text = Vec::with_capacity(self.length);
        MACHINES.with_borrow_mut(|(_, decompress)| {
            decompress.reset(true);
            // The first call finds that it needs what it was packed against.
            let asked = decompress.decompress_vec(&self.bytes, &mut text, FlushDecompress::Finish);
            if asked.is_err_and(|error| error.needs_dictionary().is_some()) {
                decompress.set_dictionary(common).expect("it was packed against it");
                let read = usize::try_from(decompress.total_in()).unwrap_or_default();
                decompress
                    .decompress_vec(&self.bytes[read..], &mut text, FlushDecompress::Finish)
                    .expect("it was packed");
            }
        });
        serde_json::from_slice(&text).expect("it was an object")
    }
}

impl<T> fmt::Debug for Packed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes in {}", self.length, self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use bam_crds::run::RunPod;
    use bam_crds::{ExitReason, RunReport};

    use super::*;

    fn run(image: &str) -> (BamRunSpec, BamRunStatus) {
        let pod = RunPod { image: Some(image.to_owned()), ..RunPod::default() };
        let spec =
            BamRunSpec { role: Role::Inputs, config: None, inputs: None, failure_policy: Default::default(), pod };
        // A score that a careless reader of numbers takes for its neighbour.
        let report = RunReport { seconds: 71.480_144_404_332_13, ..RunReport::new(ExitReason::Completed, "") };
        let status = BamRunStatus {
            report: Some(report),
            waiting_for: "waits for a node ".repeat(100),
            ..BamRunStatus::default()
        };
        (spec, status)
    }

    #[test]
    fn what_comes_out_is_what_went_in_and_equal_objects_are_equal() {
        let all: Vec<_> = (0..100).map(|number| run(&format!("image-{number}"))).collect();
        for is_over in [true, false] {
            let kept: Vec<_> = all.iter().map(|run| Kept::of(run.clone(), is_over)).collect();
            all.iter().zip(&kept).for_each(|(object, kept)| assert_eq!(kept.get(), *object));
            assert_eq!(Kept::of(all[7].clone(), is_over), kept[7]);
            assert_ne!(kept[7], kept[8]);
        }
    }

    #[test]
    fn an_object_like_the_first_takes_little_room() {
        let (first, second) = (Packed::of(&run("a")), Packed::of(&run("b")));
        assert!(first.length > 1500 && second.bytes.len() < 100, "{second:?}");
    }
}
