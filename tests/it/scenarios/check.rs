//! The checker: what must hold of any view, however it came about.

use std::collections::{BTreeMap, BTreeSet};

use purser::domain::change::{Changed, Object};
use purser::domain::constraint::Constraint;
use purser::domain::id::NodeId;
use purser::domain::node::{Availability, Node, NodeState};
use purser::domain::service::{ModeKind, RestartCondition, Service};
use purser::domain::task::Task;
use purser::domain::task_state::{Mover, TaskState, may_move};
use purser::domain::view::View;

/// What is wrong with one change of a task: it moved against the table, or was deleted too early.
pub fn move_of(mover: Mover, changed: &Changed, view: &View) -> Option<String> {
    let wrong = |task: &Task, what: String| Some(format!("{}: {what}", task.name()));
    match (&changed.old, &changed.new) {
        (None, Some(Object::Task(new))) => {
            let is_new = mover == Mover::Orchestrator && new.status.state == TaskState::New;
            (!is_new).then(|| format!("{} was made by {mover:?}", new.name()))
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
            (!is_same).then(|| format!("{} is another task now", new.name()))
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

/// What is wrong with a view whose planners are content.
pub fn inspect(view: &View) -> Vec<String> {
    let mut found = Vec::new();
    let mut slots: BTreeMap<_, usize> = BTreeMap::new();
    let mut ended: BTreeMap<_, usize> = BTreeMap::new();
    for task in view.tasks() {
        let slot = (task.service_id, task.slot, task.node_id.filter(|_| task.slot == 0));
        if !task.is_wanted() {
            *ended.entry(slot).or_default() += usize::from(task.status.state.is_terminal());
            continue;
        }
        found.extend(task_faults(view, task).map(|what| format!("{}: {what}", task.name())));
        let wanted = slots.entry(slot).or_default();
        *wanted += 1;
        if *wanted > 1 {
            found.push(format!("{}: two tasks are wanted in one slot", task.name()));
        }
    }
    let limit =
        view.cluster().map_or(usize::MAX, |cluster| cluster.spec.task_history_limit().max(1));
    if ended.into_values().any(|count| count > limit) {
        found.push(format!("more than {limit} ended tasks are kept in a slot"));
    }
    found.extend(view.services().filter_map(|service| service_fault(view, service)));
    found.extend(view.nodes().flat_map(|node| node_faults(view, node)));
    found
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

fn keeps_tasks(node: &Node) -> bool {
    node.status.state != NodeState::Down && node.spec.availability != Availability::Drain
}

/// Too many tasks, or too few although every task that ends is to be replaced.
fn service_fault(view: &View, service: &Service) -> Option<String> {
    let template = &service.spec.task_template;
    let policy = template.restart_policy.clone().unwrap_or_default();
    let constraints =
        template.placement.as_ref().map_or(&[][..], |placement| &placement.constraints);
    let fits = |node: &Node| {
        let parsed = constraints.iter().map(|text| Constraint::parse(text));
        parsed.into_iter().all(|constraint| constraint.is_ok_and(|c| c.matches(node)))
    };
    let takes_tasks = |node: &Node| {
        node.status.state == NodeState::Ready && node.spec.availability == Availability::Active
    };
    let wanted: Vec<&Task> = view
        .tasks_of_service(service.id)
        .filter(|task| task.is_wanted())
        .map(|task| &**task)
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
            let open = view.nodes().filter(|node| takes_tasks(node) && fits(node));
            (open.count(), view.nodes().filter(|node| keeps_tasks(node)).count())
        }
    };
    let least = if restarts_always { least } else { 0 };
    let is_wrong = !(least..=most).contains(&wanted.len());
    is_wrong.then(|| {
        let name = &service.spec.name;
        format!("{name}: {} tasks are wanted, which should be {least} to {most}", wanted.len())
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
