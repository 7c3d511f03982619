//! A passphrase, stretched with Argon2id over a salt that lies in the store.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::OnceLock;

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use super::{UnlockError, UnlockKey};
use crate::domain::id::{Entropy, Stream};
use crate::seal::cipher::KEY_LEN;

/// The shortest passphrase that is taken, in characters.
pub(super) const LEN_MIN: usize = 12;
/// The longest that is read, in bytes.
const LEN_MAX: u64 = 1024;

/// Memory of one derivation: 64 MiB, three passes, one lane, which takes about a fifth of a second.
/// The numbers stand for ever: with others a passphrase gives another key.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;

/// What makes the same passphrase another key in every store. It is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Salt(pub [u8; 16]);

impl Salt {
    /// A salt for a new store.
    pub fn make(entropy: &dyn Entropy) -> Salt {
        let mut salt = [0; 16];
        entropy.fill(Stream::Key, &mut salt);
        Salt(salt)
    }
}

/// Where a passphrase is read from, and what was read.
pub struct Passphrase {
    /// Opened at once: later the process is closed to others, and `/proc` with it.
    fd: Option<(u32, File)>,
    /// It can be read once.
    read: OnceLock<Zeroizing<String>>,
}

impl Passphrase {
    pub(super) fn from_fd(fd: u32) -> Result<Passphrase, UnlockError> {
        let file = File::open(format!("/proc/self/fd/{fd}")).map_err(UnlockError::Passphrase)?;
        Ok(Passphrase { fd: Some((fd, file)), read: OnceLock::new() })
    }

    pub(super) fn from_prompt() -> Passphrase {
        Passphrase { fd: None, read: OnceLock::new() }
    }

    pub(super) fn name(&self) -> String {
        self.fd.as_ref().map_or_else(|| "prompt".into(), |(fd, _)| format!("passphrase:{fd}"))
    }

    pub(super) fn key(&self, salt: &Salt) -> Result<UnlockKey, UnlockError> {
        if self.read.get().is_none() {
            let text = match &self.fd {
                Some((_, file)) => first_line(file.take(LEN_MAX)),
                None => ask(),
            };
            let _ = self.read.set(text.map_err(UnlockError::Passphrase)?);
        }
        let text = self.read.get().map_or("", |text| text.as_str());
        if text.chars().count() < LEN_MIN {
            return Err(UnlockError::Short);
        }
        Ok(derive(text, salt))
    }
}

fn derive(passphrase: &str, salt: &Salt) -> UnlockKey {
    let params = Params::new(MEMORY_KIB, PASSES, 1, Some(KEY_LEN));
    let params = params.expect("these are within the bounds of Argon2");
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), &salt.0, &mut *bytes)
        .expect("a passphrase and a salt of bounded lengths can be hashed");
    UnlockKey::from_bytes(*bytes)
}

/// The first line of what there is to read, without its end.
///
/// # Errors
/// It cannot be read, or is no text.
pub fn first_line(source: impl io::Read) -> io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::with_capacity(1024));
    BufReader::new(source).read_line(&mut line)?;
    let len = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(len);
    Ok(line)
}

/// Asks the person at the terminal, who does not see what is typed.
fn ask() -> io::Result<Zeroizing<String>> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let mut terminal = File::options().read(true).write(true).open("/dev/tty")?;
    terminal.write_all(b"Passphrase of the store: ")?;
    let shown = tcgetattr(terminal.as_fd())?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(terminal.as_fd(), OptionalActions::Flush, &hidden)?;
    let typed = first_line((&terminal).take(LEN_MAX));
    tcsetattr(terminal.as_fd(), OptionalActions::Flush, &shown)?;
    terminal.write_all(b"\n")?;
    typed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_gives_one_key_for_each_salt() {
        let (one, other) = (Salt([1; 16]), Salt([2; 16]));
        let key = derive("correct horse battery", &one);
        assert!(key.is(&derive("correct horse battery", &one)));
        assert!(!key.is(&derive("correct horse battery", &other)));
        assert!(!key.is(&derive("correct horse batterz", &one)));
    }

    #[test]
    fn a_short_passphrase_is_refused() {
        use std::io::Seek as _;
        use std::os::fd::AsRawFd as _;
        let path = std::env::temp_dir().join(format!("purser-passphrase-{}", std::process::id()));
        let mut file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = file.as_mut().expect("a file");
        let _ = std::fs::remove_file(&path);
        let mut key = |text: &str| {
            file.set_len(0).and_then(|()| file.rewind()).expect("a file");
            file.write_all(text.as_bytes()).expect("a file");
            let fd = u32::try_from(file.as_raw_fd()).expect("open");
            Passphrase::from_fd(fd).and_then(|passphrase| passphrase.key(&Salt([1; 16])))
        };
        assert!(matches!(key("hunter2\n"), Err(UnlockError::Short)));
        let expected = derive("correct horse battery", &Salt([1; 16]));
        assert!(key("correct horse battery\r\nmore").is_ok_and(|key| key.is(&expected)));
    }
}
