//! Global services: one slot for every node that may run them.

use std::collections::BTreeSet;

use super::slot::{self, SlotKey, Start};
use super::{restart, update};
use crate::domain::node::{Availability, Node, NodeState};
use crate::domain::service::Service;
use crate::domain::task_state::TaskState;
use crate::domain::view::View;
use crate::plan::scheduler::satisfies;
use crate::plan::{Context, Planned};

pub(super) fn reconcile(view: &View, service: &Service, ctx: Context<'_>, planned: &mut Planned) {
    let slots = slot::slots(view, service);
    restart::plan(view, service, &slots, ctx, planned);
    if planned.changes.is_empty() {
        cover(view, service, &slots, ctx, planned);
    }
    if planned.changes.is_empty() {
        update::plan(view, service, &slots, ctx, planned);
    }
    if planned.changes.is_empty() {
        restart::start_held(view, service, &slots, ctx, planned);
    }
}

/// True for a node that has a slot of the service, be it that it is not heard of just now.
pub(super) fn has_slot(service: &Service, node: &Node) -> bool {
    let constraints = slot::constraints(&service.spec.task_template);
    node.spec.availability == Availability::Active && node.is_up() && satisfies(constraints, node)
}

/// True while a node is given new tasks of the service.
pub(super) fn takes_tasks(service: &Service, node: &Node) -> bool {
    node.status.state == NodeState::Ready && has_slot(service, node)
}

/// How many nodes have yet to be covered, and the slots of those that are so no more. What a node will not run
/// any more is not among them.
pub(super) fn outlook<'s, 'v>(
    view: &View,
    service: &Service,
    taken: &[&'s slot::Slot<'v>],
) -> (u64, Vec<&'s slot::Slot<'v>>) {
    let constraints = slot::constraints(&service.spec.task_template);
    let covered = |node: &Node| taken.iter().any(|slot| slot.key == SlotKey::Node(node.id));
    let missing = view.nodes().filter(|node| takes_tasks(service, node) && !covered(node));
    let is_given_up = |slot: &slot::Slot<'_>| match slot.key {
        SlotKey::Node(id) => {
            view.node(id).is_some_and(|node| !satisfies(constraints, node))
                && !slot.current().is_some_and(|task| slot::is_lost(view, service, task))
        }
        SlotKey::Number(_) => false,
    };
    let surplus = taken.iter().copied().filter(|slot| is_given_up(slot)).collect();
    (missing.count() as u64, surplus)
}

/// One task for every node that takes tasks and satisfies the constraints; none where they are not
/// satisfied any more. A paused node keeps what it has.
fn cover(
    view: &View,
    service: &Service,
    slots: &[slot::Slot<'_>],
    ctx: Context<'_>,
    planned: &mut Planned,
) {
    let constraints = slot::constraints(&service.spec.task_template);
    let mut covered = BTreeSet::new();
    for slot in slots {
        let SlotKey::Node(id) = slot.key else { continue };
        if slot.current().is_some() {
            covered.insert(id);
        }
        if let Some(task) = slot.wanted()
            && view.node(id).is_some_and(|node| !satisfies(constraints, node))
        {
            planned.changes.push(slot::desire(task, TaskState::Shutdown));
        }
    }
    for node in view.nodes().filter(|node| takes_tasks(service, node)) {
        if !covered.contains(&node.id) {
            let key = SlotKey::Node(node.id);
            planned.changes.push(slot::make(service, key, Start::default(), ctx));
        }
    }
}
