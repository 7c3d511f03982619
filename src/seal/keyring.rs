//! The keyring: the keys that seal, by id, each itself sealed under the unlock key.
//!
//! Keys never leave this room. The store keeps the ring's rows ([`KeyRow`]) and hands them back at
//! the next start.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

use super::cipher::{CipherKey, KEY_LEN};
use super::envelope::{self, OpenError, Purpose, SealingKey, Subject};
use super::secret::SecretBytes;
use super::unlock::UnlockKey;
use crate::domain::change::SealedBytes;
use crate::domain::id::{Entropy, Stream};
use crate::domain::secret::Fingerprint;

/// Names a key of the ring. 0 is the unlock key itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u32);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a key of the ring is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUse {
    /// Seals rows.
    Seal = 1,
    /// Makes fingerprints of payloads. There is one, and it is never replaced, so that fingerprints
    /// stay comparable.
    Fingerprint = 2,
}

/// A key of the ring as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// Its id.
    pub id: KeyId,
    /// Number of its use.
    pub usage: u8,
    /// The key, sealed under the unlock key.
    pub sealed: Vec<u8>,
}

/// The keys of one store.
pub struct Keyring {
    store: String,
    sealing: BTreeMap<KeyId, SealingKey>,
    active: KeyId,
    fingerprint: CipherKey,
    mark: CipherKey,
}

/// A ring cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
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
    #[error("the keyring has no key for {0:?}")]
    Missing(KeyUse),
}

impl Keyring {
    /// Makes the keys of a new store, and the rows that hold them.
    pub fn make(store: &str, unlock: &UnlockKey, entropy: &dyn Entropy) -> (Keyring, Vec<KeyRow>) {
        let rows =
            [(KeyId(1), KeyUse::Seal), (KeyId(2), KeyUse::Fingerprint)].map(|(id, usage)| {
                let mut root = Zeroizing::new([0; KEY_LEN]);
                entropy.fill(Stream::Key, &mut *root);
                let text = id.to_string();
                let subject = key_subject(store, usage as u8, &text);
                KeyRow {
                    id,
                    usage: usage as u8,
                    sealed: unlock.sealing().seal(&subject, &*root, entropy),
                }
            });
        let ring = Keyring::open(store, unlock, &rows).expect("keys that were just sealed open");
        (ring, rows.into())
    }

    /// Opens the keys of a store.
    ///
    /// # Errors
    /// The unlock key is not the one they are sealed under, or a row was changed.
    pub fn open(store: &str, unlock: &UnlockKey, rows: &[KeyRow]) -> Result<Keyring, KeyringError> {
        let mut sealing = BTreeMap::new();
        let mut fingerprint = None;
        for row in rows {
            let text = row.id.to_string();
            let subject = key_subject(store, row.usage, &text);
            let root = unlock
                .sealing()
                .open(&subject, &row.sealed)
                .map_err(|source| KeyringError::Key { id: row.id, source })?;
            let root: [u8; KEY_LEN] =
                root.expose().try_into().map_err(|_| KeyringError::Malformed(row.id))?;
            let root = CipherKey::new(root);
            if row.usage == KeyUse::Seal as u8 {
                sealing.insert(row.id, SealingKey::new(row.id, &root));
            } else if row.usage == KeyUse::Fingerprint as u8 {
                fingerprint =
                    Some((root.derive(b"purser fingerprint 1"), root.derive(b"purser row mark 1")));
            } else {
                return Err(KeyringError::Malformed(row.id));
            }
        }
        let active = *sealing.keys().next_back().ok_or(KeyringError::Missing(KeyUse::Seal))?;
        let (fingerprint, mark) = fingerprint.ok_or(KeyringError::Missing(KeyUse::Fingerprint))?;
        Ok(Keyring { store: store.to_owned(), sealing, active, fingerprint, mark })
    }

    /// Seals a value with the newest key.
    pub fn seal(&self, value: Value<'_>, plain: &[u8], entropy: &dyn Entropy) -> SealedBytes {
        let key = &self.sealing[&self.active];
        SealedBytes(key.seal(&self.subject(value), plain, entropy))
    }

    /// Opens a value with the key it names.
    ///
    /// # Errors
    /// It was changed, belongs to something else, or its key is not in the ring.
    pub fn open_value(&self, value: Value<'_>, sealed: &[u8]) -> Result<SecretBytes, OpenError> {
        let id = envelope::key_id(sealed)?;
        let key = self.sealing.get(&id).ok_or(OpenError::UnknownKey(id))?;
        key.open(&self.subject(value), sealed)
    }

    /// The key that a sealed value names, for its row.
    ///
    /// # Errors
    /// It is no envelope.
    pub fn key_of(sealed: &[u8]) -> Result<KeyId, OpenError> {
        envelope::key_id(sealed)
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

fn key_subject<'a>(store: &'a str, usage: u8, id: &'a str) -> Subject<'a> {
    Subject { purpose: Purpose::Key, store, kind: usage, id, version: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting;
    impl Entropy for Counting {
        fn fill(&self, _: Stream, out: &mut [u8]) {
            out.iter_mut().zip(7u8..).for_each(|(byte, value)| *byte = value);
        }
    }

    fn ring() -> (Keyring, Vec<KeyRow>) {
        Keyring::make("store", &UnlockKey::from_bytes([3; 32]), &Counting)
    }

    const VALUE: Value<'_> =
        Value { purpose: Purpose::Object, kind: 5, id: "0123456789abcdefghijklmno", version: 9 };

    #[test]
    fn what_is_sealed_opens_only_as_what_it_is() {
        let (ring, _) = ring();
        let sealed = ring.seal(VALUE, b"plain", &Counting).0;
        assert_eq!(
            ring.open_value(VALUE, &sealed).map(|s| s.expose().to_vec()),
            Ok(b"plain".into())
        );
        let others = [
            Value { purpose: Purpose::Payload, ..VALUE },
            Value { kind: 4, ..VALUE },
            Value { id: "other", ..VALUE },
            Value { version: 10, ..VALUE },
        ];
        for other in others {
            assert_eq!(ring.open_value(other, &sealed).err(), Some(OpenError::NotAuthentic));
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (ring, _) = ring();
        let sealed = ring.seal(VALUE, b"plain", &Counting).0;
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(ring.open_value(VALUE, &changed).is_err(), "bit {bit}");
        }
        for len in 0..sealed.len() {
            assert!(ring.open_value(VALUE, &sealed[..len]).is_err(), "length {len}");
        }
    }

    #[test]
    fn a_ring_opens_only_with_its_unlock_key_and_for_its_store() {
        let (_, rows) = ring();
        assert!(Keyring::open("store", &UnlockKey::from_bytes([3; 32]), &rows).is_ok());
        assert!(Keyring::open("store", &UnlockKey::from_bytes([4; 32]), &rows).is_err());
        assert!(Keyring::open("other", &UnlockKey::from_bytes([3; 32]), &rows).is_err());
        let swapped = [
            KeyRow { sealed: rows[1].sealed.clone(), ..rows[0].clone() },
            KeyRow { sealed: rows[0].sealed.clone(), ..rows[1].clone() },
        ];
        assert!(Keyring::open("store", &UnlockKey::from_bytes([3; 32]), &swapped).is_err());
    }

    /// Sealed by the first release. These bytes open for ever.
    #[test]
    fn the_first_releases_envelopes_open_for_ever() {
        let (ring, rows) = ring();
        assert_eq!(hex(&ring.seal(VALUE, b"plain", &Counting).0), VECTOR_VALUE);
        assert_eq!(hex(&rows[0].sealed), VECTOR_KEY);
        let opened = ring.open_value(VALUE, &unhex(VECTOR_VALUE));
        assert_eq!(opened.map(|s| s.expose().to_vec()), Ok(b"plain".to_vec()));
    }

    const VECTOR_VALUE: &str = "0100000001e97d2815c5b42ee641f63fee793ea74abd41ec7bacb5d56a633d6cbf46fbb4690708090a0b0c0d0e0f101112131415161718191a1b1c1d1e5d0421b03f3c17b17b930d487b240eebf907cfe14e";
    const VECTOR_KEY: &str = "01000000008240453900298ae20453d6281cc5d0fde3d79c295ea27568ba8070b5729e1ea80708090a0b0c0d0e0f101112131415161718191a1b1c1d1e58e50d511e218f46c2863bc8b7ce523b707f05bb4cd3dece8a439331a73fa3fe5b9d00fd5e38f6bd8f86cdfdbdf60b96";

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal"))
            .collect()
    }
}
