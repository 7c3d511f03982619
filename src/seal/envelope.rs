//! The envelope: what every sealed value looks like.
//!
//! ```text
//! offset  bytes  what
//!      0      1  format, 1
//!      1      4  id of the key, big-endian
//!      5     32  commitment to the key
//!     37     24  nonce: random, or counted on from a random one ([`Nonces`])
//!     61      n  XChaCha20-Poly1305 of the value
//!   61+n     16  its tag
//! ```
//!
//! The associated data is the [`Subject`]: what is sealed and for whom. One sealed value can
//! therefore never stand in for another, nor an older one of the same object for a newer. The
//! commitment is a keyed hash that only the one key can have made: it tells a wrong key from
//! changed bytes, and no envelope can be made that opens under two keys.

use super::cipher::{CipherKey, NONCE_LEN, TAG_LEN};
use super::keyring::KeyId;
use super::secret::SecretBytes;
use crate::domain::id::{Entropy, Stream};

/// The format that is written. Older ones are read for ever.
const FORMAT: u8 = 1;
const HEAD_LEN: usize = 1 + 4 + 32 + NONCE_LEN;

/// How many bytes longer an envelope is than what it seals.
pub const OVERHEAD: usize = HEAD_LEN + TAG_LEN;

/// What kind of value is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// An object row.
    Object = 1,
    /// The payload of an object.
    Payload = 2,
    /// A key of the ring, sealed under the lock key or another key of the ring.
    Key = 3,
    /// The head of the store.
    Head = 4,
    /// The key of a payload, sealed under a key of the ring.
    DataKey = 5,
    /// Records of the audit.
    Audit = 6,
}

/// What is sealed and for whom. All of it is authenticated.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// What kind of value.
    pub purpose: Purpose,
    /// The store it belongs to.
    pub store: &'a str,
    /// Number of the object's kind.
    pub kind: u8,
    /// Id of the object.
    pub id: &'a str,
    /// Version of the value.
    pub version: u64,
}

impl Subject<'_> {
    /// The associated data: every field, each of variable length behind its length.
    fn encode(&self) -> Vec<u8> {
        let mut data = Vec::with_capacity(80);
        data.extend_from_slice(b"purser");
        data.extend_from_slice(&[FORMAT, self.purpose as u8, self.kind]);
        for text in [self.store, self.id] {
            let len = u16::try_from(text.len()).expect("ids are a few dozen bytes long");
            data.extend_from_slice(&len.to_be_bytes());
            data.extend_from_slice(text.as_bytes());
        }
        data.extend_from_slice(&self.version.to_be_bytes());
        data
    }
}

/// Nonces for values that are sealed together: a random one, and those that count on from it. To draw one
/// takes as long as to seal a short value. That one of `n` counted on from here is among `m` from another is as
/// improbable as (`n` + `m`) · 2⁻¹⁹².
pub struct Nonces([u8; NONCE_LEN]);

impl Nonces {
    /// Draws a beginning.
    pub fn draw(entropy: &dyn Entropy) -> Nonces {
        let mut beginning = [0; NONCE_LEN];
        entropy.fill(Stream::Key, &mut beginning);
        Nonces(beginning)
    }

    /// The next nonce.
    pub(super) fn next(&mut self) -> [u8; NONCE_LEN] {
        let next = self.0;
        let count = self.0.last_chunk_mut().expect("a nonce is longer than a count");
        *count = u64::from_be_bytes(*count).wrapping_add(1).to_be_bytes();
        next
    }
}

/// A sealed value cannot be opened.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OpenError {
    /// It is no envelope, or one of a format from the future.
    #[error("not a sealed value of a known format")]
    Format,
    /// It is sealed with a key that is not there.
    #[error("sealed with key {0}, which is not in the keyring")]
    UnknownKey(KeyId),
    /// It is sealed with another key than the one of that id.
    #[error("sealed with another key than key {0} of this keyring")]
    WrongKey(KeyId),
    /// It was changed, or belongs to something else.
    #[error("changed, or moved from where it belongs")]
    NotAuthentic,
}

/// A key that seals: the cipher's key and the commitment, both derived from one root.
pub(super) struct SealingKey {
    id: KeyId,
    cipher: CipherKey,
    commitment: [u8; 32],
}

impl SealingKey {
    pub(super) fn new(id: KeyId, root: &CipherKey) -> SealingKey {
        let [cipher, commitment] =
            root.derive([b"purser envelope 1 cipher", b"purser envelope 1 commitment"]);
        SealingKey { id, cipher, commitment: commitment.for_macs().mac(&id.0.to_be_bytes()) }
    }

    pub(super) fn seal(
        &self,
        subject: &Subject<'_>,
        plain: &[u8],
        entropy: &dyn Entropy,
    ) -> Vec<u8> {
        self.seal_with(Nonces::draw(entropy).next(), subject, plain)
    }

    /// Seals with a nonce that is for this alone.
    pub(super) fn seal_with(
        &self,
        nonce: [u8; NONCE_LEN],
        subject: &Subject<'_>,
        plain: &[u8],
    ) -> Vec<u8> {
        let mut envelope = Vec::with_capacity(plain.len() + OVERHEAD);
        envelope.push(FORMAT);
        envelope.extend_from_slice(&self.id.0.to_be_bytes());
        envelope.extend_from_slice(&self.commitment);
        envelope.extend_from_slice(&nonce);
        envelope.extend_from_slice(plain);
        self.cipher.encrypt(&nonce, &subject.encode(), &mut envelope, HEAD_LEN);
        envelope
    }

    pub(super) fn open(
        &self,
        subject: &Subject<'_>,
        envelope: &[u8],
    ) -> Result<SecretBytes, OpenError> {
        use subtle::ConstantTimeEq as _;
        let (id, rest) = split_key_id(envelope)?;
        let (commitment, rest) = rest.split_at_checked(32).ok_or(OpenError::Format)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>().ok_or(OpenError::Format)?;
        if id != self.id || !bool::from(commitment.ct_eq(&self.commitment)) {
            return Err(OpenError::WrongKey(id));
        }
        let mut plain = self
            .cipher
            .decrypt(nonce, &subject.encode(), sealed)
            .map_err(|_| OpenError::NotAuthentic)?;
        Ok(SecretBytes::new(std::mem::take(&mut *plain)))
    }
}

/// The key that an envelope names.
pub(super) fn key_id(envelope: &[u8]) -> Result<KeyId, OpenError> {
    split_key_id(envelope).map(|(id, _)| id)
}

fn split_key_id(envelope: &[u8]) -> Result<(KeyId, &[u8]), OpenError> {
    let (format, rest) = envelope.split_first().ok_or(OpenError::Format)?;
    if *format != FORMAT {
        return Err(OpenError::Format);
    }
    let (id, rest) = rest.split_first_chunk::<4>().ok_or(OpenError::Format)?;
    Ok((KeyId(u32::from_be_bytes(*id)), rest))
}
