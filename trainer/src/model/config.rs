//! The shape of an encoder: `bert_config.json` (Google) or `config.json` (Hugging Face).

use bam_crds::Hyperparameters;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Shape and rates of a BERT encoder. Keys that this program does not use are ignored; the defaults are those on which both
/// publishers agree (BERT-base).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BertConfig {
    /// Rows of the word embedding table.
    pub vocab_size: i64,
    /// Width of a token's vector.
    #[serde(default = "defaults::hidden_size")]
    pub hidden_size: i64,
    /// Number of encoder layers.
    #[serde(default = "defaults::num_hidden_layers")]
    pub num_hidden_layers: usize,
    /// Attention heads of each layer; divides `hidden_size`.
    #[serde(default = "defaults::num_attention_heads")]
    pub num_attention_heads: i64,
    /// Width of the feed-forward layer.
    #[serde(default = "defaults::intermediate_size")]
    pub intermediate_size: i64,
    /// Activation of the feed-forward layer: linear, relu, gelu (the exact one, with erf) or tanh.
    #[serde(default = "defaults::hidden_act")]
    pub hidden_act: String,
    /// Dropout rate of the embeddings and of the two outputs of each layer.
    #[serde(default = "defaults::dropout")]
    pub hidden_dropout_prob: f64,
    /// Dropout rate of the attention probabilities.
    #[serde(default = "defaults::dropout")]
    pub attention_probs_dropout_prob: f64,
    /// Dropout rate before a head. In no file: the reference has a constant there.
    #[serde(skip, default = "defaults::dropout")]
    pub head_dropout_prob: f64,
    /// Longest sequence that the position table can number.
    #[serde(default = "defaults::max_position_embeddings")]
    pub max_position_embeddings: i64,
    /// Rows of the segment (token type) table.
    #[serde(default = "defaults::type_vocab_size")]
    pub type_vocab_size: i64,
    /// Standard deviation of random initial weights.
    #[serde(default = "defaults::initializer_range")]
    pub initializer_range: f64,
    /// Epsilon of every layer norm.
    #[serde(default = "defaults::layer_norm_eps")]
    pub layer_norm_eps: f64,
    /// Hugging Face's name of the architecture; absent in Google's files.
    #[serde(default = "defaults::model_type")]
    pub model_type: String,
    /// Hugging Face's kind of position embedding; absent in Google's files.
    #[serde(default = "defaults::position_embedding_type")]
    pub position_embedding_type: String,
}

mod defaults {
    pub fn hidden_size() -> i64 {
        768
    }
    pub fn num_hidden_layers() -> usize {
        12
    }
    pub fn num_attention_heads() -> i64 {
        12
    }
    pub fn intermediate_size() -> i64 {
        3072
    }
    pub fn hidden_act() -> String {
        "gelu".into()
    }
    pub fn dropout() -> f64 {
        0.1
    }
    pub fn max_position_embeddings() -> i64 {
        512
    }
    pub fn type_vocab_size() -> i64 {
        2
    }
    pub fn initializer_range() -> f64 {
        0.02
    }
    pub fn layer_norm_eps() -> f64 {
        1e-12
    }
    pub fn model_type() -> String {
        "bert".into()
    }
    pub fn position_embedding_type() -> String {
        "absolute".into()
    }
}

/// `hidden_size` of a debug run.
const DEBUG_WIDTH: i64 = 144;

/// The activation of the feed-forward layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x
    Linear,
    /// max(x, 0)
    Relu,
    /// x times the normal distribution function of x, exact (erf), not the tanh approximation.
    Gelu,
    /// tanh(x)
    Tanh,
}

impl Activation {
    fn from_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "linear" => Some(Self::Linear),
            "relu" => Some(Self::Relu),
            "gelu" => Some(Self::Gelu),
            "tanh" => Some(Self::Tanh),
            _ => None,
        }
    }
}

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}; check that the store is mounted and readable")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not JSON, or a value has the wrong type.
    #[error("{path} is not a BERT configuration: {source}; take the one that came with the model")]
    Malformed {
        /// The file.
        path: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Values that make no usable encoder: all of them.
    #[error("{path}: {}; take a BERT model, with the configuration that came with it", problems.join("; "))]
    Invalid {
        /// The file.
        path: String,
        /// One sentence each.
        problems: Vec<String>,
    },
}

impl BertConfig {
    /// Reads and validates a configuration file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: name.clone(), source })?;
        let config: Self =
            serde_json::from_str(&text).map_err(|source| ConfigError::Malformed { path: name.clone(), source })?;
        let problems = config.validate();
        if problems.is_empty() { Ok(config) } else { Err(ConfigError::Invalid { path: name, problems }) }
    }

    /// Everything that is wrong with the values, one sentence each; empty if an encoder can be made of them.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers as i64),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        for (name, size) in sizes {
            if size < 1 {
                problems.push(format!("{name} is {size}, must be at least 1"));
            }
        }
        if self.type_vocab_size < 2 {
            let size = self.type_vocab_size;
            problems.push(format!("type_vocab_size is {size}, must be at least 2: one for each sentence of a pair"));
        }
        if self.num_attention_heads > 0 && self.hidden_size % self.num_attention_heads != 0 {
            let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
            let why = if hidden == DEBUG_WIDTH { "; a debug run has this width whatever the file says" } else { "" };
            problems.push(format!("hidden_size {hidden} is not a multiple of num_attention_heads {heads}{why}"));
        }
        for (name, rate) in [
            ("hidden_dropout_prob", self.hidden_dropout_prob),
            ("attention_probs_dropout_prob", self.attention_probs_dropout_prob),
        ] {
            if !(0.0..1.0).contains(&rate) {
                problems.push(format!("{name} is {rate}, must be at least 0 and below 1"));
            }
        }
        for (name, value) in [("initializer_range", self.initializer_range), ("layer_norm_eps", self.layer_norm_eps)] {
            if !(value > 0.0 && value.is_finite()) {
                problems.push(format!("{name} is {value}, must be a positive number"));
            }
        }
        if self.activation().is_none() {
            problems.push(format!("hidden_act is {:?}, must be linear, relu, gelu or tanh", self.hidden_act));
        }
        if self.model_type != "bert" {
            problems.push(format!("model_type is {:?}: only BERT encoders can be trained", self.model_type));
        }
        if self.position_embedding_type != "absolute" {
            problems.push(format!("position_embedding_type is {:?}, must be absolute", self.position_embedding_type));
        }
        problems
    }

    /// What keeps this encoder from reading sequences of `max_seq_length` tokens, if anything.
    pub fn length_problem(&self, max_seq_length: i64) -> Option<String> {
        (max_seq_length > self.max_position_embeddings).then(|| {
            let most = self.max_position_embeddings;
            format!(
                "max_seq_length is {max_seq_length}, but the encoder can number at most {most} positions \
                 (max_position_embeddings)"
            )
        })
    }

    /// The reference's tiny model for trying things out: three layers of width 144; heads, feed-forward width and all else
    /// stay as they are in the file. [`validate`](Self::validate) it: not all numbers of heads divide that width.
    pub fn debug(self) -> Self {
        Self { num_hidden_layers: 3, hidden_size: DEBUG_WIDTH, ..self }
    }

    /// With the dropout rates of a training, where it has its own.
    pub fn with_dropout(self, options: &Hyperparameters) -> Self {
        Self {
            hidden_dropout_prob: options.hidden_dropout_prob.unwrap_or(self.hidden_dropout_prob),
            attention_probs_dropout_prob: options
                .attention_probs_dropout_prob
                .unwrap_or(self.attention_probs_dropout_prob),
            head_dropout_prob: options.head_dropout_prob,
            ..self
        }
    }

    /// The activation that `hidden_act` names.
    pub fn activation(&self) -> Option<Activation> {
        Activation::from_name(&self.hidden_act)
    }

    /// Width of one attention head.
    pub fn head_size(&self) -> i64 {
        self.hidden_size / self.num_attention_heads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> BertConfig {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_google_file_and_a_hugging_face_file_of_the_same_model_read_alike() {
        let google = r#"{"attention_probs_dropout_prob": 0.1, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768,
            "initializer_range": 0.02, "intermediate_size": 3072, "max_position_embeddings": 512, "num_attention_heads": 12,
            "num_hidden_layers": 12, "type_vocab_size": 2, "vocab_size": 30522}"#;
        let hugging_face = r#"{"architectures": ["BertModel"], "model_type": "bert", "vocab_size": 30522, "layer_norm_eps": 1e-12,
            "position_embedding_type": "absolute", "pad_token_id": 0, "use_cache": true}"#;
        assert_eq!(parse(google), parse(hugging_face));
        assert_eq!(parse(google).validate(), Vec::<String>::new());
    }

    #[test]
    fn the_debug_model_is_smaller_in_two_values_only() {
        let debug = parse(r#"{"vocab_size": 30522}"#).debug();
        assert_eq!((debug.num_hidden_layers, debug.hidden_size), (3, 144));
        assert_eq!((debug.num_attention_heads, debug.intermediate_size), (12, 3072));
        assert_eq!(debug.validate(), Vec::<String>::new());
    }

    #[test]
    fn dropout_rates_are_the_file_s_unless_the_training_has_its_own() {
        let config = parse(r#"{"vocab_size": 9, "hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.3}"#);
        let rates = |options: &str| {
            let options: Hyperparameters = serde_json::from_str(options).unwrap();
            let config = config.clone().with_dropout(&options);
            [config.hidden_dropout_prob, config.attention_probs_dropout_prob, config.head_dropout_prob]
        };
        assert_eq!(rates("{}"), [0.2, 0.3, 0.1]);
        assert_eq!(rates(r#"{"hiddenDropoutProb": 0.0, "headDropoutProb": 0.4}"#), [0.0, 0.3, 0.4]);
        assert_eq!(rates(r#"{"attentionProbsDropoutProb": 0.5}"#), [0.2, 0.5, 0.1]);
    }

    #[test]
    fn a_debug_model_whose_heads_do_not_divide_its_width_is_a_problem() {
        let config = parse(r#"{"vocab_size": 30522, "hidden_size": 640, "num_attention_heads": 10}"#);
        assert_eq!(config.validate(), Vec::<String>::new());
        let problems = config.debug().validate();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("144") && problems[0].contains("debug run"), "{problems:?}");
    }

    #[test]
    fn an_encoder_that_cannot_tell_the_sentences_of_a_pair_apart_is_refused() {
        for (size, problems) in [(1, 1), (2, 0), (16, 0)] {
            let config = parse(&format!(r#"{{"vocab_size": 30522, "type_vocab_size": {size}}}"#));
            assert_eq!(config.validate().len(), problems, "{size}");
        }
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let bad = parse(
            r#"{"vocab_size": 0, "hidden_size": 10, "num_attention_heads": 3, "hidden_dropout_prob": 1.0, "layer_norm_eps": 0,
            "hidden_act": "swish", "model_type": "roberta", "position_embedding_type": "relative_key"}"#,
        );
        let problems = bad.validate();
        assert_eq!(problems.len(), 7, "{problems:#?}");
        for word in
            ["vocab_size", "multiple", "hidden_dropout_prob", "layer_norm_eps", "swish", "roberta", "relative_key"]
        {
            assert!(problems.iter().any(|problem| problem.contains(word)), "{word}: {problems:#?}");
        }
    }

    #[test]
    fn sequences_longer_than_the_position_table_are_refused() {
        let config = parse(r#"{"vocab_size": 30522}"#);
        assert_eq!(config.length_problem(512), None);
        assert!(config.length_problem(513).unwrap().contains("512"));
    }
}
