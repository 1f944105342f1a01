//! A folder with a pretrained encoder: which of its files are taken.

use super::bert;
use super::config::BertConfig;
use super::weights::{WeightsError, compare, is_pooler};
use crate::digest;
use bam_crds::store::Artifact;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};

pub(super) const WEIGHTS: &str = "model.safetensors";
pub(super) const CONFIG: &str = "config.json";
const GOOGLES_CONFIG: &str = "bert_config.json";
const VOCABULARY: &str = "vocab.txt";
/// TensorFlow's checkpoint, as Google's archives name it.
const INDEX: &str = "bert_model.ckpt.index";
const DATA: &str = "bert_model.ckpt.data-00000-of-00001";

/// Told when the folder is not there, as after a typing error.
const NO_FOLDER: &str = ": there is no such folder; put the pretrained model there, or correct its name";
/// Told when nothing better is known.
const PUT_THERE: &str = "; put there what is missing";

/// The files that may be taken from a folder with a pretrained encoder. A debug run needs no weights.
pub fn files(with_weights: bool) -> Vec<&'static str> {
    let weights = [WEIGHTS, INDEX, DATA].into_iter().filter(|_| with_weights);
    [CONFIG, GOOGLES_CONFIG, VOCABULARY].into_iter().chain(weights).collect()
}

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
    pub weights: Option<WeightsFiles>,
    /// Weights in another format that are there too, and are not read.
    pub passed_over: Option<PathBuf>,
}

/// The files of an encoder's weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WeightsFiles {
    /// Hugging Face's `model.safetensors`, or this program's.
    Safetensors(PathBuf),
    /// Google's `bert_model.ckpt`.
    TensorFlow {
        /// Names, shapes and checksums.
        index: PathBuf,
        /// The values.
        data: PathBuf,
    },
}

impl WeightsFiles {
    /// What they are called: the file, or what the names of a checkpoint's files have in common.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Safetensors(path) => path.clone(),
            Self::TensorFlow { index, .. } => index.with_extension(""),
        }
    }

    /// Size and SHA-256 of the weights: those of the file; of a checkpoint, of its index with its data after it, as of one
    /// file. (The same weights in the other format are other weights to a run's identity.)
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn digest(&self) -> io::Result<Artifact> {
        match self {
            Self::Safetensors(path) => digest::of_file(path),
            Self::TensorFlow { index, data } => digest::of_files(&[index, data]),
        }
    }
}

impl Pretrained {
    /// Finds the files of a folder and reads the configuration. A debug run needs no weights. Of weights in both formats
    /// `model.safetensors` is taken.
    pub fn find(folder: &Path, with_weights: bool) -> Result<Self, WeightsError> {
        let file = |name: &str| existing(folder, name);
        let config = file(CONFIG)?.or(file(GOOGLES_CONFIG)?);
        let vocabulary = file(VOCABULARY)?;
        let of_weights = |name: &str| if with_weights { file(name) } else { Ok(None) };
        let (safetensors, index, data) = (of_weights(WEIGHTS)?, of_weights(INDEX)?, of_weights(DATA)?);
        let lacking = match (&safetensors, &index, &data) {
            _ if !with_weights => None,
            (Some(_), ..) | (None, Some(_), Some(_)) => None,
            (None, Some(_), None) => Some(DATA),
            (None, None, Some(_)) => Some(INDEX),
            (None, None, None) => Some("model.safetensors (or bert_model.ckpt.*)"),
        };
        match (config, vocabulary) {
            (Some(config), Some(vocabulary)) if lacking.is_none() => {
                let passed_over = index.clone().filter(|_| safetensors.is_some());
                let checkpoint = index.zip(data).map(|(index, data)| WeightsFiles::TensorFlow { index, data });
                let weights = safetensors.map(WeightsFiles::Safetensors).or(checkpoint);
                let shape = BertConfig::read(&config)?;
                Ok(Self { config: shape, configuration: config, vocabulary, weights, passed_over })
            }
            (config, vocabulary) => {
                let config = config.is_none().then_some("config.json (or bert_config.json)");
                let vocabulary = vocabulary.is_none().then_some(VOCABULARY);
                let missing = [config, vocabulary, lacking].into_iter().flatten().map(str::to_owned).collect();
                let hint = if metadata(folder)?.is_none() { NO_FOLDER } else { PUT_THERE };
                Err(WeightsError::Incomplete { folder: folder.display().to_string(), missing, hint })
            }
        }
    }

    /// Compares the weights with the configuration, without reading them: names and shapes only. Whoever opened the
    /// vocabulary has compared that.
    pub fn check_weights(&self) -> Result<(), WeightsError> {
        let Some(weights) = &self.weights else { return Ok(()) };
        compare(weights, bert::shapes(&self.config), is_pooler).map(drop)
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
