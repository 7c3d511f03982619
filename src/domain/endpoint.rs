//! Endpoints, published ports and wishes for networks, as services and tasks carry them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::json::{empty_as_default, engine_enum, is_zero};
use super::network::Attachment;

engine_enum! {
    /// How the name of a service resolves.
    ResolutionMode, unknown "invalid resolution mode: {:?}", default Vip,
    /// To one virtual address.
    Vip = "vip",
    /// To the addresses of its tasks in turn.
    DnsRoundRobin = "dnsrr",
}

engine_enum! {
    /// Transport protocol of a port.
    Protocol in any case, unknown "invalid protocol value {:?}", default Tcp,
    /// TCP.
    Tcp = "tcp",
    /// UDP.
    Udp = "udp",
    /// SCTP.
    Sctp = "sctp",
}

engine_enum! {
    /// Where a published port is reachable.
    PublishMode in any case, unknown "invalid publish mode {:?}", default Ingress,
    /// On every node, through the routing mesh.
    Ingress = "ingress",
    /// On the nodes that run a task.
    Host = "host",
}

/// How a service is reached.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointSpec {
    /// Resolution mode; `vip` when absent, and written as such.
    #[serde(deserialize_with = "empty_as_default")]
    pub mode: ResolutionMode,
    /// Published ports.
    #[serde(skip_serializing_if = "is_zero")]
    pub ports: Vec<PortConfig>,
}

/// One published port.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortConfig {
    /// A name for people.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    /// Protocol; `tcp` when absent, and written as such.
    #[serde(deserialize_with = "empty_as_default")]
    pub protocol: Protocol,
    /// Port inside the container.
    #[serde(skip_serializing_if = "is_zero")]
    pub target_port: u32,
    /// Port outside; 0 has one assigned.
    #[serde(skip_serializing_if = "is_zero")]
    pub published_port: u32,
    /// Where it is reachable; `ingress` when absent, and written as such.
    #[serde(deserialize_with = "empty_as_default")]
    pub publish_mode: PublishMode,
}

impl EndpointSpec {
    /// The ports that are reachable on every node.
    pub fn ingress_ports(&self) -> impl Iterator<Item = &PortConfig> {
        self.ports.iter().filter(|port| port.publish_mode == PublishMode::Ingress)
    }

    /// True when it publishes a port on every node, and so needs the network of the routing mesh.
    pub fn is_in_mesh(&self) -> bool {
        self.ingress_ports().next().is_some()
    }
}

/// How a service is reached, as it was given: what the ports and addresses are that it left open.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The spec that this was made for.
    pub spec: Option<EndpointSpec>,
    /// The networks that this was made for, by their ids, in the order of the spec.
    pub networks: Vec<String>,
    /// The ports of the spec; of those in the routing mesh none is left open.
    pub ports: Vec<PortConfig>,
    /// One address on each overlay network. In `dnsrr` mode those that it had before, which nobody uses:
    /// see [`Endpoint::addresses`].
    pub virtual_ips: Vec<Attachment>,
}

impl Endpoint {
    /// The addresses at which the service is reached; none in `dnsrr` mode.
    pub fn addresses(&self) -> &[Attachment] {
        match self.spec.as_ref().map(|spec| spec.mode) {
            Some(ResolutionMode::DnsRoundRobin) => &[],
            _ => &self.virtual_ips,
        }
    }
}

/// A wish to be attached to a network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkAttachmentConfig {
    /// Id or name of the network.
    #[serde(skip_serializing_if = "is_zero")]
    pub target: String,
    /// Further names on it.
    #[serde(skip_serializing_if = "is_zero")]
    pub aliases: Vec<String>,
    /// Driver options.
    #[serde(skip_serializing_if = "is_zero")]
    pub driver_opts: BTreeMap<String, String>,
}
