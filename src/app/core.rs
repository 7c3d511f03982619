//! What stands behind the doors: a store and its manager, or, while users have it locked, what stands
//! for them until one of them gives the key.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, RwLock};

use anyhow::Context as _;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::upkeep::{hand_on, look_after};
use super::{SystemClock, SystemEntropy};
use crate::config::{Compat, Config, Upkeep};
use crate::dispatcher;
use crate::domain::actor::Actor;
use crate::domain::audit::{Note, Outcome};
use crate::domain::id::Entropy;
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::time::Clock;
use crate::http::{Door, Locked};
use crate::manager::{Manager, Policy, Told};
use crate::seal::keyring::KeyringError;
use crate::seal::unlock::{Providers, UnlockKey};
use crate::store::{self, OpenError, Store, Unlock};

/// No lock here is held while anything could panic.
const WHOLE: &str = "nothing is ever left half put";

/// The store and its manager, now and after a user has unlocked them.
pub(super) struct Cores {
    config: store::Config,
    upkeep: Upkeep,
    compat: Compat,
    secret_commands: BTreeMap<String, Vec<String>>,
    policy: RwLock<Policy>,
    providers: Arc<Providers>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    stop: CancellationToken,
    store_stop: CancellationToken,
    manager: RwLock<Manager>,
    /// What runs for the manager.
    tasks: RwLock<Vec<JoinHandle<()>>>,
    /// True once a writer has ended.
    has_failed: watch::Sender<bool>,
    door: OnceLock<Door>,
    /// Held while the store is being opened or forgotten.
    opening: tokio::sync::Mutex<()>,
}

impl Cores {
    /// Opens the store, or finds it locked.
    pub(super) async fn start(
        config: &Config,
        providers: Arc<Providers>,
        policy: Policy,
        stop: CancellationToken,
    ) -> anyhow::Result<Arc<Cores>> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let store_stop = CancellationToken::new();
        let placeholder = Store::locked(&*entropy);
        let manager = Manager::new(placeholder, clock.clone(), entropy.clone(), stop.clone());
        manager.set_policy(policy.clone());
        let cores = Arc::new(Cores {
            config: config.store.clone(),
            upkeep: config.upkeep.clone(),
            compat: config.compat,
            secret_commands: config.secret_commands.clone(),
            policy: RwLock::new(policy.clone()),
            providers: providers.clone(),
            clock,
            entropy,
            stop,
            store_stop,
            manager: RwLock::new(manager),
            tasks: RwLock::default(),
            has_failed: watch::Sender::new(false),
            door: OnceLock::new(),
            opening: tokio::sync::Mutex::new(()),
        });
        match cores.open(providers.into()).await {
            Ok(()) => {}
            Err(Failed::Open(OpenError::Keyring(KeyringError::Locked))) => {
                tracing::warn!("the swarm is locked: waiting for `docker swarm unlock`");
            }
            Err(Failed::Open(error)) => {
                return Err(error).context("the store cannot be opened");
            }
            Err(Failed::Lead(error)) => {
                return Err(error).context("the swarm of the store cannot be led");
            }
        }
        Ok(cores)
    }

    /// Opens the store and leads its swarm.
    async fn open(&self, unlock: Unlock) -> Result<(), Failed> {
        let (clock, entropy) = (self.clock.clone(), self.entropy.clone());
        let how = if unlock.typed.is_some() { "unlocked by a user" } else { "" };
        // Of its own, so that a failure to lead closes this store and no other.
        let store_stop = self.store_stop.child_token();
        let opened =
            store::open(&self.config, unlock, clock.clone(), entropy.clone(), store_stop.clone());
        let (store, writer) = opened.await.map_err(Failed::Open)?;
        crate::store::remove_scratch(&self.config.data_dir);
        let before = store.audit_chain().last;
        let note = Note::new(Actor::Manager, "manager start").with(how);
        let told = store.note(vec![Told { note, outcome: Outcome::Done }]).await;
        if let Err(error) = told {
            return Err(Failed::Lead(error.into()));
        }
        let manager = Manager::new(store, clock, entropy, self.stop.clone());
        manager.set_policy(self.policy.read().expect(WHOLE).clone());
        manager.set_expired_grace(self.upkeep.expired_grace);
        manager.set_strict(self.compat == Compat::Strict);
        manager.set_kept_values(self.upkeep.keep_versions);
        manager.set_commands(self.secret_commands.clone());
        if let Err(error) = manager.start().await {
            store_stop.cancel();
            let _ = writer.await;
            return Err(Failed::Lead(error.into()));
        }
        let has_failed = self.has_failed.clone();
        let writer = tokio::spawn(async move {
            let _ = writer.await;
            has_failed.send_replace(true);
        });
        let (stop, upkeep) = (&self.stop, &self.upkeep);
        let tasks = [
            writer,
            tokio::spawn(dispatcher::run(manager.clone(), stop.clone())),
            tokio::spawn(look_after(manager.clone(), upkeep.clone(), stop.clone())),
            tokio::spawn(hand_on(manager.clone(), upkeep.clone(), before, stop.clone())),
        ];
        self.tasks.write().expect(WHOLE).extend(tasks);
        *self.manager.write().expect(WHOLE) = manager;
        // One that was read meanwhile went to the manager before.
        self.manager().set_policy(self.policy.read().expect(WHOLE).clone());
        Ok(())
    }

    pub(super) fn manager(&self) -> Manager {
        self.manager.read().expect(WHOLE).clone()
    }

    /// Has clients be judged by another policy.
    pub(super) fn set_policy(&self, policy: Policy) {
        *self.policy.write().expect(WHOLE) = policy.clone();
        self.manager().set_policy(policy);
    }

    /// How the manager can be unlocked, if it is locked.
    pub(super) fn locked(self: &Arc<Self>) -> Option<Arc<dyn Locked>> {
        self.manager().view().is_locked().then(|| self.clone() as Arc<dyn Locked>)
    }

    /// The door that another manager is put behind.
    pub(super) fn set_door(&self, door: Door) {
        let _ = self.door.set(door);
    }

    fn open_door(&self) {
        if let Some(door) = self.door.get() {
            door.open(self.manager());
        }
    }

    pub(super) async fn store_failed(&self) {
        let _ = self.has_failed.subscribe().wait_for(|has_failed| *has_failed).await;
    }

    pub(super) async fn loops_ended(&self) {
        self.manager().stopped().await;
    }

    /// Closes the store, once all that was asked for is written.
    pub(super) async fn close(&self) {
        self.store_stop.cancel();
        let tasks = std::mem::take(&mut *self.tasks.write().expect(WHOLE));
        for task in tasks {
            let _ = task.await;
        }
    }

    fn check_locked(&self) -> Result<(), Refusal> {
        match self.manager().view().is_locked() {
            true => Ok(()),
            false => Err(Refusal::front(Reason::Conflict, "swarm is not locked")),
        }
    }
}

enum Failed {
    Open(OpenError),
    Lead(anyhow::Error),
}

impl From<Failed> for Refusal {
    fn from(failed: Failed) -> Refusal {
        let unavailable = |error: anyhow::Error| {
            tracing::error!(error = format!("{error:#}"), "a locked store could not be opened");
            Refusal::front(Reason::Unavailable, format!("{error:#}"))
        };
        match failed {
            Failed::Open(OpenError::Keyring(KeyringError::Key { .. })) => Refusal::front(
                Reason::Unauthenticated,
                "swarm could not be unlocked: invalid key provided",
            ),
            Failed::Open(error) => unavailable(error.into()),
            Failed::Lead(error) => unavailable(error),
        }
    }
}

impl Locked for Cores {
    fn unlock(&self, key: UnlockKey) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async {
            let _held = self.opening.lock().await;
            self.check_locked()?;
            self.open(Unlock { providers: self.providers.clone(), typed: Some(key) }).await?;
            tracing::info!("the swarm was unlocked");
            self.open_door();
            Ok(())
        })
    }

    fn forget(&self, actor: Actor) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async {
            let _held = self.opening.lock().await;
            self.check_locked()?;
            store::forget(&self.config).map_err(Failed::Open)?;
            self.open(self.providers.clone().into()).await?;
            tracing::warn!("the locked swarm was given up, and its store with it");
            let note = Note::new(actor, "swarm leave").with("locked, and its audit gone with it");
            self.manager().tell(vec![Told { note, outcome: Outcome::Done }]).await?;
            self.open_door();
            Ok(())
        })
    }
}
