//! An experiment that is watched until its end, on no terminal.

use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::lab::{Lab, Said, golden};
use crate::server::Chapter;

/// An experiment whose runs come to stand like this, one after another.
fn story(lab: &Lab, stands: &[&[&str]]) -> Vec<Chapter> {
    // Each on a lab of its own: what is not made yet is not there.
    let status = |phases: &&[&str]| serde_json::to_value(Lab::new().experiment("exp", json!({}), phases)).unwrap();
    let mut objects: Vec<Value> = stands.iter().map(status).collect();
    lab.server.put("bamexperiments", objects.remove(0));
    objects.into_iter().map(Chapter::Is).collect()
}

/// Without the time of day at the beginning of each line.
fn timeless(said: Said) -> Said {
    let line = |line: &str| match line.get(2..3) == Some(":") && line.get(5..6) == Some(":") {
        true => format!("{}\n", &line[9..]),
        false => format!("{line}\n"),
    };
    Said { err: said.err.lines().map(line).collect(), ..said }
}

#[test]
fn a_line_for_each_change_and_0_when_it_is_complete() {
    let lab = Lab::new();
    let story = story(
        &lab,
        &[
            &[],
            &["Pending"],
            &["Running"],
            &["Succeeded", "Running", "Running"],
            &["Succeeded", "Succeeded", "Succeeded", "Running"],
            &["Succeeded"; 4],
        ],
    );
    lab.server.objects().story = story;
    golden("watch-complete.txt", &timeless(lab.bam(&["watch", "exp"])));
}

#[test]
fn a_lost_connection_is_told_and_survived() {
    let lab = Lab::new();
    let mut story = story(&lab, &[&["Running"], &["Succeeded", "Running", "Running"], &["Failed"]]);
    story.insert(1, Chapter::Breaks);
    lab.server.objects().story = story;
    let said = timeless(lab.bam(&["watch", "exp"]));
    assert!(said.err.contains("the cluster does not answer"), "{}", said.err);
    assert!(said.err.contains("the cluster answers again"), "{}", said.err);
    assert!(said.err.contains("log: kubectl bam logs exp --run run-"), "{}", said.err);
    assert_eq!(said.code, Some(1), "{said:?}");
}

#[test]
fn one_that_is_deleted_is_over() {
    let lab = Lab::new();
    let mut story = story(&lab, &[&["Running"]]);
    story.push(Chapter::Deleted);
    lab.server.objects().story = story;
    golden("watch-deleted.txt", &timeless(lab.bam(&["watch", "exp"])));
}

#[test]
fn ctrl_c_leaves_the_experiment_alone() {
    let lab = Lab::new();
    story(&lab, &[&["Running"]]);
    let child = lab.command("kubectl-bam", &["watch", "exp"]).spawn().unwrap();
    // It is asked to end when it watches.
    std::thread::sleep(Duration::from_secs(2));
    interrupt(&child);
    let began = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(began.elapsed() < Duration::from_secs(10));
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{err}");
    assert!(err.contains("no longer watched; experiment exp goes on"), "{err}");
    assert!(lab.server.objects().patches.is_empty());
}

fn interrupt(child: &Child) {
    // SAFETY: `kill` has no memory effects, and the child has not been waited for.
    unsafe { libc::kill(child.id().try_into().unwrap(), libc::SIGINT) };
}
