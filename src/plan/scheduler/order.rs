//! In which order nodes are asked to take the tasks of a service: those that have fewest tasks of it
//! come first, and among them those that have fewest in all. Nodes where tasks of the service failed
//! again and again come last.
//!
//! Without preferences the view has that order but for the nodes that have tasks of the service, so
//! a task asks about as many nodes as refuse it. Preferences need the counts of all nodes
//! ([`spread`](super::spread)).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::load::Loads;
use super::spread::Tree;
use crate::domain::id::NodeId;
use crate::domain::task::Task;
use crate::domain::time::Timestamp;
use crate::domain::view::Burden;

/// How little a node is asked for: how often tasks of the service failed there, when that is too often,
/// tasks of the service, tasks in all, and which it is.
pub(super) type Rank = Reverse<(usize, usize, usize, NodeId)>;

/// The nodes that may take tasks of one service.
pub(super) enum Order<'p> {
    Plain(Walk),
    Spread(Tree<'p>),
}

impl<'p> Order<'p> {
    /// The order for tasks of one service and spec.
    pub(super) fn of(task: &'p Task, loads: &Loads<'_>, now: Timestamp) -> Self {
        let placement = task.spec.placement.as_ref();
        let preferences = placement.map_or(&[][..], |placement| &placement.preferences);
        let served = task.service_id.map(|id| loads.of_service(id)).unwrap_or_default();
        let failing = loads.failing(task, now);
        match preferences.is_empty() {
            true => Order::Plain(Walk::new(served, failing, loads)),
            false => Order::Spread(Tree::new(preferences, &served, failing, loads)),
        }
    }

    /// The next node to ask. It is not asked again until it is offered.
    pub(super) fn next(&mut self, loads: &Loads<'_>) -> Option<NodeId> {
        match self {
            Order::Plain(walk) => walk.next(loads),
            Order::Spread(tree) => tree.take(),
        }
    }

    /// The node that was asked last took the task, and may take another.
    pub(super) fn offer(&mut self, id: NodeId, loads: &Loads<'_>) {
        match self {
            Order::Plain(walk) => walk.offer(id, loads),
            Order::Spread(tree) => tree.offer(id, loads),
        }
    }

    /// The node that was asked last did not take the task.
    pub(super) fn refuse(&mut self, id: NodeId, loads: &Loads<'_>) {
        if let (Order::Spread(tree), Some(node)) = (self, loads.view.node(id)) {
            tree.refuse(node);
        }
    }
}

/// A walk over the nodes by burden, which leaves out those that have tasks of the service, and those
/// where too many have failed. They come after the others, but before those that take no tasks, which
/// are only asked why.
pub(super) struct Walk {
    served: BTreeMap<NodeId, usize>,
    failing: Failing,
    again: BinaryHeap<Rank>,
    last: Option<Burden>,
}

impl Walk {
    fn new(mut served: BTreeMap<NodeId, usize>, failing: Failing, loads: &Loads<'_>) -> Self {
        for id in failing.keys() {
            served.entry(*id).or_default();
        }
        let rank = |(id, count): (&NodeId, &usize)| {
            Reverse((failures(&failing, *id), *count, loads.burden(*id), *id))
        };
        let again = served.iter().map(rank).collect();
        Walk { served, failing, again, last: None }
    }

    fn next(&mut self, loads: &Loads<'_>) -> Option<NodeId> {
        loop {
            let next = loads.after(self.last);
            if next.is_none_or(|(is_closed, ..)| is_closed)
                && let Some(Reverse((.., id))) = self.again.pop()
            {
                return Some(id);
            }
            let (_, _, id) = *self.last.insert(next?);
            if !self.served.contains_key(&id) {
                return Some(id);
            }
        }
    }

    fn offer(&mut self, id: NodeId, loads: &Loads<'_>) {
        let count = self.served.entry(id).or_default();
        *count += 1;
        self.again.push(Reverse((failures(&self.failing, id), *count, loads.burden(id), id)));
    }
}

/// How often tasks of a service failed of late on the nodes where they did so too often.
pub(super) type Failing = BTreeMap<NodeId, usize>;

pub(super) fn failures(failing: &Failing, node: NodeId) -> usize {
    failing.get(&node).copied().unwrap_or(0)
}
