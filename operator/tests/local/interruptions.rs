//! Killed at any moment, or twice at once: nothing is trained twice, and nothing is lost.

use std::time::{Duration, Instant};

use crate::bam::{Bam, end, signal};

/// Long enough to be interrupted.
const SLOW: &str = r#"{"steps": 30, "stepSeconds": 0.02}"#;

fn each_once(counts: &std::collections::BTreeMap<String, usize>) {
    let twice: Vec<_> = counts.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "done again: {twice:?}");
}

#[test]
fn ctrl_c_lets_the_trainer_write_a_checkpoint_and_the_next_run_goes_on_from_it() {
    let bam = Bam::new().orders(SLOW);
    let manifest = bam.distilled();
    let first = bam.start(&manifest);
    bam.wait_until("training", |bam| bam.steps().len() > 5);
    signal(&first, libc::SIGINT);
    let said = end(first);
    assert_eq!(said.code, Some(130), "{said:#?}");
    assert!(said.err.contains("run the same command again to go on"), "{}", said.err);

    let explained = bam.bam(&["explain", "exp"]);
    assert!(explained.out.contains("was stopped at step"), "{}", explained.out);
    assert!(explained.out.contains("start one to go on"), "{}", explained.out);

    let said = bam.run(&manifest);
    assert_eq!(said.code, Some(0), "{said:#?}");
    each_once(&bam.steps());
    assert_eq!(bam.steps().len(), 3 * 30);
}

#[test]
fn a_second_ctrl_c_kills_a_trainer_that_does_not_listen() {
    let bam = Bam::new().orders(r#"{"ends": {"teacher rte": ["hang"]}}"#);
    let child = bam.start(&bam.distilled());
    bam.wait_until("training", |bam| bam.steps().len() >= 10);
    // It takes a moment from its last step to hanging.
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    signal(&child, libc::SIGINT);
    std::thread::sleep(Duration::from_millis(1500));
    signal(&child, libc::SIGINT);
    let said = end(child);
    assert_eq!(said.code, Some(130), "{said:#?}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn the_same_ctrl_c_sent_twice_lets_the_trainer_write_its_checkpoint() {
    // Steps so long that the second signal comes before the checkpoint.
    let bam = Bam::new().orders(r#"{"steps": 4, "stepSeconds": 0.6}"#);
    let child = bam.start(&bam.distilled());
    bam.wait_until("training", |bam| bam.steps().len() > 1);
    signal(&child, libc::SIGINT);
    // As `timeout` does: to the process, and to its group.
    std::thread::sleep(Duration::from_millis(100));
    signal(&child, libc::SIGINT);
    assert_eq!(end(child).code, Some(130));
    let before = bam.steps().len();
    let child = bam.start(&bam.distilled());
    assert_eq!(end(child).code, Some(0));
    assert!(bam.steps().len() > before);
    each_once(&bam.steps());
}

#[test]
fn bam_may_be_killed_at_any_moment() {
    let bam = Bam::new().orders(SLOW);
    let manifest = bam.distilled();
    // Not random, so that a failure comes back; spread over all that a run does.
    for kill in 0..12_u64 {
        let child = bam.start(&manifest);
        std::thread::sleep(Duration::from_millis(37 * kill + 11));
        signal(&child, libc::SIGKILL);
        end(child);
    }
    let said = bam.run(&manifest);
    assert_eq!(said.code, Some(0), "{said:#?}");
    each_once(&bam.trained());
    each_once(&bam.steps());
    assert_eq!(bam.steps().len(), 3 * 30, "nothing is lost");
}

#[test]
fn bam_and_its_trainer_may_be_killed_together() {
    let bam = Bam::new().orders(SLOW);
    let manifest = bam.distilled();
    let child = bam.start(&manifest);
    bam.wait_until("training", |bam| bam.steps().len() > 5);
    // Everything at once, as in a power cut: the trainer has no time for a checkpoint.
    for trainer in children(child.id()) {
        // SAFETY: `kill` has no memory effects; these are children of a child of this test.
        unsafe { libc::kill(trainer, libc::SIGKILL) };
    }
    signal(&child, libc::SIGKILL);
    end(child);
    let said = bam.run(&manifest);
    assert_eq!(said.code, Some(0), "{said:#?}");
    each_once(&bam.trained());
}

#[test]
fn two_at_once_share_the_work() {
    let bam = Bam::new().orders(SLOW);
    let manifest = bam.distilled();
    let both = [bam.start(&manifest), bam.start(&manifest)].map(end);
    for said in &both {
        assert_eq!(said.code, Some(0), "{said:#?}");
    }
    assert_eq!(both[0].out, both[1].out);
    each_once(&bam.trained());
    each_once(&bam.steps());
}

#[test]
fn of_two_the_one_that_is_left_goes_on() {
    let bam = Bam::new().orders(SLOW);
    let manifest = bam.distilled();
    let first = bam.start(&manifest);
    bam.wait_until("training", |bam| bam.steps().len() > 2);
    let second = bam.start(&manifest);
    std::thread::sleep(Duration::from_millis(100));
    signal(&first, libc::SIGKILL);
    end(first);
    let said = end(second);
    assert_eq!(said.code, Some(0), "{said:#?}");
    each_once(&bam.trained());
    each_once(&bam.steps());
}

fn children(parent: u32) -> Vec<i32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let listed = std::fs::read_to_string(path).unwrap_or_default();
    listed.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}
