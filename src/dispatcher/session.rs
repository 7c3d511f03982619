//! The stream of session messages: the node object, the managers, the root. Every message is whole.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tonic::Status;

use super::feed::{self, Feed, Sender};
use super::peer::cluster;
use crate::domain::cluster::Cluster;
use crate::domain::id::NodeId;
use crate::domain::network::Attachment;
use crate::domain::network_keys::NetworkKeys;
use crate::domain::node::{Certificate, Node, NodeSpec};
use crate::domain::view::View;
use crate::manager::{Manager, Session};
use crate::wire;
use crate::wire::proto::SessionMessage;

/// Feeds the messages of one session.
pub(super) struct Messages {
    pub manager: Manager,
    pub node: NodeId,
    pub session: Session,
    pub bell: watch::Receiver<()>,
}

/// What a message is made from: when none of it changed, nothing needs to be sent.
#[derive(Debug, Clone, PartialEq)]
struct Content {
    spec: NodeSpec,
    certificate: Certificate,
    /// A network does not change while it is in use, so its place stands for it.
    attachments: Vec<Attachment>,
    root_ca: String,
    advertise_addr: String,
    network_keys: Option<NetworkKeys>,
}

impl Messages {
    /// Starts the actor; what it sends comes out of the stream.
    pub(super) fn start(self) -> Feed<SessionMessage> {
        feed::start(self.session.ended.clone(), |sender| self.run(sender))
    }

    async fn run(mut self, sender: Sender<SessionMessage>) -> Option<Status> {
        let mut sent: Option<Content> = None;
        loop {
            self.bell.mark_unchanged();
            let view = self.manager.view();
            let (node, cluster) = match self.look(&view) {
                Ok(found) => found,
                Err(status) => return Some(status),
            };
            let content = Content {
                spec: node.spec.clone(),
                certificate: node.certificate.clone(),
                attachments: node.attachments.clone(),
                root_ca: cluster.root_ca.clone(),
                advertise_addr: cluster.advertise_addr.clone(),
                network_keys: cluster.network_keys.clone(),
            };
            if sent.as_ref() != Some(&content) {
                let message = match self.message(&view, node, cluster) {
                    Ok(message) => message,
                    Err(status) => return Some(status),
                };
                sender.send(Ok(message)).await.ok()?;
                self.session.told.send_replace(content.attachments.iter().copied().collect());
                sent = Some(content);
            }
            if self.bell.changed().await.is_err() {
                return Some(Status::unavailable("the manager is stopping"));
            }
        }
    }

    fn look<'v>(&self, view: &'v View) -> Result<(&'v Arc<Node>, &'v Arc<Cluster>), Status> {
        let cluster = cluster(view)?;
        let node = view.node(self.node);
        Ok((node.ok_or_else(|| Status::not_found("the node has been removed"))?, cluster))
    }

    fn message(
        &self,
        view: &View,
        node: &Node,
        cluster: &Cluster,
    ) -> Result<SessionMessage, Status> {
        // An engine forgets every manager that is not in the list, so the list is never empty.
        let addr: SocketAddr = cluster
            .advertise_addr
            .parse()
            .map_err(|_| Status::internal("the manager's address is not an address"))?;
        let manager = wire::session::Manager { node_id: cluster.manager, addr };
        let node = wire::node::node(node, view);
        Ok(wire::session::session_message(
            self.session.id,
            node,
            &manager,
            &[],
            cluster.network_keys.as_ref(),
            &cluster.root_ca,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatcher::fixture::{Visit, heard};
    use crate::domain::node::IssuanceState;
    use crate::manager::fixture::Fixture;

    /// The state of the node's certificate as it was told.
    fn issuance(message: Option<SessionMessage>) -> Option<i32> {
        let message = message?;
        assert_eq!(message.managers.len(), 1, "every message is whole");
        assert!(!message.root_ca.is_empty());
        Some(message.node?.certificate?.status?.state)
    }

    #[tokio::test]
    async fn a_forced_renewal_is_told_once_and_over_when_it_was_signed() {
        let visit = Visit::new().await;
        let (manager, node) = (visit.manager(), visit.node);
        let (session, bell) = (visit.session.clone(), visit.hub.bell(node));
        let mut feed = Messages { manager: manager.clone(), node, session, bell }.start();
        assert_eq!(issuance(heard(&mut feed).await), Some(3), "issued");
        let mut forced = Node::clone(manager.view().node(node).expect("it was admitted"));
        forced.certificate.state = IssuanceState::Rotate;
        visit.write(vec![forced.clone().into()]).await;
        assert_eq!(issuance(heard(&mut feed).await), Some(5), "rotate");
        forced.status.message = "something that no agent needs to know".into();
        visit.write(vec![forced.into()]).await;
        assert!(heard(&mut feed).await.is_none(), "or it would renew again");
        manager.renew(node, Fixture::request()).await.expect("signed");
        assert_eq!(issuance(heard(&mut feed).await), Some(3), "issued");
    }
}
