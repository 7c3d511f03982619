//! The nodes' door: swarmkit's agent protocol over mutual TLS.
//!
//! ```text
//!   TCP ▶ TLS (certificate optional) ▶ HTTP/2 ▶ CA, NodeCA             joining and renewing
//!                                             ▶ Dispatcher             session, heartbeat,
//!                                                                      assignments, statuses
//!                                             ▶ LogBroker              subscriptions, lines
//!                                             ▶ ResourceAllocator      containers on networks
//! ```
//!
//! Who calls is told by the certificate alone ([`peer`]); what a request says of it counts for
//! nothing. Each session has two streams that this side feeds: its messages ([`session`]) and its
//! assignments ([`assignments`]), each with an actor ([`feed`]). Both are woken by the [`hub`] when a commit touches their node,
//! look at the view, and send the difference to what they sent before. What a node should hold is
//! worked out by [`assignment_set`], which knows nothing of streams.
//!
//! A payload is opened here only while a message for a node that needs it is being made, and the
//! message's bytes are wiped once they are sent ([`wiped`]).
//!
//! Engines look for each other at the manager's address; they are handed on to one another
//! ([`gossip`]).
//!
//! Left to others: whether a request is granted (`manager`, `plan`), and what messages look like
//! (`wire`).

mod assignment_set;
mod assignments;
mod denials;
mod feed;
mod gossip;
mod hub;
mod logs;
mod node_ca;
mod peer;
mod resources;
mod server;
mod service;
mod session;
mod wiped;

#[cfg(test)]
mod fixture;

use tokio_util::sync::CancellationToken;

use crate::manager::Manager;

/// Serves nodes whenever the manager leads a swarm, until `stop` is called.
pub async fn run(manager: Manager, stop: CancellationToken) {
    let mut leads = manager.lead();
    loop {
        let lead = leads.borrow_and_update().clone();
        if let Some(lead) = lead
            && let Some(listener) = lead.take_listener()
        {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => server::serve(&manager, &lead, listener).await,
                Err(error) => tracing::error!(%error, "the nodes' door cannot listen"),
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = leads.changed() => if changed.is_err() { return },
        }
    }
}
