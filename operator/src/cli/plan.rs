//! `bam plan`: which runs an experiment consists of, and what would be done. It changes nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bam_crds::config::InputsReport;
use bam_crds::experiment::PinnedInputs;
use bam_crds::run::Role;
use bam_crds::{BamExperiment, RunReport};
use k8s_openapi::jiff::Timestamp;

use super::explain::look;
use super::{BamDir, Exit, input, say};
use crate::local::{Look, trainer, write_config};
use crate::plan::experiment::{self, Observed};
use crate::plan::graph::{Graph, Node};
use crate::plan::{Why, retry};

/// Arguments of `bam plan`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The manifest; `-` for standard input. May stand several times.
    #[arg(short, long, value_name = "FILE", required = true)]
    file: Vec<PathBuf>,
    #[command(flatten)]
    bam_dir: BamDir,
    /// Do not read the data: runs whose inputs were never checked have no names then.
    #[arg(long)]
    offline: bool,
    /// The trainer program, which checks the data [default: bam-trainer beside this program, else on the PATH].
    #[arg(long, env = "BAM_TRAINER", value_name = "PATH")]
    trainer: Option<PathBuf>,
}

pub fn plan(arguments: &Arguments) -> Result<(), Exit> {
    for experiment in input::experiments(&arguments.file)? {
        // A manifest can be planned without any data; the folder need not be there.
        let bam_dir = std::path::absolute(&arguments.bam_dir.path).unwrap_or_else(|_| arguments.bam_dir.path.clone());
        say(&shown(arguments, &look(experiment, &bam_dir)?)?);
    }
    Ok(())
}

fn shown(arguments: &Arguments, look: &Look) -> Result<String, Exit> {
    let (mut graph, mut seen) = look.experiment()?;
    let mut unknown = None;
    if graph.pinned.is_none() {
        match pin(arguments, look, &graph) {
            Ok(report) => {
                seen.status.inputs = Some(PinnedInputs { run: graph.inputs.name.clone(), report });
                // Now the runs have names, and may be there.
                (graph, seen) = look.experiment_with(seen.status)?;
            }
            Err(reason) => unknown = Some(reason),
        }
    }
    Ok(tree(look, &graph, &seen, unknown.as_deref()))
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

fn tree(look: &Look, graph: &Graph, seen: &Observed, unknown: Option<&str>) -> String {
    let plan = experiment::plan(&look.experiment, seen, Timestamp::now());
    let mut text = headline(&look.experiment, &look.bam_dir);
    let width = graph.nodes().map(|node| label(node).chars().count()).max().unwrap_or_default();
    text += &format!("├─ {:<width$}  {}  {}\n", label(&graph.inputs), graph.inputs.name, inputs(graph, unknown));
    if graph.trainings.is_empty() {
        text += &shape(&look.experiment);
    }
    let last = graph.trainings.len();
    for (index, node) in graph.trainings.iter().enumerate() {
        let branch = if index + 1 == last { "└─" } else { "├─" };
        let steps = node.steps.map(|steps| format!("{steps} steps: ")).unwrap_or_default();
        let why = standing(look, node, seen, &plan.whys[&node.name]);
        text += &format!("{branch} {:<width$}  {}  {steps}{why}\n", label(node), node.name);
    }
    text.extend(graph.obstacles().map(|obstacle| obstacle + "\n"));
    text += "\nIf an attempt does not end well:\n";
    for line in retry::in_words(&look.experiment.spec.failure_policy.resolve()) {
        text += &format!("  {line}\n");
    }
    text
}

fn headline(experiment: &BamExperiment, bam_dir: &Path) -> String {
    let spec = &experiment.spec;
    let tasks: Vec<_> = spec.tasks.iter().map(|task| task.name.as_str()).collect();
    let how = match &spec.distill {
        None => "plain fine-tuning".to_owned(),
        Some(distill) if distill.annealing => "distilled, weight moving from teachers to labels".to_owned(),
        Some(distill) => {
            let weight = distill.weight.as_ref().map_or("0.5".to_owned(), ToString::to_string);
            format!("distilled with constant weight {weight}")
        }
    };
    let temperature = spec.distill.as_ref().and_then(|distill| distill.temperature.as_ref());
    let how = temperature.map_or(how.clone(), |temperature| format!("{how}, at temperature {temperature}"));
    let trials = if spec.trials == 1 { String::new() } else { format!(", {} trials", spec.trials) };
    let name = experiment.metadata.name.as_deref().unwrap_or_default();
    let store = match &spec.storage.object_store {
        Some(store) => format!("{}, with a working copy in {}", store.uri, bam_dir.display()),
        None => bam_dir.display().to_string(),
    };
    format!("{name}: {} on {}, {how}{trials}\nstore {store}\n", spec.model.pretrained, tasks.join(", "))
}

fn label(node: &Node) -> String {
    match node.role {
        Role::Student if node.tasks.len() > 1 => format!("{} on {}", node.title, node.tasks.join(", ")),
        _ => node.title.clone(),
    }
}

fn inputs(graph: &Graph, unknown: Option<&str>) -> String {
    match (&graph.pinned, unknown) {
        (Some(pinned), _) => {
            let rows = pinned
                .report
                .tasks
                .iter()
                .map(|(task, files)| format!("{task} {}+{} rows", files.train_rows, files.dev_rows));
            format!("known: {}", rows.collect::<Vec<_>>().join(", "))
        }
        (None, Some(reason)) => format!("unknown: {reason}"),
        (None, None) => "unknown".to_owned(),
    }
}

/// What can be said of runs that have no names yet.
fn shape(experiment: &BamExperiment) -> String {
    let spec = &experiment.spec;
    let names = "named once the digests of data, vocabulary and weights are known";
    let distill = spec.distill.as_ref();
    let trained = |task: &str| distill.is_some_and(|distill| !distill.teachers.contains_key(task));
    let tasks: Vec<_> = spec.tasks.iter().map(|task| task.name.as_str()).filter(|task| trained(task)).collect();
    let teachers = if tasks.is_empty() {
        String::new()
    } else {
        let folds = distill.and_then(|distill| distill.out_of_fold);
        let without = folds.map(|folds| format!(", each without one of {folds} folds")).unwrap_or_default();
        let teachers = tasks.len() * folds.unwrap_or(1) as usize;
        format!("├─ {teachers} teachers ({}{without}): {names}\n", tasks.join(", "))
    };
    let students = if spec.trials == 1 { "1 student".to_owned() } else { format!("{} students", spec.trials) };
    format!("{teachers}└─ {students}: {names}\n")
}

fn standing(look: &Look, node: &Node, seen: &Observed, why: &Why) -> String {
    match seen.runs.get(&node.name) {
        Some(run) if run.made_by != look.name() => {
            let joined =
                Why::Joined { by: run.made_by.clone(), differences: run.differences(node, &look.experiment.spec) };
            format!("{why}; {joined}")
        }
        _ => why.to_string(),
    }
}
