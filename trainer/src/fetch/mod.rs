//! Data and pretrained weights from where they are published into a BAM_DIR: `bam-trainer fetch`.
//!
//! Every folder is fetched by itself, and is there whole or not at all ([`place`]). One that is there needs no network:
//! its files are compared with what was recorded of them. What was downloaded before a kill is not downloaded again
//! ([`download`]). The hosts stand in [`source`].

mod archive;
mod data;
mod download;
mod http;
mod lock;
mod model;
mod mrpc;
mod place;
mod source;

use std::path::{Path, PathBuf};

use bam_crds::{Digest, ExitReason, Fetch, InputsConfig, nearest, store as layout};
use url::Url;

use crate::failure::{Failure, Problems};
use crate::report::Reporter;
use archive::ArchiveError;
use download::{DownloadError, Downloader};
use http::HttpError;
use place::{Found, Place, Record};

pub use download::Patience;
pub use http::Client;
pub use lock::Lock;
pub use source::{DATA_SETS, GLUE_URL, MODEL_URL};

/// The branch that a model repository begins with.
pub const MAIN: &str = "main";

/// What to fetch, and from where.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where it goes: to `glue_data` and `pretrained_models` of this folder.
    pub bam_dir: PathBuf,
    /// Tasks of GLUE whose data are wanted.
    pub tasks: Vec<String>,
    /// What GLUE's files are below.
    pub glue_url: Url,
    /// The model that is wanted.
    pub model: Option<ModelRequest>,
    /// Digests of all that may be taken; absent: GLUE's known ones, and any model.
    pub lock: Option<Lock>,
}

/// A model of a repository.
#[derive(Clone, Debug)]
pub struct ModelRequest {
    /// The repository's address.
    pub url: Url,
    /// The model's name there: `ORG/NAME`.
    pub model: String,
    /// A branch, a tag or a commit.
    pub revision: String,
    /// The folder's name in `pretrained_models`; absent: the last part of the model's.
    pub folder: Option<String>,
}

impl ModelRequest {
    /// The folder's name in `pretrained_models`.
    pub fn folder(&self) -> &str {
        self.folder.as_deref().unwrap_or_else(|| self.model.rsplit('/').next().unwrap_or(&self.model))
    }
}

/// What it takes to fetch.
#[derive(Debug)]
pub struct Fetcher<'a> {
    /// Asks servers.
    pub client: Client,
    /// How often.
    pub patience: Patience,
    /// Hears how it goes.
    pub reporter: &'a Reporter,
}

/// Fetches what is missing.
///
/// # Errors
/// All problems at once. What could be fetched is in its place, whatever else could not.
pub fn fetch(request: &Request, fetcher: Fetcher<'_>) -> Result<(), Failure> {
    check(request)?;
    carry_out(request, fetcher)
}

fn carry_out(request: &Request, mut fetcher: Fetcher<'_>) -> Result<(), Failure> {
    let mut problems = Problems::default();
    for task in &request.tasks {
        let set = source::data_set(task).expect("it was checked");
        fetcher.one(data::fetch(request, set, &fetcher), &mut problems);
    }
    if let Some(wanted) = &request.model {
        fetcher.one(model::fetch(request, wanted, &fetcher), &mut problems);
    }
    fetcher.reporter.finish();
    problems.check()
}

/// Fetches what an experiment's inputs lack. Folders that somebody else has filled are left to the check that follows: it
/// knows which of the files are needed.
///
/// # Errors
/// All problems at once.
pub fn inputs(config: &InputsConfig, wanted: &Fetch, reporter: &Reporter) -> Result<(), Failure> {
    let url = |field: &str, url: Option<&str>, default: &str| {
        let url = url.unwrap_or(default);
        url.parse::<Url>()
            .map_err(|error| Failure::new(ExitReason::BadConfig, format!("fetch.{field}: {url}: {error}")))
    };
    let (glue_url, model_url) = (
        url("glueUrl", wanted.glue_url.as_deref(), GLUE_URL)?,
        url("modelUrl", wanted.model_url.as_deref(), MODEL_URL)?,
    );
    let client = Client::from_environment(&model_url);
    let mut request = Request {
        bam_dir: config.execution.store.clone().into(),
        tasks: if wanted.glue { config.tasks.clone() } else { Vec::new() },
        glue_url,
        model: wanted.model.as_ref().map(|model| ModelRequest {
            url: model_url,
            model: model.clone(),
            revision: wanted.revision.clone().unwrap_or_else(|| MAIN.to_owned()),
            folder: Some(config.execution.pretrained.clone()),
        }),
        lock: Lock::of(&wanted.lock),
    };
    check(&request)?;
    let foreign = |place: Place| matches!(place.look(&[]), Ok(Found::Foreign(_)));
    let bam_dir = &request.bam_dir;
    request.tasks.retain(|task| !foreign(data_place(bam_dir, task)));
    request.model = request.model.filter(|model| !foreign(model_place(bam_dir, model.folder())));
    carry_out(&request, Fetcher { client, patience: Patience::default(), reporter })
}

/// All that is wrong with a request.
fn check(request: &Request) -> Result<(), Failure> {
    let mut problems = Problems::default();
    let mut bad = |problem: String| problems.push(ExitReason::BadConfig, problem);
    if request.tasks.is_empty() && request.model.is_none() {
        bad("nothing to fetch: name --tasks, a --model, or both".to_owned());
    }
    let known: Vec<_> = DATA_SETS.iter().map(|set| set.task).collect();
    for task in request.tasks.iter().filter(|task| !known.contains(&task.as_str())) {
        let nearest = nearest(task, known.iter().copied()).map(|nearest| format!("; did you mean {nearest}?"));
        let tasks = known.join(", ");
        bad(format!("--tasks: GLUE has no task {task:?}{} They are {tasks}", nearest.unwrap_or(".".into())));
    }
    let mut urls = vec![("--glue-url", &request.glue_url)];
    if let Some(wanted) = &request.model {
        urls.push(("--model-url", &wanted.url));
        let parts: Vec<_> = wanted.model.split('/').collect();
        if parts.len() > 2 || !parts.iter().all(|part| is_name(part)) {
            bad(format!("--model: {:?} is no name of a model, such as google-bert/bert-base-uncased", wanted.model));
        } else if !is_name(wanted.folder()) {
            bad(format!(
                "--as: {:?} cannot be a folder's name: use letters, digits, '.', '_' and '-'",
                wanted.folder()
            ));
        }
        if wanted.revision.is_empty() || !wanted.revision.split('/').all(is_name) {
            bad(format!("--revision: {:?} is no branch, tag or commit", wanted.revision));
        }
    }
    for (option, url) in urls {
        if !matches!(url.scheme(), "http" | "https") {
            bad(format!("{option}: {url} must begin with https:// or http://"));
        } else if !url.username().is_empty() || url.password().is_some() {
            // Addresses are shown, and kept beside the files.
            bad(format!("{option}: leave user and password out"));
        }
    }
    problems.check()
}

/// Letters, digits and a few signs: safe in a path, and in an address.
fn is_name(text: &str) -> bool {
    let allowed = |sign: char| sign.is_ascii_alphanumeric() || matches!(sign, '.' | '_' | '-');
    (1..=96).contains(&text.len()) && text.chars().all(allowed) && !text.starts_with('.')
}

impl<'a> Fetcher<'a> {
    fn one(&mut self, result: Result<(), Failure>, problems: &mut Problems) {
        if matches!(&result, Err(failure) if failure.reason == ExitReason::StoreUnavailable) {
            // Nobody answered for half a minute: the next ones need not wait as long to hear the same.
            self.patience.tries = 1;
        }
        problems.take(result);
    }

    fn downloader<'b>(&'b self, work: &'b Path) -> Downloader<'b> {
        Downloader { client: &self.client, patience: self.patience, reporter: self.reporter, work }
    }

    /// Fills a place by `fill`, unless it is filled. `wanted` is what its record would begin with, `needed` are the files
    /// that it cannot do without.
    fn ensure(
        &self,
        place: &Place,
        (wanted, needed): (&Record, &[&str]),
        lock: Option<&Lock>,
        fill: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.is_there(place, (wanted, needed), lock)? {
            return Ok(());
        }
        let _others_wait = place.keep_out_others(self.reporter)?;
        // Somebody may have done it meanwhile.
        if !self.is_there(place, (wanted, needed), lock)? {
            fill()?;
            self.reporter.note(&format!("{}: fetched", place.folder().display()));
        }
        Ok(())
    }

    fn is_there(
        &self,
        place: &Place,
        (wanted, needed): (&Record, &[&str]),
        lock: Option<&Lock>,
    ) -> Result<bool, Failure> {
        let folder = place.folder();
        match place.look(needed)? {
            Found::Nothing => return Ok(false),
            Found::Fetched(record) => {
                if (&record.name, &record.revision) != (&wanted.name, &wanted.revision) {
                    let (is, asked) = (record.title(), wanted.title());
                    let advice = place.move_away();
                    let message = format!("{}: holds {is}, not {asked}; {advice}, or use --as", folder.display());
                    return Err(Failure::new(ExitReason::BadData, message));
                }
                place.check(&record, lock)?;
                self.reporter.note(&format!("{}: in place, as it was fetched", folder.display()));
            }
            Found::Foreign(missing) if missing.is_empty() => {
                self.reporter.note(&format!("{}: in place, not from here; it is left alone", folder.display()));
            }
            Found::Foreign(missing) => {
                let (lacks, advice) = (missing.join(" and "), place.move_away());
                let message = format!(
                    "{}: lacks {lacks}, and is left alone since it is not from here; {advice}",
                    folder.display()
                );
                return Err(Failure::new(ExitReason::MissingInput, message));
            }
        }
        Ok(true)
    }
}

/// What a source has to be: what the lock file says, if there is one.
///
/// # Errors
/// If it is not in the lock file.
fn expected(lock: Option<&Lock>, name: &str, known: Option<&str>) -> Result<Option<Digest>, Failure> {
    match lock {
        None => Ok(known.map(|digest| digest.parse().expect("the tests have seen it parsed"))),
        Some(lock) => match lock.get(name) {
            Some(digest) => Ok(Some(digest.clone())),
            None => Err(Failure::new(
                ExitReason::BadConfig,
                format!("the lock file does not list {name}, and nothing else is taken"),
            )),
        },
    }
}

/// An address below another one.
fn below<'a>(base: &Url, parts: impl IntoIterator<Item = &'a str>) -> Url {
    let mut url = base.clone();
    url.path_segments_mut().expect("it was checked").pop_if_empty().extend(parts);
    url
}

fn data_place(bam_dir: &Path, task: &str) -> Place {
    place(bam_dir, &layout::glue_data(task))
}

fn model_place(bam_dir: &Path, name: &str) -> Place {
    place(bam_dir, &layout::pretrained(name))
}

fn place(bam_dir: &Path, folder: &str) -> Place {
    let (parent, name) = folder.split_once('/').expect("inputs lie two folders deep");
    Place::new(bam_dir.join(parent), name)
}

/// What to do about a download that failed.
fn failure(error: DownloadError, place: &Place, needed: &[&str]) -> Failure {
    let by_hand = || format!("without a network, put {} into {}", needed.join(", "), place.folder().display());
    let (reason, advice) = match &error {
        DownloadError::Http(http) if http.may_pass() => (
            ExitReason::StoreUnavailable,
            format!("; try again: what came is kept; if a proxy leads out, name it in HTTPS_PROXY; {}", by_hand()),
        ),
        DownloadError::Http(HttpError::Status { status, .. }) if matches!(status.as_u16(), 401 | 403) => {
            let advice = "; check the name; if it wants a token, set HF_TOKEN and accept its terms on its page";
            (ExitReason::MissingInput, advice.to_owned())
        }
        DownloadError::Http(_) => {
            (ExitReason::MissingInput, format!("; check the name and the address, or {}", by_hand()))
        }
        DownloadError::Digest { .. } | DownloadError::TooLarge { .. } => (ExitReason::BadData, String::new()),
        DownloadError::Write(_) => (ExitReason::StoreUnavailable, String::new()),
    };
    Failure::new(reason, format!("{error}{advice}"))
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Write(error) => error.into(),
            error => Self::new(ExitReason::BadData, error.to_string()),
        }
    }
}
