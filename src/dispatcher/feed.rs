//! Streams that this side feeds: each has an actor that makes its messages, and an end that says
//! why.

use std::future::ready;
use std::pin::Pin;

use futures_util::stream::once;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Messages that wait for a slow node; when they are full, the actor waits too, and what changes
/// meanwhile is gathered into its next one.
const QUEUE_MAX: usize = 2;

/// What a node listens to.
pub(super) type Feed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Where an actor puts its messages.
pub(super) type Sender<T> = mpsc::Sender<Result<T, Status>>;

/// Starts an actor and returns what it feeds. The actor ends with the status to close with, or with
/// `None` when nobody listens any more. It is dropped where it stands once its session has `ended`
/// or the stream is gone; what still waits to be sent is dropped with the session.
///
/// The end is always an error: an agent takes a plain end for one as well, but says less.
pub(super) fn start<T, A>(ended: CancellationToken, actor: impl FnOnce(Sender<T>) -> A) -> Feed<T>
where
    T: Send + 'static,
    A: Future<Output = Option<Status>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(QUEUE_MAX);
    let (running, stop) = (actor(sender.clone()), ended.clone());
    tokio::spawn(async move {
        let last = async {
            if let Some(status) = running.await {
                let _ = sender.send(Err(status)).await;
            }
        };
        tokio::select! {
            () = last => {}
            () = stop.cancelled() => {}
            () = sender.closed() => {}
        }
    });
    let aborted = once(ready(Err(Status::aborted("the session has ended"))));
    Box::pin(ReceiverStream::new(receiver).take_until(ended.cancelled_owned()).chain(aborted))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// An actor that holds on to something until it is dropped.
    fn endless(ended: &CancellationToken, held: Arc<()>) -> Feed<u32> {
        start(ended.clone(), |sender| async move {
            let _held = held;
            for number in 0.. {
                sender.send(Ok(number)).await.ok()?;
            }
            None
        })
    }

    async fn is_let_go(held: &Arc<()>) -> bool {
        for _ in 0..100 {
            if Arc::strong_count(held) == 1 {
                return true;
            }
            tokio::task::yield_now().await;
        }
        false
    }

    #[tokio::test]
    async fn an_ended_session_sends_nothing_that_still_waits() {
        let (ended, held) = (CancellationToken::new(), Arc::new(()));
        let mut feed = endless(&ended, held.clone());
        assert_eq!(feed.next().await.map(Result::ok), Some(Some(0)));
        ended.cancel();
        let last = feed.next().await.and_then(Result::err).map(|status| status.code());
        assert_eq!(last, Some(tonic::Code::Aborted));
        assert!(feed.next().await.is_none());
        assert!(is_let_go(&held).await, "the actor is gone");
    }

    #[tokio::test]
    async fn an_actor_ends_when_nobody_listens() {
        let (ended, held) = (CancellationToken::new(), Arc::new(()));
        let waiting = start::<u32, _>(ended.clone(), {
            let held = held.clone();
            |_sender| async move {
                let _held = held;
                std::future::pending().await
            }
        });
        drop(endless(&ended, held.clone()));
        drop(waiting);
        assert!(is_let_go(&held).await, "though neither of them was told");
    }

    #[tokio::test]
    async fn an_actors_own_end_comes_after_what_it_sent() {
        let mut feed = start(CancellationToken::new(), |sender| async move {
            for number in 0..5 {
                sender.send(Ok(number)).await.ok()?;
            }
            Some(Status::not_found("gone"))
        });
        for number in 0..5 {
            assert_eq!(feed.next().await.map(Result::ok), Some(Some(number)));
        }
        let last = feed.next().await.and_then(Result::err).map(|status| status.code());
        assert_eq!(last, Some(tonic::Code::NotFound));
    }
}
