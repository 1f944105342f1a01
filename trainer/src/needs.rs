//! What a run or a check reads before it begins, by its place in the store; teachers aside, whose manifests say what is theirs.

use bam_crds::report::Stage;
use bam_crds::{Execution, InputsConfig, RunConfig, store as layout};

use crate::failure::Failure;
use crate::model;
use crate::report::Reporter;
use crate::store::Store;
use crate::task::{self, Split, Task};

/// Files of a run.
pub fn of_run(config: &RunConfig) -> Vec<String> {
    let Execution { files, target_files, .. } = &config.execution;
    let tasks = config.science.tasks.iter().filter_map(|identity| task::of(identity, files.get(&identity.name)));
    let debug = config.science.hyperparameters.debug;
    let mut names = of(&config.execution, debug, tasks);
    names.extend(target_files.values().cloned());
    names
}

/// Files of a check of the inputs.
pub fn of_check(config: &InputsConfig) -> Vec<String> {
    let one = |name: &String| task::one(name, config.custom.get(name), config.execution.files.get(name));
    let mut names = of(&config.execution, config.debug, config.tasks.iter().filter_map(one));
    names.extend(config.targets.values().flatten().cloned());
    names
}

/// Those that may be there, too: whoever reads them knows what is missing.
fn of(execution: &Execution, debug: bool, tasks: impl Iterator<Item = Task>) -> Vec<String> {
    let model = layout::pretrained(&execution.pretrained);
    let mut names: Vec<_> = model::files(!debug).iter().map(|file| format!("{model}/{file}")).collect();
    for task in tasks {
        let tests = task.test_splits().filter(|_| execution.write_test_outputs);
        let splits = [Split::Train, Split::Dev].into_iter().chain(task.further_splits()).chain(tests);
        names.extend(splits.map(|split| task.path(split)));
    }
    names
}

/// Makes sure that what is in the store of these can be read.
///
/// # Errors
/// If an object store fails.
pub fn bring(names: &[String], store: &Store, reporter: &Reporter) -> Result<(), Failure> {
    if store.is_remote() {
        reporter.stage(Stage::Fetching, 0, 0);
    }
    store.bring(names, |bytes| reporter.advance(bytes, 0))
}
