//! Tensors in files, by the names and in the layout of this program, whoever wrote the files.

use super::names;
use super::pretrained::WeightsFiles;
use super::tensor_file::{TensorFile, TensorFileError};
use super::tensorflow::TensorBundle;
use std::collections::HashMap;
use tch::Tensor;

/// Open files of weights.
pub(super) struct Stored {
    source: Source,
    /// By present name.
    origins: HashMap<String, Origin>,
}

enum Source {
    Safetensors(TensorFile),
    TensorFlow(TensorBundle),
}

/// What a tensor is in its file.
struct Origin {
    name: String,
    /// The axes are the other way round.
    transposed: bool,
}

impl Stored {
    pub(super) fn open(files: &WeightsFiles) -> Result<Self, TensorFileError> {
        let (source, names) = match files {
            WeightsFiles::Safetensors(path) => {
                let file = TensorFile::open(path)?;
                let names = file.names();
                (Source::Safetensors(file), names)
            }
            WeightsFiles::TensorFlow { index, data } => {
                let bundle = TensorBundle::open(index, data)?;
                let names = bundle.names();
                (Source::TensorFlow(bundle), names)
            }
        };
        let origin = |name: String| {
            let (present, transposed) = match source {
                Source::Safetensors(_) => (names::of_hugging_face(&name), false),
                Source::TensorFlow(_) => names::of_tensorflow(&name),
            };
            (present, Origin { name, transposed })
        };
        let origins = names.into_iter().map(origin).collect();
        Ok(Self { source, origins })
    }

    /// The shape of a tensor, as this program has it.
    pub(super) fn shape(&self, name: &str) -> Option<Vec<i64>> {
        let origin = self.origins.get(name)?;
        let mut shape = match &self.source {
            Source::Safetensors(file) => file.shape(&origin.name),
            Source::TensorFlow(bundle) => bundle.shape(&origin.name),
        }?;
        if origin.transposed {
            shape.reverse();
        }
        Some(shape)
    }

    /// Reads a tensor that has a [`shape`](Self::shape) of at most two axes. Its type is the file's.
    pub(super) fn read(&mut self, name: &str) -> Result<Tensor, TensorFileError> {
        let Origin { name, transposed } = &self.origins[name];
        let value = match &mut self.source {
            Source::Safetensors(file) => file.read(name),
            Source::TensorFlow(bundle) => bundle.read(name),
        }?;
        Ok(if *transposed { value.tr() } else { value })
    }

    /// What the files call all other tensors than these, in order.
    pub(super) fn others(&self, than: &[String]) -> Vec<String> {
        let others = self.origins.iter().filter(|(present, _)| !than.contains(present));
        let mut names: Vec<String> = others.map(|(_, origin)| origin.name.clone()).collect();
        names.sort();
        names
    }
}
