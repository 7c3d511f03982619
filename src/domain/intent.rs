//! What may be asked of the cluster: one value for every request, from whichever door.

use std::net::Ipv4Addr;

use super::actor::Actor;
use super::audit::Note;
use super::change::{Key, SealedData};
use super::cluster::{Cluster, ClusterSpec, OfferedKey, RootRotation};
use super::config::ConfigSpec;
use super::id::{ConfigId, NetworkId, NodeId, RevisionId, SecretId, ServiceId, TaskId};
use super::meta::Version;
use super::network::NetworkSpec;
use super::node::{Availability, Node, NodeDescription, NodeSpec};
use super::revision::{Keep, Owner};
use super::secret::{Fingerprint, SecretSpec};
use super::service::{RegistryAuth, ServiceSpec};
use super::task::TaskStatus;

/// One request. Each variant says who may ask and when it is granted.
#[derive(Debug, Clone)]
pub enum Intent {
    /// Clients; the name is free and well formed.
    CreateSecret {
        /// The id it gets.
        id: SecretId,
        /// Name, labels, driver.
        spec: SecretSpec,
        /// The payload, unless a driver supplies it.
        payload: Option<SealedPayload>,
        /// Length of the payload in bytes, before sealing.
        payload_len: usize,
    },
    /// Clients; the name is the same, and the version the stored one.
    UpdateSecret {
        /// Which.
        id: SecretId,
        /// The version that the client saw.
        version: Version,
        /// The new spec.
        spec: SecretSpec,
        /// Of the payload sent; absent when none was.
        fingerprint: Option<Fingerprint>,
        /// The payload, where it may be a new one.
        value: Option<NewValue>,
    },
    /// Clients; no service uses it.
    RemoveSecret {
        /// Which.
        id: SecretId,
    },
    /// Clients; the value is kept, and the version the stored one.
    ChooseRevision {
        /// Of which secret or config.
        owner: Owner,
        /// The version of that which the client saw.
        version: Version,
        /// The number of the value; the one before the present one when absent.
        number: Option<u64>,
    },
    /// Clients, and the manager as time goes by: drops values that nothing uses.
    PruneRevisions {
        /// Of which secret or config.
        owner: Owner,
        /// Which of them stay.
        keep: Keep,
    },
    /// Clients; the name is free and well formed.
    CreateConfig {
        /// The id it gets.
        id: ConfigId,
        /// Name, labels, template engine.
        spec: ConfigSpec,
        /// The data.
        payload: Option<SealedPayload>,
        /// Length of the data in bytes, before sealing.
        payload_len: usize,
    },
    /// Clients; the name is the same, and the version the stored one.
    UpdateConfig {
        /// Which.
        id: ConfigId,
        /// The version that the client saw.
        version: Version,
        /// The new spec.
        spec: ConfigSpec,
        /// Of the data sent; absent when none were.
        fingerprint: Option<Fingerprint>,
        /// The data, where they may be new ones.
        value: Option<NewValue>,
    },
    /// Clients; no service uses it.
    RemoveConfig {
        /// Which.
        id: ConfigId,
    },
    /// Clients; the spec is valid and all it references exists.
    CreateService {
        /// The id it gets.
        id: ServiceId,
        /// The spec.
        spec: ServiceSpec,
        /// Registry credentials.
        registry_auth: Option<RegistryAuth>,
    },
    /// Clients; as for creating, and the version is the stored one, name and mode unchanged.
    UpdateService {
        /// Which.
        id: ServiceId,
        /// The version that the client saw.
        version: Version,
        /// The new spec.
        spec: ServiceSpec,
        /// Registry credentials; absent leaves them as they are.
        registry_auth: Option<RegistryAuth>,
        /// Where credentials come from when none are sent.
        auth_from: AuthFrom,
    },
    /// Clients; as for updating, and what the spec before references still exists.
    RollBackService {
        /// Which.
        id: ServiceId,
        /// The version that the client saw.
        version: Version,
        /// The spec that the client sent; only checked.
        spec: ServiceSpec,
        /// Registry credentials that the client sent; a part of its spec.
        registry_auth: Option<RegistryAuth>,
        /// Where those of its spec come from when none are sent.
        auth_from: AuthFrom,
    },
    /// Clients; always.
    RemoveService {
        /// Which.
        id: ServiceId,
    },
    /// Clients; the name and the subnets are free and well formed.
    CreateNetwork {
        /// The id it gets.
        id: NetworkId,
        /// The spec.
        spec: NetworkSpec,
    },
    /// Clients; no service and no task that is to run uses it.
    RemoveNetwork {
        /// Which.
        id: NetworkId,
    },
    /// Clients; the version is the stored one, and the last manager stays one.
    UpdateNode {
        /// Which.
        id: NodeId,
        /// The version that the client saw.
        version: Version,
        /// The new spec.
        spec: NodeSpec,
    },
    /// Clients; it is no manager, and down unless forced.
    RemoveNode {
        /// Which.
        id: NodeId,
        /// Even when it is not down.
        force: bool,
    },
    /// Clients; there is no swarm yet.
    InitSwarm(Box<NewSwarm>),
    /// Clients; the version is the stored one.
    UpdateSwarm(Box<SwarmUpdate>),
    /// Clients; autolock is on. This key is the one that was asked for last, and is going to be shown.
    OfferUnlockKey(OfferedKey),
    /// Clients; the key that was shown takes effect, unless another one was asked for meanwhile.
    TakeUnlockKey(OfferedKey),
    /// Clients; there is a swarm.
    LeaveSwarm,
    /// A host with a valid token: makes its node.
    AdmitNode {
        /// The id it gets, that of the manager's node for the engine attached to the manager.
        id: NodeId,
        /// Its request, PEM.
        csr: Vec<u8>,
        /// The chain issued, PEM.
        chain: String,
        /// End of its life, seconds since 1970.
        not_after: i64,
        /// What it asked for.
        availability: Availability,
    },
    /// A node, of itself: its next certificate.
    RenewCertificate {
        /// Which.
        id: NodeId,
        /// Its request, PEM.
        csr: Vec<u8>,
        /// The chain issued, PEM.
        chain: String,
        /// End of its life, seconds since 1970.
        not_after: i64,
    },
    /// Nodes of themselves: a session began.
    RegisterNode {
        /// Which.
        id: NodeId,
        /// What it says of itself.
        description: Box<NodeDescription>,
        /// Where it was seen.
        addr: String,
        /// Its engine was started since its last session.
        is_fresh: bool,
    },
    /// The manager: these nodes are no longer heard of.
    LoseNodes {
        /// Which, each with the reason.
        nodes: Vec<(NodeId, String)>,
    },
    /// The manager: how far the clock of a node is off, in words; nothing if it is not.
    NoteClock {
        /// Which.
        id: NodeId,
        /// The words.
        message: String,
    },
    /// The manager, once at start: nothing is known of any node.
    ForgetSessions,
    /// The manager: a new root takes its place, if every node has a certificate of it.
    FinishRootRotation,
    /// The manager: new network keys, if they are due.
    RotateNetworkKeys,
    /// The manager, once at start: a swarm from before there were networks gets its first ones.
    ProvideNetworks,
    /// Nodes, of their own tasks: what they do.
    ReportTasks {
        /// What is reported, by whom.
        reports: Vec<TaskReport>,
    },
    /// Nodes, for a container of their own; the network may be joined by such and has an address.
    AttachNetwork {
        /// The id that the attachment gets.
        id: TaskId,
        /// The node that the container is on.
        node: NodeId,
        /// What is to be attached to what.
        wish: AttachmentWish,
    },
    /// Nodes, of their own attachments; the container has left the network.
    DetachNetwork {
        /// The attachment.
        id: TaskId,
        /// The node that the container was on.
        node: NodeId,
    },
}

/// A container that is to be attached to a network, as its user typed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachmentWish {
    /// Id or name of the network, or the beginning of an id.
    pub network: String,
    /// The address that the container is to have; any when absent.
    pub address: Option<Ipv4Addr>,
    /// Id of the container.
    pub container_id: String,
}

/// A new swarm: everything that randomness and keys went into was made beforehand.
#[derive(Debug, Clone)]
pub struct NewSwarm {
    /// The cluster.
    pub cluster: Cluster,
    /// The manager's node.
    pub node: Node,
    /// The signing key of its root.
    pub signing_key: SealedData,
}

/// A change of the swarm's settings.
#[derive(Debug, Clone)]
pub struct SwarmUpdate {
    /// The version that the client saw.
    pub version: Version,
    /// The new settings.
    pub spec: ClusterSpec,
    /// The new secret of the worker token, when it is rotated.
    pub worker_secret: Option<String>,
    /// The new secret of the manager token, when it is rotated.
    pub manager_secret: Option<String>,
    /// Make a new key of autolock, if that is on.
    pub rotate_unlock_key: bool,
    /// The root that is to take the place of the present one.
    pub new_root: Option<Box<NewRoot>>,
}

/// A root certificate that was made, and its key.
#[derive(Debug, Clone)]
pub struct NewRoot {
    /// The certificate, and the same signed by the root before it.
    pub rotation: RootRotation,
    /// Its signing key.
    pub signing_key: SealedData,
}

/// A sealed payload and what may be known of it.
#[derive(Debug, Clone)]
pub struct SealedPayload {
    /// The sealed bytes.
    pub bytes: SealedData,
    /// Keyed hash.
    pub fingerprint: Fingerprint,
    /// Why it is not the template that it is said to be; of one that is, and of what is said to be none,
    /// nothing.
    pub fault: Option<String>,
}

/// A value that takes the place of the one before, under the same name.
#[derive(Debug, Clone)]
pub struct NewValue {
    /// The id of the object that it lies with.
    pub id: RevisionId,
    /// The value; absent when it has a length that none may have.
    pub payload: Option<SealedPayload>,
    /// Its length in bytes, before sealing.
    pub payload_len: usize,
    /// True for one that the secret's driver made.
    pub is_supplied: bool,
    /// Which values stay that nothing uses then.
    pub keep: Keep,
}

/// Where registry credentials of an update come from when none are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuthFrom {
    /// The current spec.
    #[default]
    Spec,
    /// The spec before.
    PreviousSpec,
}

/// What a node says of one task.
#[derive(Debug, Clone)]
pub struct TaskReport {
    /// The node that says so.
    pub node: NodeId,
    /// The task.
    pub task: TaskId,
    /// What it does.
    pub status: TaskStatus,
}

impl Intent {
    /// What the audit tells of it.
    pub fn note(&self, actor: Actor) -> Note {
        let (object, name) = self.subject();
        let value = match self {
            Intent::CreateSecret { payload, .. } | Intent::CreateConfig { payload, .. } => {
                payload.as_ref().map(|payload| payload.fingerprint)
            }
            Intent::UpdateSecret { fingerprint, .. } | Intent::UpdateConfig { fingerprint, .. } => {
                *fingerprint
            }
            _ => None,
        };
        let only_if_changed = matches!(
            self,
            Intent::ForgetSessions
                | Intent::RotateNetworkKeys
                | Intent::ProvideNetworks
                | Intent::FinishRootRotation
                | Intent::PruneRevisions { .. }
        );
        let detail = match self {
            Intent::LoseNodes { nodes } => {
                let nodes: Vec<String> =
                    nodes.iter().map(|(id, why)| format!("{id}: {why}")).collect();
                nodes.join(", ")
            }
            Intent::RegisterNode { addr, .. } => addr.clone(),
            Intent::NoteClock { message, .. } => message.clone(),
            _ => String::new(),
        };
        let name = name.to_owned();
        Note { object, name, value, detail, only_if_changed, ..Note::new(actor, self.word()) }
    }

    /// What it is about, and the name that it gives to that.
    fn subject(&self) -> (Option<Key>, &str) {
        let key = match self {
            Intent::CreateSecret { id, spec, .. } => return (Some(Key::Secret(*id)), &spec.name),
            Intent::CreateConfig { id, spec, .. } => return (Some(Key::Config(*id)), &spec.name),
            Intent::CreateService { id, spec, .. } => return (Some(Key::Service(*id)), &spec.name),
            Intent::CreateNetwork { id, spec } => return (Some(Key::Network(*id)), &spec.name),
            Intent::UpdateSecret { id, .. } | Intent::RemoveSecret { id } => Key::Secret(*id),
            Intent::UpdateConfig { id, .. } | Intent::RemoveConfig { id } => Key::Config(*id),
            Intent::UpdateService { id, .. }
            | Intent::RollBackService { id, .. }
            | Intent::RemoveService { id } => Key::Service(*id),
            Intent::ChooseRevision { owner, .. } | Intent::PruneRevisions { owner, .. } => {
                owner.key()
            }
            Intent::RemoveNetwork { id } => Key::Network(*id),
            Intent::UpdateNode { id, .. }
            | Intent::RemoveNode { id, .. }
            | Intent::AdmitNode { id, .. }
            | Intent::RenewCertificate { id, .. }
            | Intent::RegisterNode { id, .. }
            | Intent::NoteClock { id, .. } => Key::Node(*id),
            Intent::AttachNetwork { id, .. } | Intent::DetachNetwork { id, .. } => Key::Task(*id),
            Intent::InitSwarm(new) => Key::Cluster(new.cluster.id),
            Intent::UpdateSwarm(_)
            | Intent::OfferUnlockKey(_)
            | Intent::TakeUnlockKey(_)
            | Intent::LeaveSwarm
            | Intent::LoseNodes { .. }
            | Intent::ForgetSessions
            | Intent::FinishRootRotation
            | Intent::RotateNetworkKeys
            | Intent::ProvideNetworks
            | Intent::ReportTasks { .. } => return (None, ""),
        };
        (Some(key), "")
    }

    /// The word for it in logs.
    pub fn word(&self) -> &'static str {
        match self {
            Intent::CreateSecret { .. } => "secret create",
            Intent::UpdateSecret { value: Some(value), .. } if value.is_supplied => "secret rotate",
            Intent::UpdateSecret { .. } => "secret update",
            Intent::RemoveSecret { .. } => "secret remove",
            Intent::ChooseRevision { owner: Owner::Secret(_), .. } => "secret rollback",
            Intent::ChooseRevision { owner: Owner::Config(_), .. } => "config rollback",
            Intent::PruneRevisions { owner: Owner::Secret(_), .. } => "secret prune",
            Intent::PruneRevisions { owner: Owner::Config(_), .. } => "config prune",
            Intent::CreateConfig { .. } => "config create",
            Intent::UpdateConfig { .. } => "config update",
            Intent::RemoveConfig { .. } => "config remove",
            Intent::CreateService { .. } => "service create",
            Intent::UpdateService { .. } => "service update",
            Intent::RollBackService { .. } => "service rollback",
            Intent::RemoveService { .. } => "service remove",
            Intent::CreateNetwork { .. } => "network create",
            Intent::RemoveNetwork { .. } => "network remove",
            Intent::UpdateNode { .. } => "node update",
            Intent::RemoveNode { .. } => "node remove",
            Intent::InitSwarm(_) => "swarm init",
            Intent::UpdateSwarm(_) => "swarm update",
            Intent::OfferUnlockKey(_) => "unlock key show",
            Intent::TakeUnlockKey(_) => "unlock key take",
            Intent::LeaveSwarm => "swarm leave",
            Intent::AdmitNode { .. } => "node admit",
            Intent::RenewCertificate { .. } => "certificate renew",
            Intent::RegisterNode { .. } => "node register",
            Intent::LoseNodes { .. } => "node lost",
            Intent::NoteClock { .. } => "clock note",
            Intent::ForgetSessions => "sessions forget",
            Intent::FinishRootRotation => "root rotation finish",
            Intent::RotateNetworkKeys => "network keys rotate",
            Intent::ProvideNetworks => "networks provide",
            Intent::ReportTasks { .. } => "task report",
            Intent::AttachNetwork { .. } => "network attach",
            Intent::DetachNetwork { .. } => "network detach",
        }
    }
}
