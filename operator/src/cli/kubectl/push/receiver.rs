//! The pod that takes runs into the store, from its making to its end.

use std::time::Duration;

use bam_crds::RunReport;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerState, Pod};
use kube::api::{AttachParams, AttachedProcess, DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use tokio::time::{Instant, sleep, timeout};

use super::super::super::{Exit, complain};
use super::super::cluster::Cluster;
use crate::cluster::job::CONTAINER;

/// How often it is looked whether the pod runs.
const PACE: Duration = Duration::from_millis(500);
/// A pod that waits is spoken of after so long.
const QUIET: Duration = Duration::from_secs(5);
/// An image may be large, and a machine may have to be made; nobody waits longer than this for them.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long is waited for the pod's last word, and for its removal.
const FAREWELL: Duration = Duration::from_secs(15);
/// Bytes on their way to the pod.
const BUFFER: usize = 1 << 20;
/// What does not pass by itself.
const HOPELESS: [&str; 5] =
    ["ErrImageNeverPull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError"];

/// A Job with one pod.
pub struct Receiver<'a> {
    cluster: &'a Cluster,
    job: String,
}

/// How its pod stands.
enum Standing {
    /// Why it does not run yet, and whether that will pass.
    Waits(String, bool),
    Runs(String),
    /// Its last word.
    Over(String),
}

impl<'a> Receiver<'a> {
    /// Makes it.
    pub async fn make(cluster: &'a Cluster, job: &Job) -> Result<Self, Exit> {
        let jobs: Api<Job> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
        let made = jobs.create(&PostParams::default(), job).await;
        let made = made.map_err(|error| cluster.explained("create", "jobs.batch", &error))?;
        Ok(Self { cluster, job: made.name_any() })
    }

    /// Its streams, as soon as it runs.
    pub async fn attached(&self) -> Result<AttachedProcess, Exit> {
        let (begin, mut said) = (Instant::now(), String::new());
        let pod = loop {
            match self.standing().await? {
                Standing::Runs(pod) => break pod,
                Standing::Over(word) => return Err(Exit::failed(format!("the receiver ended at once: {word}"))),
                Standing::Waits(why, passes) => {
                    if !passes || begin.elapsed() > PATIENCE {
                        return Err(Exit::failed(format!("the receiver does not start: {why}")));
                    }
                    if begin.elapsed() > QUIET && said != why {
                        complain(&format!("note: waits for its pod: {why}"));
                        said = why;
                    }
                }
            }
            sleep(PACE).await;
        };
        let streams = AttachParams::default().container(CONTAINER).stdin(true).stdout(true).stderr(false);
        let attached = self.pods().attach(&pod, &streams.max_stdin_buf_size(BUFFER)).await;
        attached.map_err(|error| self.cluster.explained("create", "pods/attach", &error))
    }

    /// What the pod said when it ended.
    pub async fn last_word(&self) -> Option<String> {
        let ended = async {
            loop {
                match self.standing().await {
                    Ok(Standing::Over(word)) => return Some(word),
                    Ok(_) => sleep(PACE).await,
                    Err(_) => return None,
                }
            }
        };
        timeout(FAREWELL, ended).await.ok().flatten()
    }

    /// Removes it.
    pub async fn end(&self) {
        let jobs: Api<Job> = Api::namespaced(self.cluster.client.clone(), &self.cluster.namespace);
        let parameters = DeleteParams::background();
        let removed = timeout(FAREWELL, jobs.delete(&self.job, &parameters)).await;
        let problem = match removed {
            Ok(Ok(_)) => return,
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        complain(&format!(
            "note: job {} stays ({problem}); it ends by itself, and `kubectl delete job {} -n {}` removes it",
            self.job, self.job, self.cluster.namespace
        ));
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.cluster.client.clone(), &self.cluster.namespace)
    }

    async fn standing(&self) -> Result<Standing, Exit> {
        let its = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={}", self.job));
        let pods = self.cluster.list(&self.pods(), "pods", &its).await?;
        Ok(pods.items.first().map_or_else(
            || {
                let job = format!("kubectl describe job {} -n {}", self.job, self.cluster.namespace);
                Standing::Waits(format!("there is none yet (`{job}` may say why)"), true)
            },
            standing,
        ))
    }
}

fn standing(pod: &Pod) -> Standing {
    let status = pod.status.clone().unwrap_or_default();
    let state = status.container_statuses.unwrap_or_default().pop().and_then(|container| container.state);
    let ContainerState { waiting, running, terminated } = state.unwrap_or_default();
    if let Some(ended) = terminated {
        let word = ended.message.unwrap_or_default();
        let report = serde_json::from_str(&word).map(|report: RunReport| report.message);
        let word = report.unwrap_or(word).trim().to_owned();
        let code = ended.exit_code;
        return Standing::Over(if word.is_empty() { format!("exit code {code}") } else { word });
    }
    if running.is_some() {
        return Standing::Runs(pod.name_any());
    }
    if ["Failed", "Succeeded"].contains(&status.phase.as_deref().unwrap_or_default()) {
        let said = [status.reason, status.message].into_iter().flatten().collect::<Vec<_>>().join(": ");
        return Standing::Over(said);
    }
    let place = status.conditions.unwrap_or_default().into_iter();
    let place = place.filter(|it| it.type_ == "PodScheduled" && it.status == "False").find_map(|it| it.message);
    let (reason, message) = waiting.map(|it| (it.reason.unwrap_or_default(), it.message)).unwrap_or_default();
    let why = [Some(reason.clone()), message.or(place)].into_iter().flatten().filter(|part| !part.is_empty());
    let why = why.collect::<Vec<_>>().join(": ");
    let passes = !HOPELESS.contains(&reason.as_str());
    let advice = if reason.contains("Image") { "; name the trainer's image with --image" } else { "" };
    Standing::Waits(if why.is_empty() { "it is being started".to_owned() } else { why + advice }, passes)
}
