//! The checker's look at one write of a task: who moved it where, and whether that was right.

use purser::domain::change::{Changed, Key, Object};
use purser::domain::revision::{Owner, number_of};
use purser::domain::service::{RestartCondition, STOP_GRACE_DEFAULT, Service};
use purser::domain::task::Task;
use purser::domain::task_state::{Mover, TaskState, may_move};
use purser::domain::time::{Nanoseconds, Timestamp};
use purser::domain::view::View;

use super::check::{
    at_work, fits, gives_up_service, is_crowded, is_done, is_stopping, service_of, slot_mates,
    slot_of, starts_first, takes_tasks,
};

/// How long a task that is held ready waits for one that does not stop, beyond its grace period.
const STOP_WAIT: Nanoseconds = 60_000_000_000;

/// What is wrong with one change of a task: it moved against the table, it was given a node that it
/// does not fit, it was let go too early, or deleted.
pub fn fault(mover: Mover, changed: &Changed, view: &View) -> Option<String> {
    match (&changed.old, &changed.new) {
        (None, Some(Object::Task(new))) => wrong(new, made(mover, new, changed.at, view)?),
        (Some(Object::Task(old)), Some(Object::Task(new))) => {
            let fault = moved(mover, old, new, view).or_else(|| told(old, new, view));
            wrong(new, fault?)
        }
        (Some(Object::Task(old)), None) => {
            let may_run = at_work(old) && old.node_id.is_some_and(|id| view.node(id).is_some());
            let fault = format!("deleted by {mover:?} while it may run");
            if old.service_id.is_none() {
                // Its node says when its container has left the network.
                let is_over = mover == Mover::Agent || old.is_spent();
                return if is_over { None } else { wrong(old, fault) };
            }
            if old.is_wanted() || may_run {
                return wrong(old, fault);
            }
            let service = service_of(view, old);
            let has_slot = slot_of(service, old).1.is_none_or(|node| view.node(node).is_some());
            if is_done(view, old) && has_slot && old.desired_state < TaskState::Remove {
                return wrong(old, "deleted although it tells what its job has done".into());
            }
            None
        }
        _ => None,
    }
}

fn wrong(task: &Task, what: String) -> Option<String> {
    Some(format!("{}: {what}", task.name()))
}

fn made(mover: Mover, new: &Task, at: Timestamp, view: &View) -> Option<String> {
    if new.service_id.is_none() {
        let is_there = new.node_id.is_some_and(|id| view.node(id).is_some());
        let is_right = is_there && new.status.state == TaskState::Assigned;
        return (mover != Mover::Agent || !is_right).then(|| format!("attached by {mover:?}"));
    }
    if mover != Mover::Orchestrator || new.status.state != TaskState::New {
        return Some(format!("made by {mover:?}"));
    }
    if let Some(grant) = missing_grant(new, view) {
        return Some(format!("made although {grant:?} is gone"));
    }
    // A replacement of the new task comes beside the old one whatever the order is by then.
    let is_first = new.restarts.count == 0;
    let is_beside = slot_mates(view, new).any(Task::is_wanted);
    let service = service_of(view, new);
    let may_come = service.is_some_and(starts_first);
    if is_beside && is_first && !may_come {
        return Some("made beside another".into());
    }
    let is_of_run = service.is_some_and(|service| service.is_of_run(new));
    let is_done = |mate: &Task| service.is_some_and(|service| service.is_done_by(mate));
    if !is_of_run || slot_mates(view, new).any(is_done) {
        return Some("made for a run that has no use for it".into());
    }
    let service = service.filter(|service| service.spec.mode.kind().is_job())?;
    if is_crowded(view, service, at) {
        return Some("made while enough are at work".into());
    }
    let mut mates = slot_mates(view, new);
    let has_to_wait = |mate: &Task| is_stopping(mate) && is_heard_of(mate, view, at);
    if is_first && mates.any(has_to_wait) {
        return Some("made beside one that has yet to stop".into());
    }
    let is_spent = slot_mates(view, new).any(|mate| service.is_of_run(mate) && is_given_up(mate));
    is_spent.then(|| "made in a slot that was given up".into())
}

/// True for a task on a live node that was told to stop within the last minute.
fn is_heard_of(task: &Task, view: &View, at: Timestamp) -> bool {
    let node = task.node_id.and_then(|id| view.node(id));
    let is_recent = task.meta.updated_at.plus(STOP_WAIT) > at;
    node.is_some_and(|node| node.is_up()) && at_work(task) && is_recent
}

/// True for a task that ended, or was lost, and that its policy replaces by no other.
fn is_given_up(task: &Task) -> bool {
    let policy = task.spec.restart_policy.clone().unwrap_or_default();
    let attempts = policy.max_attempts;
    let is_last = policy.condition == RestartCondition::None
        || attempts > 0 && policy.window.unwrap_or(0) <= 0 && task.restarts.count >= attempts;
    let had_node = task.status.state >= TaskState::Assigned;
    had_node && task.desired_state == TaskState::Shutdown && is_last
}

/// What its mover did wrong.
fn moved(mover: Mover, old: &Task, new: &Task, view: &View) -> Option<String> {
    let (from, to) = (old.status.state, new.status.state);
    if from != to && !may_move(mover, from, to) {
        return Some(format!("{mover:?} moved it from {from} to {to}"));
    }
    let is_same = old.slot == new.slot && old.spec == new.spec && old.service_id == new.service_id;
    let is_moved = old.node_id.is_some() && old.node_id != new.node_id;
    if !is_same || is_moved {
        return Some("another task now".into());
    }
    if old.desired_state != new.desired_state && mover != Mover::Orchestrator {
        return Some(format!("{mover:?} says what it should do"));
    }
    let is_assigned = from < TaskState::Assigned && to == TaskState::Assigned;
    (is_assigned && !has_place(new, view)).then(|| "on a node that does not fit".into())
}

/// True for a task on a node that takes tasks and satisfies what it asks for. What it takes there is
/// for `load_faults` to sum up.
fn has_place(task: &Task, view: &View) -> bool {
    let Some(node) = task.node_id.and_then(|id| view.node(id)) else { return false };
    let max = task.spec.placement.as_ref().map_or(0, |placement| placement.max_replicas);
    // One without a limit may have come there after it in the same write.
    let counts = |other: &Task| {
        let is_before = other.meta.updated_at < task.meta.updated_at;
        is_before || other.spec_version == task.spec_version
    };
    let others = view.tasks_of_node(node.id).filter(|other| {
        let is_there = other.is_wanted() && at_work(other);
        other.service_id == task.service_id && is_there && counts(other)
    });
    takes_tasks(node) && fits(&task.spec, node) && (max == 0 || others.count() as u64 <= max)
}

/// What is wrong with what it is told to do now.
fn told(old: &Task, new: &Task, view: &View) -> Option<String> {
    if new.desired_state < old.desired_state {
        return Some("its desired state fell".into());
    }
    let is_let_go = old.desired_state == TaskState::Ready && new.desired_state == new.goal();
    if is_let_go && is_early(new, view) {
        return Some("let go before its predecessor has stopped".into());
    }
    gives_up_service(old, new, view).then(|| "stopped before another runs in its slot".into())
}

/// True while a task has to wait for one that is stopping in its slot.
fn is_early(task: &Task, view: &View) -> bool {
    slot_mates(view, task).filter(|other| !other.is_wanted() && at_work(other)).any(|other| {
        let container = other.spec.container_spec.as_ref();
        let grace = container.and_then(|container| container.stop_grace_period);
        let wait = grace.unwrap_or(STOP_GRACE_DEFAULT) + STOP_WAIT;
        let node = other.node_id.and_then(|id| view.node(id));
        let is_heard_of = node.is_some_and(|node| node.is_up());
        is_heard_of && task.meta.updated_at < task.meta.created_at.plus(wait)
    })
}

/// A secret or config of a task that is not there, though its service was not made to do without.
/// What a service no longer has may be removed while its older tasks live: so clients expect, and
/// the nodes that run them have it already.
pub fn missing_grant(task: &Task, view: &View) -> Option<Key> {
    let service = service_of(view, task)?;
    let mut gone = task.grants().filter(|key| view.object(*key).is_none());
    gone.find(|key| grants(service).any(|grant| grant == *key))
}

/// True for a task whose version of a secret or config is not kept, though the secret or config is.
pub fn missing_version(task: &Task, view: &View) -> bool {
    task.grants().any(|key| {
        let number = number_of(&task.revisions, key.id());
        match key {
            Key::Secret(id) => view
                .secret(id)
                .is_some_and(|secret| secret.revisions.place(Owner::Secret(id), number).is_none()),
            Key::Config(id) => view
                .config(id)
                .is_some_and(|config| config.revisions.place(Owner::Config(id), number).is_none()),
            _ => false,
        }
    })
}

fn grants(service: &Service) -> impl Iterator<Item = Key> {
    let container = service.spec.container();
    let secrets = container.map_or(&[][..], |container| &container.secrets);
    let configs = container.map_or(&[][..], |container| &container.configs);
    let secrets = secrets.iter().filter_map(|grant| grant.secret_id.parse().ok().map(Key::Secret));
    let configs = configs.iter().filter_map(|grant| grant.config_id.parse().ok().map(Key::Config));
    secrets.chain(configs)
}
