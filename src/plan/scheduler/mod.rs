//! The scheduler: chooses a node for every task that waits, pending → assigned.
//!
//! Tasks of one service and spec are placed together: the filters that depend on the node alone are
//! asked once for each node, and the nodes that pass stand in a tree ([`spread`]) by the labels that
//! the service prefers to spread over, then by how many tasks of the service they have, then how
//! many in all. The least burdened takes the next task, and goes back to its place.

mod filter;
mod generic;
mod spread;

use std::collections::BTreeMap;
use std::sync::Arc;

use filter::{Load, Reasons};
use spread::Tree;

use super::Context;
use crate::domain::change::Change;
use crate::domain::constraint::Constraint;
use crate::domain::id::ServiceId;
use crate::domain::node::Node;
use crate::domain::task::Task;
use crate::domain::task_state::TaskState;
use crate::domain::time::Timestamp;
use crate::domain::view::View;

/// True when a node satisfies all constraints. One that cannot be parsed, which no stored service
/// has, is satisfied by none.
pub fn satisfies(constraints: &[String], node: &Node) -> bool {
    constraints
        .iter()
        .all(|text| Constraint::parse(text).is_ok_and(|constraint| constraint.matches(node)))
}

/// The nodes that waiting tasks get, or why they get none.
pub fn plan(view: &View, ctx: Context<'_>) -> Vec<Change> {
    // What takes the place of another comes before what is new: a rollout that frees a place gets it
    // back, and does not wait for tasks that never had one.
    let mut groups: BTreeMap<(bool, ServiceId, u64), Vec<&Arc<Task>>> = BTreeMap::new();
    for task in view.waiting_tasks().filter(|task| task.status.state == TaskState::Pending) {
        let is_new = task.not_before == Timestamp::ZERO;
        groups.entry((is_new, task.service_id, task.spec_version.index)).or_default().push(task);
    }
    if groups.is_empty() {
        return Vec::new();
    }
    let mut loads: Vec<Load<'_>> = view.nodes().map(|node| Load::of(view, node)).collect();
    let mut changes = Vec::new();
    for tasks in groups.into_values() {
        let (bound, mut free): (Vec<_>, Vec<_>) =
            tasks.into_iter().partition(|task| task.node_id.is_some());
        free.sort_by_key(|task| task.slot);
        for task in bound {
            place_bound(task, &mut loads, ctx, &mut changes);
        }
        place_free(&free, &mut loads, ctx, &mut changes);
    }
    changes
}

/// A task of a global service or job has its node; only whether it takes the task is asked.
fn place_bound(
    task: &Arc<Task>,
    loads: &mut [Load<'_>],
    ctx: Context<'_>,
    changes: &mut Vec<Change>,
) {
    let own = loads.iter_mut().find(|load| Some(load.node.id) == task.node_id);
    let mut reasons = Reasons::default();
    if let Some(load) = own {
        match filter::refusal(task, load) {
            None => {
                changes.push(assign(task, load, ctx));
                return;
            }
            Some(reason) => reasons.add(reason),
        }
    }
    changes.extend(explain(task, &reasons));
}

fn place_free(
    tasks: &[&Arc<Task>],
    loads: &mut [Load<'_>],
    ctx: Context<'_>,
    changes: &mut Vec<Change>,
) {
    let Some(first) = tasks.first() else { return };
    let mut reasons = Reasons::default();
    let preferences = first.spec.placement.as_ref().map_or(&[][..], |p| &p.preferences);
    let mut tree = Tree::new(first.service_id, preferences, loads);
    for (at, load) in loads.iter().enumerate() {
        match filter::refusal(first, load) {
            None => tree.offer(at, load),
            Some(reason) => reasons.add(reason),
        }
    }
    for task in tasks {
        let Some(at) = tree.take() else {
            changes.extend(explain(task, &reasons));
            continue;
        };
        let load = &mut loads[at];
        changes.push(assign(task, load, ctx));
        match filter::refusal(task, load) {
            None => tree.offer(at, load),
            Some(reason) => reasons.add(reason),
        }
    }
}

/// Gives a task to a node that takes it.
fn assign(task: &Arc<Task>, load: &mut Load<'_>, ctx: Context<'_>) -> Change {
    let mut task = Task::clone(task);
    task.generic_resources = load.claim(&task).unwrap_or_default();
    task.node_id = Some(load.node.id);
    task.status.state = TaskState::Assigned;
    task.status.message = "scheduler assigned task to node".into();
    task.status.err = String::new();
    task.status.timestamp = ctx.now;
    task.status.applied_at = ctx.now;
    load.add(&task);
    task.into()
}

/// Says on the task why it waits; nothing when it says so already.
fn explain(task: &Arc<Task>, reasons: &Reasons) -> Option<Change> {
    let err = reasons.text();
    if task.status.err == err {
        return None;
    }
    let mut task = Task::clone(task);
    task.status.err = err;
    Some(task.into())
}
