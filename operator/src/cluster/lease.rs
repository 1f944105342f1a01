//! Of several operators one does the work: the one whose name stands in the Lease.
//!
//! Correctness never depends on it: names are hashes, and a status is written with the version that it was decided from. It
//! saves the API server from being told everything twice.
//!
//! As in Kubernetes' own controllers, no clock is compared with that of another machine: a lease is over when this operator
//! has seen it unchanged for as long as it is valid.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Client;
use tokio::time::{Instant, sleep, timeout};

use super::Clock;
use super::api::Server;
use super::error::Error;

/// A lease that has not changed for so long may be taken.
pub const VALID: Duration = Duration::from_secs(12);
/// No write begins later than this after the last renewal that went well was asked for.
pub const DEADLINE: Duration = Duration::from_secs(8);
/// The leader renews its lease this often.
const RENEWAL: Duration = Duration::from_secs(2);
/// The others look at it this often.
const LOOK: Duration = Duration::from_secs(1);
/// A request for the lease is given up after this.
const PATIENCE: Duration = Duration::from_secs(3);

/// Whether this operator may change anything just now.
#[derive(Clone, Debug)]
pub struct Leadership(Option<Arc<Mutex<Option<Instant>>>>);

impl Leadership {
    /// Of an operator that works alone: it always may.
    pub fn alone() -> Self {
        Self(None)
    }

    /// Of one of several, which does not lead yet.
    pub fn of_one_of_several() -> Self {
        Self(Some(Arc::default()))
    }

    /// May it begin a write?
    pub fn holds(&self) -> bool {
        self.0.as_ref().is_none_or(|until| {
            let until = until.lock().unwrap_or_else(PoisonError::into_inner);
            until.is_some_and(|until| Instant::now() < until)
        })
    }

    fn last(&self, until: Option<Instant>) {
        if let Some(known) = &self.0 {
            *known.lock().unwrap_or_else(PoisonError::into_inner) = until;
        }
    }
}

/// What to do about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// There is none: make it.
    Make,
    /// It is this operator's, or nobody's, or over: write this operator's name into it.
    Take,
    /// It is another one's.
    Wait,
}

/// What an operator of this name does about a lease that it has seen unchanged for so long.
pub fn decide(name: &str, lease: Option<&Lease>, unchanged: Duration) -> Move {
    let Some(lease) = lease else { return Move::Make };
    let spec = lease.spec.clone().unwrap_or_default();
    match spec.holder_identity.as_deref().unwrap_or_default() {
        holder if holder.is_empty() || holder == name => Move::Take,
        _ => {
            let valid = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
            if unchanged >= valid.map_or(VALID, Duration::from_secs) { Move::Take } else { Move::Wait }
        }
    }
}

/// One operator of several, and the lease.
pub struct Candidate {
    server: Server,
    clock: Clock,
    leadership: Leadership,
    /// Of the lease.
    namespace: String,
    lease: String,
    /// Of this operator.
    name: String,
    /// The lease as it was seen last, and since when it is like that.
    seen: Option<(Lease, Instant)>,
}

impl Candidate {
    /// One that wants the lease of this name, in the operator's own namespace.
    pub fn new(
        server: Server,
        client: &Client,
        clock: Clock,
        leadership: Leadership,
        lease: String,
        name: String,
    ) -> Self {
        let namespace = client.default_namespace().to_owned();
        Self { server, clock, leadership, namespace, lease, name, seen: None }
    }

    /// Waits until it leads; `alive` is called now and then.
    pub async fn win(&mut self, alive: impl Fn()) {
        let mut told = String::new();
        loop {
            alive();
            match self.turn().await {
                Ok(true) => return tracing::info!(lease = self.lease, "leads from now on"),
                Ok(false) => {
                    let holder = self.holder();
                    if told != holder {
                        tracing::info!(lease = self.lease, "waits: {holder} leads");
                        told = holder;
                    }
                }
                Err(error) => tracing::warn!("{error}; tried again in {} s", LOOK.as_secs()),
            }
            sleep(LOOK).await;
        }
    }

    /// Keeps the lease; ends when it is lost, with a sentence that says how.
    pub async fn keep(&mut self) -> String {
        loop {
            sleep(RENEWAL).await;
            match self.turn().await {
                Ok(true) => {}
                // Changed while it was looked at, and by no other operator: by one's own request that was given up.
                Ok(false) if self.holder() == self.name && self.leadership.holds() => {}
                Ok(false) => {
                    self.leadership.last(None);
                    return format!("{} has taken the lease {}", self.holder(), self.lease);
                }
                Err(error) if self.leadership.holds() => {
                    tracing::warn!("{error}; tried again in {} s", RENEWAL.as_secs())
                }
                Err(error) => return format!("{error}; the lease {} could not be renewed in time", self.lease),
            }
        }
    }

    /// Gives the lease back, so that another one need not wait until it is over.
    pub async fn resign(&mut self) {
        if !self.leadership.holds() {
            return;
        }
        self.leadership.last(None);
        let Some((mut lease, _)) = self.seen.take() else { return };
        lease.spec.get_or_insert_default().holder_identity = None;
        let given = timeout(PATIENCE, self.server.replace_lease(&self.namespace, &lease)).await;
        match given {
            Ok(Ok(_)) => tracing::info!(lease = self.lease, "gave the lease back"),
            Ok(Err(error)) => tracing::warn!("{error}; it is over in {} s", VALID.as_secs()),
            Err(_) => tracing::warn!("no answer; the lease is over in {} s", VALID.as_secs()),
        }
    }

    /// One look, and what follows from it. Does this operator lead now?
    async fn turn(&mut self) -> Result<bool, Error> {
        let silence = Error::Timeout { what: format!("renew the lease {}", self.lease), after: PATIENCE };
        let asked = Instant::now();
        let Some(lease) = timeout(PATIENCE, self.look_and_move()).await.unwrap_or(Err(silence))? else {
            return Ok(false);
        };
        self.seen = Some((lease, asked));
        self.leadership.last(Some(asked + DEADLINE));
        Ok(true)
    }

    /// None: another one leads.
    async fn look_and_move(&mut self) -> Result<Option<Lease>, Error> {
        let found = self.server.lease(&self.namespace, &self.lease).await?;
        let unchanged = match (&found, &self.seen) {
            (Some(found), Some((seen, since))) if found.metadata.resource_version == seen.metadata.resource_version => {
                since.elapsed()
            }
            (Some(found), _) => {
                self.seen = Some((found.clone(), Instant::now()));
                Duration::ZERO
            }
            (None, _) => Duration::ZERO,
        };
        let written = match decide(&self.name, found.as_ref(), unchanged) {
            Move::Wait => return Ok(None),
            Move::Make => self.server.make_lease(&self.namespace, &self.written(None)).await,
            // Of the version that was seen: whoever is second is told so.
            Move::Take => self.server.replace_lease(&self.namespace, &self.written(found)).await,
        };
        match written {
            Err(error) if error.code() == Some(409) => Ok(None),
            written => written.map(Some),
        }
    }

    /// The lease with this operator's name in it.
    fn written(&self, before: Option<Lease>) -> Lease {
        let now = Some(MicroTime(self.clock.now()));
        let known = before.is_some();
        let mut lease = before.unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.lease.clone()), ..ObjectMeta::default() },
            spec: None,
        });
        let spec = lease.spec.take().unwrap_or_default();
        let changes = spec.holder_identity.as_deref() != Some(self.name.as_str());
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.name.clone()),
            lease_duration_seconds: i32::try_from(VALID.as_secs()).ok(),
            acquire_time: if changes { now.clone() } else { spec.acquire_time.clone() },
            renew_time: now,
            lease_transitions: Some(spec.lease_transitions.unwrap_or_default() + i32::from(changes && known)),
            ..spec
        });
        lease
    }

    fn holder(&self) -> String {
        let holder = self.seen.as_ref().and_then(|(lease, _)| lease.spec.as_ref()?.holder_identity.clone());
        holder.filter(|holder| !holder.is_empty()).unwrap_or_else(|| "nobody yet".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, seconds: Option<i32>) -> Lease {
        let spec = LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: seconds,
            ..LeaseSpec::default()
        };
        Lease { spec: Some(spec), ..Lease::default() }
    }

    #[test]
    fn who_takes_a_lease_and_when() {
        let table = [
            ("there is none", None, 0, Move::Make),
            ("it is ours", Some(lease("me", Some(12))), 0, Move::Take),
            ("it was given back", Some(lease("", Some(12))), 0, Move::Take),
            ("nobody ever had it", Some(Lease::default()), 0, Move::Take),
            ("another one's", Some(lease("you", Some(12))), 0, Move::Wait),
            ("another one's, a second before its end", Some(lease("you", Some(12))), 11, Move::Wait),
            ("another one's, which is over", Some(lease("you", Some(12))), 12, Move::Take),
            ("another one's, of a longer time than ours", Some(lease("you", Some(60))), 12, Move::Wait),
            ("another one's, which does not say how long", Some(lease("you", None)), 11, Move::Wait),
            ("another one's, which does not say how long, over", Some(lease("you", None)), 12, Move::Take),
            ("another one's, of a time that makes no sense", Some(lease("you", Some(-1))), 11, Move::Wait),
        ];
        for (what, lease, unchanged, expected) in table {
            assert_eq!(decide("me", lease.as_ref(), Duration::from_secs(unchanged)), expected, "{what}");
        }
    }

    #[test]
    fn a_leader_stops_writing_before_another_one_may_begin() {
        assert!(DEADLINE + PATIENCE < VALID);
        assert!(RENEWAL + PATIENCE < DEADLINE, "one renewal that fails is not the end");
    }

    #[tokio::test(start_paused = true)]
    async fn leadership_ends_by_itself() {
        let leadership = Leadership::of_one_of_several();
        assert!(!leadership.holds());
        leadership.last(Some(Instant::now() + DEADLINE));
        assert!(leadership.clone().holds());
        tokio::time::advance(DEADLINE).await;
        assert!(!leadership.holds());
        assert!(Leadership::alone().holds());
    }
}
