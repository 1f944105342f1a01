//! The trace of a training: what another program needs to go the same way, step by step. `docs/trace.md` is its format.
//!
//! A resumed training goes on in the file of the attempt before: lines of steps that were done but not saved are cut off,
//! so every step stands there once.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bam_crds::config::TaskIdentity;
use bam_crds::{ExitReason, RunConfig};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::data::batches::Example;
use crate::durable;
use crate::failure::Failure;
use crate::journal::StepRecord;
use crate::model::Model;
use crate::optim::CLIP_NORM;
use crate::prepare::{Prepared, PreparedTask};
use crate::task::Kind;

/// Name and version of the format.
const FORMAT: &str = "bam-trace-1";

/// A trace, open for its next step.
#[derive(Debug)]
pub struct Trace {
    path: PathBuf,
    lines: BufWriter<File>,
    /// Name and eids of each task.
    tasks: Vec<(String, Vec<u32>)>,
}

/// What a trace is of.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The run.
    pub config: &'a RunConfig,
    /// What it learns from.
    pub prepared: &'a Prepared,
    /// The model, as it is before the next step.
    pub model: &'a Model,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    step: u64,
    rows: Vec<Option<(&'a str, u32)>>,
    loss: f64,
    gradient_norm: f64,
    learning_rate: f64,
    lambda: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dropout_seed: Option<u64>,
}

/// What resuming needs of a line.
#[derive(Deserialize)]
struct Numbered {
    step: u64,
}

impl Trace {
    /// Begins a trace, in place of whatever is at `path`, and writes the weights of the model beside it.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn begin(path: &Path, subject: Subject<'_>) -> Result<Self, Failure> {
        durable::write(&weights_of(path), |file| subject.model.write_parameters(file))?;
        let file = File::create(path).map_err(|error| Failure::store("write the trace", path, &error))?;
        let mut trace = Self::at(path, file, subject.prepared);
        let header = header(path, subject);
        trace.write(|lines| writeln!(lines, "{header}"))?;
        Ok(trace)
    }

    /// Goes on after the first `step` steps of a trace, and forgets all others.
    ///
    /// # Errors
    /// If the file does not begin with these steps of this run, or cannot be read or written.
    pub fn resume(path: &Path, step: u64, subject: Subject<'_>) -> Result<Self, Failure> {
        let unusable = |problem: String| {
            let message = format!(
                "{}: the training goes on after step {step}, but {problem}; give --trace the file of the attempt before, or \
                 remove the run's checkpoints to begin anew",
                path.display()
            );
            Failure::new(ExitReason::BadConfig, message)
        };
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => unusable("there is no such trace".to_owned()),
            _ => Failure::store("read the trace", path, &error),
        };
        let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
        let mut lines = BufReader::new(&file);
        let mut line = String::new();
        let mut end = lines.read_line(&mut line).map_err(failed)?;
        if line.trim_end() != header(path, subject) {
            return Err(unusable("this is not the trace of this run".to_owned()));
        }
        for expected in 0..step {
            line.clear();
            end += lines.read_line(&mut line).map_err(failed)?;
            let found = serde_json::from_str::<Numbered>(&line).ok().map(|line| line.step);
            if found != Some(expected) || !line.ends_with('\n') {
                return Err(unusable(format!("this trace ends before step {expected}")));
            }
        }
        file.set_len(end as u64).and_then(|()| file.seek(SeekFrom::End(0))).map_err(failed)?;
        Ok(Self::at(path, file, subject.prepared))
    }

    fn at(path: &Path, file: File, prepared: &Prepared) -> Self {
        let eids = |task: &PreparedTask| task.train.rows.iter().map(|row| row.eid).collect();
        let tasks = prepared.tasks.iter().map(|task| (task.task.name.clone(), eids(task))).collect();
        Self { path: path.to_owned(), lines: BufWriter::new(file), tasks }
    }

    /// Writes the line of a step.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn step(&mut self, record: &StepRecord<'_>) -> Result<(), Failure> {
        let row = |example: &Example| match *example {
            Example::Row { task, row } => {
                let (name, eids) = &self.tasks[usize::from(task)];
                Some((name.as_str(), eids[row as usize]))
            }
            Example::Padding => None,
        };
        let line = Line {
            step: record.step,
            rows: record.examples.iter().map(row).collect(),
            loss: record.loss,
            gradient_norm: record.norm,
            learning_rate: record.learning_rate,
            lambda: record.lambda,
            dropout_seed: record.dropout_seed,
        };
        let line = serde_json::to_string(&line).expect("a line is plain data");
        self.write(|lines| writeln!(lines, "{line}"))
    }

    /// Brings all lines to the disk.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&mut self) -> Result<(), Failure> {
        self.write(|lines| lines.flush().and_then(|()| lines.get_ref().sync_data()))
    }

    fn write(&mut self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<(), Failure> {
        write(&mut self.lines).map_err(|error| Failure::store("write the trace", &self.path, &error))
    }
}

/// Where the initial weights of a trace are.
fn weights_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".initial.safetensors");
    name.into()
}

/// The first line: all that is the same at every step. It says nothing of attempts, so every attempt of a run has the same.
fn header(path: &Path, Subject { config, prepared, model }: Subject<'_>) -> String {
    let science = &config.science;
    let options = &science.hyperparameters;
    let task = |(task, identity): (&PreparedTask, &TaskIdentity)| {
        let range = match task.task.kind {
            Kind::Regression { min, max } => Some([min, max]),
            Kind::Classification { .. } => None,
        };
        json!({
            "name": task.task.name,
            "labels": task.task.labels(),
            "range": range,
            "teachers": identity.teachers,
            "targetFiles": identity.target_files.iter().map(|file| &config.execution.target_files[file.as_str()]).collect::<Vec<_>>(),
            "weight": task.weight,
        })
    };
    json!({
        "format": FORMAT,
        "scienceHash": config.science_hash,
        "seed": science.seed,
        "precision": science.precision,
        "steps": prepared.schedule.steps(),
        "trainBatchSize": options.train_batch_size,
        "tasks": prepared.tasks.iter().zip(&science.tasks).map(task).collect::<Vec<_>>(),
        "annealing": science.distillation.annealing,
        "distillWeight": science.distillation.weight,
        "temperature": science.distillation.temperature,
        "maxSeqLength": options.max_seq_length,
        "doLowerCase": options.do_lower_case,
        "learningRate": options.learning_rate,
        "warmupProportion": options.warmup_proportion,
        "weightDecayRate": options.weight_decay_rate,
        "lrDecay": options.lr_decay,
        "layers": prepared.base.layers,
        "clipNorm": CLIP_NORM,
        "model": model.config(),
        "headDropout": model.config().head_dropout_prob,
        "weights": weights_of(path).file_name().unwrap_or_default().to_string_lossy(),
    })
    .to_string()
}
