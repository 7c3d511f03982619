//! Who calls: the identity of the connection, checked against the cluster.
//!
//! Managers that proxy calls pass the caller on in the request's metadata. There is one manager
//! here, so such metadata could only be forged: it is never read.

use std::net::SocketAddr;
use std::sync::Arc;

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
    /// Where it is.
    pub addr: SocketAddr,
}

impl Peer {
    pub(super) fn of<T>(request: &Request<T>) -> Result<&Peer, Status> {
        request.extensions().get().ok_or_else(|| Status::internal("a request without a connection"))
    }

    /// The member node that calls. A node that was removed is told so until its certificate ends;
    /// after that, no more than that it is not known.
    pub(super) fn member(&self, view: &View) -> Result<NodeId, Status> {
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
