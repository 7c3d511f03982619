//! Configs: create, update of labels, remove.

use super::payload::{check_labels_only, check_unused, taken};
use crate::domain::change::{Change, Key};
use crate::domain::config::{CONFIG_LEN_MAX, Config, ConfigSpec};
use crate::domain::id::ConfigId;
use crate::domain::intent::SealedPayload;
use crate::domain::meta::Version;
use crate::domain::name::check_payload_name;
use crate::domain::refusal::Refusal;
use crate::domain::secret::Fingerprint;
use crate::domain::view::View;

pub(super) fn create(
    view: &View,
    id: ConfigId,
    spec: ConfigSpec,
    payload: Option<SealedPayload>,
    payload_len: usize,
) -> Result<Vec<Change>, Refusal> {
    view.require_cluster()?;
    check_payload_name(&spec.name)?;
    let payload =
        payload.filter(|_| (1..=CONFIG_LEN_MAX).contains(&payload_len)).ok_or_else(|| {
            Refusal::invalid("config data must be larger than 0 and less than 1024000 bytes")
        })?;
    if view.config_named(&spec.name).is_some() {
        return Err(taken("config", &spec.name));
    }
    let config = Config { id, meta: Default::default(), spec, fingerprint: payload.fingerprint };
    Ok(vec![config.into(), Change::PutPayload(Key::Config(id), payload.bytes)])
}

pub(super) fn update(
    view: &View,
    id: ConfigId,
    version: Version,
    spec: &ConfigSpec,
    fingerprint: Option<Fingerprint>,
) -> Result<Vec<Change>, Refusal> {
    let config = find(view, id)?;
    check_labels_only([&spec.name, &config.spec.name], &config.fingerprint, fingerprint)?;
    if version != config.meta.version {
        return Err(Refusal::out_of_sequence());
    }
    let mut config = config.clone();
    config.spec.labels = spec.labels.clone();
    Ok(vec![config.into()])
}

pub(super) fn remove(view: &View, id: ConfigId) -> Result<Vec<Change>, Refusal> {
    let config = find(view, id)?;
    check_unused("config", &config.spec.name, view.services_of_config(id))?;
    Ok(vec![Change::Remove(Key::Config(id))])
}

fn find(view: &View, id: ConfigId) -> Result<&Config, Refusal> {
    view.require_cluster()?;
    view.config(id).map(|config| &**config).ok_or_else(|| Refusal::not_found("config", id.as_str()))
}
