//! The writer, tried with a log that does as it is told.

use std::sync::RwLock;

use tokio::sync::Semaphore;

use super::super::log::Batch;
use super::super::rows::Rows;
use super::*;
use crate::domain::change::Key;
use crate::domain::id::{Entropy, SecretId, Stream};
use crate::domain::secret::{Fingerprint, Secret, SecretSpec};
use crate::domain::time::{Clock, Timestamp};

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
    /// The version of a batch that it panics over.
    dreaded: Option<u64>,
}

impl Log for Scripted {
    async fn propose(&mut self, batch: Batch) -> Result<(), LogError> {
        assert_ne!(self.dreaded, Some(batch.version), "as it was told to");
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
        nonces: None,
    };
    let writer = Writer::new(Weak::new(), waiting, log, decider);
    (queue, writer)
}

fn secret(number: u8) -> Change {
    let spec = SecretSpec { name: format!("s{number}"), ..Default::default() };
    Secret {
        revisions: Default::default(),
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
async fn a_payload_is_that_of_the_object_which_a_write_leaves() {
    let (queue, writer) = writer(Scripted::default());
    let (rows, keyring) = (writer.decider.rows.clone(), writer.decider.keyring.clone());
    tokio::spawn(writer.run(CancellationToken::new()));
    let key = Key::Secret(SecretId::derive([1; 17]));
    let has_payload = || {
        let place = rows.read().expect("a test's lock").place(&key);
        place.map(|place| place.payload.is_some())
    };
    let (put, remove, drop) = (|| secret(1), || Change::Remove(key), || Change::DropPayload(key));
    let payload = || {
        let value = super::super::codec::payload_value(&key, 1);
        Change::PutPayload(key, keyring.seal_payload(value, &[1; 100], &Fixed))
    };
    for (changes, expected) in [
        (vec![put(), payload()], Some(true)),
        (vec![put()], Some(true)),
        (vec![drop()], Some(false)),
        (vec![payload(), put()], Some(true)),
        (vec![put(), payload(), drop()], Some(false)),
        (vec![put(), drop(), payload()], Some(true)),
        (vec![put(), payload(), remove(), put()], Some(true)),
        (vec![remove(), put()], Some(false)),
        (vec![remove(), put(), payload(), put()], Some(true)),
        (vec![payload(), remove()], None),
    ] {
        submit(&queue, Box::new(move |_, _| Ok(changes))).await.expect("written");
        assert_eq!(has_payload(), expected);
    }
}

#[tokio::test]
async fn what_is_durable_is_answered_even_if_the_writer_panics() {
    let permits = Arc::new(Semaphore::new(0));
    let log = Scripted { permits: Some(permits.clone()), dreaded: Some(2), ..Default::default() };
    let (queue, writer) = writer(log);
    let running = tokio::spawn(writer.run(CancellationToken::new()));
    let (first, second, ()) = tokio::join!(
        submit(&queue, put(1)),
        async {
            turns().await;
            submit(&queue, put(2)).await
        },
        async {
            turns().await;
            turns().await;
            permits.add_permits(1);
        },
    );
    assert!(running.await.is_err_and(|error| error.is_panic()));
    assert_eq!(first.expect("it is durable").version.index, 1);
    assert!(matches!(second, Err(WriteError::Closed)));
}

#[tokio::test]
async fn after_a_commit_that_nobody_can_judge_no_write_follows() {
    let log = Scripted::default();
    log.failures.write().expect("a test's lock").push(LogError::Unsure(sqlx::Error::WorkerCrashed));
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

/// Gives all other tasks turns enough to get as far as they can.
async fn turns() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

/// Has so many writes made durable together, and so many decided meanwhile; another one is about to come
/// as the first are durable. Answers the version of each batch.
async fn batches(first: u8, meanwhile: u8) -> Vec<u64> {
    let permits = Arc::new(Semaphore::new(0));
    let log = Scripted { permits: Some(permits.clone()), ..Default::default() };
    let (queue, writer) = writer(log.clone());
    let submitted = |number| {
        let queue = queue.clone();
        tokio::spawn(async move { submit(&queue, put(number)).await.expect("written") })
    };
    let early: Vec<_> = (0..first).map(submitted).collect();
    turns().await;
    let running = tokio::spawn(writer.run(CancellationToken::new()));
    let later: Vec<_> = (first..first + meanwhile).map(submitted).collect();
    turns().await;
    permits.add_permits(3);
    let last = submitted(first + meanwhile);
    for answered in early.into_iter().chain(later).chain([last]) {
        answered.await.expect("no panic");
    }
    drop(queue);
    running.await.expect("the writer ends with its last handle");
    log.durable.read().expect("a test's lock").clone()
}

#[tokio::test]
async fn a_batch_takes_along_what_is_there_when_it_begins() {
    assert_eq!(batches(2, 1).await, [2, 4]);
    assert_eq!(batches(8, 3).await, [8, 12]);
}

#[tokio::test]
async fn a_batch_that_is_as_large_as_the_one_before_begins_at_once() {
    assert_eq!(batches(1, 1).await, [1, 2, 3]);
    assert_eq!(batches(2, 3).await, [2, 5, 6]);
}
