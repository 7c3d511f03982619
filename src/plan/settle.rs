//! The fixed order in which planners look at what changed, and what each has to look at.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Context, Planned, allocator, orchestrator, scheduler};
use crate::domain::change::{Change, Changed, Key, Object};
use crate::domain::id::{NodeId, ServiceId, TaskId};
use crate::domain::network::Attachment;
use crate::domain::node::Node;
use crate::domain::task::Task;
use crate::domain::view::{View, addresses};

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
    /// Attachments, which no service stands for.
    attachments: BTreeSet<TaskId>,
    /// Nodes that got or lost a task with places on networks.
    attached: BTreeSet<NodeId>,
    /// An address became free, which a node may lack.
    addresses: bool,
    /// A network changed in more than the address that it gave out last.
    networks: bool,
    /// A place became free that any waiting task may take.
    freed: bool,
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
            && !self.addresses
            && self.services.is_empty()
            && self.attachments.is_empty()
            && self.nodes.is_empty()
            && self.attached.is_empty()
    }

    /// Adds what a change touches.
    pub fn add(&mut self, changed: &Changed) {
        let [mut before, after] = [&changed.old, &changed.new].map(addresses_of);
        self.addresses |= before.any(|place| after.clone().all(|other| other != place));
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
            (_, Some(Object::Task(old)), new) => {
                self.add_task(old);
                self.freed |= frees_place(old, new.as_ref());
                let [before, after] = [&changed.old, new].map(attached_node);
                if before != after {
                    self.attached.extend(before.into_iter().chain(after));
                }
            }
            (_, None, Some(Object::Task(task))) => {
                self.add_task(task);
                self.attached.extend(attached_node(&changed.new));
            }
            (_, Some(Object::Network(old)), Some(Object::Network(new)))
                if old.is_same_but_for_addresses(new) => {}
            // Every node has a place on the network of the routing mesh.
            (_, Some(Object::Network(network)), _) | (_, _, Some(Object::Network(network))) => {
                self.networks = true;
                self.all |= network.spec.ingress;
            }
            // Keys and who is barred are nothing to the planners; the history limit is.
            (_, Some(Object::Cluster(old)), Some(Object::Cluster(new))) if old.spec == new.spec => {
            }
            (Key::Cluster(_), ..) => self.all = true,
            _ => {}
        }
    }

    fn add_task(&mut self, task: &Task) {
        match task.service_id {
            Some(service) => self.services.insert(service),
            None => self.attachments.insert(task.id),
        };
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
            Key::Cluster(_)
            | Key::Task(_)
            | Key::Secret(_)
            | Key::Config(_)
            | Key::Network(_)
            | Key::Revision(_) => {}
        }
    }

    /// The nodes whose places on networks are to be looked at.
    fn attached(&self, view: &View) -> BTreeSet<NodeId> {
        match self.all {
            true => view.nodes().map(|node| node.id).collect(),
            false => {
                let starved = view.starved_nodes().filter(|_| self.addresses);
                self.nodes.union(&self.attached).copied().chain(starved).collect()
            }
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
            services.extend(view.tasks_of_node(*node).filter_map(|task| task.service_id));
        }
        if !self.nodes.is_empty() {
            let by_node = view.services().filter(|service| service.spec.mode.kind().is_by_node());
            services.extend(by_node.map(|service| service.id));
        }
        services
    }

    /// The waiting tasks to look at: those of the services that changed, and all others only when
    /// there may be a place for them that there was not before.
    fn waiting<'v>(&self, view: &'v View) -> Vec<&'v Arc<Task>> {
        if self.all || self.freed || self.addresses || !self.nodes.is_empty() {
            return view.waiting_tasks().collect();
        }
        let tasks = self.services.iter().flat_map(|id| view.tasks_of_service(*id));
        tasks.filter(|task| task.is_waiting()).collect()
    }

    /// The attachments to look at.
    fn attachments<'v>(&self, view: &'v View) -> Vec<&'v Arc<Task>> {
        match self.all {
            true => view.tasks().filter(|task| task.service_id.is_none()).collect(),
            false => self.attachments.iter().filter_map(|id| view.task(*id)).collect(),
        }
    }

    /// The nodes to look at.
    fn nodes(&self, view: &View) -> BTreeSet<NodeId> {
        match self.all {
            true => view.nodes().map(|node| node.id).collect(),
            false => self.nodes.clone(),
        }
    }
}

fn addresses_of(object: &Option<Object>) -> impl Iterator<Item = &Attachment> + Clone {
    object.iter().flat_map(addresses)
}

/// The node that a task with places on networks is on, from its assignment to its end.
fn attached_node(object: &Option<Object>) -> Option<NodeId> {
    match object {
        Some(Object::Task(task)) if !task.networks.is_empty() => {
            task.node_id.filter(|_| task.holds_place())
        }
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

/// True when a task gave up its place, or does not count on its node any more.
fn frees_place(old: &Task, new: Option<&Object>) -> bool {
    let Some(Object::Task(new)) = new else { return old.holds_place() };
    old.holds_place() && !new.holds_place() || old.burdens().is_some() && new.burdens().is_none()
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
            let spent = dirty.attachments(view).into_iter().filter(|task| task.is_spent());
            planned.changes.extend(spent.map(|task| Change::Remove(Key::Task(task.id))));
        }
        Stage::Allocator => planned = allocator::plan(view, &dirty.attached(view)),
        Stage::Scheduler => {
            planned.changes = scheduler::plan(view, dirty.waiting(view), ctx);
        }
    }
    planned
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::meta::Version;
    use crate::domain::task::TaskStatus;
    use crate::domain::task_state::TaskState;
    use crate::domain::time::Timestamp;

    fn task(service: u8, state: TaskState, desired_state: TaskState) -> Task {
        let node_id = (state >= TaskState::Assigned).then(|| NodeId::derive([9; 17]));
        Task {
            revisions: Default::default(),
            id: TaskId::derive([service; 17]),
            meta: Default::default(),
            spec: Default::default(),
            service_id: Some(ServiceId::derive([service; 17])),
            service_name: String::new(),
            service_labels: Default::default(),
            spec_version: Version::default(),
            slot: 1,
            node_id,
            status: TaskStatus { state, ..TaskStatus::made(Timestamp::ZERO) },
            ran_at: None,
            desired_state,
            endpoint_spec: None,
            endpoint: None,
            networks: Vec::new(),
            job_iteration: None,
            generic_resources: Vec::new(),
            registry_auth: Default::default(),
            not_before: Timestamp::ZERO,
            restarts: Default::default(),
        }
    }

    /// How many of three waiting tasks are looked at when a task of a fourth service changes.
    fn looked_at(old: Task, new: Option<Task>) -> usize {
        let mut view = View::default();
        for service in 1..=3 {
            view.load(&task(service, TaskState::Pending, TaskState::Running).into());
        }
        let (key, version, at) = (Key::Task(old.id), Version::default(), Timestamp::ZERO);
        let (old, new) = (Some(old.into()), new.map(Object::from));
        let mut dirty = Dirty::default();
        dirty.add(&Changed { key, version, at, old, new });
        assert_eq!(dirty.services(&view).len(), 1, "no other service is");
        dirty.waiting(&view).len()
    }

    #[test]
    fn who_waits_is_looked_at_when_a_place_becomes_free() {
        use TaskState::{Failed, Pending, Running, Shutdown, Starting};
        let placed = |state, desired| task(4, state, desired);
        assert_eq!(looked_at(placed(Starting, Running), Some(placed(Running, Running))), 0);
        assert_eq!(looked_at(placed(Pending, Running), Some(placed(Running, Running))), 0);
        assert_eq!(looked_at(placed(Failed, Running), Some(placed(Failed, Shutdown))), 0);
        assert_eq!(looked_at(placed(Running, Running), Some(placed(Failed, Running))), 3);
        assert_eq!(looked_at(placed(Running, Running), Some(placed(Running, Shutdown))), 3);
        assert_eq!(looked_at(placed(Running, Shutdown), Some(placed(Shutdown, Shutdown))), 3);
        assert_eq!(looked_at(placed(Running, Shutdown), None), 3);
        assert_eq!(looked_at(placed(Shutdown, Shutdown), None), 0);
        let own = task(1, Pending, Running);
        assert_eq!(looked_at(own.clone(), Some(own)), 1, "its own service");
    }
}
