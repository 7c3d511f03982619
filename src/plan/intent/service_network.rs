//! The networks and ports of a service's spec: which networks it means, and whether what it asks for
//! is there and free.

use std::sync::Arc;

use crate::domain::endpoint::{PortConfig, PublishMode};
use crate::domain::id::ServiceId;
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::service::{Service, ServiceSpec};
use crate::domain::view::View;
use crate::plan::allocator;

/// The same spec with the id of each network in place of what the user wrote. Where old clients put
/// them they stay, for those to find them again, but what counts is where new clients do.
///
/// # Errors
/// A network is not there.
pub fn resolve(view: &View, mut spec: ServiceSpec) -> Result<ServiceSpec, Refusal> {
    if spec.networks.is_empty() && spec.task_template.networks.is_empty() {
        return Ok(spec);
    }
    let template = Arc::make_mut(&mut spec.task_template);
    if template.networks.is_empty() {
        template.networks.clone_from(&spec.networks);
    }
    for network in &mut template.networks {
        network.target = view.resolve_network(&network.target)?.id.to_string();
    }
    if !spec.networks.is_empty() {
        spec.networks.clone_from(&template.networks);
    }
    Ok(spec)
}

/// Checks that the networks of a spec are there and may be used, and that its ports are free.
///
/// # Errors
/// The first that is not.
pub fn check(view: &View, own: ServiceId, spec: &ServiceSpec) -> Result<(), Refusal> {
    for network in &spec.task_template.networks {
        let network = view.resolve_network(&network.target)?;
        if network.spec.ingress {
            let name = &network.spec.name;
            return Err(Refusal::invalid(format!(
                "Service cannot be explicitly attached to the ingress network {name:?}"
            )));
        }
    }
    let Some(wish) = &spec.endpoint_spec else { return Ok(()) };
    if wish.is_in_mesh() && view.ingress().is_none() {
        return Err(Refusal::store(Reason::Precondition, allocator::NO_INGRESS));
    }
    wish.ports.iter().try_for_each(|port| check_port(view, own, port))
}

/// Refuses a port that another service has: of the routing mesh in any mode, of the nodes in that
/// of the mesh. Which node has a port of its own free is for the scheduler to see.
fn check_port(view: &View, own: ServiceId, port: &PortConfig) -> Result<(), Refusal> {
    if port.published_port == 0 {
        return Ok(());
    }
    let (protocol, number) = (port.protocol, port.published_port);
    for other in view.services_of_port(protocol, number).filter(|other| other.id != own) {
        let how = match mode_of(other, port) {
            PublishMode::Ingress => "an ingress port",
            PublishMode::Host if port.publish_mode == PublishMode::Host => continue,
            PublishMode::Host => "a host-published port",
        };
        let message = format!(
            "port '{number}' is already in use by service '{}' ({}) as {how}",
            other.spec.name, other.id
        );
        return Err(Refusal::invalid(message));
    }
    Ok(())
}

/// The mode in which a service publishes a port.
fn mode_of(service: &Service, port: &PortConfig) -> PublishMode {
    let wished = service.spec.endpoint_spec.as_ref().map_or(&[][..], |wish| &wish.ports);
    let given = service.endpoint.as_ref().map_or(&[][..], |endpoint| &endpoint.ports);
    let is_same = |other: &&PortConfig| {
        other.protocol == port.protocol && other.published_port == port.published_port
    };
    let mut modes = wished.iter().chain(given).filter(is_same).map(|port| port.publish_mode);
    match modes.any(|mode| mode == PublishMode::Ingress) {
        true => PublishMode::Ingress,
        false => PublishMode::Host,
    }
}
