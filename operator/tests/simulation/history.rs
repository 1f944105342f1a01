//! Everything that happened, in order: what the properties are about, and what a person reads.

use std::fmt;
use std::sync::Arc;

use bam_crds::Digest;
use serde_json::Value;

use crate::schedule::Millis;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The n-th operator process.
    Operator(u32),
    User,
    JobController,
    Kubelet,
    GarbageCollector,
    Trainer,
    Schedule,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub at: Millis,
    pub who: Who,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    /// A request other than a list or a watch, and its answer. None: it got none.
    Asked { request: String, code: Option<u16>, own_fault: bool },
    /// An object is another one now; none: it was not there, or is not any more.
    Wrote { kind: &'static str, name: String, before: Option<Arc<Value>>, after: Option<Arc<Value>> },
    /// A trainer began to take steps.
    Trains { run: String },
    /// A trainer wrote a whole manifest, or found one that was whole.
    Whole { run: String, hash: Digest, trained: bool },
    /// The artifacts of a run are gone, or not what they were.
    Lost { hash: Digest },
    /// An attempt is over. None: nobody can see how.
    Ended { run: String, pod: String, code: Option<i32>, missing: Vec<Digest> },
    /// An operator leads from now on.
    Leads,
    /// An operator gives its lease back.
    Resigns,
    /// An operator began to write after another one had taken its lease.
    Usurped { request: String },
    /// A trainer writes to a folder that is another pod's.
    Trespassed { folder: String, pod: String },
    /// Something of the schedule, or the end of it.
    Came(String),
}

#[derive(Debug, Default)]
pub struct History(pub Vec<Entry>);

impl History {
    pub fn add(&mut self, at: Millis, who: Who, what: What) {
        self.0.push(Entry { at, who, what });
    }

    /// A number that is the same for the same history.
    pub fn fingerprint(&self) -> u64 {
        let text = self.to_string();
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }
}

/// A text of an object, by its JSON pointer; empty: there is none.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|entry| writeln!(f, "{entry}"))
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:9.3} {:<17} ", self.at as f64 / 1000.0, format!("{:?}", self.who))?;
        match &self.what {
            What::Asked { request, code: Some(code), own_fault } => {
                write!(f, "{request}: {code}{}", if *own_fault { " (by its own doing)" } else { "" })
            }
            What::Asked { request, code: None, .. } => write!(f, "{request}: no answer"),
            What::Wrote { kind, name, after: None, .. } => write!(f, "  {kind} {name} is gone"),
            What::Wrote { kind, name, before, after: Some(object) } => {
                let new = if before.is_none() { " is new" } else { "" };
                write!(f, "  {kind} {name}{new}: {}", summary(kind, object))
            }
            What::Trains { run, .. } => write!(f, "  {run} takes steps"),
            What::Whole { run, trained, .. } => write!(f, "  {run} is whole{}", if *trained { "" } else { " already" }),
            What::Lost { hash } => write!(f, "  the artifacts of {} are lost", hash.short()),
            What::Ended { run, pod, code, .. } => write!(f, "  {run} ended in {pod}: {code:?}"),
            What::Leads => write!(f, "  leads"),
            What::Resigns => write!(f, "  gives its lease back"),
            What::Usurped { request } => write!(f, "  asks {request}, and does not lead any more"),
            What::Trespassed { folder, pod } => write!(f, "  {pod} writes to {folder}"),
            What::Came(what) => write!(f, "* {what}"),
        }
    }
}

fn summary(kind: &str, object: &Value) -> String {
    let leaving = if object.pointer("/metadata/deletionTimestamp").is_some() { "leaving, " } else { "" };
    let rest = match kind {
        "bamexperiments" => {
            let suspended = object.pointer("/spec/suspend") == Some(&Value::Bool(true));
            let waits = text(object, "/status/waitingFor");
            format!("{}{} {waits}", if suspended { "suspended, " } else { "" }, text(object, "/status/phase"))
        }
        "bamruns" => {
            let attempts = object.pointer("/status/attempts").cloned().unwrap_or_default();
            let role = text(object, "/spec/role");
            format!(
                "{role} {} attempts {attempts} {}",
                text(object, "/status/phase"),
                text(object, "/status/waitingFor")
            )
        }
        "pods" => {
            let ended = object.pointer("/status/containerStatuses/0/state/terminated/exitCode");
            format!("{} {}", text(object, "/status/phase"), ended.map(ToString::to_string).unwrap_or_default())
        }
        "jobs" => text(object, "/status/conditions/0/type").to_owned(),
        _ => String::new(),
    };
    format!("{leaving}{rest}")
}
