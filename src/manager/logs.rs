//! Logs: clients that ask for lines of tasks, and the nodes that send them.
//!
//! ```text
//!   client ── subscribe ▶ Reader ◀── bounded queue ◀── Publication ◀── lines ── node
//!                  └──▶ registry ── bell ──▶ Listening ── what it is asked for ──▶
//! ```
//!
//! Each request of a client is a subscription. It asks the nodes that its tasks run on or ran on,
//! as far as they listen; of those that do not, the client is told at the end. Without `follow` it
//! ends once no node has anything left to say. With `follow`, commits bring in the nodes of tasks
//! that come later, a node that comes back is asked for what came after the newest line that it has
//! sent, and the end comes with that of the service or task.
//!
//! Nothing is written. The lines may hold secrets: they are moved through and never looked at.

mod ends;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use ends::{Listening, Publication, Reader};

use crate::domain::change::{Changed, Key, Object};
use crate::domain::id::{Entropy, NodeId, SubscriptionId};
use crate::domain::log::{Line, Options, Subject};
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::view::View;
use crate::store::Store;

/// Subscriptions at once. Each holds a stream open on every node that it asks, so the nodes' door
/// counts on it.
pub const SUBSCRIPTIONS_MAX: u32 = 64;
/// Messages of nodes that wait for a client. When they are full, the nodes that publish to this
/// client wait as well, and nothing else does: nothing is dropped, and nothing piles up.
const QUEUE_MAX: usize = 16;

/// There is no such subscription, or the node was not asked or has said its last word.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no such subscription of this node")]
pub struct UnknownSubscription;

/// All subscriptions and all nodes that listen; clones share them.
#[derive(Clone)]
pub struct Logs {
    state: Arc<Mutex<State>>,
    entropy: Arc<dyn Entropy>,
}

#[derive(Default)]
struct State {
    subscriptions: BTreeMap<SubscriptionId, Subscription>,
    listeners: HashMap<NodeId, Listener>,
    /// Numbers listeners and publications, so that the end of an old one leaves its successor
    /// alone.
    drawn: u64,
}

struct Listener {
    number: u64,
    bell: watch::Sender<()>,
}

struct Subscription {
    subject: Subject,
    options: Options,
    lines: mpsc::Sender<Vec<Line>>,
    parts: BTreeMap<NodeId, Part>,
    /// The nodes that did not say all, set when it ends.
    missing: Arc<OnceLock<Vec<NodeId>>>,
    ended: CancellationToken,
}

/// What one node contributes.
struct Part {
    progress: Progress,
    /// The stream that it publishes with, by number.
    publication: Option<(u64, CancellationToken)>,
    /// The newest line that came, in nanoseconds since 1970.
    newest: Arc<AtomicI64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// It is asked, and has not said its last word.
    Open,
    /// It has.
    Ended,
    /// It does not listen, or broke off.
    Missing,
}

/// What comes before every line.
const NONE_YET: i64 = i64::MIN;

impl Logs {
    pub(super) fn new(entropy: Arc<dyn Entropy>) -> Logs {
        Logs { state: Arc::default(), entropy }
    }

    pub(super) fn subscribe(
        &self,
        view: impl FnOnce() -> View,
        subject: Subject,
        options: Options,
    ) -> Result<Reader, Refusal> {
        let mut state = self.lock();
        if state.subscriptions.len() >= SUBSCRIPTIONS_MAX as usize {
            let message = "too many requests for logs at once; end one of them and try again";
            return Err(Refusal::front(Reason::Unavailable, message));
        }
        // Taken under the lock: the watch brings in whatever a later commit adds.
        let view = view();
        let id = SubscriptionId::make(&*self.entropy);
        let (lines, receiver) = mpsc::channel(QUEUE_MAX);
        let (missing, ended) = (Arc::new(OnceLock::new()), CancellationToken::new());
        let subscription = Subscription {
            subject,
            options,
            lines,
            parts: BTreeMap::new(),
            missing: missing.clone(),
            ended: ended.clone(),
        };
        state.subscriptions.insert(id, subscription);
        state.refresh(id, &view);
        state.settle(id);
        Ok(Reader { logs: self.clone(), id, receiver, ended, missing })
    }

    /// Brings in what commits add to subscriptions, and ends all when the lead does.
    pub(super) async fn watch(self, store: Store, ended: CancellationToken) {
        let (_, mut commits) = store.subscribe();
        loop {
            let commit = tokio::select! {
                () = ended.cancelled() => break,
                commit = commits.recv() => commit,
            };
            match commit {
                Ok(commit) => self.note(&commit.view, |subject| {
                    commit.changes.iter().any(|changed| touches(changed, subject))
                }),
                Err(RecvError::Lagged(_)) => self.note(&store.view(), |_| true),
                Err(RecvError::Closed) => break,
            }
        }
        let mut state = self.lock();
        while let Some(id) = state.subscriptions.keys().next().copied() {
            state.end(id);
        }
    }

    fn note(&self, view: &View, is_touched: impl Fn(Subject) -> bool) {
        let mut state = self.lock();
        let touched = state.subscriptions.iter().filter(|(_, subscription)| {
            subscription.options.follow && is_touched(subscription.subject)
        });
        let touched: Vec<SubscriptionId> = touched.map(|(id, _)| *id).collect();
        for id in touched {
            state.refresh(id, view);
        }
    }

    /// Begins to tell a node what it is asked for, in place of what told it before.
    pub fn listen(&self, node: NodeId) -> Listening {
        let mut state = self.lock();
        let number = state.draw();
        let (bell, heard) = watch::channel(());
        state.listeners.insert(node, Listener { number, bell });
        for subscription in state.subscriptions.values_mut() {
            if let Some(part) = subscription.parts.get_mut(&node)
                && part.progress == Progress::Missing
            {
                part.progress = Progress::Open;
            }
        }
        Listening { logs: self.clone(), node, number, bell: heard }
    }

    /// Begins to take lines of a node, in place of the stream that it published with before.
    ///
    /// # Errors
    /// The node was not asked.
    pub fn publish(&self, node: NodeId, id: &str) -> Result<Publication, UnknownSubscription> {
        let id: SubscriptionId = id.parse().map_err(|_| UnknownSubscription)?;
        let mut state = self.lock();
        let number = state.draw();
        let subscription = state.subscriptions.get_mut(&id).ok_or(UnknownSubscription)?;
        let part = subscription.parts.get_mut(&node);
        let part = part.filter(|part| part.progress == Progress::Open);
        let part = part.ok_or(UnknownSubscription)?;
        let ended = subscription.ended.child_token();
        if let Some((_, before)) = part.publication.replace((number, ended.clone())) {
            before.cancel();
        }
        Ok(Publication {
            logs: self.clone(),
            id,
            node,
            number,
            subject: subscription.subject,
            options: subscription.options,
            lines: subscription.lines.clone(),
            newest: part.newest.clone(),
            ended,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the subscriptions")
    }
}

/// True when a change can bring new nodes to a subject, or end it.
fn touches(changed: &Changed, subject: Subject) -> bool {
    match (changed.key, subject) {
        (Key::Service(id), Subject::Service(wanted)) => id == wanted,
        (Key::Task(id), Subject::Task(wanted)) => id == wanted,
        (Key::Task(_), Subject::Service(wanted)) => {
            let objects = [&changed.old, &changed.new].into_iter().flatten();
            let mut tasks = objects.filter_map(|object| match object {
                Object::Task(task) => Some(task),
                _ => None,
            });
            tasks.any(|task| task.service_id == Some(wanted))
        }
        _ => false,
    }
}

impl State {
    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    /// Asks the nodes that a subscription does not ask yet, and ends it with its subject.
    fn refresh(&mut self, id: SubscriptionId, view: &View) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        for node in subscription.subject.nodes(view) {
            if subscription.parts.contains_key(&node) {
                continue;
            }
            let listener = self.listeners.get(&node);
            let progress = if listener.is_some() { Progress::Open } else { Progress::Missing };
            let newest = Arc::new(AtomicI64::new(NONE_YET));
            subscription.parts.insert(node, Part { progress, publication: None, newest });
            if let Some(listener) = listener {
                listener.bell.send_replace(());
            }
        }
        if subscription.options.follow && !subscription.subject.exists(view) {
            self.end(id);
        }
    }

    /// Ends a subscription that nobody has anything left to say to.
    fn settle(&mut self, id: SubscriptionId) {
        let Some(subscription) = self.subscriptions.get(&id) else { return };
        let mut parts = subscription.parts.values();
        if !subscription.options.follow && parts.all(|part| part.progress != Progress::Open) {
            self.end(id);
        }
    }

    fn end(&mut self, id: SubscriptionId) {
        let Some(subscription) = self.subscriptions.remove(&id) else { return };
        subscription.ended.cancel();
        // Who follows asked for no end, so that a node which is still at it misses nothing.
        let is_missing = |part: &Part| match part.progress {
            Progress::Open => !subscription.options.follow,
            Progress::Ended => false,
            Progress::Missing => true,
        };
        let missing = subscription.parts.iter().filter(|(_, part)| is_missing(part));
        let _ = subscription.missing.set(missing.map(|(node, _)| *node).collect());
        for node in subscription.parts.keys() {
            if let Some(listener) = self.listeners.get(node) {
                listener.bell.send_replace(());
            }
        }
    }

    /// Notes the end of what a node says to a subscription.
    fn part_ended(&mut self, id: SubscriptionId, node: NodeId, number: u64, progress: Progress) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        let Some(part) = subscription.parts.get_mut(&node) else { return };
        let is_present = part.publication.as_ref().is_some_and(|(present, _)| *present == number);
        if !is_present || part.progress != Progress::Open {
            return;
        }
        part.progress = progress;
        part.publication = None;
        if let Some(listener) = self.listeners.get(&node) {
            listener.bell.send_replace(());
        }
        self.settle(id);
    }

    /// Notes that a node does not listen any more.
    fn left(&mut self, node: NodeId, number: u64) {
        if self.listeners.get(&node).is_none_or(|listener| listener.number != number) {
            return;
        }
        self.listeners.remove(&node);
        let mut lost = Vec::new();
        for (id, subscription) in &mut self.subscriptions {
            let part = subscription.parts.get_mut(&node);
            let Some(part) = part.filter(|part| part.progress == Progress::Open) else { continue };
            part.progress = Progress::Missing;
            if let Some((_, ended)) = part.publication.take() {
                ended.cancel();
            }
            lost.push(*id);
        }
        for id in lost {
            self.settle(id);
        }
    }
}

#[cfg(test)]
mod tests;
