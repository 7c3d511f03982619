//! The place of a container that a node attaches to a network by itself. It is given within the
//! request, so that whoever waits for it is answered with what it got, or gets nothing.

use std::net::Ipv4Addr;

use super::pool::Pools;
use crate::domain::change::Change;
use crate::domain::network::{Attachment, Network};
use crate::domain::node::Node;
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::view::View;

/// A place on a network for a container on a node, at this address if one is wanted, and what else
/// changes by that: the node gets a place as well if it has none.
///
/// # Errors
/// The address cannot be had, or none is left for one of the two.
pub fn attach(
    view: &View,
    node: &Node,
    network: &Network,
    wanted: Option<Ipv4Addr>,
) -> Result<(Attachment, Vec<Change>), Refusal> {
    if !network.spec.is_overlay() {
        let message = format!(
            "network {} gives its addresses within each node: none can be asked for",
            network.spec.name
        );
        return match wanted {
            None => Ok((Attachment { network: network.id, address: None }, Vec::new())),
            Some(_) => Err(Refusal::store(Reason::Unsupported, message)),
        };
    }
    let exhausted = |why| Refusal::store(Reason::Exhausted, why);
    let mut pools = Pools::of(view);
    let place = match wanted {
        Some(address) => pools.take_this(network, address)?,
        None => pools.take_for_task(network).map_err(exhausted)?,
    };
    let mut changes = Vec::new();
    if node.attachments.iter().all(|own| own.network != network.id) {
        let mut node = node.clone();
        node.attachments.push(pools.take(network).map_err(exhausted)?);
        changes.push(node.into());
    }
    changes.extend(pools.changes());
    Ok((place, changes))
}
