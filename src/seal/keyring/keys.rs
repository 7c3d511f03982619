//! The keys themselves, and what a rotation makes of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::{KeyId, KeyInfo, KeyRow, KeyUse, KeyringError};
use crate::domain::id::{Entropy, Stream};
use crate::seal::cipher::{CipherKey, KEY_LEN};
use crate::seal::envelope::{Purpose, SealingKey, Subject};
use crate::seal::unlock::UnlockKey;

/// One key of the ring. Its root is kept so that it can be sealed under another key.
pub(super) struct RingKey {
    pub id: KeyId,
    made_at: u64,
    pub root: CipherKey,
    pub sealing: SealingKey,
}

impl RingKey {
    fn new(id: KeyId, made_at: u64, root: [u8; KEY_LEN]) -> RingKey {
        let root = CipherKey::new(root);
        let sealing = SealingKey::new(id, &root);
        RingKey { id, made_at, root, sealing }
    }

    pub(super) fn make(id: KeyId, now: u64, entropy: &dyn Entropy) -> RingKey {
        let mut root = Zeroizing::new([0; KEY_LEN]);
        entropy.fill(Stream::Key, &mut *root);
        RingKey::new(id, now, *root)
    }

    pub(super) fn open(
        store: &str,
        row: &KeyRow,
        by: &SealingKey,
    ) -> Result<RingKey, KeyringError> {
        let text = row.id.to_string();
        let root = by
            .open(&subject(store, row.usage, &text, row.made_at), &row.sealed)
            .map_err(|source| KeyringError::Key { id: row.id, source })?;
        let root = root.expose().try_into().map_err(|_| KeyringError::Malformed(row.id))?;
        Ok(RingKey::new(row.id, row.made_at, root))
    }

    pub(super) fn row(
        &self,
        store: &str,
        usage: KeyUse,
        by: &SealingKey,
        entropy: &dyn Entropy,
    ) -> KeyRow {
        let RingKey { id, made_at, .. } = *self;
        let text = id.to_string();
        let subject = subject(store, usage as u8, &text, made_at);
        let sealed = by.seal(&subject, self.root.expose(), entropy);
        KeyRow { id, usage: usage as u8, made_at, sealed }
    }
}

/// A key is sealed for its use, its id and the moment it was made.
fn subject<'a>(store: &'a str, usage: u8, id: &'a str, made_at: u64) -> Subject<'a> {
    Subject { purpose: Purpose::Key, store, kind: usage, id, version: made_at }
}

/// The lock key that lies in the row of an offered one; `None` when this is not the offered one.
pub(super) fn open_offered(store: &str, row: &KeyRow, offered: &UnlockKey) -> Option<UnlockKey> {
    let text = row.id.to_string();
    let subject = subject(store, row.usage, &text, row.made_at);
    let root = offered.sealing().open(&subject, &row.sealed).ok()?;
    root.expose().try_into().ok().map(UnlockKey::autolock)
}

/// What a rotation changes. There is at least one key of each use.
pub(super) struct Keys {
    pub lock: Arc<UnlockKey>,
    pub ring: BTreeMap<KeyId, Arc<RingKey>>,
    pub epochs: BTreeMap<KeyId, Arc<RingKey>>,
    pub audits: BTreeMap<KeyId, Arc<RingKey>>,
    pub fingerprint: Arc<RingKey>,
}

impl Keys {
    /// The key that seals data keys and epoch keys.
    pub(super) fn ring_key(&self) -> &Arc<RingKey> {
        newest(&self.ring)
    }

    /// The key that seals objects.
    pub(super) fn epoch(&self) -> &Arc<RingKey> {
        newest(&self.epochs)
    }

    /// The key that seals records.
    pub(super) fn audit(&self) -> &Arc<RingKey> {
        newest(&self.audits)
    }

    pub(super) fn list(&self) -> Vec<KeyInfo> {
        let of = |usage, key: &RingKey, active: KeyId| KeyInfo {
            id: key.id,
            usage,
            made_at: key.made_at,
            is_active: key.id == active,
        };
        let ring = self.ring.values().map(|key| of(KeyUse::Ring, key, self.ring_key().id));
        let epochs = self.epochs.values().map(|key| of(KeyUse::Epoch, key, self.epoch().id));
        let audits = self.audits.values().map(|key| of(KeyUse::Audit, key, self.audit().id));
        let fingerprint = of(KeyUse::Fingerprint, &self.fingerprint, self.fingerprint.id);
        let mut list: Vec<KeyInfo> =
            ring.chain(epochs).chain(audits).chain([fingerprint]).collect();
        list.sort_by_key(|key| key.id);
        list
    }

    /// With a new key of each use but one. All epoch and audit keys are sealed under the new ring key.
    /// Their ids come after `last`, which no key may have had.
    pub(super) fn rotated(
        &self,
        store: &str,
        last: u32,
        now: u64,
        entropy: &dyn Entropy,
    ) -> (Keys, Vec<KeyRow>) {
        let [ring_key, epoch, audit] =
            [1, 2, 3].map(|step| Arc::new(RingKey::make(KeyId(last + step), now, entropy)));
        let mut keys = self.copy();
        keys.epochs.insert(epoch.id, epoch);
        keys.audits.insert(audit.id, audit);
        let epochs = keys.epochs.values().map(|key| (KeyUse::Epoch, key));
        let inner = epochs.chain(keys.audits.values().map(|key| (KeyUse::Audit, key)));
        let mut rows: Vec<KeyRow> =
            inner.map(|(usage, key)| key.row(store, usage, &ring_key.sealing, entropy)).collect();
        rows.push(ring_key.row(store, KeyUse::Ring, self.lock.sealing(), entropy));
        keys.ring.insert(ring_key.id, ring_key);
        (keys, rows)
    }

    pub(super) fn without_old(&self) -> (Keys, Vec<KeyId>) {
        let mut keys = self.copy();
        let (ring_key, epoch) = (self.ring_key().id, self.epoch().id);
        keys.ring.retain(|id, _| *id == ring_key);
        keys.epochs.retain(|id, _| *id == epoch);
        let all = self.ring.keys().chain(self.epochs.keys());
        let removes = all.filter(|id| ![ring_key, epoch].contains(id)).copied().collect();
        (keys, removes)
    }

    pub(super) fn relocked(
        &self,
        store: &str,
        lock: UnlockKey,
        entropy: &dyn Entropy,
    ) -> (Keys, Vec<KeyRow>) {
        let ring = self.ring.values().map(|key| (KeyUse::Ring, key));
        let locked = ring.chain([(KeyUse::Fingerprint, &self.fingerprint)]);
        let rows = locked.map(|(usage, key)| key.row(store, usage, lock.sealing(), entropy));
        let rows = rows.collect();
        (Keys { lock: Arc::new(lock), ..self.copy() }, rows)
    }

    /// The row by which another lock key opens what this one does.
    pub(super) fn offered(
        &self,
        store: &str,
        lock: &UnlockKey,
        now: u64,
        entropy: &dyn Entropy,
    ) -> KeyRow {
        let (id, usage) = (KeyId::OFFERED, KeyUse::Offered as u8);
        let text = id.to_string();
        let subject = subject(store, usage, &text, now);
        let sealed = lock.sealing().seal(&subject, self.lock.root().expose(), entropy);
        KeyRow { id, usage, made_at: now, sealed }
    }

    /// The highest id.
    pub(super) fn last(&self) -> u32 {
        self.list().last().map_or(0, |key| key.id.0)
    }

    pub(super) fn copy(&self) -> Keys {
        Keys {
            lock: self.lock.clone(),
            ring: self.ring.clone(),
            epochs: self.epochs.clone(),
            audits: self.audits.clone(),
            fingerprint: self.fingerprint.clone(),
        }
    }
}

fn newest(keys: &BTreeMap<KeyId, Arc<RingKey>>) -> &Arc<RingKey> {
    keys.values().next_back().expect("there is one of each use")
}
