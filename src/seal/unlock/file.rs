//! A file with 64 hexadecimal digits, readable by its owner only.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use super::{UnlockError, UnlockKey};
use crate::domain::id::{Entropy, Stream};
use crate::seal::cipher::KEY_LEN;
use crate::seal::hex;

impl UnlockKey {
    /// Reads the key from its file.
    ///
    /// # Errors
    /// The file is missing, malformed, open to others, or inside of `data_dir`.
    pub fn read(path: &Path, data_dir: &Path) -> Result<UnlockKey, UnlockError> {
        let io = |source| UnlockError::Io { path: path.into(), source };
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(UnlockError::Missing(path.into()));
            }
            opened => opened.map_err(io)?,
        };
        refuse_beside_data(path, data_dir)?;
        let mode = file.metadata().map_err(io)?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(UnlockError::Open { path: path.into(), mode });
        }
        let mut text = Zeroizing::new(String::with_capacity(128));
        std::io::Read::take(&file, 128).read_to_string(&mut text).map_err(io)?;
        let bytes = hex::parse(text.trim())
            .ok_or_else(|| UnlockError::Malformed(format!("unlock key file {}", path.display())))?;
        Ok(UnlockKey::from_bytes(*bytes))
    }

    /// Makes a new key and its file, with mode 0600. An existing file is left alone.
    ///
    /// # Errors
    /// The file is there already, cannot be written, or is inside of `data_dir`.
    pub fn make(
        path: &Path,
        data_dir: &Path,
        entropy: &dyn Entropy,
    ) -> Result<UnlockKey, UnlockError> {
        let io = |source| UnlockError::Io { path: path.into(), source };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            use std::os::unix::fs::DirBuilderExt as _;
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(io)?;
        }
        refuse_beside_data(path, data_dir)?;
        let mut bytes = Zeroizing::new([0; KEY_LEN]);
        entropy.fill(Stream::Key, &mut *bytes);
        let mut text = Zeroizing::new(String::with_capacity(2 * KEY_LEN + 1));
        hex::push(&mut text, &*bytes);
        text.push('\n');
        // Written under another name and linked into place whole: a crash leaves no half key, and
        // two processes at once do not overwrite one another's.
        let draft = path.with_extension(format!("new-{}", std::process::id()));
        let written =
            write_new(&draft, text.as_bytes()).and_then(|()| std::fs::hard_link(&draft, path));
        let _ = std::fs::remove_file(&draft);
        written
            .and_then(|()| File::open(parent.unwrap_or(Path::new(".")))?.sync_all())
            .map_err(io)?;
        Ok(UnlockKey::from_bytes(*bytes))
    }
}

/// A credential of the service manager, which keeps it from others by itself: the digits, or the key's
/// 32 bytes as they are.
pub(super) fn read_credential(path: &Path) -> Result<Option<UnlockKey>, UnlockError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(128));
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.and_then(|file| file.take(128).read_to_end(&mut bytes)),
    }
    .map_err(|source| UnlockError::Io { path: path.into(), source })?;
    let malformed = || UnlockError::Malformed(format!("credential {}", path.display()));
    from_output(&bytes).map(Some).ok_or_else(malformed)
}

/// A key as 64 hexadecimal digits, white space around them, or as its 32 bytes.
pub(super) fn from_output(bytes: &[u8]) -> Option<UnlockKey> {
    let raw: Result<[u8; KEY_LEN], _> = bytes.try_into();
    let key = match raw {
        Ok(key) => Zeroizing::new(key),
        Err(_) => hex::parse(std::str::from_utf8(bytes).ok()?.trim())?,
    };
    Some(UnlockKey::from_bytes(*key))
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn refuse_beside_data(path: &Path, data_dir: &Path) -> Result<(), UnlockError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    match (parent.canonicalize(), data_dir.canonicalize()) {
        (Ok(parent), Ok(data_dir)) if parent.starts_with(&data_dir) => {
            Err(UnlockError::BesideData(path.into()))
        }
        _ => Ok(()),
    }
}
