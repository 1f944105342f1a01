//! The cluster that the tests run in, and the operator in it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{LazyLock, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;

/// The namespace that the operator is installed in.
const SYSTEM: &str = "bam-system";
/// Its pods.
const SELECTOR: &str = "app.kubernetes.io/name=bam-operator";
/// Its metrics, through the API server.
const METRICS: &str = "/api/v1/namespaces/bam-system/services/bam-operator-metrics:8080/proxy/metrics";
/// Its readiness.
const READY: &str = "/api/v1/namespaces/bam-system/services/bam-operator-metrics:8080/proxy/readyz";

/// What all tests' clients run on.
pub static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

static SHARED: RwLock<()> = RwLock::new(());

/// How a test uses what all of them share.
pub enum Peace {
    /// Nobody disturbs operator or API server meanwhile.
    Calm(#[expect(dead_code, reason = "held, not read")] RwLockReadGuard<'static, ()>),
    /// This test does.
    Alone(#[expect(dead_code, reason = "held, not read")] RwLockWriteGuard<'static, ()>),
}

impl Peace {
    pub fn calm() -> Self {
        Self::Calm(SHARED.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub fn alone() -> Self {
        Self::Alone(SHARED.write().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// A cluster with the operator in it.
#[derive(Clone)]
pub struct Cluster {
    pub client: Client,
    kubeconfig: PathBuf,
}

impl Cluster {
    /// None if the environment names none; the test says so.
    pub fn find(test: &str) -> Option<Self> {
        let Some(kubeconfig) = std::env::var_os("BAM_TEST_KUBECONFIG").map(PathBuf::from) else {
            println!("SKIPPED: no cluster: {test}: BAM_TEST_KUBECONFIG is not set (`make test` sets it)");
            return None;
        };
        let read = Kubeconfig::read_from(&kubeconfig).unwrap();
        let client = RUNTIME.block_on(async {
            let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap();
            Client::try_from(config).unwrap()
        });
        Some(Self { client, kubeconfig })
    }

    /// `kubectl` as a user types it: whether it said yes, and all that it said.
    pub fn try_kubectl(&self, arguments: &[&str], input: &str) -> (bool, String) {
        let mut kubectl = Command::new("kubectl");
        kubectl.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments);
        kubectl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = kubectl.spawn().expect("kubectl is installed");
        // It may end before it has read everything.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), said)
    }

    /// `kubectl`, which must not fail.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> String {
        let (well, said) = self.try_kubectl(arguments, input);
        assert!(well, "kubectl {}: {said}", arguments.join(" "));
        said
    }

    /// An object as JSON.
    #[track_caller]
    pub fn get(&self, arguments: &[&str]) -> Value {
        let said = self.kubectl(&[&["get", "-o", "json"], arguments].concat(), "");
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    }

    /// The operator's pods that are not on their way out: name and identity.
    fn operators(&self) -> Vec<(String, String)> {
        let pods = self.get(&["pods", "-n", SYSTEM, "-l", SELECTOR]);
        let pods = pods["items"].as_array().unwrap().iter().map(|pod| &pod["metadata"]);
        let living = pods.filter(|metadata| metadata["deletionTimestamp"].is_null());
        living.map(|it| (it["name"].as_str().unwrap().to_owned(), it["uid"].as_str().unwrap().to_owned())).collect()
    }

    /// The operator dies, as of a -9, and is started again by its kubelet (that of `make cluster` does not wait longer each time,
    /// as others do). Returns how many died.
    pub fn kill_operator(&self) -> usize {
        self.operators().iter().map(|(_, uid)| kill(uid, "bam-operator")).sum()
    }

    /// The pod that does the work, of those of the operator.
    pub fn leader(&self) -> String {
        let lease = self.get(&["lease", "-n", SYSTEM, "bam-operator"]);
        lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
    }

    /// A pod of the operator is told to end.
    pub fn stop_operator(&self, pod: &str) {
        self.kubectl(&["delete", "pod", "-n", SYSTEM, pod, "--wait=false"], "");
    }

    /// So many operators.
    pub fn scale_operator(&self, replicas: u32) {
        let replicas = format!("--replicas={replicas}");
        self.kubectl(&["scale", "-n", SYSTEM, "deployment/bam-operator", &replicas], "");
        self.operator_is_back();
    }

    /// Until the operator has seen everything.
    pub fn operator_is_back(&self) {
        let deadline = Instant::now() + Duration::from_secs(360);
        let status = ["rollout", "status", "-n", SYSTEM, "deployment/bam-operator", "--timeout=60s"];
        // The API server may be away itself.
        while !self.try_kubectl(&status, "").0 {
            assert!(Instant::now() < deadline, "the operator does not come back: {}", self.operator_log());
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// What it says itself.
    pub fn operator_is_ready(&self) -> bool {
        self.try_kubectl(&["get", "--raw", READY], "").0
    }

    /// The last lines of its log.
    pub fn operator_log(&self) -> String {
        self.try_kubectl(&["logs", "-n", SYSTEM, "-l", SELECTOR, "--tail=60", "--prefix=false"], "").1
    }

    /// Its metrics by series, as a Prometheus would read them.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let text = self.kubectl(&["get", "--raw", METRICS], "");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let series = lines.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        series.collect()
    }
}

/// `scripts/cluster.sh`, of this checkout or another one.
pub struct Script(pub OsString);

impl Script {
    /// None if the cluster is not one of our own; the test says so.
    pub fn find(test: &str) -> Option<Self> {
        let script = std::env::var_os("BAM_TEST_CLUSTER_SCRIPT");
        if script.is_none() {
            println!("SKIPPED: no cluster of our own: {test}: BAM_TEST_CLUSTER_SCRIPT is not set");
        }
        script.map(Self)
    }

    /// One of its commands: whether it went well, and what it said.
    pub fn try_run(&self, arguments: &[&str]) -> (bool, String) {
        let mut script = Command::new(&self.0);
        let output = script.args(arguments).env("BAM_PROFILE", "debug").env_remove("KUBECONFIG").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.success(), said.into_owned())
    }

    /// One of its commands, which must not fail.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) {
        let (well, said) = self.try_run(arguments);
        assert!(well, "cluster.sh {}: {said}", arguments.join(" "));
    }
}

/// Kills with -9 the processes of this name in a pod on this machine. Returns how many.
pub fn kill(pod_uid: &str, name: &str) -> usize {
    signal(pod_uid, name, libc::SIGKILL)
}

/// A trainer that is held up, so that what is done to its pod comes before its end however fast it is. It goes on when this is
/// dropped.
pub struct HeldUp(String);

impl HeldUp {
    /// The trainer of a pod on this machine.
    pub fn trainer(pod_uid: String) -> Self {
        assert_eq!(signal(&pod_uid, "bam-trainer", libc::SIGSTOP), 1, "the trainer is gone already");
        Self(pod_uid)
    }
}

impl Drop for HeldUp {
    fn drop(&mut self) {
        signal(&self.0, "bam-trainer", libc::SIGCONT);
    }
}

/// Sends a signal to the processes of this name in a pod on this machine. Returns to how many.
fn signal(pod_uid: &str, name: &str, signal: libc::c_int) -> usize {
    let mut reached = 0;
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(id) = process.file_name().to_string_lossy().parse::<i32>() else { continue };
        let read = |file: &str| fs::read_to_string(process.path().join(file)).unwrap_or_default();
        let here = read("cgroup").replace('_', "-").contains(pod_uid);
        if here && read("comm").trim() == name {
            // SAFETY: a plain system call. The process is one of a test's pod.
            reached += usize::from(unsafe { libc::kill(id, signal) } == 0);
        }
    }
    reached
}
