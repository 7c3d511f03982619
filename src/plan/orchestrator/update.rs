//! Rolling updates: tasks of an older spec are replaced, a few at a time. Either the old one stops
//! before the new one starts, or it runs on until the new one runs; a global service's always stops
//! first, since its slot is its node. An update that fails may roll the service back, which is
//! rolled out in the same way by the settings for it, and never turns back itself.
//!
//! Where a rollout stands is read from the view. A slot is in hand from the moment its new task was
//! made until that task has run for the configured delay, or has ended: a failure is counted, and
//! either stops the rollout or does not hold it up. Slots that never had a node are brought up to
//! date beside all that: they take nothing from the service, and may wait for long.

use super::slot::{self, Slot, SlotKey, Start, When};
use super::{global, restart};
use crate::domain::change::{Change, Key};
use crate::domain::id::TaskId;
use crate::domain::meta::Version;
use crate::domain::revision::Numbers;
use crate::domain::service::{
    FailureAction, RegistryAuth, Service, ServiceSpec, UPDATE_MONITOR_DEFAULT, UpdateConfig,
    UpdateOrder, UpdateState, UpdateStatus,
};
use crate::domain::task::Task;
use crate::domain::task_state::TaskState;
use crate::domain::time::{Nanoseconds, Timestamp};
use crate::domain::view::View;
use crate::plan::intent::{revision, service_spec};
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
        .partition(|slot| slot.is_up_to_date(view, service));
    stale.retain(|slot| is_for_rollout(view, service, slot.key));
    stale.sort_by_key(|slot| turn(slot));
    match service.update_status.as_ref().map(|status| status.state) {
        Some(UpdateState::Paused | UpdateState::RollbackPaused) => {}
        Some(UpdateState::Updating | UpdateState::RollbackStarted) => {
            roll(view, service, &fresh, &stale, ctx, planned);
        }
        // New values wait a moment for others, so that all are one rollout.
        None if service.gathers(ctx.now) && !stale.is_empty() => {
            let at = service.rollout_at.unwrap_or(ctx.now);
            planned.again.push((at, Key::Service(service.id)));
        }
        None | Some(UpdateState::Completed | UpdateState::RollbackCompleted) => {
            if !stale.is_empty() {
                let text = format!("update in progress{}", taken_up(view, service));
                planned.changes.push(report(service, UpdateState::Updating, &text, ctx));
            }
        }
    }
}

/// The settings that the rollout of a service goes by.
pub fn config(service: &Service) -> UpdateConfig {
    let chosen = match is_rollback(service) {
        true => &service.spec.rollback_config,
        false => &service.spec.update_config,
    };
    chosen.clone().unwrap_or(UpdateConfig { parallelism: 1, ..UpdateConfig::default() })
}

/// True when the last rollout of a service is a rollback. Slots may be in handover beyond its end.
fn is_rollback(service: &Service) -> bool {
    use UpdateState::{RollbackCompleted, RollbackPaused, RollbackStarted};
    let state = service.update_status.as_ref().map(|status| status.state);
    matches!(state, Some(RollbackStarted | RollbackPaused | RollbackCompleted))
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
    let config = config(service);
    let started = service.update_status.as_ref().and_then(|status| status.started_at);
    let rollout = Rollout { service, started: started.unwrap_or_default(), config: &config };
    if let Some(failed) = rollout.failure(fresh, stale.len()) {
        planned.changes.push(stop(view, service, failed.id, ctx));
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
            let (state, text) = match is_rollback(service) {
                true => (UpdateState::RollbackCompleted, "rollback completed"),
                false => (UpdateState::Completed, "update completed"),
            };
            planned.changes.push(report(service, state, text, ctx));
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
        replace(service, slot, When::First, ctx, planned);
    }
    let starts_first = config.order == UpdateOrder::StartFirst;
    for slot in placed.into_iter().take(at_once.saturating_sub(in_hand)) {
        // Beside what runs, that is: there is nothing to keep up where nothing runs.
        let is_served = slot.wanted().is_some_and(|task| runs(task));
        let is_beside = starts_first && is_served && matches!(slot.key, SlotKey::Number(_));
        let when = if is_beside { When::Beside(ctx.now) } else { When::Held(ctx.now) };
        replace(service, slot, when, ctx, planned);
    }
}

/// How many slots a rollout has yet to bring up to date: those whose tasks have no node, and the others.
/// What its node will not run any more is replaced before, and not by the rollout.
pub(super) fn behind(view: &View, service: &Service, taken: &[&Slot<'_>]) -> (u64, u64) {
    let stale = taken.iter().filter(|slot| !slot.is_up_to_date(view, service));
    let stale = stale.filter(|slot| is_for_rollout(view, service, slot.key));
    let stale =
        stale.filter(|slot| !slot.current().is_some_and(|task| slot::is_lost(view, service, task)));
    let (unplaced, placed): (Vec<&&Slot<'_>>, Vec<&&Slot<'_>>) =
        stale.partition(|slot| is_unplaced(slot));
    (unplaced.len() as u64, placed.len() as u64)
}

fn replace(
    service: &Service,
    slot: &Slot<'_>,
    when: When,
    ctx: Context<'_>,
    planned: &mut Planned,
) {
    if !matches!(when, When::Beside(_)) {
        for task in slot.tasks.iter().filter(|task| task.is_wanted()) {
            planned.changes.push(slot::desire(task, TaskState::Shutdown));
        }
    }
    let start = Start { when, ..Start::default() };
    planned.changes.push(slot::make(service, slot.key, start, ctx));
}

/// What becomes of a service whose rollout failed: it is rolled back if it should be and can be, and
/// otherwise waits for a person.
fn stop(view: &View, service: &Service, failed: TaskId, ctx: Context<'_>) -> Change {
    let of_task = format!("due to failure or early termination of task {failed}");
    if is_rollback(service) {
        let text = format!("update paused {of_task}");
        return report(service, UpdateState::RollbackPaused, &text, ctx);
    }
    let mut text = format!("update paused {of_task}");
    let goes_back = config(service).failure_action == FailureAction::Rollback;
    if let Some(previous) = service.previous_spec.as_ref().filter(|_| goes_back) {
        let references = service_spec::check_references(view, service.id, previous);
        let kept = || revision::check_kept(view, &service.previous_revisions, previous);
        match references.and_then(|()| kept()) {
            Ok(()) => {
                let (from, to) = (&service.revisions, &service.previous_revisions);
                let values = revision::moves(view, previous, from, to);
                return roll_back(service, previous, &format!("{of_task}{values}"), ctx);
            }
            Err(missing) => text.push_str(&format!(", not rolled back: {}", missing.message)),
        }
    }
    report(service, UpdateState::Paused, &text, ctx)
}

/// Which new values a rollout brings, to be told.
fn taken_up(view: &View, service: &Service) -> String {
    match &service.previous_spec {
        None => String::new(),
        Some(_) => {
            let (from, to) = (&service.previous_revisions, &service.revisions);
            revision::moves(view, &service.spec, from, to)
        }
    }
}

/// The spec that failed is not kept, so that nothing brings it back by itself.
fn roll_back(service: &Service, to: &ServiceSpec, why: &str, ctx: Context<'_>) -> Change {
    let status =
        status(service, UpdateState::RollbackStarted, &format!("update rolled back {why}"), ctx);
    // Going back to earlier values alone changes nothing that a client has given.
    let meta = if *to == service.spec { service.meta } else { service.meta.edited() };
    Service {
        meta,
        spec: to.clone(),
        revisions: service.previous_revisions.clone(),
        previous_revisions: Numbers::new(),
        rollout_at: None,
        spec_version: Version::default(),
        previous_spec: None,
        update_status: Some(status),
        registry_auth: service.previous_registry_auth.clone(),
        previous_registry_auth: RegistryAuth::default(),
        ..service.clone()
    }
    .into()
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
            (None, Some(task)) if runs(task) => {
                Done::At(task.status.applied_at.plus(wait).max(slot::proven_at(task)))
            }
            // What fails again and again since before this rollout does not hold it up.
            (None, Some(task)) if is_replacement(task) && self.may_come(task) => Done::NotYet,
            (None, _) => Done::At(Timestamp::ZERO),
        }
    }

    /// True for a task that a rollout made, or that this one waits for.
    fn may_come(&self, task: &Task) -> bool {
        task.restarts.count == 0 || self.made(task)
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
        if self.config.failure_action == FailureAction::Continue {
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
    let status = status(service, state, message, ctx);
    Service { update_status: Some(status), rollout_at: None, ..service.clone() }.into()
}

fn status(service: &Service, state: UpdateState, message: &str, ctx: Context<'_>) -> UpdateStatus {
    use UpdateState::{Completed, RollbackCompleted, RollbackStarted, Updating};
    let under_way = |status: &&UpdateStatus| matches!(status.state, Updating | RollbackStarted);
    let before = service.update_status.as_ref().filter(under_way);
    let started_at = before.and_then(|status| status.started_at).or(Some(ctx.now));
    let completed_at = matches!(state, Completed | RollbackCompleted).then_some(ctx.now);
    UpdateStatus { state, started_at, completed_at, message: message.into() }
}
