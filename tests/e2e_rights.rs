//! The operator's rights are those that it uses: the API server refused it nothing, and no right was of no use to it.
//!
//! This looks back at all that the tests in the cluster had it do, so it runs after them (`make test` runs targets by name).
//!
//! | environment | |
//! |---|---|
//! | `BAM_TEST_KUBECONFIG` | the cluster |
//! | `BAM_TEST_AUDIT_LOG` | what its API server wrote down of the operator's requests; `make test` sets it for its own cluster |

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

/// API group, resource and verb, as a role has them.
type Right = (String, String, String);

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The rights in the rules of a role.
fn rights(kubeconfig: &str, role: &[&str]) -> BTreeSet<Right> {
    let mut kubectl = Command::new("kubectl");
    let output = kubectl.args(["--kubeconfig", kubeconfig, "get", "-o", "json"]).args(role).output().unwrap();
    let role: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{role:?}: {error}: {}", String::from_utf8_lossy(&output.stderr)));
    let each = |rule: &Value, field: &str| rule[field].as_array().cloned().unwrap_or_default();
    let mut rights = BTreeSet::new();
    for rule in each(&role, "rules") {
        for group in each(&rule, "apiGroups") {
            for resource in each(&rule, "resources") {
                rights.extend(each(&rule, "verbs").iter().map(|verb| (word(&group), word(&resource), word(verb))));
            }
        }
    }
    assert!(!rights.is_empty());
    rights
}

#[test]
fn the_operator_was_refused_nothing_and_used_every_right() {
    let (Some(kubeconfig), Some(log)) =
        (std::env::var("BAM_TEST_KUBECONFIG").ok(), std::env::var_os("BAM_TEST_AUDIT_LOG"))
    else {
        println!(
            "SKIPPED: the operator's rights: BAM_TEST_AUDIT_LOG is not set (`make test` sets it for its own cluster)"
        );
        return;
    };
    let log = fs::read_to_string(log).unwrap();
    let (mut used, mut refused) = (BTreeSet::<Right>::new(), BTreeSet::new());
    for line in log.lines() {
        let request: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let what = &request["objectRef"];
        if request["annotations"]["authorization.k8s.io/decision"] == "forbid" {
            refused.insert(format!("{} {}", word(&request["verb"]), word(&request["requestURI"])));
        } else if !what.is_null() {
            let below = what["subresource"].as_str().map(|below| format!("/{below}")).unwrap_or_default();
            used.insert((word(&what["apiGroup"]), word(&what["resource"]) + &below, word(&request["verb"])));
        }
    }
    assert!(refused.is_empty(), "the operator asked for what it may not do: {refused:#?}");
    let rights = &rights(&kubeconfig, &["clusterrole", "bam-operator"])
        | &rights(&kubeconfig, &["role", "-n", "bam-system", "bam-operator-lease"]);
    let unused: Vec<_> = rights.difference(&used).collect();
    assert!(unused.is_empty(), "the operator has rights that it did not use: {unused:#?}");
    println!("{} rights, all of them used", rights.len());
}
