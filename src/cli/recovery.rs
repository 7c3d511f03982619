//! What the commands for backups have in common: whom a file is for, and how one is opened.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use zeroize::Zeroizing;

use crate::seal::age::Identity;
use crate::seal::unlock::first_line;

/// How a backup is opened.
#[derive(Debug, clap::Args)]
pub(super) struct OpenWith {
    /// File with the secret key (AGE-SECRET-KEY-1…) of the recipient
    #[arg(long, value_name = "PATH")]
    identity: Option<PathBuf>,
    /// File descriptor to read the passphrase from
    #[arg(long, value_name = "FD")]
    passphrase_fd: Option<u32>,
}

impl OpenWith {
    pub(super) fn identity(&self) -> anyhow::Result<Identity> {
        match (&self.identity, self.passphrase_fd) {
            (Some(path), None) => {
                let text = Zeroizing::new(
                    std::fs::read_to_string(path)
                        .with_context(|| format!("the identity {}", path.display()))?,
                );
                Ok(Identity::parse(&text)?)
            }
            (None, Some(fd)) => Ok(Identity::Passphrase(read_passphrase(fd)?)),
            _ => bail!("say with --identity or --passphrase-fd how the backup is opened"),
        }
    }
}

/// The first line of what a file descriptor has.
pub(super) fn read_passphrase(fd: u32) -> anyhow::Result<Zeroizing<String>> {
    let file = std::fs::File::open(format!("/proc/self/fd/{fd}"))
        .with_context(|| format!("file descriptor {fd}"))?;
    first_line(file).context("reading the passphrase")
}

/// Makes sure that a new name of a file survives a crash.
pub(super) fn sync_dir_of(path: &Path) -> std::io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    std::fs::File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
}
