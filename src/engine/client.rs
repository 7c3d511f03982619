//! HTTP over the engine's unix socket: a connection for each request, so that streams and upgrades
//! have one of their own.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

/// The largest answer that is read into memory; only purser's own questions are.
const ANSWER_LEN_MAX: usize = 16 * 1024 * 1024;

/// The engine cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on its socket.
    #[error("the engine at {path} cannot be reached")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The connection failed.
    #[error("the connection to the engine failed")]
    Http(#[from] hyper::Error),
    /// The answer is no JSON, or too long.
    #[error("the engine answered nonsense")]
    Nonsense,
    /// It refuses.
    #[error("the engine answered {status}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its message.
        message: String,
    },
    /// It takes too long.
    #[error("the engine does not answer")]
    Slow,
}

/// A way to one engine.
#[derive(Debug, Clone)]
pub struct Client {
    socket: Arc<PathBuf>,
}

impl Client {
    pub(super) fn new(socket: PathBuf) -> Client {
        Client { socket: Arc::new(socket) }
    }

    /// The socket.
    pub fn socket(&self) -> &std::path::Path {
        &self.socket
    }

    /// Sends a request on a connection of its own. The answer's body and any upgrade keep the
    /// connection until they end.
    ///
    /// # Errors
    /// The engine cannot be reached, or the connection fails.
    pub async fn send<B>(&self, request: Request<B>) -> Result<Response<Incoming>, ClientError>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let connect = |source| ClientError::Connect { path: self.socket.to_path_buf(), source };
        let stream = UnixStream::connect(&*self.socket).await.map_err(connect)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to the engine ended");
            }
        });
        Ok(sender.send_request(request).await?)
    }

    /// Sends a small request and reads the JSON answer; an empty one is null.
    ///
    /// # Errors
    /// As [`Client::send`]; and the engine refuses, or answers nonsense.
    pub async fn json(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, ClientError> {
        let mut request = Request::builder().method(method).uri(path).header("Host", "docker");
        let mut text = Vec::new();
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json");
            text = serde_json::to_vec(body).map_err(|_| ClientError::Nonsense)?;
        }
        let request =
            request.body(Full::new(Bytes::from(text))).map_err(|_| ClientError::Nonsense)?;
        let response = self.send(request).await?;
        let status = response.status();
        let limited = Limited::new(response.into_body(), ANSWER_LEN_MAX).collect().await;
        let bytes = limited.map_err(|_| ClientError::Nonsense)?.to_bytes();
        let value = match bytes.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        };
        if !status.is_success() {
            let message = value.get("message").and_then(Value::as_str).unwrap_or("").to_owned();
            return Err(ClientError::Refused { status: status.as_u16(), message });
        }
        Ok(value)
    }
}
