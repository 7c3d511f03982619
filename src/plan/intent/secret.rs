//! Secrets: create, update of labels and value, remove.

use super::payload::{check_unused, taken};
use super::revision::{self, Sent, Stored};
use crate::domain::change::{Change, Key};
use crate::domain::id::SecretId;
use crate::domain::intent::{NewValue, SealedPayload};
use crate::domain::meta::Version;
use crate::domain::name::check_payload_name;
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::revision::Owner;
use crate::domain::secret::{Fingerprint, SECRET_LEN_MAX, Secret, SecretSpec};
use crate::domain::view::View;
use crate::plan::Context;

const BAD_LEN: &str = "secret data must be larger than 0 and less than 512000 bytes";

pub(super) fn create(
    view: &View,
    id: SecretId,
    spec: SecretSpec,
    payload: Option<SealedPayload>,
    payload_len: usize,
) -> Result<Vec<Change>, Refusal> {
    view.require_cluster()?;
    check_payload_name(&spec.name)?;
    if let Some(driver) = &spec.driver {
        if driver.name.is_empty() {
            return Err(Refusal::invalid("secret driver must have a name"));
        }
        return Err(Refusal::store(Reason::Unknown, format!("plugin {:?} not found", driver.name)));
    }
    let too_small_or_large = || Refusal::invalid(BAD_LEN);
    if payload_len == 0 || payload_len > SECRET_LEN_MAX {
        return Err(too_small_or_large());
    }
    let payload = payload.ok_or_else(too_small_or_large)?;
    if view.secret_named(&spec.name).is_some() {
        return Err(taken("secret", &spec.name));
    }
    let secret = Secret {
        id,
        meta: Default::default(),
        spec,
        fingerprint: payload.fingerprint,
        revisions: Default::default(),
        shown: Default::default(),
    };
    Ok(vec![secret.into(), Change::PutPayload(Key::Secret(id), payload.bytes)])
}

pub(super) fn update(
    view: &View,
    id: SecretId,
    version: Version,
    spec: &SecretSpec,
    (fingerprint, value): (Option<Fingerprint>, Option<NewValue>),
    ctx: Context<'_>,
) -> Result<Vec<Change>, Refusal> {
    let secret = find(view, id)?;
    let stored = Stored {
        owner: Owner::Secret(id),
        name: &secret.spec.name,
        version: secret.meta.version,
        fingerprint: &secret.fingerprint,
        revisions: &secret.revisions,
        made_at: secret.meta.created_at,
    };
    let (name, len_max, bad_len) = (&*spec.name, SECRET_LEN_MAX, BAD_LEN);
    let sent = Sent { name, version, fingerprint, value, len_max, bad_len };
    let next = revision::update(view, &stored, sent, ctx)?;
    let mut secret = secret.clone();
    secret.spec.labels = spec.labels.clone();
    let Some(next) = next else { return Ok(vec![secret.into()]) };
    (secret.revisions, secret.fingerprint) = (next.revisions, next.fingerprint);
    Ok(std::iter::once(secret.into()).chain(next.changes).collect())
}

pub(super) fn remove(view: &View, id: SecretId) -> Result<Vec<Change>, Refusal> {
    let secret = find(view, id)?;
    check_unused("secret", &secret.spec.name, view.services_of_secret(id))?;
    Ok(revision::remove(Owner::Secret(id), &secret.revisions))
}

fn find(view: &View, id: SecretId) -> Result<&Secret, Refusal> {
    view.require_cluster()?;
    view.secret(id).map(|secret| &**secret).ok_or_else(|| Refusal::not_found("secret", id.as_str()))
}
