//! The store: the cluster in memory, and its durable copy in SQLite, sealed.
//!
//! ```text
//!   write(decide) ──▶ queue ──▶ writer ──▶ log (SQLite, one fsync a batch) ──▶ view, commits
//!   view() ◀───────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Reads take the current [`View`] and never wait. All writes go through one writer task. It runs
//! each decision on the view that the one before it left and seals what that changes, while the
//! batch before is being written; then it makes the whole batch durable with a single commit, and
//! only then publishes the view, announces the [`Commit`] and answers. Nothing is answered before
//! all that it stands on is durable.
//!
//! | what | where |
//! |---|---|
//! | objects | memory (the view) and, sealed, a row each |
//! | payloads of secrets and configs, the root's signing key | sealed rows only; read one by one when needed |
//! | records of the audit | sealed rows only, those of a batch in one |
//! | which row an object lies in | memory only, found again at every start |
//! | keys of payloads | sealed in the row of their object, and so in memory |
//! | other keys | sealed under the lock key or each other; open in the seal's memory while the process runs |
//!
//! Every row is opened at the start, and a keyed digest over all rows is compared: a row that was
//! changed, swapped, rolled back, added or removed is named, and stops the start.
//!
//! Left to others: what a write contains (`plan`), and who may ask for it (`manager`). Replication
//! will stand behind [`log::Log`].

pub mod audit;
mod backup;
mod codec;
mod draft;
pub mod log;
mod open;
mod rows;
mod sqlite;
mod write;

use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use tokio::sync::{broadcast, mpsc, watch};

pub use backup::{SCRATCH_PREFIX, Snapshot, SnapshotError, remove_scratch};
pub use open::{Config, FILE, LOG_FILES, OpenError, Unlock, forget, lock, open};
pub use write::{Applied, Decision, LockChange, Told, WriteError};

use crate::domain::actor::Actor;
use crate::domain::audit::Note;
use crate::domain::change::{Change, Changed, Key, SealedData};
use crate::domain::id::{Entropy, Stream};
use crate::domain::meta::Stamp;
use crate::domain::refusal::Refusal;
use crate::domain::revision::Owner;
use crate::domain::view::View;
use crate::seal::keyring::{KeyInfo, KeyUse, Keyring};
use crate::seal::secret::SecretBytes;
use crate::seal::unlock::{Providers, Salt, UnlockError, UnlockKey};

/// Commits that a slow subscriber may be behind before it has to look at everything anew.
const COMMITS_BEHIND_MAX: usize = 256;

/// A handle to the store; clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    view: RwLock<View>,
    rows: Arc<RwLock<rows::Rows>>,
    keyring: Arc<Keyring>,
    queue: mpsc::Sender<write::Proposal>,
    commits: broadcast::Sender<Arc<Commit>>,
    database: sqlite::Database,
    /// Why the last batch could not be written; nothing while batches can.
    failure: std::sync::Mutex<Option<String>>,
    /// Held while keys are changed, which takes several writes.
    rotation: tokio::sync::Mutex<()>,
    /// Both ends of the audit, as of the last commit.
    audit: watch::Sender<audit::Chain>,
    /// Where a lock key comes from when users do not keep it.
    providers: Arc<Providers>,
    salt: Salt,
}

/// What one batch of writes changed. The view is that after the batch.
#[derive(Debug)]
pub struct Commit {
    /// The changes, in the order of their versions.
    pub changes: Vec<Changed>,
    /// The cluster after them.
    pub view: View,
}

/// A payload cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// The database fails.
    #[error("reading a payload")]
    Read(#[source] log::LogError),
    /// The row is not there any more.
    #[error("the payload of {kind} {id} is missing")]
    Missing {
        /// Kind of its object.
        kind: &'static str,
        /// Id of its object.
        id: String,
    },
    /// The row was changed since the start.
    #[error("the payload of {kind} {id} cannot be opened")]
    Damaged {
        /// Kind of its object.
        kind: &'static str,
        /// Id of its object.
        id: String,
        /// Why.
        #[source]
        source: crate::seal::envelope::OpenError,
    },
}

impl Store {
    /// What stands for a store that users have locked: nothing can be seen in it or written to it.
    pub fn locked(entropy: &dyn Entropy) -> Store {
        // Keys that seal nothing: there is no store for them.
        let mut nothing = [0; 32];
        entropy.fill(Stream::Key, &mut nothing);
        let (keyring, _) = Keyring::make("", UnlockKey::from_bytes(nothing), 0, entropy);
        let inner = Inner {
            view: RwLock::new(View::locked()),
            rows: Arc::default(),
            keyring: Arc::new(keyring),
            queue: mpsc::channel(1).0,
            commits: broadcast::Sender::new(1),
            database: sqlite::Database::closed(),
            failure: std::sync::Mutex::default(),
            rotation: tokio::sync::Mutex::new(()),
            audit: watch::Sender::default(),
            providers: Arc::new(Providers::new(Vec::new(), PathBuf::new())),
            salt: Salt([0; 16]),
        };
        Store { inner: Arc::new(inner) }
    }

    /// The cluster as of the last commit.
    pub fn view(&self) -> View {
        self.inner.view.read().expect("no writer of the view panics").clone()
    }

    /// The cluster as of the last commit, and every commit after it: nothing is missed and nothing
    /// seen twice.
    pub fn subscribe(&self) -> (View, broadcast::Receiver<Arc<Commit>>) {
        // The writer publishes and announces under the write lock, so both are of one moment here.
        let view = self.inner.view.read().expect("no writer of the view panics");
        (view.clone(), self.inner.commits.subscribe())
    }

    /// Has a decision made on the newest view and its changes written. Answers once they are
    /// durable.
    ///
    /// # Errors
    /// The decision refuses, or the store fails.
    pub async fn write<F>(&self, decide: F) -> Result<Applied, WriteError>
    where
        F: FnOnce(&View, Stamp) -> Result<Vec<Change>, Refusal> + Send + 'static,
    {
        write::submit(&self.inner.queue, Box::new(decide)).await
    }

    /// The same for a request that the audit tells of, however it comes out.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub async fn write_noted<F>(&self, decide: F, note: Note) -> Result<Applied, WriteError>
    where
        F: FnOnce(&View, Stamp) -> Result<Vec<Change>, Refusal> + Send + 'static,
    {
        write::submit_noted(&self.inner.queue, Box::new(decide), note, None).await
    }

    /// True while writes are taken.
    pub fn is_writing(&self) -> bool {
        !self.inner.queue.is_closed()
    }

    /// Why the last batch of writes failed, as on a full disk; `None` while they are written.
    pub fn failure(&self) -> Option<String> {
        self.inner.failure.lock().expect("nobody panics with it").clone()
    }

    /// Reads and opens the payload of an object. `None` when it has none.
    ///
    /// # Errors
    /// The database fails, or the row was changed.
    pub async fn payload(&self, key: Key) -> Result<Option<SecretBytes>, PayloadError> {
        let place = self.place(&key);
        // A removal that is decided and not durable has taken the place already; the row may come
        // back, so it is looked for. That takes longer, and is rare.
        let row = place.as_ref().map(|place| place.row);
        let row = self.inner.database.payload(key, row).await.map_err(PayloadError::Read)?;
        let Some(sqlite::PayloadRow { version: row_version, sealed, data_key }) = row else {
            let is_lost = place.as_ref().is_some_and(|place| place.payload.is_some());
            // A removal in between is no loss.
            if is_lost && self.place(&key) == place {
                let (kind, id) = (key.kind().word(), key.id().to_owned());
                return Err(PayloadError::Missing { kind, id });
            }
            return Ok(None);
        };
        let value = codec::payload_value(&key, row_version);
        match self.inner.keyring.open_payload(value, &sealed, &data_key) {
            Ok(plain) => Ok(Some(plain)),
            Err(source) => {
                let (kind, id) = (key.kind().word(), key.id().to_owned());
                Err(PayloadError::Damaged { kind, id, source })
            }
        }
    }

    fn place(&self, key: &Key) -> Option<rows::Place> {
        self.inner.rows.read().expect("no writer of the rows panics").place(key)
    }

    /// Reads and opens the data of a config, which whoever may ask for the config may read.
    ///
    /// # Errors
    /// As [`Store::payload`].
    pub async fn config_data(
        &self,
        config: &crate::domain::config::Config,
    ) -> Result<Option<Vec<u8>>, PayloadError> {
        let revisions = &config.revisions;
        let place = revisions.place(Owner::Config(config.id), revisions.current);
        let Some(place) = place else { return Ok(None) };
        // A door: what is no secret leaves the wiped type.
        Ok(self.payload(place).await?.map(SecretBytes::expose_into_vec))
    }

    /// Seals a payload on its way in, for the write that will carry it.
    pub fn seal_payload(&self, key: &Key, data: &SecretBytes, entropy: &dyn Entropy) -> SealedData {
        // A door: plain bytes into the cipher.
        let value = codec::payload_value(key, draft::PAYLOAD_VERSION);
        self.inner.keyring.seal_payload(value, data.expose(), entropy)
    }

    /// Changes the keys of the ring, in a write of its own. Answers how many objects were sealed
    /// anew.
    async fn change_keys(&self, change: write::KeyWork) -> Result<usize, WriteError> {
        write::submit_keys(&self.inner.queue, change, None).await
    }

    /// What may be told of the keys, and how many objects need each.
    pub fn keys(&self) -> Vec<(KeyInfo, usize)> {
        let counts = self.inner.rows.read().expect("no writer of the rows panics").by_key();
        let keys = self.inner.keyring.list().into_iter();
        keys.map(|key| (key, counts.get(&key.id).copied().unwrap_or(0))).collect()
    }

    /// Rotates the keys if the newest are older than this many seconds.
    ///
    /// # Errors
    /// As [`Store::rotate_keys`].
    pub async fn rotate_if_older(&self, seconds: u64, now: u64) -> Result<bool, WriteError> {
        let keys = self.inner.keyring.list();
        let newest = keys.iter().filter(|key| key.usage == KeyUse::Ring && key.is_active);
        let is_due = newest.map(|key| key.made_at).all(|made_at| made_at + seconds <= now);
        if is_due {
            let note = Note::new(Actor::Manager, "keys rotate").with("by age");
            self.rotate_keys(note).await?;
        }
        Ok(is_due)
    }

    /// Makes new keys and seals with them what the old ones sealed, a few objects in a write, until
    /// the old ones can be dropped. Whatever step a crash comes after, [`Store::finish_rotation`] goes
    /// on from there.
    ///
    /// # Errors
    /// The store fails; what was done stays.
    pub async fn rotate_keys(&self, note: Note) -> Result<(), WriteError> {
        // Two rotations at once would be one with two sets of keys.
        let _alone = self.inner.rotation.lock().await;
        if !self.inner.keyring.is_rotating() {
            write::submit_keys(&self.inner.queue, write::KeyWork::Rotate, Some(note)).await?;
        }
        self.reseal_all().await
    }

    /// Goes on with a rotation that was begun before the last stop.
    ///
    /// # Errors
    /// As [`Store::rotate_keys`].
    pub async fn finish_rotation(&self) -> Result<(), WriteError> {
        let _alone = self.inner.rotation.lock().await;
        if self.inner.keyring.is_rotating() { self.reseal_all().await } else { Ok(()) }
    }

    async fn reseal_all(&self) -> Result<(), WriteError> {
        while self.change_keys(write::KeyWork::Reseal).await? > 0 {}
        self.change_keys(write::KeyWork::DropOld).await.map(|_| ())
    }

    /// Seals the ring under another lock key, which the next start needs.
    ///
    /// # Errors
    /// The store fails.
    pub async fn relock(&self, lock: UnlockKey) -> Result<(), WriteError> {
        let _alone = self.inner.rotation.lock().await;
        self.change_keys(write::KeyWork::Lock(LockChange::Replace(lock))).await.map(|_| ())
    }

    /// As [`Store::write_noted`]; if the decision changes anything, what opens the ring is changed in the
    /// same write.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub async fn write_and_lock<F>(
        &self,
        decide: F,
        note: Note,
        lock: LockChange,
    ) -> Result<Applied, WriteError>
    where
        F: FnOnce(&View, Stamp) -> Result<Vec<Change>, Refusal> + Send + 'static,
    {
        let _alone = self.inner.rotation.lock().await;
        write::submit_noted(&self.inner.queue, Box::new(decide), note, Some(lock)).await
    }

    /// The key of the first provider that has one. May take as long as a provider does.
    ///
    /// # Errors
    /// None has one, or one fails.
    pub fn provided_key(&self) -> Result<UnlockKey, UnlockError> {
        self.inner.providers.first(&self.inner.salt)
    }

    /// Names the store.
    pub fn id(&self) -> &str {
        self.inner.keyring.store()
    }

    /// The keys, for fingerprints.
    pub fn keyring(&self) -> &Arc<Keyring> {
        &self.inner.keyring
    }
}
