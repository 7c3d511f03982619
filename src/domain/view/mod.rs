//! The whole cluster in memory, without payloads.
//!
//! A view is immutable once published: cloning one is O(1), since its maps share what they have in
//! common. Besides the objects it keeps the indexes that the API and the planners need, and only a
//! [`Change`] alters any of it, so indexes cannot drift from the objects.

mod find;
mod index;

pub use index::addresses;

use std::net::Ipv4Addr;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use crate::domain::change::{Change, Changed, Key, Object};
use crate::domain::cluster::Cluster;
use crate::domain::config::Config;
use crate::domain::endpoint::Protocol;
use crate::domain::id::{ConfigId, NetworkId, NodeId, RevisionId, SecretId, ServiceId, TaskId};
use crate::domain::meta::{Stamp, Version};
use crate::domain::name::NameKey;
use crate::domain::network::Network;
use crate::domain::node::Node;
use crate::domain::refusal::Refusal;
use crate::domain::revision::{Owner, Revision};
use crate::domain::secret::Secret;
use crate::domain::service::Service;
use crate::domain::task::Task;
use crate::domain::task_state::TaskState;

/// The cluster at one version.
#[derive(Debug, Clone, Default)]
pub struct View(Arc<Tables>);

/// What a view holds; only the view itself can tell of it. A clone of a view shares it until either of
/// the two is altered.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    version: Version,
    /// The cluster is there, and nobody has unlocked it.
    is_locked: bool,
    cluster: Option<Arc<Cluster>>,
    nodes: OrdMap<NodeId, Arc<Node>>,
    services: OrdMap<ServiceId, Arc<Service>>,
    tasks: OrdMap<TaskId, Arc<Task>>,
    secrets: OrdMap<SecretId, Arc<Secret>>,
    configs: OrdMap<ConfigId, Arc<Config>>,
    networks: OrdMap<NetworkId, Arc<Network>>,
    revisions: OrdMap<RevisionId, Arc<Revision>>,
    service_names: OrdMap<NameKey, ServiceId>,
    secret_names: OrdMap<NameKey, SecretId>,
    config_names: OrdMap<NameKey, ConfigId>,
    /// Without those that are removed.
    network_names: OrdMap<NameKey, NetworkId>,
    /// Without attachments, which are of no service.
    service_tasks: OrdSet<(ServiceId, TaskId)>,
    node_tasks: OrdSet<(NodeId, TaskId)>,
    secret_services: OrdSet<(SecretId, ServiceId)>,
    config_services: OrdSet<(ConfigId, ServiceId)>,
    /// Tasks that have not ended, by what they are granted.
    holders: OrdSet<(Key, TaskId)>,
    /// Services, by what the spec before grants them.
    returners: OrdSet<(Key, ServiceId)>,
    /// Wanted tasks that have no confirmed node yet, which allocator and scheduler work on.
    waiting_tasks: OrdSet<TaskId>,
    network_services: OrdSet<(NetworkId, ServiceId)>,
    /// Tasks that have a node, by the overlay networks that it has for them, until they are deleted.
    network_tasks: OrdSet<(NetworkId, NodeId, TaskId)>,
    /// The network of the routing mesh.
    ingress: Option<NetworkId>,
    /// Networks whose users removed them.
    removed_networks: OrdSet<NetworkId>,
    /// Every address that is given out, and how many hold it: the virtual address of a service is
    /// held by its tasks as well, whose nodes send to it until they end.
    addresses: OrdMap<(NetworkId, Ipv4Addr), u32>,
    /// Every port that a service wishes for or has, in whichever mode.
    ports: OrdSet<(Protocol, u32, ServiceId)>,
    /// Tasks whose nodes lack an address.
    starved_tasks: OrdSet<(NodeId, TaskId)>,
    /// Services whose endpoint is not what their spec asks for.
    waiting_services: OrdSet<ServiceId>,
    /// How many tasks burden a node; those without any are left out.
    burdens: OrdMap<NodeId, usize>,
    /// The nodes, those that take tasks first, by how many tasks burden them.
    nodes_by_burden: OrdSet<Burden>,
}

impl Deref for View {
    type Target = Tables;

    fn deref(&self) -> &Tables {
        &self.0
    }
}

impl DerefMut for View {
    fn deref_mut(&mut self) -> &mut Tables {
        Arc::make_mut(&mut self.0)
    }
}

/// Whether a node takes no tasks, how many tasks burden it, and which it is.
pub type Burden = (bool, usize, NodeId);

impl View {
    /// The last write in it.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The cluster; absent outside a swarm.
    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.cluster.as_ref()
    }

    /// The cluster, or the refusal of a node that is in none.
    ///
    /// # Errors
    /// There is no cluster.
    pub fn require_cluster(&self) -> Result<&Arc<Cluster>, Refusal> {
        self.cluster.as_ref().ok_or_else(|| match self.is_locked {
            true => Refusal::locked(),
            false => Refusal::no_swarm(),
        })
    }

    /// What can be seen of a cluster that is locked: nothing.
    pub fn locked() -> View {
        View(Arc::new(Tables { is_locked: true, ..Tables::default() }))
    }

    /// True for [`View::locked`].
    pub fn is_locked(&self) -> bool {
        self.is_locked
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.nodes.get(&id)
    }

    /// A service.
    pub fn service(&self, id: ServiceId) -> Option<&Arc<Service>> {
        self.services.get(&id)
    }

    /// A task.
    pub fn task(&self, id: TaskId) -> Option<&Arc<Task>> {
        self.tasks.get(&id)
    }

    /// A secret.
    pub fn secret(&self, id: SecretId) -> Option<&Arc<Secret>> {
        self.secrets.get(&id)
    }

    /// A config.
    pub fn config(&self, id: ConfigId) -> Option<&Arc<Config>> {
        self.configs.get(&id)
    }

    /// A network, also one that is removed and has addresses given out still.
    pub fn network(&self, id: NetworkId) -> Option<&Arc<Network>> {
        self.networks.get(&id)
    }

    /// The network of the routing mesh.
    pub fn ingress(&self) -> Option<&Arc<Network>> {
        self.networks.get(&self.ingress?)
    }

    /// All nodes, by id.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    /// All services, by id.
    pub fn services(&self) -> impl ExactSizeIterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// All tasks, by id.
    pub fn tasks(&self) -> impl ExactSizeIterator<Item = &Arc<Task>> {
        self.tasks.values()
    }

    /// All secrets, by id.
    pub fn secrets(&self) -> impl ExactSizeIterator<Item = &Arc<Secret>> {
        self.secrets.values()
    }

    /// All configs, by id.
    pub fn configs(&self) -> impl ExactSizeIterator<Item = &Arc<Config>> {
        self.configs.values()
    }

    /// All networks, by id; those that stand for networks of every engine, and those that are
    /// removed, among them.
    pub fn networks(&self) -> impl ExactSizeIterator<Item = &Arc<Network>> {
        self.networks.values()
    }

    /// The service of this name, ignoring case.
    pub fn service_named(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.get(self.service_names.get(NameKey::fold(name).as_str())?)
    }

    /// The secret of this name, ignoring case.
    pub fn secret_named(&self, name: &str) -> Option<&Arc<Secret>> {
        self.secrets.get(self.secret_names.get(NameKey::fold(name).as_str())?)
    }

    /// The config of this name, ignoring case.
    pub fn config_named(&self, name: &str) -> Option<&Arc<Config>> {
        self.configs.get(self.config_names.get(NameKey::fold(name).as_str())?)
    }

    /// The network of this name, ignoring case; also one that stands for a network of every engine.
    pub fn network_named(&self, name: &str) -> Option<&Arc<Network>> {
        self.networks.get(self.network_names.get(NameKey::fold(name).as_str())?)
    }

    /// The tasks of a service, by id; also of one that is gone.
    pub fn tasks_of_service(&self, id: ServiceId) -> impl Iterator<Item = &Arc<Task>> {
        self.service_tasks
            .range((id, TaskId::LOWEST)..)
            .take_while(move |(service, _)| *service == id)
            .filter_map(|(_, task)| self.tasks.get(task))
    }

    /// The attachments on a node: its tasks that are of no service.
    pub fn attachments_of_node(&self, id: NodeId) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks_of_node(id).filter(|task| task.service_id.is_none())
    }

    /// The tasks on a node, by id; also on one that is gone.
    pub fn tasks_of_node(&self, id: NodeId) -> impl Iterator<Item = &Arc<Task>> {
        self.node_tasks
            .range((id, TaskId::LOWEST)..)
            .take_while(move |(node, _)| *node == id)
            .filter_map(|(_, task)| self.tasks.get(task))
    }

    /// The wanted tasks that are not assigned yet, by id.
    pub fn waiting_tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.waiting_tasks.iter().filter_map(|id| self.tasks.get(id))
    }

    /// How many tasks have a place on a node and are meant to run.
    pub fn burden(&self, node: NodeId) -> usize {
        self.burdens.get(&node).copied().unwrap_or(0)
    }

    /// The nodes in the order in which they are to be asked for a place: those that take tasks
    /// first, then by how many tasks burden them. A copy of its own, in O(1).
    pub fn nodes_by_burden(&self) -> OrdSet<Burden> {
        self.nodes_by_burden.clone()
    }

    /// Ids of the services that have tasks, those of services that are gone among them.
    pub fn services_with_tasks(&self) -> std::collections::BTreeSet<ServiceId> {
        self.service_tasks.iter().map(|(service, _)| *service).collect()
    }

    /// The services whose current spec references a secret.
    pub fn services_of_secret(&self, id: SecretId) -> impl Iterator<Item = &Arc<Service>> {
        self.secret_services
            .range((id, ServiceId::LOWEST)..)
            .take_while(move |(secret, _)| *secret == id)
            .filter_map(|(_, service)| self.services.get(service))
    }

    /// The services whose current spec references a config.
    pub fn services_of_config(&self, id: ConfigId) -> impl Iterator<Item = &Arc<Service>> {
        self.config_services
            .range((id, ServiceId::LOWEST)..)
            .take_while(move |(config, _)| *config == id)
            .filter_map(|(_, service)| self.services.get(service))
    }

    /// The services whose current spec references a secret or config.
    pub fn services_of(&self, owner: Owner) -> Box<dyn Iterator<Item = &Arc<Service>> + '_> {
        match owner {
            Owner::Secret(id) => Box::new(self.services_of_secret(id)),
            Owner::Config(id) => Box::new(self.services_of_config(id)),
        }
    }

    /// The services whose spec before references a secret or config.
    pub fn returners_to(&self, owner: Owner) -> impl Iterator<Item = &Arc<Service>> {
        let key = owner.key();
        self.returners
            .range((key, ServiceId::LOWEST)..)
            .take_while(move |(known, _)| *known == key)
            .filter_map(|(_, service)| self.services.get(service))
    }

    /// The tasks that have not ended and are granted a secret or config.
    pub fn holders_of(&self, owner: Owner) -> impl Iterator<Item = &Arc<Task>> {
        let key = owner.key();
        self.holders
            .range((key, TaskId::LOWEST)..)
            .take_while(move |(known, _)| *known == key)
            .filter_map(|(_, task)| self.tasks.get(task))
    }

    /// The services whose current spec is attached to a network.
    pub fn services_of_network(&self, id: NetworkId) -> impl Iterator<Item = &Arc<Service>> {
        self.network_services
            .range((id, ServiceId::LOWEST)..)
            .take_while(move |(network, _)| *network == id)
            .filter_map(|(_, service)| self.services.get(service))
    }

    /// The services that wish for a published port or have it, in whichever mode.
    pub fn services_of_port(
        &self,
        protocol: Protocol,
        port: u32,
    ) -> impl Iterator<Item = &Arc<Service>> {
        self.ports
            .range((protocol, port, ServiceId::LOWEST)..)
            .take_while(move |(known, number, _)| (*known, *number) == (protocol, port))
            .filter_map(|(.., service)| self.services.get(service))
    }

    /// The services whose endpoint is not what their spec asks for.
    pub fn waiting_services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.waiting_services.iter().filter_map(|id| self.services.get(id))
    }

    /// The networks that are removed and have not been let go yet.
    pub fn removed_networks(&self) -> impl Iterator<Item = &Arc<Network>> {
        self.removed_networks.iter().filter_map(|id| self.networks.get(id))
    }

    /// Every address that is given out, by network, and how many hold it. Cloning it is O(1).
    pub fn addresses(&self) -> &OrdMap<(NetworkId, Ipv4Addr), u32> {
        &self.addresses
    }

    /// True for a task that may not be handed to its node yet: it is to run there, and the node has
    /// no address on one of its networks.
    pub fn is_held_back(&self, task: &Task) -> bool {
        let mut with_address = task.networks.iter().filter(|place| place.address.is_some());
        if task.status.state != TaskState::Assigned || !task.is_wanted() {
            return false;
        }
        let node = task.node_id.and_then(|id| self.node(id));
        let own = node.map_or(&[][..], |node| &node.attachments);
        !with_address.all(|place| own.iter().any(|own| own.network == place.network))
            || self.network_in_the_way(task).is_some()
    }

    /// The network that a task has to wait for: one that was removed and is on the task's node still,
    /// under the name of one that the task needs. An engine has one network of a name, and does not
    /// notice that it has another one than it was told.
    pub fn network_in_the_way(&self, task: &Task) -> Option<&Arc<Network>> {
        let node = task.node_id?;
        self.removed_networks().find(|removed| {
            let is_namesake = |id: NetworkId| {
                let network = self.network(id).filter(|network| network.id != removed.id);
                network.is_some_and(|network| network.spec.name == removed.spec.name)
            };
            let with_address = task.networks.iter().filter(|place| place.address.is_some());
            with_address.map(|place| place.network).any(is_namesake)
                && self.tasks_of_network(removed.id).any(|other| other.node_id == Some(node))
        })
    }

    /// The tasks that have a node and are on an overlay network, those that have ended among them.
    pub fn tasks_of_network(&self, id: NetworkId) -> impl Iterator<Item = &Arc<Task>> {
        self.network_tasks
            .range((id, NodeId::LOWEST, TaskId::LOWEST)..)
            .take_while(move |(network, ..)| *network == id)
            .filter_map(|(.., task)| self.tasks.get(task))
    }

    /// Nodes that lack an address: those whose tasks say so, and those that have none on the network
    /// of the routing mesh. In time proportional to the nodes.
    pub fn starved_nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        let in_mesh =
            |node: &Node| node.attachments.iter().any(|place| Some(place.network) == self.ingress);
        let outside =
            self.nodes.values().filter(move |node| self.ingress.is_some() && !in_mesh(node));
        self.starved_tasks.iter().map(|(node, _)| *node).chain(outside.map(|node| node.id))
    }

    /// True when an address on a network is given out.
    pub fn has_addresses(&self, id: NetworkId) -> bool {
        let first = self.addresses.range((id, Ipv4Addr::UNSPECIFIED)..).next();
        first.is_some_and(|((network, _), _)| *network == id)
    }

    /// Applies the changes of one write and tells what became of each object.
    pub fn apply(&mut self, changes: &[Change], stamp: Stamp) -> Vec<Changed> {
        self.version = stamp.version;
        let mut changed = Vec::with_capacity(changes.len());
        for change in changes {
            let (key, old, new) = match change {
                Change::Put(object) => {
                    let key = object.key();
                    let old = self.object(key);
                    let mut new = object.clone();
                    new.stamp(old.as_ref().map(Object::meta), stamp);
                    (key, old, Some(new))
                }
                Change::Remove(key) => (*key, self.object(*key), None),
                Change::PutPayload(..) | Change::DropPayload(_) => continue,
            };
            self.replace(old.as_ref(), new.as_ref());
            changed.push(Changed { key, version: stamp.version, at: stamp.now, old, new });
        }
        changed
    }

    /// Puts an object that was loaded from the store, as it is.
    pub fn load(&mut self, object: &Object) {
        self.replace(None, Some(object));
    }

    /// Sets the version that was loaded from the store.
    pub fn load_version(&mut self, version: Version) {
        self.version = version;
    }

    /// The object of this key.
    pub fn object(&self, key: Key) -> Option<Object> {
        Some(match key {
            Key::Cluster(id) => {
                Object::Cluster(self.cluster.clone().filter(|cluster| cluster.id == id)?)
            }
            Key::Node(id) => Object::Node(self.nodes.get(&id)?.clone()),
            Key::Service(id) => Object::Service(self.services.get(&id)?.clone()),
            Key::Task(id) => Object::Task(self.tasks.get(&id)?.clone()),
            Key::Secret(id) => Object::Secret(self.secrets.get(&id)?.clone()),
            Key::Config(id) => Object::Config(self.configs.get(&id)?.clone()),
            Key::Network(id) => Object::Network(self.networks.get(&id)?.clone()),
            Key::Revision(id) => Object::Revision(self.revisions.get(&id)?.clone()),
        })
    }

    /// Every object, in the order of kinds and ids.
    pub fn objects(&self) -> impl Iterator<Item = Object> + '_ {
        let cluster = self.cluster.iter().cloned().map(Object::Cluster);
        cluster
            .chain(self.nodes.values().cloned().map(Object::Node))
            .chain(self.services.values().cloned().map(Object::Service))
            .chain(self.tasks.values().cloned().map(Object::Task))
            .chain(self.secrets.values().cloned().map(Object::Secret))
            .chain(self.configs.values().cloned().map(Object::Config))
            .chain(self.networks.values().cloned().map(Object::Network))
            .chain(self.revisions.values().cloned().map(Object::Revision))
    }
}
