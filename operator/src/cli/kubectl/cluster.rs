//! The way to a cluster, and what to say where it does not lead to what was asked for.

use std::error::Error as _;
use std::fmt::Display;
use std::time::Duration;

use bam_crds::{BamExperiment, BamExperimentStatus, BamRun, BamRunStatus, nearest};
use kube::api::{ListParams, ObjectList};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde::de::DeserializeOwned;

use super::super::Exit;
use super::super::describe::{self, Logs};
use super::Place;
use crate::plan::retry;
use crate::plan::why::and;

/// Nobody waits longer for a cluster that does not answer at all.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// The resource of experiments, as rights speak of it.
pub const EXPERIMENTS: &str = "bamexperiments.bam.dev";
/// The resource of runs, as rights speak of it.
const RUNS: &str = "bamruns.bam.dev";

/// Failed runs whose logs are shown: more nobody reads at once.
const MOST_LOGS: usize = 5;

/// A namespace of a cluster.
pub struct Cluster {
    /// The way to it.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
    /// Where its API server is.
    url: String,
}

impl Cluster {
    /// The one that is meant.
    pub async fn of(place: &Place) -> Result<Self, Exit> {
        Self::with_patience(place, None).await
    }

    /// The one that is meant. If it is silent for longer than `patience`, the connection is lost.
    pub async fn with_patience(place: &Place, patience: Option<Duration>) -> Result<Self, Exit> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut config = config(place).await?;
        config.connect_timeout = Some(CONNECT_PATIENCE);
        config.read_timeout = patience;
        let namespace = place.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let url = config.cluster_url.to_string();
        let client = Client::try_from(config).map_err(|error| unreachable(&error))?;
        Ok(Self { client, namespace, url })
    }

    /// The experiments of the namespace.
    pub fn experiments(&self) -> Api<BamExperiment> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// An experiment; if there is none of that name, which ones there are.
    pub async fn get(&self, name: &str) -> Result<BamExperiment, Exit> {
        let found = self.experiments().get_opt(name).await;
        match found.map_err(|error| self.explained("get", EXPERIMENTS, &error))? {
            Some(experiment) => Ok(experiment),
            None => Err(self.nobody(name).await?),
        }
    }

    /// How an experiment stands.
    pub async fn status(&self, name: &str) -> Result<BamExperimentStatus, Exit> {
        Ok(self.get(name).await?.status.unwrap_or_default())
    }

    /// How a run stands, if there is one of that name.
    pub async fn run(&self, name: &str) -> Result<Option<BamRunStatus>, Exit> {
        let api: Api<BamRun> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = api.get_opt(name).await.map_err(|error| self.explained("get", RUNS, &error))?;
        Ok(found.map(|run| run.status.unwrap_or_default()))
    }

    /// The last lines of the logs of an experiment's failed runs: of the first ones, and of those that may be read.
    pub async fn logs_of_failed(&self, status: &BamExperimentStatus) -> Logs {
        let mut logs = Logs::new();
        for run in describe::failed(status).take(MOST_LOGS) {
            let Ok(Some(status)) = self.run(&run.name).await else { continue };
            logs.insert(run.name.clone(), retry::last_log(&status));
        }
        logs
    }

    async fn nobody(&self, name: &str) -> Result<Exit, Exit> {
        let there = self.list(&self.experiments(), EXPERIMENTS, &ListParams::default()).await?;
        let names: Vec<_> = there.items.iter().filter_map(|it| it.metadata.name.as_deref()).collect();
        let namespace = &self.namespace;
        let others = match names.as_slice() {
            [] => {
                "nor any other; `kubectl get bamexperiments --all-namespaces` shows those of all namespaces".to_owned()
            }
            names => format!("but there are {}", and(names)),
        };
        let meant = nearest(name, names.iter().copied());
        let meant = meant.map(|meant| format!(" (did you mean {meant}?)")).unwrap_or_default();
        Ok(Exit::failed(format!("there is no experiment {name} in namespace {namespace}{meant}, {others}")))
    }

    /// Everything of a kind that is asked for.
    pub async fn list<K>(&self, api: &Api<K>, resource: &str, parameters: &ListParams) -> Result<ObjectList<K>, Exit>
    where
        K: Clone + DeserializeOwned + std::fmt::Debug,
    {
        api.list(parameters).await.map_err(|error| self.explained("list", resource, &error))
    }

    /// What went wrong, and what to do about it. `verb` and `resource` are the right that it takes.
    pub fn explained(&self, verb: &str, resource: &str, error: &kube::Error) -> Exit {
        let Self { namespace, url, .. } = self;
        Exit::failed(match error {
            kube::Error::Api(status) if status.code == 403 => format!(
                "you may not {verb} {resource} in namespace {namespace}: ask who looks after the cluster for that right, or \
                 name another namespace with -n (`kubectl auth can-i {verb} {resource} -n {namespace}` says whether you have \
                 it)"
            ),
            kube::Error::Api(status) if status.code == 401 => {
                format!(
                    "the cluster at {url} does not know who you are: log in anew, or name another context with --context"
                )
            }
            kube::Error::Api(status) if status.code == 404 && resource.ends_with("bam.dev") => format!(
                "the cluster at {url} knows no {resource}: install the operator there, or name another context with --context"
            ),
            kube::Error::Api(status) => {
                format!("cannot {verb} {resource} in namespace {namespace}: {}", status.message)
            }
            error => {
                let error = causes(error);
                format!("cannot reach the cluster at {url}: {error}; name another one with --context or --kubeconfig")
            }
        })
    }
}

/// Is it a refusal that another try would not change?
pub fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if [401, 403, 404].contains(&status.code))
}

/// An error with what led to it.
pub fn causes(error: &kube::Error) -> String {
    // That it was a service of this program which failed says nothing.
    let mut said = if matches!(error, kube::Error::Service(_)) { Vec::new() } else { vec![error.to_string()] };
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        // Many say again what led to them.
        if !said.last().is_some_and(|last| last.contains(&text)) {
            said.push(text);
        }
        source = error.source();
    }
    said.join(": ")
}

async fn config(place: &Place) -> Result<Config, Exit> {
    let options = KubeConfigOptions { context: place.context.clone(), ..KubeConfigOptions::default() };
    let kubeconfig = match &place.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let kubeconfig = match kubeconfig {
        Ok(kubeconfig) => kubeconfig,
        // In a pod there is another way.
        Err(error) if place.kubeconfig.is_none() && place.context.is_none() => {
            return Config::incluster().map_err(|_| unreachable(&error));
        }
        Err(error) => return Err(unreachable(&error)),
    };
    let contexts: Vec<_> = kubeconfig.contexts.iter().map(|context| context.name.clone()).collect();
    let known = if contexts.is_empty() { String::new() } else { format!(" (its contexts are {})", and(&contexts)) };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    config.map_err(|error| unreachable(&format!("{error}{known}")))
}

fn unreachable(error: &dyn Display) -> Exit {
    Exit::failed(format!(
        "there is no cluster to ask: {error}; name a kubeconfig with --kubeconfig or KUBECONFIG, and one of its contexts with \
         --context"
    ))
}
