//! Forecasts: what a request would change, without changing anything.
//!
//! The changes of a request are applied to a copy of the view, and each service that differs there is looked
//! at in the way its orchestrator will: which slots are out of date, which are missing, which are too many.
//! Left out is what depends on how it goes: whether nodes have room, and whether new tasks stay up.

use std::collections::BTreeMap;

use super::orchestrator::{self, Outlook};
use crate::domain::change::{Change, Changed, Key, Kind, Object};
use crate::domain::forecast::{Forecast, ObjectForecast, ServiceForecast, Wait};
use crate::domain::id::{NodeId, ServiceId};
use crate::domain::meta::{Stamp, Version};
use crate::domain::revision::{Follows, Owner, Revisions, number_of};
use crate::domain::service::{Service, UpdateOrder};
use crate::domain::time::Timestamp;
use crate::domain::view::View;

/// What becomes of the cluster with these changes.
pub fn forecast(view: &View, changes: &[Change], now: Timestamp) -> Forecast {
    let mut after = view.clone();
    let version = Version { index: view.version().index + 1 };
    let changed = after.apply(changes, Stamp { version, now });
    let mut services: BTreeMap<ServiceId, ServiceForecast> = BTreeMap::new();
    for item in &changed {
        if let Key::Service(id) = item.key {
            if let Some(service) = after.service(id) {
                services.insert(id, of_outlook(service, orchestrator::outlook(&after, service)));
            } else if let Some(service) = view.service(id) {
                let stopped = orchestrator::instances(view, service);
                services.insert(id, ServiceForecast { stopped, ..plain(service) });
            }
        }
        if let Key::Node(node) = item.key {
            count_lost(&after, node, &mut services);
        }
        for (service, wait) in waiting(&after, item) {
            let waits = || ServiceForecast { waits: Some(wait), ..plain(service) };
            services.entry(service.id).or_insert_with(waits);
        }
    }
    if changed.iter().any(|item| item.key.kind() == Kind::Node) {
        count_moved([view, &after], &mut services);
    }
    let objects = changed.iter().filter_map(of_object).collect();
    Forecast { changes: objects, services: services.into_values().collect() }
}

/// What becomes of an object. Tasks are told with their services, revisions with what they are values of.
fn of_object(changed: &Changed) -> Option<ObjectForecast> {
    let kind = changed.key.kind();
    if matches!(kind, Kind::Task | Kind::Revision) {
        return None;
    }
    let action = match (&changed.old, &changed.new) {
        (None, _) => "create",
        (_, None) => "remove",
        _ => "update",
    };
    let known = changed.new.as_ref().or(changed.old.as_ref())?;
    let values = values(changed).map(|(.., values)| values);
    Some(ObjectForecast {
        kind: kind.word(),
        id: changed.key.id().to_owned(),
        name: known.name().to_owned(),
        action,
        version: values.filter(|[old, new]| old.current != new.current).map(|[_, new]| new.current),
        dropped: values.map(|[old, new]| old.without(new)).unwrap_or_default(),
    })
}

/// A secret or config that stays, with its values before and after.
fn values(changed: &Changed) -> Option<(Owner, &str, [&Revisions; 2])> {
    match (&changed.old, &changed.new) {
        (Some(Object::Secret(old)), Some(Object::Secret(new))) => {
            Some((Owner::Secret(new.id), &new.spec.name, [&old.revisions, &new.revisions]))
        }
        (Some(Object::Config(old)), Some(Object::Config(new))) => {
            Some((Owner::Config(new.id), &new.spec.name, [&old.revisions, &new.revisions]))
        }
        _ => None,
    }
}

/// The services that use a changed value and do not take it by themselves, and why.
fn waiting<'v>(after: &'v View, changed: &'v Changed) -> impl Iterator<Item = (&'v Service, Wait)> {
    let values = values(changed).filter(|(.., [old, new])| old.current != new.current);
    values.into_iter().flat_map(move |(owner, name, [_, revisions])| {
        after.services_of(owner).filter_map(move |service| {
            let has = number_of(&service.revisions, owner.key().id());
            let wait = match Follows::of(service, owner, name) {
                _ if has == revisions.current => return None,
                Follows::Automatic => Wait::Paused,
                Follows::Manual => Wait::Manual,
                Follows::Job => Wait::Job,
                Follows::Pinned => Wait::Pinned,
            };
            Some((&**service, wait))
        })
    })
}

fn plain(service: &Service) -> ServiceForecast {
    ServiceForecast { id: service.id, name: service.spec.name.clone(), ..Default::default() }
}

fn of_outlook(service: &Service, outlook: Outlook) -> ServiceForecast {
    let Outlook { stale, unplaced, missing, surplus } = outlook;
    let config = orchestrator::rollout_config(service);
    let replaced = stale + unplaced;
    // In a global service the node is the slot, and the old one goes first.
    let order = match service.spec.mode.kind().is_by_node() {
        true => UpdateOrder::StopFirst,
        false => config.order,
    };
    ServiceForecast {
        replaced,
        started: missing,
        stopped: surplus,
        waves: waves(unplaced, stale, config.parallelism),
        delay: config.delay,
        order,
        waits: (service.is_paused() && replaced > 0).then_some(Wait::Paused),
        ..plain(service)
    }
}

/// Adds the tasks that a node loses, all at once.
fn count_lost(after: &View, node: NodeId, services: &mut BTreeMap<ServiceId, ServiceForecast>) {
    for task in after.tasks_of_node(node).filter(|task| task.is_wanted()) {
        let Some(service) = task.service_id.and_then(|id| after.service(id)) else { continue };
        if !orchestrator::is_lost(after, service, task) {
            continue;
        }
        let known = services.entry(service.id).or_insert_with(|| plain(service));
        if orchestrator::is_replaced(after, service, task) {
            known.replaced += 1;
            known.waves = vec![known.replaced];
        } else {
            known.stopped += 1;
        }
    }
}

/// Adds what else changed nodes mean for services: global ones get tasks on them, or give some up, and tasks
/// that were good enough, or could not be replaced where they are, are so no more.
fn count_moved(views: [&View; 2], services: &mut BTreeMap<ServiceId, ServiceForecast>) {
    let [_, after] = views;
    for service in after.services().filter(|service| service.job_status.is_none()) {
        let [was, is] = views.map(|view| {
            let known = view.service(service.id);
            known.map(|service| orchestrator::outlook(view, service)).unwrap_or_default()
        });
        let moved = Outlook {
            stale: is.stale.saturating_sub(was.stale),
            unplaced: 0,
            missing: is.missing.saturating_sub(was.missing),
            surplus: is.surplus.saturating_sub(was.surplus),
        };
        if moved == Outlook::default() {
            continue;
        }
        let rollout = of_outlook(service, moved);
        let known = services.entry(service.id).or_insert_with(|| plain(service));
        known.replaced += rollout.replaced;
        known.started += rollout.started;
        known.stopped += rollout.stopped;
        if rollout.replaced > 0 {
            known.waves.extend(rollout.waves);
            (known.delay, known.order, known.waits) = (rollout.delay, rollout.order, rollout.waits);
        }
    }
}

/// How many tasks are replaced at a time, wave by wave. Those without a node are the first, all at once.
fn waves(unplaced: u64, tasks: u64, parallelism: u64) -> Vec<u64> {
    let at_once = if parallelism == 0 { tasks } else { parallelism };
    let mut left = tasks;
    let mut waves: Vec<u64> = (unplaced > 0).then_some(unplaced).into_iter().collect();
    while left > 0 && waves.len() < Forecast::WAVES_MAX {
        let wave = left.min(at_once);
        waves.push(wave);
        left -= wave;
    }
    waves
}

#[cfg(test)]
mod tests {
    use super::waves;
    use crate::domain::forecast::Forecast;

    #[test]
    fn tasks_are_replaced_in_waves() {
        assert!(waves(0, 0, 2).is_empty());
        assert_eq!(waves(0, 5, 2), [2, 2, 1]);
        assert_eq!(waves(3, 5, 2), [3, 2, 2, 1]);
        assert_eq!(waves(0, 5, 0), [5], "all at once");
        assert_eq!(waves(0, 2, 9), [2]);
        assert_eq!(waves(0, 1 << 40, 1).len(), Forecast::WAVES_MAX, "not for ever");
    }
}
