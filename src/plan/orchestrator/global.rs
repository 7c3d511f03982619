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
        restart::start_held(view, &slots, ctx, planned);
    }
}

/// True while a node is given new tasks.
pub(super) fn takes_tasks(node: &Node) -> bool {
    node.status.state == NodeState::Ready && node.spec.availability == Availability::Active
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
    let template = &service.spec.task_template;
    let constraints =
        template.placement.as_ref().map_or(&[][..], |placement| &placement.constraints);
    let fits = |node: &Node| satisfies(constraints, node);
    let mut covered = BTreeSet::new();
    for slot in slots {
        let SlotKey::Node(id) = slot.key else { continue };
        if slot.current().is_some() {
            covered.insert(id);
        }
        if let Some(task) = slot.wanted()
            && view.node(id).is_some_and(|node| !fits(node))
        {
            planned.changes.push(slot::desire(task, TaskState::Shutdown));
        }
    }
    for node in view.nodes().filter(|node| takes_tasks(node) && fits(node)) {
        if !covered.contains(&node.id) {
            let key = SlotKey::Node(node.id);
            planned.changes.push(slot::make(service, key, Start::default(), ctx));
        }
    }
}
