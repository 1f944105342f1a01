//! `kubectl bam push`: what was trained on this machine comes into the cluster's store. Only pods reach that: one is made which
//! mounts it as attempts do and takes what is sent to its standard input, and which is removed at the end.

mod receiver;
mod stream;
mod trained;

use std::path::Path;

use bam_crds::config::InputsReport;
use bam_crds::{BamExperiment, Digest};
use indicatif::{DecimalBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use tokio::io::BufReader;

use super::super::{BamDir, Exit, Format, complain, input};
use super::Place;
use super::cluster::{Cluster, causes};
use super::plan::There;
use crate::cluster::job::Trainer;
use crate::cluster::receiver::receiver;
use receiver::Receiver;
use stream::{Broken, Fate};
use trained::Needed;

/// Arguments of `kubectl bam push`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    manifests: input::Manifests,
    #[command(flatten)]
    bam_dir: BamDir,
    /// The trainer's image [default: that of the manifest or its profile, else that of the operator].
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    #[command(flatten)]
    format: Format,
}

pub async fn push(arguments: &Arguments, place: &Place) -> Result<(), Exit> {
    let bam_dir = arguments.bam_dir.absolute()?;
    let (experiments, profiles) = input::manifests(&arguments.manifests.files)?;
    let mut damaged = Vec::new();
    for manifest in experiments {
        let (needed, inputs) = trained::needed(&manifest, &bam_dir)?;
        let namespace = manifest.metadata.namespace.clone().or_else(|| place.namespace.clone());
        let place = Place { namespace, ..place.clone() };
        let cluster = Cluster::of(&place).await?;
        let there = There::of(&cluster, &manifest).await?;
        there.take(&profiles);
        let job = job(arguments, &cluster, &there, manifest.clone(), &inputs).await?;
        let fates = transfer(&cluster, &job, &needed, &bam_dir).await?;
        let name = manifest.metadata.name.as_deref().unwrap_or_default();
        let rows: Vec<_> = needed.iter().map(|run| Row::of(run, &fates)).collect();
        let store = manifest.spec.storage.uri();
        arguments.format.say(
            || {
                let top = format!("{name}: namespace {}, store {store}\n", cluster.namespace);
                top + &text(&rows)
            },
            || json!({ "experiment": name, "runs": rows.iter().map(Row::json).collect::<Vec<_>>() }),
        );
        damaged.extend(rows.iter().filter(|row| !row.damaged().is_empty()).map(|row| row.run.title.clone()));
    }
    if damaged.is_empty() {
        return Ok(());
    }
    Err(Exit::failed(format!(
        "not pushed, since their files are not what their manifests say: {}; `bam run -f` with the same --bam-dir sets them aside \
         and trains them again",
        damaged.join(", ")
    )))
}

/// The Job that receives, with the store as the operator would give it to the check of the inputs.
async fn job(
    arguments: &Arguments,
    cluster: &Cluster,
    there: &There,
    manifest: BamExperiment,
    inputs: &InputsReport,
) -> Result<Job, Exit> {
    let secret = manifest.spec.storage.object_store.as_ref().and_then(|store| store.secret_ref.clone());
    if let Some(why) = there.obstacle(&manifest) {
        return Err(Exit::failed(format!("nothing can be pushed: every pod {why}")));
    }
    let (experiment, seen, _) = there.experiment(manifest);
    let graph = seen.graph(&experiment);
    if graph.pinned.as_ref().is_some_and(|pinned| pinned.report != *inputs) {
        complain(
            "note: the data or weights in the cluster's store were others, when they were checked last, than those that this was \
             trained on: as long as that is so, an experiment there does not find what is pushed",
        );
    }
    let mut spec = graph.inputs.spec;
    // A token to fetch inputs with is not needed here.
    spec.pod.secret = secret.map(|secret| secret.name);
    if arguments.image.is_some() {
        spec.pod.image.clone_from(&arguments.image);
    }
    let trainer = match &spec.pod.image {
        Some(image) => Trainer { image: image.clone(), pull_policy: "IfNotPresent".to_owned() },
        None => operators_trainer(cluster).await?,
    };
    let claim = there.seen.claim(&cluster.namespace, &spec);
    Ok(receiver(&spec, claim.as_ref(), &trainer))
}

/// What the operator gives to runs that name no image: an argument of its own.
async fn operators_trainer(cluster: &Cluster) -> Result<Trainer, Exit> {
    let all: Api<Deployment> = Api::all(cluster.client.clone());
    let ours = ListParams::default().labels("app.kubernetes.io/name=bam-operator");
    let unknown = |why: String| {
        Exit::failed(format!(
            "which image the trainer has is not known ({why}): name it with --image; whoever installed the operator knows it as \
             the chart's trainer.image"
        ))
    };
    let found = all.list(&ours).await.map_err(|error| unknown(causes(&error)))?;
    let arguments = found.items.into_iter().filter_map(|it| it.spec?.template.spec?.containers.pop()?.args);
    let value = |arguments: &[String], name: &str| {
        arguments.iter().find_map(|argument| argument.strip_prefix(&format!("--{name}=")).map(ToOwned::to_owned))
    };
    let looks_here =
        |arguments: &Vec<String>| value(arguments, "namespace").is_none_or(|namespace| namespace == cluster.namespace);
    let trainers = arguments.filter(looks_here).filter_map(|arguments| {
        let pull_policy = value(&arguments, "trainer-image-pull-policy").unwrap_or_else(|| "IfNotPresent".to_owned());
        Some(Trainer { image: value(&arguments, "trainer-image")?, pull_policy })
    });
    trainers.into_iter().next().ok_or_else(|| unknown("there is no operator in this cluster".to_owned()))
}

/// Sends what the store does not have. Whatever happens, the pod is removed.
async fn transfer(
    cluster: &Cluster,
    job: &Job,
    needed: &[Needed],
    bam_dir: &Path,
) -> Result<Vec<(Digest, Fate)>, Exit> {
    let whole: Vec<_> = needed.iter().filter(|run| run.manifest.is_some()).collect();
    let receiver = Receiver::make(cluster, job).await?;
    let sent = tokio::select! {
        sent = converse(&receiver, &whole, bam_dir) => sent,
        _ = stopped() => Err(Exit::Interrupted(
            "stopped; what is half there does not count, and the same command goes on with what is missing".to_owned(),
        )),
    };
    receiver.end().await;
    sent
}

async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminated) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
}

async fn converse(receiver: &Receiver<'_>, runs: &[&Needed], bam_dir: &Path) -> Result<Vec<(Digest, Fate)>, Exit> {
    let mut attached = receiver.attached().await?;
    let (Some(to), Some(from)) = (attached.stdin(), attached.stdout()) else {
        return Err(Exit::failed("the receiver has no standard streams: try again"));
    };
    let bar = bar();
    let sent = stream::send(runs, bam_dir, to, BufReader::new(from), |sent, total, title| {
        bar.set_length(total);
        bar.set_position(sent);
        bar.set_message(title.to_owned());
    });
    let sent = sent.await;
    bar.finish_and_clear();
    match sent {
        Ok(fates) => Ok(fates),
        Err(error @ Broken::File(..)) => Err(Exit::failed(error.to_string())),
        Err(error @ Broken::Stream(_)) => {
            // With the streams the receiver ends, if it has not before.
            drop(attached);
            let word = receiver.last_word().await.unwrap_or_else(|| error.to_string());
            Err(Exit::failed(format!("{word}; what is half there does not count, and the same command goes on")))
        }
    }
}

/// On a terminal; elsewhere nothing is drawn.
fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{msg:<16} {bar:16.cyan/dim} {bytes:>10}/{total_bytes:<10} {bytes_per_sec}, {eta} left",
    );
    let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
    // The template is a constant of this file, and the default style is not worse than none.
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A run, and what became of it; none: it is not whole here.
struct Row<'a> {
    run: &'a Needed,
    fate: Option<&'a Fate>,
}

impl<'a> Row<'a> {
    fn of(run: &'a Needed, fates: &'a [(Digest, Fate)]) -> Self {
        Self { run, fate: fates.iter().find(|(hash, _)| *hash == run.hash).map(|(_, fate)| fate) }
    }

    fn is_there(&self) -> bool {
        matches!(self.fate, Some(Fate::Pushed | Fate::Was))
    }

    /// The files that keep it from being pushed.
    fn damaged(&self) -> &[String] {
        if let Some(Fate::Damaged(files)) = self.fate { files } else { &[] }
    }

    fn says(&self) -> String {
        match self.fate {
            Some(Fate::Pushed) => format!("pushed, {}", DecimalBytes(self.run.bytes())),
            Some(Fate::Was) => "was there".to_owned(),
            Some(Fate::Damaged(files)) => format!("refused: not what its manifest says: {}", files.join(", ")),
            None => "not whole here, and not pushed".to_owned(),
        }
    }

    fn json(&self) -> Value {
        let (state, bytes) = match self.fate {
            Some(Fate::Pushed) => ("pushed", Some(self.run.bytes())),
            Some(Fate::Was) => ("there", None),
            Some(Fate::Damaged(_)) => ("damaged", None),
            None => ("missing", None),
        };
        json!({ "name": self.run.name, "title": self.run.title, "scienceHash": self.run.hash, "state": state, "bytes": bytes,
            "damaged": self.damaged() })
    }
}

fn text(rows: &[Row<'_>]) -> String {
    let width = rows.iter().map(|row| row.run.title.chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for row in rows {
        text += &format!("  {:<width$}  {}  {}\n", row.run.title, row.run.name, row.says());
    }
    let there = rows.iter().filter(|row| row.is_there()).count();
    text + &format!("{there} of {} runs are in the store: `kubectl apply -f` trains what is missing\n", rows.len())
}
