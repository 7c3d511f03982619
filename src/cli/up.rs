//! `purser up`: the daemon, a swarm, and the engine of this host, with one command.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use super::client::request;
use super::endpoint::Endpoint;
use super::serve::{Stop, block_on, prepare, until_stopped, with_advice};
use crate::app::{App, SystemEntropy};
use crate::config::{Config, Options};
use crate::seal::unlock::{Providers, Salt, UnlockError, UnlockKey};

/// Options of `up`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    options: Options,
    /// Where nodes are listened for, when a swarm is made
    #[arg(
        long,
        env = "PURSER_LISTEN_ADDR",
        value_name = "ADDR[:PORT]",
        default_value = "0.0.0.0:2377"
    )]
    listen_addr: String,
    /// What nodes are told, when a swarm is made [default: the address of this host]
    #[arg(long, env = "PURSER_ADVERTISE_ADDR", value_name = "ADDR[:PORT]")]
    advertise_addr: Option<String>,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let (config, providers) = prepare(args.options)?;
    make_first_key(&config, &providers)?;
    block_on(&config, async {
        let mut stop = Stop::listen()?;
        let Some(app) = stop.or(App::start(&config, providers)).await else { return Ok(()) };
        let app = app.map_err(with_advice)?;
        let view = app.manager().view();
        if view.cluster().is_none() && !view.is_locked() {
            let wish = json!({
                "ListenAddr": args.listen_addr,
                "AdvertiseAddr": args.advertise_addr.unwrap_or_default(),
            });
            // The same request that `docker swarm init` makes, through the same door.
            let socket = config.http.socket.clone();
            let made = tokio::task::spawn_blocking(move || {
                request(
                    &Endpoint::Unix(socket),
                    Some(INIT_TIME),
                    "POST",
                    "/swarm/init",
                    &wish.to_string(),
                )
            });
            if let Err(error) = made.await.context("the swarm was not made").flatten() {
                app.stop().await;
                return Err(error);
            }
        }
        println!("export DOCKER_HOST=unix://{}", config.http.socket.display());
        until_stopped(&config, app, stop).await
    })
}

/// Makes the unlock key on the first start of a store for which no provider has one.
pub(super) fn make_first_key(config: &Config, providers: &Providers) -> anyhow::Result<()> {
    let has_store = config.store.data_dir.join("purser.db").exists();
    let is_file = format!("file:{}", config.unlock_key_file.display());
    if has_store || !config.unlock.contains(&is_file) {
        return Ok(());
    }
    match providers.first(&Salt([0; 16])) {
        Err(UnlockError::None(_)) => {}
        found => return found.map(|_| ()).map_err(anyhow::Error::new),
    }
    let path = &config.unlock_key_file;
    UnlockKey::make(path, &config.store.data_dir, &SystemEntropy)?;
    eprintln!(
        "purser: made the unlock key {}: it protects copies of {} (backups, disks, images), and not \
         against who can read both; keep a copy of it elsewhere, for without it the store is lost",
        path.display(),
        config.store.data_dir.display()
    );
    Ok(())
}

/// How long the swarm may take to be made, the engine's joining included.
const INIT_TIME: Duration = Duration::from_secs(60);
