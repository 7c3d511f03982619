//! `purser serve`: the daemon.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::App;
use crate::config::{Config, Options};
use crate::http::Hangups;
use crate::seal::unlock::{Provider, Providers, UnlockError};

/// Options of `serve`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    options: Options,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let (config, providers) = prepare(args.options)?;
    block_on(&config, async {
        let mut stop = Stop::listen()?;
        let Some(app) = stop.or(App::start(&config, providers)).await else { return Ok(()) };
        until_stopped(&config, app.map_err(with_advice)?, stop).await
    })
}

/// Reads the configuration, starts logging, finds where keys come from, and closes the process to
/// others.
pub(super) fn prepare(options: Options) -> anyhow::Result<(Config, Arc<Providers>)> {
    // Nothing this process makes is for others, but for the socket, which gets its mode by itself.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let config = options.resolve()?;
    super::logging::start(&config.log)?;
    let providers = providers(&config)?;
    super::process::harden();
    super::process::open_more_files();
    Ok((config, providers))
}

/// Where keys come from.
pub(super) fn providers(config: &Config) -> anyhow::Result<Arc<Providers>> {
    let providers = config.unlock.iter().map(|text| Provider::parse(text));
    let providers = providers.collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(Providers::new(providers, config.store.data_dir.clone())))
}

/// Says what to do when there is no key.
pub(super) fn with_advice(error: anyhow::Error) -> anyhow::Error {
    let is_none = |cause: &(dyn std::error::Error + 'static)| {
        matches!(cause.downcast_ref(), Some(UnlockError::None(_)))
    };
    match error.chain().any(is_none) {
        true => error.context(
            "the store is sealed and needs its unlock key; `purser up` makes one on the first \
             start, or run `purser key make`",
        ),
        false => error,
    }
}

/// Runs a future on a runtime of its own.
pub(super) fn block_on(
    config: &Config,
    future: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    // One core is left to the database's own thread.
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let threads = config.threads.unwrap_or(cores.saturating_sub(1).max(1));
    let mut runtime = match threads {
        // Nobody takes work from one thread, so none of it has to be ready for that.
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    // What the database's thread has done is looked at between any two other tasks: whatever waits
    // for the next commit waits for that. The writer may then let others go first.
    let runtime = runtime.worker_threads(threads).global_queue_interval(1).enable_all().build()?;
    let done = runtime.block_on(future);
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    done
}

/// Tells the service manager that all is ready, and waits for the signal to stop.
///
/// # Errors
/// The store stopped by itself; a service manager should start the program again.
pub(super) async fn until_stopped(config: &Config, app: App, mut stop: Stop) -> anyhow::Result<()> {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        socket = %config.http.socket.display(),
        data_dir = %config.store.data_dir.display(),
        engine = config.engine.as_ref().map(|path| path.display().to_string()),
        "ready"
    );
    notify(&[sd_notify::NotifyState::Ready]);
    let mut hangups = Hangups::listen();
    let failed = loop {
        tokio::select! {
            () = stop.wait() => break false,
            () = app.store_failed() => break true,
            () = hangups.next() => tracing::info!(
                "asked to read files again: policy and certificates are; settings take effect at the \
                 next start"
            ),
        }
    };
    notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("stopping");
    app.stop().await;
    anyhow::ensure!(!failed, "the store has stopped writing; see the log for why");
    Ok(())
}

fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager was not told");
    }
}

/// The signals to stop, listened for before anybody can find that the program runs: what comes while it
/// starts is not lost, nor does it end it halfway.
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    pub(super) fn listen() -> anyhow::Result<Stop> {
        // From here on it ends nothing, whoever listens.
        drop(Hangups::listen());
        let (terminate, interrupt) = (SignalKind::terminate(), SignalKind::interrupt());
        Ok(Stop { terminate: signal(terminate)?, interrupt: signal(interrupt)? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// What a start comes to; `None` if a signal comes first, as at a prompt that nobody answers.
    pub(super) async fn or<T>(&mut self, started: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            started = started => Some(started),
            () = self.wait() => None,
        }
    }
}
