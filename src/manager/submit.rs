//! Submitting: an intent in, a commit out.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use super::Manager;
use crate::domain::actor::{Actor, Caller};
use crate::domain::audit::Note;
use crate::domain::change::{Change, Key};
use crate::domain::config::{CONFIG_LEN_MAX, ConfigSpec};
use crate::domain::container::Driver;
use crate::domain::forecast::Forecast;
use crate::domain::id::{ConfigId, RevisionId, SecretId, Stream};
use crate::domain::intent::{Intent, NewValue, SealedPayload};
use crate::domain::meta::{Stamp, Version};
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::revision::{Keep, Owner};
use crate::domain::secret::{Fingerprint, SECRET_LEN_MAX, SecretSpec};
use crate::domain::time::Nanoseconds;
use crate::domain::view::View;
use crate::plan::access::policy::Verb;
use crate::plan::access::rights::{Asking, target};
use crate::plan::access::{self, rights};
use crate::plan::forecast::forecast;
use crate::plan::template::check_payload;
use crate::plan::{Context, intent};
use crate::seal::secret::SecretBytes;
use crate::store::{Applied, Told, WriteError};

/// A decision, and what the audit tells of it.
pub(super) struct Decided<F> {
    pub decide: F,
    pub note: Option<Note>,
}

impl Manager {
    /// Decides and writes a request. Answers once it is durable.
    ///
    /// # Errors
    /// The actor may not, the request is refused, or the store fails; nothing was changed.
    pub async fn submit(&self, actor: Actor, intent: Intent) -> Result<Applied, Refusal> {
        if let Actor::Client(caller) = &actor
            && let Some(trial) = caller.trial()
        {
            return self.attempt(&actor, intent, trial);
        }
        let decide = self.decision(&actor, intent);
        let written = match decide.note {
            // What nodes report of their tasks is no request, and there is a lot of it.
            None => self.inner.store.write(decide.decide).await,
            Some(note) => self.inner.store.write_noted(decide.decide, note).await,
        };
        written.map_err(Refusal::from)
    }

    /// How a request is decided: by who asks, and by the state of things.
    pub(super) fn decision(
        &self,
        actor: &Actor,
        intent: Intent,
    ) -> Decided<impl FnOnce(&View, Stamp) -> Result<Vec<Change>, Refusal> + Send + use<>> {
        let note = !matches!(intent, Intent::ReportTasks { .. });
        let note = note.then(|| intent.note(actor.clone()));
        if let Actor::Client(caller) = actor {
            caller.set_told();
        }
        Decided { decide: self.decider(actor, intent), note }
    }

    fn decider(
        &self,
        actor: &Actor,
        intent: Intent,
    ) -> impl FnOnce(&View, Stamp) -> Result<Vec<Change>, Refusal> + Send + use<> {
        let (entropy, actor, policy) = (self.inner.entropy.clone(), actor.clone(), self.policy());
        move |view: &View, stamp: Stamp| {
            access::check(&actor, &intent)?;
            if let Actor::Client(caller) = &actor {
                rights::check(&policy, caller, &intent, view)?;
            }
            let ctx = Context { now: stamp.now, entropy: &*entropy };
            intent::decide(view, intent, ctx)
        }
    }

    /// Decides a request that is only tried, and says what it would change.
    fn attempt(
        &self,
        actor: &Actor,
        intent: Intent,
        trial: &OnceLock<Forecast>,
    ) -> Result<Applied, Refusal> {
        let (view, changes) = self.ask(actor, intent)?;
        let mut forecast = forecast(&view, &changes, self.clock().now());
        if let Actor::Client(caller) = actor {
            self.hide_unseen(caller, (&view, &changes), &mut forecast);
        }
        // A request comes to one decision.
        let _ = trial.set(forecast);
        Ok(Applied::nothing(&view))
    }

    /// Takes out of a forecast what a client may not see.
    fn hide_unseen(
        &self,
        caller: &Caller,
        (view, changes): (&View, &[Change]),
        forecast: &mut Forecast,
    ) {
        let policy = self.policy();
        if policy.is_open() {
            return;
        }
        let asking = Asking { policy: &policy, caller };
        let is_unseen = |key: &Key| {
            let object = view.object(*key);
            object.is_some_and(|object| !asking.is_allowed(Verb::Read, target(&object)))
        };
        let keys = changes.iter().map(|change| match change {
            Change::Put(object) => object.key(),
            Change::PutPayload(key, _) | Change::DropPayload(key) | Change::Remove(key) => *key,
        });
        let hidden: BTreeSet<String> =
            keys.filter(is_unseen).map(|key| key.id().to_owned()).collect();
        forecast.changes.retain(|change| !hidden.contains(&change.id));
        forecast.services.retain(|service| !is_unseen(&Key::Service(service.id)));
    }

    /// What a request would come to now.
    ///
    /// # Errors
    /// It would be refused.
    pub(super) fn ask(
        &self,
        actor: &Actor,
        intent: Intent,
    ) -> Result<(View, Vec<Change>), Refusal> {
        let view = self.view();
        let stamp = Stamp { version: view.version(), now: self.clock().now() };
        let changes = self.decider(actor, intent)(&view, stamp)?;
        Ok((view, changes))
    }

    /// Drops the values of secrets and configs that nothing uses, and that were replaced so long ago.
    ///
    /// # Errors
    /// The store fails.
    pub async fn prune_old(&self, unused_for: Nanoseconds) -> Result<(), Refusal> {
        let (view, keep) = (self.view(), Keep { newest: 0, unused_for });
        let secrets = view.secrets().filter(|secret| !secret.revisions.is_first());
        let configs = view.configs().filter(|config| !config.revisions.is_first());
        let secrets = secrets.map(|secret| Owner::Secret(secret.id));
        for owner in secrets.chain(configs.map(|config| Owner::Config(config.id))) {
            let intent = Intent::PruneRevisions { owner, keep };
            // Most have none to drop, which takes no write to see.
            if self.ask(&Actor::Manager, intent.clone()).is_ok_and(|(_, drops)| drops.is_empty()) {
                continue;
            }
            match self.submit(Actor::Manager, intent).await {
                Err(refusal) if refusal.reason == Reason::NotFound => {}
                done => drop(done?),
            }
        }
        Ok(())
    }

    /// Which values that nothing uses stay when a new one comes.
    pub fn keep(&self) -> Keep {
        let newest = self.inner.kept_values.load(Ordering::Relaxed);
        Keep { newest, unused_for: 0 }
    }

    /// Writes what the audit tells of something that no request was decided for.
    ///
    /// # Errors
    /// The store fails.
    pub async fn tell(&self, notes: Vec<Told>) -> Result<(), Refusal> {
        self.inner.store.note(notes).await.map_err(Refusal::from)
    }

    /// Seals a payload and submits the secret.
    ///
    /// # Errors
    /// As [`Manager::submit`].
    pub async fn create_secret(
        &self,
        actor: Actor,
        spec: SecretSpec,
        data: SecretBytes,
    ) -> Result<SecretId, Refusal> {
        let id = SecretId::make(self.entropy());
        let data = match spec.driver {
            None => data,
            Some(_) => {
                let made = self.first_value(&actor, (id, &spec), &data).await?;
                made.unwrap_or_else(|| SecretBytes::new(Vec::new()))
            }
        };
        let fault = template_fault(spec.templating.as_ref(), &data);
        let (payload, payload_len) = self.seal_within(SECRET_LEN_MAX, Key::Secret(id), data, fault);
        let intent = Intent::CreateSecret { id, spec, payload, payload_len };
        self.submit(actor, intent).await.map(|_| id)
    }

    /// Submits an update of a secret, with its payload sealed if that is a new one and may be.
    ///
    /// # Errors
    /// As [`Manager::submit`].
    pub async fn update_secret(
        &self,
        actor: Actor,
        (id, version): (SecretId, Version),
        spec: SecretSpec,
        data: SecretBytes,
    ) -> Result<(), Refusal> {
        let stored = self.view().secret(id).cloned();
        let templating = stored.as_ref().and_then(|stored| stored.spec.templating.as_ref());
        let fault = template_fault(templating, &data);
        let data = self.unless_trying(&actor, data);
        let (fingerprint, value) = self.new_value(SECRET_LEN_MAX, data, fault);
        let intent = Intent::UpdateSecret { id, version, spec, fingerprint, value };
        self.submit(actor, intent).await.map(|_| ())
    }

    /// Submits an update of a config, with its data sealed if they are new ones and may be.
    ///
    /// # Errors
    /// As [`Manager::submit`].
    pub async fn update_config(
        &self,
        actor: Actor,
        (id, version): (ConfigId, Version),
        spec: ConfigSpec,
        data: SecretBytes,
    ) -> Result<(), Refusal> {
        let stored = self.view().config(id).cloned();
        let templating = stored.as_ref().and_then(|stored| stored.spec.templating.as_ref());
        let fault = template_fault(templating, &data);
        let data = self.unless_trying(&actor, data);
        let (fingerprint, value) = self.new_value(CONFIG_LEN_MAX, data, fault);
        let intent = Intent::UpdateConfig { id, version, spec, fingerprint, value };
        self.submit(actor, intent).await.map(|_| ())
    }

    /// The value that was sent, or in its place one of the same length that is none, for an update that is only
    /// tried: whether it is the present value is not to be learned so.
    fn unless_trying(&self, actor: &Actor, data: SecretBytes) -> SecretBytes {
        if !actor.is_trying() || data.is_empty() {
            return data;
        }
        let mut drawn = vec![0; data.len()];
        self.entropy().fill(Stream::Other, &mut drawn);
        SecretBytes::new(drawn)
    }

    /// What an update is told of the value that was sent: its fingerprint, and the value itself where it
    /// may be a new one. Whether it is one is for the decision to find, once who asks may know.
    fn new_value(
        &self,
        len_max: usize,
        data: SecretBytes,
        fault: Option<String>,
    ) -> (Option<Fingerprint>, Option<NewValue>) {
        if data.is_empty() {
            return (None, None);
        }
        let sent = self.inner.store.keyring().fingerprint(&data);
        if self.is_strict() {
            return (Some(sent), None);
        }
        let id = RevisionId::make(self.entropy());
        let (payload, payload_len) = self.seal_within(len_max, Key::Revision(id), data, fault);
        (
            Some(sent),
            Some(NewValue { id, payload, payload_len, is_supplied: false, keep: self.keep() }),
        )
    }

    /// Seals a config's data and submits the config.
    ///
    /// # Errors
    /// As [`Manager::submit`].
    pub async fn create_config(
        &self,
        actor: Actor,
        spec: ConfigSpec,
        data: SecretBytes,
    ) -> Result<ConfigId, Refusal> {
        let id = ConfigId::make(self.entropy());
        let fault = template_fault(spec.templating.as_ref(), &data);
        let (payload, payload_len) = self.seal_within(CONFIG_LEN_MAX, Key::Config(id), data, fault);
        let intent = Intent::CreateConfig { id, spec, payload, payload_len };
        self.submit(actor, intent).await.map(|_| id)
    }

    /// Seals a payload of a length that may be, and lets go of the plain bytes; the length is for the
    /// refusal of any other.
    fn seal_within(
        &self,
        len_max: usize,
        key: Key,
        data: SecretBytes,
        fault: Option<String>,
    ) -> (Option<SealedPayload>, usize) {
        let len = data.len();
        let is_within = (1..=len_max).contains(&len);
        (is_within.then(|| SealedPayload { fault, ..self.seal(key, &data) }), len)
    }

    pub(super) fn seal(&self, key: Key, data: &SecretBytes) -> SealedPayload {
        let store = &self.inner.store;
        SealedPayload {
            bytes: store.seal_payload(&key, data, self.entropy()),
            fingerprint: store.keyring().fingerprint(data),
            fault: None,
        }
    }
}

/// Why a payload is not the template that it is said to be.
pub(super) fn template_fault(templating: Option<&Driver>, data: &SecretBytes) -> Option<String> {
    templating?;
    data.judge(check_payload).err()
}

impl From<WriteError> for Refusal {
    fn from(error: WriteError) -> Refusal {
        match error {
            WriteError::Refused(refusal) => refusal,
            WriteError::Failed(_) | WriteError::Closed => {
                Refusal::store(Reason::Unavailable, error.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::Outcome;
    use crate::manager::fixture::Fixture;

    #[tokio::test]
    async fn versions_that_nothing_uses_are_dropped_by_age() {
        let fixture = Fixture::leading().await;
        let manager = &fixture.manager;
        let spec = SecretSpec { name: "db".into(), ..SecretSpec::default() };
        let value = |text: &str| SecretBytes::new(text.as_bytes().to_vec());
        let id = manager.create_secret(Actor::Manager, spec.clone(), value("one")).await;
        let id = id.expect("it is free");
        for text in ["two", "three"] {
            fixture.clock.advance(std::time::Duration::from_secs(3_600));
            let version = manager.view().secret(id).expect("it is there").meta.version;
            let which = (id, version);
            let done =
                manager.update_secret(Actor::Manager, which, spec.clone(), value(text)).await;
            done.expect("another value");
        }
        let kept = || -> Vec<u64> {
            let view = manager.view();
            let known = &view.secret(id).expect("it is there").revisions.known;
            known.iter().map(|known| known.number).collect()
        };
        let hours = |count: i64| count * 3_600_000_000_000;
        fixture.clock.advance(std::time::Duration::from_secs(3_600));
        manager.prune_old(hours(3)).await.expect("the store writes");
        assert_eq!(kept(), [1, 2, 3], "the first was replaced two hours ago, the second one");
        manager.prune_old(hours(2)).await.expect("the store writes");
        assert_eq!(kept(), [2, 3]);
        manager.prune_old(hours(0)).await.expect("the store writes");
        assert_eq!(kept(), [3], "the current one stays");
    }

    /// In a release build this takes a part of the two seconds that it may; this is none.
    #[tokio::test]
    async fn a_hundred_thousand_records_are_verified() {
        let fixture = Fixture::new().await;
        let note = || Note::new(Actor::Client(Default::default()), "secret create").with("x");
        for _ in 0..1000 {
            let told = (0..100).map(|_| Told { note: note(), outcome: Outcome::Refused });
            fixture.manager.tell(told.collect()).await.expect("the store writes");
        }
        let chain = fixture.manager.store().verify_audit().await.expect("whole");
        assert_eq!((chain.first, chain.last, chain.len()), (1, 100_000, 100_000));
    }
}
