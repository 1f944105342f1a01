//! Where data and weights come from unless somebody says otherwise. No other file names a host.
//!
//! GLUE's files never change, so what they are by content stands here too: the digests are those that several public
//! projects have recorded of them.

/// What GLUE's files are below: `glue/data/` and `senteval/senteval_data/`.
pub const GLUE_URL: &str = "https://dl.fbaipublicfiles.com/";
/// A model repository in Hugging Face's layout: `ORG/NAME/resolve/REVISION/FILE`.
pub const MODEL_URL: &str = "https://huggingface.co/";

/// A model's largest file.
pub const WEIGHTS: &str = "model.safetensors";
/// Files without which a pretrained model is none.
pub const MODEL_FILES: [&str; 3] = ["config.json", "vocab.txt", WEIGHTS];
/// Files that are taken if the repository has them: for other programs, this one does not read them.
pub const MODEL_EXTRAS: [&str; 1] = ["tokenizer_config.json"];

/// A file that somebody publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Below [`GLUE_URL`].
    pub path: &'static str,
    /// What it is.
    pub sha256: &'static str,
    /// How large it is.
    pub bytes: u64,
}

impl Published {
    /// The last part of its path.
    pub fn name(&self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }
}

/// A data set: its name, which is also its folder's, and what the folder is made of.
#[derive(Clone, Copy, Debug)]
pub struct DataSet {
    /// The task's name.
    pub task: &'static str,
    /// What gives the folder's files.
    pub parts: &'static [Part],
}

/// Something published, and which files it gives.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// Some files of a zip archive, which holds them in one folder.
    Archive(Published, &'static [&'static str]),
    /// One file as it is, under a name of our own.
    File(Published, &'static str),
    /// MRPC, which its owner gives away whole but not in GLUE's split: rows to split, rows to test on, and the ids of the
    /// pairs that are GLUE's dev set.
    Mrpc([Published; 3]),
}

impl Part {
    /// What is published.
    pub fn sources(&self) -> &[Published] {
        match self {
            Self::Archive(source, _) | Self::File(source, _) => std::slice::from_ref(source),
            Self::Mrpc(sources) => sources,
        }
    }

    /// What it gives.
    pub fn files(&self) -> &[&'static str] {
        match self {
            Self::Archive(_, files) => files,
            Self::File(_, name) => std::slice::from_ref(name),
            Self::Mrpc(_) => &SPLITS,
        }
    }
}

const SPLITS: [&str; 3] = ["train.tsv", "dev.tsv", "test.tsv"];
const MNLI_SPLITS: [&str; 5] =
    ["train.tsv", "dev_matched.tsv", "dev_mismatched.tsv", "test_matched.tsv", "test_mismatched.tsv"];

const fn published(path: &'static str, bytes: u64, sha256: &'static str) -> Published {
    Published { path, sha256, bytes }
}

/// GLUE, by name.
pub const DATA_SETS: [DataSet; 9] = [
    DataSet {
        task: "cola",
        parts: &[Part::Archive(
            published(
                "glue/data/CoLA.zip",
                376_971,
                "f212fcd832b8f7b435fb991f101abf89f96b933ab400603bf198960dfc32cbff",
            ),
            &SPLITS,
        )],
    },
    DataSet {
        task: "mnli",
        parts: &[
            Part::Archive(
                published(
                    "glue/data/MNLI.zip",
                    312_783_507,
                    "e7c1d896d26ed6caf700110645df426cc2d8ebf02a5ab743d5a5c68ac1c83633",
                ),
                &MNLI_SPLITS,
            ),
            Part::File(
                published(
                    "glue/data/AX.tsv",
                    222_257,
                    "0e13510b1bb14436ff7e2ee82338f0efb0133ecf2e73507a697dc210db3f05fd",
                ),
                "diagnostic.tsv",
            ),
        ],
    },
    DataSet {
        task: "mrpc",
        parts: &[Part::Mrpc([
            published(
                "senteval/senteval_data/msr_paraphrase_train.txt",
                1_047_044,
                "60a9b09084528f0673eedee2b69cb941920f0b8cd0eeccefc464a98768457f89",
            ),
            published(
                "senteval/senteval_data/msr_paraphrase_test.txt",
                441_275,
                "a04e271090879aaba6423d65b94950c089298587d9c084bf9cd7439bd785f784",
            ),
            published(
                "glue/data/mrpc_dev_ids.tsv",
                6_222,
                "971d7767d81b997fd9060ade0ec23c4fc31cbb226a55d1bd4a1bac474eb81dc7",
            ),
        ])],
    },
    DataSet {
        task: "qnli",
        parts: &[Part::Archive(
            published(
                "glue/data/QNLIv2.zip",
                10_627_589,
                "e634e78627a29adaecd4f955359b22bf5e70f2cbd93b493f2d624138a0c0e5f5",
            ),
            &SPLITS,
        )],
    },
    DataSet {
        task: "qqp",
        parts: &[Part::Archive(
            published(
                "glue/data/QQP-clean.zip",
                41_696_084,
                "40e7c862c04eb26ee04b67fd900e76c45c6ba8e6d8fab4f8f1f8072a1a3fbae0",
            ),
            &SPLITS,
        )],
    },
    DataSet {
        task: "rte",
        parts: &[Part::Archive(
            published("glue/data/RTE.zip", 697_150, "6bf86de103ecd335f3441bd43574d23fef87ecc695977a63b82d5efb206556ee"),
            &SPLITS,
        )],
    },
    DataSet {
        task: "sst",
        parts: &[Part::Archive(
            published(
                "glue/data/SST-2.zip",
                7_439_277,
                "d67e16fb55739c1b32cdce9877596db1c127dc322d93c082281f64057c16deaa",
            ),
            &SPLITS,
        )],
    },
    DataSet {
        task: "sts",
        parts: &[Part::Archive(
            published(
                "glue/data/STS-B.zip",
                802_872,
                "e60a6393de5a8b5b9bac5020a1554b54e3691f9d600b775bd131e613ac179c85",
            ),
            &SPLITS,
        )],
    },
    DataSet {
        task: "wnli",
        parts: &[Part::Archive(
            published("glue/data/WNLI.zip", 28_999, "ae0e8e4d16f4d46d4a0a566ec7ecceccfd3fbfaa4a7a4b4e02848c0f2561ac46"),
            &SPLITS,
        )],
    },
];

/// A data set by its task's name.
pub fn data_set(task: &str) -> Option<&'static DataSet> {
    DATA_SETS.iter().find(|set| set.task == task)
}

#[cfg(test)]
mod tests {
    use bam_crds::Digest;

    use super::*;
    use crate::task::{self, Split};

    #[test]
    fn every_file_of_every_built_in_task_comes_from_somewhere() {
        for name in task::names() {
            let set = data_set(name).unwrap_or_else(|| panic!("{name} has no source"));
            let files: Vec<_> = set.parts.iter().flat_map(Part::files).collect();
            // GLUE does not publish the gold labels of its diagnostic set; they are scored where they lie beside it.
            let published = |split: &Split| *split != Split::DiagnosticGold;
            for layout in task::find(name).unwrap().layouts.iter().filter(|layout| published(&layout.split)) {
                assert!(files.contains(&&layout.file.as_str()), "{name}: {}", layout.file);
            }
        }
    }

    #[test]
    fn no_two_sources_share_a_name_since_a_lock_file_tells_them_apart_by_it() {
        let sources: Vec<_> = DATA_SETS.iter().flat_map(|set| set.parts).flat_map(Part::sources).collect();
        let mut names: Vec<_> = sources.iter().map(|source| source.name()).chain(MODEL_FILES).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
        for source in sources {
            source.sha256.parse::<Digest>().unwrap();
        }
    }
}
