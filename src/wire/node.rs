//! Nodes: what a node is told of itself, and what it says of itself.

use super::common::{NAME_LEN_MAX, annotations, meta, platform_from, resources_from, text, whole};
use super::network::attachments;
use super::proto;
use crate::domain::node::{
    Availability, EngineDescription, IssuanceState, Node, NodeDescription, NodeState, NodeStatus,
    PluginDescription, TlsInfo,
};
use crate::domain::view::View;

/// Bytes of a host name: the longest that DNS allows.
const HOSTNAME_LEN_MAX: usize = 255;

/// Labels of an engine, from its configuration file; people write a few.
const LABELS_MAX: usize = 128;

/// Bytes of the key, and of the value, of an engine's label.
const LABEL_LEN_MAX: usize = 512;

/// Plugins of an engine. A stock engine has about twenty.
const PLUGINS_MAX: usize = 128;

/// Bytes of a node's root certificates: some ten of them, of which a rotation needs two.
const TRUST_ROOT_LEN_MAX: usize = 16 * 1024;

/// Bytes of an issuer's subject, and of its public key; the key of an RSA root has about 550.
const ISSUER_LEN_MAX: usize = 4096;

/// The message of a node, whole. On the wire every node is a worker, the manager's own included: an
/// engine that is called a manager starts a raft member of its own. What the node said of itself is
/// not repeated to it.
pub fn node(node: &Node, view: &View) -> proto::Node {
    let spec = &node.spec;
    proto::Node {
        id: node.id.to_string(),
        meta: Some(meta(&node.meta)),
        spec: Some(proto::NodeSpec {
            annotations: Some(annotations(&spec.name, &spec.labels)),
            desired_role: proto::NodeRole::Worker.into(),
            membership: proto::node_spec::Membership::Accepted.into(),
            availability: availability(spec.availability).into(),
        }),
        description: None,
        status: Some(status(&node.status)),
        manager_status: None,
        attachment: None,
        certificate: Some(certificate(node)),
        role: proto::NodeRole::Worker.into(),
        attachments: attachments(view, &node.attachments, &[]),
        vxlan_udp_port: view.cluster().map_or(0, |cluster| cluster.data_path_port),
    }
}

/// The message of a node's certificate, with the request as the node sent it: a joining engine
/// compares it byte for byte.
pub fn certificate(node: &Node) -> proto::Certificate {
    let certificate = &node.certificate;
    proto::Certificate {
        role: proto::NodeRole::Worker.into(),
        csr: certificate.csr.clone(),
        status: Some(issuance_status(certificate.state)),
        certificate: certificate.chain.clone().into_bytes(),
        cn: node.id.to_string(),
    }
}

/// Where the issuing of a certificate stands, as a message.
pub fn issuance_status(state: IssuanceState) -> proto::IssuanceStatus {
    use proto::issuance_status::State;
    let state = match state {
        IssuanceState::Pending => State::Pending,
        IssuanceState::Issued => State::Issued,
        IssuanceState::Rotate => State::Rotate,
    };
    proto::IssuanceStatus { state: state.into(), err: String::new() }
}

fn status(status: &NodeStatus) -> proto::NodeStatus {
    use proto::node_status::State;
    let state = match status.state {
        NodeState::Unknown => State::Unknown,
        NodeState::Down => State::Down,
        NodeState::Ready => State::Ready,
        NodeState::Disconnected => State::Disconnected,
    };
    proto::NodeStatus {
        state: state.into(),
        message: status.message.clone(),
        addr: status.addr.clone(),
    }
}

/// The twin of an availability.
pub fn availability(availability: Availability) -> proto::node_spec::Availability {
    match availability {
        Availability::Active => proto::node_spec::Availability::Active,
        Availability::Pause => proto::node_spec::Availability::Pause,
        Availability::Drain => proto::node_spec::Availability::Drain,
    }
}

/// The availability of this number, as asked for at a join; absent when there is none.
pub fn availability_from(number: i32) -> Option<Availability> {
    Some(match proto::node_spec::Availability::try_from(number).ok()? {
        proto::node_spec::Availability::Active => Availability::Active,
        proto::node_spec::Availability::Pause => Availability::Pause,
        proto::node_spec::Availability::Drain => Availability::Drain,
    })
}

/// What a node says of itself, within the bounds above: together they leave it less than half a
/// MiB. Texts that are only shown are cut; those that something is compared with (labels, kinds of
/// resources, certificates) are left out instead.
pub fn description(message: &proto::NodeDescription) -> NodeDescription {
    NodeDescription {
        hostname: text(&message.hostname, HOSTNAME_LEN_MAX),
        platform: message.platform.as_ref().map(platform_from).unwrap_or_default(),
        resources: message.resources.as_ref().map(resources_from).unwrap_or_default(),
        engine: message.engine.as_ref().map(engine_from).unwrap_or_default(),
        tls_info: message.tls_info.as_ref().map(tls_info_from).unwrap_or_default(),
    }
}

fn engine_from(message: &proto::EngineDescription) -> EngineDescription {
    let labels = message.labels.iter().filter_map(|(key, value)| {
        Some((whole(key, LABEL_LEN_MAX)?, whole(value, LABEL_LEN_MAX)?))
    });
    // Sorted before it is cut, so that the same labels remain every time.
    let labels: std::collections::BTreeMap<&str, &str> = labels.collect();
    EngineDescription {
        engine_version: text(&message.engine_version, NAME_LEN_MAX),
        labels: labels
            .into_iter()
            .take(LABELS_MAX)
            .map(|(key, value)| (key.into(), value.into()))
            .collect(),
        plugins: message.plugins.iter().take(PLUGINS_MAX).map(plugin_from).collect(),
    }
}

fn plugin_from(message: &proto::PluginDescription) -> PluginDescription {
    PluginDescription {
        kind: text(&message.r#type, NAME_LEN_MAX),
        name: text(&message.name, NAME_LEN_MAX),
    }
}

fn tls_info_from(message: &proto::NodeTlsInfo) -> TlsInfo {
    let bytes = |bytes: &Vec<u8>| match bytes.len() {
        0..=ISSUER_LEN_MAX => bytes.clone(),
        _ => Vec::new(),
    };
    let trust_root = str::from_utf8(&message.trust_root).ok();
    TlsInfo {
        trust_root: trust_root
            .and_then(|root| whole(root, TRUST_ROOT_LEN_MAX))
            .unwrap_or_default()
            .into(),
        cert_issuer_subject: bytes(&message.cert_issuer_subject),
        cert_issuer_public_key: bytes(&message.cert_issuer_public_key),
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::wire::{common, fixture};

    /// What an engine would send to be described as in the fixture.
    fn message() -> proto::NodeDescription {
        let described = fixture::description();
        let plugin = |plugin: &PluginDescription| proto::PluginDescription {
            r#type: plugin.kind.clone(),
            name: plugin.name.clone(),
        };
        proto::NodeDescription {
            hostname: described.hostname,
            platform: Some(common::platform(&described.platform)),
            resources: Some(common::resources(&described.resources)),
            engine: Some(proto::EngineDescription {
                engine_version: described.engine.engine_version,
                labels: common::pairs(&described.engine.labels),
                plugins: described.engine.plugins.iter().map(plugin).collect(),
            }),
            tls_info: Some(proto::NodeTlsInfo {
                trust_root: described.tls_info.trust_root.into_bytes(),
                cert_issuer_subject: described.tls_info.cert_issuer_subject,
                cert_issuer_public_key: described.tls_info.cert_issuer_public_key,
            }),
            fips: false,
            csi_info: Vec::new(),
        }
    }

    #[test]
    fn the_managers_own_node_is_a_worker_on_the_wire() {
        let stored = fixture::node();
        let message = proto::Node::decode(&*node(&stored, &fixture::view()).encode_to_vec());
        let message = message.expect("what is encoded can be read");
        let worker = proto::NodeRole::Worker as i32;
        assert_eq!((&*message.id, message.role), (stored.id.as_str(), worker));
        assert!(message.manager_status.is_none());
        let spec = message.spec.expect("sent");
        assert_eq!((spec.desired_role, spec.membership, spec.availability), (worker, 1, 2));
        let annotations = spec.annotations.expect("sent");
        assert_eq!((&*annotations.name, &*annotations.labels["a"]), ("first", "b"));
        let certificate = message.certificate.expect("sent");
        assert_eq!((&*certificate.cn, certificate.role), (stored.id.as_str(), worker));
        assert_eq!(
            (&*certificate.csr, &*certificate.certificate),
            (&b"request"[..], &b"chain"[..])
        );
        assert_eq!(certificate.status.map(|status| status.state), Some(3));
        let status = message.status.expect("sent");
        assert_eq!((status.state, &*status.message, &*status.addr), (2, "fine", "10.0.0.1"));
        assert!(message.meta.is_some());
        let [place] = &message.attachments[..] else { panic!("it has one place") };
        assert!(place.network.is_some() && place.addresses == ["10.0.1.5/24"]);
    }

    #[test]
    fn states_keep_their_numbers() {
        let states = [IssuanceState::Pending, IssuanceState::Issued, IssuanceState::Rotate];
        assert_eq!(states.map(|state| issuance_status(state).state), [2, 3, 5]);
        let cases = [(Availability::Active, 0), (Availability::Pause, 1), (Availability::Drain, 2)];
        for (known, number) in cases {
            assert_eq!(availability(known) as i32, number);
            assert_eq!(availability_from(number), Some(known));
        }
        assert_eq!([-1, 3].map(availability_from), [None; 2]);
        let states =
            [NodeState::Unknown, NodeState::Down, NodeState::Ready, NodeState::Disconnected];
        let numbers = states.map(|state| {
            status(&NodeStatus { state, message: String::new(), addr: String::new() }).state
        });
        assert_eq!(numbers, [0, 1, 2, 3]);
    }

    #[test]
    fn a_description_is_read_as_it_was_said() {
        assert_eq!(description(&message()), fixture::description());
        assert_eq!(description(&Default::default()), NodeDescription::default());
    }

    #[test]
    fn a_description_cannot_fill_the_store() {
        let mut message = message();
        message.hostname = "h".repeat(1 << 20);
        let platform = proto::Platform { architecture: "a".repeat(1000), os: "o".repeat(1000) };
        message.platform = Some(platform);
        let plugin = proto::PluginDescription { r#type: "t".repeat(1000), name: "n".repeat(1000) };
        let labels = (0..1000).map(|number| (format!("key{number:04}"), "v".repeat(LABEL_LEN_MAX)));
        let long = [("a".repeat(LABEL_LEN_MAX + 1), "v".into()), ("b".into(), "v".repeat(1000))];
        message.engine = Some(proto::EngineDescription {
            engine_version: "9".repeat(1000),
            labels: labels.chain(long).collect(),
            plugins: vec![plugin; 1000],
        });
        message.tls_info = Some(proto::NodeTlsInfo {
            trust_root: vec![b'r'; TRUST_ROOT_LEN_MAX + 1],
            cert_issuer_subject: vec![1; ISSUER_LEN_MAX + 1],
            cert_issuer_public_key: vec![2; ISSUER_LEN_MAX],
        });
        let read = description(&message);
        assert_eq!(read.hostname.len(), HOSTNAME_LEN_MAX);
        assert_eq!(read.platform.os.len(), NAME_LEN_MAX);
        assert_eq!(read.engine.engine_version.len(), NAME_LEN_MAX);
        let keys: Vec<_> = read.engine.labels.keys().map(String::as_str).collect();
        assert_eq!(keys.len(), LABELS_MAX);
        assert_eq!((keys[0], keys[LABELS_MAX - 1]), ("key0000", "key0127"));
        assert_eq!(read.engine.plugins.len(), PLUGINS_MAX);
        assert_eq!(read.engine.plugins[0].name.len(), NAME_LEN_MAX);
        assert_eq!(read.tls_info.trust_root, "");
        assert_eq!(read.tls_info.cert_issuer_subject, [0; 0]);
        assert_eq!(read.tls_info.cert_issuer_public_key.len(), ISSUER_LEN_MAX);
    }
}
