//! The local engine: the Docker Engine on this host, reached over its own socket.
//!
//! purser is a control plane and runs no containers. The engine beside it does, in two ways: it
//! joins the swarm like any other engine ([`attach`]), and it answers every request that is not
//! Swarm's (the HTTP door passes those on through [`client`]). An engine that is lost or restarted
//! is no error of purser's: its node is shown down until it is back.
//!
//! Left to others: which requests are passed on and how answers are merged (`http`), and the node
//! that the engine becomes (`manager`, `dispatcher`).

pub mod attach;
pub mod client;

use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use client::{Client, ClientError};
use serde_json::Value;

/// How long the engine may take for a small answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// A handle to the local engine; clones share it.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    /// The newest API version it speaks, once it was asked.
    api_version: RwLock<Option<String>>,
}

impl Engine {
    /// The engine behind this socket. Nothing is asked of it yet.
    pub fn new(socket: PathBuf) -> Engine {
        let inner = Inner { client: Client::new(socket), api_version: RwLock::new(None) };
        Engine { inner: Arc::new(inner) }
    }

    /// For passing requests on.
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// The newest API version that the engine speaks, as far as is known.
    pub fn api_version(&self) -> Option<String> {
        self.inner.api_version.read().expect("a version is never left half written").clone()
    }

    /// Asks the engine for its version, and remembers what API it speaks.
    ///
    /// # Errors
    /// It cannot be reached, or answers nonsense.
    pub async fn version(&self) -> Result<Value, ClientError> {
        let version = self.get("/version").await?;
        if let Some(api) = version.get("ApiVersion").and_then(Value::as_str) {
            let mut known =
                self.inner.api_version.write().expect("a version is never left half written");
            if known.as_deref() != Some(api) {
                *known = Some(api.to_owned());
            }
        }
        Ok(version)
    }

    /// What the engine says of itself.
    ///
    /// # Errors
    /// It cannot be reached, or answers nonsense.
    pub async fn info(&self) -> Result<Value, ClientError> {
        self.get("/info").await
    }

    /// What the engine answers to a small question, within a stated time.
    ///
    /// # Errors
    /// It cannot be reached, refuses, takes too long, or answers nonsense.
    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        match tokio::time::timeout(ANSWER_TIME, self.inner.client.json("GET", path, None)).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::Slow),
        }
    }
}
