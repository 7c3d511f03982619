//! Where engines find each other.
//!
//! An engine that needs overlay networks looks for the others at the manager's address, port 7946:
//! it expects every manager to be an engine. purser is none, so it hands each such connection, byte
//! for byte, to another engine of the swarm. They are encrypted from end to end and short: the two
//! exchange what they know, and from then on all talk directly. Engines come back every minute,
//! which also heals what was parted.
//!
//! An engine on the manager's own host listens on that port itself. Then the others meet it there,
//! and nothing is forwarded: as soon as such an engine has its session, and before it hears of the
//! keys that make it listen, the port is given up ([`Introducer::make_way`]).

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::domain::change::{Changed, Object};
use crate::domain::node::{Node, NodeState};
use crate::domain::view::View;
use crate::manager::{Commit, Manager};

/// The port on which engines talk about overlay networks.
const GOSSIP_PORT: u16 = 7946;
/// Connections at once; one lasts less than a second.
const CONNECTIONS_MAX: usize = 64;
/// How many engines are tried for one connection.
const TRIES_MAX: usize = 3;
/// How long one of them may take to answer. The engine that asks waits 10 s in all.
const CONNECT_TIME: Duration = Duration::from_secs(2);
/// How long a connection may last; engines wait 10 s.
const FORWARD_TIME: Duration = Duration::from_secs(15);
/// How often listening is tried again while somebody else has the port.
const LISTEN_AGAIN: Duration = Duration::from_secs(10);
/// How long an engine on this host waits for its port at most.
const MAKE_WAY_TIME: Duration = Duration::from_secs(2);

/// Hands engines on to each other.
#[derive(Clone)]
pub(super) struct Introducer {
    inner: Arc<Inner>,
}

struct Inner {
    manager: Manager,
    /// The manager's address, as nodes are told; `None` when no other host can reach it.
    host: Option<IpAddr>,
    port: u16,
    is_listening: watch::Sender<bool>,
    places: Semaphore,
    turn: AtomicUsize,
}

impl Introducer {
    /// Starts listening whenever it should, until `ended`.
    pub(super) fn start(manager: &Manager, ended: CancellationToken) -> Introducer {
        let view = manager.view();
        let addr = view.cluster().and_then(|c| c.advertise_addr.parse::<SocketAddr>().ok());
        // An engine that reaches the manager over the loopback is on this host, and has the port.
        let host = addr.map(|addr| addr.ip().to_canonical()).filter(|ip| !ip.is_loopback());
        Introducer::at(manager, host, GOSSIP_PORT, ended)
    }

    fn at(
        manager: &Manager,
        host: Option<IpAddr>,
        port: u16,
        ended: CancellationToken,
    ) -> Introducer {
        let inner = Arc::new(Inner {
            manager: manager.clone(),
            host,
            port,
            is_listening: watch::Sender::new(false),
            places: Semaphore::new(CONNECTIONS_MAX),
            turn: AtomicUsize::new(0),
        });
        if let Some(host) = host {
            let (_, commits) = manager.store().subscribe();
            tokio::spawn(ended.run_until_cancelled_owned(inner.clone().run(host, commits)));
        }
        Introducer { inner }
    }

    /// Waits until the port is free, if an engine at this address is going to want it.
    pub(super) async fn make_way(&self, addr: IpAddr) {
        if !self.inner.host.is_some_and(|host| is_same_host(host, addr)) {
            return;
        }
        let mut is_listening = self.inner.is_listening.subscribe();
        let free = is_listening.wait_for(|is_listening| !is_listening);
        if tokio::time::timeout(MAKE_WAY_TIME, free).await.is_err() {
            tracing::warn!(%addr, port = self.inner.port, "the engine on this host has to share");
        }
    }
}

impl Inner {
    async fn run(self: Arc<Self>, host: IpAddr, mut commits: broadcast::Receiver<Arc<Commit>>) {
        loop {
            if has_engine(&self.manager.view(), host) {
                wait_for_engines(&mut commits, host).await;
                continue;
            }
            match listen(host, self.port).await {
                Ok(listener) => {
                    tracing::debug!(addr = ?listener.local_addr().ok(), "listening for engines");
                    self.is_listening.send_replace(true);
                    let connections = CancellationToken::new();
                    let _guard = connections.clone().drop_guard();
                    tokio::select! {
                        () = self.accept(&listener, &connections) => {}
                        () = wait_for_engines(&mut commits, host) => {}
                    }
                    drop(listener);
                    self.is_listening.send_replace(false);
                }
                Err(error) => {
                    tracing::warn!(%host, port = self.port, %error, "engines cannot be introduced \
                        to each other: overlay networks will not reach from node to node");
                    tokio::select! {
                        () = tokio::time::sleep(LISTEN_AGAIN) => {}
                        () = wait_for_engines(&mut commits, host) => {}
                    }
                }
            }
        }
    }

    async fn accept(self: &Arc<Self>, listener: &TcpListener, stop: &CancellationToken) {
        loop {
            let (stream, caller) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "an engine's connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let introducer = self.clone();
            let forward =
                async move { introducer.forward(stream, caller.ip().to_canonical()).await };
            tokio::spawn(stop.clone().run_until_cancelled_owned(forward));
        }
    }

    async fn forward(&self, mut stream: TcpStream, caller: IpAddr) {
        let Ok(_place) = self.places.try_acquire() else {
            tracing::debug!(%caller, "too many engines look for each other; one has to come back");
            return;
        };
        let Some(others) = others(&self.manager.view(), caller) else {
            tracing::debug!(%caller, "no node of the swarm is at this address");
            return;
        };
        // Another one each time: a dead one is met once in a while only.
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        for number in 0..others.len().min(TRIES_MAX) {
            let other = others[first.wrapping_add(number) % others.len()];
            let connect = TcpStream::connect((other, self.port));
            let Ok(Ok(mut found)) = tokio::time::timeout(CONNECT_TIME, connect).await else {
                tracing::debug!(%caller, %other, "an engine could not be reached");
                continue;
            };
            let copy = copy_bidirectional(&mut stream, &mut found);
            let copied = tokio::time::timeout(FORWARD_TIME, copy).await;
            tracing::debug!(%caller, %other, ?copied, "an engine was introduced to another");
            return;
        }
    }
}

/// Listens at the host's address, or, where that is only how others see the host, at all.
async fn listen(host: IpAddr, port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((host, port)).await {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            let all: IpAddr = match host {
                IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
                IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
            };
            TcpListener::bind((all, port)).await
        }
        other => other,
    }
}

/// The address of a node that is an engine; the manager's node is none before one is attached to it.
fn engine_addr(node: &Node) -> Option<IpAddr> {
    let description = node.description.as_ref()?;
    if description.engine.engine_version.is_empty() {
        return None;
    }
    node.status.addr.parse().ok()
}

/// True for an address of this host. An engine may have come to it over the loopback.
fn is_same_host(host: IpAddr, addr: IpAddr) -> bool {
    addr == host || (addr.is_loopback() && !host.is_loopback())
}

/// True when an engine of the swarm is on this host, which then has the port. One that is down has to
/// open its session anew before it wants it again.
fn has_engine(view: &View, host: IpAddr) -> bool {
    view.nodes().any(|node| is_engine_here(node, host))
}

fn is_engine_here(node: &Node, host: IpAddr) -> bool {
    let is_here = engine_addr(node).is_some_and(|addr| is_same_host(host, addr));
    is_here && node.status.state != NodeState::Down
}

/// Where the live engines are that a caller may be introduced to; `None` when it is none itself.
fn others(view: &View, caller: IpAddr) -> Option<Vec<IpAddr>> {
    let live = view.nodes().filter(|node| node.status.state == NodeState::Ready);
    let mut live: BTreeSet<_> = live.filter_map(|node| engine_addr(node)).collect();
    live.remove(&caller).then(|| live.into_iter().collect())
}

/// Returns when an engine on this host may have come or gone.
async fn wait_for_engines(commits: &mut broadcast::Receiver<Arc<Commit>>, host: IpAddr) {
    let is_here = |object: &Option<Object>| match object {
        Some(Object::Node(node)) => is_engine_here(node, host),
        _ => false,
    };
    let touches = |changed: &Changed| is_here(&changed.old) != is_here(&changed.new);
    loop {
        match commits.recv().await {
            Ok(commit) if commit.changes.iter().any(touches) => return,
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => return,
            // The store is closing; the lead ends with it.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpSocket;

    use super::*;
    use crate::dispatcher::fixture::Visit;
    use crate::domain::id::NodeId;
    use crate::domain::node::NodeDescription;

    const HOST: &str = "127.0.0.1";

    /// An engine of the swarm at an address.
    async fn engine(visit: &Visit, number: u8, addr: &str, state: NodeState) -> Node {
        let view = visit.manager().view();
        let mut node = Node::clone(view.node(visit.node).expect("it was admitted"));
        node.id = NodeId::derive([number; 17]);
        let mut description = NodeDescription::default();
        description.engine.engine_version = "20.10.24".into();
        node.description = Some(description);
        node.status.addr = addr.into();
        node.status.state = state;
        visit.write(vec![node.clone().into()]).await;
        node
    }

    fn ip(addr: &str) -> IpAddr {
        addr.parse().expect("an address")
    }

    /// A port that is free at all of the addresses, and what listens there for the engines.
    async fn engines(addrs: &[&str]) -> (u16, Vec<TcpListener>) {
        let first = TcpListener::bind((addrs[0], 0)).await.expect("a free port");
        let port = first.local_addr().expect("it is bound").port();
        let mut listeners = vec![first];
        for addr in &addrs[1..] {
            listeners.push(TcpListener::bind((*addr, port)).await.expect("a free port"));
        }
        (port, listeners)
    }

    async fn call(from: &str, port: u16) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(ip(from), 0))?;
        socket.connect(SocketAddr::new(ip(HOST), port)).await
    }

    async fn listening(introducer: &Introducer, wanted: bool) {
        let mut state = introducer.inner.is_listening.subscribe();
        let told = tokio::time::timeout(Duration::from_secs(5), state.wait_for(|is| *is == wanted));
        told.await.expect("in time").expect("it lives");
    }

    #[tokio::test]
    async fn an_engine_meets_another_and_never_itself() {
        let visit = Visit::new().await;
        let (port, listeners) = engines(&["127.0.0.2", "127.0.0.3", "127.0.0.4"]).await;
        engine(&visit, 2, "127.0.0.2", NodeState::Ready).await;
        engine(&visit, 3, "127.0.0.3", NodeState::Ready).await;
        engine(&visit, 4, "127.0.0.4", NodeState::Down).await;
        let stop = CancellationToken::new();
        let introducer = Introducer::at(&visit.manager(), Some(ip(HOST)), port, stop.clone());
        listening(&introducer, true).await;
        for _ in 0..3 {
            let mut caller = call("127.0.0.2", port).await.expect("it listens");
            caller.write_all(b"what I know").await.expect("sent");
            caller.shutdown().await.expect("sent");
            let (mut found, _) = listeners[1].accept().await.expect("handed on");
            let mut heard = String::new();
            found.read_to_string(&mut heard).await.expect("heard");
            assert_eq!(heard, "what I know");
            found.write_all(b"and I").await.expect("sent");
            drop(found);
            heard.clear();
            caller.read_to_string(&mut heard).await.expect("heard");
            assert_eq!(heard, "and I");
        }
        // Who is no node is not handed on, and learns nothing.
        let mut stranger = call("127.0.0.9", port).await.expect("it listens");
        assert_eq!(stranger.read(&mut [0; 8]).await.expect("closed"), 0);
        stop.cancel();
    }

    #[tokio::test]
    async fn an_engine_on_this_host_gets_the_port() {
        let visit = Visit::new().await;
        let (port, listeners) = engines(&[HOST]).await;
        drop(listeners);
        let introducer =
            Introducer::at(&visit.manager(), Some(ip(HOST)), port, CancellationToken::new());
        listening(&introducer, true).await;
        engine(&visit, 2, "127.0.0.2", NodeState::Ready).await;
        introducer.make_way(ip("127.0.0.2")).await;
        assert!(*introducer.inner.is_listening.borrow(), "that one is elsewhere");
        engine(&visit, 3, HOST, NodeState::Ready).await;
        introducer.make_way(ip(HOST)).await;
        TcpListener::bind((HOST, port)).await.expect("free for the engine");
        // While it is down, the others are introduced here again.
        engine(&visit, 3, HOST, NodeState::Down).await;
        listening(&introducer, true).await;
        engine(&visit, 3, HOST, NodeState::Ready).await;
        introducer.make_way(ip(HOST)).await;
        TcpListener::bind((HOST, port)).await.expect("free for the engine");
    }
}
