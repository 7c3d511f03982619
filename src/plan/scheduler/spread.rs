//! Spreading: which of the nodes that take a task gets it.
//!
//! The nodes stand in a tree with a level for each preference, whose branches are the values of its
//! label; a node without the label is in the branch of the empty value. A task goes, level by level,
//! into the branch that has the fewest tasks of its service, and there to the least burdened node.
//! Without preferences the tree is one heap.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::load::Loads;
use super::order::{Failing, Rank, failures};
use crate::domain::constraint::label;
use crate::domain::id::NodeId;
use crate::domain::node::Node;
use crate::domain::service::PlacementPreference;

/// Part of the nodes: those that agree in the labels of the levels above.
#[derive(Default)]
struct Branch {
    /// Tasks of the service, on all nodes of the branch.
    of_service: usize,
    /// Tasks of all services on them.
    tasks: usize,
    /// Nodes that may take another task.
    open: usize,
    branches: BTreeMap<String, Branch>,
    nodes: BinaryHeap<Rank>,
}

/// The nodes that may take tasks of one service.
pub(super) struct Tree<'p> {
    preferences: &'p [PlacementPreference],
    root: Branch,
    /// Tasks of the service, by node.
    served: BTreeMap<NodeId, usize>,
    failing: Failing,
}

impl<'p> Tree<'p> {
    /// A tree of all nodes, any of which may take a task.
    pub(super) fn new(
        preferences: &'p [PlacementPreference],
        served: &BTreeMap<NodeId, usize>,
        failing: Failing,
        loads: &Loads<'_>,
    ) -> Self {
        let root = Branch::default();
        let mut tree = Tree { preferences, root, served: served.clone(), failing };
        for node in loads.view.nodes() {
            let (of_service, tasks) =
                (served.get(&node.id).copied().unwrap_or(0), loads.burden(node.id));
            let leaf = tree.root.descend(&path(preferences, node), &mut |branch| {
                branch.of_service += of_service;
                branch.tasks += tasks;
                branch.open += 1;
            });
            let failed = failures(&tree.failing, node.id);
            leaf.nodes.push(Reverse((failed, of_service, tasks, node.id)));
        }
        tree
    }

    /// The node that has taken the task may take another.
    pub(super) fn offer(&mut self, id: NodeId, loads: &Loads<'_>) {
        let Some(node) = loads.view.node(id) else { return };
        let of_service = self.served.entry(id).or_default();
        *of_service += 1;
        let rank = Reverse((failures(&self.failing, id), *of_service, loads.burden(id), id));
        let path = path(self.preferences, node);
        self.root.descend(&path, &mut |branch| branch.open += 1).nodes.push(rank);
    }

    /// The node that was taken last does not get the task after all, and no other.
    pub(super) fn refuse(&mut self, node: &Node) {
        self.root.descend(&path(self.preferences, node), &mut |branch| {
            branch.of_service -= 1;
            branch.tasks -= 1;
        });
    }

    /// The node that gets the next task; it takes no more until it is offered again.
    pub(super) fn take(&mut self) -> Option<NodeId> {
        let mut branch = &mut self.root;
        loop {
            branch.open = branch.open.checked_sub(1)?;
            branch.of_service += 1;
            branch.tasks += 1;
            if branch.branches.is_empty() {
                return branch.nodes.pop().map(|Reverse((.., id))| id);
            }
            let open = branch.branches.values_mut().filter(|branch| branch.open > 0);
            branch = open.min_by_key(|branch| (branch.of_service, branch.tasks))?;
        }
    }
}

/// The values that a node has of the labels. A preference that names no label is no level.
fn path(preferences: &[PlacementPreference], node: &Node) -> Vec<String> {
    let spreads = preferences.iter().filter_map(|preference| preference.spread.as_ref());
    spreads.filter_map(|spread| label(node, &spread.spread_descriptor)).map(str::to_owned).collect()
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
