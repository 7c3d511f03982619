//! The orchestrator: which tasks a service should have.
//!
//! Each service is looked at by itself, and answered with the first of these steps that changes
//! anything; the next look, at the view after it, finds the next:
//!
//! ```text
//!   handover  of two tasks in one slot, the one that is not needed any more is given up
//!   restart   what ended, or whose node is lost, is given up and replaced
//!   scale     slots are added or given up
//!   update    tasks of an older spec are replaced, a few at a time
//!   start     what was held ready is let go
//! ```
//!
//! Jobs have steps of their own ([`job`]): they are neither scaled nor rolled out, but run again.
//!
//! Everything is derived from the view: where a rollout stands, what a delay measures from, how
//! often an instance was restarted. A restart of the manager goes on where it was.

mod global;
mod handover;
mod job;
mod orphan;
mod reaper;
mod replicated;
mod restart;
mod slot;
mod update;

pub use orphan::{give_up, orphan, postpone};
pub use reaper::reap;
pub use slot::is_current;

use super::{Context, Planned};
use crate::domain::id::ServiceId;
use crate::domain::service::ModeKind;
use crate::domain::task_state::TaskState;
use crate::domain::view::View;

/// What should change for one service, or for the tasks of one that is gone.
pub fn reconcile(view: &View, id: ServiceId, ctx: Context<'_>) -> Planned {
    let mut planned = Planned::default();
    let Some(service) = view.service(id) else {
        for task in view.tasks_of_service(id) {
            if task.desired_state < TaskState::Remove {
                planned.changes.push(slot::desire(task, TaskState::Remove));
            }
        }
        return planned;
    };
    match service.spec.mode.kind() {
        ModeKind::Replicated(replicas) => {
            replicated::reconcile(view, service, replicas, ctx, &mut planned);
        }
        ModeKind::Global => global::reconcile(view, service, ctx, &mut planned),
        ModeKind::ReplicatedJob { .. } | ModeKind::GlobalJob => {
            job::reconcile(view, service, ctx, &mut planned);
        }
    }
    planned
}
