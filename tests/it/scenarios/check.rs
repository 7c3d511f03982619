//! The checker: what must hold of any view, however it came about.

use std::collections::{BTreeMap, BTreeSet};

use purser::domain::change::{Changed, Object};
use purser::domain::constraint::Constraint;
use purser::domain::id::NodeId;
use purser::domain::node::{Availability, Node, NodeState};
use purser::domain::service::{
    ModeKind, RestartCondition, Service, TaskSpec, UpdateOrder, UpdateState,
};
use purser::domain::task::Task;
use purser::domain::task_state::{Mover, TaskState, may_move};
use purser::domain::view::View;
use purser::plan::orchestrator::is_current;

/// What is wrong with one change of a task: it moved against the table, or was deleted too early.
pub fn move_of(mover: Mover, changed: &Changed, view: &View) -> Option<String> {
    let wrong = |task: &Task, what: String| Some(format!("{}: {what}", task.name()));
    match (&changed.old, &changed.new) {
        (None, Some(Object::Task(new))) => {
            let is_new = mover == Mover::Orchestrator && new.status.state == TaskState::New;
            if !is_new {
                return wrong(new, format!("made by {mover:?}"));
            }
            // A replacement of the new task comes beside the old one whatever the order is by then.
            let is_first = new.restarts.count == 0;
            let is_beside = slot_mates(view, new).any(Task::is_wanted);
            let service = view.service(new.service_id);
            if is_beside && is_first && !service.is_some_and(|service| starts_first(service)) {
                return wrong(new, "made beside another".into());
            }
            None
        }
        (Some(Object::Task(old)), Some(Object::Task(new))) => {
            let (from, to) = (old.status.state, new.status.state);
            if from != to && !may_move(mover, from, to) {
                return wrong(new, format!("{mover:?} moved it from {from} to {to}"));
            }
            if new.desired_state < old.desired_state {
                return wrong(new, "its desired state fell".into());
            }
            let is_same =
                old.slot == new.slot && old.spec == new.spec && old.service_id == new.service_id;
            if !is_same {
                return wrong(new, "another task now".into());
            }
            gives_up_service(old, new, view)
                .then(|| format!("{}: stopped before another runs in its slot", new.name()))
        }
        (Some(Object::Task(old)), None) => {
            let on_a_node = (TaskState::Assigned..=TaskState::Running).contains(&old.status.state)
                && old.node_id.is_some_and(|id| view.node(id).is_some());
            if old.is_wanted() || on_a_node {
                return wrong(old, format!("deleted by {mover:?} while it may run"));
            }
            None
        }
        _ => None,
    }
}

/// True when a task that serves is told to stop by a rollout that starts first, and nothing runs in
/// its slot in its place.
fn gives_up_service(old: &Task, new: &Task, view: &View) -> bool {
    let runs = |task: &Task| task.is_wanted() && task.status.state == TaskState::Running;
    let is_stopped = runs(old) && new.desired_state == TaskState::Shutdown;
    let Some(service) = view.service(new.service_id) else { return false };
    let node = new.node_id.and_then(|id| view.node(id));
    let stays = node.is_some_and(|node| keeps_tasks(node) && fits(&new.spec, node));
    let is_served = slot_mates(view, new).any(runs);
    is_stopped && starts_first(service) && stays && !is_served
}

/// True when the rollout of a service starts the new task of a slot first.
fn starts_first(service: &Service) -> bool {
    let state = service.update_status.as_ref().map(|status| status.state);
    let config = match state {
        Some(
            UpdateState::RollbackStarted
            | UpdateState::RollbackPaused
            | UpdateState::RollbackCompleted,
        ) => &service.spec.rollback_config,
        _ => &service.spec.update_config,
    };
    let order = config.as_ref().and_then(|config| config.order);
    order == Some(UpdateOrder::StartFirst)
        && matches!(service.spec.mode.kind(), ModeKind::Replicated(_))
}

/// The other tasks of a task's slot.
fn slot_mates<'v>(view: &'v View, task: &'v Task) -> impl Iterator<Item = &'v Task> {
    let node = |task: &Task| task.node_id.filter(|_| task.slot == 0);
    view.tasks_of_service(task.service_id).map(|other| &**other).filter(move |other| {
        other.slot == task.slot && node(other) == node(task) && other.id != task.id
    })
}

/// What is wrong with a view whose planners are content.
pub fn inspect(view: &View) -> Vec<String> {
    let mut found = Vec::new();
    let mut slots: BTreeMap<_, Vec<&Task>> = BTreeMap::new();
    let mut ended: BTreeMap<_, usize> = BTreeMap::new();
    for task in view.tasks() {
        let slot = (task.service_id, task.slot, task.node_id.filter(|_| task.slot == 0));
        if !task.is_wanted() {
            *ended.entry(slot).or_default() += usize::from(task.status.state.is_terminal());
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
    found.extend(view.nodes().flat_map(|node| node_faults(view, node)));
    found
}

/// In one slot one task is wanted, or two: an old one that runs until the new one does.
fn slot_fault(view: &View, wanted: &[&Task]) -> Option<String> {
    let is_handover = |one: &Task, other: &Task| {
        let Some(service) = view.service(one.service_id) else { return false };
        let (old, new) =
            if one.meta.created_at < other.meta.created_at { (one, other) } else { (other, one) };
        old.slot > 0
            && old.status.state == TaskState::Running
            && new.status.state != TaskState::Running
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

fn task_faults(view: &View, task: &Task) -> impl Iterator<Item = String> {
    let node = task.node_id.map(|id| view.node(id));
    let faults = [
        (view.service(task.service_id).is_none(), "wanted by a service that is gone"),
        (node.is_some_and(|node| node.is_none()), "wanted on a node that is gone"),
        (
            node.flatten().is_some_and(|node| !keeps_tasks(node)),
            "wanted on a node that gives up tasks",
        ),
        // What ended while it was held ready is replaced when its delay is over.
        (
            task.status.state.is_terminal() && task.desired_state != TaskState::Ready,
            "wanted although it ended",
        ),
        (task.status.state == TaskState::New, "not looked at by the allocator"),
        (
            task.status.state == TaskState::Pending && task.status.err.is_empty(),
            "waits without an explanation",
        ),
    ];
    faults.into_iter().filter(|(is_wrong, _)| *is_wrong).map(|(_, what)| what.to_owned())
}

fn fits(template: &TaskSpec, node: &Node) -> bool {
    let constraints =
        template.placement.as_ref().map_or(&[][..], |placement| &placement.constraints);
    let mut parsed = constraints.iter().map(|text| Constraint::parse(text));
    parsed.all(|constraint| constraint.is_ok_and(|c| c.matches(node)))
}

fn keeps_tasks(node: &Node) -> bool {
    node.status.state != NodeState::Down && node.spec.availability != Availability::Drain
}

/// Too many tasks, or too few although every task that ends is to be replaced.
fn service_fault(view: &View, service: &Service) -> Option<String> {
    let template = &service.spec.task_template;
    let policy = template.restart_policy.clone().unwrap_or_default();
    let takes_tasks = |node: &Node| {
        node.status.state == NodeState::Ready && node.spec.availability == Availability::Active
    };
    let wanted: BTreeSet<_> = view
        .tasks_of_service(service.id)
        .filter(|task| task.is_wanted())
        .map(|task| (task.slot, task.node_id.filter(|_| task.slot == 0)))
        .collect();
    // Older tasks may have come from a spec that limited restarts.
    let restarts_always =
        policy.condition.is_none_or(|condition| condition == RestartCondition::Any)
            && policy.max_attempts.unwrap_or(0) == 0
            && view
                .tasks_of_service(service.id)
                .all(|task| task.spec.restart_policy == template.restart_policy);
    let (least, most) = match service.spec.mode.kind() {
        ModeKind::Replicated(replicas) => {
            let replicas = usize::try_from(replicas).unwrap_or(usize::MAX);
            (replicas, replicas)
        }
        _ => {
            let open = view.nodes().filter(|node| takes_tasks(node) && fits(template, node));
            (open.count(), view.nodes().filter(|node| keeps_tasks(node)).count())
        }
    };
    let least = if restarts_always { least } else { 0 };
    let is_wrong = !(least..=most).contains(&wanted.len());
    is_wrong.then(|| {
        let name = &service.spec.name;
        format!("{name}: {} slots are wanted, which should be {least} to {most}", wanted.len())
    })
}

/// More on a node than it has: resources that are reserved, ports of its own.
fn node_faults(view: &View, node: &Node) -> Vec<String> {
    let has = node.description.as_ref().map(|description| &description.resources);
    let (mut cpus, mut memory) = (0, 0);
    let mut ports = BTreeSet::new();
    let mut found = Vec::new();
    for task in tasks_at_work(view, node.id) {
        let reserved =
            task.spec.resources.as_ref().and_then(|resources| resources.reservations.as_ref());
        cpus += reserved.map_or(0, |reserved| reserved.nano_cpus);
        memory += reserved.map_or(0, |reserved| reserved.memory_bytes);
        for port in task.endpoint_spec.iter().flat_map(|endpoint| &endpoint.ports) {
            if !ports.insert((port.protocol(), port.published_port)) {
                found.push(format!("{}: its port is taken twice", task.name()));
            }
        }
    }
    if has.is_some_and(|has| cpus > has.nano_cpus || memory > has.memory_bytes) {
        found.push(format!("{}: more is reserved than it has", node.hostname()));
    }
    found
}

fn tasks_at_work(view: &View, node: NodeId) -> impl Iterator<Item = &std::sync::Arc<Task>> {
    let at_work = TaskState::Assigned..=TaskState::Running;
    view.tasks_of_node(node).filter(move |task| at_work.contains(&task.status.state))
}
