//! The program put together: every room built from its configuration, the loops started, and all of
//! it stopped in good order. The one file that knows every room.

mod system;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

pub use system::{SystemClock, SystemEntropy};

use crate::config::Config;
use crate::domain::id::Entropy;
use crate::domain::time::Clock;
use crate::engine::Engine;
use crate::http::{self, Listeners};
use crate::manager::Manager;
use crate::seal::unlock::{UnlockError, UnlockKey};
use crate::{dispatcher, store};

/// How long the loops get to end.
const STOP_TIME: Duration = Duration::from_secs(10);

/// The program, running.
pub struct App {
    stop: CancellationToken,
    manager: Manager,
    writer: tokio::task::JoinHandle<()>,
    store_stop: CancellationToken,
    doors: Vec<tokio::task::JoinHandle<()>>,
}

impl App {
    /// Opens the store, leads its swarm if there is one, and opens the doors.
    ///
    /// # Errors
    /// What stands in the way; nothing was started then.
    pub async fn start(config: &Config, unlock: &UnlockKey) -> anyhow::Result<App> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let stop = CancellationToken::new();
        let store_stop = CancellationToken::new();
        let listeners = Listeners::open(&config.http).await?;
        let opened =
            store::open(&config.store, unlock, clock.clone(), entropy.clone(), store_stop.clone());
        let (store, writer) = opened.await.context("the store cannot be opened")?;
        let manager = Manager::new(store, clock, entropy, stop.clone());
        manager.start().await.context("the swarm of the store cannot be led")?;
        let door = http::Door {
            manager: manager.clone(),
            engine: config.engine.clone().map(Engine::new),
            data_dir: config.store.data_dir.display().to_string(),
        };
        let doors = vec![
            tokio::spawn(dispatcher::run(manager.clone(), stop.clone())),
            tokio::spawn(door.serve(listeners, stop.clone())),
        ];
        Ok(App { stop, manager, writer, store_stop, doors })
    }

    /// The manager, for commands that do more than serve.
    pub fn manager(&self) -> &Manager {
        &self.manager
    }

    /// Waits until the store has stopped writing by itself, after a failure that it cannot judge.
    /// Only a new start, which looks at what is on disk, can tell where it stands.
    pub async fn store_failed(&mut self) {
        let _ = (&mut self.writer).await;
    }

    /// Stops everything: the doors first, then the loops, and the store last, so that whatever was
    /// asked for until then is written.
    pub async fn stop(self) {
        self.stop.cancel();
        let ended = async {
            for door in self.doors {
                let _ = door.await;
            }
            self.manager.stopped().await;
        };
        if tokio::time::timeout(STOP_TIME, ended).await.is_err() {
            tracing::warn!("some loops did not end in time");
        }
        self.store_stop.cancel();
        let closed = async {
            // One that has ended already was waited for, and may not be again.
            if !self.writer.is_finished() {
                let _ = self.writer.await;
            }
        };
        if tokio::time::timeout(STOP_TIME, closed).await.is_err() {
            tracing::error!("the store did not close in time");
        }
    }
}

/// Reads the unlock key.
///
/// # Errors
/// It is missing or not fit; the text says what to do.
pub fn read_unlock_key(config: &Config) -> anyhow::Result<UnlockKey> {
    let path = &config.unlock_key_file;
    match UnlockKey::read(path, &config.store.data_dir) {
        Ok(key) => Ok(key),
        Err(error @ UnlockError::Missing(_)) => Err(anyhow::Error::new(error).context(
            "the store is sealed and needs its unlock key; `purser up` makes one on the first \
             start, or run `purser key make`",
        )),
        Err(error) => Err(error.into()),
    }
}
