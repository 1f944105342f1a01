//! What was seen last of the objects of one kind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::ResourceExt;
use kube::runtime::watcher::Event;

use super::facts::Facts;

/// Namespace and name.
pub type Key = (String, String);

/// Facts about all objects of one kind, by namespace and name, and by the run that they belong to.
#[derive(Debug)]
pub struct Cache<F>(Mutex<Content<F>>);

#[derive(Debug)]
struct Content<F> {
    facts: BTreeMap<Key, Arc<F>>,
    /// Objects that are gone, and worth remembering.
    gone: BTreeMap<Key, Arc<F>>,
    by_run: BTreeMap<Key, BTreeSet<String>>,
    /// While everything is listed anew: what was not listed yet.
    unlisted: Option<BTreeSet<Key>>,
}

/// That the facts about an object are others now.
#[derive(Debug)]
pub struct Changed<F> {
    /// The object.
    pub key: Key,
    /// What was known; none: it is new.
    pub before: Option<Arc<F>>,
    /// What is known; none: it is gone.
    pub after: Option<Arc<F>>,
}

impl<F> Default for Cache<F> {
    fn default() -> Self {
        let content =
            Content { facts: BTreeMap::new(), gone: BTreeMap::new(), by_run: BTreeMap::new(), unlisted: None };
        Self(Mutex::new(content))
    }
}

impl<F: Facts> Cache<F> {
    /// Facts about an object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<F>> {
        self.content().facts.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Everything, in order.
    pub fn all(&self) -> Vec<(Key, Arc<F>)> {
        self.content().facts.iter().map(|(key, facts)| (key.clone(), facts.clone())).collect()
    }

    /// Everything in a namespace, in order.
    pub fn within(&self, namespace: &str) -> Vec<(String, Arc<F>)> {
        let content = self.content();
        let from = content.facts.range((namespace.to_owned(), String::new())..);
        let here = from.take_while(|((there, _), _)| there == namespace);
        here.map(|((_, name), facts)| (name.clone(), facts.clone())).collect()
    }

    /// What belongs to a run, by name: also what is gone and worth remembering.
    pub fn of_run(&self, namespace: &str, run: &str) -> Vec<(String, Arc<F>)> {
        let content = self.content();
        let names = content.by_run.get(&(namespace.to_owned(), run.to_owned())).into_iter().flatten();
        let facts = names.filter_map(|name| {
            let key = (namespace.to_owned(), name.clone());
            let facts = content.facts.get(&key).or_else(|| content.gone.get(&key))?;
            Some((name.clone(), facts.clone()))
        });
        facts.collect()
    }

    /// Forgets what is gone and belonged to a run.
    pub fn forget_gone(&self, namespace: &str, run: &str, over: impl Fn(&F) -> bool) {
        let mut content = self.content();
        let names = content.by_run.get(&(namespace.to_owned(), run.to_owned())).cloned().unwrap_or_default();
        for name in names {
            let key = (namespace.to_owned(), name);
            if content.gone.get(&key).is_some_and(|facts| over(facts)) {
                let facts = content.gone.remove(&key);
                content.unlink(&key, facts.as_deref());
            }
        }
    }

    /// Takes in what a watch says. Returns what is otherwise than before.
    pub fn apply(&self, event: Event<F::Object>) -> Vec<Changed<F>>
    where
        F::Object: ResourceExt,
    {
        let mut content = self.content();
        match event {
            Event::Init => {
                content.unlisted = Some(content.facts.keys().cloned().collect());
                Vec::new()
            }
            Event::InitApply(object) | Event::Apply(object) => content.put(&object).into_iter().collect(),
            Event::Delete(object) => content.remove(&key(&object), Some(F::of(&object))).into_iter().collect(),
            Event::InitDone => {
                let lost = content.unlisted.take().unwrap_or_default();
                lost.iter().filter_map(|key| content.remove(key, None)).collect()
            }
        }
    }

    fn content(&self) -> MutexGuard<'_, Content<F>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Facts> Content<F> {
    fn put(&mut self, object: &F::Object) -> Option<Changed<F>>
    where
        F::Object: ResourceExt,
    {
        let (key, after) = (key(object), Arc::new(F::of(object)));
        if let Some(unlisted) = &mut self.unlisted {
            unlisted.remove(&key);
        }
        if let Some(run) = after.run() {
            self.by_run.entry((key.0.clone(), run.to_owned())).or_default().insert(key.1.clone());
        }
        let before = self.facts.insert(key.clone(), after.clone());
        (before.as_ref() != Some(&after)).then_some(Changed { key, before, after: Some(after) })
    }

    fn remove(&mut self, key: &Key, last: Option<F>) -> Option<Changed<F>> {
        let before = self.facts.remove(key)?;
        // The last look is not older than the one before.
        let last = last.map_or_else(|| before.clone(), Arc::new);
        if last.outlives() {
            self.gone.insert(key.clone(), last);
        } else {
            self.unlink(key, Some(&before));
        }
        Some(Changed { key: key.clone(), before: Some(before), after: None })
    }

    fn unlink(&mut self, key: &Key, facts: Option<&F>) {
        let Some(run) = facts.and_then(Facts::run) else { return };
        let of_run = (key.0.clone(), run.to_owned());
        if let Some(names) = self.by_run.get_mut(&of_run) {
            names.remove(&key.1);
            if names.is_empty() {
                self.by_run.remove(&of_run);
            }
        }
    }
}

fn key(object: &impl ResourceExt) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}
