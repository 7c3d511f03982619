//! Slots: the instances of a service. A replicated service counts them from 1, a replicated job from
//! 0; a global service or job has one for each node. A slot holds the tasks that were tried for it,
//! one of which is meant to run.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::restart;
use crate::domain::change::Change;
use crate::domain::id::{NodeId, TaskId};
use crate::domain::node::{Availability, Node, NodeState};
use crate::domain::service::{ModeKind, Service, TaskSpec};
use crate::domain::task::{Restarts, Task, TaskStatus};
use crate::domain::task_state::TaskState;
use crate::domain::time::{Nanoseconds, Timestamp};
use crate::domain::view::View;
use crate::plan::Context;
use crate::plan::scheduler::satisfies;

/// How long a task with a health check has to be said to run before a rollout goes by it: 1 second. Of a
/// container that never became healthy, and ends well when its engine stops it for that, the engine says
/// that the task runs, and at once that it has completed.
const HEALTH_DOUBT: Nanoseconds = 1_000_000_000;

/// What tells the slots of a service apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SlotKey {
    /// Of a replicated service or job.
    Number(u64),
    /// Of a global service or job.
    Node(NodeId),
}

impl SlotKey {
    /// The slot that a task is in.
    pub(super) fn of(mode: ModeKind, task: &Task) -> SlotKey {
        match task.node_id.filter(|_| mode.is_by_node()) {
            Some(node) => SlotKey::Node(node),
            None => SlotKey::Number(task.slot),
        }
    }
}

/// One instance of a service.
#[derive(Debug)]
pub(super) struct Slot<'v> {
    pub key: SlotKey,
    /// Its tasks, newest first.
    pub tasks: Vec<&'v Arc<Task>>,
}

/// The slots of a service, by key.
pub(super) fn slots<'v>(view: &'v View, service: &Service) -> Vec<Slot<'v>> {
    let mut by_key: BTreeMap<SlotKey, Vec<&Arc<Task>>> = BTreeMap::new();
    let mode = service.spec.mode.kind();
    for task in view.tasks_of_service(service.id) {
        by_key.entry(SlotKey::of(mode, task)).or_default().push(task);
    }
    let newest_first = |task: &&Arc<Task>| std::cmp::Reverse((task.meta.created_at, task.id));
    by_key
        .into_iter()
        .map(|(key, mut tasks)| {
            tasks.sort_by_key(newest_first);
            Slot { key, tasks }
        })
        .collect()
}

impl<'v> Slot<'v> {
    /// The task that is meant to run, or to get ready for it; the newest one during a handover.
    pub(super) fn wanted(&self) -> Option<&'v Arc<Task>> {
        self.tasks.iter().copied().find(|task| task.is_wanted())
    }

    /// The task that was given up for good and is not to be replaced: its slot is taken all the
    /// same, also while the task has yet to stop.
    pub(super) fn settled(&self) -> Option<&'v Arc<Task>> {
        let newest = self.tasks.first().copied()?;
        let had_node = newest.status.state >= TaskState::Assigned;
        let over = had_node && newest.desired_state == TaskState::Shutdown;
        let is_due = || restart::is_due(newest, restart::ended_at(newest));
        (self.wanted().is_none() && over && !is_due()).then_some(newest)
    }

    /// The task that stands for the slot; `None` when the slot is empty.
    pub(super) fn current(&self) -> Option<&'v Arc<Task>> {
        self.wanted().or_else(|| self.settled())
    }

    /// True for a slot that was brought up to date, or that keeps its old task because the new one
    /// ended and is not to be replaced.
    pub(super) fn is_up_to_date(&self, view: &View, service: &Service) -> bool {
        let tried =
            || self.tasks.first().is_some_and(|new| new.spec_version == service.spec_version);
        self.current().is_some_and(|task| is_current(view, service, task) || tried())
    }
}

/// True when a task was made from what the service says now. The number of replicas, labels and the
/// like make no task stale; nor does a changed constraint that its node still satisfies. Of a job,
/// whose every change begins a run, the tasks of the present one are current.
pub fn is_current(view: &View, service: &Service, task: &Task) -> bool {
    if service.job_status.is_some() {
        return service.is_of_run(task);
    }
    if task.endpoint_spec != service.spec.endpoint_spec || task.revisions != service.revisions {
        return false;
    }
    let (wish, made) = (&service.spec.task_template, &task.spec);
    if Arc::ptr_eq(wish, made) || wish == made {
        return true;
    }
    let mut without = (**wish).clone();
    let wished = std::mem::take(&mut without.placement);
    let mut made_without = (**made).clone();
    let made_placement = std::mem::take(&mut made_without.placement);
    if without != made_without {
        return false;
    }
    let (wished, mut had) = (wished.unwrap_or_default(), made_placement.unwrap_or_default());
    had.constraints.clone_from(&wished.constraints);
    let node = task.node_id.and_then(|id| view.node(id));
    had == wished && node.is_some_and(|node| satisfies(&wished.constraints, node))
}

/// From when on a task that runs may be relied on.
pub(super) fn proven_at(task: &Task) -> Timestamp {
    let container = task.spec.container_spec.as_ref();
    let has_check = container.is_some_and(|container| container.healthcheck.is_some());
    task.status.applied_at.plus(if has_check { HEALTH_DOUBT } else { 0 })
}

/// True when a task's node will not run it, or should not: it is gone, down, or drained, or does not
/// satisfy the constraints any more. A paused node keeps what it has.
pub fn is_lost(view: &View, service: &Service, task: &Task) -> bool {
    let Some(id) = task.node_id else { return false };
    view.node(id).is_none_or(|node| {
        node.status.state == NodeState::Down
            || match node.spec.availability {
                Availability::Active => is_misplaced(service, task, node),
                Availability::Pause => false,
                Availability::Drain => true,
            }
    })
}

/// What a task says that is given up since its node does not fit it any more.
pub const MISPLACED: &str = "assigned node no longer meets constraints";

/// True when a node changed so that it satisfies neither what the task was placed by nor what the
/// service says now. Where only the service changed, its rollout replaces the task in its turn.
fn is_misplaced(service: &Service, task: &Task, node: &Node) -> bool {
    [&task.spec, &service.spec.task_template].iter().all(|spec| !satisfies(constraints(spec), node))
}

/// The constraints of a template.
pub(super) fn constraints(template: &TaskSpec) -> &[String] {
    template.placement.as_ref().map_or(&[][..], |placement| &placement.constraints)
}

/// When a task is started.
#[derive(Debug, Default, Clone, Copy)]
pub(super) enum When {
    /// At once, as the first of its slot.
    #[default]
    First,
    /// Held ready, not before this moment nor before its predecessor has stopped.
    Held(Timestamp),
    /// At once, beside its predecessor; since this moment.
    Beside(Timestamp),
}

/// How a task differs from a plain first one.
#[derive(Debug, Default)]
pub(super) struct Start {
    /// When it is started.
    pub when: When,
    /// The replacements before it.
    pub restarts: Restarts,
}

/// A new task of a service.
pub(super) fn make(service: &Service, key: SlotKey, start: Start, ctx: Context<'_>) -> Change {
    let (slot, node_id) = match key {
        SlotKey::Number(number) => (number, None),
        SlotKey::Node(node) => (0, Some(node)),
    };
    let not_before = match start.when {
        When::First => Timestamp::ZERO,
        When::Held(moment) | When::Beside(moment) => moment,
    };
    let mut task = Task {
        id: TaskId::make(ctx.entropy),
        meta: Default::default(),
        spec: service.spec.task_template.clone(),
        service_id: Some(service.id),
        service_name: service.spec.name.clone(),
        service_labels: service.spec.labels.clone(),
        spec_version: service.spec_version,
        slot,
        node_id,
        status: TaskStatus::made(ctx.now),
        ran_at: None,
        desired_state: TaskState::Ready,
        revisions: service.revisions.clone(),
        endpoint_spec: service.spec.endpoint_spec.clone(),
        endpoint: None,
        networks: Vec::new(),
        generic_resources: Vec::new(),
        registry_auth: service.registry_auth.clone(),
        not_before,
        restarts: start.restarts,
        job_iteration: service.job_status.as_ref().map(|run| run.job_iteration),
    };
    if !matches!(start.when, When::Held(_)) {
        task.desired_state = task.goal();
    }
    task.into()
}

/// Gives up a task that ended or is lost; whether it is replaced is judged by that moment for ever.
pub(super) fn end(view: &View, service: &Service, task: &Task, given_up_at: Timestamp) -> Change {
    let restarts = Restarts { given_up_at: Some(given_up_at), ..task.restarts.clone() };
    let mut task = Task { desired_state: TaskState::Shutdown, restarts, ..task.clone() };
    let node = task.node_id.and_then(|id| view.node(id));
    let is_active = |node: &&Arc<Node>| node.is_up() && node.takes_tasks();
    let is_live = !task.status.state.is_terminal();
    if is_live && node.filter(is_active).is_some_and(|node| is_misplaced(service, &task, node)) {
        task.status.err = MISPLACED.into();
    }
    task.into()
}

/// The same task with another wish.
pub(super) fn desire(task: &Task, desired_state: TaskState) -> Change {
    Task { desired_state, ..task.clone() }.into()
}
