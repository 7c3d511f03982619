//! Configs: create, update of labels and value, remove.

use super::payload::{check_unused, taken};
use super::revision::{self, Sent, Stored};
use crate::domain::change::{Change, Key};
use crate::domain::config::{CONFIG_LEN_MAX, Config, ConfigSpec};
use crate::domain::id::ConfigId;
use crate::domain::intent::{NewValue, SealedPayload};
use crate::domain::meta::Version;
use crate::domain::name::check_payload_name;
use crate::domain::refusal::Refusal;
use crate::domain::revision::Owner;
use crate::domain::secret::Fingerprint;
use crate::domain::view::View;
use crate::plan::Context;

const BAD_LEN: &str = "config data must be larger than 0 and less than 1024000 bytes";

pub(super) fn create(
    view: &View,
    id: ConfigId,
    spec: ConfigSpec,
    payload: Option<SealedPayload>,
    payload_len: usize,
) -> Result<Vec<Change>, Refusal> {
    view.require_cluster()?;
    check_payload_name(&spec.name)?;
    let payload = payload
        .filter(|_| (1..=CONFIG_LEN_MAX).contains(&payload_len))
        .ok_or_else(|| Refusal::invalid(BAD_LEN))?;
    if view.config_named(&spec.name).is_some() {
        return Err(taken("config", &spec.name));
    }
    let config = Config {
        id,
        meta: Default::default(),
        spec,
        fingerprint: payload.fingerprint,
        revisions: Default::default(),
    };
    Ok(vec![config.into(), Change::PutPayload(Key::Config(id), payload.bytes)])
}

pub(super) fn update(
    view: &View,
    id: ConfigId,
    version: Version,
    spec: &ConfigSpec,
    (fingerprint, value): (Option<Fingerprint>, Option<NewValue>),
    ctx: Context<'_>,
) -> Result<Vec<Change>, Refusal> {
    let config = find(view, id)?;
    let stored = Stored {
        owner: Owner::Config(id),
        name: &config.spec.name,
        version: config.meta.version,
        fingerprint: &config.fingerprint,
        revisions: &config.revisions,
        made_at: config.meta.created_at,
    };
    let (name, len_max, bad_len) = (&*spec.name, CONFIG_LEN_MAX, BAD_LEN);
    let sent = Sent { name, version, fingerprint, value, len_max, bad_len };
    let next = revision::update(view, &stored, sent, ctx)?;
    let mut config = config.clone();
    config.spec.labels = spec.labels.clone();
    let Some(next) = next else { return Ok(vec![config.into()]) };
    (config.revisions, config.fingerprint) = (next.revisions, next.fingerprint);
    Ok(std::iter::once(config.into()).chain(next.changes).collect())
}

pub(super) fn remove(view: &View, id: ConfigId) -> Result<Vec<Change>, Refusal> {
    let config = find(view, id)?;
    check_unused("config", &config.spec.name, view.services_of_config(id))?;
    Ok(revision::remove(Owner::Config(id), &config.revisions))
}

fn find(view: &View, id: ConfigId) -> Result<&Config, Refusal> {
    view.require_cluster()?;
    view.config(id).map(|config| &**config).ok_or_else(|| Refusal::not_found("config", id.as_str()))
}
