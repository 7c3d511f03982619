//! The sockets: a unix socket for this host, and TCP if asked for: with TLS and certificates of
//! clients anywhere, without them on the loopback.

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
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Door;
use super::client::Client;
use super::heads::{HEAD_LEN_MAX, Heads};
use super::limits::CONNECTIONS_MAX as CLIENT_CONNECTIONS_MAX;
use super::linger::Lingering;
use super::tls::{Tls, TlsError, TlsFiles};

/// How long a connection may stay silent before, or while, it sends the head of a request.
const HEADER_TIME: Duration = Duration::from_secs(300);
/// Connections at once; beyond this, new ones wait to be accepted.
const CONNECTIONS_MAX: usize = 4096;
/// Connections at once that are too many of their client's and are told so, and for how long; beyond
/// this they are closed at once.
const TURNED_AWAY_MAX: usize = 64;
const TURN_AWAY_TIME: Duration = Duration::from_secs(2);
/// TLS handshakes at once, which anybody may begin; beyond this, new connections wait to be
/// accepted. They take none of the places of connections.
const HANDSHAKES_MAX: usize = 256;
/// How long a client over TLS may be silent before it is asked whether it is still there, and how
/// often until it is given up. Whoever only listens, to events or logs, would linger for ever once
/// its host is gone.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(20);
const KEEPALIVE_COUNT: u32 = 3;
/// How long requests under way get to end when the process stops.
const GOODBYE_TIME: Duration = Duration::from_secs(5);

/// Where the API is served.
#[derive(Debug, Clone)]
pub struct Config {
    /// The unix socket.
    pub socket: PathBuf,
    /// TCP; without TLS it has no authentication either, and is on the loopback only.
    pub api_addr: Option<SocketAddr>,
    /// What makes the API over TCP one with TLS.
    pub api_tls: Option<TlsFiles>,
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
        "{0} can be reached from other hosts, and without TLS whoever reaches it commands the swarm: \
         use an address of the loopback, or give --api-tls-cert, --api-tls-key and --api-tls-ca"
    )]
    NotLoopback(SocketAddr),
    /// The files of TLS.
    #[error("TLS of the API")]
    Tls(#[source] TlsError),
}

/// The sockets, listening but not yet answering.
pub struct Listeners {
    unix: UnixListener,
    tcp: Option<TcpListener>,
    /// Of TCP.
    tls: Option<Arc<Tls>>,
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
        let tls = config.api_tls.as_ref().map(Tls::load).transpose().map_err(ServeError::Tls)?;
        let tcp = match config.api_addr {
            None => None,
            Some(addr) if tls.is_none() && !addr.ip().is_loopback() => {
                return Err(ServeError::NotLoopback(addr));
            }
            Some(addr) => {
                let listener = TcpListener::bind(addr).await;
                Some(listener.map_err(|source| ServeError::Tcp { addr, source })?)
            }
        };
        let unix = open_unix(&config.socket)?;
        let tls = tls.map(Arc::new);
        Ok(Listeners { unix, tcp, tls, socket: SocketFile(config.socket.clone()) })
    }

    /// Answers requests until `stop`; then those under way get a moment to end.
    pub(super) async fn serve(self, door: Door, stop: CancellationToken) {
        let connections = Connections {
            door,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY_MAX)),
            tasks: TaskTracker::new(),
            stop: stop.clone(),
        };
        let tcp = async {
            match (&self.tcp, &self.tls) {
                (None, _) => std::future::pending().await,
                (Some(listener), None) => connections.take_tcp(listener).await,
                (Some(listener), Some(tls)) => tokio::select! {
                    () = connections.take_tls(listener, tls) => {}
                    () = tls.follow() => {}
                },
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = connections.take_unix(&self.unix) => {}
            () = tcp => {}
        }
        drop(self.socket);
        connections.tasks.close();
        let _ = tokio::time::timeout(GOODBYE_TIME, connections.tasks.wait()).await;
    }
}

#[derive(Clone)]
struct Connections {
    door: Door,
    places: Arc<Semaphore>,
    /// Of connections that are only told that they are too many.
    turned_away: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Connections {
    async fn place(&self) -> OwnedSemaphorePermit {
        self.places.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    async fn refused(&self, error: &io::Error) {
        tracing::warn!(%error, "a connection could not be accepted");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    /// Accepts connections of this host, for ever.
    async fn take_unix(&self, listener: &UnixListener) {
        loop {
            let place = self.place().await;
            match listener.accept().await {
                Ok((stream, _)) => {
                    let client = Client::of(&stream);
                    self.begin(stream, client, place);
                }
                Err(error) => self.refused(&error).await,
            }
        }
    }

    /// Accepts connections over TCP without TLS, for ever.
    async fn take_tcp(&self, listener: &TcpListener) {
        loop {
            let place = self.place().await;
            match listener.accept().await {
                Ok((stream, addr)) => {
                    let _ = stream.set_nodelay(true);
                    let client = Client::of_tcp(addr, None);
                    self.begin(stream, client, place);
                }
                Err(error) => self.refused(&error).await,
            }
        }
    }

    /// Accepts connections over TLS, for ever.
    async fn take_tls(&self, listener: &TcpListener, tls: &Arc<Tls>) {
        tracing::info!(addr = ?listener.local_addr().ok(), "listening for clients with TLS");
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        loop {
            let handshake = handshakes.clone().acquire_owned().await;
            let handshake = handshake.expect("the semaphore is never closed");
            match listener.accept().await {
                Ok((stream, addr)) => {
                    let (connections, tls) = (self.clone(), tls.clone());
                    self.tasks.spawn(async move {
                        let admitted = async {
                            prepare(&stream);
                            let (stream, client) = tls.agree(stream, addr).await?;
                            Some((stream, client, connections.place().await))
                        };
                        let admitted = tokio::select! {
                            () = connections.stop.cancelled() => None,
                            admitted = admitted => admitted,
                        };
                        drop(handshake);
                        if let Some((stream, client, place)) = admitted {
                            connections.begin(stream, client, place);
                        }
                    });
                }
                Err(error) => self.refused(&error).await,
            }
        }
    }

    /// Begins to answer a connection, or turns it away if its client has too many.
    fn begin<S>(&self, stream: S, client: Client, place: OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if let Some(own) = self.door.limits().connect(client.caller().identity()) {
            let client = client.in_place((own, place));
            self.tasks.spawn(self.clone().answer(stream, client));
            return;
        }
        // Beyond so many, who has too many is not even told.
        drop(place);
        if let Ok(turn) = self.turned_away.clone().try_acquire_owned() {
            self.tasks.spawn(async move {
                let _ = tokio::time::timeout(TURN_AWAY_TIME, turn_away(stream)).await;
                drop(turn);
            });
        }
    }

    /// Answers the requests of one connection, until it or everything ends.
    async fn answer<S>(self, stream: S, client: Client)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Connections { door, stop, .. } = self;
        let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let front = door.front();
            let mut request = request.map(|body| Body::new(Lingering::new(body)));
            request.extensions_mut().insert(client.clone());
            async move { Ok::<_, Infallible>(front.answer(request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIME)
            .max_buf_size(HEAD_LEN_MAX)
            .half_close(true)
            .serve_connection(TokioIo::new(Heads::new(stream)), service)
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
    }
}

/// Tells a client that has too many connections, once it has asked: whatever comes before is taken for
/// a broken connection.
async fn turn_away(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut asked = [0; 1024];
    let mut last = [0; 4];
    loop {
        let count = stream.read(&mut asked).await?;
        let tail: Vec<u8> = last.iter().chain(&asked[..count]).copied().collect();
        if count == 0 || tail.windows(4).any(|window| window == b"\r\n\r\n") {
            break;
        }
        last.copy_from_slice(&tail[tail.len() - 4..]);
    }
    let body = format!(
        "{{\"message\":\"this client has {CLIENT_CONNECTIONS_MAX} connections open, and may have no more\"}}\n"
    );
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await?;
    stream.shutdown().await?;
    // With something unread, closing would take the answer along.
    while stream.read(&mut asked).await? > 0 {}
    Ok(())
}

/// Sets up a connection over TLS. What the system refuses only makes it slower to notice things.
fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let watched = sockopt::set_socket_keepalive(stream, true)
        .and_then(|()| sockopt::set_tcp_keepidle(stream, KEEPALIVE_AFTER))
        .and_then(|()| sockopt::set_tcp_keepintvl(stream, KEEPALIVE_EVERY))
        .and_then(|()| sockopt::set_tcp_keepcnt(stream, KEEPALIVE_COUNT));
    if let Err(error) = watched {
        tracing::debug!(%error, "a client's connection is not watched");
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
