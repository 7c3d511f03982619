//! The clients' door: the Docker Engine API over HTTP.
//!
//! ```text
//!   socket ▶ front (version prefix, headers) ▶ router ▶ handler: decode ▶ one call inwards ▶ answer
//!                                                └────▶ passthrough: what is not Swarm's
//! ```
//!
//! What all requests have in common stands once: versions and headers in [`front`], decoding in
//! [`decode`] and [`query`], errors in [`error`]. A handler is: extract, one call inwards, shape
//! the answer. The route list in [`router`] is also the API document.
//!
//! Left to others: whether a request is granted (`plan`), and the containers, images and local
//! networks of the host (`engine`).

mod address;
mod attach;
mod audit;
mod backup;
mod client;
mod config;
mod context;
mod decode;
mod error;
mod events;
mod front;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod gates;
mod hangup;
mod heads;
mod keys;
mod limits;
mod linger;
mod logs;
mod names;
mod network;
mod node;
mod origin;
mod passthrough;
mod query;
mod revision;
mod router;
mod secret;
mod server;
mod service;
mod supply;
mod swarm;
mod system;
mod task;
mod tls;

use std::sync::{Arc, RwLock};

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

pub(crate) use hangup::Hangups;
pub use router::document;
pub use server::{Config, Listeners, ServeError};
pub use tls::{TlsError, TlsFiles};

use crate::domain::actor::Actor;
use crate::domain::id::Stream;
use crate::domain::refusal::Refusal;
use crate::engine::Engine;
use crate::manager::Manager;
use crate::seal::unlock::UnlockKey;

/// What can be done with a manager that is locked. Both put another manager behind the door
/// ([`Door::open`]) before they answer.
pub trait Locked: Send + Sync {
    /// Opens the store with the key that a user gave.
    fn unlock(&self, key: UnlockKey) -> BoxFuture<'_, Result<(), Refusal>>;

    /// Gives up the swarm and all that is in its store, as `actor` wishes.
    fn forget(&self, actor: Actor) -> BoxFuture<'_, Result<(), Refusal>>;
}

/// The door; clones share it.
#[derive(Clone)]
pub struct Door {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Option<Engine>,
    /// Where the store lies, for `/info`.
    data_dir: String,
    /// What clients take up, whichever manager they ask.
    limits: limits::Limits,
    stop: CancellationToken,
    /// What requests go through now, and what ends its loops.
    front: RwLock<(front::Front, CancellationToken)>,
}

impl Door {
    /// A door to a manager, with the engine of this host beside it. `locked` is for a manager that
    /// is.
    pub fn new(
        manager: Manager,
        engine: Option<Engine>,
        data_dir: String,
        locked: Option<Arc<dyn Locked>>,
        stop: CancellationToken,
    ) -> Door {
        let limits = limits::Limits::default();
        let made = make_front(manager, engine.clone(), data_dir.clone(), locked, &limits, &stop);
        Door { inner: Arc::new(Inner { engine, data_dir, limits, stop, front: RwLock::new(made) }) }
    }

    /// From now on requests go to this manager. What still goes on with the one before ends.
    pub fn open(&self, manager: Manager) {
        let Inner { engine, data_dir, limits, stop, front } = &*self.inner;
        let made = make_front(manager, engine.clone(), data_dir.clone(), None, limits, stop);
        let mut front = front.write().expect("a front is never left half put");
        let (_, ended) = std::mem::replace(&mut *front, made);
        ended.cancel();
    }

    fn limits(&self) -> &limits::Limits {
        &self.inner.limits
    }

    fn front(&self) -> front::Front {
        self.inner.front.read().expect("a front is never left half put").0.clone()
    }

    /// Answers requests on the sockets, until it is stopped.
    pub async fn serve(self, listeners: Listeners) {
        let stop = self.inner.stop.clone();
        listeners.serve(self, stop).await;
    }
}

/// The way to a manager, and what ends it. Keeps the engine attached.
fn make_front(
    manager: Manager,
    engine: Option<Engine>,
    data_dir: String,
    locked: Option<Arc<dyn Locked>>,
    limits: &limits::Limits,
    stop: &CancellationToken,
) -> (front::Front, CancellationToken) {
    let ended = stop.child_token();
    let events = events::Events::start(&manager, ended.clone());
    let mut start = [0; 8];
    manager.entropy().fill(Stream::Other, &mut start);
    // Twelve hexadecimal digits, most of which another start does not share.
    let requests = (u64::from_le_bytes(start) >> 20 | 1).into();
    let inner = context::ApiInner {
        manager,
        engine,
        events,
        data_dir,
        locked,
        requests,
        attaching: tokio::sync::Mutex::new(()),
        stop: ended.clone(),
    };
    let api = context::Api { inner: Arc::new(inner) };
    tokio::spawn(attach::keep(api.clone()));
    let limits = limits.clone();
    (front::Front { routes: router::routes(api.clone()), api, limits }, ended)
}
