//! Which row every object lies in, and the digest over all rows.
//!
//! The digest is the exclusive-or of a keyed hash of each row's kind, id, version and place. Only
//! the keyring can make these hashes, so no set of rows but the one last written has the digest
//! that the sealed head holds: a row removed, or put back as it was, is noticed.

use std::collections::HashMap;

use crate::domain::change::Key;
use crate::seal::keyring::Keyring;

/// Bytes of a digest.
pub(super) const DIGEST_LEN: usize = 32;

/// One row as the digest sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub row: i64,
    /// Version that the object row is sealed for.
    pub version: u64,
    /// Version that the payload row is sealed for, when there is one.
    pub payload: Option<u64>,
}

/// Where everything lies.
#[derive(Default)]
pub(super) struct Rows {
    places: HashMap<Key, Place>,
    last_row: i64,
    digest: [u8; DIGEST_LEN],
}

impl Rows {
    pub(super) fn place(&self, key: &Key) -> Option<Place> {
        self.places.get(key).copied()
    }

    /// A number for a new object's row, after all before it. It is even; 0 is that of the head.
    pub(super) fn next_row(&mut self) -> i64 {
        self.last_row += 2;
        self.last_row
    }

    /// The row of the payload of the object in `row`.
    pub(super) fn payload_row(row: i64) -> i64 {
        row + 1
    }

    /// Records where an object lies now. `None`: nowhere.
    pub(super) fn set(&mut self, keyring: &Keyring, key: Key, place: Option<Place>) {
        let old = match place {
            Some(place) => {
                self.last_row = self.last_row.max(place.row);
                self.places.insert(key, place)
            }
            None => self.places.remove(&key),
        };
        for changed in [old, place].into_iter().flatten() {
            let mark = keyring.mark(&describe(&key, changed));
            self.digest.iter_mut().zip(mark).for_each(|(sum, byte)| *sum ^= byte);
        }
    }

    pub(super) fn digest(&self) -> [u8; DIGEST_LEN] {
        self.digest
    }
}

fn describe(key: &Key, place: Place) -> Vec<u8> {
    let mut text = Vec::with_capacity(64);
    text.push(key.kind() as u8);
    text.extend_from_slice(key.id().as_bytes());
    text.extend_from_slice(&place.row.to_be_bytes());
    text.extend_from_slice(&place.version.to_be_bytes());
    text.extend_from_slice(&place.payload.unwrap_or(0).to_be_bytes());
    text
}
