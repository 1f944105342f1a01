//! The places in which runs of one experiment are under way at the same time.

use bam_crds::BamRunStatus;
use bam_crds::run::{Role, RunPhase};

use super::Why;
use super::experiment::World;

/// Whose place a run would take.
pub(super) enum Place {
    /// A new one.
    OfItsOwn,
    /// That of a student, which waits until its teacher is trained again.
    ForItsStudent,
}

/// The places in which runs are under way: never more than the experiment may use.
pub(super) struct Places {
    limit: u32,
    taken: u32,
    /// Students that wait until a teacher is trained again: they lend it their place.
    lenders: u32,
    borrowers: u32,
}

impl Places {
    pub(super) fn new(world: &World<'_>) -> Self {
        let mut places = Self { limit: world.observed.limit.unwrap_or(u32::MAX), taken: 0, lenders: 0, borrowers: 0 };
        for node in world.graph.nodes() {
            match world.run(node).filter(|run| !run.is_over()) {
                None => {}
                Some(run) if node.role == Role::Teacher && !run.reopened.by.is_empty() => places.borrowers += 1,
                Some(run) if waits_for_teacher(&run.status) => places.lenders += 1,
                Some(_) => places.taken += 1,
            }
        }
        places
    }

    pub(super) fn take(&mut self, place: Place) -> Result<(), Why> {
        let mut then = Self { ..*self };
        match place {
            Place::OfItsOwn => then.taken += 1,
            Place::ForItsStudent => then.borrowers += 1,
        }
        if then.taken.saturating_add(then.lenders.max(then.borrowers)) > self.limit {
            return Err(Why::NoPlace { limit: self.limit });
        }
        *self = then;
        Ok(())
    }
}

/// Does a run say that it waits until a teacher is trained again? Its word counts: it may be about to start otherwise.
fn waits_for_teacher(run: &BamRunStatus) -> bool {
    let gone = Why::TeacherGone { tasks: Vec::new() };
    run.phase == RunPhase::Pending && run.conditions.iter().any(|condition| condition.reason == gone.reason())
}
