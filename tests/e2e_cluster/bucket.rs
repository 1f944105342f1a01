//! A bucket as the artifact store, with credentials in a Secret.

use std::net::{IpAddr, UdpSocket};

use serde_json::json;

use crate::diary::Kind;
use crate::experiment::{debug, with};
use crate::namespace::Namespace;
use crate::obstacles::waits;
use crate::s3::{BUCKET, OWNER, S3};
use crate::store::{Artifacts, assert_same};

/// The address of this machine at which the cluster's pods find it.
fn own_address(namespace: &Namespace) -> IpAddr {
    let nodes = namespace.get(&["nodes"]);
    let addresses = nodes["items"][0]["status"]["addresses"].as_array().unwrap();
    let node = addresses.iter().find(|address| address["type"] == "InternalIP").unwrap()["address"].as_str().unwrap();
    // Nothing is sent: it only finds the way.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect((node, 9)).unwrap();
    socket.local_addr().unwrap().ip()
}

/// As [`crate::store::Store::artifacts`] names them.
fn artifacts(server: &S3) -> Artifacts {
    let names = server.names("bam/runs").into_iter().filter_map(|name| {
        let key = name.strip_prefix("bam/runs/")?.to_owned();
        let told = ["manifest.json", "report.json"].iter().all(|file| !name.ends_with(&format!("/{file}")));
        (told && !key.contains("/checkpoints/")).then(|| (key, std::fs::read(server.file(&name)).unwrap()))
    });
    names.collect()
}

#[test]
fn a_bucket_is_as_good_a_store_as_a_volume_and_nobody_tells_its_secret() {
    let Some(namespace) = Namespace::new("a bucket") else { return };
    let Some(server) = S3::start_at(&own_address(&namespace).to_string(), "a bucket") else { return };
    for folder in ["glue_data", "pretrained_models"] {
        server.put_folder(&namespace.store.folder.join(folder), &format!("bam/{folder}"));
    }
    let bucket = json!({ "objectStore": { "uri": format!("s3://{BUCKET}/bam"), "secretRef": { "name": "keys" } } });
    let experiment = with(debug("pail", &["rte", "mrpc"]), "storage", bucket);
    namespace.apply(&experiment);
    waits(&namespace, 60, "pail", "Starting", &["inputs check", "secret \"keys\" not found"]);

    let keys = server.environment(OWNER).into_iter().collect::<std::collections::BTreeMap<_, _>>();
    namespace
        .apply(&json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "keys" }, "stringData": keys }));
    namespace.complete("pail");
    namespace.took("complete");

    namespace.store.run_here(&debug("pail", &["rte", "mrpc"]).to_string());
    assert_same(&artifacts(&server), &namespace.store.artifacts());

    // Nothing that the operator wrote or said, and no pod, has the secret in it.
    let mut said = namespace.operator_log();
    for kind in ["bam,bamruns,jobs,pods", "events.events.k8s.io"] {
        said += &namespace.kubectl(&["get", kind, "-o", "yaml"]);
    }
    namespace.diary.read(|seen| {
        let pods: Vec<_> = seen.pages.iter().filter(|page| page.kind == Kind::Pod || page.kind == Kind::Job).collect();
        assert!(!pods.is_empty());
        said += &format!("{pods:?}");
    });
    assert!(said.contains("keys") && !said.contains(OWNER.1), "somebody told the secret");
}
