//! Where the lock key comes from: the key that the ring is sealed under, and that is never stored
//! with it.
//!
//! ```text
//!   credential:NAME   a credential of the service manager ($CREDENTIALS_DIRECTORY)
//!   file:PATH         a file with the key, mode 0600                                [file]
//!   passphrase:FD     a passphrase from a file descriptor, stretched with Argon2id  [passphrase]
//!   prompt            the same, typed by a person
//!   exec:COMMAND …    what a command prints: the door to KMS, TPM, password managers [exec]
//! ```
//!
//! The providers form a chain. The first that has a key which opens the ring is taken; if one before
//! it has a key as well, the ring is moved to that: who wants another provider puts it in front.
//!
//! Of two kinds is the key itself: one that a provider has, and one that only users know, which is
//! Swarm's autolock ([`UnlockKey::autolock`]).

mod exec;
mod file;
mod passphrase;

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

use self::passphrase::Passphrase;
pub use self::passphrase::{Salt, first_line};
use super::cipher::{CipherKey, KEY_LEN};
use super::envelope::SealingKey;
use super::keyring::KeyId;

/// What the text of a key that users know begins with.
const AUTOLOCK_PREFIX: &str = "SWMKEY-1-";

/// The key that the keyring is sealed under.
pub struct UnlockKey {
    id: KeyId,
    root: CipherKey,
    sealing: SealingKey,
}

/// The unlock key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum UnlockError {
    /// There is no such file.
    #[error("no unlock key at {0}")]
    Missing(PathBuf),
    /// No provider has a key.
    #[error("no provider has an unlock key: {0}")]
    None(String),
    /// The file cannot be read or written.
    #[error("unlock key file {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others than its owner may read or write the file.
    #[error(
        "unlock key file {path} has mode {mode:04o}: others than its owner may use it; \
         run chmod 600 on it and consider whether the key is still a secret"
    )]
    Open {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// What a provider has is no key.
    #[error("{0} does not hold 64 hexadecimal digits")]
    Malformed(String),
    /// The file lies beside the data it protects.
    #[error(
        "unlock key file {0} lies inside the data directory: whoever copies the data has the key \
         as well; keep it elsewhere"
    )]
    BesideData(PathBuf),
    /// A provider that is not known, or is said in other words.
    #[error(
        "'{0}' is no provider of unlock keys: credential:NAME, file:PATH, passphrase:FD, prompt \
         or exec:COMMAND"
    )]
    Unknown(String),
    /// No passphrase came.
    #[error("reading the passphrase")]
    Passphrase(#[source] io::Error),
    /// A passphrase that anybody would guess.
    #[error("the passphrase is shorter than {} characters", passphrase::LEN_MIN)]
    Short,
    /// A command that should print a key.
    #[error("the command {command} {why}")]
    Command {
        /// Which.
        command: String,
        /// What it did.
        why: String,
    },
}

impl UnlockKey {
    /// A key that a provider has.
    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> UnlockKey {
        UnlockKey::new(KeyId::LOCK, bytes)
    }

    /// A key that only users know.
    pub fn autolock(bytes: [u8; KEY_LEN]) -> UnlockKey {
        UnlockKey::new(KeyId::AUTOLOCK, bytes)
    }

    /// A key that a user typed: `SWMKEY-1-` and the bytes in base64.
    pub fn parse_autolock(text: &str) -> Option<UnlockKey> {
        let digits = text.strip_prefix(AUTOLOCK_PREFIX)?;
        let bytes = Zeroizing::new(STANDARD_NO_PAD.decode(digits).ok()?);
        bytes.as_slice().try_into().ok().map(UnlockKey::autolock)
    }

    /// The key as its users note it down.
    pub fn autolock_text(&self) -> Zeroizing<String> {
        // A door: the key is for who asks for it, and is shown to nobody else.
        let mut text = Zeroizing::new(String::with_capacity(64));
        text.push_str(AUTOLOCK_PREFIX);
        STANDARD_NO_PAD.encode_string(self.root.expose(), &mut text);
        text
    }

    fn new(id: KeyId, bytes: [u8; KEY_LEN]) -> UnlockKey {
        let root = CipherKey::new(bytes);
        let sealing = SealingKey::new(id, &root);
        UnlockKey { id, root, sealing }
    }

    /// Tells the two kinds of lock keys apart.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// True for the same key.
    pub fn is(&self, other: &UnlockKey) -> bool {
        use subtle::ConstantTimeEq as _;
        self.id == other.id && bool::from(self.root.expose().ct_eq(other.root.expose()))
    }

    pub(super) fn root(&self) -> &CipherKey {
        &self.root
    }

    pub(super) fn sealing(&self) -> &SealingKey {
        &self.sealing
    }
}

/// One place that a key may come from.
pub enum Provider {
    /// A credential of the service manager.
    Credential(String),
    /// A file with the key.
    File(PathBuf),
    /// A passphrase.
    Passphrase(Passphrase),
    /// What a command prints; its words.
    Exec(Vec<String>),
    /// A key that is at hand.
    Key(Zeroizing<[u8; KEY_LEN]>),
}

impl Provider {
    /// Reads the words for a provider, as in `file:/etc/purser/unlock.key`.
    ///
    /// # Errors
    /// There is no such provider.
    pub fn parse(text: &str) -> Result<Provider, UnlockError> {
        let unknown = || UnlockError::Unknown(text.to_owned());
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        match (kind, rest) {
            ("credential", name) if !name.is_empty() && !name.contains('/') => {
                Ok(Provider::Credential(name.to_owned()))
            }
            ("file", path) if !path.is_empty() => Ok(Provider::File(path.into())),
            ("passphrase", fd) => {
                let fd = fd.parse().map_err(|_| unknown())?;
                Ok(Provider::Passphrase(Passphrase::from_fd(fd)?))
            }
            ("prompt", "") => Ok(Provider::Passphrase(Passphrase::from_prompt())),
            ("exec", command) => {
                let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
                if words.is_empty() { Err(unknown()) } else { Ok(Provider::Exec(words)) }
            }
            _ => Err(unknown()),
        }
    }

    /// The provider in words.
    pub fn name(&self) -> String {
        match self {
            Provider::Credential(name) => format!("credential:{name}"),
            Provider::File(path) => format!("file:{}", path.display()),
            Provider::Passphrase(passphrase) => passphrase.name(),
            Provider::Exec(words) => format!("exec:{}", words.join(" ")),
            Provider::Key(_) => "a key at hand".into(),
        }
    }

    /// Its key; `None` if it has none.
    fn key(&self, data_dir: &Path, salt: &Salt) -> Result<Option<UnlockKey>, UnlockError> {
        match self {
            Provider::Credential(name) => {
                let Some(dir) = std::env::var_os("CREDENTIALS_DIRECTORY") else { return Ok(None) };
                file::read_credential(&PathBuf::from(dir).join(name))
            }
            Provider::File(path) => match UnlockKey::read(path, data_dir) {
                Err(UnlockError::Missing(_)) => Ok(None),
                read => read.map(Some),
            },
            Provider::Passphrase(passphrase) => passphrase.key(salt).map(Some),
            Provider::Exec(words) => exec::key(words).map(Some),
            Provider::Key(bytes) => Ok(Some(UnlockKey::from_bytes(**bytes))),
        }
    }
}

/// The providers, in their order.
pub struct Providers {
    providers: Vec<Provider>,
    /// Where no key may lie.
    data_dir: PathBuf,
}

impl Providers {
    /// Keys for the store in `data_dir`.
    pub fn new(providers: Vec<Provider>, data_dir: PathBuf) -> Providers {
        Providers { providers, data_dir }
    }

    /// The one key that is at hand.
    pub fn of_key(bytes: [u8; KEY_LEN]) -> Providers {
        Providers::new(vec![Provider::Key(Zeroizing::new(bytes))], PathBuf::new())
    }

    /// The key of the first provider that has one.
    ///
    /// # Errors
    /// None has, or one that comes before fails.
    pub fn first(&self, salt: &Salt) -> Result<UnlockKey, UnlockError> {
        for provider in &self.providers {
            if let Some(key) = provider.key(&self.data_dir, salt)? {
                return Ok(key);
            }
        }
        Err(self.none())
    }

    /// The first key that `opens` takes, and what it makes of it; and the key that came before it, to
    /// which the ring should move.
    ///
    /// # Errors
    /// No provider has a key, or one fails. `Ok(Err)` is what the first key was refused for.
    pub fn open<T, E>(
        &self,
        salt: &Salt,
        mut opens: impl FnMut(UnlockKey) -> Result<T, E>,
    ) -> Result<Result<(T, Option<UnlockKey>), E>, UnlockError> {
        let mut refused = None;
        for (at, provider) in self.providers.iter().enumerate() {
            let Some(key) = provider.key(&self.data_dir, salt)? else { continue };
            match opens(key) {
                Ok(opened) => {
                    let before = &self.providers[..at];
                    let better = before
                        .iter()
                        .find_map(|provider| provider.key(&self.data_dir, salt).ok().flatten());
                    return Ok(Ok((opened, better)));
                }
                Err(error) => {
                    refused.get_or_insert(error);
                }
            }
        }
        refused.map(Err).ok_or_else(|| self.none())
    }

    fn none(&self) -> UnlockError {
        let names: Vec<String> = self.providers.iter().map(Provider::name).collect();
        UnlockError::None(names.join(", "))
    }
}
