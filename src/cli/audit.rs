//! `purser audit`: the audit of a running purser.

use std::io::{Write as _, copy};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::client;
use super::endpoint::Endpoint;
use crate::config::Options;

/// Options of `audit`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Print the newest records, a line of JSON each
    Tail {
        #[command(flatten)]
        options: Box<Options>,
        #[command(flatten)]
        filter: Filter,
        /// How many of the newest to look at
        #[arg(short = 'n', long, default_value_t = 20)]
        lines: u64,
        /// Go on with those to come
        #[arg(short, long)]
        follow: bool,
    },
    /// Check that no record was removed, changed or moved; exit code 0 if the chain is whole
    Verify {
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Print all records, a line of JSON each. Every line holds the SHA-256 of the one before
    Export {
        #[command(flatten)]
        options: Box<Options>,
        #[command(flatten)]
        filter: Filter,
        /// Number of the first record
        #[arg(long, default_value_t = 1)]
        from: u64,
    },
}

/// Which records.
#[derive(Debug, clap::Args)]
struct Filter {
    /// Only records about this object: its name, its id or the beginning of it
    #[arg(long)]
    object: Option<String>,
    /// Only records of this actor, as in uid:0 or cert:ann
    #[arg(long)]
    actor: Option<String>,
}

impl Filter {
    fn query(&self) -> String {
        let part = |key: &str, value: &Option<String>| {
            let value = value.as_deref().unwrap_or_default();
            format!("{key}={}&", utf8_percent_encode(value, NON_ALPHANUMERIC))
        };
        part("object", &self.object) + &part("actor", &self.actor)
    }
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let (options, query) = match args.action {
        Action::Tail { options, filter, lines, follow } => {
            (options, format!("{}tail={lines}&follow={}", filter.query(), u8::from(follow)))
        }
        Action::Export { options, filter, from } => {
            (options, format!("{}from={from}", filter.query()))
        }
        Action::Verify { options } => {
            let purser = Endpoint::Unix(options.resolve()?.http.socket);
            let text = client::request(&purser, None, "GET", "/purser/audit/verify", "")?;
            print!("{text}");
            return Ok(());
        }
    };
    let purser = Endpoint::Unix(options.resolve()?.http.socket);
    let path = format!("/purser/audit?{query}");
    let mut lines = client::open(&purser, None, "GET", &path, "")?;
    let mut out = std::io::stdout().lock();
    copy(&mut lines, &mut out)?;
    out.flush()?;
    Ok(())
}
