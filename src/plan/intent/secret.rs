//! Secrets: create and remove.

use super::payload::{check_template, check_unused, taken};
use super::value::{self, BAD_SECRET_LEN};
use crate::domain::change::{Change, Key};
use crate::domain::id::SecretId;
use crate::domain::intent::SealedPayload;
use crate::domain::name::check_payload_name;
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::revision::Owner;
use crate::domain::secret::{SECRET_LEN_MAX, Secret, SecretSpec};
use crate::domain::supply::Supply;
use crate::domain::view::View;

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
        let not_found = || {
            let message = format!("plugin {:?} not found", driver.name);
            Refusal::store(Reason::Unknown, message)
        };
        // Of a driver that is served, the manager has made the value.
        if payload.is_none() {
            return Err(not_found());
        }
        Supply::of(&spec).map_err(Refusal::invalid)?.ok_or_else(not_found)?;
    }
    let too_small_or_large = || Refusal::invalid(BAD_SECRET_LEN);
    if payload_len == 0 || payload_len > SECRET_LEN_MAX {
        return Err(too_small_or_large());
    }
    let payload = payload.ok_or_else(too_small_or_large)?;
    check_template(spec.templating.as_ref(), Some(&payload))?;
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

pub(super) fn remove(view: &View, id: SecretId) -> Result<Vec<Change>, Refusal> {
    let secret = find(view, id)?;
    check_unused("secret", &secret.spec.name, view.services_of_secret(id))?;
    Ok(value::remove(Owner::Secret(id), &secret.revisions))
}

fn find(view: &View, id: SecretId) -> Result<&Secret, Refusal> {
    view.require_cluster()?;
    view.secret(id).map(|secret| &**secret).ok_or_else(|| Refusal::not_found("secret", id.as_str()))
}
