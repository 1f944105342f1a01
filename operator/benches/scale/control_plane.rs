//! An API server and its etcd, alone on this machine's loopback: no controllers, no kubelet, no scheduler.
//!
//! Whoever starts one has its own data folder, ports and users; it ends, and its data go, when this is dropped. etcd does not
//! wait for the disk (`--unsafe-no-fsync` where it knows that, a folder in memory otherwise).

use std::error::Error;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use crate::wire::Wire;

/// How long the API server has to become ready.
const PATIENCE: Duration = Duration::from_secs(90);
/// Users, by token: the one that may do everything, and a service account, as an operator has it.
const USERS: [(&str, &str); 2] = [
    ("admin", "system:masters"),
    ("system:serviceaccount:bam-system:bam-operator", "system:serviceaccounts,system:authenticated"),
];

/// Where the programs are that a control plane consists of.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Kubernetes' own, in one folder.
    pub kubernetes: PathBuf,
    /// `etcd`.
    pub etcd: PathBuf,
}

/// A running control plane.
pub struct ControlPlane {
    folder: PathBuf,
    port: u16,
    /// In the order of their start.
    processes: Vec<Child>,
}

impl ControlPlane {
    /// Starts one that keeps all it writes in `folder`, which it empties, and waits until it answers.
    pub async fn start(programs: &Programs, folder: &Path) -> Result<Self, Box<dyn Error>> {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder)?;
        let [client, peer, port] = free_ports()?;
        let mut plane = Self { folder: folder.to_owned(), port, processes: Vec::new() };
        let (url, peers) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        plane.run(
            Command::new(&programs.etcd)
                .args(["--name", "scale", "--logger", "zap", "--log-level", "warn", "--data-dir"])
                .arg(folder.join("etcd"))
                .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
                .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
                .args(["--initial-cluster", &format!("scale={peers}")])
                .args(["--quota-backend-bytes", "8589934592", "--snapshot-count", "100000"])
                .args(if knows_unsafe_no_fsync(&programs.etcd) { &["--unsafe-no-fsync"][..] } else { &[] }),
            "etcd",
        )?;
        let key = folder.join("service-account.key");
        let public = make_key(&key)?;
        fs::write(folder.join("tokens.csv"), tokens())?;
        plane.run(
            Command::new(programs.kubernetes.join("kube-apiserver"))
                .args(["--etcd-servers", &url, "--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1"])
                .args(["--secure-port", &port.to_string(), "--endpoint-reconciler-type", "none"])
                .args(["--service-cluster-ip-range", "10.97.0.0/16", "--authorization-mode", "RBAC"])
                // No controller makes the service accounts that it would ask for.
                .args(["--disable-admission-plugins", "ServiceAccount"])
                .arg("--cert-dir")
                .arg(folder.join("certificates"))
                .arg("--token-auth-file")
                .arg(folder.join("tokens.csv"))
                .args(["--service-account-issuer", "https://kubernetes.default.svc"])
                .arg("--service-account-key-file")
                .arg(&public)
                .arg("--service-account-signing-key-file")
                .arg(&key)
                // Old versions would otherwise fill the disk: many are written in a minute.
                .args(["--etcd-compaction-interval", "1m", "--shutdown-delay-duration", "0s"]),
            "kube-apiserver",
        )?;
        plane.wait().await?;
        plane.allow_everything().await?;
        Ok(plane)
    }

    /// A kubeconfig file for one of the users: `admin`, or the operator's service account.
    pub fn kubeconfig(&self, user: &str) -> Result<PathBuf, Box<dyn Error>> {
        let path = self.folder.join(format!("{}.kubeconfig", user.replace(':', "-")));
        fs::write(&path, serde_json::to_string(&self.config(user))?)?;
        Ok(path)
    }

    /// The operator's user.
    pub fn operator() -> &'static str {
        USERS[1].0
    }

    /// A client of one of the users, which tries nothing twice.
    pub async fn client(&self, user: &str) -> Result<Client, Box<dyn Error>> {
        let kubeconfig: Kubeconfig = serde_json::from_value(self.config(user))?;
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        (config.read_timeout, config.default_retry) = (None, false);
        Ok(Client::try_from(config)?)
    }

    /// Makes objects from a YAML file of ours: a CRD.
    pub async fn install(&self, file: &Path) -> Result<(), Box<dyn Error>> {
        let wire = Wire(self.client("admin").await?);
        let object: Value = serde_saphyr::from_str(&fs::read_to_string(file)?)?;
        let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        wire.post(crds, &object).await?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let begin = Instant::now();
        loop {
            let crd: Value = serde_json::from_str(&wire.get(&format!("{crds}/{name}")).await?)?;
            let conditions = crd["status"]["conditions"].as_array().cloned().unwrap_or_default();
            if conditions.iter().any(|it| it["type"] == "Established" && it["status"] == "True") {
                return Ok(());
            }
            if begin.elapsed() > PATIENCE {
                return Err(format!("the API server does not serve {name} after {} s", PATIENCE.as_secs()).into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Seconds of processor time that etcd and the API server took so far.
    pub fn cpu_seconds(&self) -> f64 {
        self.processes.iter().map(|process| crate::measure::cpu_seconds(process.id())).sum()
    }

    fn run(&mut self, command: &mut Command, name: &str) -> Result<(), Box<dyn Error>> {
        let log = fs::File::create(self.folder.join(format!("{name}.log")))?;
        let command = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = command.spawn().map_err(|error| format!("cannot start {name}: {error}"))?;
        self.processes.push(process);
        Ok(())
    }

    async fn wait(&mut self) -> Result<(), Box<dyn Error>> {
        let begin = Instant::now();
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            for (process, name) in self.processes.iter_mut().zip(["etcd", "kube-apiserver"]) {
                if let Some(status) = process.try_wait()? {
                    let log = fs::read_to_string(self.folder.join(format!("{name}.log"))).unwrap_or_default();
                    let tail: Vec<_> = log.lines().rev().take(5).collect();
                    return Err(format!("{name} ended right after its start ({status}): {}", tail.join("\n")).into());
                }
            }
            // Its certificate is made at its first start.
            if let Ok(client) = self.client("admin").await
                && client.request_text(hyper::Request::get("/readyz").body(Vec::new())?).await.is_ok()
            {
                return Ok(());
            }
            if begin.elapsed() > PATIENCE {
                return Err(format!("the API server does not answer after {} s", PATIENCE.as_secs()).into());
            }
        }
    }

    /// Rights are not what is measured: the end-to-end tests see to those.
    async fn allow_everything(&self) -> Result<(), Box<dyn Error>> {
        let wire = Wire(self.client("admin").await?);
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": "scale" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": Self::operator() }],
        });
        // The roles come a little after the API server.
        Ok(wire.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).await.map(drop)?)
    }

    fn config(&self, user: &str) -> Value {
        let certificate = self.folder.join("certificates/apiserver.crt");
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "scale",
            "clusters": [{ "name": "scale", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.port), "certificate-authority": certificate,
            } }],
            "users": [{ "name": user, "user": { "token": token(user) } }],
            "contexts": [{ "name": "scale", "context": { "cluster": "scale", "user": user } }],
        })
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = fs::remove_dir_all(self.folder.join("etcd"));
    }
}

/// Debian's 3.4 does not.
pub fn knows_unsafe_no_fsync(etcd: &Path) -> bool {
    let help = Command::new(etcd).arg("--help").output();
    help.is_ok_and(|help| {
        [help.stdout, help.stderr].iter().any(|it| String::from_utf8_lossy(it).contains("unsafe-no-fsync"))
    })
}

/// A private key; its public half lies beside it.
fn make_key(path: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let public = path.with_extension("pub");
    let openssl = |arguments: &[&str], from: Option<&Path>, to: &Path| -> Result<(), Box<dyn Error>> {
        let output = Command::new("openssl").args(arguments).args(from).arg("-out").arg(to).output()?;
        if !output.status.success() {
            return Err(format!("openssl: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(())
    };
    openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], None, path)?;
    openssl(&["pkey", "-pubout", "-in"], Some(path), &public)?;
    Ok(public)
}

fn token(user: &str) -> String {
    format!("token-of-{}", user.replace(':', "-"))
}

fn tokens() -> String {
    USERS.iter().map(|(user, groups)| format!("{},{user},{user},\"{groups}\"\n", token(user))).collect()
}

fn free_ports() -> std::io::Result<[u16; 3]> {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0"));
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.as_ref().map_err(|error| std::io::Error::from(error.kind()))?.local_addr()?.port();
    }
    Ok(ports)
}
