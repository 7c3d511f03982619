//! The keyring: a hierarchy of keys, by id.
//!
//! ```text
//!   lock key ──seals──▶ ring keys ──seal──▶ epoch keys ──seal──▶ objects, the head
//!       │                   ├──────seal──▶ audit keys ──seal──▶ records of the audit
//!       │                   └──────seal──▶ data keys ──seal──▶ payloads, one key each
//!       └──seals──▶ fingerprint key
//! ```
//!
//! The lock key comes from outside ([`super::unlock`]). A rotation makes a key of each use and seals
//! what was sealed with the ones before anew: data keys and objects, but no payload and no record. Who
//! has an old ring key and a copy from before can still read that copy; nothing written later. With
//! its data key a payload is gone for good, whatever copies there are of the row it was in.
//!
//! Keys never leave this room. The store keeps the ring's rows ([`KeyRow`]) and hands them back at
//! the next start.

mod keys;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, RwLock};

use zeroize::Zeroizing;

use self::keys::{Keys, RingKey};
use super::cipher::{CipherKey, KEY_LEN, MacKey, NONCE_LEN};
use super::envelope::{self, Nonces, OpenError, Purpose, SealingKey, Subject};
use super::secret::SecretBytes;
use super::unlock::UnlockKey;
use crate::domain::change::SealedData;
use crate::domain::id::{Entropy, Stream};
use crate::domain::secret::Fingerprint;

/// Names a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u32);

impl KeyId {
    /// A lock key that the operator provides.
    pub const LOCK: KeyId = KeyId(0);
    /// A lock key that only users know: the manager is locked until one of them gives it.
    pub const AUTOLOCK: KeyId = KeyId(u32::MAX);
    /// The data key of a payload, which lies beside it.
    pub const DATA: KeyId = KeyId(u32::MAX - 1);
    /// The row by which an offered lock key opens the ring as well.
    pub const OFFERED: KeyId = KeyId(u32::MAX - 2);
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a key of the ring is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUse {
    /// Seals epoch keys and data keys.
    Ring = 1,
    /// Makes fingerprints of payloads. There is one, and it is never replaced, so that fingerprints
    /// stay comparable.
    Fingerprint = 2,
    /// Seals objects.
    Epoch = 3,
    /// Seals records of the audit. Old ones are kept, as are the records.
    Audit = 4,
    /// No key of the ring: the lock key, sealed under one that is on its way to a user and takes its
    /// place once it was sent. Until then either opens the ring.
    Offered = 5,
}

impl KeyUse {
    fn from_number(number: u8) -> Option<KeyUse> {
        let known =
            [KeyUse::Ring, KeyUse::Fingerprint, KeyUse::Epoch, KeyUse::Audit, KeyUse::Offered];
        known.into_iter().find(|usage| *usage as u8 == number)
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            KeyUse::Ring => "ring",
            KeyUse::Fingerprint => "fingerprint",
            KeyUse::Epoch => "epoch",
            KeyUse::Audit => "audit",
            KeyUse::Offered => "offered",
        }
    }
}

/// A key of the ring as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// Its id.
    pub id: KeyId,
    /// Number of its use.
    pub usage: u8,
    /// When it was made, in seconds since 1970.
    pub made_at: u64,
    /// The key, sealed.
    pub sealed: Vec<u8>,
}

/// What may be told of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its id.
    pub id: KeyId,
    /// What it is for.
    pub usage: KeyUse,
    /// When it was made, in seconds since 1970.
    pub made_at: u64,
    /// True for the one that seals now; the others of its use only open.
    pub is_active: bool,
}

/// The keys of one store.
pub struct Keyring {
    store: String,
    fingerprint: MacKey,
    mark: MacKey,
    /// Everything that a rotation changes.
    keys: RwLock<Arc<Keys>>,
    /// The highest id that a key was given, also one that was taken back: something may have been
    /// sealed with it meanwhile, and would be taken for sealed with the next key of that id.
    last: AtomicU32,
}

/// A ring cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The lock key is one that a user has to give.
    #[error("the swarm is locked")]
    Locked,
    /// A key cannot be opened.
    #[error("key {id} of the keyring cannot be opened with this unlock key")]
    Key {
        /// Which.
        id: KeyId,
        /// Why.
        #[source]
        source: OpenError,
    },
    /// A key has a use that is not known, or the wrong length.
    #[error("key {0} of the keyring is malformed")]
    Malformed(KeyId),
    /// There is no key for a use.
    #[error("the keyring has no key of use {}", .0.word())]
    Missing(KeyUse),
}

/// A change of the ring: the rows that make it durable, and the way back if they are not.
pub struct KeyChange {
    /// Rows to make or replace.
    pub puts: Vec<KeyRow>,
    /// Rows to remove.
    pub removes: Vec<KeyId>,
    before: Arc<Keys>,
}

impl Keyring {
    /// Makes the keys of a new store, and the rows that hold them.
    pub fn make(
        store: &str,
        lock: UnlockKey,
        now: u64,
        entropy: &dyn Entropy,
    ) -> (Keyring, Vec<KeyRow>) {
        let make = |id, usage| (usage, RingKey::make(id, now, entropy));
        let ring = make(KeyId(1), KeyUse::Ring);
        let fingerprint = make(KeyId(2), KeyUse::Fingerprint);
        let epoch = make(KeyId(3), KeyUse::Epoch);
        let audit = make(KeyId(4), KeyUse::Audit);
        let rows = [
            (&ring, lock.sealing()),
            (&fingerprint, lock.sealing()),
            (&epoch, &ring.1.sealing),
            (&audit, &ring.1.sealing),
        ]
        .map(|((usage, key), sealing)| key.row(store, *usage, sealing, entropy));
        let keyring = Keyring::open(store, lock, &rows);
        (keyring.expect("keys that were just sealed open"), rows.into())
    }

    /// True when rows are sealed under a key that only users know.
    pub fn is_autolocked(rows: &[KeyRow]) -> bool {
        let mut locked = rows.iter().filter(|row| row.usage == KeyUse::Ring as u8);
        locked.any(|row| envelope::key_id(&row.sealed) == Ok(KeyId::AUTOLOCK))
    }

    /// Opens the keys of a store.
    ///
    /// # Errors
    /// The lock key is not the one they are sealed under, or a row was changed.
    pub fn open(store: &str, lock: UnlockKey, rows: &[KeyRow]) -> Result<Keyring, KeyringError> {
        let of_use = |usage: KeyUse| rows.iter().filter(move |row| row.usage == usage as u8);
        if let Some(row) = rows.iter().find(|row| KeyUse::from_number(row.usage).is_none()) {
            return Err(KeyringError::Malformed(row.id));
        }
        if Keyring::is_autolocked(rows) && lock.id() != KeyId::AUTOLOCK {
            return Err(KeyringError::Locked);
        }
        let lock = of_use(KeyUse::Offered)
            .find_map(|row| keys::open_offered(store, row, &lock))
            .unwrap_or(lock);
        let mut ring = BTreeMap::new();
        for row in of_use(KeyUse::Ring) {
            ring.insert(row.id, Arc::new(RingKey::open(store, row, lock.sealing())?));
        }
        let fingerprint = of_use(KeyUse::Fingerprint).next();
        let fingerprint = fingerprint.ok_or(KeyringError::Missing(KeyUse::Fingerprint))?;
        let fingerprint = RingKey::open(store, fingerprint, lock.sealing())?;
        let open_inner = |usage: KeyUse| {
            let mut keys = BTreeMap::new();
            for row in of_use(usage) {
                let unknown = |source| KeyringError::Key { id: row.id, source };
                let by = envelope::key_id(&row.sealed).map_err(unknown)?;
                let by: &Arc<RingKey> =
                    ring.get(&by).ok_or_else(|| unknown(OpenError::UnknownKey(by)))?;
                keys.insert(row.id, Arc::new(RingKey::open(store, row, &by.sealing)?));
            }
            if keys.is_empty() { Err(KeyringError::Missing(usage)) } else { Ok(keys) }
        };
        if ring.is_empty() {
            return Err(KeyringError::Missing(KeyUse::Ring));
        }
        let (epochs, audits) = (open_inner(KeyUse::Epoch)?, open_inner(KeyUse::Audit)?);
        let keys =
            Keys { lock: Arc::new(lock), ring, epochs, audits, fingerprint: Arc::new(fingerprint) };
        let [mark, fingerprint] =
            keys.fingerprint.root.derive([b"purser row mark 1", b"purser fingerprint 1"]);
        Ok(Keyring {
            store: store.to_owned(),
            mark: mark.for_macs(),
            fingerprint: fingerprint.for_macs(),
            last: AtomicU32::new(keys.last()),
            keys: RwLock::new(Arc::new(keys)),
        })
    }

    fn keys(&self) -> Arc<Keys> {
        self.keys.read().expect("no writer of the keys panics").clone()
    }

    fn install(&self, keys: Keys, puts: Vec<KeyRow>, removes: Vec<KeyId>) -> KeyChange {
        let mut installed = self.keys.write().expect("no writer of the keys panics");
        let before = std::mem::replace(&mut *installed, Arc::new(keys));
        KeyChange { puts, removes, before }
    }

    /// Seals a value with the newest epoch key.
    pub fn seal(&self, value: Value<'_>, plain: &[u8], nonces: &mut Nonces) -> Vec<u8> {
        self.keys().epoch().sealing.seal_with(nonces.next(), &self.subject(value), plain)
    }

    /// Opens a value with the epoch key it names.
    ///
    /// # Errors
    /// It was changed, belongs to something else, or its key is not in the ring.
    pub fn open_value(&self, value: Value<'_>, sealed: &[u8]) -> Result<SecretBytes, OpenError> {
        let id = envelope::key_id(sealed)?;
        let keys = self.keys();
        let key = keys.epochs.get(&id).ok_or(OpenError::UnknownKey(id))?;
        key.sealing.open(&self.subject(value), sealed)
    }

    /// Seals records of the audit, the first of which has this number, with the newest audit key.
    pub fn seal_audit(&self, first: u64, plain: &[u8], nonces: &mut Nonces) -> Vec<u8> {
        let subject = self.subject(audit_value(first));
        self.keys().audit().sealing.seal_with(nonces.next(), &subject, plain)
    }

    /// Opens records of the audit.
    ///
    /// # Errors
    /// As [`Keyring::open_value`].
    pub fn open_audit(&self, first: u64, sealed: &[u8]) -> Result<SecretBytes, OpenError> {
        let id = envelope::key_id(sealed)?;
        let keys = self.keys();
        let key = keys.audits.get(&id).ok_or(OpenError::UnknownKey(id))?;
        key.sealing.open(&self.subject(audit_value(first)), sealed)
    }

    /// Seals a payload with a key of its own, and that key with the newest ring key.
    pub fn seal_payload(
        &self,
        value: Value<'_>,
        plain: &[u8],
        entropy: &dyn Entropy,
    ) -> SealedData {
        // All that is random is drawn at once: a trip to the kernel costs more than what it brings.
        let mut drawn = Zeroizing::new([0; KEY_LEN + 2 * NONCE_LEN]);
        entropy.fill(Stream::Key, &mut *drawn);
        let (root, nonces) = drawn.split_first_chunk::<KEY_LEN>().expect("a key and more");
        let (nonces, _) = nonces.as_chunks::<NONCE_LEN>();
        let (payload_nonce, key_nonce) = (nonces[0], nonces[1]);
        let bytes = data_key(*root).seal_with(payload_nonce, &self.subject(value), plain);
        let subject = self.subject(Value { purpose: Purpose::DataKey, ..value });
        let key = self.keys().ring_key().sealing.seal_with(key_nonce, &subject, root);
        SealedData { bytes, key }
    }

    /// Opens a payload with its own key.
    ///
    /// # Errors
    /// As [`Keyring::open_value`], of either of the two.
    pub fn open_payload(
        &self,
        value: Value<'_>,
        sealed: &[u8],
        key: &[u8],
    ) -> Result<SecretBytes, OpenError> {
        let root = self.open_data_key(value, key)?;
        data_key(*root).open(&self.subject(value), sealed)
    }

    fn open_data_key(
        &self,
        value: Value<'_>,
        key: &[u8],
    ) -> Result<Zeroizing<[u8; KEY_LEN]>, OpenError> {
        let id = envelope::key_id(key)?;
        let keys = self.keys();
        let ring_key = keys.ring.get(&id).ok_or(OpenError::UnknownKey(id))?;
        let subject = self.subject(Value { purpose: Purpose::DataKey, ..value });
        let root = ring_key.sealing.open(&subject, key)?;
        root.expose().try_into().map(Zeroizing::new).map_err(|_| OpenError::Format)
    }

    /// Seals the key of a payload with the newest ring key; the payload stays as it is.
    ///
    /// # Errors
    /// As [`Keyring::open_value`].
    pub fn rewrap(
        &self,
        value: Value<'_>,
        key: &[u8],
        entropy: &dyn Entropy,
    ) -> Result<Vec<u8>, OpenError> {
        let root = self.open_data_key(value, key)?;
        let subject = self.subject(Value { purpose: Purpose::DataKey, ..value });
        Ok(self.keys().ring_key().sealing.seal(&subject, &*root, entropy))
    }

    /// The key that a sealed value names, for its row.
    ///
    /// # Errors
    /// It is no envelope.
    pub fn key_of(sealed: &[u8]) -> Result<KeyId, OpenError> {
        envelope::key_id(sealed)
    }

    /// True for what the newest keys of the ring have not sealed: an object, or the key of a payload.
    pub fn is_old(&self, id: KeyId) -> bool {
        let keys = self.keys();
        id != keys.epoch().id && id != keys.ring_key().id
    }

    /// What may be told of the keys, by their ids.
    pub fn list(&self) -> Vec<KeyInfo> {
        self.keys().list()
    }

    /// True while keys from before a rotation are there.
    pub fn is_rotating(&self) -> bool {
        let keys = self.keys();
        keys.ring.len() > 1 || keys.epochs.len() > 1
    }

    /// Makes a ring key and an epoch key, which seal from now on.
    pub fn rotate(&self, now: u64, entropy: &dyn Entropy) -> KeyChange {
        let before = self.keys();
        let last = self.last.load(Ordering::Relaxed).max(before.last());
        let (keys, puts) = before.rotated(&self.store, last, now, entropy);
        self.last.store(keys.last(), Ordering::Relaxed);
        self.install(keys, puts, Vec::new())
    }

    /// Drops all keys but the newest. Nothing may be sealed with them any more.
    pub fn drop_old(&self) -> KeyChange {
        let (keys, removes) = self.keys().without_old();
        self.install(keys, Vec::new(), removes)
    }

    /// Seals the ring under another lock key.
    pub fn relock(&self, lock: UnlockKey, entropy: &dyn Entropy) -> KeyChange {
        let (keys, puts) = self.keys().relocked(&self.store, lock, entropy);
        self.install(keys, puts, vec![KeyId::OFFERED])
    }

    /// Has another lock key open the ring beside the one that it has, until the next
    /// [`Keyring::relock`].
    pub fn offer(&self, lock: &UnlockKey, now: u64, entropy: &dyn Entropy) -> KeyChange {
        let keys = self.keys();
        let row = keys.offered(&self.store, lock, now, entropy);
        self.install(keys.copy(), vec![row], Vec::new())
    }

    /// The rows of the ring as they are under another lock key, for a copy of the store.
    pub fn rows_under(&self, lock: UnlockKey, entropy: &dyn Entropy) -> Vec<KeyRow> {
        self.keys().relocked(&self.store, lock, entropy).1
    }

    /// Names the store.
    pub fn store(&self) -> &str {
        &self.store
    }

    /// Takes a change back that did not become durable.
    pub fn undo(&self, change: KeyChange) {
        *self.keys.write().expect("no writer of the keys panics") = change.before;
    }

    /// The lock key, if it is one that users have to give: for them to note down.
    pub fn autolock_key(&self) -> Option<Arc<UnlockKey>> {
        Some(self.keys().lock.clone()).filter(|lock| lock.id() == KeyId::AUTOLOCK)
    }

    /// The keyed hash of a payload.
    pub fn fingerprint(&self, payload: &SecretBytes) -> Fingerprint {
        Fingerprint(self.fingerprint.mac(payload.expose()))
    }

    /// A keyed hash that marks a row as one of this store.
    pub fn mark(&self, row: &[u8]) -> [u8; 32] {
        self.mark.mac(row)
    }

    fn subject<'a>(&'a self, value: Value<'a>) -> Subject<'a> {
        Subject {
            purpose: value.purpose,
            store: &self.store,
            kind: value.kind,
            id: value.id,
            version: value.version,
        }
    }
}

fn audit_value(first: u64) -> Value<'static> {
    Value { purpose: Purpose::Audit, kind: 0, id: "", version: first }
}

fn data_key(root: [u8; KEY_LEN]) -> SealingKey {
    SealingKey::new(KeyId::DATA, &CipherKey::new(root))
}

/// A value of this store to be sealed or opened; the store's own id is added by the ring.
#[derive(Debug, Clone, Copy)]
pub struct Value<'a> {
    /// What kind of value.
    pub purpose: Purpose,
    /// Number of the object's kind.
    pub kind: u8,
    /// Id of the object.
    pub id: &'a str,
    /// Version of the value.
    pub version: u64,
}
