//! Configs: create and remove.

use super::payload::{check_template, check_unused, taken};
use super::value::{self, BAD_CONFIG_LEN};
use crate::domain::change::{Change, Key};
use crate::domain::config::{CONFIG_LEN_MAX, Config, ConfigSpec};
use crate::domain::id::ConfigId;
use crate::domain::intent::SealedPayload;
use crate::domain::name::check_payload_name;
use crate::domain::refusal::Refusal;
use crate::domain::revision::Owner;
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
    let payload = payload
        .filter(|_| (1..=CONFIG_LEN_MAX).contains(&payload_len))
        .ok_or_else(|| Refusal::invalid(BAD_CONFIG_LEN))?;
    check_template(spec.templating.as_ref(), Some(&payload))?;
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

pub(super) fn remove(view: &View, id: ConfigId) -> Result<Vec<Change>, Refusal> {
    let config = find(view, id)?;
    check_unused("config", &config.spec.name, view.services_of_config(id))?;
    Ok(value::remove(Owner::Config(id), &config.revisions))
}

fn find(view: &View, id: ConfigId) -> Result<&Config, Refusal> {
    view.require_cluster()?;
    view.config(id).map(|config| &**config).ok_or_else(|| Refusal::not_found("config", id.as_str()))
}
