//! The ports of the routing mesh: one service each.

use std::collections::BTreeSet;

use crate::domain::endpoint::{Endpoint, PortConfig, Protocol, PublishMode};
use crate::domain::id::ServiceId;
use crate::domain::service::Service;
use crate::domain::view::View;

/// The ports that are given to services that name none.
pub const DYNAMIC: std::ops::RangeInclusive<u32> = 30_000..=32_767;

/// Ports that were given out within one step.
#[derive(Default)]
pub(super) struct Ports {
    given: BTreeSet<(Protocol, u32)>,
    /// Protocols for which nothing was free when last looked.
    full: BTreeSet<Protocol>,
}

impl Ports {
    /// The ports of a service with none left open. Those that it has it keeps.
    ///
    /// # Errors
    /// A port is another service's, or none is left; in words for people.
    pub(super) fn give(
        &mut self,
        view: &View,
        service: &Service,
    ) -> Result<Vec<PortConfig>, String> {
        let wished = service.spec.endpoint_spec.as_ref().map_or(&[][..], |wish| &wish.ports);
        let mut ports = wished.to_vec();
        let mut own = BTreeSet::new();
        let meshed = |port: &PortConfig| port.publish_mode == PublishMode::Ingress;
        let on_hosts: BTreeSet<_> = wished
            .iter()
            .filter(|port| !meshed(port))
            .map(|port| (port.protocol, port.published_port))
            .collect();
        for port in ports.iter().filter(|port| meshed(port) && port.published_port != 0) {
            let place = (port.protocol, port.published_port);
            if let Some(other) = owner(view, place.0, place.1, service.id) {
                return Err(format!(
                    "port '{}' is already in use by service '{}' ({}) as an ingress port",
                    port.published_port, other.spec.name, other.id
                ));
            }
            if self.given.contains(&place) {
                return Err(format!("port '{}' is already in use", port.published_port));
            }
            own.insert(place);
        }
        for port in ports.iter_mut().filter(|port| meshed(port) && port.published_port == 0) {
            let free = |number: u32| {
                let place = (port.protocol, number);
                !own.contains(&place)
                    && !on_hosts.contains(&place)
                    && !self.given.contains(&place)
                    && view.services_of_port(place.0, number).all(|other| other.id == service.id)
            };
            let kept = service.endpoint.as_ref().and_then(|before| kept(before, port));
            let is_full = self.full.contains(&port.protocol);
            let found = kept
                .filter(|number| free(*number))
                .or_else(|| DYNAMIC.clone().filter(|_| !is_full).find(|number| free(*number)));
            let Some(number) = found else {
                let protocol = port.protocol;
                self.full.insert(protocol);
                return Err(format!(
                    "no free {protocol} port is left of {} to {}",
                    DYNAMIC.start(),
                    DYNAMIC.end()
                ));
            };
            port.published_port = number;
            own.insert((port.protocol, number));
        }
        self.given.extend(own);
        Ok(ports)
    }
}

/// The number that an open port was given before.
fn kept(before: &Endpoint, port: &PortConfig) -> Option<u32> {
    let is_same = |other: &&PortConfig| {
        other.publish_mode == PublishMode::Ingress
            && other.protocol == port.protocol
            && other.target_port == port.target_port
            && other.name == port.name
    };
    before.ports.iter().find(is_same).map(|port| port.published_port)
}

/// The other service that has a port of the routing mesh.
fn owner(view: &View, protocol: Protocol, number: u32, own: ServiceId) -> Option<&Service> {
    let has = |service: &Service| {
        let ports = service.endpoint.as_ref().map_or(&[][..], |endpoint| &endpoint.ports);
        ports.iter().any(|port| {
            let same = port.protocol == protocol && port.published_port == number;
            same && port.publish_mode == PublishMode::Ingress
        })
    };
    let mut others = view.services_of_port(protocol, number).map(|service| &**service);
    others.find(|service| service.id != own && has(service))
}
