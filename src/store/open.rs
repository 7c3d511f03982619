//! Opening: from a directory to a store that can be used, or to the reason why it cannot.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions as _, Row as _, SqlSafeStr as _};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::rows::{Place, Rows};
use super::sqlite::{LoadedRow, Reader, Sqlite, Table, for_each_row, options};
use super::write::{PAYLOAD_VERSION, QUEUE_MAX, Writer};
use super::{COMMITS_BEHIND_MAX, Inner, Store, codec};
use crate::domain::change::{Key, Kind};
use crate::domain::id::{Entropy, Id};
use crate::domain::meta::Version;
use crate::domain::time::Clock;
use crate::domain::view::View;
use crate::seal::keyring::{KeyId, KeyRow, Keyring, KeyringError};
use crate::seal::unlock::UnlockKey;

/// The schema, by numbered steps. A step that was released never changes.
const MIGRATIONS: &[(i64, &str, &str)] =
    &[(1, "store", include_str!("../../migrations/0001_store.sql"))];

/// Where the store lies.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data directory; made with mode 0700 when missing.
    pub data_dir: PathBuf,
}

/// The store cannot be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or a file in it.
    #[error("{path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process has it.
    #[error("the store in {0} is in use by another process")]
    InUse(PathBuf),
    /// A newer release wrote it.
    #[error(
        "the store was written by a newer release of purser (schema {0}); this one would damage it"
    )]
    Newer(i64),
    /// The schema cannot be brought up to date.
    #[error("bringing the store's schema up to date")]
    Migrate(#[source] MigrateError),
    /// The database fails.
    #[error("reading the store")]
    Database(#[from] sqlx::Error),
    /// The keys cannot be opened.
    #[error("opening the keyring of the store")]
    Keyring(#[from] KeyringError),
    /// A row is not as it was written.
    #[error("row {row} of {table}, {kind} {id}, is damaged: {why}")]
    Damaged {
        /// The table.
        table: &'static str,
        /// The row's number.
        row: i64,
        /// Kind of the object, as far as the row says.
        kind: String,
        /// Its id, as far as the row says.
        id: String,
        /// What is wrong.
        why: String,
    },
    /// The rows are not those last written.
    #[error("the store is not as it was last written: {0}")]
    Head(String),
}

/// Opens the store, or makes a new one. Returns the writer's task too: it ends once `stop` is
/// called and all that waited is written.
///
/// # Errors
/// See [`OpenError`].
pub async fn open(
    config: &Config,
    unlock: &UnlockKey,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    stop: CancellationToken,
) -> Result<(Store, JoinHandle<()>), OpenError> {
    let lock = lock(&config.data_dir)?;
    let path = config.data_dir.join("purser.db");
    let mut connection = options(&path).connect().await?;
    migrate(&mut connection).await?;
    let keyring = match read_store_row(&mut connection).await? {
        Some(store_id) => open_keyring(&mut connection, &store_id, unlock).await?,
        None => {
            check_empty(&mut connection).await?;
            make(&mut connection, unlock, &*entropy).await?
        }
    };
    let keyring = Arc::new(keyring);
    let (view, rows) = load(&mut connection, &keyring).await?;
    let rows = Arc::new(RwLock::new(rows));
    let reader = Reader::new(options(&path).connect().await?, rows.clone());
    let (queue, waiting) = mpsc::channel(QUEUE_MAX);
    let store = Store {
        inner: Arc::new(Inner {
            view: RwLock::new(view.clone()),
            keyring: keyring.clone(),
            queue,
            commits: broadcast::Sender::new(COMMITS_BEHIND_MAX),
            reader,
        }),
    };
    let writer = Writer {
        inner: Arc::downgrade(&store.inner),
        queue: waiting,
        log: Sqlite::new(connection, view.version().index),
        view,
        rows,
        keyring,
        clock,
        entropy,
    };
    let task = tokio::spawn(async move {
        writer.run(stop).await;
        drop(lock);
    });
    Ok((store, task))
}

/// Takes the directory for this process alone, for as long as the file is open.
fn lock(data_dir: &Path) -> Result<File, OpenError> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)
        .map_err(io(data_dir))?;
    let path = data_dir.join("purser.lock");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::InUse(data_dir.to_owned())),
        Err(std::fs::TryLockError::Error(error)) => Err(io(&path)(error)),
    }
}

async fn migrate(connection: &mut SqliteConnection) -> Result<(), OpenError> {
    let migrations = MIGRATIONS
        .iter()
        .map(|(number, name, sql)| {
            let sql = (*sql).into_sql_str();
            Migration::new(*number, (*name).into(), MigrationType::Simple, sql, false)
        })
        .collect();
    match Migrator::with_migrations(migrations).run_direct(None, connection, false).await {
        Err(MigrateError::VersionMissing(number)) => Err(OpenError::Newer(number)),
        done => done.map_err(OpenError::Migrate),
    }
}

async fn read_store_row(connection: &mut SqliteConnection) -> Result<Option<String>, OpenError> {
    let row = sqlx::query("SELECT id FROM store WHERE one = 1").fetch_optional(connection).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// A store without its head is a new one only if it has nothing else either.
async fn check_empty(connection: &mut SqliteConnection) -> Result<(), OpenError> {
    let sql = "SELECT EXISTS(SELECT 1 FROM keyring UNION ALL SELECT 1 FROM objects \
               UNION ALL SELECT 1 FROM payloads)";
    match sqlx::query(sql).fetch_one(connection).await?.try_get(0)? {
        true => Err(OpenError::Head("its head is missing".into())),
        false => Ok(()),
    }
}

/// Makes the keys and the head of a new store, in one transaction.
async fn make(
    connection: &mut SqliteConnection,
    unlock: &UnlockKey,
    entropy: &dyn Entropy,
) -> Result<Keyring, OpenError> {
    let store_id = Id::<crate::domain::id::ClusterKind>::make(entropy).to_string();
    let (keyring, key_rows) = Keyring::make(&store_id, unlock, entropy);
    let head = keyring.seal(codec::head_value(0), &Rows::default().digest(), entropy).0;
    let mut transaction = sqlx::Connection::begin(connection).await?;
    for row in key_rows {
        sqlx::query("INSERT INTO keyring(id, usage, sealed) VALUES (?, ?, ?)")
            .bind(i64::from(row.id.0))
            .bind(i64::from(row.usage))
            .bind(row.sealed)
            .execute(&mut *transaction)
            .await?;
    }
    sqlx::query("INSERT INTO store(one, id, version, head) VALUES (1, ?, 0, ?)")
        .bind(store_id)
        .bind(head)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(keyring)
}

async fn open_keyring(
    connection: &mut SqliteConnection,
    store_id: &str,
    unlock: &UnlockKey,
) -> Result<Keyring, OpenError> {
    let mut rows = Vec::new();
    for row in sqlx::query("SELECT id, usage, sealed FROM keyring ORDER BY id")
        .fetch_all(connection)
        .await?
    {
        let (id, usage): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let out_of_range = || OpenError::Damaged {
            table: "keyring",
            row: id,
            kind: "key".into(),
            id: id.to_string(),
            why: "its number or use is out of range".into(),
        };
        rows.push(KeyRow {
            id: KeyId(u32::try_from(id).map_err(|_| out_of_range())?),
            usage: u8::try_from(usage).map_err(|_| out_of_range())?,
            sealed: row.try_get(2)?,
        });
    }
    Ok(Keyring::open(store_id, unlock, &rows)?)
}

/// Opens every row. The first one that is not as it was written is named and ends the start.
async fn load(
    connection: &mut SqliteConnection,
    keyring: &Keyring,
) -> Result<(View, Rows), OpenError> {
    let mut payloads = std::collections::HashMap::new();
    for_each_row(connection, Table::Payloads, |loaded| {
        let key = key_of(&loaded, "payloads")?;
        let value = codec::payload_value(&key, loaded.version);
        open_row(keyring, &loaded, value, "payloads")?;
        if loaded.version != PAYLOAD_VERSION || payloads.insert(loaded.row, key).is_some() {
            return Err(damaged("payloads", &loaded, "it has an impossible version or number"));
        }
        Ok(())
    })
    .await?;
    let (mut view, mut rows) = (View::default(), Rows::default());
    for_each_row(connection, Table::Objects, |loaded| {
        let key = key_of(&loaded, "objects")?;
        let value = codec::object_value(&key, loaded.version);
        let plain = open_row(keyring, &loaded, value, "objects")?;
        let object = codec::decode(key.kind(), plain.expose())
            .map_err(|error| damaged("objects", &loaded, &error.to_string()))?;
        if object.key() != key || rows.place(&key).is_some() {
            return Err(damaged("objects", &loaded, "it is there twice, or under another id"));
        }
        let payload = match payloads.remove(&loaded.row) {
            None => None,
            Some(of) if of == key => Some(PAYLOAD_VERSION),
            Some(_) => return Err(damaged("objects", &loaded, "its payload is that of another")),
        };
        let place = Place { row: loaded.row, version: loaded.version, payload };
        rows.set(keyring, key, Some(place));
        view.load(&object);
        Ok(())
    })
    .await?;
    if let Some((row, key)) = payloads.into_iter().next() {
        let (kind, id) = (key.kind().word().to_owned(), key.id().to_owned());
        let why = "its object is missing".to_owned();
        return Err(OpenError::Damaged { table: "payloads", row, kind, id, why });
    }
    check_head(connection, keyring, &rows).await.map(|version| {
        view.load_version(Version { index: version });
        (view, rows)
    })
}

async fn check_head(
    connection: &mut SqliteConnection,
    keyring: &Keyring,
    rows: &Rows,
) -> Result<u64, OpenError> {
    let row =
        sqlx::query("SELECT version, head FROM store WHERE one = 1").fetch_one(connection).await?;
    let version = row.try_get::<i64, _>(0)?.cast_unsigned();
    let sealed: Vec<u8> = row.try_get(1)?;
    let digest = keyring
        .open_value(codec::head_value(version), &sealed)
        .map_err(|error| OpenError::Head(format!("its head is damaged: {error}")))?;
    if digest.expose() != rows.digest() {
        return Err(OpenError::Head(
            "a row is missing, or an older one was put in its place".into(),
        ));
    }
    Ok(version)
}

fn key_of(loaded: &LoadedRow, table: &'static str) -> Result<Key, OpenError> {
    let kind = Kind::from_number(loaded.kind)
        .ok_or_else(|| damaged(table, loaded, "its kind is not known"))?;
    let malformed = |_| damaged(table, loaded, "its id is malformed");
    Ok(match kind {
        Kind::Cluster => Key::Cluster(loaded.id.parse().map_err(malformed)?),
        Kind::Node => Key::Node(loaded.id.parse().map_err(malformed)?),
        Kind::Service => Key::Service(loaded.id.parse().map_err(malformed)?),
        Kind::Task => Key::Task(loaded.id.parse().map_err(malformed)?),
        Kind::Secret => Key::Secret(loaded.id.parse().map_err(malformed)?),
    })
}

fn open_row(
    keyring: &Keyring,
    loaded: &LoadedRow,
    value: crate::seal::keyring::Value<'_>,
    table: &'static str,
) -> Result<crate::seal::secret::SecretBytes, OpenError> {
    let plain = keyring
        .open_value(value, &loaded.sealed)
        .map_err(|error| damaged(table, loaded, &error.to_string()))?;
    let key_id = Keyring::key_of(&loaded.sealed).map_or(0, |id| i64::from(id.0));
    if key_id != loaded.key_id {
        return Err(damaged(table, loaded, "it names another key than the one it is sealed with"));
    }
    Ok(plain)
}

fn damaged(table: &'static str, loaded: &LoadedRow, why: &str) -> OpenError {
    let kind = Kind::from_number(loaded.kind)
        .map_or_else(|| format!("kind {}", loaded.kind), |kind| kind.word().to_owned());
    OpenError::Damaged { table, row: loaded.row, kind, id: loaded.id.clone(), why: why.to_owned() }
}
