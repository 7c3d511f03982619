//! The ends of subscriptions: the client's, and the two that a node has. Dropping one is the end of
//! its part.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Logs, NONE_YET, Progress, QUEUE_MAX, UnknownSubscription};
use crate::domain::id::{NodeId, SubscriptionId};
use crate::domain::log::{Line, Options, Subject};
use crate::domain::time::Timestamp;

/// The client's end of a subscription, which ends when this is dropped.
pub struct Reader {
    pub(super) logs: Logs,
    pub(super) id: SubscriptionId,
    pub(super) receiver: mpsc::Receiver<Vec<Line>>,
    pub(super) ended: CancellationToken,
    pub(super) missing: Arc<OnceLock<Vec<NodeId>>>,
}

impl Reader {
    /// The next lines, as many as wait; `None` at the end.
    pub async fn next(&mut self) -> Option<Vec<Line>> {
        let mut messages = Vec::new();
        loop {
            let count = tokio::select! {
                biased;
                count = self.receiver.recv_many(&mut messages, QUEUE_MAX) => count,
                () = self.ended.cancelled(), if !self.receiver.is_closed() => {
                    // What waits is still read, and whoever is not done yet is told so.
                    self.receiver.close();
                    continue;
                }
            };
            return (count > 0).then(|| messages.into_iter().flatten().collect());
        }
    }

    /// After the end: the nodes that did not say all that they were asked for.
    pub fn missing(&self) -> &[NodeId] {
        self.missing.get().map_or(&[], Vec::as_slice)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.logs.lock().end(self.id);
    }
}

/// What a node is asked for, while it listens.
pub struct Listening {
    pub(super) logs: Logs,
    pub(super) node: NodeId,
    pub(super) number: u64,
    pub(super) bell: watch::Receiver<()>,
}

impl Listening {
    /// All that it is asked for at present.
    pub fn wanted(&mut self) -> BTreeMap<SubscriptionId, (Subject, Options)> {
        self.bell.mark_unchanged();
        let state = self.logs.lock();
        let mut wanted = BTreeMap::new();
        for (id, subscription) in &state.subscriptions {
            let part = subscription.parts.get(&self.node);
            let Some(part) = part.filter(|part| part.progress == Progress::Open) else { continue };
            let options = match part.newest.load(Ordering::Relaxed) {
                NONE_YET => subscription.options,
                newest => {
                    subscription.options.after(Timestamp::from_unix_nanos(i128::from(newest)))
                }
            };
            wanted.insert(*id, (subscription.subject, options));
        }
        wanted
    }

    /// Waits until it may be asked for something else. False when another listens in its place.
    pub async fn changed(&mut self) -> bool {
        self.bell.changed().await.is_ok()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.logs.lock().left(self.node, self.number);
    }
}

/// A stream of lines from one node. Dropped without [`Publication::close`], it has broken off.
pub struct Publication {
    pub(super) logs: Logs,
    pub(super) id: SubscriptionId,
    pub(super) node: NodeId,
    pub(super) number: u64,
    pub(super) subject: Subject,
    pub(super) options: Options,
    pub(super) lines: mpsc::Sender<Vec<Line>>,
    pub(super) newest: Arc<AtomicI64>,
    pub(super) ended: CancellationToken,
}

impl Publication {
    /// The subscription.
    pub fn id(&self) -> SubscriptionId {
        self.id
    }

    /// What the lines have to be about.
    pub fn subject(&self) -> Subject {
        self.subject
    }

    /// Hands lines to the client, and waits as long as it does not read.
    ///
    /// # Errors
    /// The subscription has ended.
    pub async fn send(&self, mut lines: Vec<Line>) -> Result<(), UnknownSubscription> {
        let newest = lines.iter().map(|line| line.at).max();
        lines.retain(|line| self.options.wants(line));
        if !lines.is_empty() {
            tokio::select! {
                biased;
                () = self.ended.cancelled() => return Err(UnknownSubscription),
                sent = self.lines.send(lines) => sent.map_err(|_| UnknownSubscription)?,
            }
        }
        if let Some(newest) = newest {
            let nanos = i64::try_from(newest.unix_nanos()).unwrap_or(NONE_YET);
            self.newest.fetch_max(nanos, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Waits until nothing more is wanted.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// The node has said all that it was asked for.
    pub fn close(self) {
        self.logs.lock().part_ended(self.id, self.node, self.number, Progress::Ended);
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        self.logs.lock().part_ended(self.id, self.node, self.number, Progress::Missing);
    }
}
