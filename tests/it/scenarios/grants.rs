//! Secrets and configs in scripts: `secret s1`, `config c1`, `rotate s1`, their removal, and the settings
//! of services: `secret=s1,s2` and `config=c1`, which grant these and no others, and
//! `label.purser.rotate=manual`.

use std::sync::Arc;

use purser::domain::change::SealedData;
use purser::domain::config::ConfigSpec;
use purser::domain::container::ConfigReference;
use purser::domain::id::{ConfigId, Entropy as _, RevisionId, SecretId, Stream};
use purser::domain::intent::{Intent, NewValue, SealedPayload};
use purser::domain::meta::Version;
use purser::domain::revision::{Keep, Owner};
use purser::domain::secret::{FileTarget, Fingerprint, SecretReference, SecretSpec};
use purser::domain::service::ServiceSpec;

use super::spec::number;
use super::world::World;

impl World {
    pub fn make_secret(&mut self, name: &str) -> Intent {
        let id = SecretId::make(&self.entropy);
        if self.view.secret_named(name).is_none() {
            self.secrets.insert(name.into(), id);
        }
        let spec = SecretSpec { name: name.into(), ..Default::default() };
        Intent::CreateSecret { id, spec, payload: Some(sealed()), payload_len: 1 }
    }

    pub fn make_config(&mut self, name: &str) -> Intent {
        let id = ConfigId::make(&self.entropy);
        if self.view.config_named(name).is_none() {
            self.configs.insert(name.into(), id);
        }
        let spec = ConfigSpec { name: name.into(), ..Default::default() };
        Intent::CreateConfig { id, spec, payload: Some(sealed()), payload_len: 1 }
    }

    /// A new value of a secret or config, another one each time.
    pub fn rotate(&self, name: &str) -> Result<Intent, String> {
        let value = || {
            let mut bytes = [0; 32];
            self.entropy.fill(Stream::Other, &mut bytes);
            let fingerprint = Fingerprint(bytes);
            let id = RevisionId::make(&self.entropy);
            let payload =
                Some(SealedPayload { bytes: SealedData::default(), fingerprint, fault: None });
            let keep = Keep::default();
            let value = NewValue { id, payload, payload_len: 1, is_supplied: false, keep };
            (Some(fingerprint), Some(value))
        };
        if let Some(secret) = self.view.secret_named(name) {
            let (id, version, spec) = (secret.id, secret.meta.version, secret.spec.clone());
            let (fingerprint, value) = value();
            return Ok(Intent::UpdateSecret { id, version, spec, fingerprint, value });
        }
        let config = self.view.config_named(name).ok_or(format!("nothing is called {name}"))?;
        let (id, version, spec) = (config.id, config.meta.version, config.spec.clone());
        let (fingerprint, value) = value();
        Ok(Intent::UpdateConfig { id, version, spec, fingerprint, value })
    }

    fn owner(&self, name: &str) -> Result<(Owner, Version), String> {
        let secret = self.view.secret_named(name);
        let secret = secret.map(|secret| (Owner::Secret(secret.id), secret.meta.version));
        let config = self.view.config_named(name);
        let config = config.map(|config| (Owner::Config(config.id), config.meta.version));
        secret.or(config).ok_or(format!("nothing is called {name}"))
    }

    /// An earlier value: that of the number that follows, or the one before the present one.
    pub fn choose(&self, name: &str, settings: &[&str]) -> Result<Intent, String> {
        let (owner, version) = self.owner(name)?;
        let number = settings.first().map(|text| number(text)).transpose()?;
        Ok(Intent::ChooseRevision { owner, version, number })
    }

    /// Drops values that nothing uses: all, or with `keep=N` all but the newest.
    pub fn prune(&self, name: &str, settings: &[&str]) -> Result<Intent, String> {
        let (owner, _) = self.owner(name)?;
        let kept = settings.iter().find_map(|setting| setting.strip_prefix("keep="));
        let newest = kept.map(number).transpose()?.unwrap_or(0);
        let newest = usize::try_from(newest).map_err(|error| error.to_string())?;
        Ok(Intent::PruneRevisions { owner, keep: Keep { newest, unused_for: 0 } })
    }

    pub fn remove_secret(&self, name: &str) -> Result<Intent, String> {
        let id = self.secrets.get(name).ok_or(format!("no secret {name}"))?;
        Ok(Intent::RemoveSecret { id: *id })
    }

    pub fn remove_config(&self, name: &str) -> Result<Intent, String> {
        let id = self.configs.get(name).ok_or(format!("no config {name}"))?;
        Ok(Intent::RemoveConfig { id: *id })
    }

    /// Grants what a setting names, by the id that it had last: what is gone is for the planner to
    /// refuse. False for a setting of another kind.
    pub fn grant(&self, spec: &mut ServiceSpec, setting: &str) -> Result<bool, String> {
        let Some((key, names)) = setting.split_once('=') else { return Ok(false) };
        if let Some(label) = key.strip_prefix("label.") {
            spec.labels.retain(|known, _| known != label);
            if !names.is_empty() {
                spec.labels.insert(label.into(), names.into());
            }
            return Ok(true);
        }
        let names = names.split(',').filter(|name| !name.is_empty());
        let template = Arc::make_mut(&mut spec.task_template);
        let container = template.container_spec.get_or_insert_default();
        let file = |name: &str| Some(FileTarget { name: name.into(), ..Default::default() });
        match key {
            "secret" => {
                let grant = |name: &str| {
                    let id = self.secrets.get(name).ok_or(format!("no secret {name}"))?;
                    let (secret_id, secret_name) = (id.to_string(), name.to_owned());
                    Ok(SecretReference { file: file(name), secret_id, secret_name })
                };
                container.secrets = names.map(grant).collect::<Result<_, String>>()?;
            }
            "config" => {
                let grant = |name: &str| {
                    let id = self.configs.get(name).ok_or(format!("no config {name}"))?;
                    let (config_id, config_name) = (id.to_string(), name.to_owned());
                    Ok(ConfigReference { file: file(name), runtime: None, config_id, config_name })
                };
                container.configs = names.map(grant).collect::<Result<_, String>>()?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn sealed() -> SealedPayload {
    SealedPayload { bytes: SealedData::default(), fingerprint: Fingerprint([0; 32]), fault: None }
}
