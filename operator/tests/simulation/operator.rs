//! Operator processes: the real `operate` behind a client whose requests go to the model.

use std::io;
use std::time::Duration;

use bam_operator::cluster::{Clock, Outside, Settings, operate, reports};
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::header::CONTENT_TYPE;
use hyper::{Request, Response};
use k8s_openapi::jiff::SignedDuration;
use kube::Client;
use kube::client::Body;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::api_server::{Answer, Call};
use crate::history::Who;
use crate::schedule::{Millis, Schedule};
use crate::world::{Event, Heal, NAMESPACE, Shared, Wish, time};

/// Until an operator that ended is started again.
const RESTART: Millis = 1_000;

/// All operator processes of a schedule.
pub struct Operators {
    world: Shared,
    start: Instant,
    count: u32,
    processes: Vec<Process>,
    /// Told to stop, and not yet at their end.
    leaving: Vec<Process>,
}

struct Process {
    who: Who,
    task: JoinHandle<Result<(), String>>,
    stop: watch::Sender<bool>,
}

impl Operators {
    pub fn new(world: Shared, start: Instant) -> Self {
        Self { world, start, count: 0, processes: Vec::new(), leaving: Vec::new() }
    }

    /// Starts and ends processes as the world wishes.
    pub async fn fulfil(&mut self) {
        self.revive();
        let wishes = std::mem::take(&mut self.world.lock().wishes);
        for wish in wishes {
            match wish {
                Wish::Start => self.start(),
                Wish::Kill => self.kill(0),
                Wish::KillOld => self.kill(1),
                Wish::Stop => {
                    for process in self.processes.drain(..) {
                        process.stop.send_replace(true);
                        self.leaving.push(process);
                    }
                }
            }
            // What was killed is dropped before anything else happens.
            tokio::task::yield_now().await;
        }
    }

    /// An operator that has lost its lease ends, and is started again.
    fn revive(&mut self) {
        if !self.world.lock().schedule.elects {
            return;
        }
        for process in self.processes.extract_if(.., |process| process.task.is_finished()) {
            let mut world = self.world.lock();
            world.server.hang_up(process.who);
            world.later(RESTART, Event::Heal(Heal::Operator));
        }
    }

    /// Why one of them ended that was not told to.
    pub async fn lost(&mut self) -> Option<String> {
        for process in &mut self.processes {
            if process.task.is_finished() {
                return Some(format!("{:?} ended: {:?}", process.who, (&mut process.task).await));
            }
        }
        None
    }

    fn start(&mut self) {
        self.count += 1;
        let who = Who::Operator(self.count);
        let (stop, stopped) = watch::channel(false);
        let name = format!("operator-{}", self.count);
        let outside = Outside { client: self.client(who), clock: self.clock(), name, stop: stopped };
        let settings = settings(&self.world.lock().schedule);
        let task = tokio::task::spawn_local(async move {
            operate(settings, outside, reports()).await.map_err(|error| error.to_string())
        });
        self.processes.push(Process { who, task, stop });
    }

    /// Kills all but so many of those that started last.
    fn kill(&mut self, keep: usize) {
        let surplus = self.processes.len().saturating_sub(keep);
        for process in self.processes.drain(..surplus).chain(self.leaving.drain(..)) {
            process.task.abort();
            self.world.lock().server.hang_up(process.who);
        }
    }

    fn clock(&self) -> Clock {
        let (world, start) = (self.world.clone(), self.start);
        Clock::new(move || {
            let skew = SignedDuration::from_secs(world.lock().skew);
            time(start.elapsed().as_millis() as u64) + skew
        })
    }

    fn client(&self, who: Who) -> Client {
        let (world, start) = (self.world.clone(), self.start);
        let service = tower::service_fn(move |request: Request<Body>| {
            let world = world.clone();
            async move { exchange(&world, start, who, request).await }
        });
        Client::new(service, NAMESPACE)
    }
}

fn settings(schedule: &Schedule) -> Settings {
    Settings {
        lease: schedule.elects.then(|| "bam-operator".to_owned()),
        trainer_image: "trainer".to_owned(),
        trainer_image_pull_policy: "Never".to_owned(),
        namespace: schedule.is_namespaced().then(|| NAMESPACE.to_owned()),
        kueue: false,
        listen: ([127, 0, 0, 1], 0).into(),
        // The model's pods have no address: nobody is asked.
        progress_seconds: 600,
        log_format: bam_operator::cluster::LogFormat::Text,
    }
}

type Content = UnsyncBoxBody<Bytes, io::Error>;

/// One request, there and back.
async fn exchange(world: &Shared, start: Instant, who: Who, request: Request<Body>) -> io::Result<Response<Content>> {
    let (parts, body) = request.into_parts();
    let body = body.collect_bytes().await.map_err(io::Error::other)?;
    let (reply, answer) = oneshot::channel();
    let content_type = parts.headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default().to_owned();
    let now = start.elapsed().as_millis() as u64;
    let call = Call {
        who,
        sent: now,
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        content_type,
        body,
        reply,
    };
    {
        let mut world = world.lock();
        world.now = world.now.max(now);
        let after = world.random.between(1, 5) + world.network.slow;
        world.later(after, Event::Call(Box::new(call)));
    }
    world.changed.notify_one();
    let gone = || io::Error::new(io::ErrorKind::ConnectionReset, "connection reset");
    match answer.await.map_err(|_| gone())? {
        Answer::Broken => Err(gone()),
        Answer::Object(code, bytes) => {
            let content = Full::new(bytes).map_err(|never| match never {}).boxed_unsync();
            Ok(Response::builder().status(code).body(content).expect("a response"))
        }
        Answer::Watch(lines) => {
            let frames = stream::unfold(lines, |mut lines| async {
                let line = lines.recv().await?;
                Some((line.map(Frame::data), lines))
            });
            Ok(Response::new(StreamBody::new(frames).boxed_unsync()))
        }
    }
}

/// Lets the world go on until this moment.
pub async fn go_on(world: &Shared, operators: &mut Operators, until: u64) {
    loop {
        operators.fulfil().await;
        let next = world.lock().next().map_or(until, |next| next.min(until));
        let start = operators.start;
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(start + Duration::from_millis(next)) => {}
            () = world.changed.notified() => {}
        }
        let now = start.elapsed().as_millis() as u64;
        world.lock().catch_up(now);
        if now >= until {
            return operators.fulfil().await;
        }
    }
}
