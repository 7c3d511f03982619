//! The values of secrets and configs: a new one under the same name, an earlier one chosen again, old ones
//! dropped. Labels come along with the first.

use std::collections::{BTreeMap, BTreeSet};

use super::payload::{check_labels_only, check_template, is_same};
use super::revision;
use crate::domain::change::{Change, Key};
use crate::domain::config::{CONFIG_LEN_MAX, Config};
use crate::domain::container::Driver;
use crate::domain::id::RevisionId;
use crate::domain::intent::{NewValue, SealedPayload};
use crate::domain::meta::{Meta, Version};
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::revision::{Keep, Known, Owner, REVISIONS_MAX, Revision, Revisions};
use crate::domain::secret::{Fingerprint, SECRET_LEN_MAX, Secret};
use crate::domain::supply::Supply;
use crate::domain::time::Timestamp;
use crate::domain::view::View;
use crate::plan::Context;

pub(super) const BAD_SECRET_LEN: &str =
    "secret data must be larger than 0 and less than 512000 bytes";
pub(super) const BAD_CONFIG_LEN: &str =
    "config data must be larger than 0 and less than 1024000 bytes";

/// What an update sends.
pub(super) struct Sent {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub version: Version,
    pub fingerprint: Option<Fingerprint>,
    /// Absent where new values are refused, or none was sent.
    pub value: Option<NewValue>,
}

/// A secret or config as it is.
struct Stored<'v> {
    owner: Owner,
    name: &'v str,
    meta: &'v Meta,
    fingerprint: &'v Fingerprint,
    revisions: &'v Revisions,
    driver: Option<&'v Driver>,
    templating: Option<&'v Driver>,
}

impl<'v> Stored<'v> {
    fn find(view: &'v View, owner: Owner) -> Result<Stored<'v>, Refusal> {
        view.require_cluster()?;
        let found = match owner {
            Owner::Secret(id) => view.secret(id).map(|secret| Stored::secret(secret)),
            Owner::Config(id) => view.config(id).map(|config| Stored::config(config)),
        };
        let key = owner.key();
        found.ok_or_else(|| Refusal::not_found(key.kind().word(), key.id()))
    }

    fn secret(secret: &'v Secret) -> Self {
        Stored {
            owner: Owner::Secret(secret.id),
            name: &secret.spec.name,
            meta: &secret.meta,
            fingerprint: &secret.fingerprint,
            revisions: &secret.revisions,
            driver: secret.spec.driver.as_ref(),
            templating: secret.spec.templating.as_ref(),
        }
    }

    fn config(config: &'v Config) -> Self {
        Stored {
            owner: Owner::Config(config.id),
            name: &config.spec.name,
            meta: &config.meta,
            fingerprint: &config.fingerprint,
            revisions: &config.revisions,
            driver: None,
            templating: config.spec.templating.as_ref(),
        }
    }

    /// Refuses a value from elsewhere than those before came from.
    fn check_source(&self, is_supplied: bool) -> Result<(), Refusal> {
        let title = self.title();
        match self.driver {
            Some(driver) if !is_supplied => {
                let name = &driver.name;
                Err(Refusal::invalid(format!("{title} has its values from the driver {name}")))
            }
            None if is_supplied => {
                Err(Refusal::invalid(format!("{title} has no driver that makes its values")))
            }
            _ => Ok(()),
        }
    }

    /// As it is told in refusals: its kind and name.
    fn title(&self) -> String {
        format!("{} {}", self.owner.key().kind().word(), self.name)
    }

    /// The values, with the first among them also while it is the only one.
    fn listed(&self) -> Revisions {
        let mut revisions = self.revisions.clone();
        if revisions.is_first() {
            let (fingerprint, made_at) = (*self.fingerprint, self.meta.created_at);
            let first = Known { number: 1, fingerprint, made_at, left_at: None, lies_with: None };
            revisions.known.push(first);
        }
        revisions
    }
}

/// An update: of labels, and of the value if another one is sent.
///
/// # Errors
/// Another name, an old version, a value that may not be given, or too many in use.
pub(super) fn update(
    view: &View,
    owner: Owner,
    sent: Sent,
    ctx: Context<'_>,
) -> Result<Vec<Change>, Refusal> {
    let stored = Stored::find(view, owner)?;
    let names = [&*sent.name, stored.name];
    Supply::by(stored.driver, &sent.labels).map_err(Refusal::invalid)?;
    let is_supplied = sent.value.as_ref().is_some_and(|value| value.is_supplied);
    let has_same_value = is_same(stored.fingerprint, sent.fingerprint.as_ref());
    let Some(value) = sent.value.filter(|_| !has_same_value && names[0] == names[1]) else {
        check_labels_only(names, stored.fingerprint, sent.fingerprint)?;
        stored.meta.check_known(sent.version)?;
        // A driver that has the same value as before has nothing to say.
        return Ok(match is_supplied {
            true => Vec::new(),
            false => put(view, owner, Put { labels: Some(sent.labels), ..Put::edit() }),
        });
    };
    stored.meta.check_known(sent.version)?;
    // What makes the next value has seen the one before, and no rotation by itself is in a client's way.
    if value.is_supplied && sent.version != stored.meta.version {
        return Err(Refusal::out_of_sequence());
    }
    stored.check_source(value.is_supplied)?;
    let (len_max, bad_len) = match owner {
        Owner::Secret(_) => (SECRET_LEN_MAX, BAD_SECRET_LEN),
        Owner::Config(_) => (CONFIG_LEN_MAX, BAD_CONFIG_LEN),
    };
    let payload = value
        .payload
        .filter(|_| (1..=len_max).contains(&value.payload_len))
        .ok_or_else(|| Refusal::invalid(bad_len))?;
    check_template(stored.templating, Some(&payload))?;
    let fingerprint = payload.fingerprint;
    let (mut revisions, mut changes) = add(&stored, value.id, payload, ctx);
    changes.extend(drop_unused(view, &stored, &mut revisions, value.keep, ctx.now));
    if revisions.known.len() > REVISIONS_MAX {
        let title = stored.title();
        let message = format!("{title} has {REVISIONS_MAX} versions in use, and can have no more");
        return Err(Refusal::store(Reason::Exhausted, message));
    }
    changes.extend(revision::rotate(view, (owner, stored.name), revisions.current, ctx));
    let (labels, values) = (Some(sent.labels), Some((revisions, fingerprint)));
    changes.extend(put(view, owner, Put { labels, values, is_edit: !is_supplied }));
    Ok(changes)
}

/// The values with a new one, and its writes.
fn add(
    stored: &Stored<'_>,
    id: RevisionId,
    payload: SealedPayload,
    ctx: Context<'_>,
) -> (Revisions, Vec<Change>) {
    let mut revisions = stored.listed();
    let (number, fingerprint) = (revisions.give_number(), payload.fingerprint);
    let (made_at, lies_with) = (ctx.now, Some(id));
    revisions.known.push(Known { number, fingerprint, made_at, left_at: None, lies_with });
    revisions.choose(number, ctx.now);
    let revision = Revision { id, meta: Default::default(), owner: stored.owner, number };
    let changes = vec![revision.into(), Change::PutPayload(Key::Revision(id), payload.bytes)];
    (revisions, changes)
}

/// Makes an earlier value the current one again: that of this number, or the one before the present.
///
/// # Errors
/// There is no such value, or the version is old.
pub(super) fn choose(
    view: &View,
    owner: Owner,
    (version, number): (Version, Option<u64>),
    ctx: Context<'_>,
) -> Result<Vec<Change>, Refusal> {
    let stored = Stored::find(view, owner)?;
    let mut revisions = stored.listed();
    let chosen = match number {
        Some(number) => revisions.known.iter().find(|known| known.number == number),
        None => revisions.before_current(),
    };
    let Some(chosen) = chosen else {
        let title = stored.title();
        return Err(Refusal::invalid(match number {
            Some(number) => format!("{title} has no version {number}"),
            None => format!("{title} has no version before the present one"),
        }));
    };
    stored.meta.check_known(version)?;
    let (number, fingerprint) = (chosen.number, chosen.fingerprint);
    if number == revisions.current {
        return Ok(Vec::new());
    }
    revisions.choose(number, ctx.now);
    let values = Some((revisions, fingerprint));
    let mut changes = put(view, owner, Put { values, ..Put::edit() });
    changes.extend(revision::rotate(view, (owner, stored.name), number, ctx));
    Ok(changes)
}

/// Drops old values that nothing uses, beyond those to keep.
///
/// # Errors
/// There is no such secret or config.
pub(super) fn prune(
    view: &View,
    owner: Owner,
    keep: Keep,
    ctx: Context<'_>,
) -> Result<Vec<Change>, Refusal> {
    let stored = Stored::find(view, owner)?;
    let mut revisions = stored.revisions.clone();
    let mut changes = drop_unused(view, &stored, &mut revisions, keep, ctx.now);
    if !changes.is_empty() {
        let values = Some((revisions, *stored.fingerprint));
        changes.extend(put(view, owner, Put { values, ..Put::default() }));
    }
    Ok(changes)
}

/// Takes the values out that nothing uses and that are not to be kept; the writes that destroy them.
fn drop_unused(
    view: &View,
    stored: &Stored<'_>,
    revisions: &mut Revisions,
    keep: Keep,
    now: Timestamp,
) -> Vec<Change> {
    // The current one always stays.
    if revisions.known.len() <= keep.newest.min(REVISIONS_MAX - 1) + 1 {
        return Vec::new();
    }
    let mut used = revision::in_use(view, stored.owner);
    used.insert(revisions.current);
    let is_used = |known: &&Known| used.contains(&known.number);
    // However many are to be kept, there is room for those in use.
    let room = REVISIONS_MAX.saturating_sub(revisions.known.iter().filter(is_used).count());
    let unused: Vec<&Known> =
        revisions.known.iter().rev().filter(|known| !is_used(known)).collect();
    let is_old =
        |known: &Known| known.left_at.unwrap_or(known.made_at).plus(keep.unused_for) <= now;
    let is_dropped =
        |(at, known): &(usize, &&Known)| *at >= room || *at >= keep.newest && is_old(known);
    let dropped: BTreeSet<u64> =
        unused.iter().enumerate().filter(is_dropped).map(|(_, known)| known.number).collect();
    revisions.note_given();
    let taken_out = revisions.known.extract_if(.., |known| dropped.contains(&known.number));
    let destroy = |known: Known| match known.lies_with {
        Some(id) => Change::Remove(Key::Revision(id)),
        None => Change::DropPayload(stored.owner.key()),
    };
    taken_out.map(destroy).collect()
}

/// What a write of a secret or config changes of it.
#[derive(Default)]
struct Put {
    labels: Option<BTreeMap<String, String>>,
    values: Option<(Revisions, Fingerprint)>,
    /// A client changes it, rather than a driver or time.
    is_edit: bool,
}

impl Put {
    fn edit() -> Put {
        Put { is_edit: true, ..Put::default() }
    }
}

/// The write of a secret or config with other labels or values.
fn put(view: &View, owner: Owner, put: Put) -> Vec<Change> {
    let Put { labels, values, is_edit } = put;
    macro_rules! changed {
        ($found:expr) => {
            $found.map(|found| {
                let mut object = (**found).clone();
                if is_edit {
                    object.meta = object.meta.edited();
                }
                if let Some(labels) = labels {
                    object.spec.labels = labels;
                }
                if let Some(values) = values {
                    (object.revisions, object.fingerprint) = values;
                }
                object.into()
            })
        };
    }
    let change: Option<Change> = match owner {
        Owner::Secret(id) => changed!(view.secret(id)),
        Owner::Config(id) => changed!(view.config(id)),
    };
    change.into_iter().collect()
}

/// The writes that take a secret or config away with all of its values.
pub(super) fn remove(owner: Owner, revisions: &Revisions) -> Vec<Change> {
    let others = revisions.known.iter().filter_map(|known| known.lies_with);
    let others = others.map(|id| Change::Remove(Key::Revision(id)));
    others.chain([Change::Remove(owner.key())]).collect()
}
