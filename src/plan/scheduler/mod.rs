//! The scheduler: chooses a node for every task that waits, pending → assigned.
//!
//! Tasks of one service and spec are placed together. Nodes are asked in an order ([`order`]): by the
//! labels that the service prefers to spread over, then by how many tasks of the service they have,
//! then how many in all. The first that passes the filters takes the task, and goes back to its
//! place. One that refuses a task refuses all others of the group, and is not asked again.

mod filter;
mod generic;
mod load;
mod order;
mod spread;

use std::collections::BTreeMap;
use std::sync::Arc;

use filter::Reasons;
use load::Loads;
use order::Order;

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
pub fn plan(view: &View, waiting: Vec<&Arc<Task>>, ctx: Context<'_>) -> Vec<Change> {
    place(&mut Loads::new(view), waiting, ctx)
}

/// The tasks that are placed together: whether they are new, their service, the version of its spec.
type Group = (bool, Option<ServiceId>, u64);

fn place(loads: &mut Loads<'_>, waiting: Vec<&Arc<Task>>, ctx: Context<'_>) -> Vec<Change> {
    // What takes the place of another comes before what is new: a rollout that frees a place gets it
    // back, and does not wait for tasks that never had one.
    let mut groups: BTreeMap<Group, Vec<&Arc<Task>>> = BTreeMap::new();
    for task in waiting.into_iter().filter(|task| task.status.state == TaskState::Pending) {
        let is_new = task.not_before == Timestamp::ZERO;
        groups.entry((is_new, task.service_id, task.spec_version.index)).or_default().push(task);
    }
    let mut changes = Vec::new();
    for tasks in groups.into_values() {
        let (bound, mut free): (Vec<_>, Vec<_>) =
            tasks.into_iter().partition(|task| task.node_id.is_some());
        free.sort_by_key(|task| task.slot);
        for task in bound {
            changes.extend(place_bound(task, loads, ctx));
        }
        place_free(&free, loads, ctx, &mut changes);
    }
    changes
}

/// A task of a global service or job has its node; only whether it takes the task is asked.
fn place_bound(task: &Arc<Task>, loads: &mut Loads<'_>, ctx: Context<'_>) -> Option<Change> {
    let mut reasons = Reasons::default();
    if let Some(node) = task.node_id.filter(|id| loads.view.node(*id).is_some()) {
        match loads.refusal(task, node) {
            None => return loads.assign(task, node, ctx),
            Some(reason) => reasons.add(reason),
        }
    }
    explain(task, &reasons)
}

fn place_free(
    tasks: &[&Arc<Task>],
    loads: &mut Loads<'_>,
    ctx: Context<'_>,
    changes: &mut Vec<Change>,
) {
    let Some(first) = tasks.first() else { return };
    let mut reasons = Reasons::default();
    let mut order = Order::of(first, loads, ctx.now);
    for task in tasks {
        let taken = loop {
            let Some(node) = order.next(loads) else { break None };
            match loads.refusal(task, node) {
                None => break Some(node),
                Some(reason) => reasons.add(reason),
            }
            order.refuse(node, loads);
        };
        match taken {
            Some(node) => {
                changes.extend(loads.assign(task, node, ctx));
                order.offer(node, loads);
            }
            None => changes.extend(explain(task, &reasons)),
        }
    }
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

#[cfg(test)]
mod tests;
