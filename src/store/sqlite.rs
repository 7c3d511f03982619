//! The durable copy: SQLite with a write-ahead log, synced at every commit.

use std::path::Path;
use std::sync::Arc;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteLockingMode, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};
use tokio::sync::Mutex;

use super::audit::AuditRow;
use super::log::{Batch, Log, LogError, Row};
use super::rows::Rows;
use crate::domain::change::Key;
use crate::seal::keyring::Keyring;

/// Number of the row that holds the head of the store.
pub(super) const HEAD_ROW: i64 = 0;
/// It is of no kind that an object has.
pub(super) const HEAD_KIND: i64 = 0;
/// Nor are records of the audit.
pub(super) const AUDIT_KIND: i64 = 255;

/// Rows in one statement. A row takes seven parameters of SQLite's 32,766.
const STATEMENT_ROWS_MAX: usize = 512;

/// Batches up to this many rows keep their prepared statement; larger ones are rare and each of a
/// size of its own.
const PREPARED_ROWS_MAX: usize = 64;

/// Bytes of a page of a new database. A page of the log costs two system calls whatever its size, and
/// a batch of small secrets fills several.
const PAGE_BYTES: u32 = 8192;

/// Pages of the write-ahead log that trigger moving them into the database: 4 MiB. The log is then
/// written over from its beginning; a file that keeps its size syncs twice as fast as one that
/// grows.
const CHECKPOINT_PAGES: &str = "500";

pub(super) fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .page_size(PAGE_BYTES)
        // One process, one connection: its index of the log lies in its own memory, and no commit
        // has to ask the file system for locks.
        .locking_mode(SqliteLockingMode::Exclusive)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        // What is deleted is overwritten, sealed as it was.
        .pragma("secure_delete", "ON")
        .pragma("temp_store", "MEMORY")
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .statement_cache_capacity(256)
        .disable_statement_logging()
}

/// The open database: one connection, which the writer and the readers of payloads take in turns.
#[derive(Clone)]
pub(super) struct Database(Arc<Mutex<Option<SqliteConnection>>>);

impl Database {
    pub(super) fn new(connection: SqliteConnection) -> Database {
        Database(Arc::new(Mutex::new(Some(connection))))
    }

    /// Rows of the audit from this row of the table on.
    pub(super) async fn audit(&self, row: i64, limit: u32) -> Result<Vec<AuditRow>, LogError> {
        let mut connection = self.0.lock().await;
        let connection = connection.as_mut().ok_or(LogError::Closed)?;
        let sql = "SELECT version, sealed FROM objects WHERE row >= ? AND kind = ? \
             ORDER BY row LIMIT ?";
        let query = sqlx::query(sql).bind(row).bind(AUDIT_KIND).bind(i64::from(limit));
        let rows = query.fetch_all(connection).await.map_err(LogError::Database)?;
        let read = |row: &sqlx::sqlite::SqliteRow| {
            let first = row.try_get::<i64, _>(0)?.cast_unsigned();
            Ok(AuditRow { first, sealed: row.try_get(1)? })
        };
        rows.iter().map(read).collect::<Result<_, _>>().map_err(LogError::Database)
    }

    /// Copies all of it, as of the last commit, into a file that is not there yet.
    pub(super) async fn copy(&self, to: &Path) -> Result<(), LogError> {
        let mut connection = self.0.lock().await;
        let connection = connection.as_mut().ok_or(LogError::Closed)?;
        let copied = sqlx::query("VACUUM INTO ?").bind(to.display().to_string());
        copied.execute(connection).await.map(|_| ()).map_err(LogError::Database)
    }

    /// One that cannot be read.
    pub(super) fn closed() -> Database {
        Database(Arc::new(Mutex::new(None)))
    }

    /// The payload of an object that lies in `row`, with its key; without a row it is looked for.
    pub(super) async fn payload(
        &self,
        key: Key,
        row: Option<i64>,
    ) -> Result<Option<PayloadRow>, LogError> {
        let mut connection = self.0.lock().await;
        let connection = connection.as_mut().ok_or(LogError::Closed)?;
        let query = match row {
            Some(row) => sqlx::query(
                "SELECT p.version, p.sealed, o.data_key FROM objects p, objects o
                     WHERE p.row = ? AND o.row = ?",
            )
            .bind(Rows::payload_row(row))
            .bind(row),
            None => {
                let sql = "SELECT p.version, p.sealed, o.data_key FROM objects p
                     JOIN objects o ON o.row = p.row - 1
                     WHERE p.row % 2 AND p.kind = ? AND p.id = ?";
                sqlx::query(sql).bind(key.kind() as i64).bind(key.id().to_owned())
            }
        };
        let row = query.fetch_optional(connection).await.map_err(LogError::Database)?;
        let Some(row) = row else { return Ok(None) };
        let read = || {
            let version = row.try_get::<i64, _>(0)?.cast_unsigned();
            let data_key = row.try_get::<Option<_>, _>(2)?.unwrap_or_default();
            Ok(PayloadRow { version, sealed: row.try_get(1)?, data_key })
        };
        read().map(Some).map_err(LogError::Database)
    }
}

/// A payload as it is stored.
pub(super) struct PayloadRow {
    pub version: u64,
    pub sealed: Vec<u8>,
    /// Its key, sealed; empty when its object has none, with which it does not open.
    pub data_key: Vec<u8>,
}

/// Writes batches.
pub(super) struct Sqlite {
    database: Database,
    /// Names the store in its head.
    store_id: String,
    /// The version of the last batch that is known to be durable.
    version: u64,
}

impl Sqlite {
    pub(super) fn new(database: Database, store_id: String, version: u64) -> Sqlite {
        Sqlite { database, store_id, version }
    }

    async fn execute(&self, batch: Batch) -> Result<(), LogError> {
        let sql = batch_sql(&batch);
        let rows = batch.puts.len() + batch.removes.len();
        let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(rows <= PREPARED_ROWS_MAX);
        for row in batch.removes {
            query = query.bind(row);
        }
        for key in batch.key_puts {
            query = query
                .bind(i64::from(key.id.0))
                .bind(i64::from(key.usage))
                .bind(key.made_at.cast_signed())
                .bind(key.sealed);
        }
        query = query
            .bind(HEAD_ROW)
            .bind(HEAD_KIND)
            .bind(self.store_id.clone())
            .bind(batch.version.cast_signed())
            .bind(i64::from(key_id(&batch.head)))
            .bind(batch.head)
            .bind(None::<Vec<u8>>);
        for row in batch.puts {
            query = query
                .bind(row.row)
                .bind(row.kind)
                .bind(row.id)
                .bind(row.version.cast_signed())
                .bind(i64::from(row.key_id))
                .bind(row.sealed)
                .bind(row.data_key.map(|key| key.to_vec()));
        }
        if batch.audit_from > 0 {
            query = query.bind(AUDIT_KIND).bind(batch.audit_from.cast_signed());
        }
        for id in batch.key_removes {
            let name = id.0.to_be_bytes().to_vec();
            query = query.bind(i64::from(id.0)).bind(i64::from(id.0)).bind(name);
        }
        let mut connection = self.database.0.lock().await;
        let connection = connection.as_mut().ok_or(LogError::Closed)?;
        query.execute(connection).await.map(|_| ()).map_err(LogError::Database)
    }

    /// After a failure: is the batch in, is it out, or can nobody say?
    async fn settle(&self, batch_version: u64, error: sqlx::Error) -> Result<(), LogError> {
        let mut connection = self.database.0.lock().await;
        let Some(connection) = connection.as_mut() else { return Err(LogError::Unsure(error)) };
        // Not in a transaction any more is fine; anything else shows at the next statement.
        let _ = sqlx::query("ROLLBACK").execute(&mut *connection).await;
        let stored = sqlx::query("SELECT version FROM objects WHERE row = 0")
            .fetch_one(&mut *connection)
            .await
            .and_then(|row| row.try_get::<i64, _>(0));
        match stored.map(i64::cast_unsigned) {
            Ok(version) if version == batch_version => Ok(()),
            Ok(version) if version == self.version && !is_io_error(&error) => {
                Err(LogError::Database(error))
            }
            Ok(version) if version == self.version => {
                // A sync that failed leaves the batch in the log, where the next start would find it
                // after all. One commit that succeeds takes its place.
                let over = sqlx::query("UPDATE objects SET version = version WHERE row = ?")
                    .bind(HEAD_ROW)
                    .execute(&mut *connection)
                    .await;
                match over {
                    Ok(_) => Err(LogError::Database(error)),
                    Err(_) => Err(LogError::Unsure(error)),
                }
            }
            _ => Err(LogError::Unsure(error)),
        }
    }
}

impl Log for Sqlite {
    async fn propose(&mut self, batch: Batch) -> Result<(), LogError> {
        let version = batch.version;
        match self.execute(batch).await {
            Ok(()) => {}
            Err(LogError::Database(error)) => self.settle(version, error).await?,
            Err(error) => return Err(error),
        }
        self.version = version;
        Ok(())
    }

    async fn close(self) {
        let Some(connection) = self.database.0.lock().await.take() else { return };
        if let Err(error) = connection.close().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "closing the database");
        }
    }
}

/// True for what the file system refuses, a sync above all; a full disk is not among it.
fn is_io_error(error: &sqlx::Error) -> bool {
    /// SQLite's code; the causes stand in the bits above.
    const SQLITE_IOERR: u32 = 10;
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
    code.is_some_and(|code| code & 0xff == SQLITE_IOERR)
}

/// The text of a batch, with a parameter for every value, in the order in which they are bound.
/// What fits into one statement is one: it is a transaction by itself, and one trip to the
/// database's thread.
fn batch_sql(batch: &Batch) -> String {
    let mut statements = Vec::new();
    for chunk in batch.removes.chunks(STATEMENT_ROWS_MAX) {
        let marks = vec!["?"; chunk.len()].join(",");
        statements.push(format!("DELETE FROM objects WHERE row IN ({marks})"));
    }
    if !batch.key_puts.is_empty() {
        let marks = vec!["(?,?,?,?)"; batch.key_puts.len()].join(",");
        statements.push(format!("REPLACE INTO keyring(id,usage,made_at,sealed) VALUES {marks}"));
    }
    // The head goes first.
    let mut left = batch.puts.len() + 1;
    while left > 0 {
        let count = left.min(STATEMENT_ROWS_MAX);
        let marks = vec!["(?,?,?,?,?,?,?)"; count].join(",");
        statements.push(format!(
            "REPLACE INTO objects(row,kind,id,version,key_id,sealed,data_key) VALUES {marks}"
        ));
        left -= count;
    }
    if batch.audit_from > 0 {
        statements.push("DELETE FROM objects WHERE kind = ? AND version < ?".into());
    }
    // What needs a key keeps it, whatever was thought: an envelope names its key behind its format.
    let remove = "DELETE FROM keyring WHERE id = ? AND NOT EXISTS \
         (SELECT 1 FROM objects WHERE key_id = ? OR substr(data_key, 2, 4) = ?)";
    statements.extend(batch.key_removes.iter().map(|_| remove.to_owned()));
    if let [statement] = &mut statements[..] {
        return std::mem::take(statement);
    }
    format!("BEGIN IMMEDIATE;{};COMMIT", statements.join(";"))
}

/// A row as it was loaded, its key not yet understood.
pub(super) struct LoadedRow {
    pub row: i64,
    pub kind: i64,
    pub id: String,
    pub version: u64,
    pub key_id: i64,
    pub sealed: Vec<u8>,
    pub data_key: Option<Vec<u8>>,
}

/// Hands every row to `each`, by their numbers and a few at a time, so that large payloads are never
/// all in memory.
pub(super) async fn for_each_row<E: From<sqlx::Error>>(
    connection: &mut SqliteConnection,
    mut each: impl FnMut(LoadedRow) -> Result<(), E>,
) -> Result<(), E> {
    use futures_util::TryStreamExt as _;
    // Of the audit only is looked where it lies.
    let sql = "SELECT row, kind, id, version, key_id, \
         CASE kind WHEN 255 THEN x'' ELSE sealed END, data_key FROM objects ORDER BY row";
    let mut rows = sqlx::query(sql).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        each(LoadedRow {
            row: row.try_get(0)?,
            kind: row.try_get(1)?,
            id: row.try_get(2)?,
            version: row.try_get::<i64, _>(3)?.cast_unsigned(),
            key_id: row.try_get(4)?,
            sealed: row.try_get(5)?,
            data_key: row.try_get(6)?,
        })?;
    }
    Ok(())
}

impl Row {
    /// A row for this value, its key id read from the envelope.
    pub(super) fn new(row: i64, key: Key, version: u64, sealed: Vec<u8>) -> Row {
        let (kind, id) = (key.kind() as i64, key.id().to_owned());
        Row { row, kind, id, version, key_id: key_id(&sealed), sealed, data_key: None }
    }

    /// A row for records of the audit.
    pub(super) fn of_audit(row: i64, audit: AuditRow) -> Row {
        let AuditRow { first, sealed } = audit;
        let (kind, id) = (AUDIT_KIND, String::new());
        let key_id = key_id(&sealed);
        Row { row, kind, id, version: first, key_id, sealed, data_key: None }
    }
}

/// The key that a sealed value names.
pub(super) fn key_id(sealed: &[u8]) -> u32 {
    Keyring::key_of(sealed).map_or(0, |id| id.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::TaskId;

    #[test]
    fn a_batch_is_one_statement_or_one_transaction() {
        let row = || Row::new(2, Key::Task(TaskId::LOWEST), 1, Vec::new());
        // Rows put, rows removed, statements.
        for (puts, removes, statements) in
            [(0, 0, 1), (1, 0, 1), (511, 0, 1), (512, 0, 2), (1200, 0, 3), (0, 1, 2), (600, 513, 4)]
        {
            let puts: Vec<Row> = (0..puts).map(|_| row()).collect();
            let batch = Batch { puts, removes: vec![2; removes], ..Default::default() };
            let sql = batch_sql(&batch);
            let marks = sql.matches('?').count();
            assert_eq!(marks, batch.removes.len() + 7 * (batch.puts.len() + 1), "{sql}");
            let found = sql.matches("REPLACE").count() + sql.matches("DELETE").count();
            assert_eq!(found, statements);
            let is_transaction = sql.starts_with("BEGIN IMMEDIATE;") && sql.ends_with(";COMMIT");
            assert_eq!(is_transaction, statements > 1);
            assert!(!sql.contains("()") && !sql.contains("VALUES ;"), "{sql}");
        }
    }
}
