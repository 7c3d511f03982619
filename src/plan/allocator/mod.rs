//! The allocator: gives services, tasks and nodes their network resources; new → pending.
//!
//! ```text
//!   network   when it is made: subnets with gateways, VXLAN numbers       (subnet)
//!   service   a virtual address on each of its networks, published ports  (endpoint, port)
//!   task      an address on each of its networks                          (task)
//!   node      an address for the load balancer of each network in use     (node)
//!   container of a user: an address, within the request for it            (attachment)
//! ```
//!
//! What is given out is written on whom it was given to; the view keeps an index of it, so that
//! nothing is counted here and a restart gives nothing anew. Addresses go round ([`pool`]): where
//! the search goes on is written on the network. Whoever gets nothing says so on its tasks; services
//! and tasks are looked at again at every step, nodes when an address becomes free.
//!
//! A network that is removed while tasks on it are still stopping is kept out of sight until the
//! last of its addresses is free, and its last task is deleted. One that is made meanwhile under its name
//! gets the same subnets: an engine that has the one still does not notice the name, but the subnet, and
//! tries again. Tasks of the new one wait until the old one is gone from their node.

mod attachment;
mod endpoint;
mod node;
mod pool;
mod port;
mod subnet;
mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) use attachment::attach;
pub(super) use endpoint::NO_INGRESS;
pub(super) use node::welcome;
pub(super) use pool::Pools;
pub(super) use subnet::give as give_network;

use self::port::Ports;
use super::Planned;
use crate::domain::change::{Change, Key};
use crate::domain::endpoint::Endpoint;
use crate::domain::id::{NodeId, ServiceId};
use crate::domain::network::Network;
use crate::domain::service::Service;
use crate::domain::view::View;

/// What a task that waits for the scheduler says.
pub const PENDING_MESSAGE: &str = "pending task scheduling";

/// What services and tasks that wait are given, and these nodes as far as they need it.
pub fn plan(view: &View, nodes: &BTreeSet<NodeId>) -> Planned {
    let mut planned = Planned::default();
    let is_free = |network: &&Arc<Network>| {
        !view.has_addresses(network.id) && view.tasks_of_network(network.id).next().is_none()
    };
    for network in view.removed_networks().filter(is_free) {
        planned.changes.push(Change::Remove(Key::Network(network.id)));
    }
    let mut pools = Pools::of(view);
    // The scheduler counted on these when it gave the nodes their tasks.
    for node in nodes.iter().filter_map(|id| view.node(*id)) {
        node::plan(node, &mut pools, &mut planned);
    }
    let endpoints = give_endpoints(view, &mut pools, &mut planned);
    for task in view.waiting_tasks() {
        planned.changes.extend(task::plan(task, &endpoints, &mut pools));
    }
    planned.changes.extend(pools.changes());
    planned
}

/// The endpoints of services that had none, or why they have none still.
type Endpoints = BTreeMap<ServiceId, Result<Arc<Endpoint>, String>>;

fn give_endpoints<'v>(view: &'v View, pools: &mut Pools<'v>, planned: &mut Planned) -> Endpoints {
    let mut endpoints = Endpoints::new();
    let mut ports = Ports::default();
    for service in view.waiting_services() {
        let given = endpoint::give(service, pools, &mut ports).map(Arc::new);
        if let Ok(endpoint) = &given {
            let endpoint = Some(endpoint.clone());
            planned.changes.push(Service { endpoint, ..Service::clone(service) }.into());
        }
        endpoints.insert(service.id, given);
    }
    endpoints
}
