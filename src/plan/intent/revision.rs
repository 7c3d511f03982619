//! New values under the same name: what becomes of the revisions of a secret or config, and of the
//! services that use it. Each service rolls the new value out by its own settings, as if it had been
//! updated with the spec that it has.

use std::collections::BTreeSet;

use super::payload::{check_labels_only, is_same};
use crate::domain::change::{Change, Key};
use crate::domain::id::RevisionId;
use crate::domain::intent::{NewValue, SealedPayload};
use crate::domain::meta::Version;
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::revision::{
    Follows, GATHER_TIME, Known, Numbers, Owner, REVISIONS_KEPT, REVISIONS_MAX, Revision,
    Revisions, choose_alike, number_of,
};
use crate::domain::secret::Fingerprint;
use crate::domain::service::{Service, ServiceSpec, UpdateState};
use crate::domain::view::View;
use crate::plan::Context;

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
    let services: Vec<_> = view
        .services_of(stored.owner)
        .filter(|user| Follows::of(user, stored.owner, stored.name) == Follows::Automatic)
        .filter(|user| !is_paused(user))
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

/// Drops the oldest of those that nobody uses, beyond the ones that are kept.
fn drop_old(view: &View, stored: &Stored<'_>, next: &mut Next) -> Result<(), Refusal> {
    let Next { revisions, changes, .. } = next;
    if revisions.known.len() <= REVISIONS_KEPT {
        return Ok(());
    }
    let mut used = in_use(view, stored.owner);
    used.insert(revisions.current);
    let numbers = revisions.known.iter().map(|known| known.number);
    let unused: Vec<u64> = numbers.filter(|number| !used.contains(number)).collect();
    let dropped = &unused[..unused.len().saturating_sub(REVISIONS_KEPT)];
    for known in revisions.known.extract_if(.., |known| dropped.contains(&known.number)) {
        changes.push(match known.lies_with {
            Some(id) => Change::Remove(Key::Revision(id)),
            None => Change::DropPayload(stored.owner.key()),
        });
    }
    if revisions.known.len() <= REVISIONS_MAX {
        return Ok(());
    }
    let (kind, name) = (stored.owner.key().kind().word(), stored.name);
    let message =
        format!("{kind} {name} has {REVISIONS_MAX} versions in use, and can have no more");
    Err(Refusal::store(Reason::Exhausted, message))
}

/// The values that services have or may come back to, and that tasks were started with.
fn in_use(view: &View, owner: Owner) -> BTreeSet<u64> {
    let key = owner.key();
    let of = |numbers: &Numbers| number_of(numbers, key.id());
    let now = view.services_of(owner).map(|service| of(&service.revisions));
    let before = view.services().filter_map(|service| {
        let spec = service.previous_spec.as_ref()?;
        let grants_it = grants(view, spec).any(|(granted, ..)| granted == owner);
        grants_it.then(|| of(&service.previous_revisions))
    });
    let started = view.tasks().filter(|task| task.holds(key)).map(|task| of(&task.revisions));
    now.chain(before).chain(started).collect()
}

/// True for a service whose rollout waits for a person: what that person does takes the new value along.
fn is_paused(service: &Service) -> bool {
    let state = service.update_status.as_ref().map(|status| status.state);
    matches!(state, Some(UpdateState::Paused | UpdateState::RollbackPaused))
}

/// A service that takes a new value: what it had is what it comes back to, unless that was itself still
/// being rolled out.
fn rotated(service: &Service, owner: Owner, number: u64, ctx: Context<'_>) -> Change {
    // From the first of several on, so that no sequence of them is waited for without end.
    let rollout_at = service.rollout_at.filter(|_| service.gathers(ctx.now));
    let mut rotated = Service {
        spec_version: Version::default(),
        update_status: None,
        rollout_at: rollout_at.or(Some(ctx.now.plus(GATHER_TIME))),
        ..service.clone()
    };
    if !service.is_unproven(ctx.now) {
        rotated.previous_spec = Some(service.spec.clone());
        rotated.previous_registry_auth = service.registry_auth.clone();
        rotated.previous_revisions = service.revisions.clone();
    }
    rotated.revisions.insert(owner.key().id().to_owned(), number);
    rotated.into()
}

/// The revisions of a service after an update: those that it has while what chooses them stays as it is,
/// so that a new number of replicas brings back no value that it went back from.
///
/// # Errors
/// As [`resolve`].
pub(super) fn after_update(
    view: &View,
    service: &Service,
    spec: &ServiceSpec,
) -> Result<Numbers, Refusal> {
    let is_same = service.job_status.is_none()
        && spec.task_template == service.spec.task_template
        && choose_alike(spec, &service.spec);
    if is_same { Ok(service.revisions.clone()) } else { resolve(view, spec) }
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
