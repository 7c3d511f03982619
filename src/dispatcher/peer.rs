//! Who calls: the identity of the connection, checked against the cluster.
//!
//! Managers that proxy calls pass the caller on in the request's metadata. There is one manager
//! here, so such metadata could only be forged: it is never read.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

use crate::ca::identity::Identity;
use crate::domain::cluster::Cluster;
use crate::domain::id::NodeId;
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::view::View;
use crate::manager::SessionError;

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// Whom its certificate names, if it showed one.
    pub identity: Option<Identity>,
    /// That certificate had ended when it connected; it is good for the next one only.
    pub is_expired: bool,
    /// Where it is.
    pub addr: SocketAddr,
    /// The end of the session that was opened on this connection, which ends soon after it.
    pub carries: Arc<watch::Sender<Option<CancellationToken>>>,
}

impl Peer {
    pub(super) fn of<T>(request: &Request<T>) -> Result<&Peer, Status> {
        request.extensions().get().ok_or_else(|| Status::internal("a request without a connection"))
    }

    /// The member node that calls, with a certificate that has not ended.
    pub(super) fn member(&self, view: &View) -> Result<NodeId, Status> {
        let node = self.renewing_member(view)?;
        if self.is_expired {
            return Err(Status::permission_denied(format!(
                "the certificate of node {node} has expired, and can only be renewed"
            )));
        }
        Ok(node)
    }

    /// The member node that calls for its next certificate. A node that was removed is told so until its certificate ends;
    /// after that, no more than that it is not known.
    pub(super) fn renewing_member(&self, view: &View) -> Result<NodeId, Status> {
        let cluster = cluster(view)?;
        let identity = self.identity.as_ref();
        let identity = identity.ok_or_else(|| {
            Status::permission_denied("unauthorized: no valid client certificate")
        })?;
        if identity.cluster != cluster.id.as_str() {
            return Err(Status::permission_denied(
                "unauthorized: a certificate of another cluster",
            ));
        }
        if cluster.barred.contains_key(&identity.node) {
            let node = identity.node;
            return Err(Status::permission_denied(format!("node {node} has been removed")));
        }
        if view.node(identity.node).is_none() {
            return Err(Status::not_found(format!("node {} not found", identity.node)));
        }
        Ok(identity.node)
    }
}

/// The cluster; without one loaded, an agent is asked to come again later.
pub(super) fn cluster(view: &View) -> Result<&Arc<Cluster>, Status> {
    view.cluster().ok_or_else(|| Status::unavailable("the manager is not ready"))
}

/// What an agent is told that may not have a session, or does not have this one.
pub(super) fn session_status(error: SessionError) -> Status {
    match error {
        SessionError::TooMany => Status::unavailable(error.to_string()),
        SessionError::Invalid => Status::invalid_argument(error.to_string()),
        SessionError::NotRegistered => Status::not_found(error.to_string()),
    }
}

/// The one place where a refusal becomes a status of this door.
pub(super) fn status(refusal: Refusal) -> Status {
    let text = refusal.message;
    match refusal.reason {
        Reason::Invalid => Status::invalid_argument(text),
        Reason::Precondition | Reason::Conflict => Status::failed_precondition(text),
        Reason::NotFound => Status::not_found(text),
        Reason::Taken => Status::already_exists(text),
        Reason::Forbidden => Status::permission_denied(text),
        Reason::Unauthenticated => Status::unauthenticated(text),
        Reason::Unsupported => Status::unimplemented(text),
        Reason::Unavailable => Status::unavailable(text),
        Reason::Exhausted => Status::resource_exhausted(text),
        Reason::Unknown => Status::unknown(text),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::domain::change::{Change, Key};
    use crate::domain::meta::Stamp;
    use crate::domain::node::NodeRole;
    use crate::domain::time::Timestamp;
    use crate::manager::fixture::Fixture;

    fn code(peer: &Peer, view: &View) -> Option<Code> {
        peer.member(view).err().map(|status| status.code())
    }

    #[tokio::test]
    async fn only_known_nodes_of_this_cluster_are_members() {
        let fixture = Fixture::leading().await;
        let mut view = fixture.manager.view();
        let cluster = Cluster::clone(view.cluster().expect("it leads"));
        let addr = "10.0.0.9:1".parse().expect("an address");
        let node = cluster.manager;
        let identity = |node, cluster: &str| Identity {
            node,
            role: NodeRole::Worker,
            cluster: cluster.into(),
            not_after: 0,
        };
        let peer = |identity| Peer {
            identity,
            is_expired: false,
            addr,
            carries: Arc::new(watch::Sender::new(None)),
        };
        let known = peer(Some(identity(node, cluster.id.as_str())));
        let unknown = peer(Some(identity(NodeId::derive([9; 17]), cluster.id.as_str())));
        assert_eq!(known.member(&view).ok(), Some(node));
        let expired = Peer { is_expired: true, ..known.clone() };
        assert_eq!(expired.renewing_member(&view).ok(), Some(node));
        assert_eq!(code(&expired, &view), Some(Code::PermissionDenied));
        assert_eq!(code(&peer(None), &view), Some(Code::PermissionDenied));
        let foreign = peer(Some(identity(node, "another")));
        assert_eq!(code(&foreign, &view), Some(Code::PermissionDenied));
        assert_eq!(code(&unknown, &view), Some(Code::NotFound), "its barring has lapsed");
        assert_eq!(code(&known, &View::default()), Some(Code::Unavailable), "no swarm is loaded");

        let mut barring = cluster.clone();
        barring.barred.insert(node, 0);
        let stamp = Stamp { version: view.version(), now: Timestamp::ZERO };
        view.apply(&[barring.into(), Change::Remove(Key::Node(node))], stamp);
        assert_eq!(code(&known, &view), Some(Code::PermissionDenied));
    }
}
