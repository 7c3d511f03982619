//! Opening: from a directory to a store that can be used, or to the reason why it cannot.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions as _, Row as _, SqlSafeStr as _};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::audit::Chain;
use super::draft::{Decider, Draft, PAYLOAD_VERSION};
use super::rows::{Payload, Place, Rows};
use super::sqlite::{
    AUDIT_KIND, Database, HEAD_KIND, HEAD_ROW, LoadedRow, Sqlite, for_each_row, key_id, options,
};
use super::write::{QUEUE_MAX, Writer};
use super::{COMMITS_BEHIND_MAX, Inner, Store, codec};
use crate::domain::change::{Key, Kind};
use crate::domain::id::{Entropy, Id};
use crate::domain::meta::Version;
use crate::domain::time::Clock;
use crate::domain::view::View;
use crate::seal::envelope::Nonces;
use crate::seal::keyring::{KeyId, KeyRow, Keyring, KeyringError};
use crate::seal::secret::SecretBytes;
use crate::seal::unlock::{Providers, Salt, UnlockError, UnlockKey};

/// The schema, by numbered steps. A step that was released never changes.
const MIGRATIONS: &[(i64, &str, &str)] =
    &[(1, "store", include_str!("../../migrations/0001_store.sql"))];

/// The database's file within its directory.
pub const FILE: &str = "purser.db";
/// What the database keeps beside it while it is open, and after a crash.
pub const LOG_FILES: [&str; 2] = ["purser.db-wal", "purser.db-shm"];

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
    /// No key to open them with can be had.
    #[error("unlocking the store")]
    Unlock(#[from] UnlockError),
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

/// What a store is opened with.
pub struct Unlock {
    /// The keys that providers have.
    pub providers: Arc<Providers>,
    /// A key that a user typed, for a store that only users can open.
    pub typed: Option<UnlockKey>,
}

impl From<Arc<Providers>> for Unlock {
    fn from(providers: Arc<Providers>) -> Unlock {
        Unlock { providers, typed: None }
    }
}

/// Opens the store, or makes a new one. Returns the writer's task too: it ends once `stop` is
/// called and all that waited is written.
///
/// # Errors
/// See [`OpenError`].
pub async fn open(
    config: &Config,
    unlock: Unlock,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    stop: CancellationToken,
) -> Result<(Store, JoinHandle<()>), OpenError> {
    let lock = lock(&config.data_dir)?;
    let path = config.data_dir.join(FILE);
    let mut connection = options(&path).connect().await?;
    migrate(&mut connection).await?;
    let Unlock { providers, typed } = unlock;
    if read_store_id(&mut connection).await?.is_none() {
        check_empty(&mut connection).await?;
        let now = clock.now().unix_seconds().cast_unsigned();
        make(&mut connection, &providers, now, &*entropy).await?;
    }
    let salt = read_salt(&mut connection).await?;
    let store_id = read_store_id(&mut connection).await?;
    let store_id = store_id.ok_or_else(|| OpenError::Head("its head is missing".into()))?;
    let rows = read_key_rows(&mut connection).await?;
    let (keyring, better) = open_keyring(&store_id, &rows, &providers, &salt, typed)?;
    let keyring = Arc::new(keyring);
    let (view, rows, ends) = load(&mut connection, &keyring).await?;
    // What comes now came after what is stored, even if the clock was put back in between.
    if let Some(last) = view.objects().map(|object| object.meta().updated_at).max() {
        clock.resume(last);
    }
    let rows = Arc::new(RwLock::new(rows));
    let database = Database::new(connection);
    let log = Sqlite::new(database.clone(), store_id, view.version().index);
    let (queue, waiting) = mpsc::channel(QUEUE_MAX);
    let store = Store {
        inner: Arc::new(Inner {
            view: RwLock::new(view.clone()),
            rows: rows.clone(),
            keyring: keyring.clone(),
            queue,
            commits: broadcast::Sender::new(COMMITS_BEHIND_MAX),
            database,
            failure: std::sync::Mutex::default(),
            rotation: tokio::sync::Mutex::new(()),
            audit: watch::Sender::new(ends),
            providers,
            salt,
        }),
    };
    let draft = Draft::default();
    let decider = Decider { view, rows, keyring, clock, entropy, chain: ends, draft, nonces: None };
    let writer = Writer::new(Arc::downgrade(&store.inner), waiting, log, decider);
    let task = tokio::spawn(async move {
        writer.run(stop).await;
        drop(lock);
    });
    if let Some(better) = better
        && let Err(error) = store.relock(better).await
    {
        tracing::warn!(%error, "the keys stay under the provider they were under");
    }
    Ok((store, task))
}

/// Forgets a store, whoever can open it: its files are removed. What was in them was sealed, and its key is gone.
///
/// # Errors
/// Another process has it, or a file cannot be removed.
pub fn forget(config: &Config) -> Result<(), OpenError> {
    let _lock = lock(&config.data_dir)?;
    for name in LOG_FILES.into_iter().chain([FILE]) {
        let path = config.data_dir.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(OpenError::Io { path, source: error });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Takes the directory for this process alone, for as long as the file is open.
///
/// # Errors
/// Another process has it, or it cannot be made.
pub fn lock(data_dir: &Path) -> Result<File, OpenError> {
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

/// The store's id, from its head.
async fn read_store_id(connection: &mut SqliteConnection) -> Result<Option<String>, OpenError> {
    let head = sqlx::query("SELECT id FROM objects WHERE row = ?").bind(HEAD_ROW);
    let row = head.fetch_optional(connection).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// A store without its head is a new one only if it has nothing else either.
async fn check_empty(connection: &mut SqliteConnection) -> Result<(), OpenError> {
    let sql = "SELECT EXISTS(SELECT 1 FROM keyring UNION ALL SELECT 1 FROM objects)";
    match sqlx::query(sql).fetch_one(connection).await?.try_get(0)? {
        true => Err(OpenError::Head("its head is missing".into())),
        false => Ok(()),
    }
}

/// Makes the keys and the head of a new store, in one transaction.
async fn make(
    connection: &mut SqliteConnection,
    providers: &Providers,
    now: u64,
    entropy: &dyn Entropy,
) -> Result<(), OpenError> {
    let salt = Salt::make(entropy);
    let lock = providers.first(&salt)?;
    let store_id = Id::<crate::domain::id::ClusterKind>::make(entropy).to_string();
    let (keyring, key_rows) = Keyring::make(&store_id, lock, now, entropy);
    let head = codec::head(&Rows::default().digest(), &Chain::default());
    let head = keyring.seal(codec::head_value(0), &head, &mut Nonces::draw(entropy));
    let mut transaction = sqlx::Connection::begin(connection).await?;
    sqlx::query("INSERT INTO lock(id, salt) VALUES (1, ?)")
        .bind(salt.0.to_vec())
        .execute(&mut *transaction)
        .await?;
    for row in key_rows {
        sqlx::query("INSERT INTO keyring(id, usage, made_at, sealed) VALUES (?, ?, ?, ?)")
            .bind(i64::from(row.id.0))
            .bind(i64::from(row.usage))
            .bind(row.made_at.cast_signed())
            .bind(row.sealed)
            .execute(&mut *transaction)
            .await?;
    }
    let sql =
        "INSERT INTO objects(row, kind, id, version, key_id, sealed) VALUES (?, ?, ?, 0, ?, ?)";
    sqlx::query(sql)
        .bind(HEAD_ROW)
        .bind(HEAD_KIND)
        .bind(&store_id)
        .bind(i64::from(key_id(&head)))
        .bind(head)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(())
}

/// The keyring, and the key of a provider that comes before the one it opened with.
fn open_keyring(
    store_id: &str,
    rows: &[KeyRow],
    providers: &Providers,
    salt: &Salt,
    typed: Option<UnlockKey>,
) -> Result<(Keyring, Option<UnlockKey>), OpenError> {
    match typed {
        Some(key) => Ok((Keyring::open(store_id, key, rows)?, None)),
        None if Keyring::is_autolocked(rows) => Err(KeyringError::Locked.into()),
        None => Ok(providers.open(salt, |key| Keyring::open(store_id, key, rows))??),
    }
}

async fn read_salt(connection: &mut SqliteConnection) -> Result<Salt, OpenError> {
    let row = sqlx::query("SELECT salt FROM lock WHERE id = 1").fetch_optional(connection).await?;
    let salt: Option<Vec<u8>> = row.map(|row| row.try_get(0)).transpose()?;
    let salt = salt.and_then(|salt| salt.try_into().ok());
    salt.map(Salt).ok_or_else(|| OpenError::Head("its salt is missing".into()))
}

async fn read_key_rows(connection: &mut SqliteConnection) -> Result<Vec<KeyRow>, OpenError> {
    let mut rows = Vec::new();
    for row in sqlx::query("SELECT id, usage, made_at, sealed FROM keyring ORDER BY id")
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
            made_at: row.try_get::<i64, _>(2)?.cast_unsigned(),
            sealed: row.try_get(3)?,
        });
    }
    Ok(rows)
}

/// Opens every row. The first one that is not as it was written is named and ends the start.
async fn load(
    connection: &mut SqliteConnection,
    keyring: &Keyring,
) -> Result<(View, Rows, Chain), OpenError> {
    let mut loading = Loading::default();
    for_each_row(connection, |loaded| loading.row(keyring, &loaded)).await?;
    loading.check_last()?;
    let missing = || OpenError::Head("its head is missing".into());
    let (version, head) = loading.head.ok_or_else(missing)?;
    let (digest, chain) = codec::split_head(head.expose()).ok_or_else(missing)?;
    if digest != loading.rows.digest() {
        return Err(OpenError::Head(
            "a row is missing, or an older one was put in its place".into(),
        ));
    }
    loading.view.load_version(Version { index: version });
    Ok((loading.view, loading.rows, chain))
}

/// What was read so far.
#[derive(Default)]
struct Loading {
    head: Option<(u64, SecretBytes)>,
    view: View,
    rows: Rows,
    /// The object that was read last, with the key of its payload, which comes next.
    last: Option<(i64, Key, Option<Vec<u8>>)>,
}

impl Loading {
    fn row(&mut self, keyring: &Keyring, loaded: &LoadedRow) -> Result<(), OpenError> {
        if loaded.row % 2 == 0 {
            self.check_last()?;
        }
        if loaded.kind == AUDIT_KIND && loaded.row % 2 == 0 && loaded.row != HEAD_ROW {
            // Its chain is checked when it is asked for, and both ends of it with the head.
            self.rows.note_audit(loaded.version, loaded.row);
            return Ok(());
        }
        match loaded.row {
            HEAD_ROW => self.head(keyring, loaded),
            row if row % 2 == 0 => self.object(keyring, loaded),
            _ => self.payload(keyring, loaded),
        }
    }

    fn head(&mut self, keyring: &Keyring, loaded: &LoadedRow) -> Result<(), OpenError> {
        let digest = open_row(keyring, loaded, codec::head_value(loaded.version))?;
        if loaded.kind != HEAD_KIND {
            return Err(damaged(loaded, "it is the head, and has the kind of an object"));
        }
        self.head = Some((loaded.version, digest));
        Ok(())
    }

    fn object(&mut self, keyring: &Keyring, loaded: &LoadedRow) -> Result<(), OpenError> {
        let key = key_of(loaded)?;
        let plain = open_row(keyring, loaded, codec::object_value(&key, loaded.version))?;
        let object = codec::decode(key.kind(), plain.expose())
            .map_err(|error| damaged(loaded, &error.to_string()))?;
        if object.key() != key || self.rows.place(&key).is_some() {
            return Err(damaged(loaded, "it is there twice, or under another id"));
        }
        let epoch = KeyId(key_id(&loaded.sealed));
        let place = Place { row: loaded.row, version: loaded.version, epoch, payload: None };
        self.rows.set(keyring, key, Some(place));
        self.view.load(&object);
        self.last = Some((loaded.row, key, loaded.data_key.clone()));
        Ok(())
    }

    /// An object with a key for a payload has one.
    fn check_last(&mut self) -> Result<(), OpenError> {
        match self.last.take() {
            Some((row, key, Some(_))) => {
                Err(OpenError::Head(format!("the payload of row {row}, {}, is missing", key.id())))
            }
            _ => Ok(()),
        }
    }

    fn payload(&mut self, keyring: &Keyring, loaded: &LoadedRow) -> Result<(), OpenError> {
        let key = key_of(loaded)?;
        let of = self.last.take().filter(|(row, ..)| Rows::payload_row(*row) == loaded.row);
        let (place, data_key) = match of {
            Some((_, of, data_key)) if of == key => (self.rows.place(&key), data_key),
            Some(_) => return Err(damaged(loaded, "it is the payload of another object")),
            None => (None, None),
        };
        let place = place.ok_or_else(|| damaged(loaded, "its object is missing"))?;
        let data_key = data_key.ok_or_else(|| damaged(loaded, "its key is missing"))?;
        let value = codec::payload_value(&key, loaded.version);
        keyring
            .open_payload(value, &loaded.sealed, &data_key)
            .map_err(|error| damaged(loaded, &error.to_string()))?;
        check_key_id(loaded)?;
        if loaded.version != PAYLOAD_VERSION {
            return Err(damaged(loaded, "it has an impossible version"));
        }
        let payload = Some(Payload { version: PAYLOAD_VERSION, key: data_key.into() });
        self.rows.set(keyring, key, Some(Place { payload, ..place }));
        Ok(())
    }
}

fn key_of(loaded: &LoadedRow) -> Result<Key, OpenError> {
    let kind =
        Kind::from_number(loaded.kind).ok_or_else(|| damaged(loaded, "its kind is not known"))?;
    let malformed = |_| damaged(loaded, "its id is malformed");
    Ok(match kind {
        Kind::Cluster => Key::Cluster(loaded.id.parse().map_err(malformed)?),
        Kind::Node => Key::Node(loaded.id.parse().map_err(malformed)?),
        Kind::Service => Key::Service(loaded.id.parse().map_err(malformed)?),
        Kind::Task => Key::Task(loaded.id.parse().map_err(malformed)?),
        Kind::Secret => Key::Secret(loaded.id.parse().map_err(malformed)?),
        Kind::Config => Key::Config(loaded.id.parse().map_err(malformed)?),
        Kind::Network => Key::Network(loaded.id.parse().map_err(malformed)?),
        Kind::Revision => Key::Revision(loaded.id.parse().map_err(malformed)?),
    })
}

fn open_row(
    keyring: &Keyring,
    loaded: &LoadedRow,
    value: crate::seal::keyring::Value<'_>,
) -> Result<SecretBytes, OpenError> {
    let plain = keyring
        .open_value(value, &loaded.sealed)
        .map_err(|error| damaged(loaded, &error.to_string()))?;
    check_key_id(loaded)?;
    Ok(plain)
}

fn check_key_id(loaded: &LoadedRow) -> Result<(), OpenError> {
    if i64::from(key_id(&loaded.sealed)) != loaded.key_id {
        return Err(damaged(loaded, "it names another key than the one it is sealed with"));
    }
    Ok(())
}

fn damaged(loaded: &LoadedRow, why: &str) -> OpenError {
    let kind = match Kind::from_number(loaded.kind) {
        Some(kind) => kind.word().to_owned(),
        None if loaded.row == HEAD_ROW => "head of".to_owned(),
        None => format!("kind {}", loaded.kind),
    };
    let (row, id) = (loaded.row, loaded.id.clone());
    OpenError::Damaged { table: "objects", row, kind, id, why: why.to_owned() }
}
