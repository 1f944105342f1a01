//! Events go to the API server beside the passes: people read them, and nothing waits for them.
//!
//! An event's name says what it is about, so that the API server remembers what was told, and nobody else has to: what
//! happens once more is found there, and counted.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use bam_crds::{Digest, names};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::lease::Leadership;
use super::story::Chapter;

/// An event is an extra, and waits for nobody.
const PATIENCE: Duration = Duration::from_secs(5);
/// So many are written at once: under load about as many as there are other writes.
const LANES: usize = 12;
/// So many wait for their turn in each lane. Then passes wait too, rather than that an event is lost.
const ROOM: usize = 128;
/// What has happened more than once is counted for so long after the last time.
const COUNTED_FOR: Duration = Duration::from_mins(60);

/// What is to be told.
#[derive(Debug)]
struct Tale {
    about: ObjectReference,
    related: Option<ObjectReference>,
    chapter: Chapter,
    at: Timestamp,
}

/// Takes in what is to be told. What is about one object is told in order.
#[derive(Debug)]
pub struct Events(Vec<mpsc::Sender<Tale>>);

impl Events {
    /// Begins to write. It ends when the last event is written after this is dropped, or with the tasks.
    pub fn start(tasks: &mut JoinSet<()>, client: &Client, leadership: &Leadership, name: &str) -> Self {
        let lanes = (0..LANES).map(|_| {
            let (sender, receiver) = mpsc::channel(ROOM);
            let lane = Lane {
                client: client.clone(),
                leadership: leadership.clone(),
                name: name.to_owned(),
                counts: HashMap::new(),
            };
            tasks.spawn(lane.write(receiver));
            sender
        });
        Self(lanes.collect())
    }

    /// Tells that something has happened to an object at this moment.
    pub async fn tell(
        &self,
        about: ObjectReference,
        related: Option<ObjectReference>,
        chapter: Chapter,
        at: Timestamp,
    ) {
        let mut hasher = DefaultHasher::new();
        about.uid.hash(&mut hasher);
        let lane = usize::try_from(hasher.finish() % LANES as u64).unwrap_or_default();
        // Nobody listens any more only when the process ends.
        drop(self.0[lane].send(Tale { about, related, chapter, at }).await);
    }
}

struct Lane {
    client: Client,
    leadership: Leadership,
    /// Of this operator.
    name: String,
    /// What has happened more than once: how often, and when last.
    counts: HashMap<String, (i32, Instant)>,
}

impl Lane {
    async fn write(mut self, mut tales: mpsc::Receiver<Tale>) {
        while let Some(tale) = tales.recv().await {
            // Each of them is a write, and may have waited long.
            if !self.leadership.holds() {
                continue;
            }
            let why = match timeout(PATIENCE, self.tell(&tale)).await {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            let (kind, name) = (tale.about.kind.unwrap_or_default(), tale.about.name.unwrap_or_default());
            tracing::warn!("{kind} {name}: cannot write the event {}: {why}", tale.chapter.reason);
        }
    }

    async fn tell(&mut self, tale: &Tale) -> kube::Result<()> {
        let event = event(tale, &self.name);
        let api: Api<Event> =
            Api::namespaced(self.client.clone(), tale.about.namespace.as_deref().unwrap_or("default"));
        match api.create(&PostParams::default(), &event).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            made => return made.map(drop),
        }
        self.counts.retain(|_, (_, last)| last.elapsed() < COUNTED_FOR);
        let name = event.metadata.name.unwrap_or_default();
        let (count, last) = self.counts.entry(name.clone()).or_insert((1, Instant::now()));
        (*count, *last) = (count.saturating_add(1), Instant::now());
        let series = EventSeries { count: *count, last_observed_time: MicroTime(tale.at) };
        let again = Patch::Merge(json!({ "series": series }));
        api.patch(&name, &PatchParams::default(), &again).await.map(drop)
    }
}

fn event(tale: &Tale, operator: &str) -> Event {
    let Tale { about, related, chapter, at } = tale;
    Event {
        metadata: ObjectMeta { name: Some(name(tale)), namespace: about.namespace.clone(), ..ObjectMeta::default() },
        action: Some(chapter.action.clone()),
        event_time: Some(MicroTime(*at)),
        note: Some(chapter.note.clone()),
        reason: Some(chapter.reason.clone()),
        regarding: Some(about.clone()),
        related: related.clone(),
        reporting_controller: Some(names::OPERATOR.to_owned()),
        reporting_instance: Some(operator.to_owned()),
        type_: Some(if chapter.warning { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    }
}

/// Two events that differ in their notes alone are one, as for every Kubernetes controller.
fn name(Tale { about, related, chapter, .. }: &Tale) -> String {
    let related = related.as_ref().and_then(|related| related.uid.as_ref());
    // Not the standard library's hash, which may be another one in the operator's next version.
    let told = Digest::of(&(&about.uid, related, chapter.warning, &chapter.reason, &chapter.action));
    // An object's name may be longer than what an event's may hold besides.
    let of: String = about.name.iter().flat_map(|name| name.chars()).take(230).collect();
    format!("{of}.{:.16}", told.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tale(uid: &str, action: &str, note: &str) -> Tale {
        let about = ObjectReference {
            name: Some("cola".to_owned()),
            namespace: Some("lab".to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        };
        let chapter = Chapter::new(false, "RunStarted", action, note);
        Tale { about, related: None, chapter, at: Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn an_event_that_differs_in_its_note_alone_has_the_name_of_the_first() {
        let first = name(&tale("u", "Start teacher cola", "1 of 2"));
        assert!(first.starts_with("cola.") && first.len() == "cola.".len() + 16, "{first}");
        assert_eq!(name(&tale("u", "Start teacher cola", "2 of 2")), first);
        assert_ne!(name(&tale("u", "Start teacher rte", "1 of 2")), first);
        assert_ne!(name(&tale("v", "Start teacher cola", "1 of 2")), first, "another object of that name");
    }

    #[test]
    fn a_long_name_leaves_room_for_what_an_events_name_says_besides() {
        let mut long = tale("u", "Start", "");
        long.about.name = Some("n".repeat(253));
        assert!(name(&long).len() <= 253);
    }
}
