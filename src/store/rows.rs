//! Which row every object lies in, and the digest over all rows.
//!
//! The digest is the exclusive-or of a keyed hash of each row's kind, id, version and place. Only
//! the keyring can make these hashes, so no set of rows but the one last written has the digest
//! that the sealed head holds: a row removed, or put back as it was, is noticed.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::change::Key;
use crate::seal::keyring::{KeyId, Keyring};

/// One in so many rows of the audit is noted.
pub(super) const AUDIT_STEP: usize = 64;

/// Bytes of a digest.
pub(super) const DIGEST_LEN: usize = 32;

/// One row as the digest sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub row: i64,
    /// Version that the object row is sealed for.
    pub version: u64,
    /// The epoch key that it is sealed with.
    pub epoch: KeyId,
    /// The payload behind it, when there is one.
    pub payload: Option<Payload>,
}

/// The payload of an object, as far as it is known without opening it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Payload {
    /// Version that its row is sealed for.
    pub version: u64,
    /// Its key, sealed under a ring key.
    pub key: Arc<[u8]>,
}

impl Place {
    /// True when keys from before a rotation are needed to read it.
    fn is_old(&self, keyring: &Keyring) -> bool {
        let ring_key = |payload: &Payload| Keyring::key_of(&payload.key).unwrap_or(KeyId::DATA);
        keyring.is_old(self.epoch)
            || self.payload.as_ref().is_some_and(|payload| keyring.is_old(ring_key(payload)))
    }
}

/// Where everything lies.
#[derive(Default)]
pub(super) struct Rows {
    places: HashMap<Key, Place>,
    last_row: i64,
    /// Where some rows of the audit lie: the first record of each, and its row. What is between two of
    /// them lies between their rows.
    audit: Vec<(u64, i64)>,
    /// Rows of the audit since the last that was noted.
    audit_skipped: usize,
    digest: [u8; DIGEST_LEN],
}

impl Rows {
    pub(super) fn place(&self, key: &Key) -> Option<Place> {
        self.places.get(key).cloned()
    }

    /// A number for a new object's row, after all before it. It is even; 0 is that of the head.
    pub(super) fn next_row(&mut self) -> i64 {
        self.last_row += 2;
        self.last_row
    }

    /// Notes a row of the audit.
    pub(super) fn note_audit(&mut self, first: u64, row: i64) {
        self.last_row = self.last_row.max(row);
        if self.audit.is_empty() || self.audit_skipped + 1 >= AUDIT_STEP {
            self.audit.push((first, row));
            self.audit_skipped = 0;
        } else {
            self.audit_skipped += 1;
        }
    }

    /// A row at or before the one that has this record of the audit, and no more than so many rows of
    /// it before.
    pub(super) fn audit_row(&self, seq: u64) -> i64 {
        let at = self.audit.partition_point(|(first, _)| *first <= seq);
        at.checked_sub(1).map_or(0, |at| self.audit[at].1)
    }

    /// Forgets where records before this one lay.
    pub(super) fn trim_audit(&mut self, from: u64) {
        let at = self.audit.partition_point(|(first, _)| *first <= from);
        self.audit.drain(..at.saturating_sub(1));
    }

    /// The row of the payload of the object in `row`.
    pub(super) fn payload_row(row: i64) -> i64 {
        row + 1
    }

    /// How many objects need each key.
    pub(super) fn by_key(&self) -> HashMap<KeyId, usize> {
        let mut counts = HashMap::new();
        for place in self.places.values() {
            let payload = place.payload.as_ref();
            let ring_key = payload.and_then(|payload| Keyring::key_of(&payload.key).ok());
            for id in ring_key.into_iter().chain([place.epoch]) {
                *counts.entry(id).or_default() += 1;
            }
        }
        counts
    }

    /// Some of the objects that keys from before a rotation are needed for.
    pub(super) fn old(&self, keyring: &Keyring, count_max: usize) -> Vec<Key> {
        let places = self.places.iter().filter(|(_, place)| place.is_old(keyring));
        places.map(|(key, _)| *key).take(count_max).collect()
    }

    /// Records where an object lies now. `None`: nowhere.
    pub(super) fn set(&mut self, keyring: &Keyring, key: Key, place: Option<Place>) {
        let new = place.as_ref().map(|place| describe(&key, place));
        let old = match place {
            Some(place) => {
                self.last_row = self.last_row.max(place.row);
                self.places.insert(key, place)
            }
            None => self.places.remove(&key),
        };
        let old = old.map(|place| describe(&key, &place));
        for changed in [old, new].into_iter().flatten() {
            let mark = keyring.mark(&changed);
            self.digest.iter_mut().zip(mark).for_each(|(sum, byte)| *sum ^= byte);
        }
    }

    pub(super) fn digest(&self) -> [u8; DIGEST_LEN] {
        self.digest
    }
}

fn describe(key: &Key, place: &Place) -> Vec<u8> {
    let payload = place.payload.as_ref().map_or(0, |payload| payload.version);
    let mut text = Vec::with_capacity(64);
    text.push(key.kind() as u8);
    text.extend_from_slice(key.id().as_bytes());
    text.extend_from_slice(&place.row.to_be_bytes());
    text.extend_from_slice(&place.version.to_be_bytes());
    text.extend_from_slice(&payload.to_be_bytes());
    text
}
