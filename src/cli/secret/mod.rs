//! `purser secret`: new values under the same name, and who has which.
//!
//! All of it goes through the API of a running purser. Values are read from standard input or a file and are
//! never arguments, which everybody on the host can read.

mod ask;
mod change;
mod explain;
mod show;
mod wait;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};

use super::endpoint::Endpoint;
use super::{context, process};
use crate::config::Options;
use ask::Ask;

/// What the exit codes mean, for the help.
pub(super) const EXIT_CODES: &str = "Exit codes: 0 done; 1 refused, or failed; 2 not understood; \
    3 (wait, explain) something is in the way that does not go away by itself; 4 (wait) the time is up";
/// The exit code of `wait` and `explain` when something is in the way that does not go away by itself.
const IN_THE_WAY: u8 = 3;
/// The exit code of `wait` when the time is up.
const TIME_IS_UP: u8 = 4;

/// Options of `secret`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Unix socket of purser [default: where `docker` would ask, by DOCKER_HOST or its context; else purser's
    /// own]
    #[arg(long, global = true, env = "PURSER_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(flatten)]
    asked: Asked,
}

/// What is asked for, and how it is to be told.
#[derive(Debug, clap::Args)]
pub(super) struct Asked {
    /// How to print: a table or sentences, or JSON
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(subcommand)]
    action: Action,
}

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Give a secret a value: make the secret, or its next version. Services that use it take it by their own
    /// update settings
    Set(change::Set),
    /// Have the driver of a secret make its next version
    Rotate(change::Rotate),
    /// List the versions of a secret
    History(show::Named),
    /// Make an earlier version of a secret the current one again
    Rollback(change::Rollback),
    /// List who uses a secret, and which version each has
    Consumers(show::Named),
    /// Drop versions that nothing uses
    Prune(change::Prune),
    /// Say what a new value would do: which services, how many tasks, in which waves
    Plan(show::Named),
    /// Wait until every service that uses a secret runs the version that it should
    Wait(wait::Wait),
    /// Say why a service or task has a secret, or has it not
    Explain(explain::Explain),
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let purser = match args.socket {
        Some(socket) => Endpoint::Unix(socket),
        None => match context::Flags::default().chosen()? {
            Some(endpoint) => endpoint,
            None => Endpoint::Unix(Options::default().resolve()?.http.socket),
        },
    };
    answer(&purser, args.asked)
}

/// Does what is asked for, with the purser that answers there.
pub(super) fn answer(purser: &Endpoint, asked: Asked) -> anyhow::Result<ExitCode> {
    // A value passes through this process too.
    process::harden();
    let ask = Ask { purser, format: asked.format };
    match asked.action {
        Action::Set(set) => set.run(&ask),
        Action::Rotate(rotate) => rotate.run(&ask),
        Action::History(named) => named.history(&ask),
        Action::Rollback(rollback) => rollback.run(&ask),
        Action::Consumers(named) => named.consumers(&ask),
        Action::Prune(prune) => prune.run(&ask),
        Action::Plan(named) => change::plan(&ask, &named.name),
        Action::Wait(wait) => wait.run(&ask),
        Action::Explain(explain) => explain.run(&ask),
    }
}
