//! One run, from its configuration to its manifest: check, train, evaluate, write targets, save, finish.

use std::path::Path;
use std::time::Instant;

use bam_crds::config::MICRO_BATCH_TOKENS;
use bam_crds::report::{Stage, TaskResult};
use bam_crds::store::{self as layout, Machine, REPORT, RESULTS};
use bam_crds::{ExitReason, Manifest, RunConfig, RunReport};
use tch::Device;

use crate::data::rows::row_hash;
use crate::data::targets::Targets;
use crate::device;
use crate::evaluate::{Predictor, score, score_further};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::journal::Journals;
use crate::model::Model;
use crate::model_files::ModelFiles;
use crate::needs;
use crate::prepare::{Encoded, Prepared, PreparedTask, prepare};
use crate::report::Reporter;
use crate::store::{Files, RunFolder, Store, pretty};
use crate::task::Task;
use crate::train::{Trained, Trainer};

/// Padded word pieces of a micro-batch on a GPU: a whole batch of 256 rows of 128. Not tuned: none was at hand.
const MICRO_BATCH_TOKENS_OF_A_GPU: u32 = 32_768;

/// Where and how a run is carried out.
#[derive(Debug)]
pub struct Machinery {
    /// Where tensors live.
    pub device: Device,
    /// CPU threads.
    pub threads: usize,
    /// Hears of progress.
    pub reporter: Reporter,
    /// Says when to stop.
    pub interrupt: Interrupt,
}

impl Machinery {
    /// Chooses the device and sets the threads; `threads` absent: all that the process may use.
    ///
    /// # Errors
    /// If the device that was asked for in `BAM_DEVICE` cannot be used, or there are several hosts in `TPU_WORKER_HOSTNAMES`.
    pub fn new(threads: Option<u32>, reporter: Reporter, interrupt: Interrupt) -> Result<Self, Failure> {
        let wanted = std::env::var("BAM_DEVICE").unwrap_or_default();
        let hosts = std::env::var("TPU_WORKER_HOSTNAMES").unwrap_or_default();
        let chosen = device::alone(&hosts).and_then(|()| wanted.parse()).and_then(device::choose);
        let chosen = chosen.map_err(|error| Failure::new(ExitReason::BadConfig, error.to_string()))?;
        let available = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.map_or_else(available, |threads| threads as usize);
        device::set_threads(threads);
        // On a machine without a GPU there is nothing to tell.
        if chosen.device.is_cuda() || Path::new("/dev/nvidiactl").exists() {
            reporter.note(&format!("device {chosen}"));
        }
        Ok(Self { device: chosen.device, threads, reporter, interrupt })
    }

    /// Word pieces of a micro-batch.
    fn limit(&self, tokens: Option<u32>) -> u32 {
        tokens.unwrap_or(if self.device.is_cuda() { MICRO_BATCH_TOKENS_OF_A_GPU } else { MICRO_BATCH_TOKENS })
    }
}

/// Refuses a configuration that cannot be used.
///
/// # Errors
/// All problems at once.
pub fn check(config: &RunConfig) -> Result<(), Failure> {
    match config.problems() {
        problems if problems.is_empty() => Ok(()),
        problems => Err(Failure::new(ExitReason::BadConfig, problems.join("\n"))),
    }
}

/// Trains a run, unless it is whole in the store already.
///
/// # Errors
/// Everything that keeps it from being done, by exit reason.
pub fn run(
    config: &RunConfig,
    attempt: &str,
    machinery: &Machinery,
    journals: &Journals,
) -> Result<RunReport, Failure> {
    let begin = Instant::now();
    check(config)?;
    let store = Store::of(&config.execution)?;
    let folder = store.run(&config.science_hash);
    machinery.reporter.run(&config.science_hash, folder.saved()?);
    if folder.whole()?.is_some() {
        folder.clean();
        if *journals != Journals::default() {
            machinery.reporter.note("warning: this run is whole already: no step is done, and none is written down");
        }
        return report_of(&folder);
    }
    needs::bring(&needs::of_run(config), &store, &machinery.reporter)?;
    machinery.reporter.stage(Stage::Preparing, 0, 0);
    let prepared = prepare(config, &store, machinery.threads).map_err(|failure| store.in_its_words(failure))?;
    let work = Work { config, attempt, machinery, journals, prepared: &prepared, folder: &folder };
    let mut trained = work.train()?;
    // A signal that came after the last step was looked at: everything is in the last checkpoint.
    if machinery.interrupt.is_set() {
        return Err(trained.steps.stopped());
    }
    work.finish(&mut trained, begin)
}

/// What the attempt that finished a run reported.
fn report_of(folder: &RunFolder) -> Result<RunReport, Failure> {
    let path = folder.path(REPORT);
    serde_json::from_slice(&folder.read(REPORT)?).map_err(|error| {
        Failure::new(
            ExitReason::BadData,
            format!("{}: not a report: {error}; move the run's folder away to train it again", path.display()),
        )
    })
}

struct Work<'a> {
    config: &'a RunConfig,
    attempt: &'a str,
    machinery: &'a Machinery,
    journals: &'a Journals,
    prepared: &'a Prepared,
    folder: &'a RunFolder,
}

impl Work<'_> {
    fn limit(&self) -> u32 {
        self.machinery.limit(self.config.execution.micro_batch_tokens)
    }

    fn train(&self) -> Result<Trained, Failure> {
        let trainer = Trainer {
            config: self.config,
            prepared: self.prepared,
            device: self.machinery.device,
            limit: self.limit() as usize,
            folder: self.folder,
            attempt: self.attempt,
            reporter: &self.machinery.reporter,
            interrupt: &self.machinery.interrupt,
            journals: self.journals,
        };
        trainer.train()
    }

    /// Everything that comes after the last step. The manifest is the last thing to be written.
    fn finish(&self, trained: &mut Trained, begin: Instant) -> Result<RunReport, Failure> {
        let results = self.evaluate(&trained.model)?;
        trained.journal.scores(trained.steps.total, &results)?;
        let mut files = self.write_targets(&trained.model)?;
        files.append(&mut self.save(&trained.model, &results)?);
        let report = RunReport {
            science_hash: Some(self.config.science_hash.clone()),
            total_steps: trained.steps.total,
            saved_steps: trained.steps.saved,
            resumed_from: trained.steps.resumed_from,
            skipped_steps: trained.steps.skipped,
            seconds: begin.elapsed().as_secs_f64(),
            results,
            ..RunReport::new(ExitReason::Completed, "")
        };
        files.insert(REPORT.to_owned(), self.folder.place(REPORT, &pretty(&report))?);
        self.folder.finish(&self.manifest(files))?;
        self.folder.clean();
        // Another attempt may have been first, and then its word is the one that counts.
        report_of(self.folder)
    }

    fn evaluate(&self, model: &Model) -> Result<Vec<TaskResult>, Failure> {
        let measured = |task: &PreparedTask| {
            let further = task.further.iter().map(|(_, encoded)| encoded.rows.len());
            task.dev.rows.len() + further.sum::<usize>()
        };
        let rows = self.prepared.tasks.iter().map(measured).sum();
        let mut said = self.predict(model, Stage::Evaluating, rows);
        let mut results = Vec::new();
        for (head, task) in self.prepared.tasks.iter().enumerate() {
            let mut result = score(task, &said(head, &task.dev));
            for (split, encoded) in &task.further {
                result.metrics.extend(score_further(&task.task, *split, &encoded.rows, &said(head, encoded)));
            }
            if !result.metrics.values().all(|value| value.is_finite()) {
                let message = format!("the dev loss of {} is not finite: try a lower learningRate", result.task);
                return Err(Failure::new(ExitReason::Diverged, message));
            }
            results.push(result);
        }
        Ok(results)
    }

    /// The targets of every task, and the predictions of its test splits.
    fn write_targets(&self, model: &Model) -> Result<Files, Failure> {
        let tests = self.prepared.tasks.iter().flat_map(|task| &task.tests).map(|(_, test)| test);
        let all = self.prepared.tasks.iter().map(|task| task.targeted()).chain(tests);
        let mut said = self.predict(model, Stage::WritingTargets, all.map(|encoded| encoded.rows.len()).sum());
        let mut files = Files::new();
        for (head, prepared) in self.prepared.tasks.iter().enumerate() {
            let name = &prepared.task.name;
            let tests = prepared.tests.iter().map(|(split, test)| (layout::predictions(name, split.name()), test));
            for (file, encoded) in [(layout::targets(name), prepared.targeted())].into_iter().chain(tests) {
                let targets = targets(&prepared.task, encoded, said(head, encoded));
                let artifact = self.folder.place(&file, &targets.to_bytes())?;
                files.insert(file, artifact);
            }
        }
        Ok(files)
    }

    /// A function that predicts rows with one head, and counts them towards a stage of `total` rows.
    fn predict<'a>(
        &'a self,
        model: &'a Model,
        stage: Stage,
        total: usize,
    ) -> impl FnMut(usize, &Encoded) -> Vec<f32> + 'a {
        let machinery = self.machinery;
        let predictor = Predictor { model, device: machinery.device, limit: self.limit() as usize };
        machinery.reporter.stage(stage, 0, total as u64);
        let mut done = 0;
        move |head, encoded| {
            predictor.logits(head, &encoded.features, &mut |rows| {
                done += rows;
                machinery.reporter.advance(done, rows);
            })
        }
    }

    /// Model and results.
    fn save(&self, model: &Model, results: &[TaskResult]) -> Result<Files, Failure> {
        self.machinery.reporter.stage(Stage::Saving, 0, 0);
        let model = ModelFiles {
            model,
            tasks: self.prepared.tasks.iter().map(|prepared| &prepared.task).collect(),
            vocabulary: &self.prepared.base.word_pieces,
            options: &self.config.science.hyperparameters,
        };
        let mut files = model.place(self.folder)?;
        files.insert(RESULTS.to_owned(), self.folder.place(RESULTS, &pretty(&results))?);
        Ok(files)
    }

    fn manifest(&self, files: Files) -> Manifest {
        Manifest {
            science_hash: self.config.science_hash.clone(),
            science: self.config.science.clone(),
            files,
            used_targets: self.prepared.used_targets.clone(),
            machine: Machine {
                device: if self.machinery.device.is_cuda() { "cuda" } else { "cpu" }.to_owned(),
                threads: self.machinery.threads as u32,
                instruction_set: device::instruction_set(),
                micro_batch_tokens: self.limit(),
                trainer: env!("CARGO_PKG_VERSION").to_owned(),
            },
            attempt: self.attempt.to_owned(),
        }
    }
}

fn targets(task: &Task, encoded: &Encoded, logits: Vec<f32>) -> Targets {
    Targets {
        task: task.name.clone(),
        labels: task.labels().to_vec(),
        eids: encoded.rows.iter().map(|row| row.eid).collect(),
        row_hashes: encoded.rows.iter().map(row_hash).collect(),
        logits,
    }
}
