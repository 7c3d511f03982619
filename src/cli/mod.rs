//! The command line: one file a command.

mod audit;
mod backup;
mod client;
mod context;
mod doctor;
mod endpoint;
mod healthcheck;
mod key;
mod keys;
mod logging;
mod openapi;
mod plugin;
mod process;
mod recovery;
mod restore;
mod secret;
mod serve;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Secrets and services for containers: Docker Swarm's control plane, with everything sealed at
/// rest.
///
/// purser serves the Docker Engine API on a socket of its own, so that the docker command works
/// with it as it is:
///
///     purser up
///     export DOCKER_HOST=unix:///run/purser/purser.sock
///     printf "This is a secret" | docker secret create my_secret -
///     docker service create --name redis --secret my_secret redis:alpine
///
/// Every Docker Engine (20.10 or newer) becomes a node with `docker swarm join` and the token that
/// `docker swarm join-token worker` prints. Nothing is installed there.
#[derive(Debug, Parser)]
#[command(name = "purser", version, verbatim_doc_comment)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve, make a swarm if there is none, and attach the engine of this host
    Up(up::Args),
    /// Serve; outside of a swarm, wait for `docker swarm init`
    Serve(serve::Args),
    /// Ask a running purser whether it is ready; exit code 0 if it is
    Healthcheck(healthcheck::Args),
    /// Make an unlock key
    Key(key::Args),
    /// List or rotate the keys of a running purser
    Keys(keys::Args),
    /// Read or check the audit of a running purser
    Audit(audit::Args),
    /// Make a backup of a running purser, or check one
    Backup(backup::Args),
    /// Make a store from a backup
    Restore(restore::Args),
    /// Change values of secrets under the same name, and see who has which
    #[command(after_help = secret::EXIT_CODES)]
    Secret(secret::Args),
    /// Say what of its promises this host lets purser keep
    Doctor(doctor::Args),
    /// Print the API document
    Openapi,
}

/// Runs the command that the arguments name.
pub fn run() -> ExitCode {
    if plugin::is_called() {
        return finish(plugin::run());
    }
    finish(match Cli::parse().command {
        Command::Doctor(args) => doctor::run(args),
        Command::Secret(args) => secret::run(args),
        command => run_plain(command).map(|()| ExitCode::SUCCESS),
    })
}

/// Runs a command that succeeds or fails, and no more.
fn run_plain(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Doctor(_) | Command::Secret(_) => Ok(()),
        Command::Up(args) => up::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Healthcheck(args) => healthcheck::run(args),
        Command::Key(args) => key::run(args),
        Command::Keys(args) => keys::run(args),
        Command::Audit(args) => audit::run(args),
        Command::Backup(args) => backup::run(args),
        Command::Restore(args) => restore::run(args),
        Command::Openapi => openapi::run(),
    }
}

fn finish(done: anyhow::Result<ExitCode>) -> ExitCode {
    done.unwrap_or_else(|error| {
        eprintln!("purser: {error:#}");
        ExitCode::FAILURE
    })
}
