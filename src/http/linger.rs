//! Bodies that no handler reads to their end. A server that answers early and closes breaks the
//! pipe of a client that is still sending: it would see that, and not the answer. So the rest is
//! read and forgotten, for a while.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// How much is read and forgotten: as much as the largest body that any route takes, 8 MiB, and
/// some. Who sends more gets to see the connection close.
const FORGOTTEN_BYTES_MAX: usize = 16 << 20;
/// For how long: a client that sends at all has sent that much by then.
const FORGETTING_TIME: Duration = Duration::from_secs(10);

/// A request's body. Dropped before its end, it is read to its end in the background, and hyper
/// keeps the connection open as long.
pub(super) struct Lingering(Option<Incoming>);

impl Lingering {
    pub(super) fn new(body: Incoming) -> Lingering {
        Lingering(Some(body))
    }
}

impl Body for Lingering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.0 {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let Some(body) = self.0.take().filter(|body| !body.is_end_stream()) else { return };
        // Without a runtime there is nobody left to answer either.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(FORGETTING_TIME, forget(body)));
        }
    }
}

async fn forget(mut body: Incoming) {
    let mut left = FORGOTTEN_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let len = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(len) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}
