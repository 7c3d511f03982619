//! Replicated services: so many slots, anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::slot::{self, Slot, SlotKey, Start};
use super::{handover, restart, update};
use crate::domain::service::Service;
use crate::domain::task::Task;
use crate::domain::task_state::TaskState;
use crate::domain::view::View;
use crate::plan::{Context, Planned};

pub(super) fn reconcile(
    view: &View,
    service: &Service,
    replicas: u64,
    ctx: Context<'_>,
    planned: &mut Planned,
) {
    let slots = slot::slots(view, service);
    handover::plan(view, service, &slots, ctx, planned);
    if planned.changes.is_empty() {
        restart::plan(view, service, &slots, ctx, planned);
    }
    if planned.changes.is_empty() {
        scale(service, replicas, &slots, ctx, planned);
    }
    if planned.changes.is_empty() {
        update::plan(view, service, &slots, ctx, planned);
    }
    if planned.changes.is_empty() {
        restart::start_held(view, service, &slots, ctx, planned);
    }
}

/// New tasks planned in one step. A larger wish is met over several writes, so that no single one
/// grows without bound.
pub(super) const NEW_TASKS_MAX: usize = 2_000;

fn scale(
    service: &Service,
    replicas: u64,
    slots: &[Slot<'_>],
    ctx: Context<'_>,
    planned: &mut Planned,
) {
    let (taken, empty): (Vec<&Slot<'_>>, Vec<&Slot<'_>>) =
        slots.iter().partition(|slot| slot.current().is_some());
    let have = taken.len() as u64;
    if have < replicas {
        let used: BTreeSet<SlotKey> = taken.iter().map(|slot| slot.key).collect();
        let free = (1..).map(SlotKey::Number).filter(|key| !used.contains(key));
        let missing = usize::try_from(replicas - have).unwrap_or(usize::MAX).min(NEW_TASKS_MAX);
        for key in free.take(missing) {
            planned.changes.push(slot::make(service, key, Start::default(), ctx));
        }
        return;
    }
    let given_up = surplus(&taken, replicas);
    // A slot that nothing stands for is only history; it goes once the service is as large as it
    // should be.
    for slot in given_up.into_iter().chain(empty) {
        for task in slot.tasks.iter().filter(|task| task.desired_state < TaskState::Remove) {
            planned.changes.push(slot::desire(task, TaskState::Remove));
        }
    }
}

/// The slots to give up of those that are taken: those that run nothing first, then from the nodes that
/// have most of the service, the highest numbers first.
pub(super) fn surplus<'s, 'v>(taken: &[&'s Slot<'v>], replicas: u64) -> Vec<&'s Slot<'v>> {
    let surplus = taken.len().saturating_sub(usize::try_from(replicas).unwrap_or(usize::MAX));
    let mut idle = Vec::new();
    let mut by_node: BTreeMap<_, Vec<&Slot<'_>>> = BTreeMap::new();
    for slot in taken {
        let runs = |task: &&Arc<Task>| task.status.state == TaskState::Running && task.is_wanted();
        match slot.tasks.iter().copied().find(runs) {
            Some(task) => by_node.entry(task.node_id).or_default().push(*slot),
            None => idle.push(*slot),
        }
    }
    let mut chosen: Vec<_> = idle.into_iter().rev().take(surplus).collect();
    while chosen.len() < surplus {
        let fullest = by_node
            .iter_mut()
            .max_by_key(|(_, slots)| (slots.len(), slots.last().map(|slot| slot.key)));
        match fullest.and_then(|(_, slots)| slots.pop()) {
            Some(slot) => chosen.push(slot),
            None => break,
        }
    }
    chosen
}
