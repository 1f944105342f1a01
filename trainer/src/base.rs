//! The pretrained model that a run starts from: configuration, vocabulary, weights, and whether they belong together.

use std::fs;
use std::path::Path;

use bam_crds::config::ModelIdentity;
use bam_crds::{ExitReason, Hyperparameters};

use crate::data::tokenize::{Tokenizer, VocabError};
use crate::failure::{Failure, Problems};
use crate::model::{Pretrained, WeightsError};
use crate::prepare::{same, unchanged};

/// A pretrained model whose parts fit each other.
#[derive(Debug)]
pub struct Base {
    /// Where its files are. The configuration is that of the model to train: smaller in debug mode.
    pub pretrained: Pretrained,
    /// Layers that the learning rate's decay counts: those of the configuration file, also in debug mode.
    pub layers: usize,
    /// Turns text into word pieces.
    pub tokenizer: Tokenizer,
    /// The content of the vocabulary, which goes with the trained model.
    pub word_pieces: Vec<u8>,
}

impl Base {
    /// Opens the model in a folder, and checks everything but the values of its weights.
    pub fn open(folder: &Path, options: &Hyperparameters, problems: &mut Problems) -> Option<Self> {
        let mut pretrained = problems.take(Pretrained::find(folder, !options.debug))?;
        let layers = pretrained.config.num_hidden_layers;
        if options.debug {
            pretrained.config = pretrained.config.debug();
        }
        pretrained.config = pretrained.config.with_dropout(options);
        let configuration = pretrained.configuration.display();
        for problem in pretrained.config.validate() {
            problems.push(ExitReason::BadData, format!("{configuration}: {problem}"));
        }
        if let Some(problem) = pretrained.config.length_problem(options.max_seq_length.into()) {
            problems.push(ExitReason::BadConfig, format!("{configuration}: {problem}"));
        }
        let vocabulary = &pretrained.vocabulary;
        let word_pieces = fs::read(vocabulary).map_err(|error| Failure::store("read", vocabulary, &error));
        let word_pieces = problems.take(word_pieces)?;
        let tokenizer = Tokenizer::from_bytes(&word_pieces, vocabulary, options.do_lower_case);
        let tokenizer = problems.take(tokenizer)?;
        let (pieces, rows) = (tokenizer.vocab_size(), pretrained.config.vocab_size);
        if (rows as usize) < pieces {
            let message = format!(
                "{}: the vocabulary has {pieces} word pieces, but the model embeds {rows}: take the vocab.txt that belongs \
                 to these weights",
                vocabulary.display(),
            );
            problems.push(ExitReason::BadData, message);
        } else {
            problems.take(pretrained.check_weights())?;
        }
        Some(Self { pretrained, layers, tokenizer, word_pieces })
    }

    /// Are the files still those that the check of the inputs saw?
    pub fn is_still(&self, expected: &ModelIdentity, problems: &mut Problems) -> bool {
        let results = [
            same(&self.pretrained.configuration, Some(&expected.config)),
            same(&self.pretrained.vocabulary, Some(&expected.vocabulary)),
            self.pretrained
                .weights
                .as_ref()
                .map_or(Ok(()), |weights| unchanged(&weights.path(), weights.digest(), expected.weights.as_ref())),
        ];
        let results = results.map(|result| problems.take(result).is_some());
        !results.contains(&false)
    }
}

impl From<WeightsError> for Failure {
    fn from(error: WeightsError) -> Self {
        let reason = match error {
            WeightsError::Incomplete { .. } => ExitReason::MissingInput,
            _ if error.may_pass() => ExitReason::StoreUnavailable,
            _ => ExitReason::BadData,
        };
        Self::new(reason, error.to_string())
    }
}

impl From<VocabError> for Failure {
    fn from(error: VocabError) -> Self {
        let reason = match (error.is_missing_input(), error.may_pass()) {
            (true, _) => ExitReason::MissingInput,
            (_, true) => ExitReason::StoreUnavailable,
            _ => ExitReason::BadData,
        };
        Self::new(reason, error.to_string())
    }
}
