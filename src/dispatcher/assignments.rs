//! The stream of assignments: one complete set, then increments, each naming the state it applies
//! to. The chain is never allowed to break: on any trouble the stream ends with an error, and the
//! agent builds a new session.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch;
use tonic::Status;

use super::assignment_set::{Difference, Held, Wanted};
use super::feed::{self, Feed, Sender};
use crate::domain::actor::Actor;
use crate::domain::audit::{Note, Outcome};
use crate::domain::change::{Key, Object};
use crate::domain::id::NodeId;
use crate::domain::network::Attachment;
use crate::domain::refusal::Refusal;
use crate::domain::view::View;
use crate::manager::{Manager, Session, Told};
use crate::seal::secret::SecretBytes;
use crate::wire;
use crate::wire::proto::{AssignmentChange, AssignmentsMessage};

/// After a change, more of it is waited for this long at most.
const GATHER_MAX: Duration = Duration::from_millis(100);
/// A pause this long means that a burst of changes is over.
const GATHER_PAUSE: Duration = Duration::from_millis(10);
/// The messages of the session are waited for this long at most, a little less than an engine waits
/// for an answer.
const TOLD_MAX: Duration = Duration::from_secs(4);
/// How long an attachment is held back for the place of its node on the network to come first, over
/// the stream of the session. An engine waits for that place before it makes a container of a task,
/// but gives up an attachment that comes before it. Whoever started the container waits for 20 s.
const ATTACHMENT_PAUSE: Duration = Duration::from_millis(100);
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
    /// A secret or config of it was removed meanwhile: the cluster has to be looked at anew.
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
            let attachments = difference.put_tasks.iter().filter_map(|id| view.task(*id));
            if attachments.into_iter().any(|task| task.service_id.is_none()) {
                tokio::time::sleep(ATTACHMENT_PAUSE).await;
            }
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
        self.tell(difference).await?;
        // Before any payload is opened: what was revoked meanwhile is then not sent.
        if self.await_places(view, difference).await {
            return Ok(Sent::Outdated);
        }
        for grant in &difference.put_grants {
            let Some(object) = view.object(grant.key) else { continue };
            let Some(place) = grant.place(view) else { continue };
            let Some(data) = self.open(place).await.map_err(Some)? else {
                if chain.is_first() {
                    chain.forget();
                    *held = Held::default();
                } else {
                    chain.flush().await?;
                }
                return Ok(Sent::Outdated);
            };
            let (kind, id) = (grant.key.kind().word(), grant.id());
            tracing::info!(node = %self.node, id, "{kind} sent to node");
            let len = data.len();
            held.note_grant(*grant);
            let change = match object {
                Object::Secret(secret) => {
                    wire::session::update_secret(wire::secret::secret_as(&secret, id, data))
                }
                Object::Config(config) => {
                    wire::session::update_config(wire::config::config_as(&config, id, data))
                }
                _ => continue,
            };
            chain.push(change, len).await?;
        }
        for task in difference.put_tasks.iter().filter_map(|id| view.task(*id)) {
            chain.push(wire::session::update_task(wire::task::task(task, view)), 0).await?;
        }
        for id in &difference.remove_tasks {
            chain.push(wire::session::remove_task(*id), 0).await?;
        }
        for grant in &difference.remove_grants {
            let (kind, id) = (grant.key.kind().word(), grant.id());
            tracing::info!(node = %self.node, id, "{kind} withdrawn from node");
            let change = match grant.key {
                Key::Config(_) => wire::session::remove_config(&id),
                _ => wire::session::remove_secret(&id),
            };
            chain.push(change, 0).await?;
        }
        chain.flush().await?;
        Ok(Sent::Whole)
    }

    /// Has the audit tell of the payloads that the node gets and has to give up, before it does.
    async fn tell(&self, difference: &Difference) -> Result<(), Option<Status>> {
        let puts = difference.put_grants.iter().map(|grant| ("payload deliver", grant));
        let removes = difference.remove_grants.iter().map(|grant| ("payload withdraw", grant));
        let told = puts.chain(removes).map(|(verb, grant)| {
            let mut detail = format!("node {}", self.node);
            if grant.number != 1 {
                detail = format!("{detail}, version {}", grant.number);
            }
            let note = Note::new(Actor::Manager, verb).about(grant.key).with(detail);
            Told { note, outcome: Outcome::Done }
        });
        let told: Vec<Told> = told.collect();
        if told.is_empty() {
            return Ok(());
        }
        let failed = |refusal: Refusal| {
            tracing::error!(%refusal, "no payload is sent that the audit cannot tell of");
            Some(Status::unavailable("the audit cannot be written"))
        };
        self.manager.tell(told).await.map_err(failed)
    }

    /// Waits until the node has been told of its places on the networks of the tasks that it gets:
    /// the stream of its session's messages is another one, and may be behind. An engine that does
    /// not read it is not waited for. True when it had to be waited for, so that the view is old.
    async fn await_places(&self, view: &View, difference: &Difference) -> bool {
        let own = view.node(self.node).map_or(&[][..], |node| &node.attachments);
        let tasks = difference.put_tasks.iter().filter_map(|id| view.task(*id));
        let places = tasks.filter(|task| task.is_live()).flat_map(|task| &task.networks);
        let networks = places.map(|place| place.network);
        let place = |id| own.iter().find(|place| place.network == id).copied();
        let needed: BTreeSet<Attachment> = networks.filter_map(place).collect();
        let mut told = self.session.told.subscribe();
        if needed.is_subset(&told.borrow()) {
            return false;
        }
        let known = told.wait_for(|told| needed.is_subset(told));
        tokio::time::timeout(TOLD_MAX, known).await.is_ok()
    }

    /// Opens a payload for the message that is being made; `None` when it was removed.
    async fn open(&self, key: Key) -> Result<Option<Vec<u8>>, Status> {
        match self.manager.store().payload(key).await {
            Ok(data) => Ok(data.map(SecretBytes::expose_into_vec)),
            Err(error) => {
                let (kind, id) = (key.kind().word(), key.id());
                let source = &error as &dyn std::error::Error;
                tracing::error!(id, error = source, "a {kind} cannot be sent to its node");
                Err(Status::internal(format!("a {kind} cannot be opened")))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatcher::fixture::{Visit, heard, secret, secret_id, task};
    use crate::dispatcher::session::Messages;
    use crate::domain::change::Change;
    use crate::domain::id::TaskId;
    use crate::domain::network::Attachment;
    use crate::domain::secret::SecretSpec;
    use crate::domain::task_state::TaskState;
    use crate::wire::proto::assignment::Item;

    fn start(visit: &Visit) -> Feed<AssignmentsMessage> {
        let (manager, node, session) = (visit.manager(), visit.node, visit.session.clone());
        Assignments { manager, node, session, bell: visit.hub.bell(node) }.start()
    }

    fn put(visit: &Visit, number: u8, secrets: &[u8]) -> Change {
        task(visit.node, number, TaskState::Assigned, TaskState::Running, secrets).into()
    }

    /// What a message applies to and results in, and its changes: `+s` puts a secret, `-t` removes
    /// a task.
    fn show(message: &AssignmentsMessage) -> String {
        let changes = message.changes.iter().map(|change| {
            let sign = if change.action == 0 { "+" } else { "-" };
            let kind = match change.assignment.as_ref().and_then(|held| held.item.as_ref()) {
                Some(Item::Task(_)) => "t",
                Some(Item::Secret(_)) => "s",
                _ => "?",
            };
            format!(" {sign}{kind}")
        });
        format!("{}>{}{}", message.applies_to, message.results_in, changes.collect::<String>())
    }

    async fn said(feed: &mut Feed<AssignmentsMessage>) -> String {
        heard(feed).await.as_ref().map(show).unwrap_or_default()
    }

    #[tokio::test]
    async fn a_secret_that_vanishes_while_it_is_opened_breaks_nothing() {
        let visit = Visit::new().await;
        // Neither of them has a payload: as when it was removed since the view was taken.
        visit.write(vec![secret(1), secret(2), put(&visit, 1, &[1])]).await;
        let mut feed = start(&visit);
        assert_eq!(said(&mut feed).await, "", "the first message waits until it can be whole");
        visit.write(vec![Change::Remove(Key::Secret(secret_id(1)))]).await;
        assert_eq!(said(&mut feed).await, ">1 +t");

        let data = SecretBytes::new(b"there".to_vec());
        let spec = SecretSpec { name: "there".into(), ..Default::default() };
        let id = visit
            .manager()
            .create_secret(Actor::Client(Default::default()), spec, data)
            .await
            .expect("made");
        let mut both = task(visit.node, 2, TaskState::Assigned, TaskState::Running, &[2]);
        let mut wish = (*both.spec).clone();
        let container = wish.container_spec.as_mut().expect("it has one");
        let mut reference = container.secrets[0].clone();
        reference.secret_id = id.to_string();
        container.secrets.push(reference);
        both.spec = wish.into();
        visit.write(vec![both.into()]).await;
        let ahead = said(&mut feed).await;
        assert!(ahead == "1>2 +s" || ahead.is_empty(), "{ahead}: never the task before its secret");
        visit.write(vec![Change::Remove(Key::Secret(secret_id(2)))]).await;
        let rest = said(&mut feed).await;
        let whole = if ahead.is_empty() { "1>2 +s +t" } else { "2>3 +t" };
        assert_eq!(rest, whole, "each once, and the chain holds");
    }

    #[tokio::test]
    async fn a_task_comes_after_its_nodes_place_on_its_network() {
        let visit = Visit::new().await;
        let ingress = visit.manager().view().ingress().expect("a new swarm has it").id;
        let mut one = task(visit.node, 1, TaskState::Assigned, TaskState::Running, &[]);
        one.networks = vec![Attachment { network: ingress, address: "10.0.0.9/24".parse().ok() }];
        visit.write(vec![one.into()]).await;
        let mut feed = start(&visit);
        assert_eq!(said(&mut feed).await, "", "the node was not told yet");
        let (manager, node, session) = (visit.manager(), visit.node, visit.session.clone());
        let messages = Messages { manager, node, session, bell: visit.hub.bell(node) };
        let mut messages = messages.start();
        let told = heard(&mut messages).await.and_then(|message| message.node);
        assert_eq!(told.map(|node| node.attachments.len()), Some(1));
        assert_eq!(said(&mut feed).await, ">1 +t");
    }

    #[tokio::test]
    async fn increments_are_bounded_and_chained() {
        let visit = Visit::new().await;
        let mut feed = start(&visit);
        assert_eq!(said(&mut feed).await, ">1");
        let mut tasks: Vec<Change> = (0..=255).map(|number| put(&visit, number, &[])).collect();
        for byte in 1..=50 {
            let mut more = task(visit.node, 0, TaskState::Assigned, TaskState::Running, &[]);
            let mut bytes = [0; 17];
            bytes[16] = byte;
            more.id = TaskId::derive(bytes);
            tasks.push(more.into());
        }
        let count = tasks.len();
        visit.write(tasks).await;
        let (mut state, mut received) = (1, 0);
        while let Some(message) = heard(&mut feed).await {
            assert!(message.changes.len() <= INCREMENT_MAX);
            assert_eq!(message.applies_to, state.to_string());
            state += 1;
            assert_eq!(message.results_in, state.to_string());
            received += message.changes.len();
        }
        assert_eq!((received, state), (count, 3), "all of them, in two messages");
    }

    #[tokio::test]
    async fn a_removed_node_is_told_so() {
        let visit = Visit::new().await;
        let mut feed = start(&visit);
        assert_eq!(said(&mut feed).await, ">1");
        visit.write(vec![Change::Remove(Key::Node(visit.node))]).await;
        let end = futures_util::StreamExt::next(&mut feed).await.and_then(Result::err);
        let code = end.map(|status| status.code());
        assert!(matches!(code, Some(tonic::Code::Aborted | tonic::Code::NotFound)), "{code:?}");
    }
}
