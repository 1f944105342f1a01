//! `bam plan`: which runs an experiment consists of, and what would be done. It changes nothing.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use bam_crds::RunReport;
use bam_crds::config::InputsReport;
use bam_crds::experiment::PinnedInputs;

use super::dag::{Dag, Inputs};
use super::explain::look;
use super::{BamDir, Exit, Format, input};
use crate::local::{Look, trainer, write_config};
use crate::plan::graph::Graph;

/// Arguments of `bam plan`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    manifests: input::Manifests,
    #[command(flatten)]
    bam_dir: BamDir,
    /// Do not read the data: runs whose inputs were never checked have no names then.
    #[arg(long)]
    offline: bool,
    /// The trainer program, which checks the data [default: bam-trainer beside this program, else on the PATH].
    #[arg(long, env = "BAM_TRAINER", value_name = "PATH")]
    trainer: Option<PathBuf>,
    #[command(flatten)]
    format: Format,
}

pub fn plan(arguments: &Arguments) -> Result<(), Exit> {
    // Without its data a manifest can be planned where there is no folder.
    let bam_dir = match arguments.offline {
        true => std::path::absolute(&arguments.bam_dir.path).unwrap_or_else(|_| arguments.bam_dir.path.clone()),
        false => arguments.bam_dir.absolute()?,
    };
    for experiment in input::experiments(&arguments.manifests.files)? {
        show(arguments, &look(experiment, &bam_dir)?)?;
    }
    Ok(())
}

fn show(arguments: &Arguments, look: &Look) -> Result<(), Exit> {
    let (mut graph, mut seen) = look.experiment()?;
    let mut inputs = Inputs::Checked;
    if graph.pinned.is_none() {
        match pin(arguments, look, &graph) {
            Ok(report) => {
                seen.status.inputs = Some(PinnedInputs { run: graph.inputs.name.clone(), report });
                // Now the runs have names, and may be there.
                (graph, seen) = look.experiment_with(seen.status)?;
            }
            Err(reason) => inputs = Inputs::Unknown(reason),
        }
    }
    let bam_dir = look.bam_dir.display();
    let place = match &look.experiment.spec.storage.object_store {
        Some(store) => format!("store {}, with a working copy in {bam_dir}", store.uri),
        None => format!("store {bam_dir}"),
    };
    let dag = Dag { experiment: &look.experiment, place, graph: &graph, seen: &seen, inputs, notes: Vec::new() };
    arguments.format.say(|| dag.text(), || dag.json());
    Ok(())
}

/// What the inputs are, by a check of them into a folder that goes away.
fn pin(arguments: &Arguments, look: &Look, graph: &Graph) -> Result<InputsReport, String> {
    if arguments.offline {
        return Err("--offline: data and weights were not read".to_owned());
    }
    let trainer = trainer::find(arguments.trainer.as_deref()).map_err(|error| error.to_string())?;
    let folder = Temporary::new().map_err(|error| format!("there is no place for temporary files: {error}"))?;
    let (config, report) = (folder.0.join("config.json"), folder.0.join("report.json"));
    write_config(&config, &graph.inputs.spec, &look.bam_dir, None).map_err(|error| error.to_string())?;
    let mut command = Command::new(&trainer);
    command.arg("inputs").arg("--config").arg(&config).arg("--report").arg(&report);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let status = status.map_err(|error| format!("cannot start {}: {error}", trainer.display()))?;
    let said: Option<RunReport> = std::fs::read(&report).ok().and_then(|text| serde_json::from_slice(&text).ok());
    match said {
        Some(RunReport { inputs: Some(found), .. }) => Ok(found),
        Some(RunReport { message, .. }) if !message.is_empty() => Err(message),
        _ => Err(format!("the check of the inputs said nothing ({status})")),
    }
}

/// A folder that goes away with it.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> std::io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("bam-plan-{}", std::process::id()));
        std::fs::create_dir(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What stays is a temporary file.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
