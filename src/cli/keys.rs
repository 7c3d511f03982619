//! `purser keys`: the keys of a running purser.

use serde::Deserialize;

use super::client;
use super::endpoint::Endpoint;
use crate::config::Options;

/// Options of `keys`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show which keys there are, how old they are, and how many objects need each
    List {
        #[command(flatten)]
        options: Box<Options>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make new keys and seal with them what the old ones sealed; payloads stay as they are
    Rotate {
        #[command(flatten)]
        options: Box<Options>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Key {
    #[serde(rename = "ID")]
    id: u32,
    #[serde(rename = "Use")]
    usage: String,
    made_at: String,
    active: bool,
    objects: u64,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::List { options, json } => {
            let purser = Endpoint::Unix(options.resolve()?.http.socket);
            let text = client::request(&purser, None, "GET", "/purser/keys", "")?;
            if json {
                print!("{text}");
                return Ok(());
            }
            let keys: Vec<Key> = serde_json::from_str(&text)?;
            println!("{:<5}{:<13}{:<32}{:<8}OBJECTS", "ID", "USE", "MADE", "ACTIVE");
            for key in keys {
                let active = if key.active { "yes" } else { "no" };
                let Key { id, usage, made_at, objects, .. } = key;
                println!("{id:<5}{usage:<13}{made_at:<32}{active:<8}{objects}");
            }
        }
        Action::Rotate { options } => {
            let purser = Endpoint::Unix(options.resolve()?.http.socket);
            client::request(&purser, None, "POST", "/purser/keys/rotate", "")?;
            println!("The keys were rotated.");
        }
    }
    Ok(())
}
