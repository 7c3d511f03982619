//! `/swarm`: init, inspect, update with token rotation, leave.

use std::borrow::Cow;
use std::future::ready;
use std::io;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response, StatusCode};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::address;
use super::context::{Access, Api, Asker, Proposer, check_meant};
use super::decode;
use super::error::{ErrorResponse, Failure, empty, json};
use super::query::Query;
use super::system::host_name;
use crate::domain::actor::Actor;
use crate::domain::cluster::{
    ADDRESS_POOL_DEFAULT, Cluster, ClusterSpec, DATA_PATH_PORT_DEFAULT, JoinTokens,
    SUBNET_SIZE_DEFAULT,
};
use crate::domain::id::ClusterId;
use crate::domain::intent::SwarmUpdate;
use crate::domain::meta::Version;
use crate::domain::node::{Availability, TlsInfo};
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::time::Timestamp;
use crate::manager::{Manager, Right, ShownKey, SwarmWish, Verb};
use crate::seal::unlock::UnlockKey;

/// The cluster as it is shown.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = Swarm)]
pub(super) struct SwarmAnswer<'a> {
    #[serde(rename = "ID")]
    #[schema(value_type = String)]
    id: ClusterId,
    version: Version,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    spec: &'a ClusterSpec,
    #[serde(rename = "TLSInfo")]
    tls_info: Cow<'a, TlsInfo>,
    root_rotation_in_progress: bool,
    default_addr_pool: &'a [String],
    subnet_size: u32,
    data_path_port: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    join_tokens: Option<JoinTokens>,
}

impl<'a> From<&'a Cluster> for SwarmAnswer<'a> {
    fn from(cluster: &'a Cluster) -> Self {
        SwarmAnswer {
            id: cluster.id,
            version: cluster.meta.version,
            created_at: cluster.meta.created_at,
            updated_at: cluster.meta.updated_at,
            spec: &cluster.spec,
            tls_info: match &cluster.root_rotation {
                None => Cow::Borrowed(&cluster.tls_info),
                // Trusted is the root before still, and issued is by the new one.
                Some(rotation) => Cow::Owned(TlsInfo {
                    trust_root: cluster.root_ca.clone(),
                    ..rotation.tls_info.clone()
                }),
            },
            root_rotation_in_progress: cluster.root_rotation.is_some(),
            default_addr_pool: &cluster.default_addr_pool,
            subnet_size: cluster.subnet_size,
            data_path_port: cluster.data_path_port,
            join_tokens: None,
        }
    }
}

/// A new swarm as it is asked for.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct SwarmInitRequest {
    /// Address or interface, and port, where nodes are listened for.
    listen_addr: String,
    /// Address or interface, and port, that nodes are told.
    advertise_addr: String,
    /// Address of overlay traffic.
    data_path_addr: String,
    /// UDP port of overlay traffic; 0 is 4789.
    data_path_port: u32,
    /// Make the one manager of a swarm that lost the others.
    force_new_cluster: bool,
    /// Settings.
    spec: ClusterSpec,
    /// Of no effect without `Spec.EncryptionConfig.AutoLockManagers`.
    auto_lock_managers: bool,
    /// `active`, `pause` or `drain`.
    availability: String,
    /// Pools of overlay networks.
    default_addr_pool: Vec<String>,
    /// Prefix length of an overlay network's subnet; 0 is 24.
    subnet_size: u32,
}

/// Initialize a new swarm
#[utoipa::path(post, path = "/swarm/init", tag = "Swarm", operation_id = "SwarmInit",
    request_body = SwarmInitRequest,
    responses((status = 200, description = "The id of this node", body = String, content_type = "application/json"), (status = 400, body = ErrorResponse), (status = 500, body = ErrorResponse), (status = 501, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn init(
    State(api): State<Api>,
    access: Access,
    Asker(actor): Asker,
    request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    let wish: SwarmInitRequest = decode::body(request).await?;
    let view = api.manager.view();
    if wish.force_new_cluster
        && let Some(cluster) = view.cluster()
    {
        // This manager is the only one as it is; what comes with the request holds from now on.
        let node = cluster.manager;
        if wish.spec == ClusterSpec::default() {
            return Ok(json(StatusCode::OK, node.as_str()));
        }
        access.check_at_all(Verb::Update, Right::Swarm)?;
        let update = SwarmUpdate {
            version: cluster.meta.version,
            spec: wish.spec.with_defaults(),
            worker_secret: None,
            manager_secret: None,
            rotate_unlock_key: false,
            new_root: None,
        };
        api.manager.update_swarm(actor, update).await?;
        return Ok(json(StatusCode::OK, node.as_str()));
    }
    if view.cluster().is_some() || view.is_locked() {
        return Err(Refusal::in_a_swarm().into());
    }
    let node = api.manager.init_swarm(actor, check_init(wish)?).await?;
    super::attach::after_init(&api).await;
    Ok(json(StatusCode::OK, node.as_str()))
}

fn check_init(wish: SwarmInitRequest) -> Result<SwarmWish, Failure> {
    let unknown = |message: String| Failure(Refusal::front(Reason::Unknown, message));
    let listen_addr = address::listen(&wish.listen_addr)?;
    let advertise_addr = address::advertise(&wish.advertise_addr, listen_addr)?;
    address::check_data_path(&wish.data_path_addr)?;
    if wish.data_path_port != 0 && !(1024..=49151).contains(&wish.data_path_port) {
        let port = wish.data_path_port;
        return Err(unknown(format!(
            "Datapath port number is not in valid range (1024-49151) : {port}"
        )));
    }
    let subnet_size = if wish.subnet_size == 0 { SUBNET_SIZE_DEFAULT } else { wish.subnet_size };
    let pools = match wish.default_addr_pool.is_empty() {
        true => vec![ADDRESS_POOL_DEFAULT.to_owned()],
        false => wish.default_addr_pool,
    };
    address::check_pools(&pools, subnet_size).map_err(unknown)?;
    let availability = match wish.availability.as_str() {
        "" => Availability::Active,
        text => Availability::parse(text).ok_or_else(|| unknown(Availability::unknown(text)))?,
    };
    Ok(SwarmWish {
        hostname: host_name(),
        listen_addr,
        advertise_addr,
        spec: wish.spec.with_defaults(),
        availability,
        default_addr_pool: pools,
        subnet_size,
        data_path_port: if wish.data_path_port == 0 {
            DATA_PATH_PORT_DEFAULT
        } else {
            wish.data_path_port
        },
    })
}

/// Inspect the swarm
#[utoipa::path(get, path = "/swarm", tag = "Swarm", operation_id = "SwarmInspect",
    responses((status = 200, body = SwarmAnswer), (status = 503, body = ErrorResponse)))]
pub(super) async fn inspect(
    State(api): State<Api>,
    access: Access,
) -> Result<Response<Body>, Failure> {
    let view = api.manager.view();
    let cluster = view.require_cluster()?;
    access.check_at_all(Verb::Read, Right::Swarm)?;
    let mut answer = SwarmAnswer::from(&**cluster);
    answer.join_tokens = Some(Manager::join_tokens(&view));
    Ok(json(StatusCode::OK, &answer))
}

/// Update the swarm
#[utoipa::path(post, path = "/swarm/update", tag = "Swarm", operation_id = "SwarmUpdate",
    params(("version" = u64, Query, description = "The version that was seen"),
        ("rotateWorkerToken" = Option<bool>, Query, description = "Make a new worker token"),
        ("rotateManagerToken" = Option<bool>, Query, description = "Make a new manager token"),
        ("rotateManagerUnlockKey" = Option<bool>, Query, description = "Make a new unlock key, if managers lock themselves")),
    request_body = ClusterSpec,
    responses((status = 200), (status = 400, body = ErrorResponse), (status = 500, body = ErrorResponse), (status = 501, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn update(
    State(api): State<Api>,
    access: Access,
    Proposer(actor): Proposer,
    query: Query,
    request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    let (parts, body) = request.into_parts();
    let bytes = decode::read(body).await?;
    let sent = decode::apart(bytes, move |bytes| {
        let sent = decode::value(&parts.headers, bytes)?;
        decode::from_value::<ClusterSpec>(sent.clone()).map(|_| sent)
    });
    let sent = sent.await?;
    let version = query.version().ok_or_else(|| query.bad_version("swarm"))?;
    let rotate_worker = query.strict_bool("rotateWorkerToken")?;
    let rotate_manager = query.strict_bool("rotateManagerToken")?;
    let rotate_unlock_key = query.strict_bool("rotateManagerUnlockKey")?;
    let view = api.manager.view();
    let cluster = view.require_cluster()?;
    // Before keys are made or asked for.
    access.check_at_all(Verb::Update, Right::Swarm)?;
    // What is left out stays as it is: a client that sends a part of the settings does not want the
    // rest set to zero.
    let mut merged = serde_json::to_value(&cluster.spec)
        .map_err(|error| Failure(Refusal::front(Reason::Unknown, error.to_string())))?;
    merge(&mut merged, sent);
    let spec: ClusterSpec = decode::from_value(merged)?;
    let update = SwarmUpdate {
        version,
        spec,
        worker_secret: rotate_worker.then(|| api.manager.make_join_secret()),
        manager_secret: rotate_manager.then(|| api.manager.make_join_secret()),
        rotate_unlock_key,
        new_root: None,
    };
    api.manager.update_swarm(actor, update).await?;
    Ok(empty(StatusCode::OK))
}

/// Lays what was sent over what is there. Keys are the same in any case; a map of labels replaces
/// the one before.
fn merge(known: &mut Value, sent: Value) {
    let (Value::Object(known), Value::Object(sent)) = (known, sent) else { return };
    for (key, value) in sent {
        let name = known.keys().find(|known| known.eq_ignore_ascii_case(&key)).cloned();
        let name = name.unwrap_or(key);
        match known.get_mut(&name) {
            _ if value.is_null() && !name.eq_ignore_ascii_case("labels") => {}
            Some(inner @ Value::Object(_)) if !name.eq_ignore_ascii_case("labels") => {
                merge(inner, value);
            }
            _ => {
                known.insert(name, value);
            }
        }
    }
}

/// Leave the swarm
#[utoipa::path(post, path = "/swarm/leave", tag = "Swarm", operation_id = "SwarmLeave",
    params(("force" = Option<bool>, Query, description = "Even though this is the last manager, whose state goes with it")),
    responses((status = 200), (status = 503, body = ErrorResponse)))]
pub(super) async fn leave(
    State(api): State<Api>,
    access: Access,
    Proposer(actor): Proposer,
    query: Query,
) -> Result<Response<Body>, Failure> {
    let view = api.manager.view();
    let unavailable = |text: &str| Failure(Refusal::front(Reason::Unavailable, text));
    if let Some(locked) = &api.locked {
        check_meant(&actor)?;
        if !query.loose_bool("force") {
            return Err(unavailable(
                "Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore \
                 this message.",
            ));
        }
        access.check_at_all(Verb::Remove, Right::Swarm)?;
        locked.forget(actor).await?;
        return Ok(empty(StatusCode::OK));
    }
    let Some(cluster) = view.cluster() else {
        return Err(unavailable("This node is not part of a swarm"));
    };
    if !query.loose_bool("force") {
        return Err(unavailable(
            "You are attempting to leave the swarm on a node that is participating as a manager. \
             Removing the last manager erases all current state of the swarm. Use `--force` to \
             ignore this message. ",
        ));
    }
    // Before the engine of this host gives up its tasks.
    access.check_at_all(Verb::Remove, Right::Swarm)?;
    if actor.is_trying() {
        api.manager.try_leaving(actor).await?;
        return Ok(empty(StatusCode::OK));
    }
    super::attach::before_leave(&api, cluster).await;
    api.manager.leave_swarm(actor).await?;
    Ok(empty(StatusCode::OK))
}

/// A wish to join another swarm, as it is sent.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct SwarmJoinRequest {
    listen_addr: String,
    advertise_addr: String,
    data_path_addr: String,
    /// Managers of the swarm to join.
    remote_addrs: Vec<String>,
    join_token: String,
    availability: String,
}

/// Join another swarm
#[utoipa::path(post, path = "/swarm/join", tag = "Swarm", operation_id = "SwarmJoin",
    request_body = SwarmJoinRequest,
    responses((status = 400, body = ErrorResponse), (status = 501, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn join(
    State(api): State<Api>,
    _: Asker,
    request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    let wish: SwarmJoinRequest = decode::body(request).await?;
    let view = api.manager.view();
    if view.cluster().is_some() || view.is_locked() {
        return Err(Refusal::in_a_swarm().into());
    }
    if wish.remote_addrs.is_empty() {
        return Err(Failure::invalid("at least 1 RemoteAddr is required to join"));
    }
    let listen_addr = match wish.listen_addr.as_str() {
        "" => address::listen("0.0.0.0")?,
        given => address::listen(given)?,
    };
    if !wish.advertise_addr.is_empty() {
        address::advertise(&wish.advertise_addr, listen_addr)?;
    }
    address::check_data_path(&wish.data_path_addr)?;
    Err(Failure::unsupported(
        "purser cannot join another manager yet; have the engine of this host join as a node \
         (docker -H unix:///var/run/docker.sock swarm join …)",
    ))
}

/// The key that unlocks a manager
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UnlockKeyResponse<'a> {
    /// As users note it down; empty when autolock is off.
    unlock_key: &'a str,
}

/// Get the unlock key
#[utoipa::path(get, path = "/swarm/unlockkey", tag = "Swarm", operation_id = "SwarmUnlockkey",
    responses((status = 200, body = UnlockKeyResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn unlock_key(
    State(api): State<Api>,
    access: Access,
    Asker(actor): Asker,
) -> Result<Response<Body>, Failure> {
    access.check_at_all(Verb::Read, Right::Keys)?;
    let shown = api.manager.unlock_key(actor.clone()).await?;
    let mut response = json(StatusCode::OK, &UnlockKeyResponse { unlock_key: &shown.text });
    if shown.is_new {
        response = response.map(|text| then_take(api, actor, shown, text));
    }
    Ok(response)
}

/// A body that does not end before the key in it is in effect, which it is only once it was sent. Until
/// then the key before opens the store as well.
fn then_take(api: Api, actor: Actor, shown: ShownKey, text: Body) -> Body {
    let taken = async move {
        // The connection writes what it has before it comes back here.
        tokio::task::yield_now().await;
        // In a task of its own: what has begun ends, also when the client goes away.
        let taken = async move { api.manager.take_unlock_key(actor, shown).await };
        match tokio::spawn(taken).await {
            Ok(Ok(())) => None,
            Ok(Err(refusal)) => {
                tracing::error!(%refusal, "a new unlock key was shown and is not in effect yet");
                Some(io::Error::other(refusal))
            }
            Err(error) => Some(io::Error::other(error)),
        }
    };
    let taken = stream::once(taken).filter_map(|error| ready(error.map(Err)));
    let text = text.into_data_stream().map_err(io::Error::other);
    Body::from_stream(text.chain(taken))
}

/// The key of a locked manager, as it is sent.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct SwarmUnlockRequest {
    unlock_key: String,
}

/// Unlock a locked manager
#[utoipa::path(post, path = "/swarm/unlock", tag = "Swarm", operation_id = "SwarmUnlock",
    request_body = SwarmUnlockRequest,
    responses((status = 200), (status = 400, body = ErrorResponse), (status = 401, body = ErrorResponse), (status = 409, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn unlock(
    State(api): State<Api>,
    _: Asker,
    request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    let SwarmUnlockRequest { unlock_key } = decode::body(request).await?;
    let unlock_key = Zeroizing::new(unlock_key);
    let Some(locked) = &api.locked else {
        api.manager.view().require_cluster()?;
        return Err(Failure(Refusal::front(Reason::Conflict, "swarm is not locked")));
    };
    let key = UnlockKey::parse_autolock(&unlock_key);
    let key = key.ok_or_else(|| Failure::invalid("invalid key string"))?;
    locked.unlock(key).await?;
    Ok(empty(StatusCode::OK))
}
