//! The checker: what must hold of any view, however it came about. What must hold of a single write
//! is in `check_task`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use purser::domain::constraint::Constraint;
use purser::domain::endpoint::PublishMode;
use purser::domain::id::NodeId;
use purser::domain::node::{Availability, Node, NodeState};
use purser::domain::service::{
    ModeKind, RestartCondition, Service, TaskSpec, UpdateOrder, UpdateState,
};
use purser::domain::task::Task;
use purser::domain::task_state::TaskState;
use purser::domain::time::{Nanoseconds, Timestamp};
use purser::domain::view::View;
use purser::plan::orchestrator::is_current;

use super::check_network::may_attach;
use super::check_task::{missing_grant, missing_version};

/// True when a task that serves is told to stop by a rollout that starts first, and nothing runs in
/// its slot in its place.
pub fn gives_up_service(old: &Task, new: &Task, view: &View) -> bool {
    let runs = |task: &Task| task.is_wanted() && task.status.state == TaskState::Running;
    let is_stopped = runs(old) && new.desired_state == TaskState::Shutdown;
    let Some(service) = service_of(view, new) else { return false };
    let node = new.node_id.and_then(|id| view.node(id));
    let stays = node.is_some_and(|node| keeps_tasks(node) && fits(&new.spec, node));
    is_stopped && starts_first(service) && stays && !slot_mates(view, new).any(runs)
}

/// True when the rollout of a service starts the new task of a slot first.
pub fn starts_first(service: &Service) -> bool {
    let state = service.update_status.as_ref().map(|status| status.state);
    let config = match state {
        Some(
            UpdateState::RollbackStarted
            | UpdateState::RollbackPaused
            | UpdateState::RollbackCompleted,
        ) => &service.spec.rollback_config,
        _ => &service.spec.update_config,
    };
    let order = config.as_ref().map(|config| config.order);
    order == Some(UpdateOrder::StartFirst)
        && matches!(service.spec.mode.kind(), ModeKind::Replicated(_))
}

/// The other tasks of a task's slot.
pub fn slot_mates<'v>(view: &'v View, task: &'v Task) -> impl Iterator<Item = &'v Task> {
    let service = service_of(view, task);
    let slot = slot_of(service, task);
    let mates = task.service_id.into_iter().flat_map(|id| view.tasks_of_service(id));
    mates
        .map(|other| &**other)
        .filter(move |other| slot_of(service, other) == slot && other.id != task.id)
}

/// The service of a task, as far as it is there.
pub fn service_of<'v>(view: &'v View, task: &Task) -> Option<&'v Service> {
    task.service_id.and_then(|id| view.service(id)).map(|service| &**service)
}

/// What tells the slots of a service apart.
pub fn slot_of(service: Option<&Service>, task: &Task) -> (u64, Option<NodeId>) {
    let is_by_node = service.is_some_and(|service| service.spec.mode.kind().is_by_node());
    (task.slot, task.node_id.filter(|_| is_by_node))
}

/// True when a job is at work in more slots than it should. What has not stopped within a minute is
/// not waited for.
pub fn is_crowded(view: &View, service: &Service, now: Timestamp) -> bool {
    let ModeKind::ReplicatedJob { max_concurrent, .. } = service.spec.mode.kind() else {
        return false;
    };
    let is_at_work = |task: &Task| {
        let is_heard = task.node_id.and_then(|id| view.node(id)).is_some_and(|node| node.is_up());
        let is_recent = task.meta.updated_at.plus(60_000_000_000) > now;
        let on_its_way = task.status.state >= TaskState::Assigned;
        task.is_wanted() || is_stopping(task) && on_its_way && is_heard && is_recent
    };
    slots_of(view, service, is_at_work).len() as u64 > max_concurrent
}

/// True for a task that did its part of the present run of a job.
pub fn is_done(view: &View, task: &Task) -> bool {
    service_of(view, task).is_some_and(|service| service.is_done_by(task))
}

/// What is wrong with a view whose planners are content.
pub fn inspect(view: &View, now: Timestamp) -> Vec<String> {
    let mut found = Vec::new();
    let mut slots: BTreeMap<_, Vec<&Task>> = BTreeMap::new();
    let mut ended: BTreeMap<_, usize> = BTreeMap::new();
    for task in view.tasks() {
        if task.service_id.is_none() {
            let what = attachment_fault(view, task);
            found.extend(what.map(|what| format!("attachment {}: {what}", task.id)));
            continue;
        }
        found.extend(neglect(view, task, now).map(|what| format!("{}: {what}", task.name())));
        let service = service_of(view, task);
        let slot = (task.service_id, slot_of(service, task));
        if !task.is_wanted() {
            let is_history = task.status.state.is_terminal() && !is_done(view, task);
            *ended.entry(slot).or_default() += usize::from(is_history);
            continue;
        }
        found.extend(task_faults(view, task).map(|what| format!("{}: {what}", task.name())));
        slots.entry(slot).or_default().push(task);
    }
    found.extend(slots.values().filter_map(|wanted| slot_fault(view, wanted)));
    let limit =
        view.cluster().map_or(usize::MAX, |cluster| cluster.spec.task_history_limit().max(1));
    if ended.into_values().any(|count| count > limit) {
        found.push(format!("more than {limit} ended tasks are kept in a slot"));
    }
    found.extend(view.services().filter_map(|service| service_fault(view, service)));
    found.extend(view.nodes().flat_map(|node| load_faults(view, node, None)));
    found
}

/// An attachment is on its node from its beginning to its end, after which it is forgotten.
fn attachment_fault(view: &View, task: &Task) -> Option<&'static str> {
    if task.status.state.is_terminal() {
        return Some("kept although it ended");
    }
    if task.node_id.is_none_or(|id| view.node(id).is_none()) {
        return Some("kept without its node");
    }
    let is_told = task.desired_state == TaskState::Running;
    (!is_told || !at_work(task)).then_some("not as it was made")
}

/// In one slot one task is wanted, or two: an old one that runs until the new one does, or for a moment
/// more where a health check says when that is.
fn slot_fault(view: &View, wanted: &[&Task]) -> Option<String> {
    let has_check = |task: &Task| {
        let container = task.spec.container_spec.as_ref();
        container.is_some_and(|container| container.healthcheck.is_some())
    };
    let is_handover = |one: &Task, other: &Task| {
        let Some(service) = service_of(view, one) else { return false };
        let (old, new) =
            if one.meta.created_at < other.meta.created_at { (one, other) } else { (other, one) };
        matches!(service.spec.mode.kind(), ModeKind::Replicated(_))
            && old.status.state == TaskState::Running
            && (new.status.state != TaskState::Running || has_check(new))
            && !is_current(view, service, old)
            && is_current(view, service, new)
    };
    match wanted {
        [_] => None,
        [one, other] if is_handover(one, other) => None,
        [one, ..] => Some(format!("{}: {} are wanted in one slot", one.name(), wanted.len())),
        [] => None,
    }
}

/// How long a node is down until what it holds is given up.
const ORPHAN_AFTER: Nanoseconds = 24 * 3_600 * 1_000_000_000;

/// What should have been done about a task.
fn neglect(view: &View, task: &Task, now: Timestamp) -> Option<&'static str> {
    let node = task.node_id.and_then(|id| view.node(id));
    let since = node.and_then(|node| node.down_since);
    if at_work(task) && since.is_some_and(|since| since.plus(ORPHAN_AFTER) < now) {
        return Some("not given up with its node");
    }
    let is_waiting = task.is_wanted() && task.status.state == TaskState::Pending;
    let mut nodes = view.nodes().filter(|node| task.node_id.is_none_or(|id| id == node.id));
    let has_place = is_waiting && is_plain(task) && nodes.any(|node| has_room(view, task, node));
    has_place.then_some("waits although there is a place for it")
}

/// True for a task that asks for nothing but what [`has_room`] knows of.
fn is_plain(task: &Task) -> bool {
    let container = task.spec.container_spec.as_ref();
    let reserved = task.spec.resources.as_ref().and_then(|has| has.reservations.as_ref());
    reserved.is_none_or(|reserved| reserved.generic_resources.is_empty())
        && task.spec.placement.as_ref().is_none_or(|placement| placement.platforms.is_empty())
        && container.is_none_or(|container| container.mounts.is_empty())
        && task.spec.log_driver.is_none()
}

/// True when a node would take a task.
fn has_room(view: &View, task: &Task, node: &Node) -> bool {
    let max = task.spec.placement.as_ref().map_or(0, |placement| placement.max_replicas);
    let of_service = view
        .tasks_of_node(node.id)
        .filter(|other| other.service_id == task.service_id && other.is_wanted() && at_work(other));
    let has_number = max == 0 || (of_service.count() as u64) < max;
    has_number
        && takes_tasks(node)
        && fits(&task.spec, node)
        && may_attach(view, task, node)
        && load_faults(view, node, Some(task)).is_empty()
}

fn task_faults(view: &View, task: &Task) -> impl Iterator<Item = String> {
    let node = task.node_id.map(|id| view.node(id));
    let faults = [
        (service_of(view, task).is_none(), "wanted by a service that is gone"),
        (node.is_some_and(|node| node.is_none()), "wanted on a node that is gone"),
        (
            node.flatten().is_some_and(|node| !keeps_tasks(node)),
            "wanted on a node that gives up tasks",
        ),
        (
            node.flatten().is_some_and(|node| is_misplaced(view, task, node)),
            "wanted on a node that does not fit",
        ),
        (missing_grant(task, view).is_some(), "wanted with a secret or config that is gone"),
        (missing_version(task, view), "wanted with a version of a secret or config that is gone"),
        // What ended while it was held ready is replaced when its delay is over.
        (
            task.status.state.is_terminal() && task.desired_state != TaskState::Ready,
            "wanted although it ended",
        ),
        (
            task.status.state == TaskState::New && task.status.err.is_empty(),
            "not looked at by the allocator",
        ),
        (
            task.status.state == TaskState::Pending && task.status.err.is_empty(),
            "waits without an explanation",
        ),
    ];
    faults.into_iter().filter(|(is_wrong, _)| *is_wrong).map(|(_, what)| what.to_owned())
}

pub fn fits(template: &TaskSpec, node: &Node) -> bool {
    let constraints =
        template.placement.as_ref().map_or(&[][..], |placement| &placement.constraints);
    let mut parsed = constraints.iter().map(|text| Constraint::parse(text));
    parsed.all(|constraint| constraint.is_ok_and(|c| c.matches(node)))
}

pub fn keeps_tasks(node: &Node) -> bool {
    node.status.state != NodeState::Down && node.spec.availability != Availability::Drain
}

pub fn takes_tasks(node: &Node) -> bool {
    node.status.state == NodeState::Ready && node.spec.availability == Availability::Active
}

/// True for a task that its node has and that has not ended.
pub fn at_work(task: &Task) -> bool {
    (TaskState::Assigned..=TaskState::Running).contains(&task.status.state)
}

/// True when a node that takes tasks satisfies neither what a task of it was placed by nor what its
/// service asks for now.
fn is_misplaced(view: &View, task: &Task, node: &Node) -> bool {
    let service = service_of(view, task);
    let fits_now = service.is_some_and(|service| fits(&service.spec.task_template, node));
    node.spec.availability == Availability::Active && !fits(&task.spec, node) && !fits_now
}

/// Too many tasks, or too few although every task that ends is to be replaced.
fn service_fault(view: &View, service: &Service) -> Option<String> {
    let template = &service.spec.task_template;
    let policy = template.restart_policy.clone().unwrap_or_default();
    let wanted = slots_of(view, service, Task::is_wanted);
    let condition = policy.condition;
    let is_job = service.spec.mode.kind().is_job();
    // Older tasks may have come from a spec that limited restarts.
    let restarts_always = (condition == RestartCondition::Any
        || condition == RestartCondition::OnFailure && is_job)
        && policy.max_attempts == 0
        && view
            .tasks_of_service(service.id)
            .all(|task| task.spec.restart_policy == template.restart_policy);
    let (least, most) = match service.spec.mode.kind() {
        ModeKind::Replicated(replicas) => {
            let replicas = usize::try_from(replicas).unwrap_or(usize::MAX);
            (replicas, replicas)
        }
        ModeKind::Global => (open(view, template).count(), kept(view).count()),
        ModeKind::ReplicatedJob { max_concurrent, total } => {
            let left = total.saturating_sub(
                slots_of(view, service, |task| service.is_done_by(task)).len() as u64,
            );
            let most = usize::try_from(left.min(max_concurrent)).unwrap_or(usize::MAX);
            (most.saturating_sub(slots_of(view, service, is_stopping).len()), most)
        }
        ModeKind::GlobalJob => {
            let mut over = slots_of(view, service, |task| service.is_done_by(task));
            let most = kept(view).filter(|node| !over.contains(&(0, Some(node.id)))).count();
            over.extend(slots_of(view, service, is_stopping));
            let open = open(view, template).filter(|node| !over.contains(&(0, Some(node.id))));
            (open.count(), most)
        }
    };
    let least = if restarts_always { least } else { 0 };
    let is_wrong = !(least..=most).contains(&wanted.len());
    is_wrong.then(|| {
        let name = &service.spec.name;
        format!("{name}: {} slots are wanted, which should be {least} to {most}", wanted.len())
    })
}

/// The slots with tasks that are like this.
pub fn slots_of(
    view: &View,
    service: &Service,
    is_like: impl Fn(&Task) -> bool,
) -> BTreeSet<(u64, Option<NodeId>)> {
    let tasks = view.tasks_of_service(service.id).filter(|task| is_like(task));
    tasks.map(|task| slot_of(Some(service), task)).collect()
}

/// True for a task that was told to stop and has not said that it did.
pub fn is_stopping(task: &Task) -> bool {
    !task.is_wanted() && !task.status.state.is_terminal()
}

/// The nodes that take tasks of a template.
fn open<'v>(view: &'v View, template: &TaskSpec) -> impl Iterator<Item = &'v Arc<Node>> {
    view.nodes().filter(move |node| {
        let is_ready = node.status.state == NodeState::Ready;
        is_ready && node.spec.availability == Availability::Active && fits(template, node)
    })
}

fn kept(view: &View) -> impl Iterator<Item = &Arc<Node>> {
    view.nodes().filter(|node| keeps_tasks(node))
}

/// More on a node than it has, with one task more or as it is: resources that are reserved, ports of
/// its own.
fn load_faults(view: &View, node: &Node, more: Option<&Task>) -> Vec<String> {
    let has = node.description.as_ref().map(|description| &description.resources);
    let (mut cpus, mut memory) = (0, 0);
    let mut ports = BTreeSet::new();
    let mut found = Vec::new();
    let there = view.tasks_of_node(node.id).map(|task| &**task).filter(|task| at_work(task));
    for task in there.chain(more) {
        let reserved =
            task.spec.resources.as_ref().and_then(|resources| resources.reservations.as_ref());
        cpus += reserved.map_or(0, |reserved| reserved.nano_cpus);
        memory += reserved.map_or(0, |reserved| reserved.memory_bytes);
        let own = task.endpoint_spec.iter().flat_map(|endpoint| &endpoint.ports);
        for port in own.filter(|port| port.publish_mode == PublishMode::Host) {
            if !ports.insert((port.protocol, port.published_port)) {
                found.push(format!("{}: its port is taken twice", task.name()));
            }
        }
    }
    if has.is_some_and(|has| cpus > has.nano_cpus || memory > has.memory_bytes) {
        found.push(format!("{}: more is reserved than it has", node.hostname()));
    }
    found
}
