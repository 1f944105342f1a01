//! A pretrained model: the files of one commit of a model repository.

use std::collections::BTreeMap;

use bam_crds::ExitReason;

use super::download::{DownloadError, Wanted};
use super::place::{Place, Record, Source};
use super::source::{MODEL_EXTRAS, MODEL_FILES, WEIGHTS};
use super::{Fetcher, ModelRequest, Request, below, expected, failure, model_place};
use crate::failure::{Failure, Problems};
use crate::model::BertConfig;

/// The largest weights; those of BERT-large have 1.3 GB.
const LARGEST_WEIGHTS: u64 = 16 << 30;
/// The largest of all other files; vocabularies of a hundred languages have 1 MB.
const LARGEST: u64 = 64 << 20;

pub(super) fn fetch(request: &Request, wanted: &ModelRequest, fetcher: &Fetcher<'_>) -> Result<(), Failure> {
    let place = model_place(&request.bam_dir, wanted.folder());
    let record = Record {
        name: wanted.model.clone(),
        revision: Some(wanted.revision.clone()),
        commit: None,
        sources: BTreeMap::new(),
        files: BTreeMap::new(),
    };
    let lock = request.lock.as_ref();
    fetcher.ensure(&place, (&record, &MODEL_FILES), lock, || {
        let record = download(request, wanted, record.clone(), &place, fetcher)?;
        let names: Vec<_> = MODEL_FILES.into_iter().chain(MODEL_EXTRAS).collect();
        Ok(place.settle(&place.staging().join("files"), &names, record)?)
    })
}

/// Gets the files, all of the commit that the first one comes from.
fn download(
    request: &Request,
    wanted: &ModelRequest,
    mut record: Record,
    place: &Place,
    fetcher: &Fetcher<'_>,
) -> Result<Record, Failure> {
    let mut problems = Problems::default();
    let mut names = Vec::new();
    for name in MODEL_FILES.into_iter().chain(MODEL_EXTRAS) {
        match expected(request.lock.as_ref(), name, None) {
            // A lock file need not know it.
            Err(_) if MODEL_EXTRAS.contains(&name) => {}
            sha256 => names.extend(problems.take(sha256).map(|sha256| (name, sha256))),
        }
    }
    problems.check()?;
    let mut problems = Problems::default();
    let staging = place.staging();
    let files = staging.join("files");
    for (name, sha256) in names {
        if name == WEIGHTS && problems.any() {
            // Hundreds of megabytes for nothing.
            break;
        }
        let revision = record.commit.as_ref().unwrap_or(&wanted.revision);
        let parts = wanted.model.split('/').chain(["resolve", revision, name]);
        let most = if name == WEIGHTS { LARGEST_WEIGHTS } else { LARGEST };
        let url = below(&wanted.url, parts);
        let file = Wanted { url, name: name.to_owned(), sha256, most };
        let downloaded = match fetcher.downloader(&staging).download(&file, &files) {
            Err(DownloadError::Http(error)) if MODEL_EXTRAS.contains(&name) && error.is_not_found() => continue,
            // The other small file may be missing too: one message for both.
            Err(error @ DownloadError::Http(_)) if is_not_found(&error) => {
                problems.take(Err::<(), _>(failure(error, place, &MODEL_FILES)));
                continue;
            }
            downloaded => downloaded.map_err(|error| failure(error, place, &MODEL_FILES))?,
        };
        if name == "config.json" {
            // Before the weights come, which take longer.
            let config = BertConfig::read(&files.join(name));
            config.map_err(|error| Failure::new(ExitReason::BadData, error.to_string()))?;
        }
        let commit = downloaded.commit.filter(|commit| super::is_name(commit));
        record.commit = record.commit.or(commit);
        let artifact = downloaded.artifact;
        let source = Source { url: file.url.into(), sha256: artifact.sha256, bytes: artifact.bytes };
        record.sources.insert(name.to_owned(), source);
    }
    problems.check()?;
    Ok(record)
}

fn is_not_found(error: &DownloadError) -> bool {
    matches!(error, DownloadError::Http(error) if error.is_not_found())
}
