//! One schedule from its beginning to its end, in virtual time.

use tokio::runtime::Builder;
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::history::History;
use crate::operator::{Operators, go_on};
use crate::schedule::{Millis, PEACE, Schedule};
use crate::world::Shared;

/// After so long without faults, everything has come to its end.
const PATIENCE: Millis = 3_600_000;
/// How long the operator is watched when there is nothing to do: longer than it takes until it looks at everything anew.
const REST: Millis = 11 * 60_000;

pub struct Life {
    pub schedule: Schedule,
    pub history: History,
    /// Why it did not settle, if it did not.
    pub unsettled: Option<String>,
    /// How many entries the history had when it did.
    pub settled: usize,
}

/// Lives through a schedule. The same schedule is the same life.
pub fn live(schedule: &Schedule) -> Life {
    // Of the pauses between a watch's tries.
    fastrand::seed(schedule.seed);
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    LocalSet::new().block_on(&runtime, whole(schedule))
}

async fn whole(schedule: &Schedule) -> Life {
    let world = Shared::new(schedule.clone());
    let mut operators = Operators::new(world.clone(), Instant::now());
    go_on(&world, &mut operators, PEACE).await;
    let mut now = PEACE;
    let unsettled = loop {
        let unsettled = world.lock().unsettled();
        if unsettled.is_none() || now >= PEACE + PATIENCE {
            break unsettled;
        }
        now += 20_000;
        go_on(&world, &mut operators, now).await;
        if let Some(lost) = operators.lost().await {
            break Some(lost);
        }
    };
    let settled = world.lock().history.0.len();
    if unsettled.is_none() {
        world.lock().came("everything has settled".to_owned());
        let rest = if schedule.seed.is_multiple_of(16) { PATIENCE } else { REST };
        go_on(&world, &mut operators, now + rest).await;
    }
    let history = std::mem::take(&mut world.lock().history);
    Life { schedule: schedule.clone(), history, unsettled, settled }
}
