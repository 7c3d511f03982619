//! The program put together: every room built from its configuration, the loops started, and all of
//! it stopped in good order. The one file that knows every room.

mod core;
mod policy;
mod recovery;
mod system;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use self::core::Cores;
pub use recovery::{Moved, Recovered, look_at, unpack};
pub use system::{SystemClock, SystemEntropy};

use crate::config::Config;
use crate::engine::Engine;
use crate::http::{Door, Listeners};
use crate::manager::Manager;
use crate::seal::unlock::Providers;

/// How long the loops get to end.
const STOP_TIME: Duration = Duration::from_secs(10);

/// The program, running.
pub struct App {
    stop: CancellationToken,
    cores: Arc<Cores>,
    door: tokio::task::JoinHandle<()>,
}

impl App {
    /// Opens the store, leads its swarm if there is one, and opens the doors. A store that users have
    /// locked waits for one of them.
    ///
    /// # Errors
    /// What stands in the way; nothing was started then.
    pub async fn start(config: &Config, providers: Arc<Providers>) -> anyhow::Result<App> {
        let stop = CancellationToken::new();
        let listeners = Listeners::open(&config.http).await?;
        let look = config.policy.as_deref().map(policy::look).unwrap_or_default();
        let policy = policy::read(config.policy.as_deref())?;
        let cores = Cores::start(config, providers, policy, stop.clone()).await?;
        let engine = config.engine.clone().map(Engine::new);
        let data_dir = config.store.data_dir.display().to_string();
        let locked = cores.locked();
        let door = Door::new(cores.manager(), engine, data_dir, locked, stop.clone());
        cores.set_door(door.clone());
        if let Some(path) = config.policy.clone() {
            let (cores, stop) = (cores.clone(), stop.clone());
            tokio::spawn(async move { policy::follow(&path, look, &cores, stop).await });
        }
        let door = tokio::spawn(door.serve(listeners));
        Ok(App { stop, cores, door })
    }

    /// The manager, for commands that do more than serve.
    pub fn manager(&self) -> Manager {
        self.cores.manager()
    }

    /// Waits until the store has stopped writing by itself, after a failure that it cannot judge.
    /// Only a new start, which looks at what is on disk, can tell where it stands.
    pub async fn store_failed(&self) {
        self.cores.store_failed().await;
    }

    /// Stops everything: the doors first, then the loops, and the store last, so that whatever was
    /// asked for until then is written.
    pub async fn stop(self) {
        self.stop.cancel();
        let ended = async {
            let _ = self.door.await;
            self.cores.loops_ended().await;
        };
        if tokio::time::timeout(STOP_TIME, ended).await.is_err() {
            tracing::warn!("some loops did not end in time");
        }
        if tokio::time::timeout(STOP_TIME, self.cores.close()).await.is_err() {
            tracing::error!("the store did not close in time");
        }
    }
}
