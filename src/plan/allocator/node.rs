//! The addresses of nodes: their load balancers have one on each network in use there.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::pool::Pools;
use crate::domain::change::Change;
use crate::domain::id::NetworkId;
use crate::domain::network::Attachment;
use crate::domain::node::Node;
use crate::domain::task::Task;
use crate::domain::task_state::TaskState;
use crate::domain::view::View;
use crate::plan::Planned;

/// A new node with its address on the network of the routing mesh, and that network when it gave
/// one. Without a free address the node gets one later.
pub fn welcome(view: &View, mut node: Node) -> (Node, Option<Change>) {
    let is_new = node.attachments.is_empty();
    let Some(ingress) = view.ingress().filter(|_| is_new) else { return (node, None) };
    let mut pools = Pools::of(view);
    node.attachments.extend(pools.take(ingress));
    (node, pools.changes().next())
}

/// Gives a node the addresses that it lacks, takes those back that it needs no more, and says on its
/// tasks what there is none for.
pub(super) fn plan(node: &Arc<Node>, pools: &mut Pools<'_>, planned: &mut Planned) {
    let view = pools.view();
    let needed = needed(view, node);
    let is_needed = |place: &&Attachment| needed.contains(&place.network);
    let mut attachments: Vec<Attachment> =
        node.attachments.iter().filter(is_needed).copied().collect();
    let had: BTreeSet<NetworkId> = attachments.iter().map(|place| place.network).collect();
    let mut missing = Vec::new();
    for network in needed.difference(&had).filter_map(|id| view.network(*id)) {
        match pools.take(network) {
            Ok(place) => attachments.push(place),
            Err(why) => missing.push((network.id, why)),
        }
    }
    if attachments != node.attachments {
        planned.changes.push(Node { attachments, ..Node::clone(node) }.into());
    }
    for task in view.tasks_of_node(node.id) {
        planned.changes.extend(explain(view, task, &missing));
    }
}

/// The networks on which a node has a task that has not ended, and that of the routing mesh.
fn needed(view: &View, node: &Node) -> BTreeSet<NetworkId> {
    let mut needed: BTreeSet<NetworkId> =
        view.ingress().map(|network| network.id).into_iter().collect();
    for task in view.tasks_of_node(node.id).filter(|task| task.holds_place()) {
        let with_address = task.networks.iter().filter(|place| place.address.is_some());
        needed.extend(with_address.map(|place| place.network));
    }
    needed
}

/// Says on a task that its node has no address, or what is in its way there; nothing when it says so already, or when it is with
/// its node.
fn explain(view: &View, task: &Arc<Task>, missing: &[(NetworkId, String)]) -> Option<Change> {
    if task.status.state != TaskState::Assigned || task.networks.is_empty() {
        return None;
    }
    let lacks = |place: &Attachment| missing.iter().find(|(network, _)| *network == place.network);
    let err = task.networks.iter().find_map(lacks);
    let err = match (err, view.network_in_the_way(task)) {
        (Some((_, why)), _) => format!("its node waits for an address: {why}"),
        (None, Some(removed)) => {
            let name = &removed.spec.name;
            format!("its node has tasks on an earlier network {name} still, which has to go first")
        }
        (None, None) => String::new(),
    };
    if task.status.err == err {
        return None;
    }
    let mut task = Task::clone(task);
    task.status.err = err;
    Some(task.into())
}
