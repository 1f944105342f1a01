//! Pretrained weights in, trained weights out: a folder with `model.safetensors`, a configuration,
//! and on the way in a vocabulary.

use super::Model;
use super::config::{BertConfig, ConfigError};
use super::heads::Head;
use super::parameter::Parameter;
use super::tensor_file::{TensorFile, TensorFileError, write_tensors};
use crate::durable::{self, WriteError};
use bam_crds::store::Artifact;
use serde_json::json;
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tch::{Device, Kind};

const WEIGHTS: &str = "model.safetensors";
const VOCABULARY: &str = "vocab.txt";
const CONFIGS: [&str; 2] = ["config.json", "bert_config.json"];

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

/// Told when the folder is not there, as after a typing error.
const NO_FOLDER: &str = ": there is no such folder; put the pretrained model there, or correct its name";
/// Told when nothing better is known.
const PUT_THERE: &str = "; put there what is missing";
/// Told when only a TensorFlow checkpoint is found.
const CONVERT: &str = ". It holds a TensorFlow checkpoint (bert_model.ckpt), which this program cannot read: \
    convert it once with Hugging Face transformers, BertModel.from_pretrained(folder, from_tf=True).save_pretrained(folder) \
    in version 4";

/// A folder with a pretrained encoder.
#[derive(Clone, Debug)]
pub struct Pretrained {
    /// Shape of the encoder.
    pub config: BertConfig,
    /// The file that says so.
    pub configuration: PathBuf,
    /// Word pieces, one a line.
    pub vocabulary: PathBuf,
    /// The weights; absent if they were not asked for.
    pub weights: Option<PathBuf>,
}

impl Pretrained {
    /// Finds the files of a folder and reads the configuration. A debug run needs no weights.
    pub fn find(folder: &Path, with_weights: bool) -> Result<Self, WeightsError> {
        let [config, bert_config] = CONFIGS.map(|name| existing(folder, name));
        let config = config?.or(bert_config?);
        let vocabulary = existing(folder, VOCABULARY)?;
        let weights = if with_weights { existing(folder, WEIGHTS)? } else { None };
        match (config, vocabulary) {
            (Some(config), Some(vocabulary)) if weights.is_some() || !with_weights => {
                Ok(Self { config: BertConfig::read(&config)?, configuration: config, vocabulary, weights })
            }
            (config, vocabulary) => {
                let needed = [
                    (config.is_some(), "config.json (or bert_config.json)"),
                    (vocabulary.is_some(), VOCABULARY),
                    (weights.is_some() || !with_weights, WEIGHTS),
                ];
                let missing = needed.iter().filter(|(found, _)| !found);
                let hint = match existing(folder, "bert_model.ckpt.index")? {
                    Some(_) if with_weights => CONVERT,
                    _ if metadata(folder)?.is_none() => NO_FOLDER,
                    _ => PUT_THERE,
                };
                Err(WeightsError::Incomplete {
                    folder: folder.display().to_string(),
                    missing: missing.map(|&(_, name)| name.to_owned()).collect(),
                    hint,
                })
            }
        }
    }
}

/// The path of a file, if the folder has it.
fn existing(folder: &Path, name: &str) -> Result<Option<PathBuf>, WeightsError> {
    let path = folder.join(name);
    Ok(metadata(&path)?.filter(Metadata::is_file).map(|_| path))
}

/// Nothing if nothing is there; a volume that does not answer is an error.
fn metadata(path: &Path) -> Result<Option<Metadata>, WeightsError> {
    match path.metadata() {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(WeightsError::Unreadable { path: path.display().to_string(), source }),
    }
}

impl Pretrained {
    /// Compares the weights with the configuration, without reading them: names and shapes only. Whoever opened the
    /// vocabulary has compared that.
    pub fn check_weights(&self) -> Result<(), WeightsError> {
        let Some(path) = &self.weights else { return Ok(()) };
        compare(&TensorFile::open(path)?, path, super::bert::shapes(&self.config), is_pooler).map(drop)
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
        let report = model.load_encoder(weights, vocabulary)?;
        Ok((model, report))
    }

    /// Reads the encoder's parameters from a file in Hugging Face's names; the heads stay random.
    ///
    /// Names may begin with `bert.`, layer norms may use TensorFlow's `gamma` and `beta`, and other
    /// floating-point types are converted. A file without a pooler is accepted with a warning.
    /// Nothing is changed if anything does not fit.
    pub fn load_encoder(&mut self, path: &Path, vocabulary: usize) -> Result<LoadReport, WeightsError> {
        fits_vocabulary(path, &self.config, vocabulary)?;
        let encoder = self.parameters.len() - 2 * self.heads.len();
        let mut report = load(&mut self.parameters[..encoder], path, is_pooler)?;
        if !report.missing.is_empty() {
            let path = path.display();
            report.warnings.push(format!("{path} has no pooler: it starts with random weights"));
        }
        Ok(report)
    }

    /// Reads a trained model that [`Model::save`] wrote: every parameter, heads included.
    pub fn load(folder: &Path, heads: Vec<Head>, device: Device) -> Result<Self, WeightsError> {
        let config = BertConfig::read(&folder.join(CONFIGS[0]))?;
        let mut model = Self::unloaded(config, heads, 0, device);
        load(&mut model.parameters, &folder.join(WEIGHTS), |_| false)?;
        Ok(model)
    }

    /// Writes `model.safetensors` and `config.json` into an existing folder, in the layout of
    /// Hugging Face's `BertModel` (the heads beside it as `heads.<task>.…`).
    pub fn save(&self, folder: &Path) -> Result<(), WeightsError> {
        durable::write(&folder.join(WEIGHTS), |file| self.write_weights(file))?;
        durable::write(&folder.join(CONFIGS[0]), |mut file| file.write_all(self.config_text().as_bytes()))?;
        Ok(())
    }

    /// The content of `model.safetensors`. Equal models give equal bytes.
    pub fn write_weights(&self, file: &File) -> io::Result<Artifact> {
        let tensors = self.parameters.iter().map(|parameter| {
            let prefix = if parameter.name.starts_with("heads.") { "" } else { "bert." };
            (format!("{prefix}{}", parameter.name), &parameter.value)
        });
        // transformers refuses a file that does not name its framework.
        write_tensors(file, tensors, &[("format", "pt")])
    }

    /// The content of `config.json`.
    pub fn config_text(&self) -> String {
        let mut config = json!(self.config);
        config["architectures"] = json!(["BertModel"]);
        format!("{config:#}\n")
    }
}

/// Overwrites parameters with the tensors of a file. Those for which `optional` holds may be
/// missing; every other gap or difference is an error that lists them all.
fn load(
    parameters: &mut [Parameter],
    path: &Path,
    optional: impl Fn(&str) -> bool,
) -> Result<LoadReport, WeightsError> {
    let mut file = TensorFile::open(path)?;
    let shapes = parameters.iter().map(|parameter| (parameter.name.clone(), parameter.value.size()));
    let (mut stored, mut report) = compare(&file, path, shapes, optional)?;
    for parameter in parameters {
        if let Some(name) = stored.remove(&parameter.name) {
            parameter.set(&file.read(&name)?.to_kind(Kind::Float));
        }
    }
    report.ignored = stored.into_values().collect();
    report.ignored.sort();
    Ok(report)
}

/// The stored names by their present ones, and which of the wanted shapes are there. A wanted tensor that is missing
/// (unless `optional`) or has another shape is an error that lists them all.
fn compare(
    file: &TensorFile,
    path: &Path,
    wanted: impl IntoIterator<Item = (String, Vec<i64>)>,
    optional: impl Fn(&str) -> bool,
) -> Result<(HashMap<String, String>, LoadReport), WeightsError> {
    let stored: HashMap<String, String> = file.names().into_iter().map(|name| (modern_name(&name), name)).collect();
    let mut report = LoadReport::default();
    let mut problems = Vec::new();
    for (name, wanted) in wanted {
        match stored.get(&name).and_then(|stored| file.shape(stored)) {
            Some(shape) if shape == wanted => report.loaded.push(name),
            Some(shape) => problems.push(format!("{name} is {shape:?} in the file, {wanted:?} by the configuration")),
            None if optional(&name) => report.missing.push(name),
            None => problems.push(format!("{name} {wanted:?} is missing")),
        }
    }
    if problems.is_empty() { Ok((stored, report)) } else { Err(mismatch(path, problems)) }
}

/// A model may come without the pooler, which then starts with random weights.
fn is_pooler(name: &str) -> bool {
    name.starts_with("pooler.")
}

fn fits_vocabulary(path: &Path, config: &BertConfig, vocabulary: usize) -> Result<(), WeightsError> {
    let rows = config.vocab_size;
    if rows < vocabulary as i64 {
        let problem = format!("it embeds {rows} word pieces, but the vocabulary has {vocabulary}");
        return Err(mismatch(path, vec![problem]));
    }
    Ok(())
}

/// The present name of a stored tensor: without `bert.`, and `weight`, `bias` for the names that
/// layer norms had in early files.
fn modern_name(stored: &str) -> String {
    let name = stored.strip_prefix("bert.").unwrap_or(stored);
    name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
}

fn mismatch(path: &Path, problems: Vec<String>) -> WeightsError {
    WeightsError::Mismatch { path: path.display().to_string(), problems }
}

#[cfg(test)]
#[path = "weights_tests.rs"]
mod tests;
