//! The folder of a trained model, for this program and for Hugging Face's transformers.
//!
//! ```text
//! model/model.safetensors config.json vocab.txt   the encoder: AutoModel.from_pretrained("model")
//!       heads.json                                what each head's outputs mean
//!       <task>/head.safetensors                   its classifier
//!              model.safetensors.index.json       says that the rest is in ../model.safetensors
//!              config.json vocab.txt tokenizer_config.json
//! ```
//!
//! So `AutoModelForSequenceClassification.from_pretrained("model/rte")` loads one task of a model of any number of tasks, and
//! the encoder lies there once. A task's folder is of use only beside the encoder; transformers' own `save_pretrained` makes
//! one that stands alone.

use std::fs::File;
use std::io::{self, Write};

use bam_crds::Hyperparameters;
use bam_crds::store::MODEL;
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::model::{HEAD_FILE, Model};
use crate::store::{Files, RunFolder, pretty};
use crate::task::{Kind, Task};

const ENCODER: &str = "model.safetensors";

/// A trained model with all that others need to use it.
#[derive(Debug)]
pub struct ModelFiles<'a> {
    /// Encoder and heads.
    pub model: &'a Model,
    /// The tasks of the heads, in their order.
    pub tasks: Vec<&'a Task>,
    /// The content of `vocab.txt`.
    pub vocabulary: &'a [u8],
    /// Those of the training: how texts become word pieces, and where they are cut.
    pub options: &'a Hyperparameters,
}

impl ModelFiles<'_> {
    /// Writes the folder into that of a run, and returns its entries for the manifest.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn place(&self, run: &RunFolder) -> Result<Files, Failure> {
        let mut files = Files::new();
        let mut place = |name: &str, content: &dyn Fn(&File) -> io::Result<()>| {
            let name = format!("{MODEL}/{name}");
            let artifact = run.place_with(&name, content)?;
            files.insert(name, artifact);
            Ok::<_, Failure>(())
        };
        let index = pretty(&self.index());
        let tokenizer = pretty(&self.tokenizer());
        place(ENCODER, &|file| self.model.write_encoder(file).map(drop))?;
        place("config.json", &text(self.model.config_text().as_bytes()))?;
        place("vocab.txt", &text(self.vocabulary))?;
        place("heads.json", &text(&pretty(&self.tasks.iter().map(|task| meaning(task)).collect::<Value>())))?;
        for (head, task) in self.tasks.iter().enumerate() {
            let name = &task.name;
            place(&format!("{name}/{HEAD_FILE}"), &|file| self.model.write_head(head, file).map(drop))?;
            place(&format!("{name}/model.safetensors.index.json"), &text(&index))?;
            place(&format!("{name}/config.json"), &text(&pretty(&self.config(task))))?;
            place(&format!("{name}/vocab.txt"), &text(self.vocabulary))?;
            place(&format!("{name}/tokenizer_config.json"), &text(&tokenizer))?;
        }
        Ok(files)
    }

    /// Which file of a task's folder holds which tensor of `BertForSequenceClassification`; the same for all tasks.
    fn index(&self) -> Value {
        let encoder = self.model.encoder().map(|(name, _)| (name, json!(format!("../{ENCODER}"))));
        let head = self.model.head(0).map(|(name, _)| (name, json!(HEAD_FILE)));
        json!({ "metadata": {}, "weight_map": encoder.chain(head).collect::<Map<_, _>>() })
    }

    /// The configuration of the encoder with the head of a task.
    fn config(&self, task: &Task) -> Value {
        // A regression has one output, which needs a name too.
        let names = if task.is_regression() { vec!["score".to_owned()] } else { task.labels().to_vec() };
        let ids = names.iter().enumerate();
        let mut config = json!(self.model.config());
        config["architectures"] = json!(["BertForSequenceClassification"]);
        config["classifier_dropout"] = json!(self.model.config().head_dropout_prob);
        config["id2label"] = ids.clone().map(|(id, name)| (id.to_string(), json!(name))).collect::<Map<_, _>>().into();
        config["label2id"] = ids.map(|(id, name)| (name.clone(), json!(id))).collect::<Map<_, _>>().into();
        config["problem_type"] = match task.kind {
            Kind::Classification { .. } => json!("single_label_classification"),
            Kind::Regression { .. } => json!("regression"),
        };
        config
    }

    /// How transformers makes word pieces of texts, and at which length it cuts them.
    fn tokenizer(&self) -> Value {
        json!({
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": self.options.do_lower_case,
            "model_max_length": self.options.max_seq_length,
        })
    }
}

/// What a head's outputs mean: labels by name, in order; or the range that 0 to 1 stands for.
fn meaning(task: &Task) -> Value {
    match &task.kind {
        Kind::Classification { labels } => json!({ "task": task.name, "labels": labels }),
        Kind::Regression { min, max } => json!({ "task": task.name, "min": min, "max": max }),
    }
}

/// A file of these bytes.
fn text(bytes: &[u8]) -> impl Fn(&File) -> io::Result<()> {
    move |mut file| file.write_all(bytes)
}

#[cfg(test)]
#[path = "model_files_tests.rs"]
mod tests;
