//! The log broker: every agent holds a stream of subscriptions open. There are none yet, so the
//! stream stays silent until the session's connection ends.

use std::pin::Pin;

use futures_util::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::peer::Peer;
use crate::manager::Manager;
use crate::wire::proto::log_broker_server::LogBroker;
use crate::wire::proto::{
    ListenSubscriptionsRequest, PublishLogsMessage, PublishLogsResponse, SubscriptionMessage,
};

/// The log broker.
#[derive(Clone)]
pub(super) struct Logs {
    pub manager: Manager,
    pub ended: CancellationToken,
}

#[tonic::async_trait]
impl LogBroker for Logs {
    type ListenSubscriptionsStream =
        Pin<Box<dyn Stream<Item = Result<SubscriptionMessage, Status>> + Send>>;

    async fn listen_subscriptions(
        &self,
        request: Request<ListenSubscriptionsRequest>,
    ) -> Result<Response<Self::ListenSubscriptionsStream>, Status> {
        Peer::of(&request)?.member(&self.manager.view())?;
        let ended = self.ended.clone().cancelled_owned();
        let until_end = futures_util::stream::once(async move {
            ended.await;
            Err(Status::aborted("the manager is stopping"))
        });
        Ok(Response::new(Box::pin(until_end)))
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
