//! Networks, and the places that tasks and nodes have on them.
//!
//! A network travels inside of a place on it, whole every time. An engine looks into its driver's
//! state, its address pools and their driver without asking whether they are there, so nothing here
//! leaves them out.

use std::net::Ipv4Addr;

use super::common::{NAME_LEN_MAX, annotations, meta, pairs, text};
use super::proto;
use super::proto::ipam_config::AddressFamily;
use crate::domain::address::Cidr;
use crate::domain::endpoint::NetworkAttachmentConfig;
use crate::domain::intent::AttachmentWish;
use crate::domain::network::{Attachment, IpamConfig, Network, NetworkSpec};
use crate::domain::view::View;

/// The message of a network.
pub fn network(network: &Network) -> proto::Network {
    let Network { id, meta: own, spec, subnets, is_removed, .. } = network;
    // Pools within a node have no driver's name: the node chooses.
    let ipam_driver = if spec.is_overlay() { "default" } else { "" };
    let ipam_driver = proto::Driver { name: ipam_driver.into(), options: Default::default() };
    proto::Network {
        id: id.to_string(),
        meta: Some(meta(own)),
        spec: Some(network_spec(spec)),
        driver_state: Some(proto::Driver {
            name: spec.driver.clone(),
            options: pairs(&network.driver_options()),
        }),
        ipam: Some(proto::IpamOptions {
            driver: Some(ipam_driver),
            configs: subnets.iter().map(pool).collect(),
        }),
        pending_delete: *is_removed,
        extra: None,
    }
}

fn network_spec(spec: &NetworkSpec) -> proto::NetworkSpec {
    let driver = proto::Driver { name: spec.driver.clone(), options: pairs(&spec.options) };
    let ipam_driver =
        proto::Driver { name: spec.ipam.driver.clone(), options: pairs(&spec.ipam.options) };
    proto::NetworkSpec {
        annotations: Some(annotations(&spec.name, &spec.labels)),
        driver_config: Some(driver),
        ipv6_enabled: spec.enable_ipv6,
        internal: spec.internal,
        ipam: Some(proto::IpamOptions {
            driver: Some(ipam_driver),
            configs: spec.ipam.config.iter().map(pool).collect(),
        }),
        attachable: spec.attachable,
        ingress: spec.ingress,
        config_from: None,
    }
}

fn pool(config: &IpamConfig) -> proto::IpamConfig {
    let family = match config.subnet_v4() {
        Some(_) => AddressFamily::Ipv4,
        None => AddressFamily::Ipv6,
    };
    proto::IpamConfig {
        family: family.into(),
        subnet: config.subnet.clone(),
        range: config.ip_range.clone(),
        gateway: config.gateway.clone(),
        reserved: pairs(&config.auxiliary_addresses),
    }
}

/// Characters of a container id: 64 hexadecimal digits.
const CONTAINER_ID_LEN_MAX: usize = 64;

/// Why what an engine wants to attach cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum WishError {
    /// The network is not named.
    #[error("a network is needed")]
    NoNetwork,
    /// The container is not named, or not by an id.
    #[error("the id of a container is needed")]
    NoContainer,
    /// It is none, not one of IPv4, or one of several.
    #[error("one IPv4 address may be asked for at most")]
    Address,
}

/// What an engine wants to attach to what. Further names and options of the driver are the engine's
/// own to keep: no other has the container.
///
/// # Errors
/// Something is missing, or is not what it should be.
pub fn attachment_from(message: &proto::AttachNetworkRequest) -> Result<AttachmentWish, WishError> {
    let config = message.config.as_ref().filter(|config| !config.target.is_empty());
    let config = config.ok_or(WishError::NoNetwork)?;
    let container_id = &message.container_id;
    let is_hex = container_id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_hex || !(1..=CONTAINER_ID_LEN_MAX).contains(&container_id.len()) {
        return Err(WishError::NoContainer);
    }
    // Engines leave the length of the prefix out; with it, it is the same address.
    let address = |text: &String| {
        let with_prefix = || text.parse::<Cidr>().ok().map(Cidr::address);
        text.parse::<Ipv4Addr>().ok().or_else(with_prefix).ok_or(WishError::Address)
    };
    let address = match &config.addresses[..] {
        [] => None,
        [one] => Some(address(one)?),
        [..] => return Err(WishError::Address),
    };
    let network = text(&config.target, NAME_LEN_MAX);
    Ok(AttachmentWish { network, address, container_id: container_id.clone() })
}

/// The places of a task or node, each with its network; `wishes` say by which names a task is known
/// there. A place whose network is gone, which has no address, is left out.
pub(super) fn attachments(
    view: &View,
    places: &[Attachment],
    wishes: &[NetworkAttachmentConfig],
) -> Vec<proto::NetworkAttachment> {
    let known = places.iter().filter_map(|place| Some((place, view.network(place.network)?)));
    known
        .map(|(place, of)| {
            let wish = wishes.iter().find(|wish| wish.target == of.id.as_str());
            proto::NetworkAttachment {
                network: Some(network(of)),
                addresses: place.address.iter().map(ToString::to_string).collect(),
                aliases: wish.map(|wish| wish.aliases.clone()).unwrap_or_default(),
                driver_attachment_opts: wish
                    .map(|wish| pairs(&wish.driver_opts))
                    .unwrap_or_default(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::wire::fixture;

    /// The message of a network as an engine reads it.
    fn read(stored: &Network) -> proto::Network {
        let bytes = network(stored).encode_to_vec();
        proto::Network::decode(&*bytes).expect("what is encoded can be read")
    }

    #[test]
    fn an_overlay_has_all_that_an_engine_looks_into() {
        let message = read(&fixture::network());
        let state = message.driver_state.expect("an engine dereferences it");
        assert_eq!(state.name, "overlay");
        let vnis = &state.options["com.docker.network.driver.overlay.vxlanid_list"];
        assert_eq!((&**vnis, &*state.options["encrypted"]), ("4097", ""));
        let ipam = message.ipam.expect("an engine dereferences it");
        assert_eq!(ipam.driver.expect("an engine dereferences it").name, "default");
        let [four, six] = &ipam.configs[..] else { panic!("two pools") };
        assert_eq!((four.family, &*four.subnet, &*four.gateway), (4, "10.0.1.0/24", "10.0.1.1"));
        assert_eq!((&*four.range, &*four.reserved["printer"]), ("10.0.1.128/25", "10.0.1.200"));
        assert_eq!((six.family, &*six.subnet), (6, "fd00::/64"));
        let spec = message.spec.expect("names it");
        assert_eq!(spec.annotations.map(|named| named.name), Some("back".into()));
        assert!(spec.attachable && spec.internal && spec.ipv6_enabled && !spec.ingress);
        assert_eq!(spec.driver_config.map(|driver| driver.name), Some("overlay".into()));
    }

    #[test]
    fn a_network_within_a_node_has_no_pools_but_their_driver() {
        let spec = NetworkSpec::predefined("host", "host");
        let stored = Network { spec, vnis: Vec::new(), subnets: Vec::new(), ..fixture::network() };
        let message = read(&stored);
        let labels = message.spec.and_then(|spec| spec.annotations).map(|named| named.labels);
        assert_eq!(labels.expect("labels")["com.docker.swarm.predefined"], "true");
        let state = message.driver_state.expect("an engine dereferences it");
        assert_eq!((&*state.name, state.options.len()), ("host", 0));
        let ipam = message.ipam.expect("an engine dereferences it");
        assert_eq!(ipam.driver.map(|driver| driver.name), Some(String::new()));
        assert!(ipam.configs.is_empty());
    }

    #[test]
    fn a_wish_for_an_attachment_names_a_network_a_container_and_one_address_at_most() {
        let request = |target: &str, addresses: &[&str], container_id: &str| {
            let config = proto::NetworkAttachmentConfig {
                target: target.into(),
                addresses: addresses.iter().map(ToString::to_string).collect(),
                ..Default::default()
            };
            let container_id = container_id.into();
            attachment_from(&proto::AttachNetworkRequest { config: Some(config), container_id })
        };
        let wish = request("back", &[], "c0ffee").expect("all is there");
        assert_eq!((&*wish.network, wish.address, &*wish.container_id), ("back", None, "c0ffee"));
        for address in ["10.0.1.9", "10.0.1.9/24"] {
            let wish = request("back", &[address], "c0ffee").expect("an address");
            assert_eq!(wish.address, Some(Ipv4Addr::new(10, 0, 1, 9)));
        }
        for bad in [&["fd00::9"][..], &["ten"], &["10.0.1.9", "10.0.1.10"], &[""]] {
            assert_eq!(request("back", bad, "c0ffee"), Err(WishError::Address), "{bad:?}");
        }
        for bad in ["", "web", &"c".repeat(65)] {
            assert_eq!(request("back", &[], bad), Err(WishError::NoContainer), "{bad}");
        }
        assert_eq!(request("", &[], "c0ffee"), Err(WishError::NoNetwork));
        let bare = proto::AttachNetworkRequest { config: None, container_id: "c0ffee".into() };
        assert_eq!(attachment_from(&bare), Err(WishError::NoNetwork));
    }
}
