//! Rolling updates: tasks of an older spec are replaced, a few at a time, the old one stopping
//! before the new one starts.
//!
//! Where a rollout stands is read from the view: a slot is in hand from the moment its new task was
//! made until that task has run for the configured delay. Tasks made before the rollout began are
//! not of it.

use super::slot::{self, Slot, Start};
use crate::domain::change::{Change, Key};
use crate::domain::service::{FailureAction, Service, UpdateConfig, UpdateState, UpdateStatus};
use crate::domain::task::Task;
use crate::domain::task_state::TaskState;
use crate::domain::time::{Nanoseconds, Timestamp};
use crate::domain::view::View;
use crate::plan::{Context, Planned};

/// How long a new task is watched when the update says nothing: 5 s.
const MONITOR_DEFAULT: Nanoseconds = 5_000_000_000;

pub(super) fn plan(
    view: &View,
    service: &Service,
    slots: &[Slot<'_>],
    ctx: Context<'_>,
    planned: &mut Planned,
) {
    let stale: Vec<&Slot<'_>> = slots
        .iter()
        .filter(|slot| slot.current().is_some_and(|task| !slot::is_current(view, service, task)))
        .collect();
    let state = service.update_status.as_ref().map(|status| status.state);
    match (state, stale.is_empty()) {
        (Some(UpdateState::Paused), _) | (None | Some(UpdateState::Completed), true) => {}
        (Some(UpdateState::Updating), _) => roll(service, slots, &stale, ctx, planned),
        // A rollback state is never written yet; should one be there, the update starts anew.
        (_, false) => {
            planned.changes.push(report(service, UpdateState::Updating, "update in progress", ctx))
        }
        (_, true) => {}
    }
}

fn roll(
    service: &Service,
    slots: &[Slot<'_>],
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
    if let Some(failed) = rollout.failure(slots) {
        let text =
            format!("update paused due to failure or early termination of task {}", failed.id);
        planned.changes.push(report(service, UpdateState::Paused, &text, ctx));
        return;
    }
    let mut in_hand = 0;
    for task in slots.iter().filter_map(Slot::wanted).filter(|task| rollout.made(task)) {
        match rollout.done_at(task, stale.is_empty()) {
            Some(moment) if moment <= ctx.now => {}
            Some(moment) => {
                planned.again.push((moment, Key::Service(service.id)));
                in_hand += 1;
            }
            None => in_hand += 1,
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
    for slot in stale.iter().take(at_once.saturating_sub(in_hand)) {
        for task in slot.tasks.iter().filter(|task| task.is_wanted()) {
            planned.changes.push(slot::desire(task, TaskState::Shutdown));
        }
        let start = Start { hold_until: Some(ctx.now), ..Start::default() };
        planned.changes.push(slot::make(service, slot.key, start, ctx));
    }
}

/// One rollout of a service.
struct Rollout<'a> {
    service: &'a Service,
    started: Timestamp,
    config: &'a UpdateConfig,
}

impl Rollout<'_> {
    /// True for the tasks that this rollout made, or that replaced such a task.
    fn made(&self, task: &Task) -> bool {
        task.spec_version == self.service.spec_version && task.meta.created_at >= self.started
    }

    /// When a slot is no longer in hand; `None` while its task does not run. The last ones are
    /// watched to the end of the monitoring time.
    fn done_at(&self, task: &Task, is_last: bool) -> Option<Timestamp> {
        let runs = task.status.state == TaskState::Running;
        let wait = if is_last { self.monitor() } else { self.config.delay };
        runs.then(|| task.status.applied_at.plus(wait))
    }

    fn monitor(&self) -> Nanoseconds {
        match self.config.monitor {
            0 => MONITOR_DEFAULT,
            monitor => monitor,
        }
    }

    /// The task whose failure is one too many, if the update should stop for it.
    fn failure<'v>(&self, slots: &[Slot<'v>]) -> Option<&'v Task> {
        if self.config.failure_action.unwrap_or(FailureAction::Pause) == FailureAction::Continue {
            return None;
        }
        let mut failed = slots.iter().filter_map(|slot| {
            let early = |task: &&&std::sync::Arc<Task>| self.made(task) && self.ended_early(task);
            slot.tasks.iter().find(early).map(|task| &***task)
        });
        let first = failed.next()?;
        #[expect(clippy::cast_precision_loss, reason = "a ratio of task counts")]
        let ratio = (1 + failed.count()) as f32 / slots.len() as f32;
        (ratio > self.config.max_failure_ratio).then_some(first)
    }

    /// True for a task that ended by itself, or failed, while it was watched.
    fn ended_early(&self, task: &Task) -> bool {
        let failed = matches!(task.status.state, TaskState::Failed | TaskState::Rejected);
        let ended = failed || task.status.state == TaskState::Complete;
        ended && task.status.applied_at <= task.meta.created_at.plus(self.monitor())
            || failed && task.status.container.is_none()
    }
}

fn report(service: &Service, state: UpdateState, message: &str, ctx: Context<'_>) -> Change {
    let before =
        service.update_status.as_ref().filter(|status| status.state == UpdateState::Updating);
    let started_at = before.and_then(|status| status.started_at).or(Some(ctx.now));
    let completed_at = (state == UpdateState::Completed).then_some(ctx.now);
    let status = UpdateStatus { state, started_at, completed_at, message: message.into() };
    Service { update_status: Some(status), ..service.clone() }.into()
}
