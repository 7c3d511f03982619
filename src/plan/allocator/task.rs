//! The addresses of tasks.

use std::sync::Arc;

use super::endpoint::{NO_INGRESS, find};
use super::pool::Pools;
use super::{Endpoints, PENDING_MESSAGE};
use crate::domain::change::Change;
use crate::domain::endpoint::{Endpoint, EndpointSpec};
use crate::domain::network::{Attachment, Network};
use crate::domain::task::Task;
use crate::domain::task_state::{Mover, TaskState, may_move};

/// Gives a new task what it needs, or says on it why it waits; nothing for one that is further, or
/// that says so already.
pub(super) fn plan(
    task: &Arc<Task>,
    endpoints: &Endpoints,
    pools: &mut Pools<'_>,
) -> Option<Change> {
    if !may_move(Mover::Allocator, task.status.state, TaskState::Pending) {
        return None;
    }
    let given = endpoint_of(task, endpoints, pools)
        .and_then(|endpoint| Ok((endpoint, give_addresses(task, pools)?)));
    let mut task = match &given {
        Err(why) if *why == task.status.err => return None,
        _ => Task::clone(task),
    };
    match given {
        Ok((endpoint, networks)) => {
            task.endpoint = endpoint;
            task.networks = networks;
            task.status.state = TaskState::Pending;
            task.status.message = PENDING_MESSAGE.into();
            task.status.err = String::new();
        }
        Err(why) => task.status.err = why,
    }
    Some(task.into())
}

/// How the service of a task is reached, once it is.
fn endpoint_of(
    task: &Task,
    endpoints: &Endpoints,
    pools: &Pools<'_>,
) -> Result<Option<Arc<Endpoint>>, String> {
    let Some(id) = task.service_id else { return Ok(None) };
    match endpoints.get(&id) {
        Some(given) => given.clone().map(Some),
        None => {
            let service = pools.view().service(id);
            Ok(service.and_then(|service| service.endpoint.clone()))
        }
    }
}

/// A place on each network of a task, and on that of the routing mesh when it publishes there.
fn give_addresses(task: &Task, pools: &mut Pools<'_>) -> Result<Vec<Attachment>, String> {
    let view = pools.view();
    let mut networks: Vec<&Network> = Vec::new();
    for attachment in &task.spec.networks {
        let network = find(view, &attachment.target)?;
        if networks.iter().all(|known| known.id != network.id) {
            networks.push(network);
        }
    }
    let wish = task.endpoint_spec.as_ref();
    if wish.is_some_and(EndpointSpec::is_in_mesh) {
        networks.push(view.ingress().ok_or(NO_INGRESS)?);
    }
    let mut given = Vec::with_capacity(networks.len());
    for network in networks {
        let place = match network.spec.is_overlay() {
            true => pools.take_for_task(network),
            false => Ok(Attachment { network: network.id, address: None }),
        };
        match place {
            Ok(place) => given.push(place),
            Err(why) => {
                pools.give_back(&given);
                return Err(why);
            }
        }
    }
    Ok(given)
}
