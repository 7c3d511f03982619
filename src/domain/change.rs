//! What a plan answers: changes to the cluster, and how each came out.

use std::sync::Arc;

use super::cluster::Cluster;
use super::config::Config;
use super::id::{ClusterId, ConfigId, NetworkId, NodeId, RevisionId, SecretId, ServiceId, TaskId};
use super::meta::{Meta, Stamp, Version};
use super::network::Network;
use super::node::Node;
use super::revision::Revision;
use super::secret::Secret;
use super::service::Service;
use super::task::Task;

/// The kinds of stored objects. The numbers stand in the database file and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The cluster.
    Cluster = 1,
    /// A node.
    Node = 2,
    /// A service.
    Service = 3,
    /// A task.
    Task = 4,
    /// A secret.
    Secret = 5,
    /// A config.
    Config = 6,
    /// A network.
    Network = 7,
    /// A revision of a secret or config.
    Revision = 8,
}

impl Kind {
    /// The kind with this number.
    pub fn from_number(number: i64) -> Option<Kind> {
        use Kind::{Cluster, Config, Network, Node, Revision, Secret, Service, Task};
        [Cluster, Node, Service, Task, Secret, Config, Network, Revision]
            .into_iter()
            .find(|kind| *kind as i64 == number)
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Cluster => "cluster",
            Kind::Node => "node",
            Kind::Service => "service",
            Kind::Task => "task",
            Kind::Secret => "secret",
            Kind::Config => "config",
            Kind::Network => "network",
            Kind::Revision => "revision",
        }
    }
}

/// Names one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The cluster.
    Cluster(ClusterId),
    /// A node.
    Node(NodeId),
    /// A service.
    Service(ServiceId),
    /// A task.
    Task(TaskId),
    /// A secret.
    Secret(SecretId),
    /// A config.
    Config(ConfigId),
    /// A network.
    Network(NetworkId),
    /// A revision of a secret or config.
    Revision(RevisionId),
}

impl Key {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Key::Cluster(_) => Kind::Cluster,
            Key::Node(_) => Kind::Node,
            Key::Service(_) => Kind::Service,
            Key::Task(_) => Kind::Task,
            Key::Secret(_) => Kind::Secret,
            Key::Config(_) => Kind::Config,
            Key::Network(_) => Kind::Network,
            Key::Revision(_) => Kind::Revision,
        }
    }

    /// Its id as text.
    pub fn id(&self) -> &str {
        match self {
            Key::Cluster(id) => id.as_str(),
            Key::Node(id) => id.as_str(),
            Key::Service(id) => id.as_str(),
            Key::Task(id) => id.as_str(),
            Key::Secret(id) => id.as_str(),
            Key::Config(id) => id.as_str(),
            Key::Network(id) => id.as_str(),
            Key::Revision(id) => id.as_str(),
        }
    }
}

/// One object of any kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// The cluster.
    Cluster(Arc<Cluster>),
    /// A node.
    Node(Arc<Node>),
    /// A service.
    Service(Arc<Service>),
    /// A task.
    Task(Arc<Task>),
    /// A secret, without its payload.
    Secret(Arc<Secret>),
    /// A config, without its data.
    Config(Arc<Config>),
    /// A network.
    Network(Arc<Network>),
    /// A revision of a secret or config, without its payload.
    Revision(Arc<Revision>),
}

macro_rules! object_from {
    ($($kind:ident),*) => {$(
        impl From<$kind> for Object {
            fn from(object: $kind) -> Object {
                Object::$kind(Arc::new(object))
            }
        }
        impl From<$kind> for Change {
            fn from(object: $kind) -> Change {
                Change::Put(object.into())
            }
        }
    )*};
}
object_from!(Cluster, Node, Service, Task, Secret, Config, Network, Revision);

impl Object {
    /// Its key.
    pub fn key(&self) -> Key {
        match self {
            Object::Cluster(object) => Key::Cluster(object.id),
            Object::Node(object) => Key::Node(object.id),
            Object::Service(object) => Key::Service(object.id),
            Object::Task(object) => Key::Task(object.id),
            Object::Secret(object) => Key::Secret(object.id),
            Object::Config(object) => Key::Config(object.id),
            Object::Network(object) => Key::Network(object.id),
            Object::Revision(object) => Key::Revision(object.id),
        }
    }

    /// The name that users know it by; tasks, revisions and the cluster have none.
    pub fn name(&self) -> &str {
        match self {
            Object::Secret(secret) => &secret.spec.name,
            Object::Config(config) => &config.spec.name,
            Object::Service(service) => &service.spec.name,
            Object::Node(node) => node.hostname(),
            Object::Network(network) => &network.spec.name,
            Object::Cluster(_) | Object::Task(_) | Object::Revision(_) => "",
        }
    }

    /// Its version and times.
    pub fn meta(&self) -> &Meta {
        match self {
            Object::Cluster(object) => &object.meta,
            Object::Node(object) => &object.meta,
            Object::Service(object) => &object.meta,
            Object::Task(object) => &object.meta,
            Object::Secret(object) => &object.meta,
            Object::Config(object) => &object.meta,
            Object::Network(object) => &object.meta,
            Object::Revision(object) => &object.meta,
        }
    }

    /// Stamps it as written: made by this write when there was none before, touched otherwise.
    pub(super) fn stamp(&mut self, before: Option<&Meta>, stamp: Stamp) {
        let is_edit = self.meta().edited_in == Version::default();
        let meta = before.map_or_else(|| Meta::made(stamp), |meta| meta.touched(stamp, is_edit));
        match self {
            Object::Cluster(object) => Arc::make_mut(object).meta = meta,
            Object::Node(object) => Arc::make_mut(object).meta = meta,
            Object::Service(object) => {
                let service = Arc::make_mut(object);
                service.meta = meta;
                if service.spec_version == Version::default() {
                    service.spec_version = stamp.version;
                }
            }
            Object::Task(object) => Arc::make_mut(object).meta = meta,
            Object::Secret(object) => Arc::make_mut(object).meta = meta,
            Object::Config(object) => Arc::make_mut(object).meta = meta,
            Object::Network(object) => Arc::make_mut(object).meta = meta,
            Object::Revision(object) => Arc::make_mut(object).meta = meta,
        }
    }
}

/// A payload as it is stored: sealed, opaque to all but the seal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SealedData {
    /// The payload, sealed with a key of its own.
    pub bytes: Vec<u8>,
    /// That key, sealed.
    pub key: Vec<u8>,
}

/// One change to the cluster.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Makes or replaces an object. Its meta is stamped by the write, as an edit by a client when it is
    /// marked so; a service whose `spec_version` is zero gets that of the write.
    Put(Object),
    /// Makes or replaces the payload of an object.
    PutPayload(Key, SealedData),
    /// Removes the payload of an object, which stays, and with it the payload's key.
    DropPayload(Key),
    /// Removes an object and its payload.
    Remove(Key),
}

/// An object before and after a write. At least one of the two is there.
#[derive(Debug, Clone)]
pub struct Changed {
    /// Which object.
    pub key: Key,
    /// The write that changed it.
    pub version: Version,
    /// When.
    pub at: super::time::Timestamp,
    /// Before; absent when it was made.
    pub old: Option<Object>,
    /// After; absent when it was removed.
    pub new: Option<Object>,
}
