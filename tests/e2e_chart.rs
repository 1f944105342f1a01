//! The Helm chart, rendered by the real Helm: what it installs, what it grants, and what it refuses.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::{Value, json};

const IMAGES: [&str; 2] = ["operator.image=example.com/operator:1", "trainer.image=example.com/trainer:1"];
const PROMETHEUS_OPERATOR: &str = "--api-versions=monitoring.coreos.com/v1";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What a command says; its errors if it fails.
fn say(command: &mut Command) -> Result<String, String> {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr) + &text(output.stdout)) }
}

fn helm(arguments: &[&str]) -> Result<String, String> {
    static HELM: LazyLock<String> =
        LazyLock::new(|| say(&mut Command::new(root().join("scripts/helm.sh"))).unwrap().trim().to_owned());
    say(Command::new(&*HELM).current_dir(root().join("charts")).args(arguments))
}

/// Renders the chart with these values and flags.
fn render(values: &[&str], flags: &[&str]) -> Result<Vec<Value>, String> {
    let mut arguments = vec!["template", "bam-operator", "bam-operator", "--namespace", "bam-system"];
    values.iter().for_each(|value| arguments.extend(["--set-json", value]));
    IMAGES.iter().for_each(|image| arguments.extend(["--set", image]));
    arguments.extend(flags);
    Ok(serde_saphyr::from_multiple(&helm(&arguments)?).unwrap())
}

fn rendered(values: &[&str]) -> Vec<Value> {
    render(values, &[PROMETHEUS_OPERATOR]).unwrap()
}

fn one<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    let (one, more) = (found.next(), found.next());
    assert!(one.is_some() && more.is_none(), "not exactly one {kind} {name}");
    one.unwrap()
}

fn names(objects: &[Value]) -> BTreeSet<String> {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let metadata = |object: &Value| (word(&object["metadata"]["namespace"]), word(&object["metadata"]["name"]));
    objects
        .iter()
        .map(|object| (word(&object["kind"]), metadata(object)))
        .map(|(kind, (at, name))| format!("{kind} {at} {name}"))
        .collect()
}

/// Every single right: `verb group/resource`.
fn rights(role: &Value) -> BTreeSet<String> {
    let words = |rule: &Value, key: &str| -> Vec<String> {
        rule[key].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        assert_eq!(rule.as_object().unwrap().len(), 3, "only groups, resources and verbs: {rule}");
        for group in words(rule, "apiGroups") {
            for resource in words(rule, "resources") {
                rights.extend(words(rule, "verbs").iter().map(|verb| format!("{verb} {group}/{resource}")));
            }
        }
    }
    rights
}

fn each(verbs: &str, resource: &str) -> BTreeSet<String> {
    verbs.split(' ').map(|verb| format!("{verb} {resource}")).collect()
}

fn what_the_operator_may_do() -> BTreeSet<String> {
    let of_a_namespace = what_the_operator_may_do_in_a_namespace();
    &of_a_namespace | &each("list watch", "bam.dev/clusterbamprofiles")
}

fn what_the_operator_may_do_in_a_namespace() -> BTreeSet<String> {
    [
        each("list watch", "bam.dev/bamprofiles"),
        each("get list watch delete", "bam.dev/bamexperiments"),
        each("patch", "bam.dev/bamexperiments/status"),
        each("list watch create patch", "bam.dev/bamruns"),
        each("patch", "bam.dev/bamruns/status"),
        each("get list watch create delete", "batch/jobs"),
        each("list watch", "/pods"),
        each("create", "/services"),
        each("list watch", "/persistentvolumeclaims"),
        each("list watch", "/events"),
        each("create patch", "events.k8s.io/events"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn helm_finds_nothing_to_complain_about() {
    helm(&["lint", "bam-operator", "--strict", "--set", IMAGES[0], "--set", IMAGES[1]]).unwrap();
}

#[test]
fn it_installs_these_objects_and_no_others() {
    let usual = [
        "ClusterRole - bam-operator",
        "ClusterRole - bam-operator-edit",
        "ClusterRole - bam-operator-view",
        "ClusterRoleBinding - bam-operator",
        "ConfigMap bam-system bam-operator-dashboard",
        "CustomResourceDefinition - bamexperiments.bam.dev",
        "CustomResourceDefinition - bamprofiles.bam.dev",
        "CustomResourceDefinition - bamruns.bam.dev",
        "CustomResourceDefinition - clusterbamprofiles.bam.dev",
        "Deployment bam-system bam-operator",
        "Role bam-system bam-operator-lease",
        "RoleBinding bam-system bam-operator-lease",
        "Service bam-system bam-operator-metrics",
        "ServiceAccount bam-system bam-operator",
    ];
    assert_eq!(names(&rendered(&[])), usual.map(str::to_owned).into());

    let least = rendered(&[
        "crds.install=false",
        "rbac.aggregate=false",
        "metrics.dashboard.enabled=false",
        "leaderElection=false",
        "watchNamespace=\"research\"",
    ]);
    let expected = [
        "Deployment bam-system bam-operator",
        "Role research bam-operator",
        "RoleBinding research bam-operator",
        "Service bam-system bam-operator-metrics",
        "ServiceAccount bam-system bam-operator",
    ];
    assert_eq!(names(&least), expected.map(str::to_owned).into());
}

#[test]
fn of_several_operators_one_leads_by_a_lease_of_its_own_namespace() {
    let several = rendered(&["replicas=2", "watchNamespace=\"research\""]);
    let deployment = one(&several, "Deployment", "bam-operator");
    assert_eq!(deployment["spec"]["replicas"], 2);
    assert_eq!(deployment["spec"]["strategy"]["type"], "RollingUpdate");
    let arguments = &deployment["spec"]["template"]["spec"]["containers"][0]["args"];
    assert!(arguments.as_array().unwrap().contains(&json!("--lease=bam-operator")), "{arguments}");
    let role = one(&several, "Role", "bam-operator-lease");
    assert_eq!(role["metadata"]["namespace"], "bam-system");
    assert_eq!(
        role["rules"],
        json!([
            { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"] },
            { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": ["bam-operator"], "verbs": ["get", "update"] },
        ])
    );
    let alone = rendered(&["leaderElection=false"]);
    assert_eq!(one(&alone, "Deployment", "bam-operator")["spec"]["strategy"]["type"], "Recreate");
    let refused = render(&["replicas=2", "leaderElection=false"], &[]).unwrap_err();
    assert!(refused.contains("set leaderElection=true"), "{refused}");
}

#[test]
fn the_operator_may_do_what_it_does_and_nothing_else() {
    let everywhere = rendered(&[]);
    assert_eq!(rights(one(&everywhere, "ClusterRole", "bam-operator")), what_the_operator_may_do());
    let here = rendered(&["watchNamespace=\"research\""]);
    assert_eq!(rights(one(&here, "Role", "bam-operator")), what_the_operator_may_do_in_a_namespace());
    let with_queues = rendered(&["kueue.enabled=true"]);
    let more = each("list watch", "kueue.x-k8s.io/workloads");
    assert_eq!(rights(one(&with_queues, "ClusterRole", "bam-operator")), &what_the_operator_may_do() | &more);
    let binding = one(&here, "RoleBinding", "bam-operator");
    assert_eq!(binding["roleRef"]["kind"], "Role");
    assert_eq!(
        binding["subjects"],
        json!([{ "kind": "ServiceAccount", "name": "bam-operator", "namespace": "bam-system" }])
    );
}

#[test]
fn people_may_change_experiments_and_only_see_runs() {
    let objects = rendered(&[]);
    let edit = one(&objects, "ClusterRole", "bam-operator-edit");
    let verbs = "get list watch create update patch delete deletecollection";
    assert_eq!(rights(edit), &each(verbs, "bam.dev/bamexperiments") | &each(verbs, "bam.dev/bamprofiles"));
    assert_eq!(edit["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"], "true");
    let view = one(&objects, "ClusterRole", "bam-operator-view");
    assert_eq!(view["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"], "true");
    assert!(rights(view).iter().all(|right| ["get ", "list ", "watch "].iter().any(|verb| right.starts_with(verb))));
}

#[test]
fn the_pod_is_as_the_restricted_standard_wants_it() {
    let objects = rendered(&[]);
    let spec = &one(&objects, "Deployment", "bam-operator")["spec"];
    assert_eq!((&spec["replicas"], &spec["strategy"]["type"]), (&json!(1), &json!("RollingUpdate")));
    let pod = &spec["template"]["spec"];
    let user = json!({ "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": { "type": "RuntimeDefault" } });
    assert_eq!(pod["securityContext"], user);
    let container = json!({ "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] } });
    assert_eq!(pod["containers"][0]["securityContext"], container);
    assert_eq!(pod.get("volumes"), None, "nothing of the node is in it");
}

#[test]
fn values_become_the_operators_flags() {
    let flags = |values: &[&str]| {
        let objects = rendered(values);
        one(&objects, "Deployment", "bam-operator")["spec"]["template"]["spec"]["containers"][0].clone()
    };
    let usual = flags(&[]);
    let expected = [
        "--trainer-image=example.com/trainer:1",
        "--trainer-image-pull-policy=IfNotPresent",
        "--lease=bam-operator",
        "--listen=0.0.0.0:8080",
        "--log-format=text",
    ];
    assert_eq!(usual["args"], json!(expected));
    assert_eq!(usual["env"][0], json!({ "name": "RUST_LOG", "value": "info" }));
    let other = flags(&[
        "watchNamespace=\"research\"",
        "imagePullPolicy=\"Always\"",
        "logFormat=\"json\"",
        "logLevel=\"debug\"",
        "extraEnv=[{\"name\":\"A\",\"value\":\"b\"}]",
        "kueue.enabled=true",
    ]);
    let expected = [
        "--trainer-image=example.com/trainer:1",
        "--trainer-image-pull-policy=Always",
        "--namespace=research",
        "--lease=bam-operator",
        "--kueue",
        "--listen=0.0.0.0:8080",
        "--log-format=json",
    ];
    assert_eq!(other["args"], json!(expected));
    assert_eq!(other["env"][0]["value"], "debug");
    assert_eq!(other["env"][2], json!({ "name": "A", "value": "b" }));
}

#[test]
fn the_definitions_are_those_of_the_types_and_stay_when_the_release_goes() {
    let objects = rendered(&[]);
    for kind in ["bamexperiments", "bamprofiles", "bamruns", "clusterbamprofiles"] {
        let file = &format!("{kind}.bam.dev.yaml");
        let of_types = std::fs::read_to_string(root().join("crds").join(file)).unwrap();
        let of_chart = root().join("charts/bam-operator/crds-generated").join(file);
        assert!(std::fs::read_to_string(&of_chart).unwrap() == of_types, "{} is out of date", of_chart.display());
        let mut expected: Value = serde_saphyr::from_str(&of_types).unwrap();
        expected["metadata"]["annotations"] = json!({ "helm.sh/resource-policy": "keep" });
        let name = file.strip_suffix(".yaml").unwrap();
        assert!(*one(&objects, "CustomResourceDefinition", name) == expected, "{file} is not what Helm installs");
    }
}

#[test]
fn a_release_that_cannot_work_is_refused_with_a_sentence() {
    let refused = |arguments: &[&str]| helm(arguments).unwrap_err();
    let template = ["template", "bam-operator", "bam-operator"];
    let said = refused(&template);
    assert!(said.contains("operator.image is required: the operator's image with its tag or digest"), "{said}");
    let said = refused(&[&template[..], &["--set", IMAGES[0]]].concat());
    assert!(said.contains("trainer.image is required"), "{said}");
    for value in ["metrics.serviceMonitor.enabled", "metrics.rules.enabled"] {
        let said = render(&[&format!("{value}=true")], &[]).unwrap_err();
        assert!(said.contains(&format!("{value} needs the Prometheus operator")), "{said}");
    }
    for wrong in [
        "replicas=17",
        "leaderElection=\"yes\"",
        "logFormat=\"xml\"",
        "watchNamespace=\"A_b\"",
        "operator.tag=\"1\"",
        "imagePullPolicy=\"Sometimes\"",
    ] {
        let said = render(&[wrong], &[]).unwrap_err();
        assert!(said.contains("schema"), "{wrong}: {said}");
    }
}

#[test]
fn alerts_and_dashboard_come_as_they_are_and_series_are_scraped_once() {
    let all =
        ["metrics.serviceMonitor.enabled=true", "metrics.rules.enabled=true", "metrics.rules.labels={\"team\":\"ml\"}"];
    let objects = rendered(&all);
    let chart = root().join("charts/bam-operator");
    let alerts = std::fs::read_to_string(chart.join("alerts/bam.yaml")).unwrap();
    let rule = one(&objects, "PrometheusRule", "bam-operator");
    assert_eq!(rule["spec"], serde_saphyr::from_str::<Value>(&alerts).unwrap());
    assert_eq!(rule["metadata"]["labels"]["team"], "ml");
    let dashboard = std::fs::read_to_string(chart.join("dashboards/bam.json")).unwrap();
    let map = one(&objects, "ConfigMap", "bam-operator-dashboard");
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(parsed(map["data"]["bam.json"].as_str().unwrap()), parsed(&dashboard));
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");

    let annotations =
        |objects: &[Value]| one(objects, "Service", "bam-operator-metrics")["metadata"].get("annotations").cloned();
    assert_eq!(annotations(&objects), None, "the ServiceMonitor scrapes it");
    assert_eq!(annotations(&rendered(&[])).unwrap()["prometheus.io/scrape"], "true");
    let monitor = one(&objects, "ServiceMonitor", "bam-operator");
    let service = one(&objects, "Service", "bam-operator-metrics");
    for (label, value) in monitor["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(service["metadata"]["labels"][label], *value);
    }
}

#[test]
fn each_alert_fires_when_it_must_and_only_then() {
    let programs = say(&mut Command::new(root().join("scripts/prometheus.sh"))).unwrap();
    let promtool = Path::new(programs.trim()).join("promtool");
    let alerts = root().join("charts/bam-operator/alerts");
    say(Command::new(promtool).current_dir(&alerts).args(["test", "rules", "bam_test.yaml"])).unwrap();
    let text = |file| std::fs::read_to_string(alerts.join(file)).unwrap();
    let (alerts, tests) = (text("bam.yaml"), text("bam_test.yaml"));
    for alert in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("- alertname: {alert}\n")), "no test fires {alert}");
        assert!(tests.contains(&format!("- {{ alertname: {alert}, eval_time")), "no test keeps {alert} quiet");
    }
}

#[test]
fn the_chart_has_the_version_of_the_program() {
    let chart = std::fs::read_to_string(root().join("charts/bam-operator/Chart.yaml")).unwrap();
    let chart: Value = serde_saphyr::from_str(&chart).unwrap();
    assert_eq!(
        (&chart["version"], &chart["appVersion"]),
        (&json!(env!("CARGO_PKG_VERSION")), &json!(env!("CARGO_PKG_VERSION")))
    );
}
