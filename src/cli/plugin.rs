//! The same program as a plugin of the docker command: `docker purser secret …`, on the daemon that docker
//! would talk to.
//!
//! Docker finds it under the name `docker-purser` in `~/.docker/cli-plugins`, asks it once for what it is,
//! and then runs it with docker's own arguments.

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde_json::json;

use super::{context, secret};

/// The name that docker looks for.
const NAME: &str = "docker-purser";
/// The argument with which it asks what the plugin is.
const METADATA: &str = "docker-cli-plugin-metadata";

/// Values of secrets under the same name: set, rotate, roll back, and see who has which
#[derive(Debug, Parser)]
#[command(name = "docker", bin_name = "docker", version)]
struct Docker {
    #[command(flatten)]
    flags: context::Flags,
    #[command(subcommand)]
    command: Plugin,
}

#[derive(Debug, Subcommand)]
enum Plugin {
    /// Secrets of purser
    #[command(subcommand)]
    Purser(Command),
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Change values of secrets under the same name, and see who has which
    #[command(after_help = secret::EXIT_CODES)]
    Secret(secret::Asked),
}

/// True when docker calls.
pub(super) fn is_called() -> bool {
    let name = std::env::args_os().next();
    let name = name.as_deref().and_then(|name| Path::new(name).file_name());
    name.is_some_and(|name| name == NAME)
}

pub(super) fn run() -> anyhow::Result<ExitCode> {
    if std::env::args().nth(1).as_deref() == Some(METADATA) {
        let metadata = json!({
            "SchemaVersion": "0.1.0",
            "Vendor": "purser",
            "Version": env!("CARGO_PKG_VERSION"),
            "ShortDescription": "Change values of secrets under the same name",
        });
        println!("{metadata}");
        return Ok(ExitCode::SUCCESS);
    }
    let Docker { flags, command: Plugin::Purser(Command::Secret(asked)) } = Docker::parse();
    secret::answer(&flags.endpoint()?, asked)
}
