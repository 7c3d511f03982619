//! The swarm itself: init, update, leave.

use super::{network, root};
use crate::domain::change::{Change, Key};
use crate::domain::cluster::{CLUSTER_NAME, ClusterSpec, NODE_CERT_EXPIRY_MIN, OfferedKey};
use crate::domain::intent::{NewSwarm, SwarmUpdate};
use crate::domain::network_keys::NetworkKeys;
use crate::domain::refusal::{Layer, Reason, Refusal};
use crate::domain::view::View;
use crate::plan::Context;

/// Protocols of outside certificate authorities that have a name in the API.
const PROTOCOLS: &[&str] = &["cfssl"];

pub(super) fn init(view: &View, new: NewSwarm, ctx: Context<'_>) -> Result<Vec<Change>, Refusal> {
    if view.cluster().is_some() {
        return Err(Refusal::in_a_swarm());
    }
    check(&new.cluster.spec).map_err(|refusal| Refusal {
        // The Engine wraps what its store says of the settings of a new swarm.
        message: match refusal.layer {
            Layer::Front => refusal.message.clone(),
            Layer::Store => format!(
                "error updating cluster settings: rpc error: code = InvalidArgument desc = {}",
                refusal.message
            ),
        },
        reason: match refusal.layer {
            Layer::Front => refusal.reason,
            Layer::Store => Reason::Unknown,
        },
        layer: Layer::Front,
    })?;
    let key = Key::Cluster(new.cluster.id);
    let networks = network::of_new_swarm(&new.cluster, new.node, ctx)?;
    let cluster = [new.cluster.into(), Change::PutPayload(key, new.signing_key)];
    Ok(cluster.into_iter().chain(networks).collect())
}

pub(super) fn update(view: &View, update: SwarmUpdate) -> Result<Vec<Change>, Refusal> {
    let cluster = view.require_cluster()?;
    check(&update.spec)?;
    cluster.meta.check_known(update.version)?;
    let had_lock = cluster.spec.encryption_config.auto_lock_managers;
    let has_lock = update.spec.encryption_config.auto_lock_managers;
    let before = cluster;
    let mut cluster = (**cluster).clone();
    if has_lock && (!had_lock || update.rotate_unlock_key) {
        cluster.autolock.wanted += 1;
        cluster.autolock.offered = None;
    }
    if !has_lock {
        cluster.autolock.shown = cluster.autolock.wanted;
        cluster.autolock.offered = None;
    }
    cluster.meta = cluster.meta.edited();
    // Of the one name there is, nothing is the same as saying it.
    cluster.spec = ClusterSpec { name: CLUSTER_NAME.into(), ..update.spec };
    if let Some(secret) = update.worker_secret {
        cluster.join_secrets.worker = secret;
    }
    if let Some(secret) = update.manager_secret {
        cluster.join_secrets.manager = secret;
    }
    match update.new_root {
        None => Ok(vec![cluster.into()]),
        Some(_) if before.root_rotation.is_some() => Err(root::under_way()),
        Some(new) => Ok(root::begin(view, cluster, *new)),
    }
}

/// A user is about to see the key of autolock that was asked for last.
pub(super) fn offer_unlock_key(view: &View, key: OfferedKey) -> Result<Vec<Change>, Refusal> {
    let cluster = view.require_cluster()?;
    if !cluster.spec.encryption_config.auto_lock_managers {
        // Turned off since the key was asked for: nothing may be sealed under it.
        return Ok(Vec::new());
    }
    let mut cluster = (**cluster).clone();
    if !cluster.autolock.is_due() {
        // The store came back without its lock.
        cluster.autolock.wanted += 1;
    }
    cluster.autolock.offered = Some(key);
    Ok(vec![cluster.into()])
}

/// A user has seen this key, which takes effect, unless another one was asked for meanwhile.
pub(super) fn take_unlock_key(view: &View, key: &OfferedKey) -> Result<Vec<Change>, Refusal> {
    let cluster = view.require_cluster()?;
    if cluster.autolock.offered.as_ref() != Some(key) {
        return Ok(Vec::new());
    }
    let mut cluster = (**cluster).clone();
    cluster.autolock.shown = cluster.autolock.wanted;
    cluster.autolock.offered = None;
    Ok(vec![cluster.into()])
}

/// Leaving ends the swarm: the only manager takes all of its state with it.
pub(super) fn leave(view: &View) -> Result<Vec<Change>, Refusal> {
    if view.cluster().is_none() {
        return Err(Refusal::front(Reason::Unavailable, "This node is not part of a swarm"));
    }
    Ok(view.objects().map(|object| Change::Remove(object.key())).collect())
}

/// Nothing, unless it is time.
pub(super) fn rotate_network_keys(view: &View, ctx: Context<'_>) -> Vec<Change> {
    let Some(cluster) = view.cluster() else { return Vec::new() };
    let next = match &cluster.network_keys {
        None => NetworkKeys::make(ctx.entropy, ctx.now),
        Some(keys) if keys.due() <= ctx.now => keys.rotated(ctx.entropy, ctx.now),
        Some(_) => return Vec::new(),
    };
    let mut cluster = (**cluster).clone();
    cluster.network_keys = Some(next);
    vec![cluster.into()]
}

fn check(spec: &ClusterSpec) -> Result<(), Refusal> {
    if !spec.name.is_empty() && spec.name != CLUSTER_NAME {
        return Err(Refusal::front(Reason::Invalid, "swarm spec must be named \"default\""));
    }
    if let Some(outside) = spec.ca_config.external_cas.first() {
        if !PROTOCOLS.contains(&outside.protocol.to_lowercase().as_str()) {
            let message = format!("invalid protocol: {:?}", outside.protocol);
            return Err(Refusal::front(Reason::Invalid, message));
        }
        return Err(not_built("certificate authorities outside of the swarm are not supported"));
    }
    let expiry = spec.ca_config.node_cert_expiry;
    if expiry != 0 && expiry < NODE_CERT_EXPIRY_MIN {
        return Err(Refusal::invalid("minimum certificate expiry time is: 1h0m0s"));
    }
    if spec.dispatcher.heartbeat_period < 0 {
        return Err(Refusal::invalid("heartbeat time period cannot be a negative duration"));
    }
    Ok(())
}

fn not_built(message: &str) -> Refusal {
    Refusal::front(Reason::Unsupported, message)
}
