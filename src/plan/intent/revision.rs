//! New values and the services that use them: each rolls a new value out by its own settings, as if it had
//! been updated with the spec that it has.

use std::collections::BTreeSet;

use crate::domain::change::Change;
use crate::domain::meta::Version;
use crate::domain::refusal::Refusal;
use crate::domain::revision::{
    Follows, GATHER_TIME, Numbers, Owner, Revisions, choose_alike, number_of,
};
use crate::domain::service::{Service, ServiceSpec};
use crate::domain::view::View;
use crate::plan::Context;

/// The writes by which services that take new values by themselves take this one.
pub(super) fn rotate(
    view: &View,
    (owner, name): (Owner, &str),
    number: u64,
    ctx: Context<'_>,
) -> Vec<Change> {
    view.services_of(owner)
        .filter(|user| Follows::of(user, owner, name) == Follows::Automatic)
        .filter(|user| !user.is_paused() && number_of(&user.revisions, owner.key().id()) != number)
        .map(|service| rotated(service, owner, number, ctx))
        .collect()
}

/// The values that services have or may come back to, and that tasks were started with.
pub(super) fn in_use(view: &View, owner: Owner) -> BTreeSet<u64> {
    let key = owner.key();
    let of = |numbers: &Numbers| number_of(numbers, key.id());
    let now = view.services_of(owner).map(|service| of(&service.revisions));
    let before = view.returners_to(owner).map(|service| of(&service.previous_revisions));
    let started = view.holders_of(owner).map(|task| of(&task.revisions));
    now.chain(before).chain(started).collect()
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

/// What of a service's values changes from these numbers to those, to be told; nothing when none does.
pub(crate) fn moves(view: &View, spec: &ServiceSpec, from: &Numbers, to: &Numbers) -> String {
    let mut moved = Vec::new();
    for (owner, name, _) in grants(view, spec) {
        let key = owner.key();
        let [old, new] = [from, to].map(|numbers| number_of(numbers, key.id()));
        if old != new {
            let kind = key.kind().word();
            let told = format!("{kind} {name}: version {old} to {new}");
            // One that is granted under several names is told once.
            if !moved.contains(&told) {
                moved.push(told);
            }
        }
    }
    if moved.is_empty() { String::new() } else { format!(" ({})", moved.join(", ")) }
}
