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
pub use slot::{MISPLACED, is_current, is_lost};
pub use update::config as rollout_config;

use std::collections::BTreeSet;

use super::{Context, Planned};
use crate::domain::id::ServiceId;
use crate::domain::service::{ModeKind, Service};
use crate::domain::task::Task;
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

/// How far a service's slots are from what it asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Slots that a rollout brings up to date, in its turns.
    pub stale: u64,
    /// Slots that it brings up to date at once, as their tasks have no node.
    pub unplaced: u64,
    /// Slots that have yet to be filled.
    pub missing: u64,
    /// Slots that are given up.
    pub surplus: u64,
}

/// How many slots of a service are filled.
pub fn instances(view: &View, service: &Service) -> u64 {
    let slots = slot::slots(view, service);
    slots.iter().filter(|slot| slot.current().is_some()).count() as u64
}

/// The outlook of a service. Of a job every change begins a run.
pub fn outlook(view: &View, service: &Service) -> Outlook {
    let slots = slot::slots(view, service);
    let taken: Vec<&slot::Slot<'_>> =
        slots.iter().filter(|slot| slot.current().is_some()).collect();
    let have = taken.len() as u64;
    let (missing, surplus) = match service.spec.mode.kind() {
        ModeKind::Replicated(replicas) => {
            (replicas.saturating_sub(have), replicated::surplus(&taken, replicas))
        }
        ModeKind::Global => global::outlook(view, service, &taken),
        ModeKind::ReplicatedJob { max_concurrent, total } => {
            return Outlook {
                missing: max_concurrent.min(total),
                surplus: have,
                ..Outlook::default()
            };
        }
        ModeKind::GlobalJob => {
            let nodes = view.nodes().filter(|node| global::has_slot(service, node));
            let missing = nodes.count() as u64;
            return Outlook { missing, surplus: have, ..Outlook::default() };
        }
    };
    // What is given up goes before anything is replaced.
    let given_up: BTreeSet<slot::SlotKey> = surplus.iter().map(|slot| slot.key).collect();
    let kept: Vec<&slot::Slot<'_>> =
        taken.into_iter().filter(|slot| !given_up.contains(&slot.key)).collect();
    let (unplaced, stale) = update::behind(view, service, &kept);
    Outlook { stale, unplaced, missing, surplus: surplus.len() as u64 }
}

/// True for a task whose node will not run it any more, and that another one takes the place of.
pub fn is_replaced(view: &View, service: &Service, task: &Task) -> bool {
    let key = slot::SlotKey::of(service.spec.mode.kind(), task);
    restart::is_due(task, task.status.applied_at) && restart::has_place(view, service, key)
}
