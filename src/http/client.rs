//! The client of a connection: who it is, and whether it is still there. Clients may close their half
//! of it once they have asked, so that the end of what can be read says nothing; and a stream that is
//! silent would learn only from its next write that nobody listens.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::net::unix::UCred;
use tokio::sync::OwnedSemaphorePermit;

use super::limits::Place;
use crate::domain::actor::{Caller, Identity, Source};

/// How often it is looked after a client that closed one half of its connection.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The other end of a connection.
#[derive(Clone, Default)]
pub(super) struct Client {
    /// A second descriptor of the connection, closed with it, if it can be watched: over TCP, who
    /// is gone looks the same as who only has nothing more to ask.
    watched: Option<Arc<OwnedFd>>,
    /// Whom the connection shows it to be.
    caller: Caller,
    /// The places that the connection takes, free again once nothing of it is left.
    _places: Option<Arc<(Place, OwnedSemaphorePermit)>>,
}

impl Client {
    pub(super) fn of(stream: &UnixStream) -> Client {
        let watched = stream.as_fd().try_clone_to_owned().ok().map(Arc::new);
        let peer = stream.peer_cred().ok();
        let user = |peer: &UCred| Identity::User { uid: peer.uid(), gid: peer.gid() };
        let identity = peer.as_ref().map_or(Identity::Anyone, user);
        let source = Source::Unix(peer.and_then(|peer| peer.pid()));
        Client { watched, caller: Caller::new(identity, source), _places: None }
    }

    /// One that came over TCP, with a certificate of this name or without one.
    pub(super) fn of_tcp(addr: SocketAddr, name: Option<String>) -> Client {
        let identity = name.map_or(Identity::Anyone, Identity::Certificate);
        let caller = Caller::new(identity, Source::Tcp(addr));
        Client { watched: None, caller, _places: None }
    }

    /// The same client, with the places of its connection: whatever goes on with the connection after
    /// its last request was answered keeps a clone.
    pub(super) fn in_place(self, places: (Place, OwnedSemaphorePermit)) -> Client {
        Client { _places: Some(Arc::new(places)), ..self }
    }

    /// Whom the connection shows it to be.
    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Waits until both halves of the connection are closed.
    pub(super) async fn gone(self) {
        if let Some(stream) = self.watched.and_then(|fd| watch(&fd).ok())
            && hung_up(&stream).await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

fn watch(fd: &OwnedFd) -> io::Result<UnixStream> {
    UnixStream::from_std(std::os::unix::net::UnixStream::from(fd.try_clone()?))
}

async fn hung_up(stream: &UnixStream) -> io::Result<()> {
    loop {
        // Nothing is in the way of writing, so that this tells at once how things are.
        let ready = stream.ready(Interest::READABLE | Interest::WRITABLE).await?;
        if ready.is_write_closed() {
            return Ok(());
        }
        if ready.is_readable() {
            // Something was sent that nobody reads, or one half is closed: it stays so.
            tokio::time::sleep(LOOK_EVERY).await;
        } else {
            stream.ready(Interest::READABLE).await?;
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Client, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn who_closes_one_half_is_still_there() {
        let (own, mut other) = UnixStream::pair().expect("a pair");
        let mut gone = std::pin::pin!(Client::of(&own).gone());
        let wait = Duration::from_millis(50);
        assert!(tokio::time::timeout(wait, gone.as_mut()).await.is_err());
        other.shutdown().await.expect("it is open");
        assert!(tokio::time::timeout(wait, gone.as_mut()).await.is_err());
        drop(other);
        gone.await;
    }
}
