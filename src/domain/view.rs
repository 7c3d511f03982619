//! The whole cluster in memory, without payloads.
//!
//! A view is immutable once published: cloning one is O(1), since its maps share what they have in
//! common. Besides the objects it keeps the indexes that the API and the planners need, and only a
//! [`Change`] alters any of it, so indexes cannot drift from the objects.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::change::{Change, Changed, Key, Object};
use super::cluster::Cluster;
use super::config::Config;
use super::id::{ConfigId, Id, NodeId, SecretId, ServiceId, TaskId};
use super::meta::{Stamp, Version};
use super::name::NameKey;
use super::node::Node;
use super::refusal::{Reason, Refusal};
use super::secret::Secret;
use super::service::{Service, ServiceSpec};
use super::task::Task;
use super::task_state::TaskState;

/// The cluster at one version.
#[derive(Debug, Clone, Default)]
pub struct View {
    version: Version,
    cluster: Option<Arc<Cluster>>,
    nodes: OrdMap<NodeId, Arc<Node>>,
    services: OrdMap<ServiceId, Arc<Service>>,
    tasks: OrdMap<TaskId, Arc<Task>>,
    secrets: OrdMap<SecretId, Arc<Secret>>,
    configs: OrdMap<ConfigId, Arc<Config>>,
    service_names: OrdMap<NameKey, ServiceId>,
    secret_names: OrdMap<NameKey, SecretId>,
    config_names: OrdMap<NameKey, ConfigId>,
    service_tasks: OrdSet<(ServiceId, TaskId)>,
    node_tasks: OrdSet<(NodeId, TaskId)>,
    secret_services: OrdSet<(SecretId, ServiceId)>,
    config_services: OrdSet<(ConfigId, ServiceId)>,
    /// Wanted tasks that have no confirmed node yet, which allocator and scheduler work on.
    waiting_tasks: OrdSet<TaskId>,
}

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
        self.cluster.as_ref().ok_or_else(Refusal::no_swarm)
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

    /// The tasks of a service, by id; also of one that is gone.
    pub fn tasks_of_service(&self, id: ServiceId) -> impl Iterator<Item = &Arc<Task>> {
        self.service_tasks
            .range((id, TaskId::LOWEST)..)
            .take_while(move |(service, _)| *service == id)
            .filter_map(|(_, task)| self.tasks.get(task))
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

    /// The service a path names: by full id, then by name in its exact case, then by id prefix.
    ///
    /// # Errors
    /// None, or more than one by the prefix.
    pub fn find_service(&self, wanted: &str) -> Result<&Arc<Service>, Refusal> {
        let named = self.service_named(wanted).filter(|service| service.spec.name == wanted);
        find("service", &self.services, wanted, named)
    }

    /// The secret a path names: by full id, then by name ignoring case, then by id prefix.
    ///
    /// # Errors
    /// None, or more than one by the prefix.
    pub fn find_secret(&self, wanted: &str) -> Result<&Arc<Secret>, Refusal> {
        find("secret", &self.secrets, wanted, self.secret_named(wanted))
    }

    /// The config a path names: by full id, then by name ignoring case, then by id prefix.
    ///
    /// # Errors
    /// None, or more than one by the prefix.
    pub fn find_config(&self, wanted: &str) -> Result<&Arc<Config>, Refusal> {
        find("config", &self.configs, wanted, self.config_named(wanted))
    }

    /// The node a path names: by full id, then by host name, then by id prefix.
    ///
    /// # Errors
    /// None, or more than one by host name or prefix.
    pub fn find_node(&self, wanted: &str) -> Result<&Arc<Node>, Refusal> {
        let mut named =
            self.nodes.values().filter(|node| !wanted.is_empty() && node.hostname() == wanted);
        let first = named.next();
        let more = named.count();
        if more > 0 && wanted.parse::<NodeId>().ok().and_then(|id| self.node(id)).is_none() {
            return Err(ambiguous("node", wanted, more + 1));
        }
        find("node", &self.nodes, wanted, first)
    }

    /// The task a path names: by full id, then by full task name, then by id prefix.
    ///
    /// # Errors
    /// None, or more than one by the prefix.
    pub fn find_task(&self, wanted: &str) -> Result<&Arc<Task>, Refusal> {
        let named = wanted
            .rsplit_once('.')
            .and_then(|(_, id)| self.task(id.parse().ok()?))
            .filter(|task| task.name() == wanted);
        find("task", &self.tasks, wanted, named)
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
                Change::PutPayload(..) => continue,
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
    }

    fn replace(&mut self, old: Option<&Object>, new: Option<&Object>) {
        if let Some(old) = old {
            self.take_out(old);
        }
        if let Some(new) = new {
            self.put_in(new);
        }
    }

    fn take_out(&mut self, object: &Object) {
        match object {
            Object::Cluster(_) => self.cluster = None,
            Object::Node(node) => {
                self.nodes.remove(&node.id);
            }
            Object::Service(service) => {
                self.services.remove(&service.id);
                self.service_names.remove(NameKey::fold(&service.spec.name).as_str());
                for secret in secrets_of(&service.spec) {
                    self.secret_services.remove(&(secret, service.id));
                }
                for config in configs_of(&service.spec) {
                    self.config_services.remove(&(config, service.id));
                }
            }
            Object::Task(task) => {
                self.tasks.remove(&task.id);
                self.service_tasks.remove(&(task.service_id, task.id));
                self.waiting_tasks.remove(&task.id);
                if let Some(node) = task.node_id {
                    self.node_tasks.remove(&(node, task.id));
                }
            }
            Object::Secret(secret) => {
                self.secrets.remove(&secret.id);
                self.secret_names.remove(NameKey::fold(&secret.spec.name).as_str());
            }
            Object::Config(config) => {
                self.configs.remove(&config.id);
                self.config_names.remove(NameKey::fold(&config.spec.name).as_str());
            }
        }
    }

    fn put_in(&mut self, object: &Object) {
        match object {
            Object::Cluster(cluster) => self.cluster = Some(cluster.clone()),
            Object::Node(node) => {
                self.nodes.insert(node.id, node.clone());
            }
            Object::Service(service) => {
                self.service_names.insert(NameKey::new(&service.spec.name), service.id);
                for secret in secrets_of(&service.spec) {
                    self.secret_services.insert((secret, service.id));
                }
                for config in configs_of(&service.spec) {
                    self.config_services.insert((config, service.id));
                }
                self.services.insert(service.id, service.clone());
            }
            Object::Task(task) => {
                self.service_tasks.insert((task.service_id, task.id));
                if task.is_wanted() && task.status.state < TaskState::Assigned {
                    self.waiting_tasks.insert(task.id);
                }
                if let Some(node) = task.node_id {
                    self.node_tasks.insert((node, task.id));
                }
                self.tasks.insert(task.id, task.clone());
            }
            Object::Secret(secret) => {
                self.secret_names.insert(NameKey::new(&secret.spec.name), secret.id);
                self.secrets.insert(secret.id, secret.clone());
            }
            Object::Config(config) => {
                self.config_names.insert(NameKey::new(&config.spec.name), config.id);
                self.configs.insert(config.id, config.clone());
            }
        }
    }
}

fn secrets_of(spec: &ServiceSpec) -> impl Iterator<Item = SecretId> + '_ {
    let references = spec.container().map_or(&[][..], |container| &container.secrets);
    references.iter().filter_map(|reference| reference.secret_id.parse().ok())
}

fn configs_of(spec: &ServiceSpec) -> impl Iterator<Item = ConfigId> + '_ {
    let references = spec.container().map_or(&[][..], |container| &container.configs);
    references.iter().filter_map(|reference| reference.config_id.parse().ok())
}

fn find<'v, K, T>(
    word: &str,
    objects: &'v OrdMap<Id<K>, Arc<T>>,
    wanted: &str,
    named: Option<&'v Arc<T>>,
) -> Result<&'v Arc<T>, Refusal> {
    if let Some(object) = wanted.parse::<Id<K>>().ok().and_then(|id| objects.get(&id)) {
        return Ok(object);
    }
    if let Some(object) = named {
        return Ok(object);
    }
    let Some(lowest) = Id::lowest_with(wanted) else {
        return Err(Refusal::not_found(word, wanted));
    };
    let mut matches = objects.range(lowest..).take_while(|(id, _)| id.as_str().starts_with(wanted));
    match (matches.next(), matches.count()) {
        (None, _) => Err(Refusal::not_found(word, wanted)),
        (Some((_, object)), 0) => Ok(object),
        (Some(_), more) => Err(ambiguous(word, wanted, more + 1)),
    }
}

fn ambiguous(word: &str, wanted: &str, count: usize) -> Refusal {
    Refusal::front(Reason::Invalid, format!("{word} {wanted} is ambiguous ({count} matches found)"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::secret::{Fingerprint, SecretSpec};
    use crate::domain::time::Timestamp;

    fn secret(id: &str, name: &str) -> Secret {
        Secret {
            id: id.parse().expect("a test id"),
            meta: Default::default(),
            spec: SecretSpec { name: name.into(), ..Default::default() },
            fingerprint: Fingerprint([0; 32]),
            shown: Default::default(),
        }
    }

    fn view(changes: &[Change]) -> View {
        let mut view = View::default();
        let version = Version { index: 7 };
        view.apply(changes, Stamp { version, now: Timestamp::ZERO });
        view
    }

    const FIRST: &str = "aaaaaaaaaaaaaaaaaaaaaaaaa";
    const SECOND: &str = "aaaaaaaaaaaaaaaaaaaaaaaab";

    #[test]
    fn a_path_is_an_id_then_a_name_then_a_prefix() {
        let view = view(&[secret(FIRST, "One").into(), secret(SECOND, "aaaa").into()]);
        let found = |wanted: &str| view.find_secret(wanted).map(|secret| secret.id.to_string());
        assert_eq!(found(FIRST), Ok(FIRST.into()));
        assert_eq!(found("oNE"), Ok(FIRST.into()));
        assert_eq!(found("aaaa"), Ok(SECOND.into()), "a name wins over a prefix");
        assert_eq!(found(&FIRST[..25]), Ok(FIRST.into()));
        let message = |wanted: &str| view.find_secret(wanted).map_err(|refusal| refusal.message);
        assert_eq!(message("a"), Err("secret a is ambiguous (2 matches found)".into()));
        assert_eq!(message("b"), Err("secret b not found".into()));
        assert_eq!(message("A"), Err("secret A not found".into()), "ids have one case");
    }

    #[test]
    fn removing_an_object_leaves_no_index_behind() {
        let mut view = view(&[secret(FIRST, "One").into()]);
        let key = Key::Secret(FIRST.parse().expect("a test id"));
        let stamp = Stamp { version: Version { index: 8 }, now: Timestamp::ZERO };
        let changed = view.apply(&[Change::Remove(key)], stamp);
        assert!(changed[0].old.is_some() && changed[0].new.is_none());
        assert!(view.secret_named("one").is_none());
        assert_eq!(view.objects().count(), 0);
    }
}
