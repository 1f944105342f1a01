//! The encoder: BERT with layer norm after each residual (Devlin et al. 2018, appendix; Hugging
//! Face's `BertModel`).
//!
//! It is a view over the parameter list: it holds no tensor of its own.
//!
//! In bf16 the matrix products take activations and weights rounded to it, as autocast has it. The stream that they add
//! to (residuals and their layer norms), the pooler and the heads stay in f32, and so do all parameters and gradients.

use super::batch::{Layout, MicroBatch};
use super::config::{Activation, BertConfig};
use super::dropout::{Dropout, Place};
use super::parameter::Parameter;
use bam_crds::config::Precision;
use tch::{Kind, Tensor};

const EMBEDDINGS: [&str; 5] = [
    "word_embeddings.weight",
    "position_embeddings.weight",
    "token_type_embeddings.weight",
    "LayerNorm.weight",
    "LayerNorm.bias",
];

const LAYER: [&str; 16] = [
    "attention.self.query.weight",
    "attention.self.query.bias",
    "attention.self.key.weight",
    "attention.self.key.bias",
    "attention.self.value.weight",
    "attention.self.value.bias",
    "attention.output.dense.weight",
    "attention.output.dense.bias",
    "attention.output.LayerNorm.weight",
    "attention.output.LayerNorm.bias",
    "intermediate.dense.weight",
    "intermediate.dense.bias",
    "output.dense.weight",
    "output.dense.bias",
    "output.LayerNorm.weight",
    "output.LayerNorm.bias",
];

/// How many parameters are the embeddings'.
pub(super) const PARAMETERS_OF_EMBEDDINGS: usize = EMBEDDINGS.len();
/// How many each layer has.
pub(super) const PARAMETERS_OF_LAYER: usize = LAYER.len();

/// Names and shapes of all encoder parameters, in the order of the parameter list.
pub(super) fn shapes(config: &BertConfig) -> Vec<(String, Vec<i64>)> {
    let (hidden, wide) = (config.hidden_size, config.intermediate_size);
    let rows = [config.vocab_size, config.max_position_embeddings, config.type_vocab_size];
    let embeddings = EMBEDDINGS.iter().enumerate().map(|(at, name)| {
        let shape = rows.get(at).map_or(vec![hidden], |&rows| vec![rows, hidden]);
        (format!("embeddings.{name}"), shape)
    });
    let shape = |name: &str| match name {
        "intermediate.dense.weight" => vec![wide, hidden],
        "intermediate.dense.bias" => vec![wide],
        "output.dense.weight" => vec![hidden, wide],
        _ if name.ends_with("bias") || name.contains("LayerNorm") => vec![hidden],
        _ => vec![hidden, hidden],
    };
    let layers = (0..config.num_hidden_layers)
        .flat_map(|number| LAYER.map(|name| (format!("encoder.layer.{number}.{name}"), shape(name))));
    let pooler = ["weight", "bias"].map(|name| (format!("pooler.dense.{name}"), shape(name)));
    embeddings.chain(layers).chain(pooler).collect()
}

/// The encoder over a parameter list that begins with [`shapes`].
pub(super) struct Encoder<'a> {
    config: &'a BertConfig,
    activation: Activation,
    /// Of what goes into the layers' matrix products, and comes out.
    kind: Kind,
    embeddings: &'a [Parameter],
    layers: &'a [Parameter],
    pooler: Linear<'a>,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(config: &'a BertConfig, parameters: &'a [Parameter], precision: Precision) -> Self {
        let (embeddings, rest) = parameters.split_at(EMBEDDINGS.len());
        let (layers, rest) = rest.split_at(LAYER.len() * config.num_hidden_layers);
        let activation = config.activation().expect("the configuration of a model is validated");
        let kind = match precision {
            Precision::Fp32 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
        };
        Self { config, activation, kind, embeddings, layers, pooler: Linear::new(&rest[..2]) }
    }

    /// The way of a micro-batch through the encoder.
    pub(super) fn pass(&'a self, batch: &'a MicroBatch, dropout: &'a Dropout) -> Pass<'a> {
        let layout = batch.layout();
        let mask = layout.mask.to_kind(self.kind);
        Pass { encoder: self, batch, layout, mask, dropout }
    }
}

/// A dense layer: weight [out, in], bias [out].
struct Linear<'a> {
    weight: &'a Tensor,
    bias: &'a Tensor,
}

impl<'a> Linear<'a> {
    fn new(parameters: &'a [Parameter]) -> Self {
        Self { weight: &parameters[0].value, bias: &parameters[1].value }
    }

    /// In the number format of the input. A conversion to the format that a tensor has is the tensor itself.
    fn apply(&self, input: &Tensor) -> Tensor {
        let [weight, bias] = [self.weight, self.bias].map(|parameter| parameter.to_kind(input.kind()));
        input.linear(&weight, Some(&bias))
    }

    /// The same two parameters as a layer norm over the last axis.
    fn normalize(&self, input: &Tensor, epsilon: f64) -> Tensor {
        input.layer_norm(self.weight.size(), Some(self.weight), Some(self.bias), epsilon, false)
    }
}

/// The parameters of one layer by name, in the order of [`LAYER`].
struct Layer<'a> {
    query: Linear<'a>,
    key: Linear<'a>,
    value: Linear<'a>,
    attention_output: Linear<'a>,
    attention_norm: Linear<'a>,
    intermediate: Linear<'a>,
    output: Linear<'a>,
    output_norm: Linear<'a>,
}

impl<'a> Layer<'a> {
    fn new(parameters: &'a [Parameter]) -> Self {
        let pair = |number: usize| Linear::new(&parameters[2 * number..]);
        Self {
            query: pair(0),
            key: pair(1),
            value: pair(2),
            attention_output: pair(3),
            attention_norm: pair(4),
            intermediate: pair(5),
            output: pair(6),
            output_norm: pair(7),
        }
    }
}

/// One forward pass: what all layers share.
pub(super) struct Pass<'a> {
    encoder: &'a Encoder<'a>,
    batch: &'a MicroBatch,
    layout: Layout,
    mask: Tensor,
    dropout: &'a Dropout,
}

/// The tokens that a layer computes.
#[derive(Clone, Copy, PartialEq)]
enum Queries {
    All,
    /// Each row's first one.
    Firsts,
}

impl Pass<'_> {
    /// The pooled first token: f32 [rows, hidden].
    pub(super) fn pooled(&self) -> Tensor {
        let layers = 0..self.encoder.config.num_hidden_layers;
        self.pool(&layers.fold(self.embed(), |hidden, number| self.layer(number, &hidden)))
    }

    /// The pooler, on what the last layer makes: f32 [rows, hidden].
    pub(super) fn pool(&self, firsts: &Tensor) -> Tensor {
        self.encoder.pooler.apply(firsts).tanh()
    }

    /// Word, position and segment embeddings: f32 [tokens, hidden].
    pub(super) fn embed(&self) -> Tensor {
        self.dropout.begin(Place::Embeddings, &self.batch.rows);
        let [word, position, segment, norm @ ..] = self.encoder.embeddings else {
            unreachable!("the list begins with the three tables")
        };
        // A sparse gradient: a step touches a few thousand of the table's rows, and the dense one would cost a pass
        // over the whole table for each micro-batch (3 to 10 % of a step of MiniLM's size).
        let words = Tensor::embedding(&word.value, &self.batch.input_ids, -1, false, true);
        let segments = Tensor::embedding(&segment.value, &self.batch.segment_ids, -1, false, false);
        let positions = Tensor::embedding(&position.value, &self.layout.positions, -1, false, false);
        let normal = Linear::new(norm).normalize(&(words + segments + positions), self.encoder.config.layer_norm_eps);
        self.drop_hidden(normal, Queries::All, Place::Embeddings)
    }

    /// One layer: f32 [tokens, hidden], of the last one [rows, hidden]. `context` f32 [tokens, hidden] is what they attend to.
    pub(super) fn layer(&self, number: usize, context: &Tensor) -> Tensor {
        self.dropout.begin(Place::Probabilities(number), &self.batch.rows);
        let (epsilon, kind) = (self.encoder.config.layer_norm_eps, self.encoder.kind);
        let layer = &Layer::new(&self.encoder.layers[number * LAYER.len()..]);
        // The pooler reads only the first token, so the last layer computes only that one
        // (its keys and values still come from all). The same numbers for 5/6 less work there.
        let is_last = number + 1 == self.encoder.config.num_hidden_layers;
        let queries = if is_last { Queries::Firsts } else { Queries::All };
        let own = match queries {
            Queries::All => context.shallow_clone(),
            Queries::Firsts => context.index_select(0, &self.layout.firsts),
        };
        let attended = self.attend(number, layer, queries, &own.to_kind(kind), &context.to_kind(kind));
        let output = layer.attention_output.apply(&attended);
        let output = self.drop_hidden(output, queries, Place::Attention(number));
        let hidden = layer.attention_norm.normalize(&(output + own), epsilon);

        let wide = self.activate(layer.intermediate.apply(&hidden.to_kind(kind)));
        let output = self.drop_hidden(layer.output.apply(&wide), queries, Place::FeedForward(number));
        layer.output_norm.normalize(&(output + hidden), epsilon)
    }

    /// Attention of all heads: [queries, hidden], of the `own` tokens [queries, hidden].
    ///
    /// softmax(Q K^T / sqrt(head size) + mask) V. The scale is applied to Q, which is smaller than the scores.
    /// libtorch's fused attention is no faster on a CPU (12 heads, 32 rows of 64 tokens, forward and backward: 9.6 against 9.3 ms)
    /// and has no place for this dropout.
    fn attend(&self, number: usize, layer: &Layer<'_>, queries: Queries, own: &Tensor, context: &Tensor) -> Tensor {
        let (config, layout) = (self.encoder.config, &self.layout);
        let query = layer.query.apply(own) / (config.head_size() as f64).sqrt();
        let query = match queries {
            Queries::All => self.split(&layout.pad(&query)),
            Queries::Firsts => self.split(&query.unsqueeze(1)),
        };
        let key = self.split(&layout.pad(&layer.key.apply(context)));
        let value = self.split(&layout.pad(&layer.value.apply(context)));
        let scores = query.matmul(&key.transpose(-1, -2)) + &self.mask;
        let rate = config.attention_probs_dropout_prob;
        let probabilities = scores.softmax(-1, scores.kind());
        let kept = self.dropout.apply(probabilities, rate, &self.batch.rows, Place::Probabilities(number));
        let attended = kept.matmul(&value).transpose(1, 2);
        match queries {
            Queries::All => layout.unpad(&attended),
            Queries::Firsts => attended.reshape(own.size()),
        }
    }

    /// [rows, tokens, hidden] to [rows, heads, tokens, head size].
    fn split(&self, hidden: &Tensor) -> Tensor {
        let config = self.encoder.config;
        let (rows, tokens) = (hidden.size()[0], hidden.size()[1]);
        hidden.view([rows, tokens, config.num_attention_heads, config.head_size()]).transpose(1, 2)
    }

    fn activate(&self, wide: Tensor) -> Tensor {
        match self.encoder.activation {
            Activation::Linear => wide,
            Activation::Relu => wide.relu(),
            Activation::Gelu => wide.gelu("none"),
            Activation::Tanh => wide.tanh(),
        }
    }

    fn drop_hidden(&self, hidden: Tensor, queries: Queries, place: Place) -> Tensor {
        let (rate, rows) = (self.encoder.config.hidden_dropout_prob, &self.batch.rows);
        match queries {
            Queries::All => self.dropout.apply_to_tokens(hidden, rate, rows, &self.batch.lengths, place),
            Queries::Firsts => self.dropout.apply(hidden, rate, rows, place),
        }
    }
}
