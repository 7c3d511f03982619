//! `purser key make`: an unlock key for `purser serve`.

use anyhow::Context as _;

use crate::app::SystemEntropy;
use crate::config::Options;
use crate::seal::unlock::UnlockKey;

/// Options of `key`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make the unlock-key file; one that exists is left alone
    Make {
        #[command(flatten)]
        options: Box<Options>,
    },
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let Action::Make { options } = args.action;
    let config = options.resolve()?;
    let path = &config.unlock_key_file;
    UnlockKey::make(path, &config.store.data_dir, &SystemEntropy)
        .with_context(|| format!("making {}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}
