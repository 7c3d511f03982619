//! The filters: each can refuse a node, and each says why.

use std::collections::{BTreeMap, BTreeSet};

use super::generic::Taken;
use crate::domain::endpoint::{Protocol, PublishMode};
use crate::domain::id::ServiceId;
use crate::domain::node::Node;
use crate::domain::service::GenericResource;
use crate::domain::task::Task;
use crate::domain::view::View;

/// What a node carries.
#[derive(Debug)]
pub(super) struct Load<'v> {
    pub node: &'v Node,
    /// Wanted tasks on it.
    pub tasks: usize,
    by_service: BTreeMap<ServiceId, usize>,
    nano_cpus: i64,
    memory_bytes: i64,
    generic: Taken,
    host_ports: BTreeSet<(Protocol, u32)>,
}

impl<'v> Load<'v> {
    /// What the tasks that live on a node make up.
    pub(super) fn of(view: &View, node: &'v Node) -> Load<'v> {
        let mut load = Load {
            node,
            tasks: 0,
            by_service: BTreeMap::new(),
            nano_cpus: 0,
            memory_bytes: 0,
            generic: Taken::default(),
            host_ports: BTreeSet::new(),
        };
        for task in view.tasks_of_node(node.id) {
            // A stopping task still holds its resources and ports.
            if task.holds_place() {
                load.add(task);
            }
        }
        load
    }

    pub(super) fn of_service(&self, id: ServiceId) -> usize {
        self.by_service.get(&id).copied().unwrap_or(0)
    }

    /// The generic resources that a task gets here; `None` when there are too few.
    pub(super) fn claim(&self, task: &Task) -> Option<Vec<GenericResource>> {
        self.generic.claim(self.node, task)
    }

    pub(super) fn add(&mut self, task: &Task) {
        self.tasks += usize::from(task.is_wanted());
        if let Some(service) = task.service_id {
            *self.by_service.entry(service).or_default() += usize::from(task.is_wanted());
        }
        let (nano_cpus, memory_bytes) = reserved(task);
        self.nano_cpus = self.nano_cpus.saturating_add(nano_cpus);
        self.memory_bytes = self.memory_bytes.saturating_add(memory_bytes);
        self.generic.add(&task.generic_resources);
        self.host_ports.extend(host_ports(task));
    }
}

/// Why a node is refused. Their order is that in which they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    NotAvailable,
    Resources,
    Plugin,
    Constraints,
    Platform,
    HostPort,
    MaxReplicas,
    Addresses,
}

/// The first reason for which a node does not take a task.
pub(super) fn refusal(task: &Task, load: &Load<'_>) -> Option<Reason> {
    let node = load.node;
    let placement = task.spec.placement.as_ref();
    if !node.takes_tasks() {
        return Some(Reason::NotAvailable);
    }
    if !has_resources(task, load) || load.claim(task).is_none() {
        return Some(Reason::Resources);
    }
    if !has_plugins(task, node) {
        return Some(Reason::Plugin);
    }
    if !placement.is_none_or(|placement| super::satisfies(&placement.constraints, node)) {
        return Some(Reason::Constraints);
    }
    if !has_platform(task, node) {
        return Some(Reason::Platform);
    }
    if host_ports(task).any(|port| load.host_ports.contains(&port)) {
        return Some(Reason::HostPort);
    }
    let max = placement.map_or(0, |placement| placement.max_replicas);
    let served = task.service_id.map_or(0, |id| load.of_service(id));
    if max > 0 && served as u64 >= max {
        return Some(Reason::MaxReplicas);
    }
    None
}

fn reserved(task: &Task) -> (i64, i64) {
    let reservations = task.spec.resources.as_ref().and_then(|r| r.reservations.as_ref());
    reservations.map_or((0, 0), |r| (r.nano_cpus, r.memory_bytes))
}

fn has_resources(task: &Task, load: &Load<'_>) -> bool {
    let (nano_cpus, memory_bytes) = reserved(task);
    if nano_cpus == 0 && memory_bytes == 0 {
        return true;
    }
    let has = load.node.description.as_ref().map(|description| &description.resources);
    has.is_some_and(|has| {
        has.nano_cpus.saturating_sub(load.nano_cpus) >= nano_cpus
            && has.memory_bytes.saturating_sub(load.memory_bytes) >= memory_bytes
    })
}

/// The drivers of a task's volumes and of its log have to be plugins of the node.
fn has_plugins(task: &Task, node: &Node) -> bool {
    let plugins = node.description.as_ref().map_or(&[][..], |d| &d.engine.plugins);
    let has = |kind: &str, driver: &str| {
        plugins.iter().any(|plugin| {
            // A plugin without a tag is its latest.
            let name = plugin.name.strip_suffix(":latest").unwrap_or(&plugin.name);
            plugin.kind == kind && name == driver.strip_suffix(":latest").unwrap_or(driver)
        })
    };
    let mounts = task.spec.container_spec.as_ref().map_or(&[][..], |container| &container.mounts);
    let volumes = mounts
        .iter()
        .filter_map(|mount| mount.volume_options.as_ref()?.driver_config.as_ref())
        .filter(|driver| !driver.name.is_empty() && driver.name != "local")
        .all(|driver| has("Volume", &driver.name));
    // Without a list of its log plugins a node is taken at its word.
    let tells = plugins.iter().any(|plugin| plugin.kind == "Log");
    let log = task.spec.log_driver.as_ref().map_or("", |driver| &driver.name);
    volumes && (log.is_empty() || log == "none" || !tells || has("Log", log))
}

/// An image's platforms are told in its own words; engines call the same processor by other names.
fn has_platform(task: &Task, node: &Node) -> bool {
    let wished = task.spec.placement.as_ref().map_or(&[][..], |placement| &placement.platforms);
    let Some(description) = &node.description else { return wished.is_empty() };
    let same = |a: &str, b: &str| a.is_empty() || b.is_empty() || processor(a) == processor(b);
    wished.is_empty()
        || wished.iter().any(|platform| {
            let has = &description.platform;
            same(&platform.architecture, &has.architecture)
                && (platform.os.is_empty() || platform.os == has.os)
        })
}

fn processor(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The ports of its node that a task takes for itself.
fn host_ports(task: &Task) -> impl Iterator<Item = (Protocol, u32)> + '_ {
    let ports = task.endpoint_spec.as_ref().map_or(&[][..], |endpoint| &endpoint.ports);
    ports
        .iter()
        .filter(|port| port.publish_mode == PublishMode::Host && port.published_port != 0)
        .map(|port| (port.protocol, port.published_port))
}

/// How many nodes were refused for which reason.
#[derive(Debug, Default)]
pub(super) struct Reasons(BTreeMap<Reason, usize>);

impl Reasons {
    pub(super) fn add(&mut self, reason: Reason) {
        *self.0.entry(reason).or_default() += 1;
    }

    /// The explanation that a waiting task carries: the most frequent reason first.
    pub(super) fn text(&self) -> String {
        let mut reasons: Vec<_> = self.0.iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let texts: Vec<String> =
            reasons.into_iter().map(|(reason, count)| reason.text(*count)).collect();
        match texts.is_empty() {
            true => "no suitable node".into(),
            false => format!("no suitable node ({})", texts.join("; ")),
        }
    }
}

impl Reason {
    fn text(self, count: usize) -> String {
        let nodes = if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") };
        match self {
            Reason::NotAvailable => format!("{nodes} not available for new tasks"),
            Reason::Resources => format!("insufficient resources on {nodes}"),
            Reason::Plugin => format!("missing plugin on {nodes}"),
            Reason::Constraints => format!("scheduling constraints not satisfied on {nodes}"),
            Reason::Platform => format!("unsupported platform on {nodes}"),
            Reason::HostPort => format!("host-mode port already in use on {nodes}"),
            Reason::MaxReplicas => "max replicas per node limit exceed".to_owned(),
            Reason::Addresses => format!("no free network address for {nodes}"),
        }
    }
}
