//! The options of the reference that decide what is learned: their names, types, defaults and bounds, in one table.
//!
//! Two shapes of the same table: [`HyperparameterOverrides`] is what a person writes (nothing is required), and
//! [`Hyperparameters`] is what a run gets (everything is resolved). Source: the reference's option table and its
//! overrides for a single task and for `debug`.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::quantity::int_or_string;

/// A decimal number as text ("5e-5"), since Kubernetes keeps floating point out of its APIs. Whole numbers may stand
/// without quotes.
#[derive(Clone, Debug, PartialEq)]
pub struct Decimal {
    text: String,
    value: f64,
}

/// What a [`Decimal`] may look like.
pub const DECIMAL_PATTERN: &str = r"^-?[0-9]{1,12}(\.[0-9]{1,18})?([eE][-+]?[0-9]{1,2})?$";

impl Decimal {
    /// Its value.
    pub fn value(&self) -> f64 {
        self.value
    }
}

impl From<f64> for Decimal {
    fn from(value: f64) -> Self {
        let text = value.to_string();
        Self { text, value }
    }
}

impl std::str::FromStr for Decimal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Self { text: text.to_owned(), value }),
            _ => Err(format!("{text:?} is not a decimal number (write it like \"5e-5\" or \"0.1\")")),
        }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = int_or_string(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Decimal {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Decimal".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "pattern": DECIMAL_PATTERN,
            "maxLength": 40,
        })
    }
}

/// The largest seed that a person may give: with a trial added it is still far from what a `u32` holds.
pub const LARGEST_SEED: u32 = 1_000_000_000;

/// From what a person wrote to what a run gets.
trait Resolve<T> {
    fn resolve(&self) -> T;
}
impl Resolve<f64> for Decimal {
    fn resolve(&self) -> f64 {
        self.value()
    }
}
impl Resolve<Option<f64>> for Decimal {
    fn resolve(&self) -> Option<f64> {
        Some(self.value())
    }
}
impl Resolve<u32> for u32 {
    fn resolve(&self) -> u32 {
        *self
    }
}
impl Resolve<Option<u32>> for u32 {
    fn resolve(&self) -> Option<u32> {
        Some(*self)
    }
}
impl Resolve<bool> for bool {
    fn resolve(&self) -> bool {
        *self
    }
}

macro_rules! hyperparameters {
    ($(
        $(#[doc = $doc:literal])+
        $(#[schemars($($schema:tt)*)])?
        $name:ident: $given:ty => $resolved:ty = $default:expr;
    )+) => {
        /// What a person may set; what is absent has the reference's default.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub struct HyperparameterOverrides {
            $(
                $(#[doc = $doc])+
                $(#[schemars($($schema)*)])?
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $name: Option<$given>,
            )+
        }

        /// Every option, resolved. Written without those that are at the reference's default.
        #[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields, default)]
        pub struct Hyperparameters {
            $( $(#[doc = $doc])+ pub $name: $resolved, )+
        }

        impl Default for Hyperparameters {
            fn default() -> Self {
                Self { $( $name: $default, )+ }
            }
        }

        impl Serialize for Hyperparameters {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let default = Self::default();
                let mut map = serializer.serialize_map(None)?;
                $(
                    if self.$name != default.$name {
                        map.serialize_entry(&camel_case(stringify!($name)), &self.$name)?;
                    }
                )+
                map.end()
            }
        }

        impl HyperparameterOverrides {
            /// These, and where they are silent, `base`.
            #[must_use]
            pub fn or(self, base: &Self) -> Self {
                Self { $( $name: self.$name.or_else(|| base.$name.clone()), )+ }
            }

            fn apply(&self, to: &mut Hyperparameters) {
                $( if let Some(given) = &self.$name { to.$name = given.resolve(); } )+
            }
        }

        /// The names of all options as the reference's command line spells them (snake case).
        pub const NAMES: &[&str] = &[$( stringify!($name), )+];
    };
}

hyperparameters! {
    /// Peak learning rate, that of the heads; deeper layers have less (`lrDecay`). Default 1e-4; one task 5e-5.
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "double(string(self)) > 0.0 && double(string(self)) <= 1.0", "message": "must be above 0 and at most 1"}]))]
    learning_rate: Decimal => f64 = 1e-4;
    /// Decoupled weight decay; biases and layer norms have none. Default 0.01.
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "double(string(self)) >= 0.0 && double(string(self)) <= 1.0", "message": "must be between 0 and 1"}]))]
    weight_decay_rate: Decimal => f64 = 0.01;
    /// Factor of the learning rate from one layer to the next deeper one; 0 or less: one rate for all. Default 0.9.
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "double(string(self)) <= 1.0", "message": "must be at most 1"}]))]
    lr_decay: Decimal => f64 = 0.9;
    /// Passes over the training set, repeats of small tasks counted in. Default 6; one task or debug 3.
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "double(string(self)) > 0.0 && double(string(self)) <= 10000.0", "message": "must be above 0 and at most 10000"}]))]
    num_train_epochs: Decimal => f64 = 6.0;
    /// Share of the steps in which the learning rate rises. Default 0.1.
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "double(string(self)) >= 0.0 && double(string(self)) <= 1.0", "message": "must be between 0 and 1"}]))]
    warmup_proportion: Decimal => f64 = 0.1;
    /// Longest input in word pieces, `[CLS]` and `[SEP]` counted; longer ones are cut. Default 128.
    #[schemars(range(min = 8, max = 4096))]
    max_seq_length: u32 => u32 = 128;
    /// Rows of one optimizer step. Default 128; one task or debug 32.
    #[schemars(range(min = 1, max = 65536))]
    train_batch_size: u32 => u32 = 128;
    /// Lower-case the text and strip accents; must suit the vocabulary. Default true.
    do_lower_case: bool => bool = true;
    /// Add a copy of every MRPC and STS training row with its sentences swapped. Default true.
    double_unordered: bool => bool = true;
    /// A task's influence grows with its size to this power; below 0 (and without `datasetMultiples`) all count the
    /// same. Default 0.75.
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "double(string(self)) <= 10.0", "message": "must be at most 10"}]))]
    task_weight_exponent: Decimal => f64 = 0.75;
    /// Repeat small GLUE tasks within an epoch. Default true; one task or debug false.
    dataset_multiples: bool => bool = true;
    /// A tiny random model and the first 50 lines of every file, to see that everything works. Default false.
    debug: bool => bool = false;
    /// Dropout rate of the embeddings and of both outputs of every layer. Default: the model configuration's.
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "double(string(self)) >= 0.0 && double(string(self)) < 1.0", "message": "must be at least 0 and below 1"}]))]
    hidden_dropout_prob: Decimal => Option<f64> = None;
    /// Dropout rate of the attention probabilities. Default: the model configuration's.
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "double(string(self)) >= 0.0 && double(string(self)) < 1.0", "message": "must be at least 0 and below 1"}]))]
    attention_probs_dropout_prob: Decimal => Option<f64> = None;
    /// Dropout rate of what the heads read. Default 0.1.
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "double(string(self)) >= 0.0 && double(string(self)) < 1.0", "message": "must be at least 0 and below 1"}]))]
    head_dropout_prob: Decimal => f64 = 0.1;
    /// Seed of what begins random: the heads, and what the pretrained weights lack. Default: the run's seed.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    init_seed: u32 => Option<u32> = None;
    /// Seed of the order of the training rows. Default: the run's seed.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    data_seed: u32 => Option<u32> = None;
    /// Seed of dropout. Default: the run's seed.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    dropout_seed: u32 => Option<u32> = None;
}

impl HyperparameterOverrides {
    /// The reference's order of resolution: its defaults, its overrides for a single task, those of `debug`, and what
    /// the user gave above them all.
    pub fn resolve(&self, tasks: usize) -> Hyperparameters {
        let mut resolved = Hyperparameters::default();
        if tasks == 1 {
            resolved.dataset_multiples = false;
            resolved.train_batch_size = 32;
            resolved.num_train_epochs = 3.0;
            resolved.learning_rate = 5e-5;
        }
        if self.debug == Some(true) {
            resolved.train_batch_size = 32;
            resolved.num_train_epochs = 3.0;
            resolved.dataset_multiples = false;
        }
        self.apply(&mut resolved);
        resolved
    }

    /// The part that describes the inputs and not the training: a teacher reads its rows as its student does unless
    /// the user says otherwise.
    #[must_use]
    pub fn of_inputs(&self) -> Self {
        Self {
            max_seq_length: self.max_seq_length,
            do_lower_case: self.do_lower_case,
            double_unordered: self.double_unordered,
            debug: self.debug,
            ..Self::default()
        }
    }
}

impl Hyperparameters {
    /// All values that are out of range, each as (option in snake case, sentence).
    ///
    /// The manifest's schema and rules refuse these too; this is for the reference's command line, and for a trainer
    /// that trusts nobody.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut check = |holds: bool, option, must: &str, got: f64| {
            if !holds {
                problems.push((option, format!("must be {must}, but is {got}")));
            }
        };
        let rate = self.learning_rate;
        check(rate > 0.0 && rate <= 1.0, "learning_rate", "above 0 and at most 1", rate);
        let decay = self.weight_decay_rate;
        check((0.0..=1.0).contains(&decay), "weight_decay_rate", "between 0 and 1", decay);
        check(self.lr_decay <= 1.0, "lr_decay", "at most 1", self.lr_decay);
        let epochs = self.num_train_epochs;
        check(epochs > 0.0 && epochs <= 10_000.0, "num_train_epochs", "above 0 and at most 10000", epochs);
        let warmup = self.warmup_proportion;
        check((0.0..=1.0).contains(&warmup), "warmup_proportion", "between 0 and 1", warmup);
        let length = self.max_seq_length;
        check((8..=4096).contains(&length), "max_seq_length", "between 8 and 4096", length.into());
        let batch = self.train_batch_size;
        check((1..=65_536).contains(&batch), "train_batch_size", "between 1 and 65536", batch.into());
        let exponent = self.task_weight_exponent;
        check(exponent <= 10.0, "task_weight_exponent", "at most 10", exponent);
        for (option, rate) in [
            ("hidden_dropout_prob", self.hidden_dropout_prob),
            ("attention_probs_dropout_prob", self.attention_probs_dropout_prob),
            ("head_dropout_prob", Some(self.head_dropout_prob)),
        ] {
            let rate = rate.unwrap_or_default();
            check((0.0..1.0).contains(&rate), option, "at least 0 and below 1", rate);
        }
        for (option, seed) in
            [("init_seed", self.init_seed), ("data_seed", self.data_seed), ("dropout_seed", self.dropout_seed)]
        {
            let seed = seed.unwrap_or_default();
            check(seed <= LARGEST_SEED, option, "between 0 and 1000000000", seed.into());
        }
        problems
    }
}

/// `learning_rate` -> `learningRate`.
pub fn camel_case(snake: &str) -> String {
    let mut words = snake.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let (head, tail) = word.split_at(word.len().min(1));
        name + &head.to_ascii_uppercase() + tail
    })
}
