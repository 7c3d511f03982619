//! The writer: one task that takes whatever waits and makes it durable together.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, RwLock};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::codec;
use super::log::{Batch, Log, LogError, Row};
use super::rows::{Place, Rows};
use super::{Commit, Inner};
use crate::domain::change::{Change, Changed, Key, Object};
use crate::domain::id::Entropy;
use crate::domain::meta::{Stamp, Version};
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::time::Clock;
use crate::domain::view::View;

/// Writes that wait at most; a request beyond them waits for its place in the queue.
pub(super) const QUEUE_MAX: usize = 1024;

/// Writes that become durable together at most. It bounds the memory of a batch; the time of a
/// commit hardly depends on it.
const BATCH_MAX: usize = 256;

/// A pure function from the view to the changes of one write.
pub type Decision = Box<dyn FnOnce(&View, Stamp) -> Result<Vec<Change>, Refusal> + Send>;

/// A write and where its answer goes.
pub(super) struct Proposal {
    decide: Decision,
    answer: oneshot::Sender<Result<Applied, WriteError>>,
}

/// A write that is durable.
#[derive(Debug, Clone)]
pub struct Applied {
    /// Its index; that of the write before when it changed nothing.
    pub version: Version,
    /// What became of each object.
    pub changed: Vec<Changed>,
}

/// A write that was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// The decision refuses.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store fails; nothing was changed.
    #[error("the store cannot write: {0}")]
    Failed(String),
    /// The store is closing, or has stopped after a failure it cannot judge.
    #[error("the store takes no more writes")]
    Closed,
}

pub(super) async fn submit(
    queue: &mpsc::Sender<Proposal>,
    decide: Decision,
) -> Result<Applied, WriteError> {
    let (answer, answered) = oneshot::channel();
    queue.send(Proposal { decide, answer }).await.map_err(|_| WriteError::Closed)?;
    answered.await.map_err(|_| WriteError::Closed)?
}

/// Everything the writer task owns.
pub(super) struct Writer<L> {
    pub inner: std::sync::Weak<Inner>,
    pub queue: mpsc::Receiver<Proposal>,
    pub log: L,
    pub view: View,
    pub rows: Arc<RwLock<Rows>>,
    pub keyring: Arc<crate::seal::keyring::Keyring>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
}

/// One write of a batch, decided but not yet durable.
type Decided = (oneshot::Sender<Result<Applied, WriteError>>, Result<Applied, WriteError>);

impl<L: Log> Writer<L> {
    /// Writes until the last handle is gone or `stop` is called, and then what still waits.
    ///
    /// A batch is what has come while the one before it became durable; none waits for more. The
    /// next requests are then decoded and sealed while this batch is being written.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut proposals = Vec::with_capacity(BATCH_MAX);
        loop {
            tokio::select! {
                biased;
                taken = self.queue.recv_many(&mut proposals, BATCH_MAX) => if taken == 0 { break },
                () = stop.cancelled() => {
                    // What is queued already is written; what comes after is refused.
                    self.queue.close();
                    if self.queue.recv_many(&mut proposals, BATCH_MAX).await == 0 { break }
                }
            }
            if let Err(error) = self.write(std::mem::take(&mut proposals)).await {
                tracing::error!(error = &error as &dyn std::error::Error, "writing has stopped");
                break;
            }
        }
        self.log.close().await;
    }

    /// Decides and writes one batch. Fails only if no write may follow.
    async fn write(&mut self, proposals: Vec<Proposal>) -> Result<(), LogError> {
        let mut view = self.view.clone();
        let mut draft = Draft::default();
        let mut decided = Vec::with_capacity(proposals.len());
        for proposal in proposals {
            let outcome = self.decide(&mut view, &mut draft, proposal.decide);
            decided.push((proposal.answer, outcome));
        }
        if draft.changed.is_empty() && draft.rows.is_empty() {
            answer(decided);
            return Ok(());
        }
        let (batch, undo) = self.seal(&draft, view.version().index);
        match self.log.propose(batch).await {
            Ok(()) => {
                self.view = view;
                self.publish(draft.changed);
                answer(decided);
                Ok(())
            }
            Err(error) => {
                self.undo(undo);
                refuse_all(decided, &first_cause(&error));
                match error {
                    LogError::Database(_) => {
                        tracing::error!(
                            error = &error as &dyn std::error::Error,
                            "a batch of writes failed"
                        );
                        Ok(())
                    }
                    LogError::Unsure(_) => Err(error),
                }
            }
        }
    }

    fn decide(
        &self,
        view: &mut View,
        draft: &mut Draft,
        decide: Decision,
    ) -> Result<Applied, WriteError> {
        let version = Version { index: view.version().index + 1 };
        let stamp = Stamp { version, now: self.clock.now() };
        let decided = catch_unwind(AssertUnwindSafe(|| decide(view, stamp)));
        let changes = decided.unwrap_or_else(|_| {
            // The panic itself has been printed; the write is the one thing that is lost.
            Err(Refusal::front(Reason::Unknown, "internal error: the request could not be decided"))
        })?;
        if changes.is_empty() {
            return Ok(Applied { version: view.version(), changed: Vec::new() });
        }
        let changed = view.apply(&changes, stamp);
        for item in &changed {
            draft.rows.insert(item.key, item.new.clone().map(|object| (object, version)));
            if item.new.is_none() {
                draft.payloads.remove(&item.key);
            }
        }
        for change in changes {
            if let Change::PutPayload(key, sealed) = change {
                draft.payloads.insert(key, sealed.0);
            }
        }
        draft.changed.extend(changed.iter().cloned());
        Ok(Applied { version, changed })
    }

    /// Seals what the batch leaves behind: of an object that several writes touched, the last.
    /// Returns the batch, and where everything lay before it, should it fail.
    fn seal(&self, draft: &Draft, version: u64) -> (Batch, Vec<(Key, Option<Place>)>) {
        let mut batch = Batch { version, ..Batch::default() };
        let mut undo = Vec::with_capacity(draft.rows.len());
        let mut rows = self.rows.write().expect("no writer of the rows panics");
        for (key, state) in &draft.rows {
            let before = rows.place(key);
            undo.push((*key, before));
            let Some((object, version)) = state else {
                if let Some(place) = before {
                    batch.removes.push(place.row);
                }
                rows.set(&self.keyring, *key, None);
                continue;
            };
            let row = before.map_or_else(|| rows.next_row(), |place| place.row);
            let mut payload = before.and_then(|place| place.payload);
            if let Some(sealed) = draft.payloads.get(key) {
                payload = Some(PAYLOAD_VERSION);
                batch.payloads.push(Row::new(row, *key, PAYLOAD_VERSION, sealed.clone()));
            }
            let value = codec::object_value(key, version.index);
            let sealed = self.keyring.seal(value, &codec::encode(object), &*self.entropy).0;
            batch.puts.push(Row::new(row, *key, version.index, sealed));
            rows.set(&self.keyring, *key, Some(Place { row, version: version.index, payload }));
        }
        batch.head =
            self.keyring.seal(codec::head_value(version), &rows.digest(), &*self.entropy).0;
        (batch, undo)
    }

    fn undo(&self, places: Vec<(Key, Option<Place>)>) {
        let mut rows = self.rows.write().expect("no writer of the rows panics");
        for (key, place) in places {
            rows.set(&self.keyring, key, place);
        }
    }

    fn publish(&self, changes: Vec<Changed>) {
        let Some(inner) = self.inner.upgrade() else { return };
        let commit = Arc::new(Commit { changes, view: self.view.clone() });
        let mut view = inner.view.write().expect("no reader of the view panics");
        *view = self.view.clone();
        // Nobody listening is fine.
        let _ = inner.commits.send(commit);
    }
}

/// Payloads are written once with their object and never changed, so all have one version.
pub(crate) const PAYLOAD_VERSION: u64 = 1;

/// What a batch leaves behind.
#[derive(Default)]
struct Draft {
    changed: Vec<Changed>,
    rows: BTreeMap<Key, Option<(Object, Version)>>,
    payloads: BTreeMap<Key, Vec<u8>>,
}

fn answer(decided: Vec<Decided>) {
    for (sender, outcome) in decided {
        // Who asked may have gone away; the write stands all the same.
        let _ = sender.send(outcome);
    }
}

/// What the database itself says, as in "database or disk is full".
fn first_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

fn refuse_all(decided: Vec<Decided>, error: &str) {
    for (sender, outcome) in decided {
        let outcome = match outcome {
            Err(refused) => Err(refused),
            Ok(_) => Err(WriteError::Failed(error.to_owned())),
        };
        let _ = sender.send(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{SecretId, Stream};
    use crate::domain::secret::{Fingerprint, Secret, SecretSpec};
    use crate::domain::time::Timestamp;
    use crate::seal::keyring::Keyring;
    use crate::seal::unlock::UnlockKey;

    struct Fixed;
    impl Clock for Fixed {
        fn now(&self) -> Timestamp {
            Timestamp::ZERO
        }
    }
    impl Entropy for Fixed {
        fn fill(&self, _: Stream, out: &mut [u8]) {
            out.fill(7);
        }
    }

    /// A log that keeps the versions it was given, and fails when told to.
    #[derive(Clone, Default)]
    struct Scripted {
        durable: Arc<RwLock<Vec<u64>>>,
        failures: Arc<RwLock<Vec<LogError>>>,
    }

    impl Log for Scripted {
        async fn propose(&mut self, batch: Batch) -> Result<(), LogError> {
            if let Some(error) = self.failures.write().expect("a test's lock").pop() {
                return Err(error);
            }
            self.durable.write().expect("a test's lock").push(batch.version);
            Ok(())
        }

        async fn close(self) {}
    }

    fn writer(log: Scripted) -> (mpsc::Sender<Proposal>, Writer<Scripted>) {
        let (keyring, _) = Keyring::make("store", &UnlockKey::from_bytes([1; 32]), &Fixed);
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let writer = Writer {
            inner: std::sync::Weak::new(),
            queue: waiting,
            log,
            view: View::default(),
            rows: Arc::default(),
            keyring: Arc::new(keyring),
            clock: Arc::new(Fixed),
            entropy: Arc::new(Fixed),
        };
        (queue, writer)
    }

    fn secret(number: u8) -> Change {
        let spec = SecretSpec { name: format!("s{number}"), ..Default::default() };
        Secret {
            id: SecretId::derive([number; 17]),
            meta: Default::default(),
            spec,
            fingerprint: Fingerprint([0; 32]),
            shown: Default::default(),
        }
        .into()
    }

    fn put(number: u8) -> Decision {
        Box::new(move |_, _| Ok(vec![secret(number)]))
    }

    /// How many secrets a decision finds.
    fn count(found: &Arc<RwLock<usize>>) -> Decision {
        let found = found.clone();
        Box::new(move |view, _| {
            *found.write().expect("a test's lock") = view.secrets().len();
            Ok(Vec::new())
        })
    }

    #[tokio::test]
    async fn a_decision_sees_the_one_before_it_and_a_refusal_spoils_nothing() {
        let log = Scripted::default();
        let (queue, writer) = writer(log.clone());
        let running = tokio::spawn(writer.run(CancellationToken::new()));
        let found = Arc::default();
        let (first, refused, seen) = tokio::join!(
            submit(&queue, put(1)),
            submit(&queue, Box::new(|_, _| Err(Refusal::invalid("no")))),
            submit(&queue, count(&found)),
        );
        assert_eq!(first.expect("written").version, Version { index: 1 });
        assert!(matches!(refused, Err(WriteError::Refused(_))));
        assert!(seen.is_ok() && *found.read().expect("a test's lock") == 1);
        drop(queue);
        running.await.expect("the writer ends with its last handle");
        assert_eq!(*log.durable.read().expect("a test's lock"), [1]);
    }

    #[tokio::test]
    async fn a_batch_that_fails_is_answered_as_failed_and_leaves_nothing_behind() {
        let log = Scripted::default();
        log.failures
            .write()
            .expect("a test's lock")
            .push(LogError::Database(sqlx::Error::WorkerCrashed));
        let (queue, writer) = writer(log.clone());
        tokio::spawn(writer.run(CancellationToken::new()));
        assert!(matches!(submit(&queue, put(1)).await, Err(WriteError::Failed(_))));
        let found = Arc::default();
        submit(&queue, count(&found)).await.expect("reading is no write");
        assert_eq!(*found.read().expect("a test's lock"), 0);
        assert_eq!(submit(&queue, put(1)).await.expect("written").version.index, 1);
    }

    #[tokio::test]
    async fn after_a_commit_that_nobody_can_judge_no_write_follows() {
        let log = Scripted::default();
        log.failures
            .write()
            .expect("a test's lock")
            .push(LogError::Unsure(sqlx::Error::WorkerCrashed));
        let (queue, writer) = writer(log.clone());
        tokio::spawn(writer.run(CancellationToken::new()));
        assert!(matches!(submit(&queue, put(1)).await, Err(WriteError::Failed(_))));
        assert!(matches!(submit(&queue, put(2)).await, Err(WriteError::Closed)));
        assert!(log.durable.read().expect("a test's lock").is_empty());
    }

    #[tokio::test]
    async fn a_decision_that_panics_is_refused_and_the_writer_lives_on() {
        let (queue, writer) = writer(Scripted::default());
        tokio::spawn(writer.run(CancellationToken::new()));
        let panicked = submit(&queue, Box::new(|_, _| panic!("a bug"))).await;
        assert!(matches!(panicked, Err(WriteError::Refused(_))));
        assert!(submit(&queue, put(1)).await.is_ok());
    }
}
