//! A copy of the store that needs nothing but a key of its own: taken while the store is in use, at one
//! moment, and opened like any other store.

use std::path::Path;

use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use super::sqlite::{HEAD_ROW, options};
use super::{Store, log};
use crate::domain::id::Entropy;
use crate::seal::keyring::KeyUse;
use crate::seal::unlock::UnlockKey;

/// How the names of files begin that are only there while a backup is made, and after a crash.
pub const SCRATCH_PREFIX: &str = ".purser-scratch-";

/// What a copy is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Names the store.
    pub store: String,
    /// The last write in it.
    pub version: u64,
}

/// No copy could be made.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The store's own database.
    #[error("copying the store")]
    Copy(#[source] log::LogError),
    /// The copy.
    #[error("writing to the copy")]
    Write(#[from] sqlx::Error),
    /// The copy does not hold the keys that it should.
    #[error("the keys in the copy cannot be sealed anew")]
    Keys,
    /// The copy is not one file.
    #[error("the copy keeps its journal in the mode {0}")]
    Journal(String),
}

impl Store {
    /// Copies the store into a file that is not there yet, its keys sealed under `lock`. Writes wait
    /// while it is copied.
    ///
    /// # Errors
    /// The database fails.
    pub async fn snapshot(
        &self,
        to: &Path,
        lock: UnlockKey,
        entropy: &dyn Entropy,
    ) -> Result<Snapshot, SnapshotError> {
        // The keys in the copy are those of its rows.
        let _alone = self.inner.rotation.lock().await;
        self.inner.database.copy(to).await.map_err(SnapshotError::Copy)?;
        let rows = self.inner.keyring.rows_under(lock, entropy);
        let mut copy = options(to).connect().await?;
        let mut transaction = copy.begin().await?;
        for row in rows {
            let done = sqlx::query("UPDATE keyring SET sealed = ? WHERE id = ? AND usage = ?")
                .bind(row.sealed)
                .bind(i64::from(row.id.0))
                .bind(i64::from(row.usage))
                .execute(&mut *transaction)
                .await?;
            if done.rows_affected() != 1 {
                return Err(SnapshotError::Keys);
            }
        }
        // Whom a key was offered to has that of the copy's store, which this is not.
        let offered = sqlx::query("DELETE FROM keyring WHERE usage = ?");
        offered.bind(KeyUse::Offered as u8).execute(&mut *transaction).await?;
        transaction.commit().await?;
        let head = sqlx::query("SELECT id, version FROM objects WHERE row = ?").bind(HEAD_ROW);
        let head = head.fetch_one(&mut copy).await?;
        let version = head.try_get::<i64, _>(1)?.cast_unsigned();
        let snapshot = Snapshot { store: head.try_get(0)?, version };
        // What is left of the keys as they were is not in the file any more after this.
        sqlx::query("VACUUM").execute(&mut copy).await?;
        // One file it is, with nothing left in a log beside it.
        let mode: String =
            sqlx::query_scalar("PRAGMA journal_mode = DELETE").fetch_one(&mut copy).await?;
        if mode != "delete" {
            return Err(SnapshotError::Journal(mode));
        }
        copy.close().await?;
        Ok(snapshot)
    }
}

/// Removes what a backup left that was being made when its process was killed: a copy of the store, as
/// sealed as it is. For a process that has the directory for itself.
pub fn remove_scratch(data_dir: &Path) {
    let entries = std::fs::read_dir(data_dir).into_iter().flatten().flatten();
    for entry in entries {
        if entry.file_name().to_string_lossy().starts_with(SCRATCH_PREFIX)
            && let Err(error) = std::fs::remove_file(entry.path())
        {
            tracing::warn!(%error, path = %entry.path().display(), "a leftover stays");
        }
    }
}
