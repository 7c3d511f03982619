//! Files that only the holder of a recovery key can read, in the age format (age-encryption.org/v1): so
//! that `age` and `rage` read what is written here, and recovery needs no purser.
//!
//! Of the format there are two recipients, an X25519 key (`age1…`) or a passphrase, and one of them per
//! file. What is sealed is cut into chunks of 64 KiB, each authenticated, the last one marked: a file
//! that was cut short or changed does not open to its end.

use std::io::{self, Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bech32::{Bech32, Hrp};
use chacha20poly1305::aead::AeadInOut as _;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::domain::id::{Entropy, Stream};

const MAGIC: &str = "age-encryption.org/v1";
const X25519_INFO: &[u8] = b"age-encryption.org/v1/X25519";
const SCRYPT_SALT: &[u8] = b"age-encryption.org/v1/scrypt";
const CHUNK_LEN: usize = 64 * 1024;
const TAG_LEN: usize = 16;
const FILE_KEY_LEN: usize = 16;
/// The work of a passphrase: 64 MiB of memory, about a fifth of a second. What is read may ask for up to
/// sixteen times as much.
const WORK: u8 = 16;
const WORK_MAX: u8 = 20;
/// The longest header that is read. One recipient takes about 200 bytes.
const HEADER_MAX: usize = 16 * 1024;

/// Who can read a file.
pub enum Recipient {
    /// The holder of the secret key to this one.
    Key([u8; 32]),
    /// Whoever knows it.
    Passphrase(Zeroizing<String>),
}

/// What opens a file.
pub enum Identity {
    /// A secret key.
    Key(Zeroizing<[u8; 32]>),
    /// A passphrase.
    Passphrase(Zeroizing<String>),
}

/// A recovery file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum AgeError {
    /// A recipient that is none. What it is is not said: it may be a secret key, put in the wrong place.
    #[error("the recipient is none: age1… is")]
    Recipient,
    /// An identity that is none.
    #[error("the identity is no AGE-SECRET-KEY-1…")]
    Identity,
    /// It is no such file.
    #[error("not an age file of version 1")]
    Format,
    /// It is for somebody else.
    #[error("it is not for this key or passphrase")]
    NotForUs,
    /// The file.
    #[error("reading the file")]
    Io(#[from] io::Error),
}

impl Recipient {
    /// Reads `age1…`.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Recipient, AgeError> {
        let unknown = || AgeError::Recipient;
        let (prefix, bytes) = bech32::decode(text.trim()).map_err(|_| unknown())?;
        let key: [u8; 32] = bytes.try_into().map_err(|_| unknown())?;
        if prefix.as_str() == "age" { Ok(Recipient::Key(key)) } else { Err(unknown()) }
    }

    /// Wraps a file key: the lines of the header that are for this recipient.
    fn wrap(&self, file_key: &[u8], entropy: &dyn Entropy) -> String {
        match self {
            Recipient::Key(recipient) => {
                let mut secret = Zeroizing::new([0; 32]);
                entropy.fill(Stream::Key, &mut *secret);
                let secret = StaticSecret::from(*secret);
                let share = PublicKey::from(&secret);
                let shared = secret.diffie_hellman(&PublicKey::from(*recipient));
                let key = x25519_key(share.as_bytes(), recipient, shared.as_bytes());
                let body = STANDARD_NO_PAD.encode(seal_key(&key, file_key));
                format!("-> X25519 {}\n{body}\n", STANDARD_NO_PAD.encode(share.as_bytes()))
            }
            Recipient::Passphrase(passphrase) => {
                let mut salt = [0; 16];
                entropy.fill(Stream::Key, &mut salt);
                let key = scrypt_key(passphrase, &salt, WORK);
                let body = STANDARD_NO_PAD.encode(seal_key(&key, file_key));
                format!("-> scrypt {} {WORK}\n{body}\n", STANDARD_NO_PAD.encode(salt))
            }
        }
    }
}

impl Identity {
    /// Reads the first secret key of a text, as `age-keygen` writes it.
    ///
    /// # Errors
    /// There is none.
    pub fn parse(text: &str) -> Result<Identity, AgeError> {
        let mut lines = text.lines().map(str::trim);
        let line = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
        let (prefix, bytes) =
            bech32::decode(line.unwrap_or_default()).map_err(|_| AgeError::Identity)?;
        let bytes = Zeroizing::new(bytes);
        let key: [u8; 32] = bytes.as_slice().try_into().map_err(|_| AgeError::Identity)?;
        let is_secret = prefix.as_str().eq_ignore_ascii_case("age-secret-key-");
        if is_secret { Ok(Identity::Key(Zeroizing::new(key))) } else { Err(AgeError::Identity) }
    }

    /// Makes a secret key: its text, and the recipient that belongs to it.
    pub fn make(entropy: &dyn Entropy) -> (Zeroizing<String>, String) {
        let mut secret = Zeroizing::new([0; 32]);
        entropy.fill(Stream::Key, &mut *secret);
        let public = PublicKey::from(&StaticSecret::from(*secret));
        let text = |prefix: &str, bytes: &[u8]| {
            let prefix = Hrp::parse(prefix).expect("a prefix of letters");
            bech32::encode::<Bech32>(prefix, bytes).expect("32 bytes are short")
        };
        let secret = Zeroizing::new(text("age-secret-key-", &*secret).to_uppercase());
        (secret, text("age", public.as_bytes()))
    }

    /// The file key, if this stanza of a header is for us.
    fn unwrap(&self, words: &[&str], body: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        match (self, words) {
            (Identity::Key(secret), ["X25519", share]) => {
                let share: [u8; 32] = STANDARD_NO_PAD.decode(share).ok()?.try_into().ok()?;
                let secret = StaticSecret::from(**secret);
                let own = PublicKey::from(&secret);
                let shared = secret.diffie_hellman(&PublicKey::from(share));
                if !shared.was_contributory() {
                    return None;
                }
                open_key(&x25519_key(&share, own.as_bytes(), shared.as_bytes()), body)
            }
            (Identity::Passphrase(passphrase), ["scrypt", salt, work]) => {
                let salt: [u8; 16] = STANDARD_NO_PAD.decode(salt).ok()?.try_into().ok()?;
                let work = work.parse().ok().filter(|work| (1..=WORK_MAX).contains(work))?;
                open_key(&scrypt_key(passphrase, &salt, work), body)
            }
            _ => None,
        }
    }
}

fn x25519_key(share: &[u8], recipient: &[u8], shared: &[u8]) -> Zeroizing<[u8; 32]> {
    let salt = [share, recipient].concat();
    hkdf(Some(&salt), shared, X25519_INFO)
}

fn scrypt_key(passphrase: &str, salt: &[u8], work: u8) -> Zeroizing<[u8; 32]> {
    let params = scrypt::Params::new(work, 8, 1).expect("these are within the bounds of scrypt");
    let salt = [SCRYPT_SALT, salt].concat();
    let mut key = Zeroizing::new([0; 32]);
    scrypt::scrypt(passphrase.as_bytes(), &salt, &params, &mut *key)
        .expect("32 bytes are within the reach of scrypt");
    key
}

fn hkdf(salt: Option<&[u8]>, secret: &[u8], info: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    hkdf::Hkdf::<Sha256>::new(salt, secret)
        .expand(info, &mut *key)
        .expect("32 bytes are within the reach of HKDF-SHA-256");
    key
}

fn cipher(key: &[u8; 32]) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(key.into())
}

/// A file key is sealed once with a key of its own, so that the nonce is zero.
fn seal_key(key: &[u8; 32], file_key: &[u8]) -> Vec<u8> {
    let mut body = file_key.to_vec();
    cipher(key).encrypt_in_place(&[0; 12].into(), b"", &mut body).expect("16 bytes are short");
    body
}

fn open_key(key: &[u8; 32], body: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if body.len() != FILE_KEY_LEN + TAG_LEN {
        return None;
    }
    let mut opened = Zeroizing::new(body.to_vec());
    cipher(key).decrypt_in_place(&[0; 12].into(), b"", &mut *opened).ok()?;
    Some(opened)
}

/// The keyed hash over a header, up to and with the three dashes of its last line.
fn header_mac(file_key: &[u8], header: &str) -> Hmac<Sha256> {
    let key = hkdf(None, file_key, b"header");
    let mut mac = Hmac::<Sha256>::new_from_slice(&*key).expect("HMAC takes keys of any length");
    mac.update(header.as_bytes());
    mac
}

/// Number of a chunk and whether it is the last, as its nonce.
fn nonce(chunk: u64, is_last: bool) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&chunk.to_be_bytes());
    nonce[11] = u8::from(is_last);
    nonce
}

/// Writes a file; what is written to it is sealed. It is whole only after [`Sealer::finish`].
pub struct Sealer<W: Write> {
    out: W,
    cipher: ChaCha20Poly1305,
    chunk: u64,
    waiting: Zeroizing<Vec<u8>>,
}

impl<W: Write> Sealer<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin(mut out: W, recipient: &Recipient, entropy: &dyn Entropy) -> io::Result<Self> {
        let mut file_key = Zeroizing::new([0; FILE_KEY_LEN]);
        entropy.fill(Stream::Key, &mut *file_key);
        let header = format!("{MAGIC}\n{}---", recipient.wrap(&*file_key, entropy));
        let mac = header_mac(&*file_key, &header).finalize().into_bytes();
        writeln!(out, "{header} {}", STANDARD_NO_PAD.encode(mac))?;
        let mut salt = [0; 16];
        entropy.fill(Stream::Key, &mut salt);
        out.write_all(&salt)?;
        let cipher = cipher(&hkdf(Some(&salt), &*file_key, b"payload"));
        let waiting = Zeroizing::new(Vec::with_capacity(CHUNK_LEN + TAG_LEN));
        Ok(Sealer { out, cipher, chunk: 0, waiting })
    }

    fn flush_chunk(&mut self, is_last: bool) -> io::Result<()> {
        let nonce = nonce(self.chunk, is_last);
        self.cipher
            .encrypt_in_place(&nonce.into(), b"", &mut *self.waiting)
            .map_err(|_| io::Error::other("a chunk cannot be sealed"))?;
        self.out.write_all(&self.waiting)?;
        self.waiting.clear();
        self.chunk += 1;
        Ok(())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush_chunk(true)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full chunk waits: only what follows shows that it is not the last.
        if self.waiting.len() == CHUNK_LEN && !bytes.is_empty() {
            self.flush_chunk(false)?;
        }
        let taken = bytes.len().min(CHUNK_LEN - self.waiting.len());
        self.waiting.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a file; what is read from it is plain. A file that was changed or cut ends in an error.
pub struct Opener<R: Read> {
    input: R,
    cipher: ChaCha20Poly1305,
    chunk: u64,
    plain: Zeroizing<Vec<u8>>,
    at: usize,
    is_over: bool,
    /// The first byte of the next chunk: without one, a chunk is the last.
    ahead: Option<u8>,
}

impl<R: Read> Opener<R> {
    /// Begins to read.
    ///
    /// # Errors
    /// It is no such file, or not for this identity.
    pub fn begin(mut input: R, identity: &Identity) -> Result<Self, AgeError> {
        let header = read_header(&mut input)?;
        let (body, mac) = header.rsplit_once(' ').ok_or(AgeError::Format)?;
        let mac = STANDARD_NO_PAD.decode(mac.trim_end()).map_err(|_| AgeError::Format)?;
        let mut lines = body.lines();
        if lines.next() != Some(MAGIC) {
            return Err(AgeError::Format);
        }
        let mut file_key = None;
        while let Some(line) = lines.next() {
            let Some(words) = line.strip_prefix("-> ") else { break };
            let words: Vec<&str> = words.split(' ').collect();
            let mut body = String::new();
            for part in lines.by_ref() {
                body.push_str(part);
                if part.len() < 64 {
                    break;
                }
            }
            let body = STANDARD_NO_PAD.decode(body).map_err(|_| AgeError::Format)?;
            file_key = file_key.or_else(|| identity.unwrap(&words, &body));
        }
        let file_key = file_key.ok_or(AgeError::NotForUs)?;
        header_mac(&file_key, body).verify_slice(&mac).map_err(|_| AgeError::Format)?;
        let mut salt = [0; 16];
        input.read_exact(&mut salt)?;
        let cipher = cipher(&hkdf(Some(&salt), &file_key, b"payload"));
        let plain = Zeroizing::new(Vec::new());
        Ok(Opener { input, cipher, chunk: 0, plain, at: 0, is_over: false, ahead: None })
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let mut sealed = Vec::with_capacity(CHUNK_LEN + TAG_LEN);
        sealed.extend(self.ahead.take());
        let wanted = (CHUNK_LEN + TAG_LEN - sealed.len()) as u64;
        self.input.by_ref().take(wanted).read_to_end(&mut sealed)?;
        let mut ahead = [0];
        if self.input.read(&mut ahead)? == 1 {
            self.ahead = Some(ahead[0]);
        }
        self.is_over = self.ahead.is_none();
        let nonce = nonce(self.chunk, self.is_over);
        self.plain = Zeroizing::new(sealed);
        self.cipher
            .decrypt_in_place(&nonce.into(), b"", &mut *self.plain)
            .map_err(|_| io::Error::other("the file was changed or cut short"))?;
        if self.plain.is_empty() && self.chunk > 0 {
            return Err(io::Error::other("the file was changed or cut short"));
        }
        self.at = 0;
        self.chunk += 1;
        Ok(())
    }
}

impl<R: Read> Read for Opener<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.plain.len() {
            if self.is_over {
                return Ok(0);
            }
            self.next_chunk()?;
        }
        let count = out.len().min(self.plain.len() - self.at);
        out[..count].copy_from_slice(&self.plain[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// Everything up to the end of the line that begins with three dashes.
fn read_header(input: &mut impl Read) -> Result<String, AgeError> {
    let mut header = Vec::new();
    let mut line_start = 0;
    loop {
        let mut byte = [0];
        if header.len() >= HEADER_MAX || input.read(&mut byte)? == 0 {
            return Err(AgeError::Format);
        }
        header.push(byte[0]);
        if byte[0] == b'\n' {
            if header[line_start..].starts_with(b"---") {
                return String::from_utf8(header).map_err(|_| AgeError::Format);
            }
            line_start = header.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;

    struct Stepping(AtomicU8);
    impl Entropy for Stepping {
        fn fill(&self, _: Stream, out: &mut [u8]) {
            out.fill(self.0.fetch_add(1, Ordering::Relaxed));
        }
    }

    fn stepping() -> Stepping {
        Stepping(1.into())
    }

    fn sealed(recipient: &Recipient, plain: &[u8]) -> Vec<u8> {
        let mut sealer = Sealer::begin(Vec::new(), recipient, &stepping()).expect("in memory");
        sealer.write_all(plain).expect("in memory");
        sealer.finish().expect("in memory")
    }

    fn opened(identity: &Identity, file: &[u8]) -> Result<Vec<u8>, String> {
        let mut plain = Vec::new();
        let mut opener = Opener::begin(file, identity).map_err(|error| error.to_string())?;
        opener.read_to_end(&mut plain).map_err(|error| error.to_string())?;
        Ok(plain)
    }

    #[test]
    fn what_is_sealed_opens_with_its_key_whatever_its_length() {
        let (secret, recipient) = Identity::make(&stepping());
        assert!(secret.starts_with("AGE-SECRET-KEY-1") && recipient.starts_with("age1"));
        let identity = Identity::parse(&format!("# a comment\n{}\n", *secret)).expect("its own");
        let recipient = Recipient::parse(&recipient).expect("its own");
        for len in [0, 1, CHUNK_LEN - 1, CHUNK_LEN, CHUNK_LEN + 1, 3 * CHUNK_LEN] {
            let plain: Vec<u8> =
                (0..len).map(|at| u8::try_from(at % 251).expect("small")).collect();
            assert_eq!(opened(&identity, &sealed(&recipient, &plain)), Ok(plain), "{len}");
        }
        let (other, _) = Identity::make(&Stepping(99.into()));
        let other = Identity::parse(&other).expect("a key");
        assert!(
            opened(&other, &sealed(&recipient, b"x")).is_err_and(|why| why.contains("not for"))
        );
    }

    #[test]
    fn a_passphrase_opens_what_it_sealed() {
        let phrase = |text: &str| Zeroizing::new(text.to_owned());
        let file = sealed(&Recipient::Passphrase(phrase("correct horse")), b"plain");
        assert_eq!(
            opened(&Identity::Passphrase(phrase("correct horse")), &file),
            Ok(b"plain".into())
        );
        assert!(opened(&Identity::Passphrase(phrase("wrong horse")), &file).is_err());
    }

    #[test]
    fn every_change_and_every_cut_is_noticed() {
        let (secret, recipient) = Identity::make(&stepping());
        let identity = Identity::parse(&secret).expect("its own");
        let plain = vec![7; CHUNK_LEN + 10];
        let file = sealed(&Recipient::parse(&recipient).expect("its own"), &plain);
        for at in (0..file.len()).step_by(1999).chain(0..220) {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert!(opened(&identity, &changed).is_err(), "byte {at}");
        }
        for len in [0, 1, 100, file.len() - 1, file.len() - 26, file.len() - 27] {
            assert!(opened(&identity, &file[..len]).is_err(), "cut to {len}");
        }
        assert!(opened(&identity, &[&file[..], b"x"].concat()).is_err(), "longer");
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in ["", "age1", "AGE-SECRET-KEY-1", "ssh-ed25519 x"] {
            assert!(Recipient::parse(text).is_err() && Identity::parse(text).is_err(), "{text}");
        }
        let (secret, recipient) = Identity::make(&stepping());
        assert!(Recipient::parse(&secret).is_err(), "a secret is no recipient");
        assert!(Identity::parse(&recipient).is_err(), "nor the other way about");
    }
}
