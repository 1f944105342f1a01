//! Which subject is looked at next.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;

use super::Subject;

/// Subjects by the moment at which they are due. Each stands in it once; one that was taken comes back before it is
/// taken again.
#[derive(Debug, Default)]
pub(super) struct Queue {
    due: BTreeSet<(Timestamp, Subject)>,
    at: BTreeMap<Subject, Timestamp>,
    /// Subjects that were taken, and when they are due again because of what happened since.
    taken: BTreeMap<Subject, Option<Timestamp>>,
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

    /// One that is due.
    pub(super) fn take(&mut self, now: Timestamp) -> Option<Subject> {
        let (at, _) = self.due.first()?;
        if *at > now {
            return None;
        }
        let (_, subject) = self.due.pop_first()?;
        self.at.remove(&subject);
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

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// How many are due and were not taken.
    pub(super) fn due(&self, now: Timestamp) -> usize {
        self.due.iter().take_while(|(at, _)| *at <= now).count()
    }

    fn put(&mut self, subject: Subject, at: Timestamp) {
        if let Some(before) = self.at.get(&subject) {
            if *before <= at {
                return;
            }
            self.due.remove(&(*before, subject.clone()));
        }
        self.at.insert(subject.clone(), at);
        self.due.insert((at, subject));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn run(name: &str) -> Subject {
        Subject::run("", name)
    }

    #[test]
    fn what_changed_twice_is_taken_once_and_what_is_due_first_comes_first() {
        let mut queue = Queue::default();
        queue.add([run("b"), run("b")], at(2));
        queue.add([run("a")], at(3));
        assert_eq!(queue.take(at(1)), None);
        assert_eq!(queue.next(), Some(at(2)));
        assert_eq!(queue.take(at(3)), Some(run("b")));
        assert_eq!(queue.take(at(3)), Some(run("a")));
        assert_eq!(queue.take(at(3)), None);
    }

    #[test]
    fn what_changes_while_it_is_looked_at_is_looked_at_again_but_only_afterwards() {
        let mut queue = Queue::default();
        queue.add([run("a")], at(1));
        assert_eq!(queue.take(at(1)), Some(run("a")));
        queue.add([run("a")], at(2));
        assert_eq!(queue.take(at(9)), None);
        queue.give_back(run("a"), Some(at(60)));
        assert_eq!(queue.next(), Some(at(2)));
    }

    #[test]
    fn a_change_does_not_wait_for_a_later_revisit() {
        let mut queue = Queue::default();
        queue.add([run("a")], at(1));
        queue.take(at(1));
        queue.give_back(run("a"), Some(at(60)));
        queue.add([run("a")], at(5));
        assert_eq!(queue.take(at(5)), Some(run("a")));
        assert_eq!(queue.next(), None);
    }
}
