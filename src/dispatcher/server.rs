//! Accepting connections: TLS, who is behind it, and HTTP/2 with whatever protocol was negotiated,
//! or none.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::denials;
use super::gossip::Introducer;
use super::hub::Hub;
use super::peer::Peer;
use super::service;
use crate::ca::identity::Identity;
use crate::domain::audit::Outcome;
use crate::domain::id::NodeId;
use crate::manager::{Lead, Manager, SUBSCRIPTIONS_MAX};

/// How long a connection may take to agree on TLS.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Handshakes at once; beyond this, new connections wait to be accepted.
const HANDSHAKES_MAX: usize = 1024;
/// Connections of nodes at once, of all and of one. A node needs one, and another for a while now and
/// then, as for its next certificate.
const MEMBERS_MAX: usize = 8192;
const OF_NODE_MAX: usize = 16;
/// How long a connection of a node may be without a session: longer than a certificate is waited for.
const SESSIONLESS_TIME: Duration = Duration::from_secs(300);
/// Connections at once of who is no node, which anybody may open, of all and of one address, and how long
/// one may last: a joining host asks for the root and its first certificate, and then comes back as a
/// member. A node that was removed is none any more.
const STRANGERS_MAX: usize = 512;
const OF_ADDRESS_MAX: usize = STRANGERS_MAX / 2;
const STRANGER_TIME: Duration = Duration::from_secs(60);
/// How much of a stream may wait to be read, in bytes. A stream of log lines waits for its client.
const STREAM_WINDOW: u32 = 64 << 10;
/// How much of a connection may: all that its streams of log lines can have waiting, and some for
/// its other calls. Heartbeats must come through whatever a client of logs does.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * (SUBSCRIPTIONS_MAX + 16);
/// How often a silent connection is asked whether it is still there, and how long it may take to
/// answer. Agents never ask by themselves; a node that was cut off would linger for ever.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIME: Duration = Duration::from_secs(20);
/// How long a connection may outlive the session that was opened on it. An agent makes a new one for
/// its next session; one that does not listen any more would hold on to what waits to be sent.
const LINGER_TIME: Duration = Duration::from_secs(5);
/// How long streams get to end in good order.
const GOODBYE_TIME: Duration = Duration::from_secs(1);

pub(super) async fn serve(manager: &Manager, lead: &Arc<Lead>, listener: TcpListener) {
    let hub = Hub::start(manager, lead.ended.clone());
    let introducer = Introducer::start(manager, lead.ended.clone());
    let routes = service::routes(manager, &hub, &introducer);
    let places = Arc::new(Places {
        handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
        members: Semaphore::new(MEMBERS_MAX),
        strangers: Semaphore::new(STRANGERS_MAX),
        counts: Mutex::default(),
    });
    let connections = TaskTracker::new();
    tracing::info!(addr = ?listener.local_addr().ok(), "listening for nodes");
    loop {
        let place = tokio::select! {
            () = lead.ended.cancelled() => break,
            place = places.handshakes.clone().acquire_owned() => place,
        };
        let place = place.expect("the semaphore is never closed");
        let accepted = tokio::select! {
            () = lead.ended.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, addr)) => {
                let (lead, routes) = (lead.clone(), routes.clone());
                let (manager, places) = (manager.clone(), places.clone());
                let connection = Connection { manager, lead, routes, places, addr };
                connections.spawn(connection.run(stream, place));
            }
            Err(error) => {
                // Out of descriptors, most likely: waiting a little gives others time to close.
                tracing::warn!(%error, "a node's connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    lead.closed.cancel();
    manager.sessions().end_all();
    connections.close();
    let _ = tokio::time::timeout(GOODBYE_TIME, connections.wait()).await;
}

/// How many connections there may be, by how far they have come.
struct Places {
    handshakes: Arc<Semaphore>,
    members: Semaphore,
    strangers: Semaphore,
    /// Those that are served, by whose they are.
    counts: Mutex<HashMap<Whose, usize>>,
}

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Whose {
    Node(NodeId),
    Stranger(IpAddr),
}

/// A connection that is counted for as long as this is there.
struct Counted<'p> {
    places: &'p Places,
    whose: Whose,
}

impl Places {
    /// Counts a connection; `None` when there are too many of that node or address.
    fn count(&self, whose: Whose) -> Option<Counted<'_>> {
        let max = match whose {
            Whose::Node(_) => OF_NODE_MAX,
            Whose::Stranger(_) => OF_ADDRESS_MAX,
        };
        let mut counts = self.counts.lock().expect("nobody panics while counting");
        let count = counts.entry(whose).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Counted { places: self, whose })
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let mut counts = self.places.counts.lock().expect("nobody panics while counting");
        if let Entry::Occupied(mut count) = counts.entry(self.whose) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

struct Connection {
    manager: Manager,
    lead: Arc<Lead>,
    routes: axum::Router,
    places: Arc<Places>,
    addr: SocketAddr,
}

impl Connection {
    async fn run(self, stream: TcpStream, handshake: OwnedSemaphorePermit) {
        let Some((stream, peer)) = self.handshake(stream).await else { return };
        drop(handshake);
        let node = peer.renewing_member(&self.manager.view()).ok();
        let is_member = node.is_some();
        let places = if is_member { &self.places.members } else { &self.places.strangers };
        let whose = node.map_or(Whose::Stranger(self.addr.ip().to_canonical()), Whose::Node);
        let (Ok(_place), Some(_counted)) = (places.try_acquire(), self.places.count(whose)) else {
            tracing::warn!(addr = %self.addr, ?whose, "too many connections; one was closed");
            return;
        };
        let mut carries = peer.carries.subscribe();
        let too_long = async {
            if !is_member {
                return tokio::time::sleep(STRANGER_TIME).await;
            }
            let has_session = carries.wait_for(Option::is_some);
            if tokio::time::timeout(SESSIONLESS_TIME, has_session).await.is_ok() {
                std::future::pending::<()>().await;
            }
        };
        let expired = self.expired(&peer);
        let outlived = outlived(peer.carries.subscribe());
        let (routes, manager) = (self.routes.clone(), self.manager.clone());
        let service =
            tower::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
                request.extensions_mut().insert(peer.clone());
                let (routes, manager, peer) = (routes.clone(), manager.clone(), peer.clone());
                async move {
                    let path = request.uri().path().to_owned();
                    let answer = routes.oneshot(request).await?;
                    if let Some((outcome, detail)) = denials::of_answer(&path, answer.headers()) {
                        denials::tell(&manager, &peer, outcome, detail).await;
                    }
                    Ok::<_, Infallible>(answer)
                }
            });
        let served = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIME)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        tokio::pin!(served);
        tokio::select! {
            ended = served.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(addr = %self.addr, %error, "a node's connection ended");
                }
                return;
            }
            () = self.lead.ended.cancelled() => {}
            () = too_long => {}
            () = outlived => {}
            () = expired => {}
        }
        served.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(GOODBYE_TIME, served).await;
    }

    /// Waits until the certificate that a connection was opened with has ended.
    fn expired(&self, peer: &Peer) -> impl Future<Output = ()> + use<> {
        let now = self.manager.clock().now().unix_seconds();
        let left = peer.identity.as_ref().map(|identity| identity.not_after - now);
        let left = left.and_then(|left| u64::try_from(left).ok());
        async move {
            match left {
                Some(left) => tokio::time::sleep(Duration::from_secs(left)).await,
                // It has none, or came with one that had ended.
                None => std::future::pending().await,
            }
        }
    }

    async fn handshake(
        &self,
        stream: TcpStream,
    ) -> Option<(tokio_rustls::server::TlsStream<TcpStream>, Peer)> {
        let _ = stream.set_nodelay(true);
        let config = self.lead.tls().borrow().clone();
        let accept = TlsAcceptor::from(config).accept(stream);
        match tokio::time::timeout(HANDSHAKE_TIME, accept).await {
            Ok(Ok(stream)) => {
                let certificates = stream.get_ref().1.peer_certificates();
                let leaf = certificates.and_then(|chain| chain.first());
                let identity = leaf.and_then(|leaf| Identity::of_certificate(leaf));
                let carries = Arc::new(watch::Sender::new(None));
                let now = self.manager.clock().now().unix_seconds();
                let is_expired = identity.as_ref().is_some_and(|identity| identity.not_after < now);
                if is_expired {
                    tracing::warn!(addr = %self.addr, "a node comes with an expired certificate");
                }
                Some((stream, Peer { identity, is_expired, addr: self.addr, carries }))
            }
            // The other side sees success first and learns of a rejected certificate later, so this
            // line is where to look.
            Ok(Err(error)) => {
                tracing::warn!(addr = %self.addr, %error, "a node's TLS handshake failed");
                let carries = Arc::new(watch::Sender::new(None));
                let peer = Peer { identity: None, is_expired: false, addr: self.addr, carries };
                let detail = format!("TLS: {error}");
                denials::tell(&self.manager, &peer, Outcome::Denied, detail).await;
                None
            }
            Err(_) => {
                tracing::debug!(addr = %self.addr, "a TLS handshake took too long");
                None
            }
        }
    }
}

/// Waits until the session that a connection carries has been over for a while.
async fn outlived(mut carries: watch::Receiver<Option<CancellationToken>>) {
    loop {
        let session = carries.borrow_and_update().clone();
        let over = async {
            let Some(ended) = session else { return std::future::pending().await };
            ended.cancelled().await;
            tokio::time::sleep(LINGER_TIME).await;
        };
        tokio::select! {
            () = over => return,
            changed = carries.changed() => if changed.is_err() { return },
        }
    }
}
