//! `purser restore`: a store from a backup, on this host or another one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};

use super::recovery::{OpenWith, sync_dir_of};
use super::serve::providers;
use super::up::make_first_key;
use crate::app::{Moved, Recovered, look_at, unpack};
use crate::config::{Config, Options};
use crate::seal::unlock::Providers;
use crate::store;

/// Options of `restore`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The backup
    file: PathBuf,
    #[command(flatten)]
    open_with: OpenWith,
    /// Restore although the store that is there is the same one and has later writes, which are lost
    #[arg(long)]
    accept_older: bool,
    /// Restore although another store is there, or one that cannot be opened, which is lost
    #[arg(long)]
    replace: bool,
    /// Where nodes are listened for, if elsewhere than before
    #[arg(long, value_name = "ADDR:PORT")]
    listen_addr: Option<SocketAddr>,
    /// What nodes are told, if something else than before. Nodes look for the manager where it was;
    /// the address has to move with it, or they have to join again
    #[arg(long, value_name = "ADDR:PORT")]
    advertise_addr: Option<SocketAddr>,
    #[command(flatten)]
    options: Box<Options>,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let config = args.options.clone().resolve()?;
    let identity = args.open_with.identity()?;
    let data_dir = &config.store.data_dir;
    std::fs::create_dir_all(data_dir).with_context(|| format!("{}", data_dir.display()))?;
    let draft = data_dir.join("restore.new");
    let _ = std::fs::remove_dir_all(&draft);
    let moved = Moved {
        listen_addr: args.listen_addr.map(|addr| addr.to_string()),
        advertise_addr: args.advertise_addr.map(|addr| addr.to_string()),
    };
    // Once for all: a passphrase can be read from a pipe only once.
    let providers = providers(&config)?;
    make_first_key(&config, &providers)?;
    let restored = unpack(&args.file, &identity, &draft, Some(providers.clone()), &moved).and_then(
        |recovered| {
            check_present(&args, &config, providers, &recovered)?;
            put_in_place(&draft, data_dir)?;
            Ok(recovered)
        },
    );
    let _ = std::fs::remove_dir_all(&draft);
    let Recovered { store, version, made_at, objects, records } = restored?;
    println!(
        "restored store {store}, version {version} of {made_at}: {objects} objects, {records} audit \
         records; start purser as usual"
    );
    Ok(())
}

/// What is there already must not be lost without a word for it.
fn check_present(
    args: &Args,
    config: &Config,
    providers: Arc<Providers>,
    recovered: &Recovered,
) -> anyhow::Result<()> {
    match look_at(&config.store.data_dir, providers) {
        Ok(None) => Ok(()),
        Ok(Some((id, version))) if id == recovered.store => {
            if version > recovered.version && !args.accept_older {
                bail!(
                    "the store that is there has version {version}, and the backup only {}: what was \
                     written in between would be lost, and what was taken back in between would be \
                     in force again; --accept-older does it all the same",
                    recovered.version
                );
            }
            Ok(())
        }
        Ok(Some((id, _))) if !args.replace => {
            bail!("another store, {id}, is there; --replace gives it up")
        }
        Err(error) if !args.replace => {
            Err(error.context("a store is there that cannot be opened; --replace gives it up"))
        }
        Ok(Some(_)) | Err(_) => Ok(()),
    }
}

/// The one step after which the store is the restored one; before it, everything is as it was.
fn put_in_place(draft: &Path, data_dir: &Path) -> anyhow::Result<()> {
    let _lock = store::lock(data_dir)?;
    // The log of another database would be taken for this one's.
    for name in store::LOG_FILES {
        match std::fs::remove_file(data_dir.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    let to = data_dir.join(store::FILE);
    std::fs::rename(draft.join(store::FILE), &to)?;
    sync_dir_of(&to)?;
    Ok(())
}
