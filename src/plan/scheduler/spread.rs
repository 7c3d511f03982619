//! Spreading: which of the nodes that take a task gets it.
//!
//! The nodes stand in a tree with a level for each preference, whose branches are the values of its
//! label; a node without the label is in the branch of the empty value. A task goes, level by level,
//! into the branch that has the fewest tasks of its service, and there to the least burdened node.
//! Without preferences the tree is one heap.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::filter::Load;
use crate::domain::constraint::label;
use crate::domain::id::ServiceId;
use crate::domain::node::Node;
use crate::domain::service::PlacementPreference;

/// How burdened a node is: tasks of the service, tasks in all, and its place among the loads.
type Burden = Reverse<(usize, usize, usize)>;

/// Part of the nodes: those that agree in the labels of the levels above.
#[derive(Default)]
struct Branch {
    /// Tasks of the service, on all nodes of the branch.
    of_service: usize,
    /// Tasks of all services on them.
    tasks: usize,
    /// Nodes that take another task.
    open: usize,
    branches: BTreeMap<String, Branch>,
    nodes: BinaryHeap<Burden>,
}

/// The nodes that take tasks of one service.
pub(super) struct Tree<'p> {
    service: ServiceId,
    preferences: &'p [PlacementPreference],
    root: Branch,
}

impl<'p> Tree<'p> {
    /// A tree that knows the burden of all nodes, none of which takes a task yet.
    pub(super) fn new(
        service: ServiceId,
        preferences: &'p [PlacementPreference],
        loads: &[Load<'_>],
    ) -> Self {
        let mut tree = Tree { service, preferences, root: Branch::default() };
        if !preferences.is_empty() {
            for load in loads {
                let path = tree.path(load.node);
                tree.root.descend(&path, &mut |branch| {
                    branch.of_service += load.of_service(service);
                    branch.tasks += load.tasks;
                });
            }
        }
        tree
    }

    /// A node takes a task, or another one.
    pub(super) fn offer(&mut self, at: usize, load: &Load<'_>) {
        let path = self.path(load.node);
        let leaf = self.root.descend(&path, &mut |branch| branch.open += 1);
        leaf.nodes.push(Reverse((load.of_service(self.service), load.tasks, at)));
    }

    /// The node that gets the next task; it takes no more until it is offered again.
    pub(super) fn take(&mut self) -> Option<usize> {
        let mut branch = &mut self.root;
        loop {
            branch.open = branch.open.checked_sub(1)?;
            branch.of_service += 1;
            branch.tasks += 1;
            if branch.branches.is_empty() {
                return branch.nodes.pop().map(|Reverse((_, _, at))| at);
            }
            let open = branch.branches.values_mut().filter(|branch| branch.open > 0);
            branch = open.min_by_key(|branch| (branch.of_service, branch.tasks))?;
        }
    }

    /// The values that a node has of the labels. A preference that names no label is no level.
    fn path(&self, node: &Node) -> Vec<String> {
        let spreads = self.preferences.iter().filter_map(|preference| preference.spread.as_ref());
        spreads
            .filter_map(|spread| label(node, &spread.spread_descriptor))
            .map(str::to_owned)
            .collect()
    }
}

impl Branch {
    /// Goes down to the leaf of a path, with a change to every branch on the way.
    fn descend(&mut self, path: &[String], change: &mut impl FnMut(&mut Branch)) -> &mut Branch {
        change(self);
        match path.split_first() {
            None => self,
            Some((value, rest)) => {
                self.branches.entry(value.clone()).or_default().descend(rest, change)
            }
        }
    }
}
