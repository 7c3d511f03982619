//! The log broker: every agent holds a stream of subscriptions open, and opens a stream of lines for
//! each subscription that it is sent.

use std::collections::BTreeMap;

use tonic::{Request, Response, Status, Streaming};

use super::feed::{self, Feed, Sender};
use super::peer::{Peer, session_status};
use crate::domain::id::{NodeId, SubscriptionId};
use crate::domain::log::{Options, Subject};
use crate::manager::{Listening, Manager, Publication, UnknownSubscription};
use crate::wire;
use crate::wire::log::LineError;
use crate::wire::proto::log_broker_server::LogBroker;
use crate::wire::proto::{
    ListenSubscriptionsRequest, PublishLogsMessage, PublishLogsResponse, SubscriptionMessage,
};

/// The largest message with lines. An engine sends one line in each, and cuts lines at 16 KiB.
pub(super) const PUBLISH_BYTES_MAX: usize = 1 << 20;

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
        let listening = self.manager.logs().listen(node);
        Ok(Response::new(feed::start(session.ended, |sender| tell(listening, sender))))
    }

    async fn publish_logs(
        &self,
        request: Request<Streaming<PublishLogsMessage>>,
    ) -> Result<Response<PublishLogsResponse>, Status> {
        let node = Peer::of(&request)?.member(&self.manager.view())?;
        let mut messages = request.into_inner();
        let first = messages.message().await?;
        let first = first.filter(|message| !message.subscription_id.is_empty());
        let first = first.ok_or_else(|| Status::invalid_argument("missing subscription id"))?;
        let id = first.subscription_id.clone();
        let publication = self.manager.logs().publish(node, &id).map_err(unknown)?;
        let mut next = Some(first);
        while let Some(message) = next {
            if message.subscription_id != id {
                return Err(Status::invalid_argument("the subscription id changed"));
            }
            let is_last = message.close;
            take(&publication, node, message).await?;
            if is_last {
                break;
            }
            next = tokio::select! {
                () = publication.ended() => return Err(unknown(UnknownSubscription)),
                message = messages.message() => message?,
            };
        }
        publication.close();
        Ok(Response::new(PublishLogsResponse {}))
    }
}

/// Tells a node what it is asked for: each subscription once, and its end.
async fn tell(mut listening: Listening, sender: Sender<SubscriptionMessage>) -> Option<Status> {
    let mut told: BTreeMap<SubscriptionId, (Subject, Options)> = BTreeMap::new();
    loop {
        let wanted = listening.wanted();
        for (id, subscription) in &told {
            if !wanted.contains_key(id) {
                sender.send(Ok(message(*id, subscription, true))).await.ok()?;
            }
        }
        for (id, subscription) in &wanted {
            if !told.contains_key(id) {
                sender.send(Ok(message(*id, subscription, false))).await.ok()?;
            }
        }
        told = wanted;
        if !listening.changed().await {
            return Some(Status::aborted("another stream of subscriptions was opened"));
        }
    }
}

fn message(
    id: SubscriptionId,
    (subject, options): &(Subject, Options),
    close: bool,
) -> SubscriptionMessage {
    let (selector, options) = (wire::log::selector(*subject), wire::log::options(options));
    wire::session::log_subscription(id.as_str(), selector, options, close)
}

/// Hands the lines of a message on, if they are what the node was asked for.
async fn take(
    publication: &Publication,
    node: NodeId,
    message: PublishLogsMessage,
) -> Result<(), Status> {
    let mut lines = Vec::with_capacity(message.messages.len());
    for message in message.messages {
        let line = wire::log::line_from(message, node).map_err(|error| match error {
            LineError::OtherNode => Status::permission_denied(error.to_string()),
            LineError::NoContext | LineError::NoStream => {
                Status::invalid_argument(error.to_string())
            }
        })?;
        if !publication.subject().has(&line) {
            return Err(Status::permission_denied("a log message of another task or service"));
        }
        lines.push(line);
    }
    publication.send(lines).await.map_err(unknown)
}

fn unknown(error: UnknownSubscription) -> Status {
    Status::not_found(error.to_string())
}
