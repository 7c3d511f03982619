//! How services are reached: their ports, and a virtual address on each of their networks.

use super::pool::Pools;
use super::port::Ports;
use crate::domain::endpoint::{Endpoint, EndpointSpec, ResolutionMode};
use crate::domain::id::NetworkId;
use crate::domain::network::{Attachment, Network};
use crate::domain::service::Service;
use crate::domain::view::View;

/// What a service that publishes in ingress mode needs.
pub(crate) const NO_INGRESS: &str =
    "service needs ingress network, but no ingress network is present";

/// The endpoint that the spec of a service asks for. What it has it keeps.
///
/// # Errors
/// Something is not to be had; in words for people.
pub(super) fn give(
    service: &Service,
    pools: &mut Pools<'_>,
    ports: &mut Ports,
) -> Result<Endpoint, String> {
    let view = pools.view();
    let spec = service.spec.endpoint_spec.clone();
    let targets = service.spec.task_template.networks.iter();
    let networks: Vec<String> = targets.map(|network| network.target.clone()).collect();
    let places = places(view, service)?;
    let virtual_ips = give_virtual_ips(service, &places, pools)?;
    match ports.give(view, service) {
        Ok(ports) => Ok(Endpoint { spec, networks, ports, virtual_ips }),
        Err(why) => {
            let before = service.endpoint.as_ref().map_or(&[][..], |before| &before.virtual_ips);
            let fresh: Vec<Attachment> =
                virtual_ips.into_iter().filter(|place| !before.contains(place)).collect();
            pools.give_back(&fresh);
            Err(why)
        }
    }
}

fn give_virtual_ips<'v>(
    service: &Service,
    networks: &[&'v Network],
    pools: &mut Pools<'v>,
) -> Result<Vec<Attachment>, String> {
    let mode = service.spec.endpoint_spec.as_ref().map_or_else(Default::default, |wish| wish.mode);
    let before = service.endpoint.as_ref().map_or(&[][..], |before| &before.virtual_ips);
    if mode == ResolutionMode::DnsRoundRobin {
        // Engines go on resolving its name to the address that it had: nobody else may get it.
        let is_kept =
            |place: &&Attachment| networks.iter().any(|network| network.id == place.network);
        return Ok(before.iter().filter(is_kept).copied().collect());
    }
    let mut given: Vec<Attachment> = Vec::with_capacity(networks.len());
    let mut fresh = Vec::new();
    for network in networks {
        if let Some(kept) = before.iter().find(|place| place.network == network.id) {
            given.push(*kept);
            continue;
        }
        match pools.take(network) {
            Ok(place) => {
                given.push(place);
                fresh.push(place);
            }
            Err(why) => {
                pools.give_back(&fresh);
                return Err(why);
            }
        }
    }
    Ok(given)
}

/// The overlay networks that a service has an address on: those it is attached to, and that of the
/// routing mesh when it publishes a port there.
fn places<'v>(view: &'v View, service: &Service) -> Result<Vec<&'v Network>, String> {
    let wish = service.spec.endpoint_spec.as_ref();
    let mut networks: Vec<&Network> = Vec::new();
    if wish.is_some_and(EndpointSpec::is_in_mesh) {
        networks.push(view.ingress().ok_or(NO_INGRESS)?);
    }
    for attachment in &service.spec.task_template.networks {
        let network = find(view, &attachment.target)?;
        if network.spec.is_overlay() && networks.iter().all(|known| known.id != network.id) {
            networks.push(network);
        }
    }
    Ok(networks)
}

/// The network that a stored attachment names by its id.
///
/// # Errors
/// It is gone; in words for people.
pub(super) fn find<'v>(view: &'v View, target: &str) -> Result<&'v Network, String> {
    let id: Option<NetworkId> = target.parse().ok();
    let network = id.and_then(|id| view.network(id)).filter(|network| !network.is_removed);
    network.map(|network| &**network).ok_or_else(|| format!("network {target} not found"))
}
