//! What the manager sends in a session: its messages, answers to heartbeats, assignments and log
//! subscriptions.
//!
//! Engines dereference several of these sub-messages without looking, beat without a pause when
//! they are told no period, and forget all managers when they are told none. So each message has
//! one constructor here, and none of them can leave out what an engine needs.

use std::net::SocketAddr;

use super::config::config_removal;
use super::proto;
use super::proto::assignment::Item;
use super::proto::assignment_change::AssignmentAction;
use super::proto::assignments_message::Type;
use super::proto::encryption_key::Algorithm;
use super::secret::secret_removal;
use super::time::duration;
use crate::domain::cluster::HEARTBEAT_PERIOD_MIN;
use crate::domain::id::{NodeId, SessionId, TaskId};
use crate::domain::network_keys::{NetworkKey, NetworkKeys};
use crate::domain::time::Nanoseconds;

/// How often a manager is picked relative to others; all are alike, and this is what engines are
/// used to.
const MANAGER_WEIGHT: i64 = 10;

/// A manager as nodes are told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manager {
    /// Its node id.
    pub node_id: NodeId,
    /// Where every engine can reach it. Never a host name: engines pass over names when they look
    /// for each other through it.
    pub addr: SocketAddr,
}

/// A message of a session. It has everything every time: an engine keeps only what the last one
/// said, and one without managers would cut it off for good, hence the separate first manager.
pub fn session_message(
    session_id: SessionId,
    node: proto::Node,
    first: &Manager,
    others: &[Manager],
    keys: Option<&NetworkKeys>,
    root_ca: &str,
) -> proto::SessionMessage {
    let managers = std::iter::once(first).chain(others);
    proto::SessionMessage {
        session_id: session_id.to_string(),
        node: Some(node),
        managers: managers.map(weighted_peer).collect(),
        network_bootstrap_keys: keys.map_or_else(Vec::new, encryption_keys),
        root_ca: root_ca.into(),
    }
}

fn encryption_keys(keys: &NetworkKeys) -> Vec<proto::EncryptionKey> {
    let of_use = |subsystem: &'static str, keys: &[NetworkKey]| -> Vec<_> {
        let key = |key: &NetworkKey| proto::EncryptionKey {
            subsystem: subsystem.into(),
            algorithm: Algorithm::Aes128Gcm.into(),
            key: key.bytes.to_vec(),
            lamport_time: key.lamport_time,
        };
        keys.iter().map(key).collect()
    };
    let mut all = of_use("networking:gossip", &keys.gossip);
    all.extend(of_use("networking:ipsec", &keys.ipsec));
    all
}

fn weighted_peer(manager: &Manager) -> proto::WeightedPeer {
    let peer = proto::Peer { node_id: manager.node_id.to_string(), addr: manager.addr.to_string() };
    proto::WeightedPeer { peer: Some(peer), weight: MANAGER_WEIGHT }
}

/// The answer to a heartbeat: when the next one is due, at least [`HEARTBEAT_PERIOD_MIN`] from now.
pub fn heartbeat(period: Nanoseconds) -> proto::HeartbeatResponse {
    proto::HeartbeatResponse { period: Some(duration(period.max(HEARTBEAT_PERIOD_MIN))) }
}

/// The first message of an assignment stream: all that the node should hold. Whatever is not in it
/// the node stops and forgets, so it is made from a loaded store only.
pub fn complete(
    results_in: u64,
    changes: Vec<proto::AssignmentChange>,
) -> proto::AssignmentsMessage {
    proto::AssignmentsMessage {
        r#type: Type::Complete.into(),
        applies_to: String::new(),
        results_in: results_in.to_string(),
        changes,
    }
}

/// A later message of an assignment stream. It applies to what the message before it resulted in;
/// a gap in this chain makes an engine ask hundreds of times a second.
pub fn incremental(
    applies_to: u64,
    results_in: u64,
    changes: Vec<proto::AssignmentChange>,
) -> proto::AssignmentsMessage {
    proto::AssignmentsMessage {
        r#type: Type::Incremental.into(),
        applies_to: applies_to.to_string(),
        results_in: results_in.to_string(),
        changes,
    }
}

/// Hands a task to the node, or tells it that its desired state has grown. The task is whole both
/// times.
pub fn update_task(task: proto::Task) -> proto::AssignmentChange {
    change(AssignmentAction::Update, Item::Task(task))
}

/// Has the node forget a task; one that runs is stopped without a report.
pub fn remove_task(id: TaskId) -> proto::AssignmentChange {
    let named = proto::Task { id: id.to_string(), ..Default::default() };
    change(AssignmentAction::Remove, Item::Task(named))
}

/// Hands a secret to the node, before or together with the first task that needs it.
pub fn update_secret(secret: proto::Secret) -> proto::AssignmentChange {
    change(AssignmentAction::Update, Item::Secret(secret))
}

/// True when the payload of a secret or config is in a message.
pub fn has_payload(message: &proto::AssignmentsMessage) -> bool {
    let mut items =
        message.changes.iter().filter_map(|change| change.assignment.as_ref()?.item.as_ref());
    items.any(|item| match item {
        Item::Secret(secret) => secret.spec.is_some(),
        Item::Config(config) => config.spec.is_some(),
        _ => false,
    })
}

/// Takes a secret back from the node.
pub fn remove_secret(id: &str) -> proto::AssignmentChange {
    change(AssignmentAction::Remove, Item::Secret(secret_removal(id)))
}

/// Hands a config to the node, before or together with the first task that needs it.
pub fn update_config(config: proto::Config) -> proto::AssignmentChange {
    change(AssignmentAction::Update, Item::Config(config))
}

/// Takes a config back from the node.
pub fn remove_config(id: &str) -> proto::AssignmentChange {
    change(AssignmentAction::Remove, Item::Config(config_removal(id)))
}

fn change(action: AssignmentAction, item: Item) -> proto::AssignmentChange {
    let assignment = proto::Assignment { item: Some(item) };
    proto::AssignmentChange { assignment: Some(assignment), action: action.into() }
}

/// Subscribes to logs of a node, or ends that when `close` is set. Selector and options go with
/// both: an engine that misses them dies.
pub fn log_subscription(
    id: &str,
    selector: proto::LogSelector,
    options: proto::LogSubscriptionOptions,
    close: bool,
) -> proto::SubscriptionMessage {
    proto::SubscriptionMessage {
        id: id.into(),
        selector: Some(selector),
        options: Some(options),
        close,
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::wire::{fixture, node, secret, task};

    fn managers() -> [Manager; 2] {
        ["10.0.0.1:2377", "[fd00::1]:2377"].map(|addr| Manager {
            node_id: fixture::node_id(),
            addr: addr.parse().expect("an address"),
        })
    }

    #[test]
    fn a_session_message_always_names_a_manager() {
        let [first, second] = managers();
        let id = SessionId::derive([2; 17]);
        let node = node::node(&fixture::node(), &fixture::view());
        let message = session_message(id, node.clone(), &first, &[], None, "root\n");
        assert_eq!(message.session_id, id.as_str());
        assert!(message.node == Some(node.clone()));
        assert_eq!(message.managers.len(), 1);
        assert_eq!(message.root_ca, b"root\n");

        let message = session_message(id, node, &first, &[second], None, "root\n");
        let peers = message.managers.into_iter().map(|manager| {
            assert_eq!(manager.weight, 10);
            manager.peer.expect("an engine dereferences it")
        });
        let peers: Vec<_> = peers.map(|peer| (peer.node_id, peer.addr)).collect();
        let id = fixture::node_id().to_string();
        assert_eq!(peers, [(id.clone(), "10.0.0.1:2377".into()), (id, "[fd00::1]:2377".into())]);
    }

    #[test]
    fn a_session_message_carries_the_keys_of_overlay_networks() {
        let key = |byte, lamport_time| NetworkKey { bytes: [byte; 16], lamport_time };
        let keys = NetworkKeys {
            gossip: vec![key(1, 7), key(2, 9)],
            ipsec: vec![key(3, 8)],
            made_at: crate::domain::time::Timestamp::ZERO,
        };
        let [first, _] = managers();
        let id = SessionId::derive([2; 17]);
        let node = node::node(&fixture::node(), &fixture::view());
        let message = session_message(id, node, &first, &[], Some(&keys), "root\n");
        let sent = message.network_bootstrap_keys.into_iter();
        let sent: Vec<_> = sent.map(|key| (key.subsystem, key.key[0], key.lamport_time)).collect();
        let (gossip, ipsec) = ("networking:gossip".to_owned(), "networking:ipsec".to_owned());
        assert_eq!(sent, [(gossip.clone(), 1, 7), (gossip, 2, 9), (ipsec, 3, 8)]);
    }

    #[test]
    fn a_heartbeat_never_comes_in_a_busy_loop() {
        let period = |nanos| heartbeat(nanos).period.map(|span| (span.seconds, span.nanos));
        for short in [i64::MIN, -1, 0, 5, 999_999_999] {
            assert_eq!(period(short), Some((1, 0)), "{short}");
        }
        assert_eq!(period(5_000_000_001), Some((5, 1)));
    }

    #[test]
    fn assignments_form_a_chain() {
        let first = complete(1, Vec::new());
        assert!(first.r#type() == Type::Complete);
        assert_eq!((&*first.applies_to, &*first.results_in), ("", "1"));
        let second = incremental(1, 2, vec![remove_secret("id")]);
        assert!(second.r#type() == Type::Incremental);
        assert_eq!((second.applies_to, &*second.results_in), (first.results_in, "2"));
        assert_eq!(second.changes.len(), 1);
    }

    #[test]
    fn every_change_has_its_object_and_action() {
        let (stored_task, stored_secret) = (fixture::task(), fixture::secret());
        let (task, secret) = (
            task::task(&stored_task, &fixture::view()),
            secret::secret_as(&stored_secret, stored_secret.id.to_string(), vec![1]),
        );
        let removed_task = proto::Task { id: stored_task.id.to_string(), ..Default::default() };
        let cases = [
            (update_task(task.clone()), 0, Item::Task(task)),
            (update_secret(secret.clone()), 0, Item::Secret(secret)),
            (remove_task(stored_task.id), 1, Item::Task(removed_task)),
            (remove_secret("a.b"), 1, Item::Secret(secret_removal("a.b"))),
        ];
        for (change, action, item) in cases {
            assert_eq!(change.action, action);
            let read = proto::AssignmentChange::decode(&*change.encode_to_vec());
            let read = read.expect("what is encoded can be read");
            assert!(read.assignment.and_then(|assignment| assignment.item) == Some(item));
        }
    }

    #[test]
    fn a_log_subscription_has_selector_and_options_even_when_it_closes() {
        for close in [false, true] {
            let message = log_subscription("id", Default::default(), Default::default(), close);
            let read = proto::SubscriptionMessage::decode(&*message.encode_to_vec());
            let read = read.expect("what is encoded can be read");
            assert!(read.selector.is_some() && read.options.is_some());
            assert_eq!((&*read.id, read.close), ("id", close));
        }
    }
}
