//! Supplying secrets that have a driver: the first value, the next one when somebody asks for it or when it
//! is time, and what is known of tries that failed. A failure leaves the last good value where it is.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::submit::template_fault;
use super::{Manager, Told};
use crate::domain::actor::Actor;
use crate::domain::audit::{Note, Outcome};
use crate::domain::change::{Key, SealedData};
use crate::domain::id::{Entropy, RevisionId, SecretId, Stream};
use crate::domain::intent::{Intent, NewValue, SealedPayload};
use crate::domain::meta::Version;
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::secret::{SECRET_LEN_MAX, Secret, SecretSpec};
use crate::domain::supply::{Source, Supply, variable};
use crate::domain::time::{Nanoseconds, Timestamp};
use crate::seal::command;
use crate::seal::secret::SecretBytes;

/// How often it is looked which secrets are due.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How long a command may take.
const TIME_MAX: Duration = Duration::from_secs(60);
/// How long after a try that failed the next one is made: a tenth of the time that a value may be kept, and
/// between these.
const RETRY_MIN: Nanoseconds = 60_000_000_000;
const RETRY_MAX: Nanoseconds = 3_600_000_000_000;
/// Commands that run at a time.
const COMMANDS_MAX: usize = 4;
/// Secrets whose next values are made at a time, most of which may wait for a command.
const ROTATIONS_MAX: usize = 64;

/// What a value is made of: 62 characters that need no quoting anywhere.
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// A command, by its words.
pub type Words = Vec<String>;

/// What is known of supplying, beside the secrets themselves.
pub(super) struct Supplies {
    commands: Mutex<BTreeMap<String, Words>>,
    /// For each command that may run.
    places: Semaphore,
    tries: Mutex<BTreeMap<SecretId, Try>>,
}

impl Default for Supplies {
    fn default() -> Self {
        let places = Semaphore::new(COMMANDS_MAX);
        Supplies { commands: Mutex::default(), places, tries: Mutex::default() }
    }
}

/// The last try to make the next value of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Try {
    /// When.
    pub at: Timestamp,
    /// Why it failed; absent when it did not.
    pub failure: Option<String>,
}

impl Manager {
    /// Names the commands that the driver `exec` may run.
    pub fn set_commands(&self, commands: BTreeMap<String, Words>) {
        *self.inner.supplies.commands.lock().expect("names are never left half put") = commands;
    }

    /// The last try to make the next value of a secret. Not remembered across a restart, after which what is
    /// due is tried at once.
    pub fn last_try(&self, id: SecretId) -> Option<Try> {
        self.tries().get(&id).cloned()
    }

    /// When the next value of a secret will be made, if it is made by itself.
    pub fn next_supply(&self, secret: &Secret) -> Option<Timestamp> {
        if self.is_strict() {
            return None;
        }
        let supply = Supply::of(&secret.spec).ok().flatten()?;
        let every = supply.every?;
        let due = secret.newest_value_at().plus(every);
        let Some(tried) = self.last_try(secret.id) else { return Some(due) };
        // A command may have the same value for longer.
        let pause = tried.failure.map_or(every, |_| (every / 10).clamp(RETRY_MIN, RETRY_MAX));
        Some(due.max(tried.at.plus(pause)))
    }

    /// Makes the value with which a new secret begins, if its driver is one of ours.
    ///
    /// # Errors
    /// The secret may not be made, a value was sent, or the driver has none to give.
    pub(super) async fn first_value(
        &self,
        actor: &Actor,
        (id, spec): (SecretId, &SecretSpec),
        sent: &SecretBytes,
    ) -> Result<Option<SecretBytes>, Refusal> {
        // Of a driver that is not served, the decision says so.
        if self.is_strict() {
            return Ok(None);
        }
        let supply = Supply::of(spec).map_err(Refusal::invalid)?;
        let Some(supply) = supply else { return Ok(None) };
        let _place = self.place(&supply.source).await;
        // Nothing is run for a secret that may not be made.
        let payload = Some(self.stand_in());
        let intent = Intent::CreateSecret { id, spec: spec.clone(), payload, payload_len: 1 };
        self.ask(actor, intent)?;
        if !sent.is_empty() {
            let message = "the driver makes the value of the secret; none can be sent";
            return Err(Refusal::invalid(message));
        }
        if actor.is_trying() {
            return Ok(Some(SecretBytes::new(draw(self.entropy(), 32))));
        }
        self.supply(spec, supply).await.map(Some)
    }

    /// Makes the next value of a secret that has a driver.
    ///
    /// # Errors
    /// It has none, the driver has no value to give, or as [`Manager::submit`]. The present value stays.
    pub async fn rotate_secret(
        &self,
        actor: Actor,
        (id, version): (SecretId, Version),
    ) -> Result<(), Refusal> {
        let secret = self.view().secret(id).cloned();
        let secret = secret.ok_or_else(|| Refusal::not_found("secret", id.as_str()))?;
        let (spec, name) = (&secret.spec, &secret.spec.name);
        let rotation = |payload: SealedPayload, revision| Intent::UpdateSecret {
            id,
            version,
            spec: spec.clone(),
            fingerprint: Some(payload.fingerprint),
            value: (!self.is_strict()).then(|| self.supplied(revision, payload)),
        };
        let revision = RevisionId::make(self.entropy());
        // Nothing is run for who may not, nor for a trial: any other value has the same consequences.
        if actor.is_trying() {
            return self.submit(actor, rotation(self.stand_in(), revision)).await.map(|_| ());
        }
        let supply = Supply::of(spec).map_err(Refusal::invalid)?;
        let _place = match &supply {
            Some(supply) => self.place(&supply.source).await,
            None => None,
        };
        self.ask(&actor, rotation(self.stand_in(), revision))?;
        let supply = supply.ok_or_else(|| {
            Refusal::invalid(format!("secret {name} has no driver that makes its values"))
        })?;
        let value = match self.supply(spec, supply).await {
            Ok(value) => value,
            Err(refusal) => {
                self.note_failure(actor, &secret, &refusal).await;
                return Err(refusal);
            }
        };
        let fault = template_fault(spec.templating.as_ref(), &value);
        let payload = SealedPayload { fault, ..self.seal(Key::Revision(revision), &value) };
        let submitted = self.submit(actor, rotation(payload, revision)).await;
        let failure = submitted.as_ref().err().map(|refusal| refusal.message.clone());
        self.tries().insert(id, Try { at: self.clock().now(), failure });
        submitted.map(|_| ())
    }

    /// A place among the commands that may run, if one is to run.
    async fn place(&self, source: &Source) -> Option<SemaphorePermit<'_>> {
        match source {
            Source::Generate { .. } => None,
            // It is never closed.
            Source::Exec { .. } => self.inner.supplies.places.acquire().await.ok(),
        }
    }

    fn supplied(&self, id: RevisionId, payload: SealedPayload) -> NewValue {
        let payload = Some(payload);
        NewValue { id, payload, payload_len: 1, is_supplied: true, keep: self.keep() }
    }

    /// What stands for a value that is not made yet.
    fn stand_in(&self) -> SealedPayload {
        let value = SecretBytes::new(draw(self.entropy(), 32));
        let fingerprint = self.inner.store.keyring().fingerprint(&value);
        SealedPayload { bytes: SealedData::default(), fingerprint, fault: None }
    }

    async fn note_failure(&self, actor: Actor, secret: &Secret, refusal: &Refusal) {
        let (name, message) = (&secret.spec.name, refusal.message.clone());
        if matches!(actor, Actor::Client(_)) {
            tracing::warn!(secret = %name, message, "a secret has no next value, and keeps the last one");
        }
        if let Actor::Client(caller) = &actor {
            caller.set_told();
        }
        let note = Note::new(actor, "secret rotate").about(Key::Secret(secret.id));
        let told = vec![Told { note: note.with(message.clone()), outcome: Outcome::Failed }];
        if let Err(error) = self.tell(told).await {
            tracing::warn!(%error, "the audit does not tell of a secret without a next value");
        }
        self.tries().insert(secret.id, Try { at: self.clock().now(), failure: Some(message) });
    }

    fn tries(&self) -> std::sync::MutexGuard<'_, BTreeMap<SecretId, Try>> {
        self.inner.supplies.tries.lock().expect("a try is never left half put")
    }

    async fn supply(&self, spec: &SecretSpec, supply: Supply) -> Result<SecretBytes, Refusal> {
        match supply.source {
            Source::Generate { length } => Ok(SecretBytes::new(draw(self.entropy(), length))),
            Source::Exec { command } => self.run(spec, command).await,
        }
    }

    async fn run(&self, spec: &SecretSpec, name: String) -> Result<SecretBytes, Refusal> {
        // The words may hold what is for the operator alone.
        let failed = |why: &str| {
            let of = &spec.name;
            Refusal::store(Reason::Unknown, format!("secret {of}: the command {name} {why}"))
        };
        let mut command = self.command(&name)?;
        let own = std::env::vars_os().map(|(name, _)| name);
        let own = own.filter(|name| name.to_string_lossy().starts_with("PURSER_"));
        own.for_each(|name| {
            command.env_remove(name);
        });
        command.envs(environment(spec)).stderr(Stdio::null());
        // One more is the end of the line.
        let run = move || command::output(&mut command, TIME_MAX, SECRET_LEN_MAX + 1);
        let printed = tokio::task::spawn_blocking(run).await.map_err(|error| error.to_string());
        let mut printed = printed.flatten().map_err(|why| failed(&why))?;
        // Commands end what they print with the end of a line.
        if printed.last() == Some(&b'\n') {
            printed.pop();
        }
        match printed.len() {
            0 => Err(failed("printed nothing")),
            len if len > SECRET_LEN_MAX => Err(failed("printed more than a secret can hold")),
            _ => Ok(SecretBytes::new(std::mem::take(&mut *printed))),
        }
    }

    fn command(&self, name: &str) -> Result<Command, Refusal> {
        let commands = self.inner.supplies.commands.lock().expect("never left half put");
        let words = commands.get(name).and_then(|words| words.split_first());
        let (program, arguments) = words.ok_or_else(|| {
            Refusal::invalid(format!(
                "label purser.command: no command {name:?} is configured here"
            ))
        })?;
        let mut command = Command::new(program);
        command.args(arguments);
        Ok(command)
    }

    /// Makes the next value of every secret that is due.
    pub(super) async fn rotate_due(&self) {
        if self.is_strict() {
            return;
        }
        let (view, now) = (self.view(), self.clock().now());
        let is_due = |secret: &Secret| self.next_supply(secret).is_some_and(|at| at <= now);
        let due = view.secrets().filter(|secret| is_due(secret));
        // Side by side: one whose command takes long holds up no other.
        let rotations = due.map(|secret| async {
            let which = (secret.id, secret.meta.version);
            if let Err(refusal) = self.rotate_secret(Actor::Manager, which).await {
                tracing::warn!(secret = %secret.spec.name, %refusal, "a secret is due and stays");
                let failure = Some(refusal.message);
                self.tries().insert(secret.id, Try { at: self.clock().now(), failure });
            }
        });
        futures_util::stream::iter(rotations).for_each_concurrent(ROTATIONS_MAX, |done| done).await;
        self.tries().retain(|id, _| view.secret(*id).is_some());
    }

    /// Looks for secrets that are due, for as long as this process leads.
    pub(super) async fn keep_supplied(self, ended: CancellationToken) {
        loop {
            tokio::select! {
                () = ended.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if ended.run_until_cancelled(self.rotate_due()).await.is_none() {
                return;
            }
        }
    }
}

/// So many letters and digits, each as likely as any other.
fn draw(entropy: &dyn Entropy, length: usize) -> Vec<u8> {
    // The largest multiple of 62 that a byte can be below.
    const FAIR: u8 = 248;
    let mut drawn = Vec::with_capacity(length);
    let mut bytes = zeroize::Zeroizing::new([0; 64]);
    while drawn.len() < length {
        entropy.fill(Stream::Key, &mut *bytes);
        let fair = bytes.iter().filter(|byte| **byte < FAIR);
        let characters = fair.map(|byte| ALPHABET[usize::from(*byte) % ALPHABET.len()]);
        drawn.extend(characters.take(length - drawn.len()));
    }
    drawn
}

/// What a command is told of the secret: its name, and its labels.
fn environment(spec: &SecretSpec) -> impl Iterator<Item = (String, &str)> {
    let labels = spec.labels.iter().map(|(label, text)| (variable(label), text.as_str()));
    // A variable cannot hold a zero byte.
    let labels = labels.filter(|(_, text)| !text.contains('\0'));
    labels.chain([("PURSER_SECRET_NAME".to_owned(), spec.name.as_str())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::container::Driver;
    use crate::manager::fixture::Fixture;

    fn spec(driver: &str, labels: &[(&str, &str)]) -> SecretSpec {
        let labels = labels.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect();
        let driver = Driver { name: driver.into(), options: Default::default() };
        SecretSpec { name: "made".into(), labels, driver: Some(driver), templating: None }
    }

    async fn create(fixture: &Fixture, spec: SecretSpec) -> Result<SecretId, Refusal> {
        let data = SecretBytes::new(Vec::new());
        fixture.manager.create_secret(Actor::Manager, spec, data).await
    }

    fn current(fixture: &Fixture, id: SecretId) -> u64 {
        fixture.manager.view().secret(id).expect("it is there").revisions.current
    }

    #[tokio::test]
    async fn a_value_that_is_due_is_followed_by_the_next() {
        let fixture = Fixture::leading().await;
        let made = create(&fixture, spec("generate", &[("purser.rotate-every", "30d")])).await;
        let id = made.expect("the server makes it");
        fixture.clock.advance(Duration::from_secs(29 * 86_400));
        fixture.manager.rotate_due().await;
        assert_eq!(current(&fixture, id), 1, "not yet");
        fixture.clock.advance(Duration::from_secs(86_400));
        fixture.manager.rotate_due().await;
        fixture.manager.rotate_due().await;
        assert_eq!(current(&fixture, id), 2, "once");
    }

    #[tokio::test]
    async fn a_command_that_fails_leaves_the_last_good_value() {
        let fixture = Fixture::leading().await;
        let flag = std::env::temp_dir().join(format!("purser-supply-{}", std::process::id()));
        std::fs::write(&flag, "one").expect("a file");
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let script = format!("cat {} && test \"$PURSER_LABEL_TEAM_A\" = x", flag.display());
        let commands = [("keeper".to_owned(), words(&["sh", "-c", &script]))];
        fixture.manager.set_commands(commands.into());
        let labels = [("purser.rotate-every", "1h"), ("team.a", "x"), ("purser.command", "keeper")];
        let id = create(&fixture, spec("exec", &labels)).await.expect("it prints one");
        std::fs::remove_file(&flag).expect("it was there");
        fixture.clock.advance(Duration::from_secs(3_600));
        fixture.manager.rotate_due().await;
        assert_eq!(current(&fixture, id), 1);
        let tried = fixture.manager.last_try(id).expect("it is remembered");
        let failure = tried.failure.expect("it failed");
        assert!(failure.contains("ended with exit status: 1"), "{failure}");
        let secret = fixture.manager.view().secret(id).cloned().expect("it is there");
        let next = fixture.manager.next_supply(&secret).expect("it is tried again");
        assert_eq!(next, tried.at.plus(360_000_000_000), "after a tenth of the hour");
        std::fs::write(&flag, "two").expect("a file");
        fixture.clock.advance(Duration::from_secs(360));
        fixture.manager.rotate_due().await;
        assert_eq!(current(&fixture, id), 2);
        assert!(fixture.manager.last_try(id).is_some_and(|tried| tried.failure.is_none()));
        fixture.clock.advance(Duration::from_secs(3_600));
        fixture.manager.rotate_due().await;
        assert_eq!(current(&fixture, id), 2, "the same value is no other");
        std::fs::remove_file(&flag).expect("it was there");
    }

    #[tokio::test]
    async fn a_driver_without_a_value_makes_no_secret() {
        let fixture = Fixture::leading().await;
        let refused = create(&fixture, spec("exec", &[])).await.expect_err("no command");
        assert!(refused.message.contains("purser.command"), "{}", refused.message);
        let unknown = spec("exec", &[("purser.command", "vault")]);
        let refused = create(&fixture, unknown).await.expect_err("none of that name");
        assert!(refused.message.contains("\"vault\""), "{}", refused.message);
        let short = spec("generate", &[("purser.length", "3")]);
        let refused = create(&fixture, short).await.expect_err("too short");
        assert!(refused.message.contains("purser.length"), "{}", refused.message);
        fixture.manager.set_strict(true);
        let refused = create(&fixture, spec("generate", &[])).await.expect_err("Swarm has none");
        assert_eq!(refused.message, "plugin \"generate\" not found");
    }

    #[test]
    fn every_character_is_as_likely_as_any_other() {
        struct All;
        impl Entropy for All {
            fn fill(&self, _: Stream, out: &mut [u8]) {
                for (at, byte) in out.iter_mut().enumerate() {
                    *byte = u8::try_from(at * 4 + 3).expect("64 bytes at a time");
                }
            }
        }
        let drawn = draw(&All, 1000);
        assert!(drawn.len() == 1000 && drawn.iter().all(|byte| ALPHABET.contains(byte)));
    }
}
