//! The stream of assignments: one complete set, then increments, each naming the state it applies
//! to. The chain is never allowed to break: on any trouble the stream ends with an error, and the
//! agent builds a new session.

use std::time::Duration;

use tokio::sync::watch;
use tonic::Status;

use super::assignment_set::{Difference, Held, Wanted};
use super::feed::{self, Feed, Sender};
use crate::domain::change::Key;
use crate::domain::id::{NodeId, SecretId};
use crate::domain::view::View;
use crate::manager::{Manager, Session};
use crate::seal::secret::SecretBytes;
use crate::wire;
use crate::wire::proto::{AssignmentChange, AssignmentsMessage};

/// After a change, more of it is waited for this long at most.
const GATHER_MAX: Duration = Duration::from_millis(100);
/// A pause this long means that a burst of changes is over.
const GATHER_PAUSE: Duration = Duration::from_millis(10);
/// Changes in one increment, and bytes of payload, after which it is sent: it bounds the plain
/// bytes that are in memory at once.
const INCREMENT_MAX: usize = 256;
const INCREMENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Feeds the assignments of one session.
pub(super) struct Assignments {
    pub manager: Manager,
    pub node: NodeId,
    pub session: Session,
    pub bell: watch::Receiver<()>,
}

/// How sending a difference came out.
enum Sent {
    /// The node was sent all of it.
    Whole,
    /// A secret of it was removed meanwhile: the cluster has to be looked at anew.
    Outdated,
}

impl Assignments {
    /// Starts the actor; what it sends comes out of the stream.
    pub(super) fn start(self) -> Feed<AssignmentsMessage> {
        feed::start(self.session.ended.clone(), |sender| self.run(sender))
    }

    async fn run(mut self, sender: Sender<AssignmentsMessage>) -> Option<Status> {
        let mut chain = Chain { sender, changes: Vec::new(), bytes: 0, state: 0 };
        let mut held = Held::default();
        loop {
            self.bell.mark_unchanged();
            let view = self.manager.view();
            if view.node(self.node).is_none() {
                return Some(Status::not_found("the node has been removed"));
            }
            let wanted = Wanted::of(&view, self.node);
            let difference = held.difference(&wanted);
            if chain.is_first() || !difference.is_empty() {
                match self.send(&mut chain, &view, &difference, &mut held).await {
                    Ok(Sent::Whole) => held.note_all(wanted),
                    Ok(Sent::Outdated) => {
                        // The view that knows of it is published in a moment.
                        tokio::time::sleep(GATHER_PAUSE).await;
                        continue;
                    }
                    Err(status) => return status,
                }
            }
            if self.gather().await.is_err() {
                return Some(Status::unavailable("the manager is stopping"));
            }
        }
    }

    /// Waits for a change, and then until the burst that it belongs to is over.
    async fn gather(&mut self) -> Result<(), watch::error::RecvError> {
        self.bell.changed().await?;
        let burst = async {
            while let Ok(Ok(())) = tokio::time::timeout(GATHER_PAUSE, self.bell.changed()).await {}
        };
        let _ = tokio::time::timeout(GATHER_MAX, burst).await;
        Ok(())
    }

    /// Sends a difference: whole for the first message, in bounded increments after that.
    async fn send(
        &self,
        chain: &mut Chain,
        view: &View,
        difference: &Difference,
        held: &mut Held,
    ) -> Result<Sent, Option<Status>> {
        for id in &difference.put_secrets {
            let Some(secret) = view.secret(*id) else { continue };
            let Some(data) = self.open(*id).await.map_err(Some)? else {
                if chain.is_first() {
                    chain.forget();
                    *held = Held::default();
                } else {
                    chain.flush().await?;
                }
                return Ok(Sent::Outdated);
            };
            tracing::info!(node = %self.node, secret = %id, "secret sent to node");
            let len = data.len();
            held.note_secret(*id);
            chain
                .push(wire::session::update_secret(wire::secret::secret(secret, data)), len)
                .await?;
        }
        for task in difference.put_tasks.iter().filter_map(|id| view.task(*id)) {
            chain.push(wire::session::update_task(wire::task::task(task)), 0).await?;
        }
        for id in &difference.remove_tasks {
            chain.push(wire::session::remove_task(*id), 0).await?;
        }
        for id in &difference.remove_secrets {
            tracing::info!(node = %self.node, secret = %id, "secret withdrawn from node");
            chain.push(wire::session::remove_secret(id.as_str()), 0).await?;
        }
        chain.flush().await?;
        Ok(Sent::Whole)
    }

    /// Opens a payload for the message that is being made; `None` when it was removed.
    async fn open(&self, id: SecretId) -> Result<Option<Vec<u8>>, Status> {
        match self.manager.store().payload(Key::Secret(id)).await {
            Ok(data) => Ok(data.map(SecretBytes::expose_into_vec)),
            Err(error) => {
                let source = &error as &dyn std::error::Error;
                tracing::error!(secret = %id, error = source, "a secret cannot be sent to its node");
                Err(Status::internal("a secret cannot be opened"))
            }
        }
    }
}

/// The messages of one stream, each of which names the one before it.
struct Chain {
    sender: Sender<AssignmentsMessage>,
    /// What the next message will hold.
    changes: Vec<AssignmentChange>,
    bytes: usize,
    /// What the last message resulted in; 0 before the first.
    state: u64,
}

impl Chain {
    fn is_first(&self) -> bool {
        self.state == 0
    }

    /// Adds a change, and sends what was gathered when that is enough for a message. The first
    /// message replaces all that the node has, so it is never cut.
    async fn push(&mut self, change: AssignmentChange, bytes: usize) -> Result<(), Option<Status>> {
        self.changes.push(change);
        self.bytes += bytes;
        let is_full = self.changes.len() >= INCREMENT_MAX || self.bytes >= INCREMENT_BYTES_MAX;
        if is_full && !self.is_first() {
            return self.flush().await;
        }
        Ok(())
    }

    /// Sends what was gathered. Only the first message may be empty.
    async fn flush(&mut self) -> Result<(), Option<Status>> {
        if self.changes.is_empty() && !self.is_first() {
            return Ok(());
        }
        let (from, to) = (self.state, self.state + 1);
        let changes = std::mem::take(&mut self.changes);
        self.bytes = 0;
        let message = match from {
            0 => wire::session::complete(to, changes),
            _ => wire::session::incremental(from, to, changes),
        };
        self.sender.send(Ok(message)).await.map_err(|_| None)?;
        self.state = to;
        Ok(())
    }

    fn forget(&mut self) {
        self.changes.clear();
        self.bytes = 0;
    }
}
