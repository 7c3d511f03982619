//! Autolock: the store is sealed under a key that only users know, and locked after every start until
//! one of them gives it.
//!
//! A new key is made when a user asks to see it, kept with the cluster, and takes effect once it was
//! sent to the user: until then the key before stays. Swarm's own makes it with the wish; a crash in
//! between, before anybody has seen the key, would lock everybody out for good. From the moment that it
//! is sent until it is in effect both keys open the store, so that a crash at any moment, or an answer
//! that is lost, leaves a store that a key opens which a user has.

use zeroize::Zeroizing;

use super::{Manager, Told};
use crate::domain::actor::Actor;
use crate::domain::audit::Outcome;
use crate::domain::cluster::OfferedKey;
use crate::domain::id::Stream;
use crate::domain::intent::{Intent, SwarmUpdate};
use crate::domain::refusal::{Reason, Refusal};
use crate::seal::unlock::UnlockKey;
use crate::store::{Applied, LockChange};

/// The key of autolock, on its way to a user.
pub struct ShownKey {
    /// As users note it down; empty when autolock is off.
    pub text: Zeroizing<String>,
    /// True when it is to take effect once the user has it ([`Manager::take_unlock_key`]).
    pub is_new: bool,
}

impl Manager {
    /// The key that unlocks this manager, for a user to be shown.
    ///
    /// # Errors
    /// There is no swarm, or the store fails.
    pub async fn unlock_key(&self, actor: Actor) -> Result<ShownKey, Refusal> {
        let _alone = self.inner.showing_key.lock().await;
        let view = self.view();
        let cluster = view.require_cluster()?;
        // A restored store is not locked, whatever it says.
        let is_on = cluster.spec.encryption_config.auto_lock_managers;
        let is_locked = || self.inner.store.keyring().autolock_key().is_some();
        if is_on && (cluster.autolock.is_due() || !is_locked()) {
            // Who asks again before it is in effect is shown the same.
            let key = cluster.autolock.offered.clone().unwrap_or_else(|| self.make_unlock_key());
            let offer = Intent::OfferUnlockKey(key.clone());
            match UnlockKey::parse_autolock(&key.0).filter(|_| is_locked()) {
                Some(lock) => self.submit_and_lock(actor, offer, LockChange::Offer(lock)).await?,
                // What a provider opens needs no other key before this one is in effect.
                None => self.submit(actor, offer).await?,
            };
            return Ok(ShownKey { text: key.0, is_new: true });
        }
        let Some(key) = self.inner.store.keyring().autolock_key() else {
            return Ok(ShownKey { text: Zeroizing::default(), is_new: false });
        };
        let text = key.autolock_text();
        let note = Intent::OfferUnlockKey(OfferedKey(text.clone())).note(actor);
        self.tell(vec![Told { note, outcome: Outcome::Done }]).await?;
        Ok(ShownKey { text, is_new: false })
    }

    fn make_unlock_key(&self) -> OfferedKey {
        let mut bytes = Zeroizing::new([0; 32]);
        self.entropy().fill(Stream::Key, &mut *bytes);
        OfferedKey(UnlockKey::autolock(*bytes).autolock_text())
    }

    /// Seals the store under a key that a user was shown, unless another one was asked for meanwhile.
    ///
    /// # Errors
    /// The store fails.
    pub async fn take_unlock_key(&self, actor: Actor, shown: ShownKey) -> Result<(), Refusal> {
        let _alone = self.inner.showing_key.lock().await;
        let Some(key) = UnlockKey::parse_autolock(&shown.text) else { return Ok(()) };
        let take = Intent::TakeUnlockKey(OfferedKey(shown.text));
        self.submit_and_lock(actor, take, LockChange::Replace(key)).await.map(|_| ())
    }

    /// Changes the swarm's settings. Turning autolock off seals the store under a key that a provider
    /// has.
    ///
    /// # Errors
    /// As [`Manager::submit`]; or no provider has a key.
    pub async fn update_swarm(
        &self,
        actor: Actor,
        mut update: SwarmUpdate,
    ) -> Result<Applied, Refusal> {
        self.prepare_root(&mut update)?;
        if actor.is_trying() {
            return self.submit(actor, Intent::UpdateSwarm(Box::new(update))).await;
        }
        let has_new_root = update.new_root.is_some();
        let applied = self.update_and_relock(actor, update).await?;
        let lead = self.inner.lead.borrow().clone();
        if let Some(lead) = lead.filter(|_| has_new_root) {
            self.switch_root(&lead).await;
            tracing::info!("a new root certificate is on its way");
        }
        Ok(applied)
    }

    async fn update_and_relock(
        &self,
        actor: Actor,
        update: SwarmUpdate,
    ) -> Result<Applied, Refusal> {
        let _alone = self.inner.showing_key.lock().await;
        let stays_locked = update.spec.encryption_config.auto_lock_managers;
        let intent = Intent::UpdateSwarm(Box::new(update));
        if stays_locked || self.inner.store.keyring().autolock_key().is_none() {
            return self.submit(actor, intent).await;
        }
        let key = self.provided_key().await?;
        self.submit_and_lock(actor, intent, LockChange::Replace(key)).await
    }

    /// Says what would be gone with the swarm.
    ///
    /// # Errors
    /// There is none, or this is no trial.
    pub async fn try_leaving(&self, actor: Actor) -> Result<(), Refusal> {
        match actor.is_trying() {
            true => self.submit(actor, Intent::LeaveSwarm).await.map(|_| ()),
            false => Err(Refusal::front(Reason::Unknown, "leaving is more than a write")),
        }
    }

    /// Ends the swarm; what comes after it is not locked.
    pub(super) async fn leave_unlocked(&self, actor: Actor) -> Result<Applied, Refusal> {
        let _alone = self.inner.showing_key.lock().await;
        if self.inner.store.keyring().autolock_key().is_none() {
            return self.submit(actor, Intent::LeaveSwarm).await;
        }
        let key = self.provided_key().await?;
        self.submit_and_lock(actor, Intent::LeaveSwarm, LockChange::Replace(key)).await
    }

    async fn provided_key(&self) -> Result<UnlockKey, Refusal> {
        let store = self.inner.store.clone();
        let key = tokio::task::spawn_blocking(move || store.provided_key()).await;
        let unavailable = |why: String| Refusal::front(Reason::Unavailable, why);
        key.map_err(|error| unavailable(error.to_string()))?
            .map_err(|error| unavailable(error.to_string()))
    }

    async fn submit_and_lock(
        &self,
        actor: Actor,
        intent: Intent,
        lock: LockChange,
    ) -> Result<Applied, Refusal> {
        let note = intent.note(actor.clone());
        let decision = self.decision(&actor, intent);
        let written = self.inner.store.write_and_lock(decision.decide, note, lock).await;
        written.map_err(Refusal::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cluster::ClusterSpec;
    use crate::manager::fixture::Fixture;

    fn client() -> Actor {
        Actor::Client(Default::default())
    }

    async fn update(manager: &Manager, is_on: bool, rotate: bool) {
        let view = manager.view();
        let cluster = view.cluster().expect("it leads");
        let mut spec: ClusterSpec = cluster.spec.clone();
        spec.encryption_config.auto_lock_managers = is_on;
        let update = SwarmUpdate {
            version: cluster.meta.version,
            spec,
            worker_secret: None,
            manager_secret: None,
            rotate_unlock_key: rotate,
            new_root: None,
        };
        manager.update_swarm(client(), update).await.expect("the version is right");
    }

    async fn key(manager: &Manager) -> String {
        let shown = manager.unlock_key(client()).await.expect("it leads");
        let text = shown.text.to_string();
        if shown.is_new {
            manager.take_unlock_key(client(), shown).await.expect("it is written");
        }
        text
    }

    #[tokio::test]
    async fn a_key_takes_effect_when_a_user_has_seen_it() {
        let fixture = Fixture::leading().await;
        let manager = &fixture.manager;
        let is_locked = || manager.store().keyring().autolock_key().is_some();
        assert_eq!(key(manager).await, "", "autolock is off");
        update(manager, true, false).await;
        assert!(!is_locked(), "nobody knows the key");
        let first = key(manager).await;
        assert!(first.starts_with("SWMKEY-1-") && first.len() == 9 + 43, "{}", first.len());
        assert!(is_locked());
        assert_eq!(key(manager).await, first, "the same until it is changed");
        update(manager, true, false).await;
        assert_eq!(key(manager).await, first, "as it is");
        update(manager, true, true).await;
        assert!(is_locked());
        let second = key(manager).await;
        assert_ne!(second, first);
        update(manager, false, true).await;
        assert!(!is_locked());
        assert_eq!(key(manager).await, "");
    }

    #[tokio::test]
    async fn a_key_that_is_shown_but_not_in_effect_is_shown_again_or_forgotten() {
        let fixture = Fixture::leading().await;
        let manager = &fixture.manager;
        let is_locked = || manager.store().keyring().autolock_key().is_some();
        let show = async || manager.unlock_key(client()).await.expect("it leads");
        update(manager, true, false).await;
        let (first, again) = (show().await, show().await);
        assert!(first.is_new && again.is_new && *first.text == *again.text && !is_locked());
        update(manager, true, true).await;
        manager.take_unlock_key(client(), first).await.expect("it does nothing");
        assert!(!is_locked(), "another one was asked for");
        let second = show().await;
        assert_ne!(*second.text, *again.text);
        update(manager, false, false).await;
        manager.take_unlock_key(client(), second).await.expect("it does nothing");
        assert!(!is_locked(), "autolock was turned off");
        update(manager, true, false).await;
        let third = show().await;
        let text = third.text.clone();
        manager.take_unlock_key(client(), third).await.expect("it is written");
        assert!(is_locked() && *show().await.text == *text && !show().await.is_new);
    }

    #[tokio::test]
    async fn who_leaves_takes_the_lock_along() {
        let fixture = Fixture::leading().await;
        let manager = &fixture.manager;
        update(manager, true, false).await;
        key(manager).await;
        manager.leave_swarm(Actor::Client(Default::default())).await.expect("it led one");
        assert!(manager.store().keyring().autolock_key().is_none());
    }
}
