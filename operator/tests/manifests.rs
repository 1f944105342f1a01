//! What people write: accepted and refused as an API server would, every fault at once.

use bam_operator::manifest::{Manifest, read};

const SOUND: &str = "
apiVersion: bam.dev/v1alpha1
kind: BamExperiment
metadata: {name: rte-mrpc}
spec:
  tasks: [{name: rte}, {name: mrpc}]
  model: {pretrained: tiny}
  storage: {persistentVolumeClaim: {claimName: bam-dir}}
";

fn with(spec: &str) -> Manifest {
    read(&format!("{SOUND}  {spec}\n"))
}

fn faults(manifest: &Manifest) -> Vec<String> {
    manifest.faults.iter().map(ToString::to_string).collect()
}

#[test]
fn every_example_is_accepted() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut seen = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let manifest = read(&std::fs::read_to_string(&path).unwrap());
        assert_eq!((faults(&manifest), manifest.notes), (vec![], vec![]), "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 3);
}

#[test]
fn what_an_api_server_accepts_is_accepted() {
    for spec in [
        "distill: {}",
        "distill: null",
        "trials: null",
        "trials: 3.0",
        "compute:",
        "hyperparameters: {learningRate: 1, numTrainEpochs: \"2.5\", doLowerCase: yes}",
        "hyperparameters: {numTrainEpochs: 3.0}",
        "distill: {annealing: false, weight: \"0.3\"}",
        "distill: {hyperparameters: {lrDecay: -1}}",
        "failurePolicy: {applicationRetries: 0}",
        "maxParallelRuns: 4",
    ] {
        let manifest = with(spec);
        assert_eq!(faults(&manifest), Vec::<String>::new(), "{spec}");
        assert_eq!(manifest.experiments.len(), 1, "{spec}");
    }
}

#[test]
fn what_an_api_server_refuses_is_refused_with_a_sentence() {
    for (spec, sentence) in [
        ("trials: 101", "spec.trials: must be at most 100, but is 101"),
        ("trials: many", "spec.trials: must be a whole number, but is many"),
        ("trials: 1.5", "spec.trials: must be a whole number, but is 1.5"),
        ("seed: -1", "spec.seed: must be at least 0, but is -1"),
        ("sead: 3", "spec.sead: there is no such field; did you mean seed?"),
        ("Seed: 3", "spec.Seed: there is no such field; did you mean seed?"),
        (
            "hyperparameters: {learningRate: 5e-5}",
            "spec.hyperparameters.learningRate: quote it, as Kubernetes keeps no floating-point numbers: \"5e-5\"",
        ),
        (
            "hyperparameters: {learningRate: \"0\"}",
            "spec.hyperparameters.learningRate: must be above 0 and at most 1, but is \"0\"",
        ),
        (
            "hyperparameters: {learningRate: fast}",
            "spec.hyperparameters.learningRate: \"fast\" is not a decimal number: write it like \"0.1\" or \"5e-5\"",
        ),
        ("hyperparameters: {debug: 1}", "spec.hyperparameters.debug: must be true or false, but is 1"),
        (
            "distill: {weight: \"0.3\"}",
            "spec.distill.weight: weight is the teachers' constant weight and has no effect while annealing is true: set \
             `annealing: false`, or remove it",
        ),
        ("distill: yes", "spec.distill: must be fields with values, not a single value, but is yes"),
        (
            "compute: {accelerator: {tpu: {type: tpu-v4-podslice, topology: 2x2x4, chipsPerHost: 3}}}",
            "spec.compute.accelerator.tpu.topology: \"2x2x4\" is not cut into 1 to 256 whole hosts, of 4 chips each, or one of up to 4 \
             (in two dimensions up to 8): take another topology, or say in `chipsPerHost` how many each host has",
        ),
        (
            "compute: {accelerator: {tpu: {type: tpu-v5-lite-podslice, topology: v5e-8}}}",
            "spec.compute.accelerator.tpu.topology: \"v5e-8\" is no topology: write it like 2x4 or 2x2x1",
        ),
        (
            "compute: {podTemplate: {spec: {nodeSelector: {pool: a b}}}}",
            "spec.compute.podTemplate.spec.nodeSelector.pool: \"a b\" is no value of a label: at most 63 letters, digits, `-`, \
             `_` and `.`, a letter or digit at both ends",
        ),
        (
            "compute: {podTemplate: {spec: {tolerations: [{value: gpu}]}}}",
            "spec.compute.podTemplate.spec.tolerations[0]: without a key it is of any taint: name one, or set `operator: \
             Exists`",
        ),
        ("storage: {}", "is no YAML: duplicate mapping key: storage"),
    ] {
        assert_eq!(faults(&with(spec)), [sentence], "{spec}");
    }
}

#[test]
fn rules_between_fields_and_lists_hold() {
    let task = |tasks: &str| {
        let text = SOUND.replace("[{name: rte}, {name: mrpc}]", tasks);
        faults(&read(&text))
    };
    assert_eq!(
        task("[{name: rte, teacher: {}}]"),
        [
            "spec.tasks: a task names a teacher, but the experiment does not distill: add `distill: {}`, or remove `teacher`"
        ]
    );
    assert_eq!(task("[]"), ["spec.tasks: must have at least 1 item"]);
    assert_eq!(task("[{name: rte}, {name: rte}]"), ["spec.tasks[1]: name \"rte\" stands twice in this list"]);
    assert_eq!(task("{name: rte}"), ["spec.tasks: must be a list (lines that begin with `- `)"]);
    assert_eq!(
        task("[{name: RTE}]"),
        [
            "spec.tasks[0].name: \"RTE\" is no name for a task: at most 63 lower-case letters, digits, `-` and `_`, a letter or \
          digit at both ends; did you mean rte?"
        ]
    );
    assert_eq!(
        task("[{name: squad}, {name: rtee}]"),
        [
            "spec.tasks[0].name: \"squad\" is no task of GLUE (cola, mnli, mrpc, qnli, qqp, rte, sst, sts, wnli), and one of \
             your own has `files` and `custom`",
            "spec.tasks[1].name: \"rtee\" is no task of GLUE (cola, mnli, mrpc, qnli, qqp, rte, sst, sts, wnli), and one of \
             your own has `files` and `custom`; did you mean rte?",
        ]
    );
    let own = |files: &str, custom: &str| task(&format!("[{{name: own, files: {{{files}}}, custom: {{{custom}}}}}]"));
    let said = "format: CSV, textA: a, label: b";
    assert_eq!(
        own("train: ../a, dev: b", &format!("{said}, range: {{min: low, max: 1}}")),
        [
            "spec.tasks[0].custom.range.min: \"low\" is no bound of scores: write it like 5 or \"0.5\"",
            "spec.tasks[0].files.train: \"../a\" is no path in the store: letters, digits, `_`, `-` and `.` between slashes, \
             like tweets/train.csv, and no part begins with a dot",
        ]
    );
    assert_eq!(
        own("train: a, dev: b", &format!("{said}, labels: [p, q, p], metric: Pearson")),
        [
            "spec.tasks[0].custom.labels[2]: \"p\" stands twice in this list",
            "spec.tasks[0].custom.metric: labels are measured by Accuracy, F1 or Matthews, scores by Pearson or Spearman",
        ]
    );
    assert_eq!(
        task("null"),
        [
            "spec.tasks: is missing (the tasks, in order: cola, mnli, mrpc, qnli, qqp, rte, sst, sts or wnli, or tasks of your own)"
        ]
    );
}

#[test]
fn the_envelope_is_that_of_an_object() {
    for (from, to, sentence) in [
        (
            "name: rte-mrpc",
            "name: RTE_MRPC",
            "metadata.name: \"RTE_MRPC\" is no name for a Kubernetes object: at most 253 \
             lower-case letters, digits, `-` and `.`, a letter or digit at both ends and beside every `.`",
        ),
        ("name: rte-mrpc", "namespace: x", "metadata.name: is missing: every experiment has a name"),
        ("name: rte-mrpc", "name: x, lables: {}", "metadata.lables: there is no such field; did you mean labels?"),
        ("name: rte-mrpc", "name: x, labels: {a: 1}", "metadata.labels.a: must be text: quote it, \"1\""),
        ("v1alpha1", "v1", "apiVersion: must be bam.dev/v1alpha1"),
        ("kind: BamExperiment", "kind: BamExperimnt", "kind: must be BamExperiment"),
        ("kind: BamExperiment", "", "kind: is missing: kind: BamExperiment"),
        ("\nspec:", "\nspecs:", "specs: there is no such field; did you mean spec?"),
    ] {
        let found = faults(&read(&SOUND.replace(from, to)));
        assert!(found.iter().any(|fault| fault == sentence), "{to}: {found:#?}");
    }
}

#[test]
fn all_faults_are_said_at_once_with_their_lines() {
    let manifest = read(
        "apiVersion: bam.dev/v1alpha1\nkind: BamExperiment\nmetadata:\n  name: x\nspec:\n  tasks:\n  - name: rtee\n  \
         trials: 0\n  model:\n    pretrained: \"\"\n  maxParallelRuns: 0\n",
    );
    let found: Vec<_> = manifest.faults.iter().map(|fault| (fault.line, fault.path.as_str())).collect();
    let expected = [
        (Some(5), "spec.storage"),
        (Some(7), "spec.tasks[0].name"),
        (Some(8), "spec.trials"),
        (Some(10), "spec.model.pretrained"),
        (Some(11), "spec.maxParallelRuns"),
    ];
    let mut paths: Vec<_> = found.clone();
    paths.dedup();
    assert_eq!(paths, expected);
    assert!(manifest.experiments.is_empty());
}

#[test]
fn other_objects_may_stand_in_the_file() {
    let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: bam-dir}\n---";
    let manifest = read(&format!("{claim}{SOUND}"));
    assert_eq!(faults(&manifest), Vec::<String>::new());
    assert_eq!(manifest.experiments.len(), 1);
    assert_eq!(manifest.notes[0].to_string(), "the PersistentVolumeClaim is left out: this program runs experiments");
    let nothing = read(claim);
    assert_eq!(faults(&nothing), ["there is no BamExperiment in it (apiVersion: bam.dev/v1alpha1)"]);
}

#[test]
fn an_empty_distill_is_pointed_at() {
    let manifest = with("distill:");
    assert_eq!(faults(&manifest), Vec::<String>::new());
    assert!(manifest.notes[0].to_string().starts_with("spec.distill: is empty, which means that nothing is distilled"));
}

#[test]
fn an_entry_without_a_value_is_pointed_at() {
    let manifest = with("distill: {teachers: {rte: }}");
    assert_eq!(faults(&manifest), Vec::<String>::new());
    assert_eq!(manifest.notes[0].to_string(), "spec.distill.teachers.rte: is empty, and left out therefore");
}

#[test]
fn the_beginning_of_a_name_is_a_name_without_a_cluster() {
    let manifest = read(&SOUND.replace("name: rte-mrpc", "generateName: sweep-"));
    assert_eq!(faults(&manifest), Vec::<String>::new());
    assert_eq!(manifest.experiments[0].metadata.name.as_deref(), Some("sweep"));
    let note = "metadata.generateName: a cluster completes this to a new name each time; here it is sweep";
    assert_eq!(manifest.notes[0].to_string(), note);
}

#[test]
fn a_status_that_was_copied_with_the_rest_does_not_count() {
    let manifest = read(&format!("{SOUND}status: {{phase: Complete, waitingFor: 3}}\n"));
    assert_eq!(faults(&manifest), Vec::<String>::new());
    assert_eq!(manifest.experiments[0].status, None);
}

#[test]
fn a_long_text_is_not_repeated_in_full() {
    let manifest = with(&format!("compute: {{image: \"{} {}\"}}", "a".repeat(100), "b".repeat(100)));
    let sentence = format!(
        "spec.compute.image: \"{}…\" is no image: letters, digits and signs of ASCII, no blanks",
        "a".repeat(79)
    );
    assert_eq!(faults(&manifest), [sentence]);
}
