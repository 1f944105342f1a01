//! Kueue, which lets Jobs wait for their turn: a Job with the name of a queue is made suspended, Kueue makes a Workload for it,
//! and goes on with the Job when there is quota. Nothing of ours is linked with it: a label, and what a Workload says.

use std::time::Duration;

use kube::api::{ApiResource, DynamicObject};
use kube::{Client, discovery};
use serde_json::Value;

use super::facts::Facts;

const GROUP: &str = "kueue.x-k8s.io";
/// Until it is looked again whether Kueue is installed.
const PAUSE: Duration = Duration::from_secs(20);

/// What Kueue says of a Job.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadFacts {
    /// The identity of the Job.
    pub job_uid: String,
    /// The run whose attempt the Job is.
    pub run: String,
    /// Why it is not its turn yet, in Kueue's words; none: it is.
    pub waits: Option<String>,
}

impl Facts for WorkloadFacts {
    type Object = DynamicObject;

    fn of(workload: &DynamicObject) -> Self {
        let owners = workload.metadata.owner_references.iter().flatten();
        let job = owners.into_iter().find(|owner| owner.kind == "Job");
        let name = job.map(|job| job.name.as_str()).unwrap_or_default();
        Self {
            job_uid: job.map(|job| job.uid.clone()).unwrap_or_default(),
            run: name.rsplit_once('-').map(|(run, _)| run.to_owned()).unwrap_or_default(),
            waits: waits(&workload.data["status"]["conditions"]),
        }
    }

    fn run(&self) -> Option<&str> {
        Some(&self.run)
    }
}

/// What keeps it from its turn: no quota, or a check that is still to be passed; and why it lost its turn, if it had it.
fn waits(conditions: &Value) -> Option<String> {
    let all = conditions.as_array().map(Vec::as_slice).unwrap_or_default();
    let message = |kind: &str, status: &str| {
        let found = all.iter().find(|it| it["type"] == kind && it["status"] == status)?;
        Some(found["message"].as_str().unwrap_or_default().trim().to_owned())
    };
    if message("Admitted", "True").is_some() {
        return None;
    }
    let now = message("QuotaReserved", "False").or_else(|| message("Admitted", "False"));
    let before = message("Evicted", "True").filter(|why| !why.is_empty());
    let said = now.into_iter().chain(before).filter(|why| !why.is_empty()).collect::<Vec<_>>();
    Some(said.join("; "))
}

/// The kind of Workloads as this cluster serves it, as soon as it does.
pub async fn workloads(client: &Client) -> ApiResource {
    loop {
        // Whatever is the matter: it is asked again, and nothing else waits for it.
        if let Ok(group) = discovery::group(client, GROUP).await
            && let Some((resource, _)) = group.recommended_kind("Workload")
        {
            return resource;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
