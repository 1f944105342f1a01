//! Which subject is looked at next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::Subject;

/// So much later is the turn of what can wait. Under load it is overtaken for so long, and no longer.
const PATIENCE: SignedDuration = SignedDuration::from_mins(10);

/// Subjects by the moment at which they are due. Each stands in it once; one that was taken comes back before it is
/// taken again.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// By the moment at which they are due.
    later: BTreeSet<(Timestamp, Arc<Subject>)>,
    /// Those that were due when one was taken last, by their turn.
    ready: BTreeSet<(Timestamp, Arc<Subject>)>,
    places: BTreeMap<Arc<Subject>, Place>,
    /// Subjects that were taken, and when they are due again because of what happened since.
    taken: BTreeMap<Subject, Option<Timestamp>>,
}

/// Where a subject stands.
#[derive(Clone, Copy, Debug)]
enum Place {
    Later(Timestamp),
    Ready,
}

impl Queue {
    /// These have changed at `now`.
    pub(super) fn add(&mut self, subjects: impl IntoIterator<Item = Subject>, now: Timestamp) {
        for subject in subjects {
            match self.taken.get_mut(&subject) {
                Some(again) => *again = Some(now),
                None => self.put(subject, now),
            }
        }
    }

    /// One that is due: the one that has been for longest, but what can wait comes after what cannot.
    pub(super) fn take(&mut self, now: Timestamp, can_wait: impl Fn(&Subject) -> bool) -> Option<Subject> {
        while self.later.first().is_some_and(|(at, _)| *at <= now)
            && let Some((at, subject)) = self.later.pop_first()
        {
            let pause = if can_wait(&subject) { PATIENCE } else { SignedDuration::ZERO };
            self.places.insert(subject.clone(), Place::Ready);
            self.ready.insert((at.saturating_add(pause).unwrap_or(Timestamp::MAX), subject));
        }
        let (_, subject) = self.ready.pop_first()?;
        self.places.remove(&subject);
        let subject = Arc::unwrap_or_clone(subject);
        self.taken.insert(subject.clone(), None);
        Some(subject)
    }

    /// A subject that was taken was looked at; it is due again at `revisit`, or earlier if it has changed meanwhile.
    pub(super) fn give_back(&mut self, subject: Subject, revisit: Option<Timestamp>) {
        let changed = self.taken.remove(&subject).flatten();
        if let Some(at) = [changed, revisit].into_iter().flatten().min() {
            self.put(subject, at);
        }
    }

    /// When the next one is due, if none is.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.later.first().map(|(at, _)| *at)
    }

    /// How many are due and were not taken.
    pub(super) fn due(&self, now: Timestamp) -> usize {
        self.ready.len() + self.later.iter().take_while(|(at, _)| *at <= now).count()
    }

    fn put(&mut self, subject: Subject, at: Timestamp) {
        let subject = match self.places.remove_entry(&subject) {
            None => Arc::new(subject),
            Some((known, Place::Later(before))) if at < before => {
                self.later.remove(&(before, known.clone()));
                known
            }
            Some((known, place)) => {
                self.places.insert(known, place);
                return;
            }
        };
        self.places.insert(subject.clone(), Place::Later(at));
        self.later.insert((at, subject));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn none(_: &Subject) -> bool {
        false
    }

    fn run(name: &str) -> Subject {
        Subject::run("", name)
    }

    #[test]
    fn what_changed_twice_is_taken_once_and_what_is_due_first_comes_first() {
        let mut queue = Queue::default();
        queue.add([run("b"), run("b")], at(2));
        queue.add([run("a")], at(3));
        assert_eq!(queue.take(at(1), none), None);
        assert_eq!(queue.next(), Some(at(2)));
        assert_eq!(queue.take(at(3), none), Some(run("b")));
        assert_eq!(queue.take(at(3), none), Some(run("a")));
        assert_eq!(queue.take(at(3), none), None);
    }

    #[test]
    fn what_changes_while_it_is_looked_at_is_looked_at_again_but_only_afterwards() {
        let mut queue = Queue::default();
        queue.add([run("a")], at(1));
        assert_eq!(queue.take(at(1), none), Some(run("a")));
        queue.add([run("a")], at(2));
        assert_eq!(queue.take(at(9), none), None);
        queue.give_back(run("a"), Some(at(60)));
        assert_eq!(queue.next(), Some(at(2)));
    }

    #[test]
    fn a_change_does_not_wait_for_a_later_revisit() {
        let mut queue = Queue::default();
        queue.add([run("a")], at(1));
        queue.take(at(1), none);
        queue.give_back(run("a"), Some(at(60)));
        queue.add([run("a")], at(5));
        assert_eq!(queue.take(at(5), none), Some(run("a")));
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn what_can_wait_comes_after_what_cannot_but_not_for_ever() {
        let new = |subject: &Subject| subject.name.starts_with("new");
        let mut queue = Queue::default();
        queue.add([run("new-1")], at(1));
        queue.add([run("new-2")], at(2));
        queue.add([run("begun-1")], at(3));
        assert_eq!(queue.take(at(3), new), Some(run("begun-1")));
        queue.add([run("begun-2")], at(4));
        queue.add([run("begun-late")], at(700));
        let order: Vec<_> = std::iter::from_fn(|| queue.take(at(700), new)).map(|subject| subject.name).collect();
        assert_eq!(order, ["begun-2", "new-1", "new-2", "begun-late"]);
    }

    #[test]
    fn all_that_are_due_are_counted() {
        let mut queue = Queue::default();
        queue.add([run("a"), run("b"), run("c")], at(1));
        queue.add([run("d")], at(9));
        queue.take(at(1), none);
        queue.add([run("a"), run("b")], at(2));
        assert_eq!(queue.due(at(3)), 2);
        assert_eq!(queue.next(), Some(at(9)));
    }
}
