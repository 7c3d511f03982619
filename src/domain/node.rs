//! Nodes: the engines that run tasks, and the manager itself.
//!
//! A manager is never an engine. The engine on the manager's host joins like any other, under the
//! manager's own node id, so that API users see one node for both. On the wire that engine is a
//! worker; its role here reads `manager`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::id::NodeId;
use super::json::{base64_bytes, engine_enum, is_zero};
use super::meta::Meta;
use super::network::Attachment;
use super::service::{Platform, Resources};
use super::time::Timestamp;

/// A stored node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its id, the common name of its certificate.
    pub id: NodeId,
    /// Version and times.
    pub meta: Meta,
    /// What its user gave.
    pub spec: NodeSpec,
    /// What the engine says of itself; absent until its first session.
    pub description: Option<NodeDescription>,
    /// How it does.
    pub status: NodeStatus,
    /// Since when it is down, by the manager's clock; absent while it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_since: Option<Timestamp>,
    /// Set for the manager's own node.
    pub manager: Option<ManagerStatus>,
    /// Its certificate and where the next one stands.
    pub certificate: Certificate,
    /// The addresses of its load balancers: one on each network on which it has a task that has not
    /// ended, and one on that of the routing mesh.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
}

impl Node {
    /// The host name, empty until the first session.
    pub fn hostname(&self) -> &str {
        self.description.as_ref().map_or("", |description| &description.hostname)
    }

    /// True while the node takes new tasks.
    pub fn takes_tasks(&self) -> bool {
        self.status.state == NodeState::Ready && self.spec.availability == Availability::Active
    }

    /// True while tasks on the node are believed to run.
    pub fn is_up(&self) -> bool {
        matches!(self.status.state, NodeState::Ready | NodeState::Unknown)
    }
}

engine_enum! {
    /// Role of a node.
    NodeRole in any case, unknown "invalid Role: {:?}",
    /// Runs tasks.
    Worker = "worker",
    /// Runs the control plane.
    Manager = "manager",
}

engine_enum! {
    /// Whether a node takes tasks.
    Availability in any case, unknown "invalid Availability: {:?}",
    /// Takes tasks.
    Active = "active",
    /// Keeps its tasks and takes no new ones.
    Pause = "pause",
    /// Gives up its tasks and takes no new ones.
    Drain = "drain",
}

/// What a user gives of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct NodeSpec {
    /// A name; usually absent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub name: String,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The role wished for.
    pub role: NodeRole,
    /// Whether it takes tasks.
    pub availability: Availability,
}

/// What an engine says of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct NodeDescription {
    /// Host name.
    #[serde(skip_serializing_if = "is_zero")]
    pub hostname: String,
    /// Processor and system.
    pub platform: Platform,
    /// What it has.
    pub resources: Resources,
    /// Version, labels and plugins.
    pub engine: EngineDescription,
    /// Its trust.
    #[serde(rename = "TLSInfo")]
    pub tls_info: TlsInfo,
}

/// Version, labels and plugins of an engine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct EngineDescription {
    /// Version of the engine.
    #[serde(skip_serializing_if = "is_zero")]
    pub engine_version: String,
    /// Labels from the engine's own configuration.
    #[serde(skip_serializing_if = "is_zero")]
    pub labels: BTreeMap<String, String>,
    /// Plugins it has.
    #[serde(skip_serializing_if = "is_zero")]
    pub plugins: Vec<PluginDescription>,
}

/// One plugin of an engine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct PluginDescription {
    /// Kind, as in `Network`.
    #[serde(rename = "Type", skip_serializing_if = "is_zero")]
    pub kind: String,
    /// Name.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
}

/// Whom a node trusts and who signed its certificate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct TlsInfo {
    /// Root certificates, PEM.
    #[serde(skip_serializing_if = "is_zero")]
    pub trust_root: String,
    /// Subject of the issuer, DER.
    #[serde(skip_serializing_if = "is_zero", with = "base64_bytes")]
    #[schema(value_type = String, format = Byte, default = "")]
    pub cert_issuer_subject: Vec<u8>,
    /// Public key of the issuer, DER.
    #[serde(skip_serializing_if = "is_zero", with = "base64_bytes")]
    #[schema(value_type = String, format = Byte, default = "")]
    pub cert_issuer_public_key: Vec<u8>,
}

engine_enum! {
    /// How a node does.
    NodeState, unknown "unknown node state {:?}",
    /// Not heard of since the manager started.
    Unknown = "unknown",
    /// Missed its heartbeats.
    Down = "down",
    /// In a session.
    Ready = "ready",
    /// Left its session in good order.
    Disconnected = "disconnected",
}

/// How a node does, as observed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct NodeStatus {
    /// The state.
    pub state: NodeState,
    /// The state in words.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub message: String,
    /// Address it was last seen from.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub addr: String,
}

engine_enum! {
    /// Whether a manager can be reached.
    Reachability, unknown "unknown reachability {:?}",
    /// Not known.
    Unknown = "unknown",
    /// It cannot.
    Unreachable = "unreachable",
    /// It can.
    Reachable = "reachable",
}

/// What is special of a manager's node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct ManagerStatus {
    /// It leads.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub leader: bool,
    /// It can be reached.
    pub reachability: Reachability,
    /// Address and port of the nodes' door, as advertised.
    pub addr: String,
}

/// Where the issuing of a node's certificate stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IssuanceState {
    /// Waits to be signed.
    #[default]
    Pending,
    /// Signed.
    Issued,
    /// The node is asked to renew; back to `Issued` once its next request is signed.
    Rotate,
}

/// A node's certificate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// The request as the node sent it, PEM; it is compared byte for byte by the node.
    pub csr: Vec<u8>,
    /// Where issuing stands.
    pub state: IssuanceState,
    /// The chain that was issued, PEM, leaf first.
    pub chain: String,
    /// End of its life, seconds since 1970.
    pub not_after: i64,
}
