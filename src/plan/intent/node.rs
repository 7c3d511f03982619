//! Nodes: what users change of them, and what becomes of them.

use std::sync::Arc;

use crate::domain::change::{Change, Key};
use crate::domain::cluster::EXPIRED_GRACE_MAX;
use crate::domain::id::NodeId;
use crate::domain::meta::Version;
use crate::domain::node::{
    Availability, Certificate, IssuanceState, Node, NodeDescription, NodeRole, NodeSpec, NodeState,
    NodeStatus,
};
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::task::Task;
use crate::domain::task_state::TaskState;
use crate::domain::view::View;
use crate::plan::orchestrator::{give_up, postpone};
use crate::plan::{Context, allocator};

pub(super) fn update(
    view: &View,
    id: NodeId,
    version: Version,
    spec: NodeSpec,
) -> Result<Vec<Change>, Refusal> {
    let node = find(view, id)?;
    if node.manager.is_some() && spec.role == NodeRole::Worker {
        return Err(Refusal::store(
            Reason::Precondition,
            "attempting to demote the last manager of the swarm",
        ));
    }
    if node.manager.is_none() && spec.role == NodeRole::Manager {
        return Err(Refusal::store(
            Reason::Unsupported,
            "a node cannot be promoted yet: this manager has no replicas",
        ));
    }
    node.meta.check_known(version)?;
    Ok(vec![Node { spec, meta: node.meta.edited(), ..(**node).clone() }.into()])
}

pub(super) fn remove(
    view: &View,
    id: NodeId,
    force: bool,
    ctx: Context<'_>,
) -> Result<Vec<Change>, Refusal> {
    let cluster = view.require_cluster()?;
    let node = find(view, id)?;
    let refuse = |why: &str| Err(Refusal::store(Reason::Precondition, format!("node {id} {why}")));
    if node.manager.is_some() {
        return refuse(
            "is a cluster manager and is a member of the raft cluster. It must be demoted to \
             worker before removal",
        );
    }
    if !force && node.status.state == NodeState::Ready {
        return refuse("is not down and can't be removed");
    }
    let mut changes = vec![Change::Remove(Key::Node(id))];
    for task in view.tasks_of_node(id) {
        changes.extend(give_up(task, "Task belonged to a node that has been deleted", ctx));
    }
    // Its certificate is of use until it ends, and for a while after that: so long the node is barred by
    // name.
    let mut cluster = (**cluster).clone();
    let now = ctx.now.unix_seconds();
    cluster.barred.retain(|_, not_after| not_after.saturating_add(EXPIRED_GRACE_MAX) > now);
    cluster.barred.insert(id, node.certificate.not_after);
    changes.push(cluster.into());
    Ok(changes)
}

/// A certificate that was just issued.
///
/// # Errors
/// It is of the root before, and a rotation of the root has begun meanwhile: it would be the one that
/// the rotation waits for. It has to be signed again.
pub(super) fn issued(
    view: &View,
    csr: Vec<u8>,
    chain: String,
    not_after: i64,
) -> Result<Certificate, Refusal> {
    let rotation = view.cluster().and_then(|cluster| cluster.root_rotation.as_ref());
    if rotation.is_some_and(|rotation| !chain.contains(rotation.cross_signed.trim())) {
        let text = "the root certificate was changed meanwhile; try again";
        return Err(Refusal::front(Reason::Unavailable, text));
    }
    Ok(Certificate { csr, state: IssuanceState::Issued, chain, not_after })
}

/// Makes the node of a host that joined. The engine that is attached to the manager joins under the
/// manager's own id, whose node is there already.
pub(super) fn admit(
    view: &View,
    id: NodeId,
    certificate: Certificate,
    availability: Availability,
) -> Result<Vec<Change>, Refusal> {
    view.require_cluster()?;
    let node = match view.node(id) {
        Some(node) => Node { certificate, ..(**node).clone() },
        None => Node {
            id,
            meta: Default::default(),
            spec: NodeSpec {
                name: String::new(),
                labels: Default::default(),
                role: NodeRole::Worker,
                availability,
            },
            description: None,
            status: NodeStatus {
                state: NodeState::Unknown,
                message: String::new(),
                addr: String::new(),
            },
            down_since: None,
            manager: None,
            certificate,
            attachments: Vec::new(),
        },
    };
    let (node, given) = allocator::welcome(view, node);
    Ok(std::iter::once(node.into()).chain(given).collect())
}

pub(super) fn renew(
    view: &View,
    id: NodeId,
    certificate: Certificate,
) -> Result<Vec<Change>, Refusal> {
    let node = find(view, id)?;
    Ok(vec![Node { certificate, ..(**node).clone() }.into()])
}

pub(super) fn register(
    view: &View,
    id: NodeId,
    description: NodeDescription,
    addr: String,
) -> Result<Vec<Change>, Refusal> {
    let node = find(view, id)?;
    let status = NodeStatus { state: NodeState::Ready, message: String::new(), addr };
    let description = Some(description);
    if node.status == status && node.description == description {
        return Ok(Vec::new());
    }
    Ok(vec![Node { status, description, down_since: None, ..(**node).clone() }.into()])
}

/// The tasks whose containers an engine may have made and not started when it ended, and that were
/// granted something: the engine starts them when it is back, without what they were granted, since it
/// keeps that in memory only, and reports them running.
pub(super) fn give_up_unstarted(view: &View, id: NodeId, ctx: Context<'_>) -> Vec<Change> {
    let is_unstarted = |task: &&Arc<Task>| {
        let state = task.status.state;
        TaskState::Assigned < state && state < TaskState::Running && task.grants().next().is_some()
    };
    let unstarted = view.tasks_of_node(id).filter(is_unstarted).map(|task| {
        let mut task = Task::clone(task);
        task.status.state = TaskState::Failed;
        task.status.timestamp = ctx.now;
        task.status.applied_at = ctx.now;
        task.status.message = "given up".into();
        task.status.err = "its engine ended before the container was started, and would start it \
                           without what it was granted"
            .into();
        task.into()
    });
    unstarted.collect()
}

pub(super) fn lose(view: &View, nodes: Vec<(NodeId, String)>, ctx: Context<'_>) -> Vec<Change> {
    let lost = nodes.into_iter().filter_map(|(id, message)| {
        let node = view.node(id)?;
        let status = NodeStatus { state: NodeState::Down, message, addr: node.status.addr.clone() };
        let down_since = node.down_since.or(Some(ctx.now));
        (node.status != status).then(|| Node { status, down_since, ..(**node).clone() }.into())
    });
    lost.collect()
}

/// Says of a node that is there how its clock is.
pub(super) fn note_clock(view: &View, id: NodeId, message: String) -> Vec<Change> {
    let node = view.node(id).filter(|node| node.status.state == NodeState::Ready);
    let node = node.filter(|node| node.status.message != message);
    let Some(node) = node else { return Vec::new() };
    let status = NodeStatus { message, ..node.status.clone() };
    vec![Node { status, ..(**node).clone() }.into()]
}

pub(super) fn forget_sessions(view: &View, ctx: Context<'_>) -> Vec<Change> {
    view.nodes()
        .filter_map(|node| match node.status.state {
            NodeState::Ready => {
                let addr = node.status.addr.clone();
                let message = "not heard of since the manager started".into();
                let status = NodeStatus { state: NodeState::Unknown, message, addr };
                Some(Node { status, ..(**node).clone() }.into())
            }
            NodeState::Down => postpone(node, ctx.now).map(Change::from),
            NodeState::Unknown | NodeState::Disconnected => None,
        })
        .collect()
}

fn find(view: &View, id: NodeId) -> Result<&Arc<Node>, Refusal> {
    view.require_cluster()?;
    view.node(id).ok_or_else(|| Refusal::not_found("node", id.as_str()))
}
