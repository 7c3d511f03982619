//! What nodes carry. Of a thousand nodes a task needs to know a few: their order by burden is kept in
//! the view, and what the tasks on a node make up is summed when the node is first asked.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdSet;

use super::filter::{self, Load, Reason};
use super::order::Failing;
use crate::domain::change::Change;
use crate::domain::id::{NetworkId, NodeId, ServiceId};
use crate::domain::network::{Attachment, Network};
use crate::domain::task::Task;
use crate::domain::task_state::TaskState;
use crate::domain::time::Timestamp;
use crate::domain::view::{Burden, View};
use crate::plan::Context;
use crate::plan::allocator::Pools;

/// As many failures of a service's tasks on a node within [`RECENT`](crate::domain::task::RECENT) make
/// it the last to be asked, as in Swarm.
const FAILURES_MAX: usize = 5;

/// The nodes as they are in the view, and with what this plan gives them.
pub(super) struct Loads<'v> {
    pub view: &'v View,
    order: OrdSet<Burden>,
    asked: BTreeMap<NodeId, Load<'v>>,
    placed: BTreeMap<ServiceId, Vec<NodeId>>,
    /// The addresses that are left for nodes.
    pools: Pools<'v>,
    /// What nodes will get on networks for the tasks that this plan gives them.
    promised: BTreeMap<(NodeId, NetworkId), Attachment>,
}

impl<'v> Loads<'v> {
    pub(super) fn new(view: &'v View) -> Self {
        let (order, asked, placed) = (view.nodes_by_burden(), BTreeMap::new(), BTreeMap::new());
        Loads { view, order, asked, placed, pools: Pools::of(view), promised: BTreeMap::new() }
    }

    /// The first reason for which a node does not take a task. One that is gone is not available.
    pub(super) fn refusal(&mut self, task: &Task, node: NodeId) -> Option<Reason> {
        let Some(load) = self.ask(node) else { return Some(Reason::NotAvailable) };
        filter::refusal(task, load).or_else(|| match self.take_places(task, node) {
            Some(places) => {
                self.pools.give_back(&places);
                None
            }
            None => Some(Reason::Addresses),
        })
    }

    /// Places for a node on those networks of a task where it has none; `None` if one is full.
    fn take_places(&mut self, task: &Task, node: NodeId) -> Option<Vec<Attachment>> {
        let own = self.view.node(node).map_or(&[][..], |node| &node.attachments);
        let has = |id| {
            own.iter().any(|place| place.network == id) || self.promised.contains_key(&(node, id))
        };
        let with_address = task.networks.iter().filter(|place| place.address.is_some());
        let lacking = with_address.filter(|place| !has(place.network));
        let networks: Vec<&Network> =
            lacking.filter_map(|place| Some(&**self.view.network(place.network)?)).collect();
        let mut places = Vec::new();
        for network in networks {
            let Ok(place) = self.pools.take(network) else {
                self.pools.give_back(&places);
                return None;
            };
            places.push(place);
        }
        Some(places)
    }

    /// Gives a task to a node that takes it.
    pub(super) fn assign(
        &mut self,
        task: &Arc<Task>,
        node: NodeId,
        ctx: Context<'_>,
    ) -> Option<Change> {
        let places = self.take_places(task, node).unwrap_or_default();
        self.promised.extend(places.into_iter().map(|place| ((node, place.network), place)));
        let load = self.ask(node)?;
        let mut task = Task::clone(task);
        task.generic_resources = load.claim(&task).unwrap_or_default();
        task.node_id = Some(node);
        task.status.state = TaskState::Assigned;
        task.status.message = "scheduler assigned task to node".into();
        task.status.err = String::new();
        task.status.timestamp = ctx.now;
        task.status.applied_at = ctx.now;
        let is_closed = !load.node.takes_tasks();
        let before = load.tasks;
        load.add(&task);
        let after = load.tasks;
        self.order.remove(&(is_closed, before, node));
        self.order.insert((is_closed, after, node));
        if let Some(service) = task.service_id {
            self.placed.entry(service).or_default().push(node);
        }
        Some(task.into())
    }

    /// How many tasks burden a node.
    pub(super) fn burden(&self, node: NodeId) -> usize {
        self.asked.get(&node).map_or_else(|| self.view.burden(node), |load| load.tasks)
    }

    /// The nodes that tasks of a service burden, and how many do.
    pub(super) fn of_service(&self, id: ServiceId) -> BTreeMap<NodeId, usize> {
        let mut counts = BTreeMap::new();
        let known = self.view.tasks_of_service(id).filter_map(|task| task.burdens());
        for node in known.chain(self.placed.get(&id).into_iter().flatten().copied()) {
            if self.view.node(node).is_some() {
                *counts.entry(node).or_default() += 1;
            }
        }
        counts
    }

    /// The nodes on which tasks of a service and spec failed too often of late.
    pub(super) fn failing(&self, task: &Task, now: Timestamp) -> Failing {
        let mut counts = Failing::new();
        let Some(service) = task.service_id else { return counts };
        let alike = self.view.tasks_of_service(service);
        let alike =
            alike.filter(|other| other.is_wanted() && other.spec_version == task.spec_version);
        for end in alike.flat_map(|other| &other.restarts.ends).filter(|end| end.is_recent(now)) {
            if let Some(node) = end.failed_on {
                *counts.entry(node).or_default() += 1;
            }
        }
        counts.retain(|_, count| *count >= FAILURES_MAX);
        counts
    }

    /// The next node in the order of burdens.
    pub(super) fn after(&self, last: Option<Burden>) -> Option<Burden> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        self.order.range((from, Bound::Unbounded)).next().copied()
    }

    /// How many nodes were asked.
    #[cfg(test)]
    pub(super) fn asked(&self) -> usize {
        self.asked.len()
    }

    fn ask(&mut self, id: NodeId) -> Option<&mut Load<'v>> {
        let node = self.view.node(id)?;
        Some(self.asked.entry(id).or_insert_with(|| Load::of(self.view, node)))
    }
}
