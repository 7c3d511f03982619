//! Endpoints and published ports.

use super::common::{NAME_LEN_MAX, text};
use super::proto;
use crate::domain::endpoint::{
    Endpoint, EndpointSpec, NetworkAttachmentConfig, PortConfig, Protocol, PublishMode,
    ResolutionMode,
};

/// The endpoint of a task: what its spec says, and what its service was given. Ports that were given
/// for another spec do not count. A host-mode port that is 0 is chosen by the engine.
pub(super) fn endpoint(
    spec: Option<&EndpointSpec>,
    given: Option<&Endpoint>,
) -> Option<proto::Endpoint> {
    if spec.is_none() && given.is_none() {
        return None;
    }
    let own = given.filter(|given| given.spec.as_ref() == spec).map(|given| &given.ports);
    let ports = own.or(spec.map(|spec| &spec.ports)).map_or(&[][..], Vec::as_slice);
    let places = given.map_or(&[][..], |given| given.addresses());
    let virtual_ips = places.iter().filter_map(|place| {
        let addr = place.address?.to_string();
        Some(proto::endpoint::VirtualIp { network_id: place.network.to_string(), addr })
    });
    Some(proto::Endpoint {
        spec: Some(endpoint_spec(spec.unwrap_or(&EndpointSpec::default()))),
        ports: ports.iter().map(port).collect(),
        virtual_ips: virtual_ips.collect(),
    })
}

fn endpoint_spec(spec: &EndpointSpec) -> proto::EndpointSpec {
    use proto::endpoint_spec::ResolutionMode as Twin;
    let mode = match spec.mode {
        ResolutionMode::Vip => Twin::Vip,
        ResolutionMode::DnsRoundRobin => Twin::Dnsrr,
    };
    proto::EndpointSpec { mode: mode.into(), ports: spec.ports.iter().map(port).collect() }
}

/// The message of a port.
pub(super) fn port(port: &PortConfig) -> proto::PortConfig {
    use proto::port_config as twin;
    let protocol = match port.protocol {
        Protocol::Tcp => twin::Protocol::Tcp,
        Protocol::Udp => twin::Protocol::Udp,
        Protocol::Sctp => twin::Protocol::Sctp,
    };
    let publish_mode = match port.publish_mode {
        PublishMode::Ingress => twin::PublishMode::Ingress,
        PublishMode::Host => twin::PublishMode::Host,
    };
    proto::PortConfig {
        name: port.name.clone(),
        protocol: protocol.into(),
        target_port: port.target_port,
        published_port: port.published_port,
        publish_mode: publish_mode.into(),
    }
}

/// A port that a node reports; absent when its protocol, its mode or a number is none.
pub(super) fn port_from(message: &proto::PortConfig) -> Option<PortConfig> {
    use proto::port_config as twin;
    let protocol = match twin::Protocol::try_from(message.protocol).ok()? {
        twin::Protocol::Tcp => Protocol::Tcp,
        twin::Protocol::Udp => Protocol::Udp,
        twin::Protocol::Sctp => Protocol::Sctp,
    };
    let publish_mode = match twin::PublishMode::try_from(message.publish_mode).ok()? {
        twin::PublishMode::Ingress => PublishMode::Ingress,
        twin::PublishMode::Host => PublishMode::Host,
    };
    Some(PortConfig {
        name: text(&message.name, NAME_LEN_MAX),
        protocol,
        target_port: u16::try_from(message.target_port).ok()?.into(),
        published_port: u16::try_from(message.published_port).ok()?.into(),
        publish_mode,
    })
}

/// The wish of a task for a network.
pub(super) fn attachment(config: &NetworkAttachmentConfig) -> proto::NetworkAttachmentConfig {
    proto::NetworkAttachmentConfig {
        target: config.target.clone(),
        aliases: config.aliases.clone(),
        addresses: Vec::new(),
        driver_attachment_opts: super::common::pairs(&config.driver_opts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::network::Attachment;

    #[test]
    fn ports_survive_both_ways_with_their_defaults_applied() {
        let plain = PortConfig { target_port: 80, ..Default::default() };
        let read = port_from(&port(&plain)).expect("a port of this room");
        assert_eq!((read.protocol, read.publish_mode), (Protocol::Tcp, PublishMode::Ingress));

        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            for publish_mode in [PublishMode::Ingress, PublishMode::Host] {
                let port_config = PortConfig {
                    name: "web".into(),
                    protocol,
                    target_port: 80,
                    published_port: 8080,
                    publish_mode,
                };
                assert_eq!(port_from(&port(&port_config)), Some(port_config));
            }
        }
    }

    #[test]
    fn ports_that_cannot_be_are_not_read() {
        let good = port(&PortConfig { target_port: 80, ..Default::default() });
        assert!(port_from(&good).is_some());
        let cases = [
            proto::PortConfig { protocol: 7, ..good.clone() },
            proto::PortConfig { publish_mode: -1, ..good.clone() },
            proto::PortConfig { target_port: 65_536, ..good.clone() },
            proto::PortConfig { published_port: u32::MAX, ..good.clone() },
        ];
        assert!(cases.iter().all(|bad| port_from(bad).is_none()));
        let long = proto::PortConfig { name: "n".repeat(NAME_LEN_MAX + 1), ..good };
        assert_eq!(port_from(&long).map(|port| port.name.len()), Some(NAME_LEN_MAX));
    }

    #[test]
    fn an_endpoint_carries_its_ports_twice() {
        let spec = EndpointSpec {
            mode: ResolutionMode::DnsRoundRobin,
            ports: vec![PortConfig {
                target_port: 80,
                published_port: 8080,
                publish_mode: PublishMode::Host,
                ..Default::default()
            }],
        };
        let message = endpoint(Some(&spec), None).expect("there is a spec");
        let inner = message.spec.expect("an endpoint has its spec");
        assert!(inner.mode() == proto::endpoint_spec::ResolutionMode::Dnsrr);
        assert!(inner.ports == message.ports);
        assert_eq!(message.ports[0].published_port, 8080);
        assert!(message.virtual_ips.is_empty());
        assert!(endpoint(None, None).is_none());
    }

    #[test]
    fn an_endpoint_has_the_ports_and_addresses_that_were_given() {
        let open = PortConfig { target_port: 80, ..Default::default() };
        let spec = EndpointSpec { ports: vec![open.clone()], ..Default::default() };
        let network = crate::wire::fixture::network().id;
        let mut given = Endpoint {
            spec: Some(spec.clone()),
            networks: vec![network.to_string()],
            ports: vec![PortConfig { published_port: 30_000, ..open }],
            virtual_ips: vec![Attachment { network, address: "10.0.1.2/24".parse().ok() }],
        };
        let message = endpoint(Some(&spec), Some(&given)).expect("there is a spec");
        assert_eq!(message.ports[0].published_port, 30_000);
        assert_eq!(message.spec.map(|spec| spec.ports[0].published_port), Some(0));
        let virtual_ip = &message.virtual_ips[0];
        assert_eq!((&*virtual_ip.network_id, &*virtual_ip.addr), (network.as_str(), "10.0.1.2/24"));

        given.spec = None;
        let message = endpoint(Some(&spec), Some(&given)).expect("there is a spec");
        assert_eq!(message.ports[0].published_port, 0, "they are of another spec");
        given.ports.clear();
        let message = endpoint(None, Some(&given)).expect("there are addresses");
        assert!(message.spec.is_some() && message.ports.is_empty());
        assert_eq!(message.virtual_ips.len(), 1);
    }
}
