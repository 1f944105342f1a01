//! A task's data: downloads to the TSV files that its folder holds.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use bam_crds::ExitReason;

use super::download::Wanted;
use super::place::{Place, Record, Source};
use super::source::{DataSet, Part};
use super::{Fetcher, Request, archive, below, data_place, expected, failure, mrpc};
use crate::durable;
use crate::failure::{Failure, Problems};

pub(super) fn fetch(request: &Request, set: &DataSet, fetcher: &Fetcher<'_>) -> Result<(), Failure> {
    let place = data_place(&request.bam_dir, set.task);
    let files: Vec<_> = set.parts.iter().flat_map(Part::files).copied().collect();
    let record = Record {
        name: set.task.to_owned(),
        revision: None,
        commit: None,
        sources: BTreeMap::new(),
        files: BTreeMap::new(),
    };
    let lock = request.lock.as_ref();
    fetcher.ensure(&place, (&record, &files), lock, || {
        let sources = download(request, set, &place, fetcher)?;
        let into = place.fresh("files")?;
        for part in set.parts {
            unpack(part, &place.staging().join("downloads"), &into)?;
        }
        Ok(place.settle(&into, &files, Record { sources, ..record.clone() })?)
    })
}

/// Gets all that a data set is made of.
fn download(
    request: &Request,
    set: &DataSet,
    place: &Place,
    fetcher: &Fetcher<'_>,
) -> Result<BTreeMap<String, Source>, Failure> {
    let mut problems = Problems::default();
    let mut wanted = Vec::new();
    for source in set.parts.iter().flat_map(Part::sources) {
        let sha256 = problems.take(expected(request.lock.as_ref(), source.name(), Some(source.sha256)));
        wanted.push(Wanted {
            url: below(&request.glue_url, source.path.split('/')),
            name: source.name().to_owned(),
            sha256: sha256.flatten(),
            // Not exactly: a lock file may name another edition.
            most: source.bytes.saturating_mul(2).max(1 << 20),
        });
    }
    problems.check()?;
    let staging = place.staging();
    let files: Vec<_> = set.parts.iter().flat_map(Part::files).copied().collect();
    let mut sources = BTreeMap::new();
    for wanted in wanted {
        let downloaded = fetcher.downloader(&staging).download(&wanted, &staging.join("downloads"));
        let artifact = downloaded.map_err(|error| failure(error, place, &files))?.artifact;
        let source = Source { url: wanted.url.into(), sha256: artifact.sha256, bytes: artifact.bytes };
        sources.insert(wanted.name, source);
    }
    Ok(sources)
}

fn unpack(part: &Part, downloads: &Path, into: &Path) -> Result<(), Failure> {
    let read = |name: &str| {
        let path = downloads.join(name);
        fs::read(&path).map_err(|error| Failure::store("read", &path, &error))
    };
    let write = |name: &str, bytes: &[u8]| durable::write(&into.join(name), |mut file| file.write_all(bytes));
    match part {
        Part::Archive(source, files) => archive::unpack(&downloads.join(source.name()), files, into)?,
        Part::File(source, name) => write(name, &read(source.name())?)?,
        Part::Mrpc(sources) => {
            let bad = |problem: String| Failure::new(ExitReason::BadData, problem);
            let text = |source: &super::source::Published| {
                String::from_utf8(read(source.name())?).map_err(|error| bad(format!("{}: {error}", source.name())))
            };
            let [train, test, dev_ids] = sources;
            let splits = mrpc::split(&text(train)?, &text(test)?, &text(dev_ids)?);
            let splits = splits.map_err(|problems| bad(problems.join("\n")))?;
            write("train.tsv", splits.train.as_bytes())?;
            write("dev.tsv", splits.dev.as_bytes())?;
            write("test.tsv", splits.test.as_bytes())?;
        }
    }
    Ok(())
}
