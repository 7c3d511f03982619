//! What secrets and configs have in common: both carry a payload, neither is renamed, and neither is
//! removed while a service uses it.

use std::sync::Arc;

use crate::domain::container::Driver;
use crate::domain::intent::SealedPayload;
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::secret::Fingerprint;
use crate::domain::service::Service;

/// The only engine that renders payloads.
const TEMPLATES: &str = "golang";

/// Refuses a payload that is to be rendered and cannot be.
pub(super) fn check_template(
    templating: Option<&Driver>,
    payload: Option<&SealedPayload>,
) -> Result<(), Refusal> {
    let Some(driver) = templating else { return Ok(()) };
    if driver.name != TEMPLATES {
        let name = &driver.name;
        let message = format!("template driver {name:?} is not known; there is {TEMPLATES:?}");
        return Err(Refusal::invalid(message));
    }
    match payload.and_then(|payload| payload.fault.as_ref()) {
        None => Ok(()),
        Some(fault) => Err(Refusal::invalid(fault.clone())),
    }
}

/// The refusal of a name that another one has.
pub(super) fn taken(word: &str, name: &str) -> Refusal {
    Refusal::store(Reason::Taken, format!("{word} {name} already exists"))
}

/// Refuses an update of more than labels. A client that sends the payload again sends the same.
pub(super) fn check_labels_only(
    names: [&str; 2],
    stored: &Fingerprint,
    sent: Option<Fingerprint>,
) -> Result<(), Refusal> {
    if names[0] == names[1] && is_same(stored, sent.as_ref()) {
        return Ok(());
    }
    Err(Refusal::invalid("only updates to Labels are allowed"))
}

/// True when no payload was sent, or the one that is stored.
pub(super) fn is_same(stored: &Fingerprint, sent: Option<&Fingerprint>) -> bool {
    sent.is_none_or(|sent| sent.matches(stored))
}

/// Refuses the removal of what services use.
pub(super) fn check_unused<'v>(
    word: &str,
    name: &str,
    users: impl Iterator<Item = &'v Arc<Service>>,
) -> Result<(), Refusal> {
    let users: Vec<&str> = users.map(|service| service.spec.name.as_str()).collect();
    let services = match users.len() {
        0 => return Ok(()),
        1 => "service",
        _ => "services",
    };
    let users = users.join(", ");
    Err(Refusal::invalid(format!("{word} '{name}' is in use by the following {services}: {users}")))
}
