//! `purser healthcheck`: for containers and scripts.

use std::time::Duration;

use crate::config::Options;

/// Options of `healthcheck`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    options: Options,
}

/// How long purser may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let config = args.options.resolve()?;
    let text = "GET /readyz HTTP/1.1\r\nHost: purser\r\nConnection: close\r\n\r\n";
    super::up::request(&config.http.socket, ANSWER_TIME, text)?;
    Ok(())
}
