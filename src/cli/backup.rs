//! `purser backup`: makes a backup of a running purser, and checks one.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::json;
use zeroize::Zeroizing;

use super::client;
use super::endpoint::Endpoint;
use super::recovery::{OpenWith, read_passphrase, sync_dir_of};
use crate::app::{Moved, Recovered, SystemEntropy, unpack};
use crate::config::Options;
use crate::seal::age::Identity;

/// Options of `backup`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// The file to make
    file: Option<PathBuf>,
    /// Whom it is for: age1…
    #[arg(long, value_name = "RECIPIENT", env = "PURSER_BACKUP_RECIPIENT")]
    recipient: Option<String>,
    /// File descriptor to read the passphrase from that it is sealed with instead
    #[arg(long, value_name = "FD")]
    passphrase_fd: Option<u32>,
    #[command(flatten)]
    options: Box<Options>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a recovery key: a file for the secret half, which belongs somewhere else; the recipient
    /// is printed
    Key {
        /// The file to make
        file: PathBuf,
    },
    /// Check that a backup can be restored: all of it is read, and the store in it opened
    Verify {
        /// The backup
        file: PathBuf,
        #[command(flatten)]
        open_with: OpenWith,
    },
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    match args.action {
        Some(Action::Key { file }) => make_key(&file),
        Some(Action::Verify { file, open_with }) => verify(&file, &open_with.identity()?),
        None => {
            let file = args.file.context("say which file to make")?;
            let wish = match (args.recipient, args.passphrase_fd) {
                (Some(recipient), None) => json!({"Recipient": recipient}),
                (None, Some(fd)) => json!({"Passphrase": *read_passphrase(fd)?}),
                _ => bail!("say with --recipient or --passphrase-fd whom the backup is for"),
            };
            let purser = Endpoint::Unix(args.options.resolve()?.http.socket);
            let wish = Zeroizing::new(wish.to_string());
            make(&purser, &file, &wish)
        }
    }
}

/// The file has its name once it is whole.
fn make(purser: &Endpoint, file: &Path, wish: &str) -> anyhow::Result<()> {
    let draft = file.with_extension(format!("new-{}", std::process::id()));
    let mut sent = client::open(purser, None, "POST", "/purser/backup", wish)?;
    let mut write = || -> anyhow::Result<u64> {
        let mut options = File::options();
        let mut out = options.write(true).create_new(true).mode(0o600).open(&draft)?;
        let len = std::io::copy(&mut sent, &mut out)?;
        out.sync_all()?;
        std::fs::rename(&draft, file)?;
        sync_dir_of(file)?;
        Ok(len)
    };
    let written = write();
    let _ = std::fs::remove_file(&draft);
    let len = written.with_context(|| format!("writing {}", file.display()))?;
    println!("{}: {len} bytes", file.display());
    Ok(())
}

fn make_key(file: &Path) -> anyhow::Result<()> {
    let (secret, recipient) = Identity::make(&SystemEntropy);
    let mut options = File::options();
    let out = options.write(true).create_new(true).mode(0o600).open(file);
    let mut out = out.with_context(|| format!("making {}", file.display()))?;
    writeln!(out, "# public key: {recipient}\n{}", *secret)?;
    out.sync_all()?;
    println!("{recipient}");
    Ok(())
}

fn verify(file: &Path, identity: &Identity) -> anyhow::Result<()> {
    let dir = std::env::temp_dir().join(format!("purser-verify-{}", std::process::id()));
    let checked = unpack(file, identity, &dir, None, &Moved::default());
    let _ = std::fs::remove_dir_all(&dir);
    let Recovered { store, version, made_at, objects, records } = checked?;
    println!(
        "{}: store {store}, version {version}, made {made_at}, {objects} objects, {records} audit \
         records; it can be restored",
        file.display()
    );
    Ok(())
}
