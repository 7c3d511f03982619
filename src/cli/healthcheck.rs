//! `purser healthcheck`: for containers and scripts.

use std::time::Duration;

use super::endpoint::Endpoint;
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
    super::client::request(
        &Endpoint::Unix(config.http.socket),
        Some(ANSWER_TIME),
        "GET",
        "/readyz",
        "",
    )?;
    Ok(())
}
