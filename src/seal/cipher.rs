//! The raw primitives: XChaCha20-Poly1305, HKDF-SHA-256 and HMAC-SHA-256. Reachable only from
//! within this room; everything else goes through an envelope.

use chacha20poly1305::aead::AeadInOut as _;
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Bytes of a key.
pub(super) const KEY_LEN: usize = 32;
/// Bytes of a nonce; long enough to be drawn at random for every envelope of a key's life.
pub(super) const NONCE_LEN: usize = 24;
/// Bytes of an authentication tag.
pub(super) const TAG_LEN: usize = 16;

/// A key, wiped when dropped.
pub(super) struct CipherKey(Zeroizing<[u8; KEY_LEN]>);

/// A key for keyed hashes, taken in once for all of them. The process's allocator wipes it when it is
/// freed.
pub(super) struct MacKey(Hmac<Sha256>);

impl MacKey {
    /// The keyed hash of `data`.
    pub(super) fn mac(&self, data: &[u8]) -> [u8; 32] {
        let mut mac = self.0.clone();
        mac.update(data);
        mac.finalize().into_bytes().into()
    }
}

/// The tag does not fit: a wrong key, other associated data, or changed bytes.
#[derive(Debug)]
pub(super) struct NotAuthentic;

impl CipherKey {
    pub(super) fn new(bytes: [u8; KEY_LEN]) -> CipherKey {
        CipherKey(Zeroizing::new(bytes))
    }

    /// A key for each purpose, from which neither this key nor that of another purpose can be told.
    pub(super) fn derive<const N: usize>(&self, purposes: [&[u8]; N]) -> [CipherKey; N] {
        let extracted = hkdf::Hkdf::<Sha256>::new(None, &*self.0);
        purposes.map(|purpose| {
            let mut bytes = Zeroizing::new([0; KEY_LEN]);
            extracted
                .expand(purpose, &mut *bytes)
                .expect("32 bytes are within the reach of HKDF-SHA-256");
            CipherKey(bytes)
        })
    }

    /// The key's bytes, to be sealed under another key.
    pub(super) fn expose(&self) -> &[u8] {
        &*self.0
    }

    /// The same key, for keyed hashes.
    pub(super) fn for_macs(&self) -> MacKey {
        MacKey(Hmac::new_from_slice(&*self.0).expect("HMAC takes keys of any length"))
    }

    /// Encrypts `message[from..]` in place and appends the tag.
    pub(super) fn encrypt(
        &self,
        nonce: &[u8; NONCE_LEN],
        associated: &[u8],
        message: &mut Vec<u8>,
        from: usize,
    ) {
        let tag = self
            .aead()
            .encrypt_inout_detached(
                &XNonce::from(*nonce),
                associated,
                (&mut message[from..]).into(),
            )
            .expect("what is sealed is far below the cipher's limit of 256 GiB");
        message.extend_from_slice(&tag);
    }

    /// Decrypts a message that ends with its tag.
    pub(super) fn decrypt(
        &self,
        nonce: &[u8; NONCE_LEN],
        associated: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, NotAuthentic> {
        let split = sealed.len().checked_sub(TAG_LEN).ok_or(NotAuthentic)?;
        let (message, tag) = sealed.split_at(split);
        let tag: [u8; TAG_LEN] = tag.try_into().map_err(|_| NotAuthentic)?;
        let mut plain = Zeroizing::new(message.to_vec());
        self.aead()
            .decrypt_inout_detached(
                &XNonce::from(*nonce),
                associated,
                plain.as_mut_slice().into(),
                &tag.into(),
            )
            .map_err(|_| NotAuthentic)?;
        Ok(plain)
    }

    fn aead(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&(*self.0).into())
    }
}
