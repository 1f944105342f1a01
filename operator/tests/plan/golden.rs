//! Whole stories as text: what is done, in which order, and what the status says meanwhile.

use std::fs;
use std::path::Path;

use bam_crds::run::Role;

use crate::build;
use crate::world::{Fate, World};

fn golden(name: &str, world: World) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let state = world.run();
    let mut story = state.journal.join("\n") + "\n\n";
    for run in &state.status.runs {
        let title = match run.role {
            Role::Student => format!("student {}", run.trial.unwrap_or_default()),
            role => format!("{} {}", role.noun(), run.tasks.join(" ")),
        };
        story += &format!("{title}: {:?} {}\n", run.phase, run.message);
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &story).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert!(story == wanted, "{} differs; UPDATE_GOLDEN=1 writes it anew. It is now:\n{story}", path.display());
}

#[test]
fn two_teachers_and_a_student_in_one_place() {
    let mut experiment = build::distilled(&["rte", "mrpc"]);
    experiment.spec.max_parallel_runs = Some(1);
    golden("story-one-place.txt", World::new(experiment));
}

#[test]
fn three_trials_in_two_places() {
    let mut experiment = build::distilled(&["rte"]);
    experiment.spec.trials = 3;
    experiment.spec.max_parallel_runs = Some(2);
    golden("story-trials.txt", World::new(experiment));
}

#[test]
fn everything_that_can_be_got_over() {
    let fates = [
        Fate::Vanishes,
        Fate::Completes,
        Fate::Exits(139),
        Fate::RunsOutOfMemory,
        Fate::Checkpoints(10),
        Fate::Exits(137),
        Fate::Completes,
        Fate::CompletesAndTeacherIsLost,
        Fate::Completes,
    ];
    let mut experiment = build::distilled(&["rte", "mrpc"]);
    experiment.spec.max_parallel_runs = Some(1);
    golden("story-mishaps.txt", World::new(experiment).with_fates(fates));
}

#[test]
fn targets_get_lost_and_nobody_sees_the_store() {
    let fates = [Fate::Completes, Fate::Completes, Fate::CompletesAndTeacherIsLost, Fate::Completes];
    let mut world = World::new(build::distilled(&["rte", "mrpc"])).with_fates(fates);
    world.sees_store = false;
    world.state.borrow_mut().experiment.spec.max_parallel_runs = Some(1);
    golden("story-lost-targets.txt", world);
}

#[test]
fn data_that_do_not_fit() {
    golden("story-bad-data.txt", World::new(build::distilled(&["rte"])).with_fates([Fate::Exits(65)]));
}
