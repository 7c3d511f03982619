//! Jobs: tasks that run to completion. A run begins when the job is made, and another with every
//! update of it; what the run before has not completed by then is given up.
//!
//! ```text
//!   give up   tasks of earlier runs, and those in whose slot another completed
//!   restart   what failed, or whose node is lost, is given up and replaced
//!   begin     tasks for slots that have none: a few at a time, or one for each node
//!   start     what was held ready is let go
//! ```
//!
//! A slot is over once a task of the present run completed in it, or when the last one failed and is
//! not to be replaced; the other slots go on. A slot in which a task has yet to stop is at work, so
//! that neither two runs nor a task and its replacement are at work in more places than they should.

use std::collections::BTreeSet;

use super::replicated::NEW_TASKS_MAX;
use super::slot::{self, Slot, SlotKey, Start};
use super::{global, restart};
use crate::domain::change::Key;
use crate::domain::service::{ModeKind, Service};
use crate::domain::task::Task;
use crate::domain::task_state::TaskState;
use crate::domain::time::Timestamp;
use crate::domain::view::View;
use crate::plan::{Context, Planned};

pub(super) fn reconcile(view: &View, service: &Service, ctx: Context<'_>, planned: &mut Planned) {
    let slots = slot::slots(view, service);
    give_up(service, &slots, planned);
    let of_run: Vec<Slot<'_>> = slots.iter().map(|slot| of_run(service, slot)).collect();
    if planned.changes.is_empty() {
        restart::plan(view, service, &of_run, ctx, planned);
    }
    if planned.changes.is_empty() {
        begin(view, service, &slots, ctx, planned);
    }
    if planned.changes.is_empty() {
        restart::start_held(view, service, &of_run, ctx, planned);
    }
}

/// Earlier runs are of no use any more, but what completed stays as history while its slot does.
fn give_up(service: &Service, slots: &[Slot<'_>], planned: &mut Planned) {
    let mode = service.spec.mode.kind();
    for slot in slots {
        let is_surplus = match (mode, slot.key) {
            (ModeKind::ReplicatedJob { total, .. }, SlotKey::Number(number)) => number >= total,
            _ => false,
        };
        let is_done = slot.tasks.iter().any(|task| service.is_done_by(task));
        for task in &slot.tasks {
            let is_past = task.is_wanted() && !service.is_of_run(task);
            let is_needless = task.is_wanted() && is_done;
            let wish = match is_surplus || is_past {
                true => TaskState::Remove,
                false if is_needless => TaskState::Shutdown,
                false => continue,
            };
            if task.desired_state < wish {
                planned.changes.push(slot::desire(task, wish));
            }
        }
    }
}

/// The same slot without the tasks of earlier runs.
fn of_run<'v>(service: &Service, slot: &Slot<'v>) -> Slot<'v> {
    let tasks = slot.tasks.iter().copied().filter(|task| service.is_of_run(task)).collect();
    Slot { key: slot.key, tasks }
}

/// Tasks for the slots that have yet to have one.
fn begin(
    view: &View,
    service: &Service,
    slots: &[Slot<'_>],
    ctx: Context<'_>,
    planned: &mut Planned,
) {
    let mut taken = BTreeSet::new();
    let mut at_work = 0;
    for slot in slots {
        let standing = standing(view, service, slot, ctx, planned);
        at_work += u64::from(standing == Standing::AtWork);
        if standing != Standing::Open {
            taken.insert(slot.key);
        }
    }
    let keys: Vec<SlotKey> = match service.spec.mode.kind() {
        ModeKind::ReplicatedJob { max_concurrent, total } => {
            let room = usize::try_from(max_concurrent.saturating_sub(at_work));
            let open = (0..total).map(SlotKey::Number).filter(|key| !taken.contains(key));
            open.take(room.unwrap_or(usize::MAX).min(NEW_TASKS_MAX)).collect()
        }
        _ => {
            let nodes = view.nodes().filter(|node| global::takes_tasks(service, node));
            let open = nodes.map(|node| SlotKey::Node(node.id));
            open.filter(|key| !taken.contains(key)).collect()
        }
    };
    let start = |key| slot::make(service, key, Start::default(), ctx);
    planned.changes.extend(keys.into_iter().map(start));
}

/// How far a slot is in the present run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It has yet to have a task.
    Open,
    /// It has a task, or one that has yet to stop.
    AtWork,
    /// It completed, or failed for good.
    Over,
}

/// When a task was told to stop. What its node was told while it was away it hears when it is back.
fn told_at(view: &View, task: &Task) -> Timestamp {
    let node = task.node_id.and_then(|id| view.node(id));
    let heard_at = node.map_or(task.meta.updated_at, |node| node.meta.updated_at);
    heard_at.max(task.meta.updated_at)
}

fn standing(
    view: &View,
    service: &Service,
    slot: &Slot<'_>,
    ctx: Context<'_>,
    planned: &mut Planned,
) -> Standing {
    let stopping = slot.tasks.iter().filter(|task| restart::is_stopping(view, task));
    let awaited = stopping.map(|task| restart::awaited_until(task, told_at(view, task))).max();
    let awaited = awaited.filter(|moment| *moment > ctx.now);
    planned.again.extend(awaited.map(|moment| (moment, Key::Service(service.id))));
    let of_run = of_run(service, slot);
    if awaited.is_some() || of_run.wanted().is_some() {
        Standing::AtWork
    } else if of_run.settled().is_some() || slot.tasks.iter().any(|task| service.is_done_by(task)) {
        Standing::Over
    } else {
        Standing::Open
    }
}
