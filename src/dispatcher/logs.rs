//! The log broker: every agent holds a stream of subscriptions open. There are none yet, so the
//! stream stays silent until the session ends.

use tonic::{Request, Response, Status, Streaming};

use super::feed::{self, Feed};
use super::peer::{Peer, session_status};
use crate::manager::Manager;
use crate::wire::proto::log_broker_server::LogBroker;
use crate::wire::proto::{
    ListenSubscriptionsRequest, PublishLogsMessage, PublishLogsResponse, SubscriptionMessage,
};

/// The log broker.
#[derive(Clone)]
pub(super) struct Logs {
    pub manager: Manager,
}

#[tonic::async_trait]
impl LogBroker for Logs {
    type ListenSubscriptionsStream = Feed<SubscriptionMessage>;

    async fn listen_subscriptions(
        &self,
        request: Request<ListenSubscriptionsRequest>,
    ) -> Result<Response<Self::ListenSubscriptionsStream>, Status> {
        let node = Peer::of(&request)?.member(&self.manager.view())?;
        // The request names no session; an agent asks once it has one.
        let session = self.manager.sessions().present(node).map_err(session_status)?;
        Ok(Response::new(feed::start(session.ended, |_| std::future::pending())))
    }

    async fn publish_logs(
        &self,
        request: Request<Streaming<PublishLogsMessage>>,
    ) -> Result<Response<PublishLogsResponse>, Status> {
        Peer::of(&request)?.member(&self.manager.view())?;
        let first = request.into_inner().message().await?;
        let id = first.map(|message| message.subscription_id).unwrap_or_default();
        if id.is_empty() {
            return Err(Status::invalid_argument("missing subscription id"));
        }
        Err(Status::not_found(format!("no subscription {id}")))
    }
}
