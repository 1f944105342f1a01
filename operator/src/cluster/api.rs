//! Every call to the API server that changes something: each with a time limit, each counted, none begun by an operator that
//! does not lead. What is made or changed comes back as it is then: its identity, its version.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bam_crds::{BamExperiment, BamRun, BamRunSpec, names};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tracing::Instrument;

use super::error::Error;
use super::lease::Leadership;
use super::metrics::Metrics;
use crate::plan::Reopened;

/// No call takes longer, retries included.
const PATIENCE: Duration = Duration::from_secs(15);

/// The API server, as far as the operator changes something there.
#[derive(Clone)]
pub struct Server {
    client: Client,
    metrics: Arc<Metrics>,
    leadership: Leadership,
}

/// An object of ours: where it is, and which of that name.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its identity: another object of that name is not touched.
    pub uid: &'a str,
}

impl Server {
    /// Reaches it through this client, and changes nothing there without leadership.
    pub fn new(client: Client, metrics: Arc<Metrics>, leadership: Leadership) -> Self {
        Self { client, metrics, leadership }
    }

    /// The lease of this name, if there is one.
    ///
    /// # Errors
    /// If nobody can say.
    pub async fn lease(&self, namespace: &str, name: &str) -> Result<Option<Lease>, Error> {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), namespace);
        self.call("get", "leases", &format!("look at the lease {name}"), api.get_opt(name)).await
    }

    /// Makes a lease.
    ///
    /// # Errors
    /// 409 if there is one of that name.
    pub async fn make_lease(&self, namespace: &str, lease: &Lease) -> Result<Lease, Error> {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), namespace);
        let parameters = PostParams { field_manager: Some(names::OPERATOR.to_owned()), ..PostParams::default() };
        let what = format!("make the lease {}", lease.name_any());
        self.call("create", "leases", &what, api.create(&parameters, lease)).await
    }

    /// Writes a lease that is still of the version that it says.
    ///
    /// # Errors
    /// 404 or 409 if it is gone, or of another version.
    pub async fn replace_lease(&self, namespace: &str, lease: &Lease) -> Result<Lease, Error> {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), namespace);
        let parameters = PostParams { field_manager: Some(names::OPERATOR.to_owned()), ..PostParams::default() };
        let (name, what) = (lease.name_any(), format!("write the lease {}", lease.name_any()));
        self.call("update", "leases", &what, api.replace(&name, &parameters, lease)).await
    }

    /// Is this experiment still there, and to stay? Asked of the API server itself: watches tell of one kind sooner than of
    /// another.
    ///
    /// # Errors
    /// If nobody can say.
    pub async fn is_living(&self, experiment: Object<'_>) -> Result<bool, Error> {
        let api: Api<BamExperiment> = Api::namespaced(self.client.clone(), experiment.namespace);
        let what = format!("look for experiment {}", experiment.name);
        let found = self.call("get", "bamexperiments", &what, api.get_metadata_opt(experiment.name)).await?;
        let found = found.map(|found| found.metadata).filter(|found| found.uid.as_deref() == Some(experiment.uid));
        Ok(found.is_some_and(|found| found.deletion_timestamp.is_none()))
    }

    /// Is this Job of this run there? Asked of the API server itself: watches tell of one kind sooner than of another.
    ///
    /// # Errors
    /// If nobody can say.
    pub async fn has_job(&self, run: Object<'_>, job: &str) -> Result<bool, Error> {
        let api: Api<Job> = Api::namespaced(self.client.clone(), run.namespace);
        let found = self.call("get", "jobs", &format!("look for Job {job}"), api.get_metadata_opt(job)).await?;
        let owners = found.into_iter().flat_map(|found| found.metadata.owner_references.unwrap_or_default());
        Ok(owners.into_iter().any(|owner| owner.uid == run.uid))
    }

    /// Does this Job have a pod that has ended, but for those that were `heard` of? Asked of the API server itself, as above.
    ///
    /// # Errors
    /// If nobody can say.
    pub async fn has_ended_pod(&self, run: Object<'_>, job_uid: &str, heard: &[String]) -> Result<bool, Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), run.namespace);
        let of_run = ListParams::default().labels(&format!("{}={}", names::RUN_LABEL, run.name));
        let found = self.call("list", "pods", &format!("look for pods of {}", run.name), api.list(&of_run)).await?;
        let is_its = |pod: &Pod| {
            pod.owner_references().iter().any(|owner| owner.uid == job_uid) && !heard.contains(&pod.name_any())
        };
        let phase = |pod: Pod| pod.status.and_then(|status| status.phase).unwrap_or_default();
        let mut phases = found.items.into_iter().filter(is_its).map(phase);
        Ok(phases.any(|phase| phase == "Succeeded" || phase == "Failed"))
    }

    /// Deletes an experiment that is still of this version.
    ///
    /// # Errors
    /// 404 or 409 if this experiment is gone, or of another version.
    pub async fn delete_experiment(&self, experiment: Object<'_>, version: &str) -> Result<(), Error> {
        let api: Api<BamExperiment> = Api::namespaced(self.client.clone(), experiment.namespace);
        let (uid, resource_version) = (Some(experiment.uid.to_owned()), Some(version.to_owned()));
        let parameters = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            preconditions: Some(Preconditions { uid, resource_version }),
            ..DeleteParams::default()
        };
        let what = format!("delete experiment {}", experiment.name);
        self.change("delete", "bamexperiments", &what, api.delete(experiment.name, &parameters)).await.map(drop)
    }

    /// Makes a run whose owner is `maker`.
    ///
    /// # Errors
    /// 409 if there is one of that name, perhaps on its way out.
    pub async fn create_run(&self, maker: Object<'_>, name: &str, spec: &BamRunSpec) -> Result<ObjectMeta, Error> {
        let config = spec.config.as_ref().map(|config| &config.science.tasks);
        let trained = config.into_iter().flatten().map(|task| task.name.as_str());
        let checked = spec.inputs.iter().flat_map(|inputs| &inputs.tasks).map(String::as_str);
        let tasks: Vec<_> = trained.chain(checked).collect();
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(maker.namespace.to_owned()),
            labels: Some([(names::ROLE_LABEL.to_owned(), spec.role.noun().to_owned())].into()),
            annotations: Some(
                [
                    (names::TASKS_ANNOTATION.to_owned(), tasks.join(",")),
                    (names::MADE_BY_ANNOTATION.to_owned(), maker.name.to_owned()),
                ]
                .into(),
            ),
            owner_references: Some(vec![owner(maker)]),
            ..ObjectMeta::default()
        };
        let run = BamRun { metadata, spec: spec.clone(), status: None };
        let api: Api<BamRun> = Api::namespaced(self.client.clone(), maker.namespace);
        let parameters = PostParams { field_manager: Some(names::OPERATOR.to_owned()), ..PostParams::default() };
        let made = self.change("create", "bamruns", &format!("make run {name}"), api.create(&parameters, &run)).await?;
        Ok(made.metadata)
    }

    /// Makes `experiment` an owner of a run, and changes nothing else of it.
    ///
    /// # Errors
    /// 404 or 409 if this run is gone.
    pub async fn join_run(&self, experiment: Object<'_>, run: Object<'_>) -> Result<ObjectMeta, Error> {
        let entry = json!({
            "apiVersion": BamRun::api_version(&()),
            "kind": BamRun::kind(&()),
            // With the identity: applying to a run that is gone must not make a new one.
            "metadata": { "name": run.name, "uid": run.uid, "ownerReferences": [owner(experiment)] },
        });
        let parameters = PatchParams::apply(&names::owner(experiment.uid));
        self.patch::<BamRun>("bamruns", run, &parameters, Patch::Apply(entry)).await
    }

    /// Asks for a run that is over to be tried again.
    ///
    /// # Errors
    /// 404 or 409 if this run is gone.
    pub async fn reopen_run(&self, run: Object<'_>, reopened: &Reopened) -> Result<ObjectMeta, Error> {
        let requests =
            reopened.by.iter().map(|by| (format!("{}{by}", names::REOPEN_PREFIX), reopened.after.to_string()));
        let annotations: serde_json::Map<_, _> = requests.map(|(name, after)| (name, after.into())).collect();
        let change = json!({ "metadata": { "uid": run.uid, "annotations": annotations } });
        let parameters = PatchParams { field_manager: Some(names::OPERATOR.to_owned()), ..PatchParams::default() };
        self.patch::<BamRun>("bamruns", run, &parameters, Patch::Merge(change)).await
    }

    /// Makes the Service by which the pods of a run find each other.
    ///
    /// # Errors
    /// 409 if it is there.
    pub async fn create_service(&self, namespace: &str, service: &Service) -> Result<(), Error> {
        let api: Api<Service> = Api::namespaced(self.client.clone(), namespace);
        let parameters = PostParams { field_manager: Some(names::OPERATOR.to_owned()), ..PostParams::default() };
        let what = format!("make Service {}", service.name_any());
        self.change("create", "services", &what, api.create(&parameters, service)).await.map(drop)
    }

    /// Makes an attempt's Job.
    ///
    /// # Errors
    /// 409 if there is one of that name.
    pub async fn create_job(&self, namespace: &str, job: &Job) -> Result<ObjectMeta, Error> {
        let api: Api<Job> = Api::namespaced(self.client.clone(), namespace);
        let parameters = PostParams { field_manager: Some(names::OPERATOR.to_owned()), ..PostParams::default() };
        let what = format!("make Job {}", job.metadata.name.as_deref().unwrap_or_default());
        Ok(self.change("create", "jobs", &what, api.create(&parameters, job)).await?.metadata)
    }

    /// Removes an attempt's Job and its pods.
    ///
    /// # Errors
    /// 404 or 409 if this Job is gone.
    pub async fn delete_job(&self, job: Object<'_>) -> Result<(), Error> {
        let api: Api<Job> = Api::namespaced(self.client.clone(), job.namespace);
        let parameters = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            preconditions: Some(Preconditions { uid: Some(job.uid.to_owned()), resource_version: None }),
            ..DeleteParams::default()
        };
        let what = format!("remove Job {}", job.name);
        self.change("delete", "jobs", &what, api.delete(job.name, &parameters)).await.map(drop)
    }

    /// Writes the status of an experiment that is still of this version: what was decided from an older look, perhaps by
    /// an operator that was thought dead, overwrites nothing.
    ///
    /// # Errors
    /// 404 or 409 if this experiment is gone, or of another version.
    pub async fn write_experiment_status(
        &self,
        of: Object<'_>,
        version: &str,
        status: &impl Serialize,
    ) -> Result<ObjectMeta, Error> {
        self.write_status::<BamExperiment>("bamexperiments/status", of, version, status).await
    }

    /// Writes the status of a run that is still of this version.
    ///
    /// # Errors
    /// 404 or 409 if this run is gone, or of another version.
    pub async fn write_run_status(
        &self,
        of: Object<'_>,
        version: &str,
        status: &impl Serialize,
    ) -> Result<ObjectMeta, Error> {
        self.write_status::<BamRun>("bamruns/status", of, version, status).await
    }

    async fn write_status<K>(
        &self,
        kind: &'static str,
        of: Object<'_>,
        version: &str,
        status: &impl Serialize,
    ) -> Result<ObjectMeta, Error>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let patch = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": { "name": of.name, "uid": of.uid, "resourceVersion": version },
            "status": status,
        });
        let api: Api<K> = Api::namespaced(self.client.clone(), of.namespace);
        let parameters = PatchParams::apply(names::OPERATOR).force();
        let patch = Patch::Apply(patch);
        let what = format!("write the status of {} {}", K::kind(&()), of.name);
        let written = self.change("patch", kind, &what, api.patch_status(of.name, &parameters, &patch)).await?;
        Ok(written.meta().clone())
    }

    async fn patch<K>(
        &self,
        kind: &'static str,
        of: Object<'_>,
        parameters: &PatchParams,
        patch: Patch<serde_json::Value>,
    ) -> Result<ObjectMeta, Error>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), of.namespace);
        let what = format!("change {} {}", K::kind(&()), of.name);
        Ok(self.change("patch", kind, &what, api.patch(of.name, parameters, &patch)).await?.meta().clone())
    }

    /// A call that changes what is to be changed by one operator alone.
    async fn change<T>(
        &self,
        verb: &'static str,
        kind: &'static str,
        what: &str,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Error> {
        if !self.leadership.holds() {
            return Err(Error::NotLeading { what: what.to_owned() });
        }
        self.call(verb, kind, what, call).await
    }

    /// One call, with its time limit. Retries of the client count into it.
    async fn call<T>(
        &self,
        verb: &'static str,
        kind: &'static str,
        what: &str,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Error> {
        let began = Instant::now();
        let span = tracing::info_span!("request", verb, kind);
        let result = match tokio::time::timeout(PATIENCE, call).instrument(span).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => Err(Error::Api { what: what.to_owned(), source: Box::new(source) }),
            Err(_) => Err(Error::Timeout { what: what.to_owned(), after: PATIENCE }),
        };
        self.metrics.api_call(verb, kind, result.as_ref().map_or_else(Error::result, |_| "ok"), began.elapsed());
        result
    }
}

fn owner(experiment: Object<'_>) -> OwnerReference {
    OwnerReference {
        api_version: BamExperiment::api_version(&()).into_owned(),
        kind: BamExperiment::kind(&()).into_owned(),
        name: experiment.name.to_owned(),
        uid: experiment.uid.to_owned(),
        controller: None,
        block_owner_deletion: None,
    }
}
