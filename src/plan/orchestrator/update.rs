//! Rolling updates: tasks of an older spec are replaced, a few at a time, the old one stopping
//! before the new one starts.
//!
//! Where a rollout stands is read from the view. A slot is in hand from the moment its new task was
//! made until that task has run for the configured delay, or has ended: a failure is counted, and
//! either stops the rollout or does not hold it up. Slots that never had a node are brought up to
//! date beside all that: they take nothing from the service, and may wait for long.

use super::slot::{self, Slot, SlotKey, Start};
use super::{global, restart};
use crate::domain::change::{Change, Key};
use crate::domain::service::{
    FailureAction, Service, UPDATE_MONITOR_DEFAULT, UpdateConfig, UpdateState, UpdateStatus,
};
use crate::domain::task::Task;
use crate::domain::task_state::TaskState;
use crate::domain::time::{Nanoseconds, Timestamp};
use crate::domain::view::View;
use crate::plan::{Context, Planned};

pub(super) fn plan(
    view: &View,
    service: &Service,
    slots: &[Slot<'_>],
    ctx: Context<'_>,
    planned: &mut Planned,
) {
    let (fresh, mut stale): (Vec<&Slot<'_>>, Vec<&Slot<'_>>) = slots
        .iter()
        .filter(|slot| slot.current().is_some())
        .partition(|slot| slot.current().is_some_and(|task| slot::is_current(view, service, task)));
    stale.retain(|slot| is_for_rollout(view, service, slot.key));
    stale.sort_by_key(|slot| turn(slot));
    let state = service.update_status.as_ref().map(|status| status.state);
    match (state, stale.is_empty()) {
        (Some(UpdateState::Paused), _) | (None | Some(UpdateState::Completed), true) => {}
        (Some(UpdateState::Updating), _) => roll(view, service, &fresh, &stale, ctx, planned),
        // A rollback state is never written yet; should one be there, the update starts anew.
        (_, false) => {
            planned.changes.push(report(service, UpdateState::Updating, "update in progress", ctx));
        }
        (_, true) => {}
    }
}

/// Whose turn it is: first what has a place and does not run there, since that takes nothing from
/// the service; last what has no place, since its replacement may find none and hold up the rest.
fn turn(slot: &Slot<'_>) -> u8 {
    match slot.wanted().map(|task| task.status.state) {
        Some(TaskState::Running) => 1,
        Some(state) if state >= TaskState::Assigned => 0,
        _ => 2,
    }
}

/// A global service's slot on a node that is paused, drained or down stays as it is.
fn is_for_rollout(view: &View, service: &Service, key: SlotKey) -> bool {
    match key {
        SlotKey::Number(_) => true,
        SlotKey::Node(node) => view.node(node).is_some_and(|node| global::has_slot(service, node)),
    }
}

fn roll(
    view: &View,
    service: &Service,
    fresh: &[&Slot<'_>],
    stale: &[&Slot<'_>],
    ctx: Context<'_>,
    planned: &mut Planned,
) {
    let config = service
        .spec
        .update_config
        .clone()
        .unwrap_or(UpdateConfig { parallelism: 1, ..UpdateConfig::default() });
    let started = service.update_status.as_ref().and_then(|status| status.started_at);
    let rollout = Rollout { service, started: started.unwrap_or_default(), config: &config };
    if let Some(failed) = rollout.failure(fresh, stale.len()) {
        let text =
            format!("update paused due to failure or early termination of task {}", failed.id);
        planned.changes.push(report(service, UpdateState::Paused, &text, ctx));
        return;
    }
    let mut in_hand = 0;
    for slot in fresh {
        match rollout.done_at(slot, stale.is_empty()) {
            Done::At(moment) if moment <= ctx.now => {}
            Done::At(moment) => {
                planned.again.push((moment, Key::Service(service.id)));
                in_hand += 1;
            }
            Done::NotYet => in_hand += 1,
        }
    }
    if stale.is_empty() {
        if in_hand == 0 {
            planned.changes.push(report(service, UpdateState::Completed, "update completed", ctx));
        }
        return;
    }
    let at_once = match config.parallelism {
        0 => usize::MAX,
        parallelism => usize::try_from(parallelism).unwrap_or(usize::MAX),
    };
    // A node that is not heard of takes nothing yet; its slot waits.
    let ready = stale.iter().filter(|slot| restart::has_place(view, service, slot.key));
    let (unplaced, placed): (Vec<&Slot<'_>>, Vec<&Slot<'_>>) =
        ready.partition(|slot| is_unplaced(slot));
    for slot in unplaced {
        replace(service, slot, Start::default(), ctx, planned);
    }
    for slot in placed.into_iter().take(at_once.saturating_sub(in_hand)) {
        let start = Start { hold_until: Some(ctx.now), ..Start::default() };
        replace(service, slot, start, ctx, planned);
    }
}

fn replace(
    service: &Service,
    slot: &Slot<'_>,
    start: Start,
    ctx: Context<'_>,
    planned: &mut Planned,
) {
    for task in slot.tasks.iter().filter(|task| task.is_wanted()) {
        planned.changes.push(slot::desire(task, TaskState::Shutdown));
    }
    planned.changes.push(slot::make(service, slot.key, start, ctx));
}

/// True for a slot that never had a node.
fn is_unplaced(slot: &Slot<'_>) -> bool {
    let task = slot.wanted();
    task.is_some_and(|task| task.status.state < TaskState::Assigned && !is_replacement(task))
}

/// One rollout of a service.
struct Rollout<'a> {
    service: &'a Service,
    started: Timestamp,
    config: &'a UpdateConfig,
}

/// When a slot is no longer in hand.
enum Done {
    /// Then, and ever after.
    At(Timestamp),
    /// Its task has yet to run.
    NotYet,
}

impl Rollout<'_> {
    /// True for the tasks that were made since this rollout began, and their replacements.
    fn made(&self, task: &Task) -> bool {
        task.spec_version == self.service.spec_version && task.meta.created_at >= self.started
    }

    /// When a slot with an up-to-date task is no longer in hand, whichever rollout made the task.
    /// The last ones are watched to the end of the monitoring time.
    fn done_at(&self, slot: &Slot<'_>, is_last: bool) -> Done {
        let wait = if is_last { self.monitor() } else { self.config.delay };
        let ended = slot.tasks.iter().filter(|task| self.made(task) && has_ended(task));
        match (ended.min_by_key(|task| task.restarts.count), slot.wanted()) {
            (Some(first), _) if first.restarts.count == 0 => {
                Done::At(first.status.applied_at.plus(wait))
            }
            // So often that the first one is not kept any more.
            (Some(_), _) => Done::At(Timestamp::ZERO),
            (None, Some(task)) if runs(task) => Done::At(task.status.applied_at.plus(wait)),
            (None, Some(task)) if is_replacement(task) => Done::NotYet,
            (None, _) => Done::At(Timestamp::ZERO),
        }
    }

    fn monitor(&self) -> Nanoseconds {
        match self.config.monitor {
            0 => UPDATE_MONITOR_DEFAULT,
            monitor => monitor,
        }
    }

    /// The task whose failure is one too many among the slots that the rollout has to do with, if
    /// the update should stop for it.
    fn failure<'v>(&self, fresh: &[&Slot<'v>], stale: usize) -> Option<&'v Task> {
        if self.config.failure_action.unwrap_or(FailureAction::Pause) == FailureAction::Continue {
            return None;
        }
        let mut first = None;
        let (mut failed, mut slots) = (0, stale);
        for slot in fresh {
            let mut made = slot.tasks.iter().copied().filter(|task| self.made(task)).peekable();
            slots += usize::from(made.peek().is_some());
            if let Some(task) = made.find(|task| has_ended(task) && self.is_early(task)) {
                first.get_or_insert(&**task);
                failed += 1;
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a ratio of task counts")]
        let ratio = failed as f32 / slots.max(1) as f32;
        first.filter(|_| ratio > self.config.max_failure_ratio)
    }

    /// True for a task that ended while it was watched: before it ran, or soon after.
    fn is_early(&self, task: &Task) -> bool {
        task.ran_at.is_none_or(|ran_at| task.status.applied_at <= ran_at.plus(self.monitor()))
    }
}

fn runs(task: &Task) -> bool {
    task.status.state == TaskState::Running
}

/// True for a task that was made in place of another, which it may have been held ready for.
fn is_replacement(task: &Task) -> bool {
    task.not_before != Timestamp::ZERO
}

/// True for a task that ended by itself, or failed.
fn has_ended(task: &Task) -> bool {
    matches!(task.status.state, TaskState::Complete | TaskState::Failed | TaskState::Rejected)
}

fn report(service: &Service, state: UpdateState, message: &str, ctx: Context<'_>) -> Change {
    let before =
        service.update_status.as_ref().filter(|status| status.state == UpdateState::Updating);
    let started_at = before.and_then(|status| status.started_at).or(Some(ctx.now));
    let completed_at = (state == UpdateState::Completed).then_some(ctx.now);
    let status = UpdateStatus { state, started_at, completed_at, message: message.into() };
    Service { update_status: Some(status), ..service.clone() }.into()
}
