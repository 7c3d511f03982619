//! The checker of networks: what is given out is given out once, and to whom it should be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use purser::domain::address::Cidr;
use purser::domain::endpoint::PublishMode;
use purser::domain::id::{NetworkId, ServiceId};
use purser::domain::network::{Attachment, IpamConfig, Network};
use purser::domain::node::Node;
use purser::domain::task::Task;
use purser::domain::task_state::TaskState;
use purser::domain::view::View;

/// What is wrong with the networks of a view whose planners are content.
pub fn inspect(view: &View) -> Vec<String> {
    let mut found = addresses(view);
    found.extend(subnets(view));
    found.extend(ports(view));
    found.extend(view.tasks().filter_map(|task| task_fault(view, task)));
    for node in view.nodes() {
        for place in &node.attachments {
            let is_ingress = view.ingress().is_some_and(|network| network.id == place.network);
            if !is_ingress && !view.tasks_of_node(node.id).any(|task| holds(task, place.network)) {
                found.push(format!("node {} keeps an address that it does not need", node.id));
            }
        }
    }
    let kept = view.removed_networks().filter(|network| !view.has_addresses(network.id));
    found.extend(kept.map(|network| format!("removed network {} is kept", network.spec.name)));
    found
}

/// Everyone who holds addresses, in words, whether they may have asked for them, and what they hold.
fn holders(view: &View) -> Vec<(String, bool, &[Attachment])> {
    let services = view.services().filter_map(|service| {
        let endpoint = service.endpoint.as_ref()?;
        Some((of_service(&service.spec.name, service.id), false, &endpoint.virtual_ips[..]))
    });
    let tasks = view.tasks().filter(|task| !task.status.state.is_terminal());
    let tasks = tasks.map(|task| (task.name(), task.service_id.is_none(), &task.networks[..]));
    let nodes = view.nodes().map(|node| (node.id.to_string(), false, &node.attachments[..]));
    services.chain(tasks).chain(nodes).collect()
}

/// A service in words; another one may have had its name before.
fn of_service(name: &str, id: ServiceId) -> String {
    format!("{name} ({id})")
}

fn addresses(view: &View) -> Vec<String> {
    let mut found = Vec::new();
    let mut given: BTreeMap<(NetworkId, Ipv4Addr), String> = BTreeMap::new();
    for (who, may_ask, places) in holders(view) {
        for place in places {
            let Some(address) = place.address else { continue };
            if !view.network(place.network).is_some_and(|network| fits(network, address, may_ask)) {
                found.push(format!("{who} has {address}, which its network does not give"));
            }
            let taken = given.insert((place.network, address.address()), who.clone());
            found.extend(taken.map(|other| format!("{who} and {other} both have {address}")));
        }
    }
    // A task that has not ended sends to its service where it was when the task was made.
    for task in view.tasks().filter(|task| !task.status.state.is_terminal()) {
        let Some(own) = task.service_id.map(|id| of_service(&task.service_name, id)) else {
            continue;
        };
        for place in task.endpoint.iter().flat_map(|endpoint| &endpoint.virtual_ips) {
            let Some(address) = place.address else { continue };
            let who =
                given.entry((place.network, address.address())).or_insert_with(|| own.clone());
            if own != *who {
                found.push(format!("{} sends to {address}, which {who} has", task.name()));
            }
        }
    }
    if !given.keys().eq(view.addresses().keys()) {
        found.push("the index of addresses is not what is given out".into());
    }
    found
}

/// True when an address is one of those that a network gives, or gives to who asks for it, with the
/// prefix of its subnet.
fn fits(network: &Network, address: Cidr, may_ask: bool) -> bool {
    network.subnets.iter().any(|config| {
        let Some(subnet) = config.subnet_v4() else { return false };
        let own = address.address();
        let range: Cidr = config.ip_range.parse().unwrap_or(subnet);
        address.subnet() == subnet
            && ![subnet.first(), subnet.last()].contains(&own)
            && config.gateway != own.to_string()
            && (may_ask || range.contains(own))
            && !config.auxiliary_addresses.values().any(|other| *other == own.to_string())
    })
}

/// True when a node has an address on every network of a task, or could get one.
pub fn may_attach(view: &View, task: &Task, node: &Node) -> bool {
    let has = |id: NetworkId| node.attachments.iter().any(|own| own.network == id);
    let is_free = |network: &Network, subnet: Cidr| {
        let bounds = subnet.first().to_bits()..=subnet.last().to_bits();
        bounds.map(Ipv4Addr::from_bits).any(|address| {
            !view.addresses().contains_key(&(network.id, address))
                && fits(network, Cidr::new(address, subnet.prefix()), false)
        })
    };
    let mut places = task.networks.iter().filter(|place| place.address.is_some());
    places.all(|place| {
        let Some(network) = view.network(place.network) else { return false };
        let mut subnets = network.subnets.iter().filter_map(IpamConfig::subnet_v4);
        has(network.id) || subnets.any(|subnet| is_free(network, subnet))
    })
}

fn subnets(view: &View) -> Vec<String> {
    let mut found = Vec::new();
    let (mut vnis, mut taken) = (BTreeSet::new(), Vec::<Cidr>::new());
    for network in view.networks() {
        let name = &network.spec.name;
        let of_it: Vec<Cidr> = network.subnets.iter().filter_map(IpamConfig::subnet_v4).collect();
        if of_it.len() != network.vnis.len() || !network.vnis.iter().all(|vni| vnis.insert(*vni)) {
            found.push(format!("{name} does not have VXLAN numbers of its own"));
        }
        // A node that has a removed one still takes no other with its subnet.
        for subnet in of_it.into_iter().filter(|_| !network.is_removed) {
            if taken.iter().any(|o| o.contains(subnet.first()) || subnet.contains(o.first())) {
                found.push(format!("{name} shares {subnet}"));
            }
            taken.push(subnet);
        }
    }
    found
}

fn ports(view: &View) -> Vec<String> {
    let mut found = Vec::new();
    let mut taken = BTreeSet::new();
    for service in view.services() {
        for port in service.endpoint.iter().flat_map(|endpoint| &endpoint.ports) {
            let is_meshed = port.publish_mode == PublishMode::Ingress;
            if is_meshed && !taken.insert((port.protocol, port.published_port)) {
                found.push(format!("{} shares port {}", service.spec.name, port.published_port));
            }
            if is_meshed && port.published_port == 0 {
                found.push(format!("a port of {} is open", service.spec.name));
            }
        }
    }
    found
}

/// True when other tasks on a task's node have a network of the same name as one of its own.
fn has_namesakes(view: &View, task: &Task) -> bool {
    let networks = |task: &Task| {
        let with_address = task.networks.iter().filter(|place| place.address.is_some());
        let known = with_address.filter_map(|place| view.network(place.network).cloned());
        known.collect::<Vec<_>>()
    };
    let own = networks(task);
    let mut others = task.node_id.into_iter().flat_map(|node| view.tasks_of_node(node));
    others.any(|other| {
        other.status.state >= TaskState::Assigned
            && networks(other).iter().any(|network| {
                own.iter().any(|own| own.id != network.id && own.spec.name == network.spec.name)
            })
    })
}

fn task_fault(view: &View, task: &Task) -> Option<String> {
    let wrong = |what: &str| Some(format!("{}: {what}", task.name()));
    if task.status.state < TaskState::Pending || !task.is_live() {
        return None;
    }
    let has = |id: &str| task.networks.iter().any(|place| place.network.as_str() == id);
    if !task.spec.networks.iter().all(|network| has(&network.target)) {
        return wrong("not on all its networks");
    }
    if view.is_held_back(task) {
        let is_said = task.status.err.starts_with("its node ");
        return if is_said { None } else { wrong("it is held back and nobody says so") };
    }
    if task.status.state < TaskState::Assigned {
        return None;
    }
    if has_namesakes(view, task) {
        return wrong("its node has another network under a name of its networks");
    }
    let node = task.node_id.and_then(|id| view.node(id))?;
    let mut with_address = task.networks.iter().filter(|place| place.address.is_some());
    let is_ready =
        with_address.all(|place| node.attachments.iter().any(|own| own.network == place.network));
    if is_ready { None } else { wrong("it runs where its node has no address") }
}

fn holds(task: &Task, network: NetworkId) -> bool {
    let is_there = task.status.state >= TaskState::Assigned && !task.status.state.is_terminal();
    is_there && task.networks.iter().any(|place| place.network == network)
}
