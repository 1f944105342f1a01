//! The whole model in one place: an agenda of what comes next, and the parts that it happens to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use hyper::body::Bytes;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::{Notify, oneshot};

use crate::api_server::{Answer, ApiServer, Call, Heard};
use crate::history::{History, What, Who};
use crate::kubelet::Machines;
use crate::random::Random;
use crate::schedule::{Act, Millis, PEACE, Schedule, When};
use crate::trainer::{ArtifactStore, Ending};

/// The namespace in which everything is.
pub const NAMESPACE: &str = "lab";
/// The beginning of the virtual clock, in seconds.
const EPOCH: i64 = 1_800_000_000;

pub struct World {
    pub now: Millis,
    pub schedule: Schedule,
    pub random: Random,
    pub server: ApiServer,
    pub network: Network,
    pub machines: Machines,
    pub store: ArtifactStore,
    pub history: History,
    /// What is to be done with operator processes.
    pub wishes: Vec<Wish>,
    /// Seconds by which the operators' clock is wrong.
    pub skew: i64,
    /// What the profile has said so far, counted.
    pub profiles: u32,
    agenda: BTreeMap<(Millis, u64), Event>,
    serial: u64,
    writes: u32,
    /// Acts that wait for a number of writes.
    waiting: Vec<(u32, Act)>,
}

/// What is wrong between the operator and the API server just now.
#[derive(Default)]
pub struct Network {
    /// By kind: so much later do watches tell.
    pub lag: BTreeMap<&'static str, Millis>,
    /// These kinds are told twice.
    pub doubles: Vec<&'static str>,
    /// Every message takes so much longer.
    pub slow: Millis,
    /// The answers to the next requests.
    pub refusals: Vec<u16>,
    /// Whether the next requests, which get no answer, are carried out.
    pub swallows: Vec<bool>,
    /// Whose requests about a lease get no answer.
    pub muted: Option<Who>,
    /// Answers that nobody gets.
    pub silence: Vec<oneshot::Sender<Answer>>,
}

/// What is to be done with operator processes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wish {
    Start,
    /// All that run are killed.
    Kill,
    /// All that run are told to stop.
    Stop,
    /// All but the one that started last are killed.
    KillOld,
}

pub enum Event {
    /// A request arrives.
    Call(Box<Call>),
    /// An answer arrives.
    Answer(oneshot::Sender<Answer>, Answer, Option<Heard>),
    /// A watch tells.
    Tell(u64, Bytes),
    /// A watch ends: its time is over.
    EndWatch(u64),
    Act(Act),
    /// Something that was wrong is right again.
    Heal(Heal),
    /// The Job controller looks at a Job.
    SyncJob(String),
    /// The kubelet begins with a pod.
    StartPod(String),
    /// The ending of a pod's plan of this number.
    EndPod(String, u64),
    /// A trainer is told to end.
    Terminate(String),
    /// A pod that ended and was deleted goes.
    RemovePod(String),
    /// The garbage collector looks for what an owner has left.
    Collect(String),
    /// An experiment that is deleted in the foreground goes.
    FinishDeletion(String),
    Peace,
}

#[derive(Clone, Copy)]
pub enum Heal {
    Lag(&'static str),
    Double(&'static str),
    Slow,
    Pods,
    Images,
    Claim,
    Lease,
    Profile,
    /// A killed operator starts again.
    Operator,
    /// The older of two operators is killed.
    Twin,
}

/// The world, for the model and for the operators' clients.
#[derive(Clone)]
pub struct Shared {
    world: Arc<Mutex<World>>,
    /// Something new stands in the agenda.
    pub changed: Arc<Notify>,
}

impl Shared {
    pub fn new(schedule: Schedule) -> Self {
        Self { world: Arc::new(Mutex::new(World::new(schedule))), changed: Arc::new(Notify::new()) }
    }

    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no panic while the world is held")
    }
}

impl World {
    fn new(schedule: Schedule) -> Self {
        let mut world = Self {
            now: 0,
            random: Random::new(schedule.seed ^ 0x5eed),
            server: ApiServer::default(),
            network: Network::default(),
            machines: Machines::default(),
            store: ArtifactStore::default(),
            history: History::default(),
            wishes: vec![Wish::Start],
            skew: 0,
            profiles: 0,
            agenda: BTreeMap::new(),
            serial: 0,
            writes: 0,
            waiting: Vec::new(),
            schedule,
        };
        for (when, act) in world.schedule.acts.clone() {
            match when {
                When::At(at) => world.later(at, Event::Act(act)),
                When::AfterWrite(count) => world.waiting.push((count, act)),
            }
        }
        world.later(PEACE, Event::Peace);
        world.make_claim();
        if world.schedule.experiments.iter().any(|experiment| experiment.names_profile) {
            world.write_profile();
        }
        world
    }

    /// The time of day as objects have it: in whole seconds.
    pub fn stamp(&self) -> String {
        stamp(self.now, 0)
    }

    /// Has everything that was to go wrong gone wrong?
    pub fn is_peace(&self) -> bool {
        self.now >= PEACE
    }

    /// This happens so much later.
    pub fn later(&mut self, after: Millis, event: Event) {
        self.serial += 1;
        self.agenda.insert((self.now + after, self.serial), event);
    }

    /// When something happens next.
    pub fn next(&self) -> Option<Millis> {
        self.agenda.first_key_value().map(|((at, _), _)| *at)
    }

    /// Everything that happens until now.
    pub fn catch_up(&mut self, now: Millis) {
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((at, _), event) = entry.remove_entry();
            self.now = at.max(self.now);
            self.happen(event);
        }
        self.now = now.max(self.now);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Call(call) => self.arrive(*call),
            Event::Answer(reply, answer, heard) => {
                if reply.send(answer).is_ok()
                    && let Some(heard) = heard
                {
                    self.server.heard(heard, self.now);
                }
            }
            Event::Tell(watch, line) => self.server.tell(watch, line),
            Event::EndWatch(watch) => self.server.end_watch(watch),
            Event::Act(act) => self.act(act),
            Event::Heal(what) => self.heal(what),
            Event::SyncJob(job) => self.sync_job(&job),
            Event::StartPod(pod) => self.start_pod(&pod),
            Event::EndPod(pod, plan) => self.end_pod(&pod, plan),
            Event::Terminate(pod) => self.terminate(&pod),
            Event::RemovePod(pod) => self.remove_pod(&pod),
            Event::Collect(owner) => self.collect(&owner),
            Event::FinishDeletion(experiment) => self.remove(Who::GarbageCollector, "bamexperiments", &experiment),
            Event::Peace => self.make_peace(),
        }
    }

    /// An operator has written something.
    pub fn count_write(&mut self) {
        self.writes += 1;
        let (due, waiting) = self.waiting.drain(..).partition(|(count, _)| *count <= self.writes);
        self.waiting = waiting;
        for (_, act) in Vec::<(u32, Act)>::from_iter(due) {
            if !self.is_peace() {
                self.act(act);
            }
        }
    }

    fn make_peace(&mut self) {
        self.waiting.clear();
        for kind in self.network.lag.keys().copied().collect::<Vec<_>>() {
            self.heal(Heal::Lag(kind));
        }
        self.network = Network { silence: std::mem::take(&mut self.network.silence), ..Network::default() };
        for what in [Heal::Pods, Heal::Images, Heal::Claim] {
            self.heal(what);
        }
        self.machines.fates.clear();
        self.wishes.push(Wish::KillOld);
        self.came("nothing more goes wrong".to_owned());
    }

    pub fn came(&mut self, what: String) {
        self.history.add(self.now, Who::Schedule, What::Came(what));
    }

    pub fn plan_ending(&mut self, pod: &str, after: Millis, ending: Ending) {
        let plan = self.machines.plan(pod, ending);
        self.later(after, Event::EndPod(pod.to_owned(), plan));
    }
}

/// A moment as a clock that is so many seconds wrong tells it.
pub fn stamp(now: Millis, skew: i64) -> String {
    Timestamp::from_second(EPOCH + (now / 1000) as i64 + skew).expect("a moment").to_string()
}

pub fn time(now: Millis) -> Timestamp {
    Timestamp::from_millisecond(EPOCH * 1000 + now as i64).expect("a moment")
}
