//! The handover of a slot: in a start-first rollout a slot has two wanted tasks for a while, the new
//! one and the running one it is to take over from. Here the one that is not needed any more is
//! given up: the old one once the new one runs, or the new one when the service has changed again.

use std::sync::Arc;

use super::slot::{self, Slot};
use super::update;
use crate::domain::change::Key;
use crate::domain::id::TaskId;
use crate::domain::service::{Service, UpdateOrder};
use crate::domain::task::Task;
use crate::domain::task_state::TaskState;
use crate::domain::view::View;
use crate::plan::{Context, Planned};

/// Gives up what has handed over, or what nothing is to be handed over to any more.
pub(super) fn plan(
    view: &View,
    service: &Service,
    slots: &[Slot<'_>],
    ctx: Context<'_>,
    planned: &mut Planned,
) {
    for slot in slots {
        if slot.tasks.iter().filter(|task| task.is_wanted()).nth(1).is_none() {
            continue;
        }
        let kept = keep(view, service, slot, ctx, planned);
        for task in slot.tasks.iter().filter(|task| task.is_wanted()) {
            if !kept.contains(&Some(task.id)) {
                planned.changes.push(slot::desire(task, TaskState::Shutdown));
            }
        }
    }
}

/// The new task of a slot and the one that runs meanwhile; one of them when that is enough.
fn keep(
    view: &View,
    service: &Service,
    slot: &Slot<'_>,
    ctx: Context<'_>,
    planned: &mut Planned,
) -> [Option<TaskId>; 2] {
    let wanted = || slot.tasks.iter().copied().filter(|task| task.is_wanted());
    let runs = |task: &&Arc<Task>| task.status.state == TaskState::Running;
    let current = || wanted().filter(|task| slot::is_current(view, service, task));
    // Mostly the newer one; both, when a node came to satisfy what the older one was too old for.
    let Some(new) = current().find(runs).or_else(|| current().next()) else {
        // Both are old; the rollout makes a new one in its turn.
        let one = wanted().find(runs).or_else(|| wanted().next());
        return [one.map(|task| task.id), None];
    };
    // What waits for a place gets none where the old one holds it, as with a port of the host.
    let starts_first = update::config(service).order == UpdateOrder::StartFirst;
    let waits = !starts_first && new.status.state < TaskState::Assigned;
    let proven_at = runs(&new).then(|| slot::proven_at(new));
    if waits || proven_at.is_some_and(|at| at <= ctx.now) {
        return [Some(new.id), None];
    }
    planned.again.extend(proven_at.map(|at| (at, Key::Service(service.id))));
    let old = wanted().filter(|task| task.id != new.id).find(runs);
    [Some(new.id), old.map(|task| task.id)]
}
