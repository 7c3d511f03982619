//! The durable copy: SQLite with a write-ahead log, synced at every commit.

use std::fmt::Write as _;
use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};
use tokio::sync::Mutex;

use super::log::{Batch, Log, LogError, Row};
use crate::domain::change::Key;

/// Rows in one statement. A row takes six parameters of SQLite's 32,766.
const STATEMENT_ROWS_MAX: usize = 512;

/// Batches up to this many rows keep their prepared statement; larger ones are rare and each of a
/// size of its own.
const PREPARED_ROWS_MAX: usize = 64;

/// Pages of the write-ahead log that trigger moving them into the database: 4 MiB. The log is then
/// written over from its beginning; a file that keeps its size syncs twice as fast as one that
/// grows.
const CHECKPOINT_PAGES: &str = "1000";

pub(super) fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        // What is deleted is overwritten, sealed as it was.
        .pragma("secure_delete", "ON")
        .pragma("temp_store", "MEMORY")
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .statement_cache_capacity(256)
        .disable_statement_logging()
}

/// The one connection that writes.
pub(super) struct Sqlite {
    connection: SqliteConnection,
    /// The version of the last batch that is known to be durable.
    version: u64,
}

impl Sqlite {
    pub(super) fn new(connection: SqliteConnection, version: u64) -> Sqlite {
        Sqlite { connection, version }
    }

    /// After a failure: is the batch in, is it out, or can nobody say?
    async fn settle(&mut self, batch_version: u64, error: sqlx::Error) -> Result<(), LogError> {
        // Not in a transaction any more is fine; anything else shows at the next statement.
        let _ = sqlx::query("ROLLBACK").execute(&mut self.connection).await;
        let stored = sqlx::query("SELECT version FROM store WHERE one = 1")
            .fetch_one(&mut self.connection)
            .await
            .and_then(|row| row.try_get::<i64, _>(0));
        match stored.map(i64::cast_unsigned) {
            Ok(version) if version == batch_version => Ok(()),
            Ok(version) if version == self.version => Err(LogError::Database(error)),
            _ => Err(LogError::Unsure(error)),
        }
    }
}

impl Log for Sqlite {
    async fn propose(&mut self, batch: Batch) -> Result<(), LogError> {
        let version = batch.version;
        // One text with all statements makes one trip to the database's thread.
        let sql = batch_sql(&batch);
        let rows = batch.puts.len() + batch.payloads.len() + batch.removes.len();
        let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(rows <= PREPARED_ROWS_MAX);
        for row in
            batch.removes.chunks(STATEMENT_ROWS_MAX).flat_map(|chunk| [chunk, chunk]).flatten()
        {
            query = query.bind(*row);
        }
        for row in batch.puts.into_iter().chain(batch.payloads) {
            let kind = row.key.kind() as i64;
            query = query
                .bind(row.row)
                .bind(kind)
                .bind(row.key.id().to_owned())
                .bind(row.version.cast_signed())
                .bind(i64::from(row.key_id))
                .bind(row.sealed);
        }
        query = query.bind(version.cast_signed()).bind(batch.head);
        match query.execute(&mut self.connection).await {
            Ok(_) => {}
            Err(error) => self.settle(version, error).await?,
        }
        self.version = version;
        Ok(())
    }

    async fn close(self) {
        if let Err(error) = self.connection.close().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "closing the database");
        }
    }
}

/// The statements of a batch, with a parameter for every value, in the order in which `propose`
/// binds them.
fn batch_sql(batch: &Batch) -> String {
    let mut sql = String::from("BEGIN IMMEDIATE;");
    for chunk in batch.removes.chunks(STATEMENT_ROWS_MAX) {
        let marks = vec!["?"; chunk.len()].join(",");
        for table in ["objects", "payloads"] {
            write!(sql, "DELETE FROM {table} WHERE row IN ({marks});").expect(TO_STRING);
        }
    }
    for (table, rows) in [("objects", &batch.puts), ("payloads", &batch.payloads)] {
        for chunk in rows.chunks(STATEMENT_ROWS_MAX) {
            let marks = vec!["(?,?,?,?,?,?)"; chunk.len()].join(",");
            write!(sql, "REPLACE INTO {table}(row,kind,id,version,key_id,sealed) VALUES {marks};")
                .expect(TO_STRING);
        }
    }
    sql.push_str("UPDATE store SET version=?, head=? WHERE one=1;COMMIT");
    sql
}

const TO_STRING: &str = "writing to a string cannot fail";

/// A connection that reads payloads beside the writer.
pub(super) struct Reader {
    connection: Mutex<SqliteConnection>,
    rows: std::sync::Arc<std::sync::RwLock<super::rows::Rows>>,
}

impl Reader {
    pub(super) fn new(
        connection: SqliteConnection,
        rows: std::sync::Arc<std::sync::RwLock<super::rows::Rows>>,
    ) -> Reader {
        Reader { connection: Mutex::new(connection), rows }
    }

    /// The version and sealed bytes of an object's payload.
    pub(super) async fn payload(&self, key: Key) -> Result<Option<(u64, Vec<u8>)>, LogError> {
        let place = self.rows.read().expect("no writer of the rows panics").place(&key);
        let Some(place) = place else { return Ok(None) };
        let mut connection = self.connection.lock().await;
        let row = sqlx::query("SELECT version, sealed FROM payloads WHERE row = ?")
            .bind(place.row)
            .fetch_optional(&mut *connection)
            .await
            .map_err(LogError::Database)?;
        let Some(row) = row else { return Ok(None) };
        let read = || Ok((row.try_get::<i64, _>(0)?.cast_unsigned(), row.try_get(1)?));
        read().map(Some).map_err(LogError::Database)
    }
}

/// A row as it was loaded, its key not yet understood.
pub(super) struct LoadedRow {
    pub row: i64,
    pub kind: i64,
    pub id: String,
    pub version: u64,
    pub key_id: i64,
    pub sealed: Vec<u8>,
}

/// Hands every row of a table to `each`, one at a time, so that large payloads are never all in
/// memory.
pub(super) async fn for_each_row<E: From<sqlx::Error>>(
    connection: &mut SqliteConnection,
    table: Table,
    mut each: impl FnMut(LoadedRow) -> Result<(), E>,
) -> Result<(), E> {
    use futures_util::TryStreamExt as _;
    let sql = match table {
        Table::Objects => "SELECT row, kind, id, version, key_id, sealed FROM objects ORDER BY row",
        Table::Payloads => {
            "SELECT row, kind, id, version, key_id, sealed FROM payloads ORDER BY row"
        }
    };
    let mut rows = sqlx::query(sql).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        each(LoadedRow {
            row: row.try_get(0)?,
            kind: row.try_get(1)?,
            id: row.try_get(2)?,
            version: row.try_get::<i64, _>(3)?.cast_unsigned(),
            key_id: row.try_get(4)?,
            sealed: row.try_get(5)?,
        })?;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Table {
    Objects,
    Payloads,
}

impl Row {
    /// A row for this value, its key id read from the envelope.
    pub(super) fn new(row: i64, key: Key, version: u64, sealed: Vec<u8>) -> Row {
        let key_id = crate::seal::keyring::Keyring::key_of(&sealed).map_or(0, |id| id.0);
        Row { row, key, version, key_id, sealed }
    }
}
