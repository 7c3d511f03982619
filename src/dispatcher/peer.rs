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

    /// The member node that calls.
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
        Ok(identity.node)
    }
}

/// The cluster; without one loaded, an agent is asked to come again later.
pub(super) fn cluster(view: &View) -> Result<&Arc<Cluster>, Status> {
    view.cluster().ok_or_else(|| Status::unavailable("the manager is not ready"))
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
