//! Submitting: an intent in, a commit out.

use super::Manager;
use crate::domain::change::Key;
use crate::domain::config::{CONFIG_LEN_MAX, ConfigSpec};
use crate::domain::id::{ConfigId, SecretId};
use crate::domain::intent::{Actor, Intent, SealedPayload};
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::secret::{SECRET_LEN_MAX, SecretSpec};
use crate::plan::{Context, access, intent};
use crate::seal::secret::SecretBytes;
use crate::store::{Applied, WriteError};

impl Manager {
    /// Decides and writes a request. Answers once it is durable.
    ///
    /// # Errors
    /// The actor may not, the request is refused, or the store fails; nothing was changed.
    pub async fn submit(&self, actor: Actor, intent: Intent) -> Result<Applied, Refusal> {
        access::check(actor, &intent)?;
        let entropy = self.inner.entropy.clone();
        let written = self.inner.store.write(move |view, stamp| {
            let ctx = Context { now: stamp.now, entropy: &*entropy };
            intent::decide(view, intent, ctx)
        });
        written.await.map_err(Refusal::from)
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
        let (payload, payload_len) = self.seal_within(SECRET_LEN_MAX, Key::Secret(id), data);
        let intent = Intent::CreateSecret { id, spec, payload, payload_len };
        self.submit(actor, intent).await.map(|_| id)
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
        let (payload, payload_len) = self.seal_within(CONFIG_LEN_MAX, Key::Config(id), data);
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
    ) -> (Option<SealedPayload>, usize) {
        let len = data.len();
        ((1..=len_max).contains(&len).then(|| self.seal(key, &data)), len)
    }

    pub(super) fn seal(&self, key: Key, data: &SecretBytes) -> SealedPayload {
        let store = &self.inner.store;
        SealedPayload {
            bytes: store.seal_payload(&key, data, self.entropy()),
            fingerprint: store.keyring().fingerprint(data),
        }
    }
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
