//! New values under the same name: what becomes of the revisions of a secret or config, and of the
//! services that use it. Each service rolls the new value out by its own settings, as if it had been
//! updated with the spec that it has.

use std::sync::Arc;

use super::payload::{check_labels_only, is_same};
use crate::domain::change::{Change, Key};
use crate::domain::id::RevisionId;
use crate::domain::intent::{NewValue, SealedPayload};
use crate::domain::meta::Version;
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::revision::{
    Follows, Known, Numbers, Owner, REVISIONS_KEPT, REVISIONS_MAX, Revision, Revisions, number_of,
};
use crate::domain::secret::Fingerprint;
use crate::domain::service::{Service, ServiceSpec};
use crate::domain::task::Task;
use crate::domain::time::Nanoseconds;
use crate::domain::view::View;
use crate::plan::Context;

/// How long a rollout of new values waits for more of them, and for an update of the service itself: a
/// deployment of several is one rollout.
pub const GATHER_TIME: Nanoseconds = 2_000_000_000;

/// A secret or config as an update finds it.
pub(super) struct Stored<'a> {
    pub owner: Owner,
    pub name: &'a str,
    pub version: Version,
    pub fingerprint: &'a Fingerprint,
    pub revisions: &'a Revisions,
    pub made_at: crate::domain::time::Timestamp,
}

/// What an update sends of the value.
pub(super) struct Sent<'a> {
    pub name: &'a str,
    pub version: Version,
    pub fingerprint: Option<Fingerprint>,
    /// Absent where new values are refused, or none was sent.
    pub value: Option<NewValue>,
    /// The longest that it may be.
    pub len_max: usize,
    /// The refusal of any other length.
    pub bad_len: &'static str,
}

/// The revisions after an update, and what goes with them; nothing for an update of labels.
pub(super) struct Next {
    pub revisions: Revisions,
    pub fingerprint: Fingerprint,
    pub changes: Vec<Change>,
}

/// What an update does to the values of a secret or config, before its labels are looked at.
///
/// # Errors
/// Another name, an old version, a value that may not be given, or too many in use.
pub(super) fn update(
    view: &View,
    stored: &Stored<'_>,
    sent: Sent<'_>,
    ctx: Context<'_>,
) -> Result<Option<Next>, Refusal> {
    let names = [sent.name, stored.name];
    let has_same_value = is_same(stored.fingerprint, sent.fingerprint.as_ref());
    let Some(value) = sent.value.filter(|_| !has_same_value && names[0] == names[1]) else {
        check_labels_only(names, stored.fingerprint, sent.fingerprint)?;
        return check_version(stored, sent.version).map(|()| None);
    };
    check_version(stored, sent.version)?;
    let payload = value
        .payload
        .filter(|_| (1..=sent.len_max).contains(&value.payload_len))
        .ok_or_else(|| Refusal::invalid(sent.bad_len))?;
    let mut next = add(stored, value.id, payload, ctx);
    drop_old(view, stored, &mut next)?;
    let number = next.revisions.current;
    let services: Vec<_> = users(view, stored.owner)
        .filter(|user| Follows::of(user, stored.owner, stored.name) == Follows::Automatic)
        .map(|service| rotated(service, stored.owner, number, ctx))
        .collect();
    next.changes.extend(services);
    Ok(Some(next))
}

fn check_version(stored: &Stored<'_>, sent: Version) -> Result<(), Refusal> {
    if sent == stored.version { Ok(()) } else { Err(Refusal::out_of_sequence()) }
}

fn add(stored: &Stored<'_>, id: RevisionId, payload: SealedPayload, ctx: Context<'_>) -> Next {
    let mut revisions = stored.revisions.clone();
    if revisions.is_first() {
        let fingerprint = *stored.fingerprint;
        revisions.known.push(Known {
            number: 1,
            fingerprint,
            made_at: stored.made_at,
            lies_with: None,
        });
    }
    let number = revisions.next_number();
    let fingerprint = payload.fingerprint;
    revisions.known.push(Known { number, fingerprint, made_at: ctx.now, lies_with: Some(id) });
    revisions.current = number;
    let revision = Revision { id, meta: Default::default(), owner: stored.owner, number };
    let changes = vec![revision.into(), Change::PutPayload(Key::Revision(id), payload.bytes)];
    Next { revisions, fingerprint, changes }
}

/// Drops the oldest that nobody uses, beyond those that are kept.
fn drop_old(view: &View, stored: &Stored<'_>, next: &mut Next) -> Result<(), Refusal> {
    let known = &mut next.revisions.known;
    let mut at = 0;
    while known.len() > REVISIONS_KEPT && at + 1 < known.len() {
        if is_in_use(view, stored.owner, known[at].number) {
            at += 1;
            continue;
        }
        next.changes.push(match known.remove(at).lies_with {
            Some(id) => Change::Remove(Key::Revision(id)),
            None => Change::DropPayload(stored.owner.key()),
        });
    }
    if known.len() <= REVISIONS_MAX {
        return Ok(());
    }
    let (kind, name) = (stored.owner.key().kind().word(), stored.name);
    let message =
        format!("{kind} {name} has {REVISIONS_MAX} versions in use, and can have no more");
    Err(Refusal::store(Reason::Exhausted, message))
}

/// True for a value that a service may come back to, or that a task was started with and may need.
fn is_in_use(view: &View, owner: Owner, number: u64) -> bool {
    let key = owner.key();
    let of = |numbers: &Numbers| number_of(numbers, key.id()) == number;
    let goes_back = |service: &Arc<Service>| service.previous_spec.is_some();
    users(view, owner).any(|service| {
        of(&service.revisions) || goes_back(service) && of(&service.previous_revisions)
    }) || view.tasks().any(|task| holds(task, key) && of(&task.revisions))
}

/// True for a task that has not ended and was granted this.
fn holds(task: &Task, key: Key) -> bool {
    !task.status.state.is_terminal() && task.grants().any(|grant| grant == key)
}

fn users(view: &View, owner: Owner) -> Box<dyn Iterator<Item = &Arc<Service>> + '_> {
    match owner {
        Owner::Secret(id) => Box::new(view.services_of_secret(id)),
        Owner::Config(id) => Box::new(view.services_of_config(id)),
    }
}

/// A service that takes a new value: what it had is what it comes back to, unless it has yet to begin
/// with what it took a moment ago.
fn rotated(service: &Service, owner: Owner, number: u64, ctx: Context<'_>) -> Change {
    let mut rotated = Service {
        spec_version: Version::default(),
        update_status: None,
        rollout_at: Some(ctx.now.plus(GATHER_TIME)),
        ..service.clone()
    };
    if !service.gathers(ctx.now) {
        rotated.previous_spec = Some(service.spec.clone());
        rotated.previous_registry_auth = service.registry_auth.clone();
        rotated.previous_revisions = service.revisions.clone();
    }
    rotated.revisions.insert(owner.key().id().to_owned(), number);
    rotated.into()
}

/// What a spec grants, as far as it is there: with its name and values.
fn grants<'v>(
    view: &'v View,
    spec: &'v ServiceSpec,
) -> impl Iterator<Item = (Owner, &'v str, &'v Revisions)> {
    spec.container().into_iter().flat_map(|container| {
        let secrets = container.secrets.iter().filter_map(|grant| {
            let secret = view.secret(grant.secret_id.parse().ok()?)?;
            Some((Owner::Secret(secret.id), &*secret.spec.name, &secret.revisions))
        });
        let configs = container.configs.iter().filter_map(|grant| {
            let config = view.config(grant.config_id.parse().ok()?)?;
            Some((Owner::Config(config.id), &*config.spec.name, &config.revisions))
        });
        secrets.chain(configs)
    })
}

/// The revisions that a service gets with a spec: those its labels pin, and else the current ones.
///
/// # Errors
/// A label pins one that there is not.
pub(super) fn resolve(view: &View, spec: &ServiceSpec) -> Result<Numbers, Refusal> {
    let mut numbers = Numbers::new();
    for (owner, name, revisions) in grants(view, spec) {
        let label = owner.pin_label(name);
        let number = match spec.labels.get(&label) {
            None => revisions.current,
            Some(text) => {
                let number = text.parse().ok();
                let known = number.filter(|number| revisions.place(owner, *number).is_some());
                known.ok_or_else(|| {
                    let kind = owner.key().kind().word();
                    Refusal::invalid(format!(
                        "label {label}: {kind} {name} has no version {text:?}"
                    ))
                })?
            }
        };
        if number != 1 {
            numbers.insert(owner.key().id().to_owned(), number);
        }
    }
    Ok(numbers)
}

/// Refuses to go back to values that are not kept.
pub(crate) fn check_kept(
    view: &View,
    numbers: &Numbers,
    spec: &ServiceSpec,
) -> Result<(), Refusal> {
    for (owner, name, revisions) in grants(view, spec) {
        let number = number_of(numbers, owner.key().id());
        if revisions.place(owner, number).is_none() {
            let kind = owner.key().kind().word();
            return Err(Refusal::invalid(format!(
                "{kind} {name} has no version {number} any more"
            )));
        }
    }
    Ok(())
}

/// The writes that take a secret or config away with all of its values.
pub(super) fn remove(owner: Owner, revisions: &Revisions) -> Vec<Change> {
    let others = revisions.known.iter().filter_map(|known| known.lies_with);
    let others = others.map(|id| Change::Remove(Key::Revision(id)));
    others.chain([Change::Remove(owner.key())]).collect()
}
