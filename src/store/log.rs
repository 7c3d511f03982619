//! The seam for replication: propose a batch, learn when it is durable.
//!
//! Today a batch goes to SQLite alone ([`super::sqlite`]). Replicated managers put a consensus log
//! behind the same trait; nothing above or below changes.

use std::future::Future;
use std::sync::Arc;

use crate::seal::keyring::{KeyId, KeyRow};

/// A batch of row changes that becomes durable as a whole or not at all.
#[derive(Debug, Default)]
pub struct Batch {
    /// Index of its last write.
    pub version: u64,
    /// Rows to make or replace, by their numbers.
    pub puts: Vec<Row>,
    /// Rows to remove; those that are not there are gone already.
    pub removes: Vec<i64>,
    /// The sealed head of the store after the batch.
    pub head: Vec<u8>,
    /// Rows of the audit before that with this first record are removed; 0 for none.
    pub audit_from: u64,
    /// Keys of the ring to make or replace.
    pub key_puts: Vec<KeyRow>,
    /// Keys to remove, once the rows are put; one that a row still needs stays.
    pub key_removes: Vec<KeyId>,
}

/// The row of an object, of a payload, or of records of the audit.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its number.
    pub row: i64,
    /// Number of the object's kind.
    pub kind: i64,
    /// Id of the object; records of the audit have none.
    pub id: String,
    /// The version that it is sealed for; of records, the number of the first.
    pub version: u64,
    /// The key that it is sealed with.
    pub key_id: u32,
    /// The sealed value.
    pub sealed: Vec<u8>,
    /// The sealed key of its payload, when it is an object that has one.
    pub data_key: Option<Arc<[u8]>>,
}

/// A batch is not durable, or not known to be.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The database refuses; nothing of the batch is in it.
    #[error("the database")]
    Database(#[source] sqlx::Error),
    /// The database was closed.
    #[error("the database is closed")]
    Closed,
    /// It is not known whether the batch is durable. No write may follow.
    #[error("the database failed in the middle of a commit, and writing has stopped")]
    Unsure(#[source] sqlx::Error),
}

/// Where batches become durable.
pub trait Log: Send + 'static {
    /// Makes a batch durable. Returns once it is.
    ///
    /// # Errors
    /// It is not durable, or that is not known.
    fn propose(&mut self, batch: Batch) -> impl Future<Output = Result<(), LogError>> + Send;

    /// Lets go of everything, in good order.
    fn close(self) -> impl Future<Output = ()> + Send;
}
