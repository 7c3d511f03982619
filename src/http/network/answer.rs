//! Networks as they are shown: by themselves, and as a part of tasks.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::address::Cidr;
use crate::domain::id::NetworkId;
use crate::domain::json::is_zero;
use crate::domain::meta::Version;
use crate::domain::network::{Attachment, IpamConfig, Network};
use crate::domain::time::Timestamp;
use crate::domain::view::View;

/// A network as it is shown.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = Network)]
pub(in crate::http) struct NetworkAnswer<'a> {
    name: &'a str,
    #[schema(value_type = String)]
    id: NetworkId,
    #[schema(value_type = String, format = DateTime)]
    created: Timestamp,
    /// `swarm`, `local` or `global`.
    scope: &'static str,
    driver: &'a str,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: bool,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    ipam: IpamAnswer<'a>,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_from: ConfigSource,
    config_only: bool,
    options: BTreeMap<String, String>,
    labels: Option<&'a BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    containers: Option<serde_json::Value>,
    /// Other nodes on the network, as far as the engine of this host knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    peers: Option<serde_json::Value>,
    /// Services on the network, as far as the engine of this host knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    services: Option<serde_json::Value>,
}

/// How a network gets its addresses, as it is shown.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = NetworkIpam)]
struct IpamAnswer<'a> {
    driver: &'static str,
    options: Option<BTreeMap<String, String>>,
    config: &'a [IpamConfig],
}

/// The network whose configuration another one takes.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = NetworkConfigSource)]
struct ConfigSource {
    /// Always empty here.
    network: &'static str,
}

/// The options as an engine shows them: its own, by which addresses go round, among those that were given.
fn ipam_options(given: &BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    let serial = ("com.docker.network.ipam.serial".to_owned(), "true".to_owned());
    (!given.is_empty()).then(|| std::iter::once(serial).chain(given.clone()).collect())
}

impl<'a> From<&'a Network> for NetworkAnswer<'a> {
    fn from(network: &'a Network) -> Self {
        let Network { id, meta, spec, subnets, .. } = network;
        NetworkAnswer {
            name: &spec.name,
            id: *id,
            created: meta.created_at,
            scope: "swarm",
            driver: &spec.driver,
            enable_ipv4: true,
            enable_ipv6: spec.enable_ipv6,
            ipam: IpamAnswer {
                driver: "default",
                options: ipam_options(&spec.ipam.options),
                config: subnets,
            },
            internal: spec.internal,
            attachable: spec.attachable,
            ingress: spec.ingress,
            config_from: ConfigSource { network: "" },
            config_only: false,
            options: network.driver_options(),
            labels: Some(&spec.labels).filter(|labels| spec.ingress || !labels.is_empty()),
            containers: None,
            peers: None,
            services: None,
        }
    }
}

impl NetworkAnswer<'_> {
    /// The same with what the engine of this host has on the network.
    pub(super) fn with_local(mut self, local: Option<&serde_json::Value>) -> Self {
        let part = |key| local.and_then(|local| local.get(key)).filter(|part| !part.is_null());
        let none = || serde_json::json!({});
        self.containers = Some(part("Containers").cloned().unwrap_or_else(none));
        self.peers = part("Peers").cloned();
        self.services = part("Services").cloned();
        self
    }
}

/// A task's place on a network, as it is shown.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = NetworkAttachment)]
pub(in crate::http) struct AttachmentAnswer<'a> {
    network: AttachedNetwork<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    addresses: Vec<Cidr>,
}

/// A network as a part of a task.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
struct AttachedNetwork<'a> {
    #[serde(rename = "ID")]
    #[schema(value_type = String)]
    id: NetworkId,
    version: Version,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    spec: AttachedSpec<'a>,
    driver_state: DriverAnswer<'a>,
    #[serde(rename = "IPAMOptions")]
    ipam_options: AttachedIpam<'a>,
}

/// What the user gave of a network, as a part of a task.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
struct AttachedSpec<'a> {
    name: &'a str,
    labels: &'a BTreeMap<String, String>,
    driver_configuration: DriverAnswer<'a>,
    #[serde(rename = "IPv6Enabled", skip_serializing_if = "is_zero")]
    ipv6_enabled: bool,
    #[serde(skip_serializing_if = "is_zero")]
    internal: bool,
    #[serde(skip_serializing_if = "is_zero")]
    attachable: bool,
    #[serde(skip_serializing_if = "is_zero")]
    ingress: bool,
    scope: &'static str,
}

/// A driver with its options, as a part of a task.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = NetworkDriver)]
struct DriverAnswer<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "is_empty")]
    options: Cow<'a, BTreeMap<String, String>>,
}

fn is_empty(options: &BTreeMap<String, String>) -> bool {
    options.is_empty()
}

/// The subnets of a network, as a part of a task.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
struct AttachedIpam<'a> {
    driver: DriverAnswer<'a>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    configs: &'a [IpamConfig],
}

/// The places of a task, as far as their networks are there.
pub(in crate::http) fn attachments<'a>(
    view: &'a View,
    places: &[Attachment],
) -> Vec<AttachmentAnswer<'a>> {
    let known = places.iter().filter_map(|place| Some((place, view.network(place.network)?)));
    known
        .map(|(place, network)| AttachmentAnswer {
            network: attached(network),
            addresses: place.address.into_iter().collect(),
        })
        .collect()
}

fn attached(network: &Network) -> AttachedNetwork<'_> {
    let Network { id, meta, spec, subnets, .. } = network;
    let ipam_driver = if spec.is_overlay() { "default" } else { "" };
    let plain = |name| DriverAnswer { name, options: Cow::Owned(BTreeMap::new()) };
    AttachedNetwork {
        id: *id,
        version: meta.version,
        created_at: meta.created_at,
        updated_at: meta.updated_at,
        spec: AttachedSpec {
            name: &spec.name,
            labels: &spec.labels,
            driver_configuration: DriverAnswer {
                name: &spec.driver,
                options: Cow::Borrowed(&spec.options),
            },
            ipv6_enabled: spec.enable_ipv6,
            internal: spec.internal,
            attachable: spec.attachable,
            ingress: spec.ingress,
            scope: "swarm",
        },
        driver_state: DriverAnswer {
            name: &spec.driver,
            options: Cow::Owned(network.driver_options()),
        },
        ipam_options: AttachedIpam { driver: plain(ipam_driver), configs: subnets },
    }
}
