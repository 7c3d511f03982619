//! Restarting: a task that ended is given up, and replaced if its policy says so. The replacement
//! is held ready for the policy's delay, and until its predecessor has stopped. One that ends while
//! it is held, as for want of its image, is replaced when its delay is over and not before.

use super::global;
use super::slot::{self, Slot, SlotKey, Start, When};
use crate::domain::change::Key;
use crate::domain::node::Availability;
use crate::domain::service::{
    RESTART_DELAY_DEFAULT, RestartCondition, RestartPolicy, STOP_GRACE_DEFAULT, Service,
    UpdateState,
};
use crate::domain::task::{Restarts, Task};
use crate::domain::task_state::TaskState;
use crate::domain::time::{Nanoseconds, Timestamp};
use crate::domain::view::View;
use crate::plan::{Context, Planned};

/// How long a replacement waits for its predecessor to stop, beyond the predecessor's own grace
/// period: 1 minute. A node that never reports the end must not hold up a service for ever.
const STOP_WAIT: Nanoseconds = 60_000_000_000;

/// Restarts within [`RECENT`](crate::domain::task::RECENT) that a policy's delay alone decides on.
const BACK_OFF_AFTER: usize = 10;

/// The least time between two restarts after that: 15 s. It leaves more than [`BACK_OFF_AFTER`] of them
/// within what is remembered.
const BACK_OFF: Nanoseconds = 15_000_000_000;

/// Gives up what ended or is lost, and replaces what should be.
pub(super) fn plan(
    view: &View,
    service: &Service,
    slots: &[Slot<'_>],
    ctx: Context<'_>,
    planned: &mut Planned,
) {
    for slot in slots {
        // During a handover the older one is not replaced: the newer one is what replaces it.
        let newest = slot.wanted().map(|task| task.id);
        for task in slot.tasks.iter().filter(|task| task.is_wanted()) {
            let is_over = task.status.state.is_terminal();
            if !slot::is_lost(view, service, task) {
                if !is_over {
                    continue;
                }
                if task.desired_state == TaskState::Ready && task.not_before > ctx.now {
                    planned.again.push((task.not_before, Key::Service(service.id)));
                    continue;
                }
            }
            let ended_at = if is_over { ended_at(task) } else { ctx.now };
            planned.changes.push(slot::end(view, service, task, ended_at));
            let is_newest = newest == Some(task.id);
            if is_newest && is_due(task, ended_at) && has_place(view, service, slot.key) {
                let restarts = next(service, task, ctx.now);
                let held = delay(view, service, task).max(back_off(&restarts, ctx.now));
                let when = When::Held(ctx.now.plus(held));
                planned.changes.push(slot::make(service, slot.key, Start { when, restarts }, ctx));
            }
        }
    }
}

/// Lets go what was held ready: its moment has come, and its predecessor has stopped.
///
/// What is held while its service goes back from what it was made from stays so: the rollback replaces it
/// in its turn, and it would run with what has failed until then.
pub(super) fn start_held(
    view: &View,
    service: &Service,
    slots: &[Slot<'_>],
    ctx: Context<'_>,
    planned: &mut Planned,
) {
    let state = service.update_status.as_ref().map(|status| status.state);
    let goes_back = state == Some(UpdateState::RollbackStarted);
    for slot in slots.iter().filter(|slot| !goes_back || slot.is_up_to_date(view, service)) {
        let Some(task) = slot.wanted().filter(|task| task.desired_state == TaskState::Ready) else {
            continue;
        };
        let stopping = slot
            .tasks
            .iter()
            .filter(|other| other.id != task.id && is_stopping(view, other))
            .map(|other| awaited_until(other, task.meta.created_at))
            .max();
        let moment = stopping.map_or(task.not_before, |until| until.max(task.not_before));
        if moment <= ctx.now {
            planned.changes.push(slot::desire(task, task.goal()));
        } else {
            planned.again.extend(task.service_id.map(|id| (moment, Key::Service(id))));
        }
    }
}

/// When a task was given up; else when it ended, or was told to stop.
pub(super) fn ended_at(task: &Task) -> Timestamp {
    task.restarts.given_up_at.unwrap_or(match task.status.state.is_terminal() {
        true => task.status.applied_at,
        false => task.meta.updated_at,
    })
}

/// True when a task that ended, or was lost, should be replaced. Judged by the task alone and the
/// moment of its end, so that the answer never changes.
pub(super) fn is_due(task: &Task, ended_at: Timestamp) -> bool {
    let policy = task.spec.restart_policy.clone().unwrap_or_default();
    let due = match policy.condition {
        RestartCondition::None => false,
        RestartCondition::OnFailure => task.status.state != TaskState::Complete,
        RestartCondition::Any => true,
    };
    due && match attempts_max(&policy) {
        None => true,
        Some(max) => match window(&policy) {
            None => task.restarts.count < max,
            Some(window) => {
                let from = ended_at.plus(-window);
                let recent = task.restarts.recent.iter().filter(|at| **at >= from).count();
                (recent as u64) < max
            }
        },
    }
}

/// The restarts that the replacement of a task starts with. A changed service counts anew.
fn next(service: &Service, task: &Task, now: Timestamp) -> Restarts {
    let policy = task.spec.restart_policy.clone().unwrap_or_default();
    let mut restarts = match task.spec_version == service.spec_version {
        true => task.restarts.clone(),
        false => Restarts::default(),
    };
    restarts.count += 1;
    restarts.note_end(task, now);
    restarts.given_up_at = None;
    if let (Some(_), Some(window)) = (attempts_max(&policy), window(&policy)) {
        let from = now.plus(-window);
        restarts.recent.retain(|at| *at >= from);
        // No longer than the number of attempts: with more, nothing would be restarted.
        restarts.recent.push(now);
    }
    restarts
}

/// How much longer than its policy says the replacement is held of what ends again and again: an hour
/// has no more than a few hundred restarts, each of which is written, and history on a node.
fn back_off(restarts: &Restarts, now: Timestamp) -> Nanoseconds {
    match restarts.ends.iter().filter(|end| end.is_recent(now)).count() > BACK_OFF_AFTER {
        true => BACK_OFF,
        false => 0,
    }
}

fn attempts_max(policy: &RestartPolicy) -> Option<u64> {
    Some(policy.max_attempts).filter(|max| *max > 0)
}

fn window(policy: &RestartPolicy) -> Option<Nanoseconds> {
    policy.window.filter(|window| *window > 0)
}

/// How long the replacement of a task is held. What moves from a drained node does so at once.
fn delay(view: &View, service: &Service, task: &Task) -> Nanoseconds {
    let node = task.node_id.and_then(|id| view.node(id));
    if node.is_some_and(|node| node.spec.availability == Availability::Drain) {
        return 0;
    }
    let policy = service.spec.task_template.restart_policy.as_ref();
    policy.and_then(|policy| policy.delay).unwrap_or(RESTART_DELAY_DEFAULT)
}

fn grace(task: &Task) -> Nanoseconds {
    let container = task.spec.container_spec.as_ref();
    container.and_then(|container| container.stop_grace_period).unwrap_or(STOP_GRACE_DEFAULT)
}

/// Until when it is waited for a task that was told to stop.
pub(super) fn awaited_until(task: &Task, told_at: Timestamp) -> Timestamp {
    told_at.plus(grace(task).saturating_add(STOP_WAIT))
}

/// True while a task that was told to stop may still be running.
pub(super) fn is_stopping(view: &View, task: &Task) -> bool {
    let state = task.status.state;
    let on_a_live_node = task.node_id.and_then(|id| view.node(id)).is_some_and(|node| node.is_up());
    !task.is_wanted() && state >= TaskState::Assigned && !state.is_terminal() && on_a_live_node
}

/// The replacement in a global service or job belongs to the same node, which must still take it.
pub(super) fn has_place(view: &View, service: &Service, key: SlotKey) -> bool {
    match key {
        SlotKey::Number(_) => true,
        SlotKey::Node(node) => {
            view.node(node).is_some_and(|node| global::takes_tasks(service, node))
        }
    }
}
