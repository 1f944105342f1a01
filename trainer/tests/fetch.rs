//! Fetching data and weights, against a server on this machine that does what servers do on bad days.

mod common;
#[path = "common/server.rs"]
mod server;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bam_crds::config::InputsReport;
use bam_crds::{Digest, Execution, ExitReason, Fetch, InputsConfig};
use bam_trainer::failure::Failure;
use bam_trainer::fetch::{self, Client, Fetcher, Lock, ModelRequest, Patience, Request};
use bam_trainer::report::Reporter;
use common::{Fixture, PRETRAINED};
use server::{Fault, Page, Server};
use tempfile::TempDir;
use zip::write::{SimpleFileOptions, ZipWriter};

const FILES: [&str; 3] = ["config.json", "vocab.txt", "model.safetensors"];
const COMMIT: &str = "86b5e0934494bd15c9632b12f734a8a67f723594";

/// A server, and a BAM_DIR to fetch into.
struct Bench {
    server: Server,
    source: Fixture,
    folder: TempDir,
}

impl Bench {
    /// The server has the model `org/tiny`.
    fn new() -> Self {
        let bench = Self { server: Server::start(), source: Fixture::new(), folder: tempfile::tempdir().unwrap() };
        for name in FILES {
            bench.server.put(&at("main", name), Page::new(bench.model_file(name)));
        }
        bench
    }

    fn model_file(&self, name: &str) -> Vec<u8> {
        fs::read(self.source.path(&format!("pretrained_models/{PRETRAINED}/{name}"))).unwrap()
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    fn request(&self, tasks: &[&str], model: Option<&str>) -> Request {
        let model = model.map(|model| ModelRequest {
            url: self.server.url.parse().unwrap(),
            model: model.to_owned(),
            revision: "main".to_owned(),
            folder: None,
        });
        Request {
            bam_dir: self.folder.path().to_owned(),
            tasks: tasks.iter().map(|task| (*task).to_owned()).collect(),
            glue_url: self.server.url.parse().unwrap(),
            model,
            lock: None,
        }
    }

    fn fetch(&self, request: &Request) -> Result<(), Failure> {
        let reporter = Reporter::for_a_person();
        let patience = Patience { tries: 3, pause: Duration::ZERO };
        fetch::fetch(request, Fetcher { client: Client::new(None), patience, reporter: &reporter })
    }

    fn fetch_model(&self) -> Result<(), Failure> {
        self.fetch(&self.request(&[], Some("org/tiny")))
    }

    /// `bam-trainer fetch` of the model.
    fn command(&self) -> Command {
        self.command_at(&self.server.url)
    }

    fn command_at(&self, url: &str) -> Command {
        let mut command = self.source.trainer();
        command.arg("fetch").arg(self.folder.path()).args(["--model", "org/tiny"]);
        command.args(["--model-url", url]);
        for name in ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "HF_TOKEN", "HF_ENDPOINT"] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        command
    }

    fn assert_model_is_whole(&self) {
        for name in FILES {
            let fetched = fs::read(self.path(&format!("pretrained_models/tiny/{name}"))).unwrap();
            assert_eq!(fetched, self.model_file(name), "{name}");
        }
        let staging = fs::read_dir(self.path("pretrained_models/.fetch")).unwrap();
        let left: Vec<_> = staging.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["lock"], "nothing is left of the way there");
    }

    fn assert_nothing_is_there(&self) {
        assert!(!self.path("pretrained_models/tiny").exists());
    }

    /// What the second of two requests for the weights asked for.
    fn second(&self, name: &str) -> server::Asked {
        self.server.asked().into_iter().filter(|asked| asked.line.contains(name)).nth(1).unwrap()
    }
}

fn at(revision: &str, name: &str) -> String {
    format!("/org/tiny/resolve/{revision}/{name}")
}

fn weights_at(revision: &str) -> String {
    at(revision, "model.safetensors")
}

fn lock(folder: &Path, entries: &[(&str, &[u8])]) -> Lock {
    let path = folder.join("lock.txt");
    let lines = entries.iter().map(|(name, bytes)| format!("{}  {name}\n", Digest::of_bytes(bytes)));
    fs::write(&path, lines.collect::<String>()).unwrap();
    Lock::read(&path).unwrap()
}

#[test]
fn a_model_is_fetched_whole_and_the_second_time_nobody_is_asked() {
    let bench = Bench::new();
    bench.server.put(&at("main", "tokenizer_config.json"), Page::new("{}"));
    bench.fetch_model().unwrap();
    bench.assert_model_is_whole();
    assert_eq!(fs::read(bench.path("pretrained_models/tiny/tokenizer_config.json")).unwrap(), b"{}");
    let asked = bench.server.asked().len();
    bench.fetch_model().unwrap();
    assert_eq!((asked, bench.server.asked().len()), (4, 4));
}

#[test]
fn a_download_that_is_cut_goes_on_where_it_was() {
    let bench = Bench::new();
    let weights = Page::new(bench.model_file("model.safetensors"));
    let (etag, total) = (weights.etag.clone(), weights.content.len());
    bench.server.put(&weights_at("main"), weights.with([Fault::Cut(1000), Fault::Cut(500)]));
    bench.fetch_model().unwrap();
    bench.assert_model_is_whole();
    let asked: Vec<_> = bench.server.asked().into_iter().filter(|asked| asked.line.contains("safetensors")).collect();
    let ranges: Vec<_> = asked.iter().map(|asked| asked.header("range")).collect();
    assert_eq!(ranges, [None, Some("bytes=1000-"), Some("bytes=1500-")]);
    assert_eq!(asked[1].header("if-range"), etag.as_deref());
    assert_eq!(asked.iter().map(|asked| asked.sent).sum::<usize>(), total, "no byte came twice");
}

#[test]
fn a_server_that_sends_no_parts_sends_all_of_it_again() {
    for etag in [true, false] {
        let bench = Bench::new();
        let mut weights = Page::new(bench.model_file("model.safetensors")).with([Fault::Cut(1000)]);
        weights.ranges = false;
        weights.etag = weights.etag.filter(|_| etag);
        bench.server.put(&weights_at("main"), weights);
        bench.fetch_model().unwrap();
        bench.assert_model_is_whole();
        assert_eq!(bench.second("safetensors").header("range").is_some(), etag, "nothing says what a part is of");
    }
}

#[test]
fn parts_of_different_contents_are_not_put_together() {
    let bench = Bench::new();
    let other: Vec<u8> = bench.model_file("model.safetensors").iter().map(|byte| !byte).collect();
    bench.server.put(&weights_at("main"), Page::new(other).with([Fault::Cut(1000), Fault::Cut(0), Fault::Cut(0)]));
    bench.fetch_model().unwrap_err();
    bench.server.put(&weights_at("main"), Page::new(bench.model_file("model.safetensors")));
    bench.fetch_model().unwrap();
    bench.assert_model_is_whole();
    let last = bench.server.asked().into_iter().rfind(|asked| asked.line.contains("safetensors")).unwrap();
    assert_eq!(last.header("range"), Some("bytes=1000-"), "it asked for the rest, and got what is there now");
}

#[test]
fn what_may_pass_is_tried_again_and_what_will_not_is_not() {
    for (faults, tries, reason) in [
        (vec![Fault::Status(503, "retry-after: 0\r\n"), Fault::Status(429, "")], 3, None),
        (vec![Fault::Cut(0), Fault::Status(500, "")], 3, None),
        (vec![Fault::Status(500, ""); 3], 3, Some(ExitReason::StoreUnavailable)),
        (vec![Fault::Status(403, "")], 1, Some(ExitReason::MissingInput)),
        (vec![Fault::Status(400, "")], 1, Some(ExitReason::MissingInput)),
        (vec![Fault::Unmeasured], 1, Some(ExitReason::MissingInput)),
    ] {
        let bench = Bench::new();
        let config = Page::new(bench.model_file("config.json")).with(faults.clone());
        bench.server.put(&at("main", "config.json"), config);
        let result = bench.fetch_model();
        assert_eq!(result.as_ref().err().map(|failure| failure.reason), reason, "{faults:?}: {result:?}");
        let config = at("main", "config.json");
        assert_eq!(bench.server.paths().iter().filter(|path| **path == config).count(), tries, "{faults:?}");
        if reason.is_some() {
            bench.assert_nothing_is_there();
        }
    }
}

#[test]
fn all_small_files_that_a_repository_lacks_are_told_at_once() {
    let bench = Bench::new();
    let failure = bench.fetch(&bench.request(&[], Some("org/other"))).unwrap_err();
    assert_eq!(failure.reason, ExitReason::MissingInput);
    for name in ["config.json", "vocab.txt"] {
        assert!(failure.message.contains(&format!("org/other/resolve/main/{name}: the server says 404")), "{failure}");
    }
    assert_eq!(bench.server.asked().len(), 2, "weights alone are of no use");
}

#[test]
fn content_with_another_digest_is_refused_and_not_kept() {
    let bench = Bench::new();
    let files = FILES.map(|name| (name, bench.model_file(name)));
    let mut entries: Vec<_> = files.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
    entries[2].1 = b"what was expected";
    let mut request = bench.request(&[], Some("org/tiny"));
    request.lock = Some(lock(bench.folder.path(), &entries));
    let failure = bench.fetch(&request).unwrap_err();
    assert_eq!(failure.reason, ExitReason::BadData);
    assert!(failure.message.contains(Digest::of_bytes(b"what was expected").as_str()), "{failure}");
    bench.assert_nothing_is_there();
    assert!(!bench.path("pretrained_models/.fetch/tiny/parts/model.safetensors").exists());

    // The repository is mended: what was right is not fetched again.
    entries[2].1 = &files[2].1;
    request.lock = Some(lock(bench.folder.path(), &entries));
    bench.fetch(&request).unwrap();
    bench.assert_model_is_whole();
    assert_eq!(bench.server.paths().iter().filter(|path| path.ends_with("config.json")).count(), 1);
}

#[test]
fn bytes_that_were_damaged_on_disk_are_fetched_again() {
    let bench = Bench::new();
    let files = FILES.map(|name| (name, bench.model_file(name)));
    let entries: Vec<_> = files.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
    let mut request = bench.request(&[], Some("org/tiny"));
    request.lock = Some(lock(bench.folder.path(), &entries));
    let cut = [Fault::Cut(1000), Fault::Cut(0), Fault::Cut(0)];
    bench.server.put(&weights_at("main"), Page::new(bench.model_file("model.safetensors")).with(cut));
    bench.fetch(&request).unwrap_err();
    let part = bench.path("pretrained_models/.fetch/tiny/parts/model.safetensors");
    fs::write(&part, vec![0; 1000]).unwrap();
    bench.fetch(&request).unwrap();
    bench.assert_model_is_whole();
}

#[test]
fn all_files_are_of_the_commit_that_the_first_one_came_from() {
    let bench = Bench::new();
    let mut config = Page::new(bench.model_file("config.json"));
    config.headers = format!("x-repo-commit: {COMMIT}\r\n");
    bench.server.put(&at("main", "config.json"), config);
    for name in ["vocab.txt", "model.safetensors"] {
        bench.server.put(&at(COMMIT, name), Page::new(bench.model_file(name)));
        bench.server.put(&at("main", name), Page::new("of a later commit"));
    }
    // Also if it is another process that goes on.
    let weights = Page::new(bench.model_file("model.safetensors"));
    bench.server.put(&weights_at(COMMIT), weights.with([Fault::Cut(10), Fault::Cut(10), Fault::Cut(10)]));
    bench.fetch_model().unwrap_err();
    bench.fetch_model().unwrap();
    bench.assert_model_is_whole();
    let record = fs::read_to_string(bench.path("pretrained_models/tiny/fetched.json")).unwrap();
    assert!(record.contains(&format!("\"commit\": \"{COMMIT}\"")), "{record}");
}

#[test]
fn the_digest_that_a_repository_names_is_compared() {
    let bench = Bench::new();
    let mut weights = Page::new(bench.model_file("model.safetensors"));
    weights.headers = format!("x-linked-etag: \"{}\"\r\n", Digest::of_bytes(b"something else"));
    bench.server.put(&weights_at("main"), weights);
    assert_eq!(bench.fetch_model().unwrap_err().reason, ExitReason::BadData);
    bench.assert_nothing_is_there();
}

#[test]
fn a_token_goes_to_the_repository_and_not_to_where_it_sends_us() {
    let bench = Bench::new();
    let elsewhere = Server::start();
    elsewhere.put("/blob?signed=1", Page::new(bench.model_file("model.safetensors")).with([Fault::Cut(100)]));
    let mut weights = Page::new("");
    weights.location = Some(format!("{}blob?signed=1", elsewhere.url));
    bench.server.put(&weights_at("main"), weights);
    let output = bench.command().env("HF_TOKEN", "hf_secret").output().unwrap();
    assert!(output.status.success(), "{}", common::text(&output));
    bench.assert_model_is_whole();
    assert!(bench.server.asked().iter().all(|asked| asked.header("authorization") == Some("Bearer hf_secret")));
    let asked = elsewhere.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|asked| asked.header("authorization").is_none()));
    assert_eq!(asked[1].header("range"), Some("bytes=100-"));
    assert!(!common::text(&output).contains("hf_secret"));
}

#[test]
fn redirects_that_go_nowhere_or_round_in_circles_end() {
    for (location, part) in [("ftp://host/file", "not safe"), ("config.json", "more than 10 redirects")] {
        let bench = Bench::new();
        let mut page = Page::new("");
        page.location = Some(location.to_owned());
        bench.server.put(&at("main", "config.json"), page);
        let failure = bench.fetch_model().unwrap_err();
        assert!(failure.message.contains(part), "{failure}");
        assert!(bench.server.asked().len() <= 11);
    }
}

#[test]
fn a_killed_fetch_loses_nothing_that_came() {
    let bench = Bench::new();
    let stall = Page::new(bench.model_file("model.safetensors")).with([Fault::Stall(2000)]);
    bench.server.put(&weights_at("main"), stall);
    let mut child = bench.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let part = bench.path("pretrained_models/.fetch/tiny/parts/model.safetensors");
    while fs::metadata(&part).map_or(0, |found| found.len()) < 2000 {
        assert!(child.try_wait().unwrap().is_none(), "it ended too early");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    bench.assert_nothing_is_there();
    let output = bench.command().output().unwrap();
    assert!(output.status.success(), "{}", common::text(&output));
    bench.assert_model_is_whole();
    assert_eq!(bench.second("safetensors").header("range"), Some("bytes=2000-"));
    assert_eq!(bench.server.asked().len(), 5, "nothing else came twice (and one file was not there to be had)");
}

#[test]
fn of_two_at_once_one_fetches_and_the_other_one_waits() {
    let bench = Bench::new();
    let spawn = || bench.command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let outputs = [spawn(), spawn()].map(|child| child.wait_with_output().unwrap());
    for output in &outputs {
        assert!(output.status.success(), "{}", common::text(output));
    }
    bench.assert_model_is_whole();
    assert_eq!(bench.server.asked().len(), 4);
}

#[test]
fn a_proxy_of_the_environment_is_used() {
    let bench = Bench::new();
    let mut command = bench.command_at("http://models.invalid");
    let output = command.env("HTTPS_PROXY", &bench.server.url).output().unwrap();
    assert!(output.status.success(), "{}", common::text(&output));
    bench.assert_model_is_whole();
    assert!(bench.server.asked()[0].line.starts_with("CONNECT models.invalid:80 "), "{:?}", bench.server.asked()[0]);
}

#[test]
fn what_was_there_before_is_left_alone() {
    let bench = Bench::new();
    let config = bench.path("pretrained_models/tiny/config.json");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(&config, "mine").unwrap();
    let failure = bench.fetch_model().unwrap_err();
    assert_eq!(failure.reason, ExitReason::MissingInput);
    assert!(failure.message.contains("lacks vocab.txt and model.safetensors"), "{failure}");
    for name in ["vocab.txt", "model.safetensors"] {
        fs::write(config.with_file_name(name), "mine").unwrap();
    }
    bench.fetch_model().unwrap();
    assert_eq!(fs::read_to_string(&config).unwrap(), "mine");
    assert!(bench.server.asked().is_empty());
}

#[test]
fn fetched_files_that_were_changed_since_are_told_and_left_alone() {
    let bench = Bench::new();
    bench.fetch_model().unwrap();
    let folder = bench.path("pretrained_models/tiny");
    fs::write(folder.join("vocab.txt"), "edited").unwrap();
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    let asked = bench.server.asked().len();
    let failure = bench.fetch_model().unwrap_err();
    assert_eq!(failure.reason, ExitReason::BadData);
    assert!(failure.message.contains("vocab.txt: not what was fetched"), "{failure}");
    assert!(failure.message.contains("model.safetensors: it is gone"), "{failure}");
    assert_eq!(fs::read_to_string(folder.join("vocab.txt")).unwrap(), "edited");
    assert_eq!(bench.server.asked().len(), asked);
}

#[test]
fn another_model_does_not_hide_behind_the_name_of_one_that_is_there() {
    let bench = Bench::new();
    bench.fetch_model().unwrap();
    let mut request = bench.request(&[], Some("org/other"));
    request.model.as_mut().unwrap().folder = Some("tiny".to_owned());
    let failure = bench.fetch(&request).unwrap_err();
    assert!(failure.message.contains("holds org/tiny at main, not org/other at main"), "{failure}");
}

#[test]
fn with_a_lock_file_nothing_else_is_taken_nor_asked_for() {
    let bench = Bench::new();
    let mut request = bench.request(&["rte"], Some("org/tiny"));
    request.lock = Some(lock(bench.folder.path(), &[("config.json", b"")]));
    let failure = bench.fetch(&request).unwrap_err();
    assert_eq!(failure.reason, ExitReason::BadConfig);
    for name in ["RTE.zip", "vocab.txt", "model.safetensors"] {
        assert!(failure.message.contains(&format!("does not list {name}")), "{failure}");
    }
    assert!(bench.server.asked().is_empty());
}

#[test]
fn everything_that_is_wrong_with_a_command_line_is_told_at_once() {
    let bench = Bench::new();
    let mut command = bench.source.trainer();
    command.arg("fetch").arg(bench.folder.path()).args(["--tasks", "rte,mrcp,imdb", "--model", "a/b/c"]);
    let output = command.args(["--revision", "../main", "--glue-url", "file:///data"]).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    let said = common::text(&output);
    for part in ["did you mean mrpc?", "\"imdb\"", "--model: \"a/b/c\"", "--revision: \"../main\"", "--glue-url: file"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn without_a_network_it_says_what_can_be_done() {
    let bench = Bench::new();
    let mut request = bench.request(&["rte", "cola"], Some("org/tiny"));
    // Nobody listens there.
    let nowhere: url::Url = "http://127.0.0.1:1/".parse().unwrap();
    request.glue_url = nowhere.clone();
    request.model.as_mut().unwrap().url = nowhere;
    let failure = bench.fetch(&request).unwrap_err();
    assert_eq!(failure.reason, ExitReason::StoreUnavailable);
    assert_eq!(failure.message.lines().count(), 3, "{failure}");
    for part in
        ["HTTPS_PROXY", "put train.tsv, dev.tsv, test.tsv into", "put config.json, vocab.txt, model.safetensors"]
    {
        assert!(failure.message.contains(part), "{failure}");
    }
}

/// The fixture's tasks as they are published, by path.
fn publish(bench: &Bench) -> Vec<(&'static str, Vec<u8>)> {
    let read = |name: &str| fs::read(bench.source.path(&format!("glue_data/{name}"))).unwrap();
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.add_directory("RTE/", SimpleFileOptions::default()).unwrap();
    for name in ["train.tsv", "dev.tsv", "test.tsv"] {
        zip.start_file(format!("RTE/{name}"), SimpleFileOptions::default()).unwrap();
        zip.write_all(&read(&format!("rte/{name}"))).unwrap();
    }
    let rte = zip.finish().unwrap().into_inner();

    // MRPC's owner has one file for train and dev, and labels in that for test.
    let text = |name: &str| String::from_utf8(read(&format!("mrpc/{name}"))).unwrap();
    let (train, dev) = (text("train.tsv"), text("dev.tsv"));
    let rows = |text: &str| -> Vec<String> { text.lines().skip(1).map(str::to_owned).collect() };
    let renamed = |rows: Vec<String>, first: usize| -> Vec<String> {
        let row = |(number, row): (usize, String)| {
            let fields: Vec<_> = row.split('\t').collect();
            format!("{}\t{}\t7\t{}\t{}", fields[0], first + number, fields[3], fields[4])
        };
        rows.into_iter().enumerate().map(row).collect()
    };
    let (train, dev) = (renamed(rows(&train), 0), renamed(rows(&dev), 1000));
    let ids = dev.iter().map(|row| row.split('\t').skip(1).take(2).collect::<Vec<_>>().join("\t") + "\n");
    let ids: String = ids.collect();
    let header = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n";
    let all = format!("{header}{}\r\n", [dev, train].concat().join("\r\n"));
    let test = text("test.tsv").replacen("index", "Quality", 1);

    let files = [
        ("/glue/data/RTE.zip", rte),
        ("/senteval/senteval_data/msr_paraphrase_train.txt", all.into_bytes()),
        ("/senteval/senteval_data/msr_paraphrase_test.txt", test.into_bytes()),
        ("/glue/data/mrpc_dev_ids.tsv", ids.into_bytes()),
    ];
    for (name, bytes) in &files {
        bench.server.put(name, Page::new(bytes.clone()));
    }
    files.into()
}

#[test]
fn glue_is_fetched_into_what_the_check_of_the_inputs_reads() {
    let bench = Bench::new();
    let mut request = bench.request(&["rte", "mrpc"], Some("org/tiny"));
    let published = publish(&bench);
    let entries: Vec<_> = published.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
    request.lock = Some(lock(bench.folder.path(), &entries));
    let failure = bench.fetch(&request).unwrap_err();
    assert!(failure.message.contains("does not list config.json"), "{failure}");
    assert_eq!(failure.message.lines().count(), 3, "the data are there, whatever else is not: {failure}");
    bench.fetch_model().unwrap();

    let rte = |name| format!("glue_data/rte/{name}.tsv");
    for name in ["train", "dev", "test"].map(rte) {
        assert_eq!(fs::read(bench.path(&name)).unwrap(), fs::read(bench.source.path(&name)).unwrap(), "{name}");
    }
    let expected = bench.source.inputs(&["rte"]).inputs.unwrap();
    let found = bench.inputs(&["rte", "mrpc"], None).unwrap();
    assert_eq!(found.tasks["rte"], expected.tasks["rte"]);
    assert_eq!((found.tasks["mrpc"].train_rows, found.tasks["mrpc"].dev_rows), (50, 20));
    assert_eq!(found.model, expected.model);

    let asked = bench.server.asked().len();
    bench.fetch(&Request { model: None, ..request }).unwrap();
    assert_eq!(bench.server.asked().len(), asked);
}

#[test]
fn a_check_of_inputs_fetches_what_is_missing_and_leaves_what_is_there_alone() {
    let bench = Bench::new();
    let names = publish(&bench).into_iter().chain(FILES.map(|name| (name, bench.model_file(name))));
    let digests = names.map(|(path, bytes)| (path.rsplit('/').next().unwrap().to_owned(), Digest::of_bytes(&bytes)));
    let fetch = Fetch {
        glue: true,
        model: Some("org/other-name".to_owned()),
        glue_url: Some(bench.server.url.clone()),
        model_url: Some(bench.server.url.clone()),
        lock: digests.collect(),
        ..Fetch::default()
    };
    for name in FILES {
        bench.server.put(&at("main", name).replace("tiny", "other-name"), Page::new(bench.model_file(name)));
    }
    // Somebody's own data: no test file, which this check does not need.
    let own = bench.path("glue_data/mrpc");
    fs::create_dir_all(&own).unwrap();
    for name in ["train.tsv", "dev.tsv"] {
        fs::copy(bench.source.path(&format!("glue_data/mrpc/{name}")), own.join(name)).unwrap();
    }
    let found = bench.inputs(&["rte", "mrpc"], Some(fetch.clone())).unwrap();
    assert_eq!(found, bench.source.inputs(&["rte", "mrpc"]).inputs.unwrap());
    let asked = bench.server.paths();
    assert!(asked.iter().any(|path| path.ends_with("RTE.zip")) && !asked.iter().any(|path| path.contains("msr_")));
    assert_eq!(bench.inputs(&["rte", "mrpc"], Some(fetch)).unwrap(), found);
    assert_eq!(bench.server.paths().len(), asked.len(), "the second time nobody is asked");
}

#[test]
fn data_that_is_not_glues_is_refused_unless_a_lock_file_lists_it() {
    let bench = Bench::new();
    publish(&bench);
    let failure = bench.fetch(&bench.request(&["rte"], None)).unwrap_err();
    assert_eq!(failure.reason, ExitReason::BadData);
    assert!(
        failure.message.contains("RTE.zip: SHA-256 is ") && failure.message.contains("in a lock file"),
        "{failure}"
    );
    assert!(!bench.path("glue_data/rte").exists());
}

impl Bench {
    /// Checks what was fetched as an experiment's inputs.
    fn inputs(&self, tasks: &[&str], fetch: Option<Fetch>) -> Result<InputsReport, Failure> {
        let config = InputsConfig {
            custom: Default::default(),
            tasks: tasks.iter().map(|task| (*task).to_owned()).collect(),
            targets: Default::default(),
            max_seq_length: 32,
            debug: false,
            fetch,
            execution: Execution { store: self.folder.path().display().to_string(), ..self.source.execution() },
        };
        bam_trainer::inputs::check(&config, &Reporter::for_a_person())
    }
}
