//! Watches: what happens to the objects of one kind goes into its cache, and wakes who has to look.

use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::cache::{Cache, Changed};
use super::facts::Facts;
use super::metrics::Metrics;
use super::serve::Health;

/// So many objects a list brings at once: as it comes, each takes many times what is kept of it.
const PAGE: u32 = 100;

/// What a watch is called.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    /// In the metrics: the plural.
    pub kind: &'static str,
    /// In `/readyz`.
    pub readiness: &'static str,
}

/// Whom a watch tells what.
#[derive(Clone)]
pub struct Reports {
    /// What is missing before the operator can work.
    pub health: Arc<Health>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Watches until the process ends. Never gives up: an error is told, and the next try waits a little.
///
/// `refused` hears of every answer of the API server that is an error, by its code, and of none when all is well. If it says
/// true, that is an answer like another: the cluster has nothing of the kind.
pub async fn watch<F>(
    name: Name,
    api: Api<F::Object>,
    config: watcher::Config,
    reports: Reports,
    cache: &Cache<F>,
    changed: impl Fn(Changed<F>),
    refused: impl Fn(Option<u16>) -> bool,
) where
    F: Facts,
    F::Object: Resource + ResourceExt + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut events = pin!(watch_objects(api, config.page_size(PAGE)).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                reports.metrics.watch_event(name.kind);
                let complete = !matches!(event, Event::Init | Event::InitApply(_));
                cache.apply(event).into_iter().for_each(&changed);
                if complete {
                    refused(None);
                    reports.health.readiness.ready(name.readiness);
                }
            }
            Err(error) if code(&error).is_some_and(|code| refused(Some(code))) => {
                reports.health.readiness.ready(name.readiness);
            }
            Err(error) => {
                tracing::warn!("{}: {error}", name.readiness);
                reports.metrics.watch_error(name.kind);
                reports.health.readiness.waits(name.readiness, error.to_string());
            }
        }
    }
}

/// The HTTP status of an answer.
fn code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => super::error::code(error),
        watcher::Error::WatchError(status) => Some(status.code),
        watcher::Error::NoResourceVersion => None,
    }
}
