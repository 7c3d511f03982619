//! The sockets: a unix socket for this host, and TCP on the loopback if asked for.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::client::Client;
use super::first_line::FirstLine;
use super::front::Front;
use super::linger::Lingering;

/// How long a connection may stay silent before, or while, it sends the head of a request.
const HEADER_TIME: Duration = Duration::from_secs(300);
/// Connections at once; beyond this, new ones wait to be accepted.
const CONNECTIONS_MAX: usize = 4096;
/// How long requests under way get to end when the process stops.
const GOODBYE_TIME: Duration = Duration::from_secs(5);

/// Where the API is served.
#[derive(Debug, Clone)]
pub struct Config {
    /// The unix socket.
    pub socket: PathBuf,
    /// TCP, on the loopback only: it has neither TLS nor authentication.
    pub api_addr: Option<SocketAddr>,
}

/// The API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The unix socket.
    #[error("listening on {path}")]
    Unix {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process listens there.
    #[error("another process listens on {0}")]
    InUse(PathBuf),
    /// TCP.
    #[error("listening on {addr}")]
    Tcp {
        /// Where.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An address that others could reach.
    #[error(
        "{0} can be reached from other hosts, and the API has no TLS yet: whoever reaches it \
         commands the swarm. Use an address of the loopback"
    )]
    NotLoopback(SocketAddr),
}

/// The sockets, listening but not yet answering.
pub struct Listeners {
    unix: UnixListener,
    tcp: Option<TcpListener>,
    socket: SocketFile,
}

/// The file of the unix socket; gone when nobody is going to listen there any more.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listeners {
    /// Opens the sockets.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub async fn open(config: &Config) -> Result<Listeners, ServeError> {
        let tcp = match config.api_addr {
            None => None,
            Some(addr) if !addr.ip().is_loopback() => return Err(ServeError::NotLoopback(addr)),
            Some(addr) => {
                let listener = TcpListener::bind(addr).await;
                Some(listener.map_err(|source| ServeError::Tcp { addr, source })?)
            }
        };
        let unix = open_unix(&config.socket)?;
        Ok(Listeners { unix, tcp, socket: SocketFile(config.socket.clone()) })
    }

    /// Answers requests until `stop`; then those under way get a moment to end.
    pub(crate) async fn serve(self, front: Front, stop: CancellationToken) {
        let connections = Connections {
            front,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            tasks: TaskTracker::new(),
            stop: stop.clone(),
        };
        let unix = async {
            loop {
                let place = connections.place().await;
                match self.unix.accept().await {
                    Ok((stream, _)) => {
                        let client = Client::of(&stream);
                        connections.spawn(stream, client, place);
                    }
                    Err(error) => connections.refused(&error).await,
                }
            }
        };
        let tcp = async {
            let Some(listener) = &self.tcp else { return std::future::pending::<()>().await };
            loop {
                let place = connections.place().await;
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let _ = stream.set_nodelay(true);
                        connections.spawn(stream, Client::default(), place);
                    }
                    Err(error) => connections.refused(&error).await,
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = unix => {}
            () = tcp => {}
        }
        drop(self.socket);
        connections.tasks.close();
        let _ = tokio::time::timeout(GOODBYE_TIME, connections.tasks.wait()).await;
    }
}

struct Connections {
    front: Front,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Connections {
    async fn place(&self) -> tokio::sync::OwnedSemaphorePermit {
        self.places.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    async fn refused(&self, error: &io::Error) {
        tracing::warn!(%error, "a connection could not be accepted");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    fn spawn<S>(&self, stream: S, client: Client, place: tokio::sync::OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (front, stop) = (self.front.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let front = front.clone();
                let mut request = request.map(|body| Body::new(Lingering::new(body)));
                request.extensions_mut().insert(client.clone());
                async move { Ok::<_, Infallible>(front.answer(request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIME)
                .half_close(true)
                .serve_connection(TokioIo::new(FirstLine::new(stream)), service)
                .with_upgrades();
            tokio::pin!(connection);
            tokio::select! {
                ended = connection.as_mut() => if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended");
                },
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
            drop(place);
        });
    }
}

/// Opens the unix socket with mode 0660, for the group `docker` where it exists. A socket that
/// nobody listens on any more is replaced.
fn open_unix(path: &Path) -> Result<UnixListener, ServeError> {
    let failed = |source| ServeError::Unix { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(known) if known.file_type().is_socket() => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(ServeError::InUse(path.to_owned()));
            }
            std::fs::remove_file(path).map_err(failed)?;
        }
        Ok(_) => return Err(failed(io::Error::from(io::ErrorKind::AlreadyExists))),
        Err(_) => {}
    }
    // Until the mode is set, the process's umask keeps others out.
    let listener = UnixListener::bind(path).map_err(failed)?;
    if let Ok(Some(group)) = nix::unistd::Group::from_name("docker")
        && let Err(error) = nix::unistd::chown(path, None, Some(group.gid))
    {
        tracing::debug!(%error, "the socket stays with the user's own group");
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(listener)
}
