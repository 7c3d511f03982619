//! The resource allocator: engines ask for places of containers that their users run on networks of
//! the swarm, and give them back.
//!
//! What an engine gets is an attachment, a task of no service. It is answered once that is durable,
//! and comes to the engine with its assignments, as every task does.

use tonic::{Request, Response, Status};

use super::peer::{Peer, status};
use crate::domain::actor::Actor;
use crate::domain::id::TaskId;
use crate::domain::intent::Intent;
use crate::manager::Manager;
use crate::wire;
use crate::wire::proto::resource_allocator_server::ResourceAllocator;
use crate::wire::proto::{
    AttachNetworkRequest, AttachNetworkResponse, DetachNetworkRequest, DetachNetworkResponse,
};

/// The resource allocator.
#[derive(Clone)]
pub(super) struct Resources {
    pub manager: Manager,
}

#[tonic::async_trait]
impl ResourceAllocator for Resources {
    async fn attach_network(
        &self,
        request: Request<AttachNetworkRequest>,
    ) -> Result<Response<AttachNetworkResponse>, Status> {
        let node = Peer::of(&request)?.member(&self.manager.view())?;
        let wish = wire::network::attachment_from(request.get_ref());
        let wish = wish.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let id = TaskId::make(self.manager.entropy());
        let intent = Intent::AttachNetwork { id, node, wish };
        self.manager.submit(Actor::Node(node), intent).await.map_err(status)?;
        tracing::info!(node = %node, attachment = %id, "container attached");
        Ok(Response::new(AttachNetworkResponse { attachment_id: id.to_string() }))
    }

    async fn detach_network(
        &self,
        request: Request<DetachNetworkRequest>,
    ) -> Result<Response<DetachNetworkResponse>, Status> {
        let node = Peer::of(&request)?.member(&self.manager.view())?;
        let id = request.get_ref().attachment_id.parse();
        let id = id.map_err(|_| Status::not_found("attachment not found: that is no id of one"))?;
        let intent = Intent::DetachNetwork { id, node };
        self.manager.submit(Actor::Node(node), intent).await.map_err(status)?;
        tracing::info!(node = %node, attachment = %id, "container detached");
        Ok(Response::new(DetachNetworkResponse {}))
    }
}
