//! Keeping the indexes: whatever alters an object alters what is derived from it, in one place.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::View;
use crate::domain::change::{Key, Object};
use crate::domain::endpoint::PortConfig;
use crate::domain::id::{ConfigId, NetworkId, NodeId, SecretId};
use crate::domain::name::NameKey;
use crate::domain::network::Attachment;
use crate::domain::service::{Service, ServiceSpec};
use crate::domain::task::Task;
use crate::domain::task_state::TaskState;

impl View {
    pub(super) fn replace(&mut self, old: Option<&Object>, new: Option<&Object>) {
        if let Some(old) = old {
            self.take_out(old);
        }
        if let Some(new) = new {
            self.put_in(new);
        }
        // Most writes of tasks and nodes change none of their addresses.
        let [before, after] = [old, new].map(|object| object.into_iter().flat_map(addresses));
        if !before.clone().eq(after.clone()) {
            before.filter_map(place).for_each(|place| self.let_go(place));
            for place in after.filter_map(place) {
                *self.addresses.entry(place).or_default() += 1;
            }
        }
        self.replace_holders(old, new);
        let on = |object: Option<&Object>| match object {
            Some(Object::Task(task)) => task.burdens(),
            _ => None,
        };
        let (before, after) = (on(old), on(new));
        // Most that is reported of a task leaves its burden where it is.
        if before != after {
            self.burden_by(before, |count| count.saturating_sub(1));
            self.burden_by(after, |count| count + 1);
        }
    }

    /// Which secrets and configs tasks hold, and which services may come back to.
    fn replace_holders(&mut self, old: Option<&Object>, new: Option<&Object>) {
        let is_same = match (old, new) {
            (Some(Object::Task(old)), Some(Object::Task(new))) => {
                let [before, after] = [old, new].map(|task| task.status.state.is_terminal());
                Arc::ptr_eq(&old.spec, &new.spec) && before == after
            }
            _ => false,
        };
        // Most that is reported of a task leaves it what it has.
        if is_same {
            return;
        }
        match old {
            Some(Object::Task(task)) => task.held().for_each(|key| {
                self.holders.remove(&(key, task.id));
            }),
            Some(Object::Service(service)) => previous_grants(service).for_each(|key| {
                self.returners.remove(&(key, service.id));
            }),
            _ => {}
        }
        match new {
            Some(Object::Task(task)) => task.held().for_each(|key| {
                self.holders.insert((key, task.id));
            }),
            Some(Object::Service(service)) => previous_grants(service).for_each(|key| {
                self.returners.insert((key, service.id));
            }),
            _ => {}
        }
    }

    fn let_go(&mut self, place: (NetworkId, Ipv4Addr)) {
        match self.addresses.get_mut(&place) {
            Some(holders) if *holders > 1 => *holders -= 1,
            _ => {
                self.addresses.remove(&place);
            }
        }
    }

    fn burden_by(&mut self, node: Option<NodeId>, change: impl FnOnce(usize) -> usize) {
        let Some(id) = node else { return };
        let count = self.burden(id);
        let changed = change(count);
        if changed == 0 {
            self.burdens.remove(&id);
        } else {
            self.burdens.insert(id, changed);
        }
        if let Some(node) = self.nodes.get(&id) {
            let is_closed = !node.takes_tasks();
            self.nodes_by_burden.remove(&(is_closed, count, id));
            self.nodes_by_burden.insert((is_closed, changed, id));
        }
    }

    fn take_out(&mut self, object: &Object) {
        match object {
            Object::Cluster(_) => self.cluster = None,
            Object::Node(node) => {
                self.nodes.remove(&node.id);
                let burden = self.burden(node.id);
                self.nodes_by_burden.remove(&(!node.takes_tasks(), burden, node.id));
            }
            Object::Service(service) => {
                self.services.remove(&service.id);
                self.service_names.remove(NameKey::fold(&service.spec.name).as_str());
                for secret in secrets_of(&service.spec) {
                    self.secret_services.remove(&(secret, service.id));
                }
                for config in configs_of(&service.spec) {
                    self.config_services.remove(&(config, service.id));
                }
                for network in networks_of(&service.spec) {
                    self.network_services.remove(&(network, service.id));
                }
                for port in ports_of(service) {
                    self.ports.remove(&(port.protocol, port.published_port, service.id));
                }
                self.waiting_services.remove(&service.id);
            }
            Object::Task(task) => {
                self.tasks.remove(&task.id);
                if let Some(service) = task.service_id {
                    self.service_tasks.remove(&(service, task.id));
                }
                self.waiting_tasks.remove(&task.id);
                if let Some(node) = task.node_id {
                    self.starved_tasks.remove(&(node, task.id));
                    self.node_tasks.remove(&(node, task.id));
                    for network in networks_of_task(task) {
                        self.network_tasks.remove(&(network, node, task.id));
                    }
                }
            }
            Object::Secret(secret) => {
                self.secrets.remove(&secret.id);
                self.secret_names.remove(NameKey::fold(&secret.spec.name).as_str());
            }
            Object::Config(config) => {
                self.configs.remove(&config.id);
                self.config_names.remove(NameKey::fold(&config.spec.name).as_str());
            }
            Object::Revision(revision) => {
                self.revisions.remove(&revision.id);
            }
            Object::Network(network) => {
                self.networks.remove(&network.id);
                self.removed_networks.remove(&network.id);
                // Its name may be another's since it was removed.
                if !network.is_removed {
                    self.network_names.remove(NameKey::fold(&network.spec.name).as_str());
                }
                self.ingress = self.ingress.filter(|id| *id != network.id);
            }
        }
    }

    fn put_in(&mut self, object: &Object) {
        match object {
            Object::Cluster(cluster) => self.cluster = Some(cluster.clone()),
            Object::Node(node) => {
                let burden = self.burden(node.id);
                self.nodes_by_burden.insert((!node.takes_tasks(), burden, node.id));
                self.nodes.insert(node.id, node.clone());
            }
            Object::Service(service) => {
                self.service_names.insert(NameKey::new(&service.spec.name), service.id);
                for secret in secrets_of(&service.spec) {
                    self.secret_services.insert((secret, service.id));
                }
                for config in configs_of(&service.spec) {
                    self.config_services.insert((config, service.id));
                }
                for network in networks_of(&service.spec) {
                    self.network_services.insert((network, service.id));
                }
                for port in ports_of(service) {
                    self.ports.insert((port.protocol, port.published_port, service.id));
                }
                if service.needs_endpoint() {
                    self.waiting_services.insert(service.id);
                }
                self.services.insert(service.id, service.clone());
            }
            Object::Task(task) => {
                if let Some(service) = task.service_id {
                    self.service_tasks.insert((service, task.id));
                }
                if task.is_waiting() {
                    self.waiting_tasks.insert(task.id);
                }
                if let Some(node) = task.node_id {
                    if task.is_starved() {
                        self.starved_tasks.insert((node, task.id));
                    }
                    self.node_tasks.insert((node, task.id));
                    for network in networks_of_task(task) {
                        self.network_tasks.insert((network, node, task.id));
                    }
                }
                self.tasks.insert(task.id, task.clone());
            }
            Object::Secret(secret) => {
                self.secret_names.insert(NameKey::new(&secret.spec.name), secret.id);
                self.secrets.insert(secret.id, secret.clone());
            }
            Object::Config(config) => {
                self.config_names.insert(NameKey::new(&config.spec.name), config.id);
                self.configs.insert(config.id, config.clone());
            }
            Object::Revision(revision) => {
                self.revisions.insert(revision.id, revision.clone());
            }
            Object::Network(network) => {
                if network.is_removed {
                    self.removed_networks.insert(network.id);
                } else {
                    self.network_names.insert(NameKey::new(&network.spec.name), network.id);
                    self.ingress = network.spec.ingress.then_some(network.id).or(self.ingress);
                }
                self.networks.insert(network.id, network.clone());
            }
        }
    }
}

/// What a service is granted when it comes back to the spec before.
fn previous_grants(service: &Service) -> impl Iterator<Item = Key> + '_ {
    service
        .previous_spec
        .iter()
        .flat_map(|spec| secrets_of(spec).map(Key::Secret).chain(configs_of(spec).map(Key::Config)))
}

fn secrets_of(spec: &ServiceSpec) -> impl Iterator<Item = SecretId> + '_ {
    let references = spec.container().map_or(&[][..], |container| &container.secrets);
    references.iter().filter_map(|reference| reference.secret_id.parse().ok())
}

fn configs_of(spec: &ServiceSpec) -> impl Iterator<Item = ConfigId> + '_ {
    let references = spec.container().map_or(&[][..], |container| &container.configs);
    references.iter().filter_map(|reference| reference.config_id.parse().ok())
}

fn networks_of(spec: &ServiceSpec) -> impl Iterator<Item = NetworkId> + '_ {
    spec.task_template.networks.iter().filter_map(|network| network.target.parse().ok())
}

/// The overlay networks that the node of a task has for it.
fn networks_of_task(task: &Task) -> impl Iterator<Item = NetworkId> + '_ {
    let is_sent = task.status.state >= TaskState::Assigned;
    let with_address = task.networks.iter().filter(move |place| is_sent && place.address.is_some());
    with_address.map(|place| place.network)
}

/// The published ports that a service wishes for, and those that it has.
fn ports_of(service: &Service) -> impl Iterator<Item = &PortConfig> {
    let wished = service.spec.endpoint_spec.as_ref().map_or(&[][..], |endpoint| &endpoint.ports);
    let given = service.endpoint.as_ref().map_or(&[][..], |endpoint| &endpoint.ports);
    wished.iter().chain(given).filter(|port| port.published_port != 0)
}

/// The places by which an object holds addresses.
pub fn addresses(object: &Object) -> impl Iterator<Item = &Attachment> + Clone {
    let (own, endpoint) = match object {
        Object::Node(node) => (&node.attachments[..], None),
        Object::Task(task) if !task.status.state.is_terminal() => {
            (&task.networks[..], task.endpoint.as_ref())
        }
        Object::Service(service) => (&[][..], service.endpoint.as_ref()),
        _ => (&[][..], None),
    };
    own.iter().chain(endpoint.into_iter().flat_map(|endpoint| &endpoint.virtual_ips))
}

fn place(attachment: &Attachment) -> Option<(NetworkId, Ipv4Addr)> {
    Some((attachment.network, attachment.address?.address()))
}
