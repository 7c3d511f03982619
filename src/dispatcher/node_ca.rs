//! Joining and renewing: the root for whoever asks, certificates for who has a token or one already.

use tonic::{Request, Response, Status};

use super::peer::{Peer, cluster, status};
use crate::domain::node::Availability;
use crate::manager::Manager;
use crate::wire;
use crate::wire::proto::ca_server::Ca;
use crate::wire::proto::node_ca_server::NodeCa;
use crate::wire::proto::node_spec::Membership;
use crate::wire::proto::{
    GetRootCaCertificateRequest, GetRootCaCertificateResponse, GetUnlockKeyRequest,
    GetUnlockKeyResponse, IssueNodeCertificateRequest, IssueNodeCertificateResponse,
    NodeCertificateStatusRequest, NodeCertificateStatusResponse,
};

/// Both certificate services.
#[derive(Clone)]
pub(super) struct Certificates {
    pub manager: Manager,
}

#[tonic::async_trait]
impl Ca for Certificates {
    async fn get_root_ca_certificate(
        &self,
        _: Request<GetRootCaCertificateRequest>,
    ) -> Result<Response<GetRootCaCertificateResponse>, Status> {
        let view = self.manager.view();
        // Exactly the bytes that the digest in the join tokens is over.
        let certificate = cluster(&view)?.root_ca.clone().into_bytes();
        Ok(Response::new(GetRootCaCertificateResponse { certificate }))
    }

    async fn get_unlock_key(
        &self,
        _: Request<GetUnlockKeyRequest>,
    ) -> Result<Response<GetUnlockKeyResponse>, Status> {
        Err(Status::permission_denied("only managers may ask for the unlock key"))
    }
}

#[tonic::async_trait]
impl NodeCa for Certificates {
    async fn issue_node_certificate(
        &self,
        request: Request<IssueNodeCertificateRequest>,
    ) -> Result<Response<IssueNodeCertificateResponse>, Status> {
        let view = self.manager.view();
        cluster(&view)?;
        let peer = Peer::of(&request)?.clone();
        let message = request.into_inner();
        let node_id = if peer.identity.is_some() {
            let node = peer.renewing_member(&view)?;
            self.manager.renew(node, message.csr).await.map_err(status)?;
            tracing::info!(node = %node, "certificate renewed");
            node
        } else {
            let availability =
                wire::node::availability_from(message.availability).unwrap_or(Availability::Active);
            let admitted =
                self.manager.admit(peer.addr, &message.token, message.csr, availability).await;
            let node = admitted.map_err(|refusal| {
                tracing::warn!(addr = %peer.addr, why = %refusal, "a host was not admitted");
                status(refusal)
            })?;
            tracing::info!(node = %node, addr = %peer.addr, "node admitted");
            node
        };
        Ok(Response::new(IssueNodeCertificateResponse {
            node_id: node_id.to_string(),
            node_membership: Membership::Accepted.into(),
        }))
    }

    async fn node_certificate_status(
        &self,
        request: Request<NodeCertificateStatusRequest>,
    ) -> Result<Response<NodeCertificateStatusResponse>, Status> {
        let id = request.into_inner().node_id;
        if id.is_empty() {
            return Err(Status::invalid_argument("a node id is needed"));
        }
        let view = self.manager.view();
        cluster(&view)?;
        let node = id.parse().ok().and_then(|id| view.node(id));
        let node = node.ok_or_else(|| Status::not_found(format!("node {id} not found")))?;
        // Certificates are signed before they are stored, so there is nothing to wait for.
        let certificate = wire::node::certificate(node);
        Ok(Response::new(NodeCertificateStatusResponse {
            status: certificate.status.clone(),
            certificate: Some(certificate),
        }))
    }
}
