//! Who asks: the actor of every request, as far as a door could tell.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::forecast::Forecast;
use super::id::NodeId;

/// Who asks.
#[derive(Debug, Clone)]
pub enum Actor {
    /// A client of the HTTP API.
    Client(Caller),
    /// A node, known by its certificate.
    Node(NodeId),
    /// A host that presents a join token.
    Joiner(SocketAddr),
    /// The manager itself.
    Manager,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Client(caller) => caller.identity().fmt(f),
            Actor::Node(id) => write!(f, "node:{id}"),
            Actor::Joiner(_) => f.write_str("joiner"),
            Actor::Manager => f.write_str("manager"),
        }
    }
}

impl Actor {
    /// True for a client whose request is only tried.
    pub fn is_trying(&self) -> bool {
        matches!(self, Actor::Client(caller) if caller.trial().is_some())
    }

    /// Where the request came from, as far as that says more than who asks.
    pub fn source(&self) -> String {
        match self {
            Actor::Client(caller) => caller.source().to_string(),
            Actor::Joiner(addr) => addr.to_string(),
            Actor::Node(_) | Actor::Manager => String::new(),
        }
    }
}

/// A client of the HTTP API, and which of its requests this is.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    connection: Arc<(Identity, Source)>,
    request: u64,
    /// Set once the audit will tell of the request.
    is_told: Arc<AtomicBool>,
    /// Of a request that is only tried: what it would change, once that is known.
    trial: Option<Arc<OnceLock<Forecast>>>,
}

impl Caller {
    /// A client of a connection, before its first request.
    pub fn new(identity: Identity, source: Source) -> Caller {
        Caller { connection: Arc::new((identity, source)), ..Caller::default() }
    }

    /// The same client with a request of this number.
    pub fn with_request(&self, request: u64) -> Caller {
        Caller {
            connection: self.connection.clone(),
            request,
            is_told: Arc::default(),
            trial: None,
        }
    }

    /// The same request, to be tried only: nothing is changed.
    pub fn trying(self) -> Caller {
        Caller { trial: Some(Arc::default()), ..self }
    }

    /// What a request that is only tried would change, once that is known; `None` for one that is meant.
    pub fn trial(&self) -> Option<&OnceLock<Forecast>> {
        self.trial.as_deref()
    }

    /// Whom the connection shows it to be.
    pub fn identity(&self) -> &Identity {
        &self.connection.0
    }

    /// Where its connection comes from.
    pub fn source(&self) -> &Source {
        &self.connection.1
    }

    /// Says that the audit will tell of the request.
    pub fn set_told(&self) {
        self.is_told.store(true, Ordering::Relaxed);
    }

    /// True when the audit will tell of the request.
    pub fn is_told(&self) -> bool {
        self.is_told.load(Ordering::Relaxed)
    }

    /// Names the request in logs and in the audit.
    pub fn request(&self) -> u64 {
        self.request
    }
}

/// Whom a connection shows its client to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A user of this host, told by the kernel.
    User {
        /// Number of the user.
        uid: u32,
        /// Number of the user's group.
        gid: u32,
    },
    /// The common name of a client certificate.
    Certificate(String),
    /// Whoever reaches the loopback.
    #[default]
    Anyone,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::User { uid, .. } => write!(f, "uid:{uid}"),
            Identity::Certificate(name) => write!(f, "cert:{name}"),
            Identity::Anyone => f.write_str("anyone"),
        }
    }
}

/// Where a connection comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Source {
    /// The unix socket; the process at its other end, if the kernel told.
    Unix(Option<i32>),
    /// TCP.
    Tcp(SocketAddr),
    /// It is not known.
    #[default]
    Unknown,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Unix(Some(pid)) => write!(f, "unix:{pid}"),
            Source::Unix(None) => f.write_str("unix"),
            Source::Tcp(addr) => addr.fmt(f),
            Source::Unknown => Ok(()),
        }
    }
}
