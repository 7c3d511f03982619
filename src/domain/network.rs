//! Networks of the swarm: what their users ask for, and what they were given.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::address::Cidr;
use super::id::NetworkId;
use super::json::is_zero;
use super::meta::Meta;

/// The driver of networks that span nodes.
pub const OVERLAY: &str = "overlay";
/// The name of the network of the routing mesh that a new swarm has.
pub const INGRESS_NAME: &str = "ingress";
/// Marks the networks that stand for those every engine has.
pub const PREDEFINED_LABEL: &str = "com.docker.swarm.predefined";
/// The networks that every engine has, by name, with their drivers.
pub const PREDEFINED: [(&str, &str); 3] =
    [("bridge", "bridge"), ("host", "host"), ("none", "null")];
/// The drivers of networks that lie within one node each.
pub const LOCAL_DRIVERS: [&str; 5] = ["bridge", "host", "ipvlan", "macvlan", "null"];
/// The option of an overlay network that holds its VXLAN numbers, separated by commas.
pub const VNI_OPTION: &str = "com.docker.network.driver.overlay.vxlanid_list";

/// A stored network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Its id.
    pub id: NetworkId,
    /// Version and times.
    pub meta: Meta,
    /// What its user gave.
    pub spec: NetworkSpec,
    /// The VXLAN numbers of an overlay, one for each IPv4 subnet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vnis: Vec<u32>,
    /// The subnets that it was given, each with its gateway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<IpamConfig>,
    /// The address that was given out last. The search for the next one starts behind it, so that
    /// one that was freed is not given out again at once, nor after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_given: Option<Ipv4Addr>,
    /// Its user removed it, and tasks that are stopping hold addresses on it still. It is shown to
    /// nobody and its name is free.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub is_removed: bool,
}

/// What a user gives of a network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSpec {
    /// Name, unique ignoring case.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Driver; `overlay`, or one that lies within each node.
    pub driver: String,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Subnets, when they are not to be chosen.
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    /// It has IPv6 subnets.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    /// It has no way to the outside.
    pub internal: bool,
    /// Containers that are no tasks may join it.
    pub attachable: bool,
    /// It is that of the routing mesh.
    pub ingress: bool,
}

/// How a network gets its addresses.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ipam {
    /// Who chooses; always `default`.
    pub driver: String,
    /// Options of the one who chooses.
    #[serde(skip_serializing_if = "is_zero")]
    pub options: BTreeMap<String, String>,
    /// Subnets.
    pub config: Vec<IpamConfig>,
}

/// One subnet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct IpamConfig {
    /// The subnet, as `10.0.9.0/24`.
    #[serde(skip_serializing_if = "is_zero")]
    pub subnet: String,
    /// The part of it that addresses are given from, in the same form; all of it when absent.
    #[serde(rename = "IPRange", skip_serializing_if = "is_zero")]
    pub ip_range: String,
    /// The gateway; the first address when absent.
    #[serde(skip_serializing_if = "is_zero")]
    pub gateway: String,
    /// Addresses that are not given out, by name.
    #[serde(skip_serializing_if = "is_zero")]
    pub auxiliary_addresses: BTreeMap<String, String>,
}

/// A place on a network, of a task, a node or a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct Attachment {
    /// The network.
    #[serde(rename = "NetworkID")]
    #[schema(value_type = String)]
    pub network: NetworkId,
    /// The address on it; absent on a network within one node, which gives addresses by itself.
    #[serde(rename = "Addr", default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub address: Option<Cidr>,
}

impl NetworkSpec {
    /// True for a network that spans nodes.
    pub fn is_overlay(&self) -> bool {
        self.driver == OVERLAY
    }

    /// True for one that stands for a network every engine has.
    pub fn is_predefined(&self) -> bool {
        self.labels.contains_key(PREDEFINED_LABEL)
    }

    /// A network that stands for one every engine has.
    pub fn predefined(name: &str, driver: &str) -> NetworkSpec {
        NetworkSpec {
            name: name.into(),
            driver: driver.into(),
            labels: BTreeMap::from([(PREDEFINED_LABEL.into(), "true".into())]),
            ..NetworkSpec::default()
        }
    }

    /// The network of the routing mesh as a new swarm has it.
    pub fn ingress() -> NetworkSpec {
        NetworkSpec {
            name: INGRESS_NAME.into(),
            driver: OVERLAY.into(),
            ingress: true,
            ..NetworkSpec::default()
        }
    }
}

impl Network {
    /// True for what users see: what they made and have not removed.
    pub fn is_shown(&self) -> bool {
        !self.is_removed && !self.spec.is_predefined()
    }

    /// The options of its driver, the VXLAN numbers among them.
    pub fn driver_options(&self) -> BTreeMap<String, String> {
        let mut options = self.spec.options.clone();
        if !self.vnis.is_empty() {
            let vnis: Vec<String> = self.vnis.iter().map(u32::to_string).collect();
            options.insert(VNI_OPTION.into(), vnis.join(","));
        }
        options
    }

    /// True when the other differs in no more than the address given out last.
    pub fn is_same_but_for_addresses(&self, other: &Network) -> bool {
        let Network { id, meta: _, spec, vnis, subnets, last_given: _, is_removed } = self;
        *id == other.id
            && *spec == other.spec
            && *vnis == other.vnis
            && *subnets == other.subnets
            && *is_removed == other.is_removed
    }
}

impl IpamConfig {
    /// The subnet, when it is an IPv4 one.
    pub fn subnet_v4(&self) -> Option<Cidr> {
        self.subnet.parse::<Cidr>().ok().map(Cidr::subnet)
    }
}
