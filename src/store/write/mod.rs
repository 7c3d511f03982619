//! The writer: one task that takes whatever waits and makes it durable together.

mod record;
#[cfg(test)]
mod tests;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::Poll;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::audit::Chain;
use super::draft::{Decider, Draft};
use super::log::{Log, LogError};
use super::{Commit, Inner};
use crate::domain::audit::{Note, Outcome};
use crate::domain::change::{Change, Changed};
use crate::domain::meta::{Stamp, Version};
use crate::domain::refusal::Refusal;
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
    /// The change of the lock is for a decision that changes something.
    DecideAndLock(Decision, LockChange),
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
    /// Change what opens the ring.
    Lock(LockChange),
}

/// What opens the ring from now on.
pub enum LockChange {
    /// Another lock key, and no other.
    Replace(UnlockKey),
    /// Another lock key as well, until the next change.
    Offer(UnlockKey),
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

impl Applied {
    /// The answer to what changes no object of a view.
    pub fn nothing(view: &View) -> Applied {
        Applied { version: view.version(), changed: Vec::new(), resealed: 0 }
    }
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
    lock: Option<LockChange>,
) -> Result<Applied, WriteError> {
    let work = match lock {
        Some(lock) => Work::DecideAndLock(decide, lock),
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
/// even with a refusal, once those are durable. Should they fail, it fails with them. The batch before
/// those two is told of as soon as the first of them is on its way.
pub(super) struct Writer<L> {
    queue: mpsc::Receiver<Proposal>,
    log: L,
    decider: Decider,
    /// Of the batch that grows.
    decided: Vec<Decided>,
    untold: Untold,
    /// As of the last batch that is durable.
    durable: View,
}

/// The last batch that is durable, until others are told of it: when this is dropped at the latest,
/// however that comes about.
struct Untold {
    inner: Weak<Inner>,
    /// The last batch was not written, and that is known.
    is_failing: bool,
    batch: Option<Durable>,
}

/// A batch that is durable.
struct Durable {
    decided: Vec<Decided>,
    draft: Draft,
    /// As it leaves them.
    view: View,
    chain: Chain,
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
        let untold = Untold { inner, is_failing: false, batch: None };
        Writer { queue, log, decider, decided: Vec::new(), untold, durable }
    }

    /// Writes until the last handle is gone or `stop` is called, and then what still waits.
    ///
    /// A batch is what has come while the one before it became durable; none waits for more than for what
    /// this thread is about to bring.
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
        let before = self.untold.batch.as_ref().map_or(0, |batch| batch.decided.len());
        if before > 1.max(self.decided.len()) {
            // Several ask at once, and more did before. What this thread has to do besides comes first,
            // so that the requests among it are in this batch: the fewer batches there are, the less
            // each write costs. A batch that is as large as the one before is begun at once; otherwise
            // a small one and a large one would take turns, and disk and processor wait for each other.
            tokio::task::yield_now().await;
        }
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
            self.untold.tell();
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
            self.untold.tell();
            answer(decided);
            return Ok(());
        }
        let view = self.decider.view.clone();
        let chain = self.decider.chain;
        let batch = self.decider.batch(&mut draft);
        // The log gets to work before others learn of the batch before, which takes a while.
        let mut written = pin!(self.log.propose(batch));
        let begun = poll_fn(|context| Poll::Ready(written.as_mut().poll(context))).await;
        self.untold.tell();
        let outcome = match begun {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => {
                grow(written, &mut self.queue, &mut self.decider, &mut self.decided).await
            }
        };
        let Err(error) = outcome else {
            self.untold.writes_again();
            self.durable = view.clone();
            self.untold.batch = Some(Durable { decided, draft, view, chain });
            return Ok(());
        };
        let next = self.decider.take();
        self.decider.undo([next, draft], self.durable.clone());
        let cause = first_cause(&error);
        fail_all(decided, &cause);
        fail_all(std::mem::take(&mut self.decided), &cause);
        if let LogError::Database(_) = error {
            self.untold.cannot_write(cause);
            return Ok(());
        }
        Err(error)
    }
}

impl Untold {
    /// Lets it be known that the store cannot write, and why; it is logged once.
    fn cannot_write(&mut self, cause: String) {
        let Some(inner) = self.inner.upgrade() else { return };
        let mut failure = inner.failure.lock().expect("nobody panics with it");
        if failure.replace(cause.clone()).is_none() {
            tracing::error!(cause, "the store cannot write, and changes are refused");
        }
        self.is_failing = true;
    }

    /// Lets it be known that it can again.
    fn writes_again(&mut self) {
        if !std::mem::take(&mut self.is_failing) {
            return;
        }
        let Some(inner) = self.inner.upgrade() else { return };
        *inner.failure.lock().expect("nobody panics with it") = None;
        tracing::info!("the store writes again");
    }

    /// Publishes the view, announces the commit and answers.
    fn tell(&mut self) {
        let Some(Durable { decided, draft, view, chain }) = self.batch.take() else { return };
        if let Some(inner) = self.inner.upgrade() {
            inner.audit.send_if_modified(|told| std::mem::replace(told, chain) != chain);
            let changes = draft.changed;
            let mut published = inner.view.write().expect("no reader of the view panics");
            *published = view.clone();
            if !changes.is_empty() {
                // Nobody listening is fine.
                let _ = inner.commits.send(Arc::new(Commit { changes, view }));
            }
        }
        answer(decided);
    }
}

impl Drop for Untold {
    fn drop(&mut self) {
        self.tell();
    }
}

/// True while a batch may grow.
fn has_room(decided: &[Decided], decider: &Decider) -> bool {
    decided.len() < BATCH_MAX && decider.draft.bytes() < BATCH_BYTES_MAX
}

/// Waits until a batch is written; decides meanwhile what comes.
async fn grow(
    mut written: Pin<&mut impl Future<Output = Result<(), LogError>>>,
    queue: &mut mpsc::Receiver<Proposal>,
    decider: &mut Decider,
    decided: &mut Vec<Decided>,
) -> Result<(), LogError> {
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
            Work::DecideAndLock(decide, lock) => match self.decide(decide) {
                Ok(applied) if !applied.changed.is_empty() => {
                    self.work_on_keys(KeyWork::Lock(lock)).map(|_| applied)
                }
                decided => decided,
            },
        };
        if let (Some(note), Some((name, version))) = (proposal.note, before) {
            self.conclude(note, name, version, &outcome);
        } else if let Ok(applied) = &outcome {
            self.tell_rollouts(applied);
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
            KeyWork::Lock(LockChange::Offer(lock)) => {
                self.change_keys(|ring| ring.offer(&lock, now, &*entropy));
                0
            }
            KeyWork::Lock(LockChange::Replace(lock)) => {
                self.change_keys(|ring| ring.relock(lock, &*entropy));
                0
            }
        };
        Ok(Applied { resealed, ..self.nothing() })
    }

    /// The answer to what changes no object.
    pub(super) fn nothing(&self) -> Applied {
        Applied::nothing(&self.view)
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
