//! Having the local engine come and go with the swarm. The request that begins a swarm waits for
//! it, so that the node which the client sees next is ready.

use std::time::Duration;

use super::context::{Api, ApiInner};
use crate::domain::cluster::Cluster;
use crate::domain::node::NodeState;
use crate::engine::attach::Invitation;

/// How long a new swarm waits for the engine; it goes on in the background after that.
const ATTACH_TIME: Duration = Duration::from_secs(15);
/// How often it is looked whether the engine is still what it should be, while its node is not
/// ready.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Attaches the engine to a swarm that was just made.
pub(super) async fn after_init(api: &Api) {
    if api.engine.is_none() {
        return;
    }
    let attached = async {
        if attach(api).await {
            wait_until_ready(api).await;
        }
    };
    if tokio::time::timeout(ATTACH_TIME, attached).await.is_err() {
        tracing::warn!("the engine did not join in time; it is tried again in the background");
    }
}

/// Has the engine leave a swarm that is about to end.
pub(super) async fn before_leave(api: &Api, cluster: &Cluster) {
    let Some(engine) = &api.engine else { return };
    if let Err(error) = engine.detach(cluster.manager, &cluster.advertise_addr).await {
        // The swarm ends all the same; the engine finds its door closed.
        tracing::warn!(error = &error as &dyn std::error::Error, "the engine did not leave");
    }
}

/// Keeps the engine attached, until the process stops: at the start, and whenever its node is not
/// ready because the engine has forgotten the swarm.
pub(crate) async fn keep(api: Api) {
    let Some(engine) = api.engine.clone() else { return };
    loop {
        let _ = engine.version().await;
        if needs_attaching(&api) {
            attach(&api).await;
        }
        tokio::select! {
            () = api.stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

fn needs_attaching(api: &ApiInner) -> bool {
    let view = api.manager.view();
    let Some(cluster) = view.cluster() else { return false };
    view.node(cluster.manager).is_some_and(|node| node.status.state != NodeState::Ready)
}

/// True when the engine has joined, now or before.
async fn attach(api: &Api) -> bool {
    let Some(engine) = &api.engine else { return false };
    let _held = api.attaching.lock().await;
    let view = api.manager.view();
    let Some(cluster) = view.cluster() else { return false };
    let door = cluster.advertise_addr.clone();
    match engine.is_attached(cluster.manager, &door).await {
        Ok(true) => return true,
        Ok(false) => {}
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "the engine cannot be asked");
            return false;
        }
    }
    let Ok(token) = api.manager.make_one_time_token() else { return false };
    let invitation = Invitation { node: cluster.manager, door, token };
    match engine.attach(&invitation).await {
        Ok(()) => {
            tracing::info!(node = %invitation.node, "the local engine has joined");
            true
        }
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the local engine did not join"
            );
            false
        }
    }
}

async fn wait_until_ready(api: &Api) {
    let (mut view, mut commits) = api.manager.store().subscribe();
    loop {
        let ready = view.cluster().and_then(|cluster| view.node(cluster.manager));
        if ready.is_none_or(|node| node.status.state == NodeState::Ready) {
            return;
        }
        match commits.recv().await {
            Ok(commit) => view = commit.view.clone(),
            Err(_) => view = api.manager.view(),
        }
    }
}
