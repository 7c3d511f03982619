//! The writer: one task that takes whatever waits and makes it durable together.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Weak};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::audit::Chain;
use super::draft::{Decider, Draft};
use super::log::{Log, LogError};
use super::{Commit, Inner};
use crate::domain::actor::Actor;
use crate::domain::audit::{Note, Outcome, Record};
use crate::domain::change::{Change, Changed};
use crate::domain::meta::{Stamp, Version};
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::time::Timestamp;
use crate::domain::view::View;
use crate::seal::keyring::Keyring;
use crate::seal::unlock::UnlockKey;

/// Writes that wait at most; a request beyond them waits for its place in the queue.
pub(super) const QUEUE_MAX: usize = 1024;

/// Writes that become durable together at most; the time of a commit hardly depends on it.
const BATCH_MAX: usize = 256;

/// Sealed bytes of a batch beyond which it takes no more writes. The largest payload is 1 MiB, so a
/// batch is at most that much larger.
const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A pure function from the view to the changes of one write.
pub type Decision = Box<dyn FnOnce(&View, Stamp) -> Result<Vec<Change>, Refusal> + Send>;

/// A write and where its answer goes.
pub(super) struct Proposal {
    work: Work,
    note: Option<Note>,
    answer: oneshot::Sender<Result<Applied, WriteError>>,
}

enum Work {
    Decide(Decision),
    Keys(KeyWork),
    /// The lock key is for a decision that changes something.
    DecideAndRelock(Decision, UnlockKey),
    /// Records that go with no change.
    Notes(Vec<Told>),
    /// Records before this one are dropped, and the hash of the last of them is kept.
    TrimAudit(u64, [u8; 32]),
}

/// What a record tells of something that was not decided here.
pub struct Told {
    /// What it was.
    pub note: Note,
    /// How it came out.
    pub outcome: Outcome,
}

/// One step of changing the keys.
pub(super) enum KeyWork {
    /// Make new ones.
    Rotate,
    /// Seal some of what is sealed with old ones anew.
    Reseal,
    /// Drop the old ones, which nothing needs any more.
    DropOld,
    /// Seal the ring under another lock key.
    Relock(UnlockKey),
}

/// Objects that are sealed anew in one write of a rotation: other writes come between two of them.
const RESEAL_MAX: usize = 256;

/// A write that is durable.
#[derive(Debug, Clone)]
pub struct Applied {
    /// Its index; that of the write before when it changed nothing.
    pub version: Version,
    /// What became of each object.
    pub changed: Vec<Changed>,
    /// How many objects were sealed anew and are otherwise the same.
    pub(super) resealed: usize,
}

/// A write that was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// The decision refuses.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store fails; nothing was changed, unless it has stopped because nobody can say.
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
    propose(queue, Work::Decide(decide), None).await
}

pub(super) async fn submit_keys(
    queue: &mpsc::Sender<Proposal>,
    work: KeyWork,
    note: Option<Note>,
) -> Result<usize, WriteError> {
    propose(queue, Work::Keys(work), note).await.map(|applied| applied.resealed)
}

pub(super) async fn submit_noted(
    queue: &mpsc::Sender<Proposal>,
    decide: Decision,
    note: Note,
    lock: Option<UnlockKey>,
) -> Result<Applied, WriteError> {
    let work = match lock {
        Some(lock) => Work::DecideAndRelock(decide, lock),
        None => Work::Decide(decide),
    };
    propose(queue, work, Some(note)).await
}

pub(super) async fn submit_notes(
    queue: &mpsc::Sender<Proposal>,
    notes: Vec<Told>,
) -> Result<(), WriteError> {
    propose(queue, Work::Notes(notes), None).await.map(|_| ())
}

pub(super) async fn submit_trim(
    queue: &mpsc::Sender<Proposal>,
    from: u64,
    anchor: [u8; 32],
) -> Result<(), WriteError> {
    propose(queue, Work::TrimAudit(from, anchor), None).await.map(|_| ())
}

async fn propose(
    queue: &mpsc::Sender<Proposal>,
    work: Work,
    note: Option<Note>,
) -> Result<Applied, WriteError> {
    let (answer, answered) = oneshot::channel();
    queue.send(Proposal { work, note, answer }).await.map_err(|_| WriteError::Closed)?;
    answered.await.map_err(|_| WriteError::Closed)?
}

/// Everything the writer task owns.
///
/// Two batches are in work at a time: one is becoming durable, and the next one grows. A write is
/// decided and sealed as it comes, on what all writes before it will leave behind; it is answered,
/// even with a refusal, once those are durable. Should they fail, it fails with them.
pub(super) struct Writer<L> {
    inner: Weak<Inner>,
    queue: mpsc::Receiver<Proposal>,
    log: L,
    decider: Decider,
    /// Of the batch that grows.
    decided: Vec<Decided>,
    /// As of the last batch that is durable.
    durable: View,
}

/// One write of a batch, decided but not yet durable.
struct Decided {
    answer: oneshot::Sender<Result<Applied, WriteError>>,
    outcome: Result<Applied, WriteError>,
}

impl<L: Log> Writer<L> {
    pub(super) fn new(
        inner: Weak<Inner>,
        queue: mpsc::Receiver<Proposal>,
        log: L,
        decider: Decider,
    ) -> Self {
        let durable = decider.view.clone();
        Writer { inner, queue, log, decider, decided: Vec::new(), durable }
    }

    /// Writes until the last handle is gone or `stop` is called, and then what still waits.
    ///
    /// A batch is what has come while the one before it became durable; none waits for more.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        while self.receive(&stop).await {
            if let Err(error) = self.write().await {
                tracing::error!(error = &error as &dyn std::error::Error, "writing has stopped");
                break;
            }
        }
        self.log.close().await;
    }

    /// Decides what waits, or waits for the first to come. False when none will come any more.
    async fn receive(&mut self, stop: &CancellationToken) -> bool {
        if stop.is_cancelled() {
            // What is queued already is written; what comes after is refused.
            self.queue.close();
        }
        while has_room(&self.decided, &self.decider)
            && let Ok(proposal) = self.queue.try_recv()
        {
            self.decided.push(self.decider.answer(proposal));
        }
        if self.decided.is_empty() {
            let proposal = tokio::select! {
                biased;
                proposal = self.queue.recv() => proposal,
                () = stop.cancelled() => {
                    self.queue.close();
                    self.queue.recv().await
                }
            };
            self.decided.extend(proposal.map(|proposal| self.decider.answer(proposal)));
        }
        !self.decided.is_empty()
    }

    /// Makes the batch durable that has grown, while the next one grows. Fails only if no write may
    /// follow.
    async fn write(&mut self) -> Result<(), LogError> {
        let decided = std::mem::take(&mut self.decided);
        let mut draft = self.decider.take();
        if draft.is_empty() {
            answer(decided);
            return Ok(());
        }
        let view = self.decider.view.clone();
        let chain = self.decider.chain;
        let batch = self.decider.batch(&mut draft);
        let written = self.log.propose(batch);
        let Err(error) = grow(written, &mut self.queue, &mut self.decider, &mut self.decided).await
        else {
            self.durable = view;
            self.publish(draft, chain);
            answer(decided);
            return Ok(());
        };
        let next = self.decider.take();
        self.decider.undo([next, draft], self.durable.clone());
        let cause = first_cause(&error);
        fail_all(decided, &cause);
        fail_all(std::mem::take(&mut self.decided), &cause);
        if let LogError::Database(_) = error {
            tracing::error!(error = &error as &dyn std::error::Error, "a batch of writes failed");
            return Ok(());
        }
        Err(error)
    }

    fn publish(&self, draft: Draft, chain: Chain) {
        let Some(inner) = self.inner.upgrade() else { return };
        *inner.audit.write().expect("a chain is never left half put") = chain;
        // Nobody listening is fine, here and below.
        let _ = Decider::lines(&draft).map(|lines| inner.audit_lines.send(lines));
        let changes = draft.changed;
        let mut view = inner.view.write().expect("no reader of the view panics");
        *view = self.durable.clone();
        if !changes.is_empty() {
            let _ = inner.commits.send(Arc::new(Commit { changes, view: self.durable.clone() }));
        }
    }
}

/// True while a batch may grow.
fn has_room(decided: &[Decided], decider: &Decider) -> bool {
    decided.len() < BATCH_MAX && decider.draft.bytes() < BATCH_BYTES_MAX
}

/// Waits until a batch is written; decides meanwhile what comes.
async fn grow(
    written: impl Future<Output = Result<(), LogError>>,
    queue: &mut mpsc::Receiver<Proposal>,
    decider: &mut Decider,
    decided: &mut Vec<Decided>,
) -> Result<(), LogError> {
    let mut written = pin!(written);
    let mut is_open = true;
    loop {
        let has_room = has_room(decided, decider);
        tokio::select! {
            biased;
            outcome = &mut written => return outcome,
            proposal = queue.recv(), if is_open && has_room => match proposal {
                Some(proposal) => decided.push(decider.answer(proposal)),
                None => is_open = false,
            }
        }
    }
}

impl Decider {
    fn answer(&mut self, proposal: Proposal) -> Decided {
        let before = proposal.note.as_ref().map(|note| (self.name_of(note), self.view.version()));
        let outcome = match proposal.work {
            Work::Notes(notes) => Ok(self.tell(notes)),
            Work::TrimAudit(from, anchor) => {
                self.trim_audit(from, anchor);
                Ok(self.nothing())
            }
            Work::Decide(decide) => self.decide(decide),
            Work::Keys(work) => self.work_on_keys(work),
            Work::DecideAndRelock(decide, lock) => match self.decide(decide) {
                Ok(applied) if !applied.changed.is_empty() => {
                    self.work_on_keys(KeyWork::Relock(lock)).map(|_| applied)
                }
                decided => decided,
            },
        };
        if let (Some(note), Some((name, version))) = (proposal.note, before) {
            self.conclude(note, name, version, &outcome);
        }
        Decided { answer: proposal.answer, outcome }
    }

    fn work_on_keys(&mut self, work: KeyWork) -> Result<Applied, WriteError> {
        let entropy = self.entropy.clone();
        let now = self.clock.now().unix_seconds().cast_unsigned();
        let resealed = match work {
            KeyWork::Reseal => {
                // A key that opened at the start and does not any more: nobody can say why.
                let resealed = self.reseal(RESEAL_MAX);
                resealed.map_err(|error| WriteError::Failed(error.to_string()))?
            }
            KeyWork::Rotate => {
                self.change_keys(|ring| ring.rotate(now, &*entropy));
                0
            }
            KeyWork::DropOld => {
                self.change_keys(Keyring::drop_old);
                0
            }
            KeyWork::Relock(lock) => {
                self.change_keys(|ring| ring.relock(lock, &*entropy));
                0
            }
        };
        Ok(Applied { resealed, ..self.nothing() })
    }

    /// The answer to what changes no object.
    fn nothing(&self) -> Applied {
        Applied { version: self.view.version(), changed: Vec::new(), resealed: 0 }
    }

    /// The name of what a note is about: as it says, or as it is now.
    fn name_of(&self, note: &Note) -> String {
        if !note.name.is_empty() {
            return note.name.clone();
        }
        let object = note.object.and_then(|key| self.view.object(key));
        object.map(|object| object.name().to_owned()).unwrap_or_default()
    }

    /// Puts the record of a request that was decided.
    fn conclude(
        &mut self,
        note: Note,
        name: String,
        before: Version,
        outcome: &Result<Applied, WriteError>,
    ) {
        let is_changed = self.view.version() != before;
        let (outcome, version, why) = match outcome {
            Ok(applied) if is_changed => (Outcome::Done, applied.version.index, String::new()),
            Ok(_) if note.only_if_changed => return,
            Ok(_) => (Outcome::Unchanged, 0, String::new()),
            Err(WriteError::Refused(refusal)) if refusal.reason == Reason::Forbidden => {
                (Outcome::Denied, 0, refusal.message.clone())
            }
            Err(error) => (Outcome::Refused, 0, error.to_string()),
        };
        if !is_changed {
            self.count_up();
        }
        let detail = if why.is_empty() { note.detail.clone() } else { why };
        let record = record(&note, self.clock.now(), outcome);
        self.record(Record { name, version, detail, ..record });
    }

    fn tell(&mut self, notes: Vec<Told>) -> Applied {
        self.count_up();
        for Told { note, outcome } in notes {
            let name = self.name_of(&note);
            let record = record(&note, self.clock.now(), outcome);
            self.record(Record { name, ..record });
        }
        self.nothing()
    }
}

/// The record of a note, before it is known what it is called and where in the chain it stands.
fn record(note: &Note, at: Timestamp, outcome: Outcome) -> Record {
    let request = match &note.actor {
        Actor::Client(caller) if caller.request() != 0 => format!("{:012x}", caller.request()),
        _ => String::new(),
    };
    let object = note.object.as_ref();
    Record {
        seq: 0,
        prev: String::new(),
        at,
        actor: note.actor.to_string(),
        source: note.actor.source(),
        request,
        verb: note.verb.to_owned(),
        kind: object.map(|key| key.kind().word().to_owned()).unwrap_or_default(),
        id: object.map(|key| key.id().to_owned()).unwrap_or_default(),
        name: String::new(),
        version: 0,
        outcome,
        detail: note.detail.clone(),
        value: note.value.map(|value| value.text()).unwrap_or_default(),
    }
}

fn answer(decided: Vec<Decided>) {
    for Decided { answer, outcome } in decided {
        // Who asked may have gone away; the write stands all the same.
        let _ = answer.send(outcome);
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

fn fail_all(decided: Vec<Decided>, error: &str) {
    // Refusals fail too: they may stand on a write that is not there.
    for Decided { answer, .. } in decided {
        let _ = answer.send(Err(WriteError::Failed(error.to_owned())));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::RwLock;

    use tokio::sync::Semaphore;

    use super::super::log::Batch;
    use super::super::rows::Rows;
    use super::*;
    use crate::domain::change::Key;
    use crate::domain::id::{Entropy, SecretId, Stream};
    use crate::domain::secret::{Fingerprint, Secret, SecretSpec};
    use crate::domain::time::Clock;

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

    /// A log that keeps the versions it was given, and is slow or fails when told to.
    #[derive(Clone, Default)]
    struct Scripted {
        durable: Arc<RwLock<Vec<u64>>>,
        failures: Arc<RwLock<Vec<LogError>>>,
        /// Each write takes one, if there is such a thing.
        permits: Option<Arc<Semaphore>>,
    }

    impl Log for Scripted {
        async fn propose(&mut self, batch: Batch) -> Result<(), LogError> {
            if let Some(permits) = &self.permits {
                permits.acquire().await.expect("never closed").forget();
            }
            if let Some(error) = self.failures.write().expect("a test's lock").pop() {
                return Err(error);
            }
            self.durable.write().expect("a test's lock").push(batch.version);
            Ok(())
        }

        async fn close(self) {}
    }

    fn writer(log: Scripted) -> (mpsc::Sender<Proposal>, Writer<Scripted>) {
        let (keyring, _) = Keyring::make("store", UnlockKey::from_bytes([1; 32]), 0, &Fixed);
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let decider = Decider {
            view: View::default(),
            rows: Arc::default(),
            chain: Default::default(),
            keyring: Arc::new(keyring),
            clock: Arc::new(Fixed),
            entropy: Arc::new(Fixed),
            draft: Default::default(),
        };
        let writer = Writer::new(Weak::new(), waiting, log, decider);
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
    async fn a_write_decided_on_top_of_one_that_fails_fails_with_it() {
        let permits = Arc::new(Semaphore::new(0));
        let log = Scripted { permits: Some(permits.clone()), ..Default::default() };
        log.failures
            .write()
            .expect("a test's lock")
            .push(LogError::Database(sqlx::Error::WorkerCrashed));
        let (queue, writer) = writer(log.clone());
        let rows = writer.decider.rows.clone();
        tokio::spawn(writer.run(CancellationToken::new()));
        let found = Arc::default();
        let (first, second, refused, seen, ()) = tokio::join!(
            submit(&queue, put(1)),
            async {
                // The first is on its way to the log by then.
                tokio::task::yield_now().await;
                submit(&queue, put(2)).await
            },
            async {
                tokio::task::yield_now().await;
                submit(&queue, Box::new(|_, _| Err(Refusal::invalid("s1 is there")))).await
            },
            async {
                tokio::task::yield_now().await;
                submit(&queue, count(&found)).await
            },
            async {
                while *found.read().expect("a test's lock") == 0 {
                    tokio::task::yield_now().await;
                }
                permits.add_permits(1);
            },
        );
        assert!(matches!(first, Err(WriteError::Failed(_))));
        assert!(matches!(second, Err(WriteError::Failed(_))));
        assert!(matches!(refused, Err(WriteError::Failed(_))), "it was refused for what is not");
        assert!(matches!(seen, Err(WriteError::Failed(_))), "it saw what is not there");
        assert_eq!(*found.read().expect("a test's lock"), 2);
        assert_eq!(rows.read().expect("a test's lock").digest(), Rows::default().digest());

        permits.add_permits(2);
        assert_eq!(submit(&queue, put(3)).await.expect("written").version.index, 1);
        submit(&queue, count(&found)).await.expect("reading is no write");
        assert_eq!(*found.read().expect("a test's lock"), 1);
    }

    #[tokio::test]
    async fn a_payload_may_come_later_than_its_object() {
        let log = Scripted::default();
        let (queue, writer) = writer(log.clone());
        let rows = writer.decider.rows.clone();
        let writer_keyring = writer.decider.keyring.clone();
        tokio::spawn(writer.run(CancellationToken::new()));
        submit(&queue, put(1)).await.expect("written");
        let key = Key::Secret(SecretId::derive([1; 17]));
        let before = rows.read().expect("a test's lock").digest();
        let value = super::super::codec::payload_value(&key, 1);
        let sealed = writer_keyring.seal_payload(value, &[1; 100], &Fixed);
        let payload = vec![Change::PutPayload(key, sealed)];
        submit(&queue, Box::new(|_, _| Ok(payload))).await.expect("written");
        assert_eq!(*log.durable.read().expect("a test's lock"), [1, 2]);
        let rows = rows.read().expect("a test's lock");
        assert!(rows.place(&key).is_some_and(|place| place.payload.is_some()));
        assert_ne!(rows.digest(), before, "the head tells of it");
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
