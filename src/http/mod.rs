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
mod client;
mod config;
mod context;
mod decode;
mod error;
mod events;
mod first_line;
mod front;
mod gates;
mod linger;
mod logs;
mod names;
mod network;
mod node;
mod passthrough;
mod query;
mod router;
mod secret;
mod server;
mod service;
mod swarm;
mod system;
mod task;
mod tls;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use router::document;
pub use server::{Config, Listeners, ServeError};
pub use tls::{TlsError, TlsFiles};

use crate::engine::Engine;
use crate::manager::Manager;

/// What the door is made of.
pub struct Door {
    /// Where requests go.
    pub manager: Manager,
    /// The engine of this host.
    pub engine: Option<Engine>,
    /// Where the store lies, for `/info`.
    pub data_dir: String,
}

impl Door {
    /// Answers requests on the sockets, and keeps the engine attached, until `stop`.
    pub async fn serve(self, listeners: Listeners, stop: CancellationToken) {
        let events = events::Events::start(&self.manager, stop.clone());
        let inner = context::ApiInner {
            manager: self.manager,
            engine: self.engine,
            events,
            data_dir: self.data_dir,
            attaching: tokio::sync::Mutex::new(()),
            stop: stop.clone(),
        };
        let api = context::Api { inner: Arc::new(inner) };
        let front = front::Front { api: api.clone(), routes: router::routes(api.clone()) };
        let attached = tokio::spawn(attach::keep(api));
        listeners.serve(front, stop).await;
        let _ = attached.await;
    }
}
