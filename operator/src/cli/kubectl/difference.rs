//! What a manifest changes of an experiment that is there, and which of it the API server refuses. Pure.

use bam_crds::{BamExperiment, BamExperimentSpec, GROUP, VERSION, schema};
use serde_json::{Map, Value, json};

use crate::manifest;

/// One field that is otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Where it stands: `spec.trials`.
    pub field: String,
    /// What it was; none: it was not set.
    pub before: Option<Value>,
    /// What it will be; none: it will not be set.
    pub after: Option<Value>,
    /// Why it cannot be changed, and what to do.
    pub refused: Option<String>,
}

impl Change {
    /// For a person.
    pub fn text(&self) -> String {
        let show = |value: &Option<Value>| value.as_ref().map_or("not set".to_owned(), ToString::to_string);
        let refused = self.refused.as_ref().map(|why| format!("\n    refused: {why}")).unwrap_or_default();
        format!("{}: {} -> {}{refused}", self.field, show(&self.before), show(&self.after))
    }

    /// For a program.
    pub fn json(&self) -> Value {
        json!({ "field": self.field, "before": self.before, "after": self.after, "refused": self.refused })
    }
}

/// Where `kubectl apply` keeps what it was given last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// What is wished of an experiment by other ways than its manifest.
const WISHES: [&str; 3] = ["suspend", "cancel", "retry"];

/// The spec that an experiment has after `kubectl apply` of a manifest: what somebody else has set, and the manifest does not
/// speak of, stays.
pub fn applied(before: &BamExperiment, manifest: &BamExperimentSpec) -> BamExperimentSpec {
    let annotations = before.metadata.annotations.as_ref();
    let last = annotations.and_then(|all| serde_json::from_str::<Value>(all.get(LAST_APPLIED)?).ok());
    let stays = |field: &str| match &last {
        Some(last) => last["spec"].get(field).is_none(),
        None => WISHES.contains(&field),
    };
    let mut after = fields(manifest);
    for (field, value) in fields(&before.spec) {
        if !after.contains_key(&field) && stays(&field) {
            after.insert(field, value);
        }
    }
    serde_json::from_value(Value::Object(after)).unwrap_or_else(|_| manifest.clone())
}

/// What is otherwise in `after`, field by field.
pub fn changes(before: &BamExperimentSpec, after: &BamExperimentSpec) -> Vec<Change> {
    let (old, new) = (fields(before), fields(after));
    let mut names: Vec<_> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    let mut changes = Vec::new();
    for name in names.into_iter().filter(|name| old.get(*name) != new.get(*name)) {
        let refused = refusal(&old, name, new.get(name));
        let first = changes.len();
        compare(&format!("spec.{name}"), old.get(name), new.get(name), &mut changes);
        // Said once, behind the last of its fields.
        if let Some(last) = changes[first..].last_mut() {
            last.refused = refused;
        }
    }
    changes
}

fn fields(spec: &BamExperimentSpec) -> Map<String, Value> {
    match serde_json::to_value(spec) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// Why the API server refuses this change of one field, as the schema's rules say it.
fn refusal(old: &Map<String, Value>, field: &str, new: Option<&Value>) -> Option<String> {
    let object = |spec: &Map<String, Value>| {
        let head = (format!("{GROUP}/{VERSION}"), "BamExperiment");
        json!({ "apiVersion": head.0, "kind": head.1, "metadata": { "name": "it" }, "spec": spec }).to_string()
    };
    let mut changed = old.clone();
    match new {
        Some(value) => changed.insert(field.to_owned(), value.clone()),
        None => changed.remove(field),
    };
    let (before, after, crd) = (object(old), object(&changed), schema::experiment());
    // What is wrong without a look at what was before is no matter of the change.
    let wrong = manifest::judge(&crd, &after, None);
    let faults = manifest::judge(&crd, &after, Some(&before)).into_iter();
    let new: Vec<_> = faults.filter(|fault| !wrong.contains(fault)).map(|fault| fault.message).collect();
    (!new.is_empty()).then(|| new.join("; "))
}

fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, changes: &mut Vec<Change>) {
    if before == after {
        return;
    }
    match (before, after) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let mut names: Vec<_> = old.keys().chain(new.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                compare(&format!("{path}.{name}"), old.get(name), new.get(name), changes);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) if old.len() == new.len() => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                compare(&format!("{path}[{index}]"), Some(old), Some(new), changes);
            }
        }
        _ => changes.push(Change {
            field: path.to_owned(),
            before: before.cloned(),
            after: after.cloned(),
            refused: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(more: Value) -> BamExperimentSpec {
        let mut spec = json!({
            "tasks": [{ "name": "rte" }, { "name": "mrpc" }], "model": { "pretrained": "tiny" }, "distill": {},
            "storage": { "persistentVolumeClaim": { "claimName": "bam-dir" } },
        });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn a_change_is_told_field_by_field_and_one_that_is_refused_with_the_rule_s_sentence() {
        let table = [
            ("nothing", json!({}), json!({}), vec![]),
            ("more trials", json!({}), json!({ "trials": 3 }), vec!["spec.trials: 1 -> 3"]),
            (
                "fewer trials",
                json!({ "trials": 3 }),
                json!({}),
                vec!["spec.trials: 3 -> 1\n    refused: trials can be raised, not lowered: what is trained stays"],
            ),
            (
                "two fields of one part that must stay",
                json!({ "hyperparameters": { "trainBatchSize": 32 } }),
                json!({ "hyperparameters": { "trainBatchSize": 16, "maxSeqLength": 64 } }),
                vec![
                    "spec.hyperparameters.maxSeqLength: not set -> 64",
                    "spec.hyperparameters.trainBatchSize: 32 -> 16\n    refused: hyperparameters are immutable: what is trained \
                     would be another model; create a new experiment",
                ],
            ),
            (
                "the tasks' order",
                json!({}),
                json!({ "tasks": [{ "name": "mrpc" }, { "name": "rte" }] }),
                vec![
                    "spec.tasks[0].name: \"rte\" -> \"mrpc\"",
                    "spec.tasks[1].name: \"mrpc\" -> \"rte\"\n    refused: tasks are immutable: what is trained would be \
                     another model; create a new experiment",
                ],
            ),
            (
                "a seed and what pods get",
                json!({}),
                json!({ "seed": 2, "compute": { "threads": 4 } }),
                vec![
                    "spec.compute: not set -> {\"threads\":4}",
                    "spec.seed: 1 -> 2\n    refused: model, storage, seed and precision are immutable: what is trained would be \
                     another model; create a new experiment",
                ],
            ),
        ];
        for (what, before, after, expected) in table {
            let said: Vec<_> = changes(&spec(before), &spec(after)).iter().map(Change::text).collect();
            assert_eq!(said, expected, "{what}");
        }
    }

    #[test]
    fn what_others_set_stays_unless_the_manifest_has_spoken_of_it() {
        let experiment = |more: Value, last: Option<Value>| {
            let annotations = last.map(|last| json!({ LAST_APPLIED: json!({ "spec": last }).to_string() }));
            let object = json!({
                "apiVersion": "bam.dev/v1alpha1", "kind": "BamExperiment",
                "metadata": { "name": "exp", "annotations": annotations }, "spec": spec(more),
            });
            serde_json::from_value::<BamExperiment>(object).unwrap()
        };
        let set = || json!({ "suspend": true, "maxParallelRuns": 2 });
        let after = |last: Option<Value>| applied(&experiment(set(), last), &spec(json!({})));
        let of = |spec: BamExperimentSpec| (spec.suspend, spec.max_parallel_runs);
        assert_eq!(of(after(None)), (true, None), "a wish stays, where nobody knows what was applied");
        assert_eq!(of(after(Some(json!({ "tasks": [] })))), (true, Some(2)), "neither was ever in the manifest");
        assert_eq!(of(after(Some(set()))), (false, None), "both were taken out of it");
    }
}
