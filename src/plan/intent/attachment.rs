//! Containers that are no tasks of services: their nodes attach them to networks and detach them.

use std::sync::Arc;

use crate::domain::change::{Change, Key};
use crate::domain::endpoint::NetworkAttachmentConfig;
use crate::domain::id::{NodeId, TaskId};
use crate::domain::intent::AttachmentWish;
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::service::{NetworkAttachmentSpec, Runtime, TaskSpec};
use crate::domain::task::{Task, TaskStatus};
use crate::domain::task_state::TaskState;
use crate::domain::time::Timestamp;
use crate::domain::view::View;
use crate::plan::{Context, allocator};

/// The most attachments of one node: 1,023, as many as a bridge of Linux has ports, so that no node
/// could have more on a network. A hostile one fills no store with them.
const ATTACHMENTS_MAX: usize = 1_023;

/// What an attachment says until its node has taken it up.
const MESSAGE: &str = "assigned to the node of its container";

/// Makes an attachment. It has its node and its addresses from the beginning, so neither allocator
/// nor scheduler has anything to do with it: a container stays where its user started it, also on a
/// node that takes no tasks.
pub(super) fn attach(
    view: &View,
    id: TaskId,
    node: NodeId,
    wish: AttachmentWish,
    ctx: Context<'_>,
) -> Result<Vec<Change>, Refusal> {
    let node = view.node(node).ok_or_else(|| Refusal::not_found("node", node.as_str()))?;
    let network = view.find_network(&wish.network)?;
    if !network.spec.attachable {
        let message = format!("network {} is not attachable", network.spec.name);
        return Err(Refusal::store(Reason::Forbidden, message));
    }
    if view.attachments_of_node(node.id).count() >= ATTACHMENTS_MAX {
        let message = format!("node {} has {ATTACHMENTS_MAX} attachments already", node.id);
        return Err(Refusal::store(Reason::Exhausted, message));
    }
    let (place, mut changes) = allocator::attach(view, node, network, wish.address)?;
    let target = network.id.to_string();
    let spec = TaskSpec {
        networks: vec![NetworkAttachmentConfig { target, ..Default::default() }],
        runtime: Some(Runtime::Attachment),
        network_attachment_spec: Some(NetworkAttachmentSpec { container_id: wish.container_id }),
        ..TaskSpec::default()
    };
    let made = TaskStatus::made(ctx.now);
    let task = Task {
        revisions: Default::default(),
        id,
        meta: Default::default(),
        spec: Arc::new(spec),
        service_id: None,
        service_name: String::new(),
        service_labels: Default::default(),
        spec_version: Default::default(),
        slot: 0,
        node_id: Some(node.id),
        status: TaskStatus { state: TaskState::Assigned, message: MESSAGE.into(), ..made },
        ran_at: None,
        desired_state: TaskState::Running,
        endpoint_spec: None,
        endpoint: None,
        networks: vec![place],
        generic_resources: Vec::new(),
        registry_auth: Default::default(),
        not_before: Timestamp::ZERO,
        restarts: Default::default(),
        job_iteration: None,
    };
    changes.push(task.into());
    Ok(changes)
}

/// Deletes an attachment. Its container has left the network, so there is nothing to stop.
pub(super) fn detach(view: &View, id: TaskId, node: NodeId) -> Result<Vec<Change>, Refusal> {
    let task = view.task(id).filter(|task| task.service_id.is_none());
    let task = task.ok_or_else(|| Refusal::not_found("attachment", id.as_str()))?;
    if task.node_id != Some(node) {
        let message = format!("attachment {id} is another node's");
        return Err(Refusal::store(Reason::Forbidden, message));
    }
    Ok(vec![Change::Remove(Key::Task(id))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{Entropy, NetworkId, Stream};
    use crate::domain::meta::{Stamp, Version};
    use crate::domain::network::{Network, NetworkSpec};
    use crate::domain::node::{Availability, Node, NodeRole, NodeSpec, NodeState, NodeStatus};

    struct NoEntropy;
    impl Entropy for NoEntropy {
        fn fill(&self, _: Stream, _: &mut [u8]) {}
    }

    const NODE: [u8; 17] = [1; 17];

    fn view() -> View {
        let (name, labels, addr) = Default::default();
        let (role, availability) = (NodeRole::Worker, Availability::Active);
        let node = Node {
            id: NodeId::derive(NODE),
            meta: Default::default(),
            spec: NodeSpec { name, labels, role, availability },
            description: None,
            status: NodeStatus { state: NodeState::Ready, message: String::new(), addr },
            down_since: None,
            manager: None,
            certificate: Default::default(),
            attachments: Vec::new(),
        };
        let (driver, attachable) = ("macvlan".into(), true);
        let network = Network {
            id: NetworkId::derive([2; 17]),
            meta: Default::default(),
            spec: NetworkSpec { name: "lan".into(), driver, attachable, ..Default::default() },
            vnis: Vec::new(),
            subnets: Vec::new(),
            last_given: None,
            is_removed: false,
        };
        let mut view = View::default();
        view.load(&node.into());
        view.load(&network.into());
        view
    }

    /// Attaches a container to the network; answers why not.
    fn attached(view: &mut View, number: usize, address: Option<&str>) -> Result<(), Refusal> {
        let mut seed = [0; 17];
        seed[..8].copy_from_slice(&number.to_be_bytes());
        let wish = AttachmentWish {
            network: "lan".into(),
            address: address.and_then(|text| text.parse().ok()),
            container_id: "c0ffee".into(),
        };
        let ctx = Context { now: Timestamp::ZERO, entropy: &NoEntropy };
        let changes = attach(view, TaskId::derive(seed), NodeId::derive(NODE), wish, ctx)?;
        view.apply(&changes, Stamp { version: Version::default(), now: Timestamp::ZERO });
        Ok(())
    }

    #[test]
    fn a_node_has_so_many_attachments_and_no_more() {
        let mut view = view();
        for number in 0..ATTACHMENTS_MAX {
            assert_eq!(attached(&mut view, number, None), Ok(()));
        }
        let refusal = attached(&mut view, ATTACHMENTS_MAX, None);
        assert_eq!(refusal.map_err(|refusal| refusal.reason), Err(Reason::Exhausted));
        let one = view.attachments_of_node(NodeId::derive(NODE)).next().expect("one of them").id;
        let changes = detach(&view, one, NodeId::derive(NODE)).expect("it is its own");
        view.apply(&changes, Stamp { version: Version::default(), now: Timestamp::ZERO });
        assert_eq!(attached(&mut view, ATTACHMENTS_MAX, None), Ok(()));
    }

    #[test]
    fn a_network_within_each_node_gives_no_address_that_is_asked_for() {
        let refusal = attached(&mut view(), 1, Some("10.0.0.9")).map_err(|refusal| refusal.reason);
        assert_eq!(refusal, Err(Reason::Unsupported));
    }
}
