//! What happens to a cluster, as data: experiments, and a list of acts with their moments. So a schedule can be printed,
//! replayed, and made smaller.

use std::fmt;

use crate::random::Random;

/// Milliseconds of the virtual clock since the beginning.
pub type Millis = u64;

/// From here on nothing more goes wrong.
pub const PEACE: Millis = 600_000;

#[derive(Clone, Debug)]
pub struct Schedule {
    pub seed: u64,
    /// Do operators elect one of them? Without, two that live at the same time do everything twice.
    pub elects: bool,
    pub experiments: Vec<Experiment>,
    pub acts: Vec<(When, Act)>,
}

/// What a user wants. The first one is called `a`, the second one `b`.
#[derive(Clone, Debug)]
pub struct Experiment {
    pub tasks: Vec<&'static str>,
    pub distills: bool,
    /// The first task's teacher is the student of this experiment.
    pub taught_by: Option<&'static str>,
    pub trials: u32,
    pub parallel: Option<u32>,
    pub application_retries: u32,
    pub infrastructure_retries: u32,
    pub ttl_seconds: Option<u32>,
    pub deadline: Option<u32>,
    pub pending_deadline: Option<u32>,
    /// How it is carried out says a profile.
    pub names_profile: bool,
    /// So many teachers of each task compete.
    pub best_of: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum When {
    /// At a moment.
    At(Millis),
    /// Right after so many writes of operators, before any of them hears of the last one.
    AfterWrite(u32),
}

/// Kinds of objects that are watched, by their plural.
pub const WATCHED: [&str; 8] = [
    "bamexperiments",
    "bamruns",
    "jobs",
    "pods",
    "events",
    "persistentvolumeclaims",
    "bamprofiles",
    "clusterbamprofiles",
];

#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    // The user's.
    Submit(usize),
    Suspend(usize),
    Resume(usize),
    Cancel(usize),
    /// What has failed is to be tried again.
    Retry(usize),
    /// `true`: with `--cascade=foreground`, which leaves it there for a while.
    Delete(usize, bool),
    /// Somebody annotates all objects of ours: every version that was looked at is an old one.
    Annotate,
    /// A person removes a Job.
    RemoveJob,
    /// The claim goes, for so long.
    RemoveClaim(Millis),
    /// The profile says something else.
    ChangeProfile,
    /// The profile goes, for so long.
    RemoveProfile(Millis),

    // The machines'.
    /// The next trainers that start have this fate: which, how many.
    Fate(Fate, u32),
    /// A pod that runs is evicted: SIGTERM, and time for a checkpoint.
    Evict,
    /// A pod that runs is deleted with `--force`: nobody sees how it ends.
    ForceDelete,
    /// The machine of a pod that runs is lost; the trainer there may go on unseen.
    LoseMachine,
    /// No pod can be made, for so long.
    HinderPods(Millis),
    /// Images cannot be pulled, for so long.
    BreakImages(Millis),
    /// The clocks of machines are so many seconds wrong from now on.
    SkewMachines(i64),
    /// The artifacts of something that was trained vanish from the store (`true`: are not what they were).
    LoseArtifacts(bool),

    // The network's, and the API server's.
    /// Watches of this kind tell everything so much later, for so long. So what happened to objects of two kinds is heard of
    /// in any order.
    Lag(&'static str, Millis, Millis),
    /// They tell everything twice, for so long.
    Double(&'static str, Millis),
    /// All watches of this kind end, without a word or with an error.
    Break(&'static str, bool),
    /// They end, and what happened since is forgotten: 410, and everything is listed anew.
    Expire(&'static str),
    /// The next requests get this answer: how many, which.
    Refuse(u32, u16),
    /// The next requests get no answer: how many, and whether they are carried out.
    Swallow(u32, bool),
    /// Every message takes so much longer, for so long.
    Slow(Millis, Millis),

    // The operator's.
    /// It is killed, and starts again after so long.
    Crash(Millis),
    /// It is told to stop, and another one starts at once.
    Replace,
    /// A second one works beside it for so long: one that was thought dead.
    Twin(Millis),
    /// Its clock is so many seconds wrong from now on.
    Skew(i64),
    /// The one that leads gets no answer about its lease, for so long; about everything else it does.
    MuteLease(Millis),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    /// Ends with this exit code, and says why.
    Exits(i32),
    /// Ends with this exit code, without a word.
    Crashes(i32),
    /// Is killed by the system because memory ran out.
    RunsOutOfMemory,
    /// Does its work, but its last word cannot be read.
    Mumbles,
}

impl Schedule {
    /// Does the operator look at one namespace alone?
    pub fn is_namespaced(&self) -> bool {
        self.seed % 4 == 3
    }

    /// Does every message arrive at once, and is there always one operator?
    pub fn is_calm(&self) -> bool {
        self.acts.iter().all(|(_, act)| {
            !matches!(
                act,
                Act::Lag(..)
                    | Act::Break(..)
                    | Act::Expire(_)
                    | Act::Refuse(..)
                    | Act::Swallow(..)
                    | Act::Slow(..)
                    | Act::Crash(_)
                    | Act::Replace
                    | Act::Twin(_)
            )
        })
    }

    pub fn random(seed: u64) -> Self {
        let random = &mut Random::new(seed);
        let mut experiments = vec![experiment(random)];
        if random.once_in(2) {
            let mut second = experiment(random);
            if second.distills && random.once_in(3) && second.tasks[0] == experiments[0].tasks[0] {
                second.taught_by = Some("a");
            }
            experiments.push(second);
        }
        let mut acts = vec![(When::At(0), Act::Submit(0))];
        if experiments.len() > 1 {
            let later = random.between(0, 90_000);
            acts.push((When::At(later), Act::Submit(1)));
        }
        for _ in 0..random.between(0, 4) {
            let act = fault(random);
            acts.push((when(random), act));
        }
        if random.once_in(3) {
            let which = random.between(0, experiments.len() as u64 - 1) as usize;
            intervene(random, which, &mut acts);
        }
        // A lease is many requests, and a long life of them.
        let elects = random.once_in(8);
        if elects && random.once_in(2) {
            let first = random.between(5_000, 120_000);
            acts.push((When::At(first), Act::Twin(120_000)));
            acts.push((When::At(first + random.between(1_000, 5_000)), Act::MuteLease(random.between(2_000, 40_000))));
        }
        if random.once_in(4) {
            experiments.iter_mut().for_each(|experiment| experiment.names_profile = !random.once_in(3));
            for _ in 0..random.between(1, 3) {
                let long = random.between(1_000, 120_000);
                let act = random.pick(&[Act::ChangeProfile, Act::RemoveProfile(long)]);
                let at = if random.once_in(4) { When::At(0) } else { when(random) };
                acts.push((at, act));
            }
        }
        Self { seed, elects, experiments, acts }
    }
}

fn experiment(random: &mut Random) -> Experiment {
    Experiment {
        tasks: random.pick(&[vec!["rte"], vec!["rte"], vec!["rte", "mrpc"]]),
        distills: !random.once_in(5),
        taught_by: None,
        trials: random.pick(&[1, 1, 1, 2]),
        parallel: random.pick(&[None, None, Some(1), Some(2)]),
        application_retries: random.between(0, 2) as u32,
        infrastructure_retries: random.between(1, 4) as u32,
        ttl_seconds: random.pick(&[None, None, None, None, None, Some(60)]),
        deadline: random.pick(&[None, None, None, None, None, None, None, Some(60), Some(180)]),
        pending_deadline: random.pick(&[None, None, None, None, None, Some(20), Some(60)]),
        names_profile: false,
        best_of: random.pick(&[None, None, None, None, None, None, None, Some(2)]),
    }
}

fn when(random: &mut Random) -> When {
    match random.once_in(3) {
        true => When::At(random.between(0, 240_000)),
        false => When::AfterWrite(random.between(1, 40) as u32),
    }
}

fn intervene(random: &mut Random, which: usize, acts: &mut Vec<(When, Act)>) {
    let first = random.between(1_000, 200_000);
    let then = first + random.between(500, 60_000);
    match random.between(0, 7) {
        0 => acts.push((When::At(first), Act::Suspend(which))),
        5 => acts.push((When::At(first), Act::Cancel(which))),
        6 | 7 => {
            acts.push((When::At(first), Act::Retry(which)));
            acts.push((When::At(then), Act::Retry(which)));
        }
        1 | 2 => {
            acts.push((When::At(first), Act::Suspend(which)));
            acts.push((When::At(then), Act::Resume(which)));
        }
        3 => {
            let slowly = random.once_in(3);
            acts.push((When::At(first), Act::Delete(which, slowly)));
        }
        _ => {
            let slowly = random.once_in(3);
            acts.push((When::At(first), Act::Delete(which, slowly)));
            acts.push((When::At(then), Act::Submit(which)));
        }
    }
}

fn fault(random: &mut Random) -> Act {
    let kind = random.pick(&WATCHED);
    let long = random.between(1_000, 120_000);
    match random.between(0, 24) {
        0 => Act::Annotate,
        1 => Act::RemoveJob,
        2 => Act::RemoveClaim(long),
        3..=5 => Act::Fate(fate(random), random.pick(&[1, 1, 3, 8])),
        6 => Act::Evict,
        7 => Act::ForceDelete,
        8 => Act::LoseMachine,
        9 => Act::HinderPods(long),
        10 => Act::BreakImages(long),
        11 => Act::LoseArtifacts(random.once_in(3)),
        12 | 13 => Act::Lag(kind, random.between(100, 20_000), long),
        14 => Act::Double(kind, long),
        15 => Act::Break(kind, random.once_in(2)),
        16 => Act::Expire(kind),
        17 => Act::Refuse(random.between(1, 6) as u32, random.pick(&[409, 429, 500, 503, 403])),
        18 => Act::Swallow(random.between(1, 3) as u32, random.once_in(2)),
        19 => Act::Slow(random.between(50, 5_000), long),
        20 => Act::Replace,
        21 => Act::Twin(long),
        22 => Act::Skew(random.pick(&[-300, -20, 20, 300])),
        23 => Act::SkewMachines(random.pick(&[-36_000, -60, 60, 36_000])),
        _ => Act::Crash(random.between(10, 30_000)),
    }
}

fn fate(random: &mut Random) -> Fate {
    match random.between(0, 5) {
        0..=2 => Fate::Exits(random.pick(&[64, 65, 66, 70, 75, 75, 80, 82])),
        3 => Fate::Crashes(random.pick(&[101, 137, 139, 143])),
        4 => Fate::RunsOutOfMemory,
        _ => Fate::Mumbles,
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.elects {
            writeln!(f, "operators elect one of them")?;
        }
        for (name, experiment) in ["a", "b"].iter().zip(&self.experiments) {
            writeln!(f, "experiment {name}: {experiment:?}")?;
        }
        for (when, act) in &self.acts {
            match when {
                When::At(at) => writeln!(f, "at {:.3} s: {act:?}", *at as f64 / 1000.0)?,
                When::AfterWrite(count) => writeln!(f, "after write {count}: {act:?}")?,
            }
        }
        Ok(())
    }
}
