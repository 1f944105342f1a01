//! What was trained on this machine, in the cluster's store.

use std::fs;

use serde_json::Value;

use crate::experiment::debug;
use crate::namespace::Namespace;
use crate::store::{Store, assert_same};
use crate::wishes::kubectl_bam;

#[test]
fn what_was_trained_here_is_not_trained_again_there_and_what_is_damaged_is_refused() {
    let Some(namespace) = Namespace::new("push") else { return };
    let inputs = std::env::var_os("BAM_TEST_BAM_DIR").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let home = Store::with_demo(folder.path().to_owned(), inputs.as_ref());
    let experiment = debug("moved", &["rte", "mrpc"]);
    home.run_here(&experiment.to_string());
    let (file, home_dir) = (home.folder.join("manifest.yaml"), home.folder.to_str().unwrap().to_owned());
    let push = |more: &[&str]| {
        let arguments = ["push", "-f", file.to_str().unwrap(), "--bam-dir", &home_dir];
        kubectl_bam(&namespace, &[&arguments, more].concat())
    };

    // Not what its manifest says: it is refused by name, and the others come.
    let runs = |state: &str, said: &str| -> Vec<String> {
        let said: Value = serde_json::from_str(said).unwrap_or_else(|error| panic!("{error}: {said}"));
        let runs = said["runs"].as_array().unwrap().iter().filter(|run| run["state"] == state);
        runs.map(|run| run["title"].as_str().unwrap().to_owned()).collect()
    };
    let is_of_rte = |run: &std::path::Path| {
        let manifest: Value = serde_json::from_slice(&fs::read(run.join("manifest.json")).unwrap()).unwrap();
        let tasks = manifest["science"]["tasks"].as_array().unwrap();
        tasks.len() == 1 && tasks[0]["name"] == "rte"
    };
    let mut trained = fs::read_dir(home.folder.join("runs")).unwrap().flatten().map(|run| run.path());
    let targets = trained.find(|run| is_of_rte(run)).unwrap().join("targets/rte.safetensors");
    let good = fs::read(&targets).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    fs::write(&targets, &bad).unwrap();
    let refused = push(&[]).unwrap_err();
    assert!(refused.contains("teacher rte"), "{refused}");
    fs::write(&targets, good).unwrap();

    let said = push(&["--output", "json"]).unwrap();
    assert_eq!(runs("pushed", &said), ["teacher rte"], "{said}");
    assert_eq!(runs("there", &said), ["teacher mrpc", "student"], "{said}");
    assert_same(&home.artifacts(), &namespace.store.artifacts());
    namespace.eventually(60, "nothing is left of the receivers", || {
        namespace.kubectl(&["get", "jobs,pods", "-o", "name"]).trim().is_empty().then_some(())
    });

    let pushed = namespace.store.manifests();
    namespace.apply(&experiment);
    let status = namespace.complete("moved");
    assert!(status.runs.len() == 4, "{status:#?}");
    assert_eq!(namespace.store.manifests(), pushed, "nothing was trained again");
    assert!(namespace.attempts("moved").iter().all(|(_, attempts)| *attempts == 1));
    assert_same(&home.artifacts(), &namespace.store.artifacts());
    namespace.took("pushed and complete");
}
