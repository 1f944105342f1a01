//! A real S3 server on this machine (versitygw, over a folder), for one test.
#![allow(dead_code)] // each test file uses its own part

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use object_store::aws::AmazonS3Builder;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};

/// The bucket that there is.
pub const BUCKET: &str = "models";
/// Credentials of the server's owner, who may do everything…
pub const OWNER: (&str, &str) = ("owner", "owners-secret");
/// … and of somebody who may do nothing.
pub const GUEST: (&str, &str) = ("guest", "guests-secret");

/// A server with one empty bucket. It ends with its value.
pub struct S3 {
    folder: tempfile::TempDir,
    address: String,
    child: Child,
}

impl S3 {
    /// None, and a line that says so, if the server is not installed.
    pub fn start(test: &str) -> Option<Self> {
        Self::start_at("127.0.0.1", test)
    }

    /// The same, at another address of this machine.
    pub fn start_at(ip: &str, test: &str) -> Option<Self> {
        let Some(program) = std::env::var_os("BAM_TEST_S3_SERVER") else {
            println!(
                "SKIPPED: {test}: BAM_TEST_S3_SERVER is not set (`make test` sets it to what scripts/s3.sh prints)"
            );
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("buckets").join(BUCKET)).unwrap();
        fs::create_dir(folder.path().join("iam")).unwrap();
        let (access, secret) = GUEST;
        let guest = serde_json::json!({ "access": access, "secret": secret, "role": "user" });
        let users = serde_json::json!({ "accessAccounts": { access: guest } });
        fs::write(folder.path().join("iam/users.json"), users.to_string()).unwrap();
        // Free now; whoever takes it before the server does makes the test fail, not lie.
        let address = TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap().to_string();
        let child = serve(Path::new(&program), folder.path(), &address);
        Some(Self { folder, address, child })
    }

    /// Where it listens.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends the server; whoever talks to it hears nothing more.
    pub fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What a client finds in its environment.
    pub fn environment(&self, (access, secret): (&str, &str)) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_ACCESS_KEY_ID", access.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
    }

    /// The file that the server keeps an object in.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("buckets").join(BUCKET).join(name)
    }

    /// Names of all objects in a folder and below it, sorted.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let (store, prefix) = (self.client(), Key::from(folder));
        let found = runtime().block_on(async move {
            use futures_util::TryStreamExt;
            store.list(Some(&prefix)).try_collect::<Vec<_>>().await.unwrap()
        });
        let mut names: Vec<_> = found.into_iter().map(|meta| meta.location.to_string()).collect();
        names.sort();
        names
    }

    /// Uploads an object.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        runtime().block_on(self.client().put(&Key::from(name), bytes.into())).unwrap();
    }

    /// Uploads a folder.
    pub fn put_folder(&self, folder: &Path, name: &str) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{name}/{}", entry.file_name().into_string().unwrap());
            match entry.file_type().unwrap().is_dir() {
                true => self.put_folder(&entry.path(), &name),
                false => self.put(&name, fs::read(entry.path()).unwrap()),
            }
        }
    }

    /// How often an object was asked for, with the status of the answers.
    pub fn gets(&self, name: &str) -> Vec<u16> {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap();
        // … s3_GetObject NAME URI STATUS …
        let of = |line: &str| line.split_once(&format!(" s3_GetObject {name} "))?.1.split(' ').nth(1)?.parse().ok();
        log.lines().filter_map(of).collect()
    }

    fn client(&self) -> Arc<dyn ObjectStore> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (access, secret) = OWNER;
        let builder =
            AmazonS3Builder::new().with_endpoint(self.endpoint()).with_allow_http(true).with_bucket_name(BUCKET);
        Arc::new(builder.with_access_key_id(access).with_secret_access_key(secret).build().unwrap())
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn serve(program: &Path, folder: &Path, address: &str) -> Child {
    let said = File::create(folder.join("said")).unwrap();
    let mut command = Command::new(program);
    command.args(["--port", address, "--quiet", "--iam-dir"]).arg(folder.join("iam"));
    command.arg("--access-log").arg(folder.join("log")).arg("posix").arg(folder.join("buckets"));
    command.env("ROOT_ACCESS_KEY", OWNER.0).env("ROOT_SECRET_KEY", OWNER.1);
    command.stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said);
    let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let begin = Instant::now();
    while TcpStream::connect(address).is_err() {
        let said = || fs::read_to_string(folder.join("said")).unwrap_or_default();
        assert!(begin.elapsed() < Duration::from_secs(30), "the S3 server does not listen: {}", said());
        sleep(Duration::from_millis(20));
    }
    child
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
