//! The states of a task, and the one table of who may make which move.
//!
//! ```text
//!  orchestrator  allocator   scheduler            the node's agent
//!       │            │           │        ┌─────────────┴──────────────────┐
//!       ▼            ▼           ▼        ▼                                ▼
//!      new ──────▶ pending ──▶ assigned ─▶ accepted ▶ preparing ▶ ready ▶ starting ▶ running
//!                                                                            │
//!                                  complete · shutdown · failed · rejected ◀─┘
//! ```
//!
//! An attachment is made `assigned`: its node asked for it, and it was given its address with that.
//!
//! States only grow. What a task *should* do is its desired state, which grows as well.

use super::json::engine_enum;

engine_enum! {
    /// State of a task, as observed or as desired. Their order is the order of a task's life.
    TaskState, unknown "unknown task state {:?}",
    /// Made.
    New = "new",
    /// In the client's list of states; never produced here.
    Allocated = "allocated",
    /// Has its network resources.
    Pending = "pending",
    /// Has its node.
    Assigned = "assigned",
    /// The node understood it.
    Accepted = "accepted",
    /// Image and container are made ready.
    Preparing = "preparing",
    /// The container exists. As a desired state: go no further yet.
    Ready = "ready",
    /// Starting; healthy not yet.
    Starting = "starting",
    /// Running.
    Running = "running",
    /// Ended with exit code 0. As a desired state: run to that end, as the tasks of jobs do.
    Complete = "complete",
    /// Stopped on request.
    Shutdown = "shutdown",
    /// Failed once started.
    Failed = "failed",
    /// Failed before it started.
    Rejected = "rejected",
    /// As a desired state only: stop and forget.
    Remove = "remove",
    /// Its node was gone for too long.
    Orphaned = "orphaned",
}

impl TaskState {
    /// True once nothing runs any more.
    pub fn is_terminal(self) -> bool {
        self > TaskState::Running
    }
}

/// Who moves tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mover {
    /// Makes tasks and says what they should do.
    Orchestrator,
    /// Gives network resources.
    Allocator,
    /// Gives a node.
    Scheduler,
    /// Reports what happens.
    Agent,
    /// Deletes what is over, and gives up what a lost node holds.
    Reaper,
}

/// Whether `mover` may take a task from one observed state to another.
pub fn may_move(mover: Mover, from: TaskState, to: TaskState) -> bool {
    use TaskState::{Accepted, Assigned, New, Orphaned, Pending, Rejected};
    match mover {
        Mover::Orchestrator => false,
        Mover::Allocator => from == New && to == Pending,
        Mover::Scheduler => from == Pending && matches!(to, Pending | Assigned),
        Mover::Agent => {
            from >= Assigned
                && from <= TaskState::Running
                && (Accepted..=Rejected).contains(&to)
                && to >= from
        }
        Mover::Reaper => !from.is_terminal() && to == Orphaned,
    }
}

#[cfg(test)]
mod tests {
    use super::TaskState::*;
    use super::*;

    #[test]
    fn each_mover_owns_its_stretch_of_a_tasks_life() {
        let allowed = [
            (Mover::Allocator, New, Pending),
            (Mover::Scheduler, Pending, Assigned),
            (Mover::Agent, Assigned, Accepted),
            (Mover::Agent, Assigned, Running),
            (Mover::Agent, Running, Running),
            (Mover::Agent, Running, Failed),
            (Mover::Reaper, Running, Orphaned),
        ];
        for (mover, from, to) in allowed {
            assert!(may_move(mover, from, to), "{mover:?} {from} → {to}");
        }
        let refused = [
            (Mover::Agent, New, Running),
            (Mover::Agent, Running, Ready),
            (Mover::Agent, Failed, Running),
            (Mover::Agent, Failed, Complete),
            (Mover::Agent, Running, Orphaned),
            (Mover::Agent, Running, Remove),
            (Mover::Scheduler, New, Assigned),
            (Mover::Allocator, Pending, Assigned),
            (Mover::Orchestrator, New, Pending),
            (Mover::Reaper, Complete, Orphaned),
        ];
        for (mover, from, to) in refused {
            assert!(!may_move(mover, from, to), "{mover:?} {from} → {to}");
        }
    }
}
