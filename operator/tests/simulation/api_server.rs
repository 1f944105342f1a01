//! A model of the API server: objects with versions, the requests that the operator makes, and watches.
//!
//! It is as consistent as the real one, and no more: lists and gets tell what is so, a watch tells everything of one kind in
//! its order and arbitrarily late, a precondition that does not hold is a 409, and a write that changes nothing makes no
//! version. It does not validate: what the real one refuses is tested with the real one.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use hyper::body::Bytes;
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::history::{What, Who, text};
use crate::schedule::{Millis, WATCHED};
use crate::world::{Event, NAMESPACE, World};

/// By which one of several operators leads.
const LEASES: &str = "leases";

type Key = (&'static str, String);
type Lines = mpsc::UnboundedReceiver<io::Result<Bytes>>;

#[derive(Default)]
pub struct ApiServer {
    version: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    log: Vec<Logged>,
    /// By kind: what happened until this version is forgotten.
    forgotten: BTreeMap<&'static str, u64>,
    watches: BTreeMap<u64, Watch>,
    /// What operators know to have done themselves, by object, and since when.
    made: BTreeMap<Key, (Who, Millis)>,
    wrote: BTreeMap<Key, (Who, Millis, String)>,
    removed: BTreeMap<Key, (Who, Millis)>,
    /// Who holds the lease, if anyone, and since when that is so.
    pub leader: Option<(Option<Who>, Millis)>,
}

struct Logged {
    version: u64,
    kind: &'static str,
    line: Bytes,
    /// Labels and fields, as far as somebody selects by them.
    selected: bool,
}

struct Watch {
    who: Who,
    kind: &'static str,
    selective: bool,
    lines: mpsc::UnboundedSender<io::Result<Bytes>>,
    /// When the last line arrives that was sent: none overtakes it.
    last: Millis,
}

/// A request.
pub struct Call {
    pub who: Who,
    pub sent: Millis,
    pub method: String,
    pub path: String,
    pub query: String,
    pub content_type: String,
    pub body: Bytes,
    pub reply: oneshot::Sender<Answer>,
}

impl Call {
    /// Did whoever sent this know that it had done that itself?
    fn knew(&self, (who, since): &(Who, Millis)) -> bool {
        *who == self.who && *since < self.sent
    }
}

/// An answer.
pub enum Answer {
    Object(u16, Bytes),
    Watch(Lines),
    /// The connection breaks.
    Broken,
}

/// That an operator hears what it has done.
pub enum Heard {
    Made(Key, Who),
    Wrote(Key, Who, String),
    Removed(Key, Who),
}

/// Where a request goes.
struct Place {
    kind: &'static str,
    name: String,
    is_status: bool,
}

impl ApiServer {
    pub fn get(&self, kind: &'static str, name: &str) -> Option<&Arc<Value>> {
        self.objects.get(&(kind, name.to_owned()))
    }

    pub fn all(&self, kind: &'static str) -> Vec<Arc<Value>> {
        let from = self.objects.range((kind, String::new())..);
        from.take_while(|((of, _), _)| *of == kind).map(|(_, object)| object.clone()).collect()
    }

    pub fn by_uid(&self, uid: &str) -> Option<(Key, Arc<Value>)> {
        let found = self.objects.iter().find(|(_, object)| text(object, "/metadata/uid") == uid);
        found.map(|(key, object)| (key.clone(), object.clone()))
    }

    /// Everything that this one owns.
    pub fn owned_by(&self, uid: &str) -> Vec<(Key, Arc<Value>)> {
        let owned = self.objects.iter().filter(|(_, object)| owners(object).any(|owner| owner == uid));
        owned.map(|(key, object)| (key.clone(), object.clone())).collect()
    }

    pub fn tell(&mut self, watch: u64, line: Bytes) {
        if let Some(watch) = self.watches.get(&watch) {
            let _ = watch.lines.send(Ok(line));
        }
    }

    pub fn end_watch(&mut self, watch: u64) {
        self.watches.remove(&watch);
    }

    /// Ends all watches of a kind.
    pub fn break_watches(&mut self, kind: &'static str, with_error: bool) {
        for watch in self.watches.extract_if(.., |_, watch| watch.kind == kind) {
            if with_error {
                let _ = watch.1.lines.send(Err(io::Error::new(io::ErrorKind::ConnectionReset, "connection reset")));
            }
        }
    }

    /// What happened to this kind is forgotten.
    pub fn forget(&mut self, kind: &'static str) {
        self.forgotten.insert(kind, self.version);
        self.break_watches(kind, false);
    }

    pub fn heard(&mut self, heard: Heard, now: Millis) {
        match heard {
            Heard::Made(key, who) => drop(self.made.insert(key, (who, now))),
            Heard::Wrote(key, who, version) => drop(self.wrote.insert(key, (who, now, version))),
            Heard::Removed(key, who) => drop(self.removed.insert(key, (who, now))),
        }
    }

    /// An operator is gone, and its watches with it.
    pub fn hang_up(&mut self, who: Who) {
        self.watches.retain(|_, watch| watch.who != who);
    }
}

pub fn owners(object: &Value) -> impl Iterator<Item = &str> {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.into_iter().flatten().map(|owner| text(owner, "/uid"))
}

impl World {
    pub fn fresh_uid(&mut self) -> String {
        self.server.version += 1;
        format!("uid-{}", self.server.version)
    }

    /// Makes an object, or changes it. One that stays as it was gets no new version.
    pub fn put(&mut self, who: Who, kind: &'static str, mut object: Value) -> Arc<Value> {
        let name = text(&object, "/metadata/name").to_owned();
        let key = (kind, name.clone());
        let before = self.server.objects.get(&key).cloned();
        if let Some(before) = before.as_ref().filter(|before| ***before == object) {
            return before.clone();
        }
        if before.is_none() {
            let uid = self.fresh_uid();
            let stamp = self.stamp();
            let metadata = &mut object["metadata"];
            metadata["namespace"] = crate::world::NAMESPACE.into();
            metadata["uid"] = uid.into();
            metadata["creationTimestamp"] = stamp.into();
            metadata["generation"] = 1.into();
            self.server.removed.remove(&key);
            for owner in owners(&object).map(ToOwned::to_owned).collect::<Vec<_>>() {
                if self.server.by_uid(&owner).is_none() {
                    self.later(500, Event::Collect(owner));
                }
            }
        } else if before.as_ref().is_some_and(|before| before["spec"] != object["spec"]) {
            let generation = object["metadata"]["generation"].as_u64().unwrap_or_default();
            object["metadata"]["generation"] = (generation + 1).into();
        }
        self.server.version += 1;
        object["metadata"]["resourceVersion"] = self.server.version.to_string().into();
        let object = Arc::new(object);
        self.server.objects.insert(key, object.clone());
        let type_ = if before.is_none() { "ADDED" } else { "MODIFIED" };
        self.log(type_, kind, &object);
        self.wrote(who, kind, name, before, Some(object.clone()));
        object
    }

    /// Removes an object at once.
    pub fn remove(&mut self, who: Who, kind: &'static str, name: &str) {
        let key = (kind, name.to_owned());
        let Some(before) = self.server.objects.remove(&key) else { return };
        self.server.made.remove(&key);
        self.server.wrote.remove(&key);
        self.server.version += 1;
        let mut last = (*before).clone();
        last["metadata"]["resourceVersion"] = self.server.version.to_string().into();
        self.log("DELETED", kind, &Arc::new(last));
        let after = self.random.between(5, 500);
        self.later(after, Event::Collect(text(&before, "/metadata/uid").to_owned()));
        self.wrote(who, kind, name.to_owned(), Some(before), None);
    }

    fn wrote(
        &mut self,
        who: Who,
        kind: &'static str,
        name: String,
        before: Option<Arc<Value>>,
        after: Option<Arc<Value>>,
    ) {
        if kind == "jobs"
            && before.is_none()
            && let Some(job) = &after
        {
            let uid = text(job, "/metadata/uid").to_owned();
            let soon = self.random.between(10, 500);
            self.later(soon, Event::SyncJob(uid));
        }
        if kind == LEASES {
            return self.lead(who, after);
        }
        self.history.add(self.now, who, What::Wrote { kind, name, before, after });
        if matches!(who, Who::Operator(_)) {
            self.count_write();
        }
    }

    /// The lease was written.
    fn lead(&mut self, who: Who, lease: Option<Arc<Value>>) {
        let is_held = lease.is_some_and(|lease| !text(&lease, "/spec/holderIdentity").is_empty());
        let leader = is_held.then_some(who);
        if self.server.leader.is_none_or(|(before, _)| before != leader) {
            self.server.leader = Some((leader, self.now));
            self.history.add(self.now, who, if is_held { What::Leads } else { What::Resigns });
        }
    }

    fn log(&mut self, type_: &str, kind: &'static str, object: &Arc<Value>) {
        let line = Bytes::from(format!("{{\"type\":\"{type_}\",\"object\":{object}}}\n"));
        let selected = is_selected(kind, object);
        let logged = Logged { version: self.server.version, kind, line: line.clone(), selected };
        self.server.log.push(logged);
        let watches = self.server.watches.iter().filter(|(_, watch)| watch.kind == kind);
        let ids: Vec<_> = watches.filter(|(_, watch)| selected || !watch.selective).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|watch| self.send(watch, line.clone()));
    }

    /// A watch will tell this, after all that it has told before.
    fn send(&mut self, watch: u64, line: Bytes) {
        let Some(kind) = self.server.watches.get(&watch).map(|watch| watch.kind) else { return };
        let lag = self.network.lag.get(kind).copied().unwrap_or_default() + self.network.slow;
        let arrives = self.now + lag + self.random.between(1, 20);
        let Some(its) = self.server.watches.get_mut(&watch) else { return };
        its.last = its.last.max(arrives);
        let after = its.last - self.now;
        if self.network.doubles.contains(&kind) {
            self.later(after, Event::Tell(watch, line.clone()));
        }
        self.later(after, Event::Tell(watch, line));
    }

    /// A request arrives.
    pub fn arrive(&mut self, call: Call) {
        if call.reply.is_closed() && call.method == "GET" {
            return;
        }
        // Whatever manifests say: an operator of one namespace asks for nothing else, and none writes to another.
        let is_here = call.path.contains(&format!("/namespaces/{NAMESPACE}/"));
        let may_be_elsewhere = call.method == "GET" && !self.schedule.is_namespaced();
        assert!(is_here || may_be_elsewhere, "{} {} is not in the namespace {NAMESPACE}", call.method, call.path);
        let is_watch = call.query.contains("watch=true");
        let place = place(&call.path);
        // An event's name has the real time in it.
        let is_event = place.as_ref().is_some_and(|place| place.kind == "told");
        let request = format!("{} {}", call.method, if is_event { "an event" } else { &call.path });
        let is_list = call.method == "GET" && place.as_ref().is_some_and(|place| place.name.is_empty());
        if let Some(code) = self.network.refusals.pop() {
            if !is_list {
                self.asked(&call, request, Some(code), false);
            }
            let answer = Answer::Object(code, failure(code, "so the schedule wants it"));
            return self.answer(call.reply, answer, None);
        }
        let swallowed = self.network.swallows.pop();
        if swallowed == Some(false) || place.is_none() {
            assert!(place.is_some(), "the model knows no {request}");
            return self.swallow(call, request, is_list);
        }
        let place = place.expect("there is one");
        if place.kind == LEASES && self.network.muted == Some(call.who) {
            return self.swallow(call, request, false);
        }
        if is_list {
            let answer = if is_watch { self.watch(&call, place.kind) } else { self.list(&call, place.kind) };
            return match swallowed {
                Some(_) => self.answer(call.reply, Answer::Broken, None),
                None => self.answer(call.reply, answer, None),
            };
        }
        if let Some((leader, since)) = self.server.leader
            && (call.method != "GET" && place.kind != LEASES && leader != Some(call.who) && since < call.sent)
        {
            self.history.add(self.now, call.who, What::Usurped { request: request.clone() });
        }
        let Done { code, object, heard, own_fault } = self.carry_out(&call, &place);
        if swallowed.is_some() {
            return self.swallow(call, request, false);
        }
        self.asked(&call, request, Some(code), own_fault);
        self.answer(call.reply, Answer::Object(code, Bytes::from(object)), heard);
    }

    fn asked(&mut self, call: &Call, request: String, code: Option<u16>, own_fault: bool) {
        if request.contains(LEASES) {
            return;
        }
        self.history.add(self.now, call.who, What::Asked { request, code, own_fault });
    }

    /// No answer; a list's connection breaks, since nobody waits for it for less than minutes.
    fn swallow(&mut self, call: Call, request: String, is_list: bool) {
        if is_list {
            return self.answer(call.reply, Answer::Broken, None);
        }
        self.asked(&call, request, None, false);
        self.network.silence.push(call.reply);
    }

    fn answer(&mut self, reply: oneshot::Sender<Answer>, answer: Answer, heard: Option<Heard>) {
        let after = self.random.between(1, 10) + self.network.slow;
        self.later(after, Event::Answer(reply, answer, heard));
    }

    fn list(&self, call: &Call, kind: &'static str) -> Answer {
        let selective = is_selective(&call.query);
        let objects = self.server.all(kind);
        let chosen = objects.iter().filter(|object| !selective || is_selected(kind, object));
        let items: Vec<_> = chosen.map(ToString::to_string).collect();
        let version = self.server.version;
        let list = format!(
            r#"{{"apiVersion":"v1","kind":"List","metadata":{{"resourceVersion":"{version}"}},"items":[{}]}}"#,
            items.join(",")
        );
        Answer::Object(200, Bytes::from(list))
    }

    fn watch(&mut self, call: &Call, kind: &'static str) -> Answer {
        let parameter = |name: &str| call.query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let since: u64 = parameter("resourceVersion").and_then(|it| it.parse().ok()).unwrap_or_default();
        let seconds: u64 = parameter("timeoutSeconds").and_then(|it| it.parse().ok()).unwrap_or(290);
        let (lines, receiver) = mpsc::unbounded_channel();
        if self.server.forgotten.get(kind).is_some_and(|forgotten| since < *forgotten) {
            let error = String::from_utf8_lossy(&failure(410, "too old resource version")).into_owned();
            let _ = lines.send(Ok(Bytes::from(format!("{{\"type\":\"ERROR\",\"object\":{error}}}\n"))));
            return Answer::Watch(receiver);
        }
        self.server.version += 1;
        let (id, selective) = (self.server.version, is_selective(&call.query));
        let watch = Watch { who: call.who, kind, selective, lines, last: self.now };
        self.server.watches.insert(id, watch);
        let missed = self.server.log.iter().rev().take_while(|logged| logged.version > since);
        let missed = missed.filter(|logged| logged.kind == kind && (logged.selected || !selective));
        let mut missed: Vec<_> = missed.map(|logged| logged.line.clone()).collect();
        missed.reverse();
        missed.into_iter().for_each(|line| self.send(id, line));
        self.later(seconds * 1000, Event::EndWatch(id));
        Answer::Watch(receiver)
    }

    fn carry_out(&mut self, call: &Call, place: &Place) -> Done {
        let body: Value =
            if call.body.is_empty() { Value::Null } else { serde_json::from_slice(&call.body).expect("JSON") };
        match (call.method.as_str(), place.kind) {
            // What is told to people is read by nobody here.
            ("POST" | "PATCH", "told") => Done::of(200, &body),
            ("GET", kind) => match self.server.get(kind, &place.name) {
                Some(object) => Done::of(200, object),
                None => Done::failed(404, false),
            },
            ("POST", kind) => self.create(call, kind, body),
            ("PATCH", kind) => self.patch(call, kind, place, &body),
            ("PUT", kind) => self.replace(call, kind, place, body),
            ("DELETE", kind) => self.delete(call, kind, &place.name, &body),
            (method, kind) => panic!("the model knows no {method} of {kind}"),
        }
    }

    fn create(&mut self, call: &Call, kind: &'static str, object: Value) -> Done {
        let key = (kind, text(&object, "/metadata/name").to_owned());
        if self.server.objects.contains_key(&key) {
            return Done::failed(409, self.server.made.get(&key).is_some_and(|made| call.knew(made)));
        }
        let object = self.put(call.who, kind, object);
        Done { heard: Some(Heard::Made(key, call.who)), ..Done::of(201, &object) }
    }

    fn patch(&mut self, call: &Call, kind: &'static str, place: &Place, change: &Value) -> Done {
        let key = (kind, place.name.clone());
        let wanted = |field: &str| change.pointer(&format!("/metadata/{field}")).and_then(Value::as_str);
        let Some(before) = self.server.objects.get(&key).cloned() else {
            // With an identity, nothing is made anew.
            return Done::failed(if wanted("uid").is_some() { 409 } else { 404 }, false);
        };
        let is =
            |field: &str| wanted(field).is_none_or(|wanted| wanted == text(&before, &format!("/metadata/{field}")));
        if !is("uid") || !is("resourceVersion") {
            let last = self.server.wrote.get(&key);
            let version = text(&before, "/metadata/resourceVersion");
            let own_fault = last.is_some_and(|(who, at, its)| call.knew(&(*who, *at)) && its == version);
            return Done::failed(409, own_fault && is("uid"));
        }
        let mut after = (*before).clone();
        if place.is_status {
            after["status"] = change["status"].clone();
        } else if call.content_type.contains("apply-patch") {
            apply_owners(&mut after, change);
        } else {
            merge(&mut after, change);
        }
        after["metadata"]["uid"] = before["metadata"]["uid"].clone();
        after["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
        let after = self.put(call.who, kind, after);
        let version = text(&after, "/metadata/resourceVersion").to_owned();
        Done { heard: Some(Heard::Wrote(key, call.who, version)), ..Done::of(200, &after) }
    }

    fn replace(&mut self, call: &Call, kind: &'static str, place: &Place, object: Value) -> Done {
        let Some(before) = self.server.get(kind, &place.name) else { return Done::failed(404, false) };
        let version = "/metadata/resourceVersion";
        if text(before, version) != text(&object, version) {
            return Done::failed(409, false);
        }
        let object = self.put(call.who, kind, object);
        Done::of(200, &object)
    }

    fn delete(&mut self, call: &Call, kind: &'static str, name: &str, options: &Value) -> Done {
        let key = (kind, name.to_owned());
        let own = self.server.removed.get(&key).is_some_and(|removed| call.knew(removed));
        let Some(object) = self.server.objects.get(&key).cloned() else { return Done::failed(404, own) };
        let is = |field: &str| {
            let wanted = options.pointer(&format!("/preconditions/{field}")).and_then(Value::as_str);
            wanted.is_none_or(|wanted| wanted == text(&object, &format!("/metadata/{field}")))
        };
        if !is("uid") || !is("resourceVersion") {
            return Done::failed(409, own);
        }
        self.remove(call.who, kind, name);
        Done { heard: Some(Heard::Removed(key, call.who)), ..Done::of(200, &object) }
    }
}

/// What became of a request.
struct Done {
    code: u16,
    object: String,
    heard: Option<Heard>,
    own_fault: bool,
}

impl Done {
    fn of(code: u16, object: &Value) -> Self {
        Self { code, object: object.to_string(), heard: None, own_fault: false }
    }

    fn failed(code: u16, own_fault: bool) -> Self {
        let object = String::from_utf8_lossy(&failure(code, "it is not so")).into_owned();
        Self { code, object, heard: None, own_fault }
    }
}

fn failure(code: u16, message: &str) -> Bytes {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    };
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    Bytes::from(status.to_string())
}

/// `/apis/bam.dev/v1alpha1/namespaces/lab/bamruns/run-1/status`, and the like.
fn place(path: &str) -> Option<Place> {
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (group, rest) = match *parts.first()? {
        "api" => ("", parts.get(2..)?),
        _ => (*parts.get(1)?, parts.get(3..)?),
    };
    let rest = if *rest.first()? == "namespaces" { rest.get(2..)? } else { rest };
    let kind = match group {
        "events.k8s.io" => "told",
        _ => WATCHED.into_iter().chain([LEASES]).find(|kind| Some(kind) == rest.first())?,
    };
    let name = rest.get(1).copied().unwrap_or_default().to_owned();
    let is_status = rest.get(2) == Some(&"status");
    Some(Place { kind, name, is_status })
}

fn is_selective(query: &str) -> bool {
    query.contains("Selector=")
}

fn is_selected(kind: &str, object: &Value) -> bool {
    match kind {
        "jobs" | "pods" => object.pointer("/metadata/labels/bam.dev~1run").is_some(),
        "events" => text(object, "/reason") == "FailedCreate" && text(object, "/involvedObject/kind") == "Job",
        _ => true,
    }
}

/// Owners are a list with the key `uid`.
fn apply_owners(object: &mut Value, change: &Value) {
    let wanted = change.pointer("/metadata/ownerReferences").and_then(Value::as_array).cloned().unwrap_or_default();
    let owners = object["metadata"].as_object_mut().expect("metadata").entry("ownerReferences");
    let owners = owners.or_insert_with(|| json!([])).as_array_mut().expect("owners are a list");
    for owner in wanted {
        match owners.iter_mut().find(|known| known["uid"] == owner["uid"]) {
            Some(known) => *known = owner,
            None => owners.push(owner),
        }
    }
}

/// RFC 7396.
fn merge(object: &mut Value, change: &Value) {
    let Value::Object(changes) = change else {
        *object = change.clone();
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    for (name, change) in changes {
        match change {
            Value::Null => drop(object.as_object_mut().expect("an object").remove(name)),
            change => merge(&mut object[name], change),
        }
    }
}
