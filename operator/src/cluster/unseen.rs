//! What was done, and was not told of by a watch yet.
//!
//! Watches are behind. Who decides from what they told before its last write does the same once more, and is refused: the
//! status was written onto another version, the object is there, or is not there any more. Nothing is wrong after that, but
//! nothing is gained either. So an object waits until the watch has told of what was done to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::time::Instant;

/// So long a watch is waited for. What it never tells of was undone by somebody else, between two of its lists.
const PATIENCE: Duration = Duration::from_secs(30);

/// An object: the plural of its kind, its namespace, its name.
pub type Thing<'a> = (&'static str, &'a str, &'a str);

/// Which object of a name is in a cache, and its version there; no version: that does not matter.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Its identity.
    pub uid: &'a str,
    /// Its version.
    pub version: Option<&'a str>,
}

/// All that was done and not seen.
#[derive(Debug, Default)]
pub struct Unseen {
    done: Mutex<Doings>,
    /// What is being made at this moment.
    making: Mutex<BTreeSet<Key>>,
}

type Key = (&'static str, String, String);

#[derive(Debug, Default)]
struct Doings {
    by_thing: BTreeMap<Key, Doing>,
    /// When those that are not awaited any more were taken out.
    swept: Option<Instant>,
}

/// So often they are: at every write it would be most of the work under load.
const SWEPT_EVERY: Duration = Duration::from_secs(5);

/// An object is being made until this is dropped.
#[derive(Debug)]
pub struct Making<'a>(&'a Unseen, Key);

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.0.making.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

#[derive(Debug)]
struct Doing {
    uid: String,
    what: What,
    until: Instant,
}

/// In the order in which it can be done to one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Made,
    /// It was of this version then.
    Changed(u64),
    Removed,
}

impl Unseen {
    /// This object is about to be made. None: somebody else is just making it.
    pub fn making(&self, thing: Thing<'_>) -> Option<Making<'_>> {
        let key = (thing.0, thing.1.to_owned(), thing.2.to_owned());
        let first = self.making.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        first.then_some(Making(self, key))
    }

    /// This object was made.
    pub fn made(&self, thing: Thing<'_>, metadata: &ObjectMeta) {
        self.remember(thing, metadata.uid.clone().unwrap_or_default(), What::Made);
    }

    /// This object was changed; or a change was asked for that left it as it was.
    pub fn changed(&self, thing: Thing<'_>, metadata: &ObjectMeta) {
        if let Some(version) = metadata.resource_version.as_deref().and_then(number) {
            self.remember(thing, metadata.uid.clone().unwrap_or_default(), What::Changed(version));
        }
    }

    /// This object was removed.
    pub fn removed(&self, thing: Thing<'_>, uid: &str) {
        self.remember(thing, uid.to_owned(), What::Removed);
    }

    /// Is a watch still to tell of what was done to this object, of which that much is known?
    pub fn awaits(&self, thing: Thing<'_>, known: Option<Known<'_>>) -> bool {
        let key = (thing.0, thing.1.to_owned(), thing.2.to_owned());
        let mut doings = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(doing) = doings.by_thing.get(&key) else { return false };
        let awaits = doing.until > Instant::now() && !doing.is_seen(known);
        if !awaits {
            doings.by_thing.remove(&key);
        }
        awaits
    }

    fn remember(&self, thing: Thing<'_>, uid: String, what: What) {
        let now = Instant::now();
        let mut doings = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody asks for most of them again.
        if doings.swept.is_none_or(|swept| now.duration_since(swept) > SWEPT_EVERY) {
            doings.by_thing.retain(|_, doing| doing.until > now);
            doings.swept = Some(now);
        }
        let key = (thing.0, thing.1.to_owned(), thing.2.to_owned());
        // Answers may come in another order than what they answer was done.
        if !doings.by_thing.get(&key).is_some_and(|last| last.uid == uid && last.what > what) {
            doings.by_thing.insert(key, Doing { uid, what, until: now + PATIENCE });
        }
    }
}

impl Doing {
    fn is_seen(&self, known: Option<Known<'_>>) -> bool {
        match (self.what, known) {
            (What::Made, known) => known.is_some(),
            (_, None) => true,
            (_, Some(known)) if known.uid != self.uid => true,
            // What is not a number cannot be waited for.
            (What::Changed(version), Some(known)) => {
                known.version.and_then(number).is_none_or(|known| known >= version)
            }
            (What::Removed, Some(_)) => false,
        }
    }
}

/// Versions of objects of one kind are numbers that grow.
fn number(version: &str) -> Option<u64> {
    version.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: Thing<'static> = ("bamruns", "lab", "run-1");

    fn of(version: &str) -> ObjectMeta {
        let (uid, resource_version) = (Some("u".to_owned()), Some(version.to_owned()));
        ObjectMeta { uid, resource_version, ..ObjectMeta::default() }
    }

    fn known<'a>(uid: &'a str, version: &'a str) -> Option<Known<'a>> {
        Some(Known { uid, version: Some(version) })
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_awaited_until_its_version_is_seen() {
        let unseen = Unseen::default();
        unseen.changed(RUN, &of("10"));
        assert!(unseen.awaits(RUN, known("u", "9")));
        assert!(!unseen.awaits(RUN, known("u", "10")));
        assert!(!unseen.awaits(RUN, known("u", "9")), "it was seen, and is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_made_is_awaited_until_it_is_there_and_what_was_removed_until_it_is_not() {
        let unseen = Unseen::default();
        unseen.made(RUN, &of("10"));
        assert!(unseen.awaits(RUN, None));
        assert!(!unseen.awaits(RUN, known("u", "10")));
        unseen.removed(RUN, "u");
        assert!(unseen.awaits(RUN, known("u", "11")));
        assert!(!unseen.awaits(RUN, known("another", "12")));
    }

    #[test]
    fn of_two_who_make_the_same_object_the_second_one_is_told() {
        let unseen = Unseen::default();
        let first = unseen.making(RUN);
        assert!(first.is_some() && unseen.making(RUN).is_none());
        drop(first);
        assert!(unseen.making(RUN).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_come_late_make_nothing_forgotten() {
        let unseen = Unseen::default();
        unseen.changed(RUN, &of("12"));
        unseen.made(RUN, &of("10"));
        unseen.changed(RUN, &of("11"));
        assert!(unseen.awaits(RUN, known("u", "11")));
        assert!(!unseen.awaits(RUN, known("u", "12")));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_awaited_for_ever() {
        let unseen = Unseen::default();
        unseen.made(RUN, &of("10"));
        tokio::time::sleep(PATIENCE).await;
        assert!(!unseen.awaits(RUN, None));
    }

    #[tokio::test(start_paused = true)]
    async fn versions_that_are_no_numbers_are_not_awaited() {
        let unseen = Unseen::default();
        unseen.changed(RUN, &of("ten"));
        assert!(!unseen.awaits(RUN, known("u", "nine")));
    }
}
