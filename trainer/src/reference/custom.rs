//! `custom_tasks`: tasks that are not built in, by name, as this command line writes them: in snake case, with their files
//! among the rest.

use std::collections::BTreeMap;

use bam_crds::hyperparameters::camel_case;
use bam_crds::task::name_problem;
use bam_crds::{CustomTask, TaskFiles, nearest};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Where the rows are.
const FILES: [&str; 3] = ["train", "dev", "test"];
/// What they mean.
const MEANING: [&str; 9] = ["format", "header", "text_a", "text_b", "label", "labels", "range", "metric", "unordered"];

/// Tasks that are not built in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CustomTasks {
    /// What the rows of each mean.
    pub meanings: BTreeMap<String, CustomTask>,
    /// Where they are.
    pub files: BTreeMap<String, TaskFiles>,
}

/// Reads what was given; `problem` hears all that is wrong with it.
pub(super) fn custom_tasks(
    given: BTreeMap<String, Map<String, Value>>,
    problem: &mut dyn FnMut(String),
) -> CustomTasks {
    let mut tasks = CustomTasks::default();
    for (name, given) in given {
        let mut problem = |wrong: String| problem(format!("of {name}: {wrong}"));
        let known = || FILES.into_iter().chain(MEANING);
        for key in given.keys().filter(|key| !known().any(|known| known == *key)) {
            let hint = nearest(key, known()).map(|nearest| format!("; did you mean {nearest}?"));
            problem(format!(
                "{key} is not one of {}{}",
                known().collect::<Vec<_>>().join(", "),
                hint.unwrap_or_default()
            ));
        }
        let part = |keys: &[&str]| -> Map<String, Value> {
            let own = given.iter().filter(|(key, _)| keys.contains(&key.as_str()));
            own.map(|(key, value)| (camel_case(key), value.clone())).collect()
        };
        let files: Option<TaskFiles> = read(part(&FILES), &mut problem);
        let meaning: Option<CustomTask> = read(part(&MEANING), &mut problem);
        if let Some(wrong) = name_problem(&name) {
            problem(format!("{name:?} {wrong}"));
        }
        let of_files = files.iter().flat_map(TaskFiles::problems);
        let wrong: Vec<_> = meaning.iter().flat_map(CustomTask::problems).chain(of_files).collect();
        wrong.into_iter().for_each(|(field, wrong)| problem(snake_case(&format!("{field} {wrong}"))));
        if let (Some(files), Some(meaning)) = (files, meaning) {
            tasks.files.insert(name.clone(), files);
            tasks.meanings.insert(name, meaning.canonical());
        }
    }
    tasks
}

fn read<T: DeserializeOwned>(part: Map<String, Value>, problem: &mut dyn FnMut(String)) -> Option<T> {
    serde_json::from_value(part.into()).map_err(|error| problem(snake_case(&error.to_string()))).ok()
}

/// The names of fields as they are written here.
fn snake_case(sentence: &str) -> String {
    sentence.replace("textA", "text_a").replace("textB", "text_b")
}
