//! Generic resources: what an operator says that a node has, in words of the operator's own. A node
//! has named pieces of a kind, or a number of pieces; a task asks for a number of a kind, and gets
//! named pieces where there are such. Which pieces it gets is not its to say: a task that names one
//! is let in, as the Engine lets it in, and finds enough nowhere.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::node::Node;
use crate::domain::service::{DiscreteGenericResource, GenericResource, NamedGenericResource};
use crate::domain::task::Task;

/// What the tasks on a node have taken.
#[derive(Debug, Default)]
pub(super) struct Taken {
    named: BTreeSet<(String, String)>,
    counts: BTreeMap<String, i64>,
}

impl Taken {
    pub(super) fn add(&mut self, assigned: &[GenericResource]) {
        for resource in assigned {
            if let Some(named) = &resource.named_resource_spec {
                self.named.insert((named.kind.clone(), named.value.clone()));
            }
            if let Some(discrete) = &resource.discrete_resource_spec {
                let count = self.counts.entry(discrete.kind.clone()).or_default();
                *count = count.saturating_add(discrete.value);
            }
        }
    }

    /// What a task gets of what is left on a node; `None` when that is not enough.
    pub(super) fn claim(&self, node: &Node, task: &Task) -> Option<Vec<GenericResource>> {
        if reserved(task).iter().any(|resource| resource.named_resource_spec.is_some()) {
            return None;
        }
        let mut claimed = Vec::new();
        for (kind, count) in wanted(task) {
            claimed.extend(self.claim_kind(node, kind, count)?);
        }
        Some(claimed)
    }

    fn claim_kind(&self, node: &Node, kind: &str, count: i64) -> Option<Vec<GenericResource>> {
        let wanted = usize::try_from(count).ok()?;
        let has = &node.description.as_ref()?.resources.generic_resources;
        let pieces = has.iter().filter_map(|resource| resource.named_resource_spec.as_ref());
        let free: BTreeSet<&str> = pieces
            .filter(|piece| piece.kind == kind)
            .filter(|piece| !self.named.contains(&(piece.kind.clone(), piece.value.clone())))
            .map(|piece| piece.value.as_str())
            .collect();
        if free.len() >= wanted {
            return Some(free.into_iter().take(wanted).map(|value| named(kind, value)).collect());
        }
        let counted = has.iter().filter_map(|resource| resource.discrete_resource_spec.as_ref());
        let total = counted
            .filter(|counted| counted.kind == kind)
            .fold(0_i64, |sum, counted| sum.saturating_add(counted.value));
        let taken = self.counts.get(kind).copied().unwrap_or(0);
        (total.saturating_sub(taken) >= count).then(|| vec![discrete(kind, count)])
    }
}

fn reserved(task: &Task) -> &[GenericResource] {
    let reservations = task.spec.resources.as_ref().and_then(|r| r.reservations.as_ref());
    reservations.map_or(&[][..], |reservations| &reservations.generic_resources)
}

/// What a task asks for, by kind.
fn wanted(task: &Task) -> BTreeMap<&str, i64> {
    let mut wanted = BTreeMap::new();
    let reserved = reserved(task).iter();
    for discrete in reserved.filter_map(|resource| resource.discrete_resource_spec.as_ref()) {
        if discrete.value > 0 {
            let count: &mut i64 = wanted.entry(discrete.kind.as_str()).or_default();
            *count = count.saturating_add(discrete.value);
        }
    }
    wanted
}

fn named(kind: &str, value: &str) -> GenericResource {
    let named = NamedGenericResource { kind: kind.into(), value: value.into() };
    GenericResource { named_resource_spec: Some(named), discrete_resource_spec: None }
}

fn discrete(kind: &str, value: i64) -> GenericResource {
    let discrete = DiscreteGenericResource { kind: kind.into(), value };
    GenericResource { named_resource_spec: None, discrete_resource_spec: Some(discrete) }
}
