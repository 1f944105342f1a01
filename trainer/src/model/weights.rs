//! Pretrained weights in, trained weights out.

use super::Model;
use super::config::{BertConfig, ConfigError};
use super::heads::{Head, PARAMETERS_OF_HEAD};
use super::parameter::Parameter;
use super::pretrained::{CONFIG, Pretrained, WEIGHTS, WeightsFiles};
use super::stored::Stored;
use super::tensor_file::{TensorFileError, write_tensors};
use crate::durable::{self, WriteError};
use bam_crds::store::Artifact;
use serde_json::json;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Why weights cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// Files that the folder must have.
    #[error("{folder} lacks {}{hint}", missing.join(" and "))]
    Incomplete {
        /// The folder.
        folder: String,
        /// What is missing.
        missing: Vec<String>,
        /// What to do; begins with a separator.
        hint: &'static str,
    },
    /// Whether a file is there cannot be found out.
    #[error("cannot read {path}: {source}; check that the store is mounted and readable")]
    Unreadable {
        /// The file or folder.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// The configuration is not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights' file is not readable.
    #[error(transparent)]
    File(#[from] TensorFileError),
    /// The file does not hold this encoder: all differences.
    #[error("{path} does not fit its configuration: {}; take all files from the same model", problems.join("; "))]
    Mismatch {
        /// The file.
        path: String,
        /// One sentence each.
        problems: Vec<String>,
    },
    /// The trained weights cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl WeightsError {
    /// Whether reading itself failed, so that another attempt may fare better (exit code 75).
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Unreadable { .. }
                | Self::Write(_)
                | Self::Config(ConfigError::Unreadable { .. })
                | Self::File(TensorFileError::Unreadable { .. })
        )
    }
}

/// What a file of weights gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Parameters that were read.
    pub loaded: Vec<String>,
    /// Tensors of the file that no encoder parameter wants, for example the pre-training heads.
    pub ignored: Vec<String>,
    /// Parameters that keep their random values.
    pub missing: Vec<String>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

impl Model {
    /// A pretrained encoder under random heads; `vocabulary` is the number of word pieces. Without weights to load
    /// (debug) the encoder is random too.
    pub fn pretrained(
        from: &Pretrained,
        heads: Vec<Head>,
        (seed, vocabulary): (u64, usize),
        device: Device,
    ) -> Result<(Self, LoadReport), WeightsError> {
        let config = from.config.clone();
        let Some(weights) = &from.weights else {
            return Ok((Self::random(config, heads, seed, device), LoadReport::default()));
        };
        let mut model = Self::unloaded(config, heads, seed, device);
        let mut report = model.load_encoder(weights, vocabulary)?;
        if let Some(other) = &from.passed_over {
            let (taken, other) = (weights.path(), other.display());
            report.warnings.push(format!("{} is taken, and {other} in the same folder is not read", taken.display()));
        }
        Ok((model, report))
    }

    /// Reads the encoder's parameters from files in Hugging Face's names or in Google's; the heads stay random.
    ///
    /// Names may begin with `bert`, layer norms may use TensorFlow's `gamma` and `beta`, and other
    /// floating-point types are converted. Files without a pooler are accepted with a warning.
    /// Nothing is changed if anything does not fit.
    pub fn load_encoder(&mut self, from: &WeightsFiles, vocabulary: usize) -> Result<LoadReport, WeightsError> {
        fits_vocabulary(from, &self.config, vocabulary)?;
        let encoder = self.encoder_parameters();
        let mut report = load(&mut self.parameters[..encoder], from, parameter_name, is_pooler)?;
        if !report.missing.is_empty() {
            let path = from.path();
            report.warnings.push(format!("{} has no pooler: it starts with random weights", path.display()));
        }
        Ok(report)
    }

    /// Reads a trained model that [`Model::save`] wrote: every parameter, heads included.
    pub fn load(folder: &Path, heads: Vec<Head>, device: Device) -> Result<Self, WeightsError> {
        let config = BertConfig::read(&folder.join(CONFIG))?;
        let mut model = Self::unloaded(config, heads, 0, device);
        let encoder = model.encoder_parameters();
        let (encoder, heads) = model.parameters.split_at_mut(encoder);
        load(encoder, &WeightsFiles::Safetensors(folder.join(WEIGHTS)), parameter_name, |_| false)?;
        for (parameters, head) in heads.chunks_exact_mut(PARAMETERS_OF_HEAD).zip(&model.heads) {
            let file = WeightsFiles::Safetensors(folder.join(head.file()));
            load(parameters, &file, classifier_name, |_| false)?;
        }
        Ok(model)
    }

    /// Writes `model.safetensors` (the encoder), `config.json`, and each head's [`Head::file`] into an existing folder.
    pub fn save(&self, folder: &Path) -> Result<(), WeightsError> {
        durable::write(&folder.join(WEIGHTS), |file| self.write_encoder(file))?;
        durable::write(&folder.join(CONFIG), |mut file| file.write_all(self.config_text().as_bytes()))?;
        for (number, head) in self.heads.iter().enumerate() {
            durable::write(&folder.join(head.file()), |file| self.write_head(number, file))?;
        }
        Ok(())
    }

    /// The content of `model.safetensors`: the encoder in the layout of Hugging Face's `BertModel`. Equal models give
    /// equal bytes.
    pub fn write_encoder(&self, file: &File) -> io::Result<Artifact> {
        write(file, self.encoder())
    }

    /// The content of a head's file: what Hugging Face's `BertForSequenceClassification` has besides the encoder.
    pub fn write_head(&self, head: usize, file: &File) -> io::Result<Artifact> {
        write(file, self.head(head))
    }

    /// All parameters in one file: the encoder's by their names in `model.safetensors`, and `heads.<task>.weight` and `.bias`.
    pub fn write_parameters(&self, file: &File) -> io::Result<Artifact> {
        let heads = &self.parameters[self.encoder_parameters()..];
        let heads = heads.iter().map(|parameter| (parameter.name.clone(), &parameter.value));
        write(file, self.encoder().chain(heads))
    }

    /// The encoder's tensors by their names in `model.safetensors`.
    pub fn encoder(&self) -> impl Iterator<Item = (String, &Tensor)> + Clone {
        let parameters = &self.parameters[..self.encoder_parameters()];
        parameters.iter().map(|parameter| (format!("bert.{}", parameter.name), &parameter.value))
    }

    /// A head's tensors by their names in its file: weight [outputs, hidden], bias [outputs].
    pub fn head(&self, head: usize) -> impl Iterator<Item = (String, &Tensor)> + Clone {
        let parameters = &self.parameters[self.encoder_parameters()..][PARAMETERS_OF_HEAD * head..];
        let own = parameters.iter().take(PARAMETERS_OF_HEAD);
        own.map(|parameter| (classifier_name(parameter), &parameter.value))
    }

    /// The content of `config.json`.
    pub fn config_text(&self) -> String {
        let mut config = json!(self.config);
        config["architectures"] = json!(["BertModel"]);
        format!("{config:#}\n")
    }

    /// How many parameters come before the heads'.
    fn encoder_parameters(&self) -> usize {
        self.parameters.len() - PARAMETERS_OF_HEAD * self.heads.len()
    }
}

fn write<'a>(file: &File, tensors: impl Iterator<Item = (String, &'a Tensor)> + Clone) -> io::Result<Artifact> {
    // transformers refuses a file that does not name its framework.
    write_tensors(file, tensors, &[("format", "pt")])
}

/// The name of an encoder's parameter, in files and here.
fn parameter_name(parameter: &Parameter) -> String {
    parameter.name.clone()
}

/// The name of a head's parameter in its file: heads.rte.weight is classifier.weight.
fn classifier_name(parameter: &Parameter) -> String {
    let (_, last) = parameter.name.rsplit_once('.').expect("a parameter's name has dots");
    format!("classifier.{last}")
}

/// Overwrites parameters with the tensors of that `name`. Those for which `optional` holds may be
/// missing; every other gap or difference is an error that lists them all.
fn load(
    parameters: &mut [Parameter],
    from: &WeightsFiles,
    name: impl Fn(&Parameter) -> String,
    optional: impl Fn(&str) -> bool,
) -> Result<LoadReport, WeightsError> {
    let shapes = parameters.iter().map(|parameter| (name(parameter), parameter.value.size()));
    let (mut stored, report) = compare(from, shapes, optional)?;
    for parameter in parameters {
        let name = name(parameter);
        if stored.shape(&name).is_some() {
            parameter.set(&stored.read(&name)?.to_kind(Kind::Float));
        }
    }
    Ok(report)
}

/// The open files, and which of the wanted shapes are there. A wanted tensor that is missing (unless `optional`) or has
/// another shape is an error that lists them all.
pub(super) fn compare(
    from: &WeightsFiles,
    wanted: impl IntoIterator<Item = (String, Vec<i64>)>,
    optional: impl Fn(&str) -> bool,
) -> Result<(Stored, LoadReport), WeightsError> {
    let stored = Stored::open(from)?;
    let mut report = LoadReport::default();
    let mut problems = Vec::new();
    for (name, wanted) in wanted {
        match stored.shape(&name) {
            Some(shape) if shape == wanted => report.loaded.push(name),
            Some(shape) => problems.push(format!("{name} is {shape:?} in the file, {wanted:?} by the configuration")),
            None if optional(&name) => report.missing.push(name),
            None => problems.push(format!("{name} {wanted:?} is missing")),
        }
    }
    report.ignored = stored.others(&report.loaded);
    if problems.is_empty() { Ok((stored, report)) } else { Err(mismatch(from, problems)) }
}

/// A model may come without the pooler, which then starts with random weights.
pub(super) fn is_pooler(name: &str) -> bool {
    name.starts_with("pooler.")
}

fn fits_vocabulary(from: &WeightsFiles, config: &BertConfig, vocabulary: usize) -> Result<(), WeightsError> {
    let rows = config.vocab_size;
    if rows < vocabulary as i64 {
        let problem = format!("it embeds {rows} word pieces, but the vocabulary has {vocabulary}");
        return Err(mismatch(from, vec![problem]));
    }
    Ok(())
}

fn mismatch(from: &WeightsFiles, problems: Vec<String>) -> WeightsError {
    WeightsError::Mismatch { path: from.path().display().to_string(), problems }
}

#[cfg(test)]
#[path = "weights_tests.rs"]
mod tests;
