//! Leading: what starts when there is a swarm, and stops with it.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::driver::Driver;
use super::{Manager, root};
use crate::ca::root::{CaError, Root};
use crate::ca::token;
use crate::domain::actor::Actor;
use crate::domain::change::Key;
use crate::domain::cluster::{Autolock, Cluster, ClusterSpec, HEARTBEAT_PERIOD_DEFAULT};
use crate::domain::id::{ClusterId, NodeId};
use crate::domain::intent::{Intent, NewSwarm};
use crate::domain::network_keys::NetworkKeys;
use crate::domain::node::{
    Availability, Certificate, ManagerStatus, Node, NodeDescription, NodeRole, NodeSpec, NodeState,
    NodeStatus, Reachability,
};
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::service::Platform;
use crate::domain::time::Nanoseconds;
use crate::store::PayloadError;

/// How often it is looked for nodes that are no longer heard of.
const WATCH_EVERY: Duration = Duration::from_millis(250);
/// How long leaving waits for the nodes' door to close. It takes no longer than a moment.
const CLOSE_TIME: Duration = Duration::from_secs(5);

/// What a user says of a new swarm.
#[derive(Debug, Clone)]
pub struct SwarmWish {
    /// Where the nodes' door listens.
    pub listen_addr: SocketAddr,
    /// What nodes are told.
    pub advertise_addr: SocketAddr,
    /// Settings, defaults applied.
    pub spec: ClusterSpec,
    /// Whether the manager's node takes tasks.
    pub availability: Availability,
    /// Name of this host, by which its node is known until an engine says more.
    pub hostname: String,
    /// Pools of overlay networks.
    pub default_addr_pool: Vec<String>,
    /// Prefix length of an overlay network's subnet.
    pub subnet_size: u32,
    /// UDP port of overlay traffic.
    pub data_path_port: u32,
}

/// A lead of a swarm by this process.
pub struct Lead {
    root: RwLock<Arc<Root>>,
    /// The listening socket of the nodes' door, until the door takes it.
    listener: Mutex<Option<TcpListener>>,
    pub(super) tls: watch::Sender<Arc<ServerConfig>>,
    /// Held while the root is switched.
    pub(super) switching: tokio::sync::Mutex<()>,
    /// Ends with the lead.
    pub ended: CancellationToken,
    /// Called by the door once it listens no more: its address is free again.
    pub closed: CancellationToken,
}

impl Lead {
    /// The root that signs.
    pub fn root(&self) -> Arc<Root> {
        self.root.read().expect("a root is never left half put").clone()
    }

    pub(super) fn set_root(&self, root: Arc<Root>) {
        *self.root.write().expect("a root is never left half put") = root;
    }

    /// The listening socket of the nodes' door; the first caller gets it.
    pub fn take_listener(&self) -> Option<TcpListener> {
        self.listener.lock().expect("a socket is never left half taken").take()
    }

    /// TLS settings of the nodes' door, now and whenever they change.
    pub fn tls(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.tls.subscribe()
    }
}

/// The swarm in the store cannot be led.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The nodes' door cannot listen.
    #[error("listening for nodes on {addr}")]
    Listen {
        /// Where.
        addr: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The root's key cannot be had.
    #[error("reading the signing key of the root certificate")]
    Key(#[source] PayloadError),
    /// The store has no root key.
    #[error("the store holds a swarm without the signing key of its root certificate")]
    NoKey,
    /// The root cannot be used.
    #[error("the root certificate")]
    Ca(#[from] CaError),
    /// The store fails.
    #[error("the store")]
    Store(#[from] Refusal),
}

impl Manager {
    /// Leads the swarm that is in the store, if there is one.
    ///
    /// # Errors
    /// Its door cannot listen, or its root cannot be used.
    pub async fn start(&self) -> Result<(), StartError> {
        let view = self.view();
        let Some(cluster) = view.cluster() else { return Ok(()) };
        let key = Key::Cluster(cluster.id);
        let payload = self.inner.store.payload(key).await.map_err(StartError::Key)?;
        let root = root::load(cluster, &payload.ok_or(StartError::NoKey)?)?;
        let listener = listen(&cluster.listen_addr)?;
        self.submit(Actor::Manager, Intent::ForgetSessions).await?;
        self.submit(Actor::Manager, Intent::ProvideNetworks).await?;
        self.take_lead(cluster, root, listener)?;
        Ok(())
    }

    /// Makes a swarm and leads it. Returns the id of the manager's node.
    ///
    /// # Errors
    /// There is one already, a setting is refused, or the door cannot listen.
    pub async fn init_swarm(&self, actor: Actor, wish: SwarmWish) -> Result<NodeId, Refusal> {
        let now = self.clock().now();
        let internal = |error: CaError| Refusal::front(Reason::Unknown, error.to_string());
        let mut wish = wish;
        let own = root::supplied(&wish.spec.ca_config, now)?;
        let ca = &mut wish.spec.ca_config;
        (ca.signing_ca_cert, ca.signing_ca_key) = (String::new(), String::new());
        let root = match own {
            Some(root) => root,
            None => Root::make(now).map_err(internal)?,
        };
        let node_id = NodeId::make(self.entropy());
        let is_autolocked = wish.spec.encryption_config.auto_lock_managers;
        let cluster = Cluster {
            id: ClusterId::make(self.entropy()),
            meta: Default::default(),
            spec: wish.spec,
            root_ca: root.pem().to_owned(),
            root_rotation: None,
            cross_signed: String::new(),
            tls_info: root.tls_info().map_err(internal)?,
            join_secrets: token::make_secrets(self.entropy()),
            manager: node_id,
            listen_addr: wish.listen_addr.to_string(),
            advertise_addr: wish.advertise_addr.to_string(),
            default_addr_pool: wish.default_addr_pool,
            subnet_size: wish.subnet_size,
            data_path_port: wish.data_path_port,
            network_keys: Some(NetworkKeys::make(self.entropy(), now)),
            autolock: Autolock { wanted: u64::from(is_autolocked), ..Autolock::default() },
            barred: Default::default(),
        };
        let node = manager_node(node_id, &cluster, wish.availability, wish.hostname);
        let signing_key = self.seal(Key::Cluster(cluster.id), &root.key_bytes()).bytes;
        // The socket first: a swarm whose door cannot open is not made. With a swarm there already
        // the address is its own, so that refusal must come before.
        if self.view().cluster().is_none() {
            let listener = listen(&cluster.listen_addr)
                .map_err(|error| Refusal::front(Reason::Unknown, chain(&error)))?;
            let new = NewSwarm { cluster: cluster.clone(), node, signing_key };
            self.submit(actor, Intent::InitSwarm(Box::new(new))).await?;
            self.take_lead(&cluster, root, listener).map_err(internal)?;
            return Ok(node_id);
        }
        let new = NewSwarm { cluster, node, signing_key };
        self.submit(actor, Intent::InitSwarm(Box::new(new))).await.map(|_| node_id)
    }

    /// Ends the swarm and everything in it.
    ///
    /// # Errors
    /// There is none, or the store fails.
    pub async fn leave_swarm(&self, actor: Actor) -> Result<(), Refusal> {
        self.leave_unlocked(actor).await?;
        self.inner.one_time.clear();
        let lead = self.inner.lead.send_replace(None);
        if let Some(lead) = &lead {
            lead.ended.cancel();
        }
        self.inner.sessions.end_all();
        // The next swarm may want the same address, so leaving ends with the listening.
        if let Some(lead) = lead
            && lead.take_listener().is_none()
        {
            let _ = tokio::time::timeout(CLOSE_TIME, lead.closed.cancelled()).await;
        }
        Ok(())
    }

    fn take_lead(
        &self,
        cluster: &Cluster,
        root: Root,
        listener: TcpListener,
    ) -> Result<(), CaError> {
        let ended = self.inner.stop.child_token();
        let tls = watch::Sender::new(self.own_tls(cluster, &root)?);
        let lead = Arc::new(Lead {
            root: RwLock::new(Arc::new(root)),
            listener: Mutex::new(Some(listener)),
            tls,
            switching: tokio::sync::Mutex::new(()),
            ended: ended.clone(),
            closed: CancellationToken::new(),
        });
        let driver = Driver {
            store: self.inner.store.clone(),
            clock: self.inner.clock.clone(),
            entropy: self.inner.entropy.clone(),
        };
        let loops = &self.inner.loops;
        loops.spawn(driver.run(ended.clone()));
        loops.spawn(self.clone().watch_nodes(ended.clone()));
        loops.spawn(self.inner.logs.clone().watch(self.inner.store.clone(), ended.clone()));
        loops.spawn(self.clone().keep_fresh(lead.clone()));
        loops.spawn(self.clone().watch_root(lead.clone()));
        loops.spawn(self.clone().keep_supplied(ended.clone()));
        self.inner.lead.send_replace(Some(lead));
        Ok(())
    }

    /// Notices nodes that are no longer heard of.
    async fn watch_nodes(self, ended: CancellationToken) {
        let mut ticks = tokio::time::interval(WATCH_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.await_unknown();
        loop {
            tokio::select! {
                () = ended.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let lost = self.inner.sessions.take_expired();
            if lost.is_empty() {
                continue;
            }
            for node in &lost {
                tracing::warn!(node = %node, "node is down: heartbeat failure");
            }
            self.lose(lost).await;
        }
    }

    async fn lose(&self, lost: Vec<NodeId>) {
        let sessions = &self.inner.sessions;
        let nodes = lost.iter().map(|node| (*node, "heartbeat failure".to_owned())).collect();
        if let Err(error) = self.submit(Actor::Manager, Intent::LoseNodes { nodes }).await {
            tracing::warn!(%error, "nodes that are down could not be recorded");
            // They are looked at again, or come back.
            for node in lost {
                sessions.await_node(node, self.heartbeat_period());
            }
            return;
        }
        for node in lost {
            // It came back while this was written, and may read down although it is there: only a
            // session that begins after the write is sure to be believed.
            if let Ok(session) = sessions.present(node) {
                sessions.end(node, session.id);
            }
        }
    }

    fn await_unknown(&self) {
        let view = self.view();
        for node in view.nodes().filter(|node| node.status.state == NodeState::Unknown) {
            self.inner.sessions.await_node(node.id, self.heartbeat_period());
        }
    }

    /// The heartbeat period of the cluster.
    pub fn heartbeat_period(&self) -> Nanoseconds {
        let view = self.view();
        view.cluster().map_or(HEARTBEAT_PERIOD_DEFAULT, |cluster| cluster.spec.heartbeat_period())
    }
}

/// The manager's own node, before any engine is attached to it.
fn manager_node(
    id: NodeId,
    cluster: &Cluster,
    availability: Availability,
    hostname: String,
) -> Node {
    let os = std::env::consts::OS.to_owned();
    let platform = Platform { architecture: std::env::consts::ARCH.to_owned(), os };
    Node {
        id,
        meta: Default::default(),
        spec: NodeSpec {
            name: String::new(),
            labels: Default::default(),
            role: NodeRole::Manager,
            availability,
        },
        description: Some(NodeDescription {
            hostname,
            platform,
            tls_info: cluster.tls_info.clone(),
            ..Default::default()
        }),
        status: NodeStatus {
            state: NodeState::Down,
            message: "no engine is attached to this manager".into(),
            addr: addr_only(&cluster.advertise_addr),
        },
        down_since: None,
        manager: Some(ManagerStatus {
            leader: true,
            reachability: Reachability::Reachable,
            addr: cluster.advertise_addr.clone(),
        }),
        certificate: Certificate::default(),
        attachments: Vec::new(),
    }
}

fn addr_only(addr: &str) -> String {
    addr.parse::<SocketAddr>().map_or_else(|_| addr.to_owned(), |addr| addr.ip().to_string())
}

fn listen(addr: &str) -> Result<TcpListener, StartError> {
    let failed = |source| StartError::Listen { addr: addr.to_owned(), source };
    let listener = TcpListener::bind(addr).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::change::Change;
    use crate::domain::view::View;
    use crate::manager::fixture::Fixture;

    async fn admitted(manager: &Manager) -> NodeId {
        let token = Manager::join_tokens(&manager.view()).worker;
        let admitted = manager
            .admit(([127, 0, 0, 1], 1).into(), &token, Fixture::request(), Availability::Active)
            .await;
        admitted.expect("a worker's token")
    }

    #[tokio::test]
    async fn leaving_frees_the_address_and_ends_all_sessions() {
        let fixture = Fixture::leading().await;
        let manager = &fixture.manager;
        let node = admitted(manager).await;
        let period = manager.heartbeat_period();
        let session = manager.sessions().register(node, None, period).expect("the first");
        let lead = manager.lead().borrow().clone().expect("it leads");
        manager.leave_swarm(Actor::Client(Default::default())).await.expect("it led one");
        assert!(lead.ended.is_cancelled() && session.ended.is_cancelled());
        assert!(lead.take_listener().is_none(), "closed though no door had taken it");
        assert!(manager.lead().borrow().is_none());
        fixture.init().await;
        assert!(manager.lead().borrow().is_some());
        assert!(manager.sessions().present(node).is_err());
    }

    #[tokio::test]
    async fn a_swarm_from_before_there_were_networks_gets_the_first_ones() {
        let fixture = Fixture::leading().await;
        let manager = &fixture.manager;
        let networks = |view: &View| -> Vec<String> {
            let mut names: Vec<_> = view.networks().map(|n| n.spec.name.clone()).collect();
            names.sort();
            names
        };
        let first = networks(&manager.view());
        assert_eq!(first, ["bridge", "host", "ingress", "none"]);
        let remove =
            |view: &View| view.networks().map(|n| Change::Remove(Key::Network(n.id))).collect();
        let written = manager.store().write(move |view, _| Ok(remove(view))).await;
        written.expect("the store writes");
        for _ in 0..2 {
            manager.submit(Actor::Manager, Intent::ProvideNetworks).await.expect("there is room");
            assert_eq!(networks(&manager.view()), first);
        }
    }

    #[tokio::test]
    async fn a_node_that_came_back_while_it_was_given_up_begins_anew() {
        let fixture = Fixture::leading().await;
        let manager = &fixture.manager;
        let (back, gone) = (admitted(manager).await, admitted(manager).await);
        // The moment between noticing that a node is lost and writing it.
        let period = manager.heartbeat_period();
        let session = manager.sessions().register(back, None, period).expect("the first");
        manager.lose(vec![back, gone]).await;
        for node in [back, gone] {
            let view = manager.view();
            assert_eq!(view.node(node).map(|node| node.status.state), Some(NodeState::Down));
        }
        assert!(session.ended.is_cancelled(), "it reads down, so it has to register again");
    }
}
