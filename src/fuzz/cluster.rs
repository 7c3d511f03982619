//! Requests of clients and messages of nodes, from their bytes to what the planners make of them.

use std::sync::atomic::{AtomicU64, Ordering};

use prost::Message;

use super::bytes::Bytes;
use crate::domain::change::{Change, SealedData};
use crate::domain::cluster::{Cluster, ClusterSpec, JoinSecrets};
use crate::domain::config::ConfigSpec;
use crate::domain::id::{
    ClusterId, ConfigId, Entropy, NetworkId, NodeId, SecretId, ServiceId, Stream, TaskId,
};
use crate::domain::intent::{AuthFrom, Intent, NewSwarm, TaskReport};
use crate::domain::meta::Stamp;
use crate::domain::node::{
    Availability, Certificate, IssuanceState, Node, NodeRole, NodeSpec, NodeState, NodeStatus,
};
use crate::domain::secret::SecretSpec;
use crate::domain::time::Timestamp;
use crate::domain::view::View;
use crate::http::fuzz::{assert_reads_again, body, network_spec, service_spec};
use crate::plan::settle::{Dirty, ROUNDS_MAX, STAGES, step};
use crate::plan::{Context, intent};
use crate::wire;
use crate::wire::proto;

/// A moment in 2027.
pub(super) fn now() -> Timestamp {
    Timestamp::from_unix_nanos(1_800_000_000_000_000_000)
}

/// The body of a request, decided on a cluster of one node, and what its tasks look like on the wire.
pub fn request(data: &[u8]) {
    let mut data = Bytes(data);
    let (kind, minor) = (data.number() % 7, data.number());
    let mut world = World::new();
    let entropy = &world.entropy;
    let intent = match kind {
        0 | 1 => service_spec(data.part(), minor).map(|spec| {
            assert_reads_again(&spec);
            Intent::CreateService { id: ServiceId::make(entropy), spec, registry_auth: None }
        }),
        2 => body::<SecretSpec>(data.0).map(|spec| Intent::CreateSecret {
            id: SecretId::make(entropy),
            spec,
            payload: None,
            payload_len: data.0.len(),
        }),
        3 => body::<ConfigSpec>(data.0).map(|spec| Intent::CreateConfig {
            id: ConfigId::make(entropy),
            spec,
            payload: None,
            payload_len: data.0.len(),
        }),
        4 => network_spec(data.0)
            .map(|spec| Intent::CreateNetwork { id: NetworkId::make(entropy), spec }),
        5 => body::<NodeSpec>(data.0).map(|spec| {
            let node = node();
            Intent::UpdateNode { id: node.id, version: node.meta.version, spec }
        }),
        _ => {
            body::<ClusterSpec>(data.0);
            None
        }
    };
    let Some(intent) = intent else { return };
    if !world.submit(intent) {
        return;
    }
    world.settle();
    // The rest of the bytes are the spec that follows.
    let made = world.view.services().next().map(|service| (service.id, service.meta.version));
    if let (Some((id, version)), Some(spec)) = (made, service_spec(data.0, minor)) {
        let auth_from = AuthFrom::default();
        world.submit(Intent::UpdateService { id, version, spec, registry_auth: None, auth_from });
        world.settle();
    }
    for task in world.view.tasks() {
        let bytes = wire::task::task(task, &world.view).encode_to_vec();
        let again = proto::Task::decode(&*bytes).expect("what was encoded can be read");
        assert_eq!(again.id, task.id.as_str());
    }
}

/// A message that a node sends, and what is made of it.
pub fn protobuf(data: &[u8]) {
    let mut data = Bytes(data);
    let kind = data.number() % 8;
    match kind {
        0 => {
            let Ok(message) = proto::SessionRequest::decode(data.0) else { return };
            let description = wire::node::description(&message.description.unwrap_or_default());
            assert_reads_again(&description);
            let mut world = World::new();
            let (id, addr) = (node().id, "10.0.0.9".to_owned());
            let description = Box::new(description);
            assert!(world.submit(Intent::RegisterNode { id, description, addr, is_fresh: true }));
            world.settle();
            wire::node::node(world.view.node(id).expect("it registered"), &world.view);
        }
        1 => reports(data.0),
        2 => {
            let Ok(message) = proto::AttachNetworkRequest::decode(data.0) else { return };
            let Ok(wish) = wire::network::attachment_from(&message) else { return };
            let mut world = World::new();
            let (id, node) = (TaskId::make(&world.entropy), node().id);
            world.submit(Intent::AttachNetwork { id, node, wish });
            world.settle();
        }
        3 => {
            let Ok(message) = proto::PublishLogsMessage::decode(data.0) else { return };
            for line in message.messages {
                let sent = line.data.len();
                if let Ok(line) = wire::log::line_from(line, node().id) {
                    assert_eq!((line.node, line.data.len()), (node().id, sent));
                }
            }
        }
        4 => drop(proto::IssueNodeCertificateRequest::decode(data.0)),
        5 => drop(proto::HeartbeatRequest::decode(data.0)),
        6 => drop(proto::AssignmentsRequest::decode(data.0)),
        _ => drop(proto::NodeCertificateStatusRequest::decode(data.0)),
    }
}

/// Reports of a task that the node has: nothing moves it back.
fn reports(bytes: &[u8]) {
    let Ok(message) = proto::UpdateTaskStatusRequest::decode(bytes) else { return };
    let mut world = World::new();
    let spec = service_spec(br#"{"Name":"s","TaskTemplate":{"ContainerSpec":{"Image":"i"}}}"#, 41);
    let (id, spec) = (ServiceId::make(&world.entropy), spec.expect("a spec"));
    assert!(world.submit(Intent::CreateService { id, spec, registry_auth: None }));
    world.settle();
    let task = world.view.tasks_of_service(id).next().expect("a task").clone();
    let statuses = message.updates.iter().filter_map(|update| update.status.as_ref());
    for status in statuses.filter_map(|status| wire::task::status(status, now())) {
        assert_reads_again(&status);
        let before = world.view.task(task.id).map(|task| task.status.state);
        let report = TaskReport { node: node().id, task: task.id, status };
        assert!(world.submit(Intent::ReportTasks { reports: vec![report] }));
        let after = world.view.task(task.id).map(|task| task.status.state);
        assert!(after >= before, "a task moved back");
    }
    world.settle();
}

/// Bytes that never repeat.
#[derive(Default)]
pub(super) struct Counting(AtomicU64);

impl Entropy for Counting {
    fn fill(&self, _: Stream, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let number = self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            chunk.copy_from_slice(&number.to_be_bytes()[..chunk.len()]);
        }
    }
}

/// A cluster of one node with a secret named `s`.
struct World {
    view: View,
    entropy: Counting,
    dirty: Dirty,
}

impl World {
    fn new() -> World {
        let view = View::default();
        let mut world = World { view, entropy: Counting::default(), dirty: Dirty::all() };
        let signing_key = SealedData { bytes: Vec::new(), key: Vec::new() };
        let swarm = NewSwarm { cluster: cluster(), node: node(), signing_key };
        assert!(world.submit(Intent::InitSwarm(Box::new(swarm))));
        world
    }

    /// Decides an intent. False when it is refused.
    fn submit(&mut self, intent: Intent) -> bool {
        let ctx = Context { now: now(), entropy: &self.entropy };
        let Ok(changes) = intent::decide(&self.view, intent, ctx) else { return false };
        self.apply(&changes);
        true
    }

    fn apply(&mut self, changes: &[Change]) {
        let mut version = self.view.version();
        version.index += 1;
        for changed in self.view.apply(changes, Stamp { version, now: now() }) {
            self.dirty.add(&changed);
        }
    }

    /// Runs the planners until they are content, which they have to be in the end.
    fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut is_content = true;
            for stage in STAGES {
                let ctx = Context { now: now(), entropy: &self.entropy };
                let changes = step(stage, &self.view, &self.dirty, ctx).changes;
                is_content &= changes.is_empty();
                self.apply(&changes);
            }
            if is_content {
                self.dirty = Dirty::default();
                return;
            }
        }
        panic!("the planners are never content");
    }
}

/// The node of every cluster here.
pub(super) fn node() -> Node {
    Node {
        id: NodeId::derive([5; 17]),
        meta: Default::default(),
        spec: NodeSpec {
            name: String::new(),
            labels: Default::default(),
            role: NodeRole::Manager,
            availability: Availability::Active,
        },
        description: Some(Default::default()),
        status: NodeStatus {
            state: NodeState::Ready,
            message: String::new(),
            addr: "10.0.0.1".into(),
        },
        down_since: None,
        manager: None,
        certificate: Certificate {
            csr: Vec::new(),
            state: IssuanceState::Issued,
            chain: String::new(),
            not_after: 0,
        },
        attachments: Vec::new(),
    }
}

/// A cluster as it was initialised.
pub(super) fn cluster() -> Cluster {
    Cluster {
        id: ClusterId::derive([6; 17]),
        meta: Default::default(),
        spec: ClusterSpec::default(),
        root_ca: "root\n".into(),
        root_rotation: None,
        cross_signed: String::new(),
        tls_info: Default::default(),
        join_secrets: JoinSecrets { worker: "1".repeat(25), manager: "2".repeat(25) },
        manager: node().id,
        listen_addr: "0.0.0.0:2377".into(),
        advertise_addr: "10.0.0.1:2377".into(),
        default_addr_pool: Vec::new(),
        subnet_size: 24,
        data_path_port: 4789,
        network_keys: None,
        autolock: Default::default(),
        barred: Default::default(),
    }
}
