//! A door's inside without the door: a manager that leads, and a node in a session.

use std::sync::Arc;

use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::feed::Feed;
use super::hub::Hub;
use crate::domain::change::Change;
use crate::domain::config::{Config, ConfigSpec};
use crate::domain::container::{ConfigReference, ContainerSpec};
use crate::domain::id::{ConfigId, NodeId, SecretId, ServiceId, TaskId};
use crate::domain::meta::Version;
use crate::domain::network::Attachment;
use crate::domain::node::{Availability, Node, NodeRole, NodeSpec, NodeState, NodeStatus};
use crate::domain::secret::{Fingerprint, Secret, SecretReference, SecretSpec};
use crate::domain::service::{RegistryAuth, TaskSpec};
use crate::domain::task::{Task, TaskStatus};
use crate::domain::task_state::TaskState;
use crate::domain::time::Timestamp;
use crate::manager::fixture::Fixture;
use crate::manager::{Manager, Session};

pub fn task_id(number: u8) -> TaskId {
    TaskId::derive([number; 17])
}

pub fn secret_id(number: u8) -> SecretId {
    SecretId::derive([number; 17])
}

pub fn config_id(number: u8) -> ConfigId {
    ConfigId::derive([number; 17])
}

/// A config without data.
pub fn config(number: u8) -> Change {
    let spec = ConfigSpec { name: format!("c{number}"), ..Default::default() };
    let fingerprint = Fingerprint([number; 32]);
    Config {
        revisions: Default::default(),
        id: config_id(number),
        meta: Default::default(),
        spec,
        fingerprint,
    }
    .into()
}

/// The same task, with references to these configs.
pub fn with_configs(mut task: Task, configs: &[u8]) -> Task {
    let reference = |number: &u8| ConfigReference {
        config_id: config_id(*number).to_string(),
        config_name: format!("c{number}"),
        ..Default::default()
    };
    let container = Arc::make_mut(&mut task.spec).container_spec.get_or_insert_default();
    container.configs = configs.iter().map(reference).collect();
    task
}

/// A secret without a payload.
pub fn secret(number: u8) -> Change {
    let spec = SecretSpec { name: format!("s{number}"), ..Default::default() };
    let fingerprint = Fingerprint([number; 32]);
    Secret {
        revisions: Default::default(),
        id: secret_id(number),
        meta: Default::default(),
        spec,
        fingerprint,
        shown: Default::default(),
    }
    .into()
}

/// A task on a node that references these secrets.
pub fn task(
    node: NodeId,
    number: u8,
    state: TaskState,
    desired_state: TaskState,
    secrets: &[u8],
) -> Task {
    let reference = |number: &u8| SecretReference {
        file: None,
        secret_id: secret_id(*number).to_string(),
        secret_name: format!("s{number}"),
    };
    let container =
        ContainerSpec { secrets: secrets.iter().map(reference).collect(), ..Default::default() };
    Task {
        revisions: Default::default(),
        id: task_id(number),
        meta: Default::default(),
        spec: Arc::new(TaskSpec { container_spec: Some(container), ..Default::default() }),
        service_id: Some(ServiceId::derive([1; 17])),
        service_name: "web".into(),
        service_labels: Default::default(),
        spec_version: Version::default(),
        slot: u64::from(number),
        node_id: Some(node),
        status: TaskStatus { state, ..TaskStatus::made(Timestamp::ZERO) },
        desired_state,
        endpoint_spec: None,
        endpoint: None,
        networks: Vec::new(),
        generic_resources: Vec::new(),
        registry_auth: RegistryAuth::default(),
        not_before: Timestamp::ZERO,
        ran_at: None,
        restarts: Default::default(),
        job_iteration: None,
    }
}

/// A node with these places on networks.
pub fn node(id: NodeId, attachments: Vec<Attachment>) -> Node {
    Node {
        id,
        meta: Default::default(),
        spec: NodeSpec {
            name: String::new(),
            labels: Default::default(),
            role: NodeRole::Worker,
            availability: Availability::Active,
        },
        description: None,
        status: NodeStatus { state: NodeState::Ready, message: String::new(), addr: String::new() },
        down_since: None,
        manager: None,
        certificate: Default::default(),
        attachments,
    }
}

/// A node in a session.
pub struct Visit {
    pub fixture: Fixture,
    pub hub: Hub,
    pub node: NodeId,
    pub session: Session,
}

impl Visit {
    /// The planners do not run, so that tasks stay as the test puts them.
    pub async fn new() -> Visit {
        let fixture = Fixture::leading().await;
        fixture.stop_planning();
        let manager = &fixture.manager;
        let hub = Hub::start(manager, CancellationToken::new());
        let token = Manager::join_tokens(&manager.view()).worker;
        let admitted = manager
            .admit(([127, 0, 0, 1], 1).into(), &token, Fixture::request(), Availability::Active)
            .await;
        let node = admitted.expect("a worker's token");
        let session = manager.sessions().register(node, None, manager.heartbeat_period());
        let session = session.expect("the first");
        Visit { fixture, hub, node, session }
    }

    pub fn manager(&self) -> Manager {
        self.fixture.manager.clone()
    }

    /// Writes changes as they are.
    pub async fn write(&self, changes: Vec<Change>) {
        let written = self.manager().store().write(move |_, _| Ok(changes)).await;
        written.expect("the store writes");
    }
}

/// The next message of a feed, or `None` when none comes for a while.
pub async fn heard<T>(feed: &mut Feed<T>) -> Option<T> {
    let next = tokio::time::timeout(std::time::Duration::from_millis(400), feed.next()).await;
    match next.ok()? {
        Some(Ok(message)) => Some(message),
        Some(Err(status)) => panic!("the feed ended: {status}"),
        None => panic!("the feed ended"),
    }
}
