//! The fixed order in which planners look at what changed, and what each has to look at.

use std::collections::BTreeSet;

use super::{Context, Planned, allocator, orchestrator, scheduler};
use crate::domain::change::{Changed, Key, Object};
use crate::domain::id::{NodeId, ServiceId};
use crate::domain::node::Node;
use crate::domain::view::View;

/// Rounds until the planners must be content. A service needs a handful; what is left after this
/// many is taken up by the next wake-up.
pub const ROUNDS_MAX: usize = 32;

/// One planner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Makes tasks and says what they should do.
    Orchestrator,
    /// Deletes tasks that are over, and gives up what a lost node holds.
    Reaper,
    /// Gives network resources.
    Allocator,
    /// Gives nodes.
    Scheduler,
}

/// All planners, in their order.
pub const STAGES: [Stage; 4] =
    [Stage::Orchestrator, Stage::Reaper, Stage::Allocator, Stage::Scheduler];

/// What has to be looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dirty {
    services: BTreeSet<ServiceId>,
    nodes: BTreeSet<NodeId>,
    /// Nodes of tasks that changed and have places on networks.
    attached: BTreeSet<NodeId>,
    /// A network changed in more than the address that it gave out last.
    networks: bool,
    all: bool,
}

impl Dirty {
    /// Everything, as when a manager starts.
    pub fn all() -> Dirty {
        Dirty { all: true, ..Dirty::default() }
    }

    /// True when there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        !self.all
            && !self.networks
            && self.services.is_empty()
            && self.nodes.is_empty()
            && self.attached.is_empty()
    }

    /// Adds what a change touches.
    pub fn add(&mut self, changed: &Changed) {
        match (&changed.key, &changed.old, &changed.new) {
            (_, Some(Object::Node(old)), Some(Object::Node(new))) if is_same_place(old, new) => {
                // A network that was removed may be free now.
                self.networks |= old.attachments != new.attachments;
            }
            (Key::Node(id), ..) => {
                self.nodes.insert(*id);
            }
            (Key::Service(id), ..) => {
                self.services.insert(*id);
            }
            (_, Some(Object::Task(task)), _) | (_, _, Some(Object::Task(task))) => {
                self.services.insert(task.service_id);
                let both = [&changed.old, &changed.new].into_iter().flatten();
                self.attached.extend(both.filter_map(attached_node));
            }
            (_, Some(Object::Network(old)), Some(Object::Network(new)))
                if old.is_same_but_for_addresses(new) => {}
            // Every node has a place on the network of the routing mesh.
            (_, Some(Object::Network(network)), _) | (_, _, Some(Object::Network(network))) => {
                self.networks = true;
                self.all |= network.spec.ingress;
            }
            // The history limit may have changed.
            (Key::Cluster(_), ..) => self.all = true,
            _ => {}
        }
    }

    /// Adds an object that asked to be looked at again.
    pub fn add_key(&mut self, key: Key) {
        match key {
            Key::Service(id) => {
                self.services.insert(id);
            }
            Key::Node(id) => {
                self.nodes.insert(id);
            }
            Key::Cluster(_) | Key::Task(_) | Key::Secret(_) | Key::Config(_) | Key::Network(_) => {}
        }
    }

    /// The nodes whose places on networks are to be looked at.
    fn attached(&self, view: &View) -> BTreeSet<NodeId> {
        match self.all {
            true => view.nodes().map(|node| node.id).collect(),
            false => self.nodes.union(&self.attached).copied().collect(),
        }
    }

    /// The services to look at: those that changed, those with tasks on a node that changed, and
    /// those with a task for each node when any did.
    fn services(&self, view: &View) -> BTreeSet<ServiceId> {
        let mut services = self.services.clone();
        if self.all {
            services.extend(view.services().map(|service| service.id));
            services.extend(view.services_with_tasks());
            return services;
        }
        for node in &self.nodes {
            services.extend(view.tasks_of_node(*node).map(|task| task.service_id));
        }
        if !self.nodes.is_empty() {
            let by_node = view.services().filter(|service| service.spec.mode.kind().is_by_node());
            services.extend(by_node.map(|service| service.id));
        }
        services
    }

    /// The nodes to look at.
    fn nodes(&self, view: &View) -> BTreeSet<NodeId> {
        match self.all {
            true => view.nodes().map(|node| node.id).collect(),
            false => self.nodes.clone(),
        }
    }
}

fn attached_node(object: &Object) -> Option<NodeId> {
    match object {
        Object::Task(task) if !task.networks.is_empty() => task.node_id,
        _ => None,
    }
}

/// True when nothing that matters to planning differs between the two.
fn is_same_place(old: &Node, new: &Node) -> bool {
    old.spec == new.spec
        && old.description == new.description
        && old.status.state == new.status.state
        && old.status.addr == new.status.addr
}

/// What one planner would change.
pub fn step(stage: Stage, view: &View, dirty: &Dirty, ctx: Context<'_>) -> Planned {
    let mut planned = Planned::default();
    match stage {
        Stage::Orchestrator => {
            for service in dirty.services(view) {
                let mut one = orchestrator::reconcile(view, service, ctx);
                planned.changes.append(&mut one.changes);
                planned.again.append(&mut one.again);
            }
        }
        Stage::Reaper => {
            for node in dirty.nodes(view) {
                let mut one = orchestrator::orphan(view, node, ctx);
                planned.changes.append(&mut one.changes);
                planned.again.append(&mut one.again);
            }
            for service in dirty.services(view) {
                planned.changes.extend(orchestrator::reap(view, service));
            }
        }
        Stage::Allocator => planned = allocator::plan(view, &dirty.attached(view), ctx),
        Stage::Scheduler => planned.changes = scheduler::plan(view, ctx),
    }
    planned
}
