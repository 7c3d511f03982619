//! The stream of assignments: one complete set, then increments, each naming the state it applies
//! to. The chain is never allowed to break: on any trouble the stream ends with an error, and the
//! agent builds a new session.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tonic::Status;

use super::assignment_set::{AssignmentSet, Difference};
use crate::domain::change::Key;
use crate::domain::id::{NodeId, SecretId};
use crate::domain::view::View;
use crate::manager::{Manager, Session};
use crate::wire;
use crate::wire::proto::{AssignmentChange, AssignmentsMessage};

/// Messages that wait for a slow node; when they are full, the actor waits too, and what changes
/// meanwhile is gathered into the next one.
const QUEUE_MAX: usize = 2;
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

type Sender = mpsc::Sender<Result<AssignmentsMessage, Status>>;

impl Assignments {
    /// Starts the actor; what it sends comes out of the receiver.
    pub(super) fn start(self) -> mpsc::Receiver<Result<AssignmentsMessage, Status>> {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(async move {
            let ended = self.session.ended.clone();
            let status = tokio::select! {
                status = self.run(&sender) => status,
                () = ended.cancelled() => Some(Status::aborted("the session has ended")),
            };
            if let Some(status) = status {
                // An explicit error: an agent takes a plain end for one as well, but says less.
                let _ = sender.try_send(Err(status));
            }
        });
        receiver
    }

    /// Ends with the status to close with, or `None` when nobody listens any more.
    async fn run(mut self, sender: &Sender) -> Option<Status> {
        let mut held = AssignmentSet::default();
        let mut state = 0u64;
        loop {
            self.bell.mark_unchanged();
            let view = self.manager.view();
            if view.node(self.node).is_none() {
                return Some(Status::not_found("the node has been removed"));
            }
            let wanted = AssignmentSet::wanted(&view, self.node);
            let difference = held.difference(&wanted);
            let is_first = state == 0;
            if is_first || !difference.is_empty() {
                match self.send(sender, &view, &difference, &mut state).await {
                    Ok(()) => held = wanted,
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
        sender: &Sender,
        view: &View,
        difference: &Difference,
        state: &mut u64,
    ) -> Result<(), Option<Status>> {
        let is_first = *state == 0;
        let mut changes = Vec::new();
        let mut bytes = 0;
        for id in &difference.put_secrets {
            let Some(secret) = view.secret(*id) else { continue };
            let data = self.open(*id).await.map_err(Some)?;
            bytes += data.len();
            changes.push(wire::session::update_secret(wire::secret::secret(secret, data)));
            tracing::info!(node = %self.node, secret = %id, "secret sent to node");
            if !is_first && (bytes > INCREMENT_BYTES_MAX || changes.len() >= INCREMENT_MAX) {
                bytes = 0;
                flush(sender, &mut changes, state).await?;
            }
        }
        let tasks = difference.put_tasks.iter().filter_map(|id| view.task(*id));
        let puts = tasks.map(|task| wire::session::update_task(wire::task::task(task)));
        let removes = difference.remove_tasks.iter().map(|id| wire::session::remove_task(*id));
        for change in puts.chain(removes) {
            changes.push(change);
            if !is_first && changes.len() >= INCREMENT_MAX {
                flush(sender, &mut changes, state).await?;
            }
        }
        for id in &difference.remove_secrets {
            tracing::info!(node = %self.node, secret = %id, "secret withdrawn from node");
            changes.push(wire::session::remove_secret(id.as_str()));
        }
        if is_first || !changes.is_empty() {
            flush(sender, &mut changes, state).await?;
        }
        Ok(())
    }

    /// Opens a payload for the message that is being made.
    async fn open(&self, id: SecretId) -> Result<Vec<u8>, Status> {
        match self.manager.store().payload(Key::Secret(id)).await {
            Ok(Some(data)) => Ok(data.expose_into_vec()),
            // Removed since the view was taken: the next view has neither it nor its tasks.
            Ok(None) => Err(Status::aborted("a secret was removed meanwhile")),
            Err(error) => {
                let source = &error as &dyn std::error::Error;
                tracing::error!(secret = %id, error = source, "a secret cannot be sent to its node");
                Err(Status::internal("a secret cannot be opened"))
            }
        }
    }
}

/// Sends the changes gathered so far as the next message of the chain.
async fn flush(
    sender: &Sender,
    changes: &mut Vec<AssignmentChange>,
    state: &mut u64,
) -> Result<(), Option<Status>> {
    let (from, to) = (*state, *state + 1);
    let changes = std::mem::take(changes);
    let message = match from {
        0 => wire::session::complete(to, changes),
        _ => wire::session::incremental(from, to, changes),
    };
    sender.send(Ok(message)).await.map_err(|_| None)?;
    *state = to;
    Ok(())
}
