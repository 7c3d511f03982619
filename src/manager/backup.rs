//! Backups: one file with all that a swarm is, for whoever holds the recovery key.
//!
//! ```text
//!   age file ▶ "purser backup 1" ▶ one line of JSON: which store, when, and a key ▶ the store's copy
//! ```
//!
//! The copy is a store like any other, its keys sealed under the key in the line before it. So a backup
//! needs neither the unlock key nor, with autolock, the key of its users.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Manager, Told};
use crate::domain::actor::Actor;
use crate::domain::audit::{Note, Outcome};
use crate::domain::id::{Entropy, Stream};
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::time::Timestamp;
use crate::seal::age::{AgeError, Identity, Opener, Recipient, Sealer};
use crate::seal::hex;
use crate::seal::unlock::UnlockKey;
use crate::store::SCRATCH_PREFIX;

/// What a backup begins with.
const MAGIC: &str = "purser backup 1";
/// The longest line before the copy.
const LINE_MAX: u64 = 4096;

/// What a backup says of itself.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Header {
    /// Names the store.
    pub store: String,
    /// The last write in it.
    pub version: u64,
    /// When it was made.
    pub made_at: Timestamp,
    /// The release that made it.
    pub release: String,
    /// The key that the copy's keys are sealed under, in hexadecimal digits.
    key: Zeroizing<String>,
}

impl Header {
    /// The key that opens the copy.
    pub fn key(&self) -> Option<Zeroizing<[u8; 32]>> {
        hex::parse(&self.key)
    }
}

/// A backup cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file.
    #[error("the file")]
    File(#[from] AgeError),
    /// What is in it is no backup, or one of a newer release.
    #[error("it is no backup that this release knows")]
    Format,
    /// It was changed, cut short, or cannot be read.
    #[error("reading the backup")]
    Io(#[from] io::Error),
}

/// A file that is gone when it is dropped, if nobody kept it.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Manager {
    /// Makes a backup in a file of its own in `dir`, opened for reading and already without a name.
    ///
    /// # Errors
    /// It cannot be made.
    pub async fn backup(
        &self,
        actor: Actor,
        recipient: Recipient,
        dir: &Path,
    ) -> Result<File, Refusal> {
        let failed = |what: &str, error: &(dyn std::error::Error + 'static)| {
            tracing::error!(error, "{what}");
            Refusal::front(Reason::Unknown, format!("{what}: {error}"))
        };
        let mut bytes = Zeroizing::new([0; 32]);
        self.entropy().fill(Stream::Key, &mut *bytes);
        let mut name = [0; 8];
        self.entropy().fill(Stream::Other, &mut name);
        let name = u64::from_le_bytes(name);
        let copy = Scratch(dir.join(format!("{SCRATCH_PREFIX}{name:016x}.copy")));
        let lock = UnlockKey::from_bytes(*bytes);
        let snapshot = self.store().snapshot(&copy.0, lock, self.entropy()).await;
        let snapshot = snapshot.map_err(|error| failed("the store could not be copied", &error))?;
        let header = Header {
            store: snapshot.store,
            version: snapshot.version,
            made_at: self.clock().now(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
            key: Zeroizing::new(hex::text(&*bytes)),
        };
        let note = Note::new(actor, "backup make").with(format!("version {}", header.version));
        self.tell(vec![Told { note, outcome: Outcome::Done }]).await?;
        let entropy = self.inner.entropy.clone();
        let file = dir.join(format!("{SCRATCH_PREFIX}{name:016x}.age"));
        let written = tokio::task::spawn_blocking(move || {
            let file = Scratch(file);
            write(&copy.0, &file.0, &header, &recipient, &*entropy)
        });
        written
            .await
            .map_err(io::Error::other)
            .flatten()
            .map_err(|error| failed("the backup could not be written", &error))
    }
}

fn write(
    copy: &Path,
    to: &Path,
    header: &Header,
    recipient: &Recipient,
    entropy: &dyn Entropy,
) -> io::Result<File> {
    let mut options = File::options();
    let file = options.read(true).write(true).create_new(true).mode(0o600).open(to)?;
    let mut sealer = Sealer::begin(BufWriter::new(file), recipient, entropy)?;
    writeln!(sealer, "{MAGIC}")?;
    let line = Zeroizing::new(serde_json::to_vec(header)?);
    sealer.write_all(&line)?;
    sealer.write_all(b"\n")?;
    io::copy(&mut File::open(copy)?, &mut sealer)?;
    let mut file = sealer.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    io::Seek::rewind(&mut file)?;
    Ok(file)
}

/// Reads a backup: what it says of itself, and then its copy of the store.
///
/// # Errors
/// It is none, or not for this identity.
pub fn read<R: Read>(
    input: R,
    identity: &Identity,
) -> Result<(Header, impl Read + use<R>), ReadError> {
    let mut plain = BufReader::new(Opener::begin(input, identity)?);
    let mut line = |max: u64| -> Result<Zeroizing<String>, ReadError> {
        let mut line = Zeroizing::new(String::new());
        (&mut plain).take(max).read_line(&mut line)?;
        if line.ends_with('\n') { Ok(line) } else { Err(ReadError::Format) }
    };
    if line(LINE_MAX)?.trim_end() != MAGIC {
        return Err(ReadError::Format);
    }
    let header = serde_json::from_str(&line(LINE_MAX)?).map_err(|_| ReadError::Format)?;
    Ok((header, plain))
}
