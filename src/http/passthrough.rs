//! What is not Swarm's: passed on to the local engine, streams and connection upgrades included.
//! Without an engine it gets the empty answers of a host that has no containers.

use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use axum::response::IntoResponse as _;
use hyper_util::rt::TokioIo;
use serde_json::json;

use super::client::Client;
use super::context::{Access, Api, ApiVersion, check_meant};
use super::decode;
use super::error::{Failure, json};
use crate::domain::actor::{Actor, Caller};
use crate::domain::audit::{Note, Outcome};
use crate::domain::refusal::{Reason, Refusal};
use crate::manager::{Right, Told, Verb};

/// Answers a request that no route of ours takes.
pub(super) async fn fallback(api: &Api, request: Request<Body>) -> Response<Body> {
    let caller: Caller = request.extensions().get().cloned().unwrap_or_default();
    if let Err(failure) = check_meant(&Actor::Client(caller.clone())) {
        return failure.into_response();
    }
    let request = match check_volume(request).await {
        Ok(request) => request,
        Err(failure) => return failure.into_response(),
    };
    match &api.engine {
        Some(_) => pass(api, request).await.unwrap_or_else(Failure::into_response),
        None => match Access::new(api, caller).check_at_all(Verb::Use, Right::Engine) {
            Ok(()) => without_engine(&request),
            Err(refusal) => Failure(refusal).into_response(),
        },
    }
}

/// What is said of volumes that the cluster itself would have to keep.
const NO_CLUSTER_VOLUMES: &str =
    "cluster volumes are not supported: use a volume of a driver that each node has";

/// Refuses a request for a cluster volume, which an engine would refuse with the advice to ask a manager;
/// answers any other as it came.
async fn check_volume(request: Request<Body>) -> Result<Request<Body>, Failure> {
    let path = request.uri().path();
    if request.method() == Method::PUT && path.starts_with("/volumes/") {
        return Err(Failure::unsupported(NO_CLUSTER_VOLUMES));
    }
    if request.method() != Method::POST || path != "/volumes/create" {
        return Ok(request);
    }
    let (parts, body) = request.into_parts();
    let bytes = decode::read(body).await?;
    let asked: Option<serde_json::Map<String, serde_json::Value>> =
        serde_json::from_slice(&bytes).ok();
    let is_cluster = |(key, value): (&String, &serde_json::Value)| {
        key.eq_ignore_ascii_case("ClusterVolumeSpec") && !value.is_null()
    };
    match asked.is_some_and(|asked| asked.iter().any(is_cluster)) {
        true => Err(Failure::unsupported(NO_CLUSTER_VOLUMES)),
        false => Ok(Request::from_parts(parts, Body::from(bytes))),
    }
}

/// Passes a request on to the engine, with its version prefix lowered to what the engine speaks.
pub(super) async fn pass(api: &Api, mut request: Request<Body>) -> Result<Response<Body>, Failure> {
    let engine = api.engine.as_ref().ok_or_else(Failure::no_route)?;
    let caller: Caller = request.extensions().get().cloned().unwrap_or_default();
    // Over a web socket, input goes to the container as well.
    let is_look = matches!(*request.method(), Method::GET | Method::HEAD)
        && !request.headers().contains_key(header::UPGRADE);
    let asked = format!("{} {}", request.method(), request.uri().path());
    admit(api, caller, is_look, asked).await?;
    if engine.api_version().is_none() {
        let _ = engine.version().await;
    }
    let speaks = engine.api_version().as_deref().and_then(ApiVersion::parse);
    let asked: Option<ApiVersion> = request.extensions().get().copied();
    let version = match (asked, speaks) {
        (Some(asked), Some(speaks)) => Some(asked.min(speaks)),
        (asked, speaks) => asked.or(speaks),
    };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let target = match version {
        Some(version) => format!("/v{version}{path}"),
        None => path.to_owned(),
    };
    let target: Uri = target.parse().map_err(|_| Failure::no_route())?;
    let upgrade = request.headers().contains_key(header::UPGRADE);
    let client: Option<Client> = request.extensions().get().cloned();
    let client_side = upgrade.then(|| hyper::upgrade::on(&mut request));
    let (mut parts, body) = request.into_parts();
    parts.uri = target;
    parts.headers.entry(header::HOST).or_insert(HeaderValue::from_static("docker"));
    if !upgrade {
        parts.headers.remove(header::CONNECTION);
    }
    parts.extensions.clear();
    let sent = engine.client().send(Request::from_parts(parts, body)).await;
    let mut response = sent.map_err(|error| {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "a request could not be passed on"
        );
        Failure(Refusal::front(Reason::Unavailable, error.to_string()))
    })?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(client_side) = client_side
    {
        let engine_side = hyper::upgrade::on(&mut response);
        let spliced = splice(client_side, engine_side, api.stop.clone());
        tokio::spawn(async move {
            spliced.await;
            // Only now is the connection done with.
            drop(client);
        });
    }
    let (mut parts, body) = response.into_parts();
    if parts.status != StatusCode::SWITCHING_PROTOCOLS {
        parts.headers.remove(header::CONNECTION);
    }
    Ok(Response::from_parts(parts, Body::new(body)))
}

/// Checks that who asks may use the engine, and has the audit tell of what may change something there.
async fn admit(api: &Api, caller: Caller, is_look: bool, asked: String) -> Result<(), Failure> {
    Access::new(api, caller.clone()).check_at_all(Verb::Use, Right::Engine)?;
    if is_look || api.manager.view().is_locked() {
        return Ok(());
    }
    caller.set_told();
    tell_of_use(api, &Actor::Client(caller), asked).await
}

/// Has the audit tell that somebody uses the engine for something.
pub(super) async fn tell_of_use(api: &Api, actor: &Actor, asked: String) -> Result<(), Failure> {
    let note = Note::new(actor.clone(), "engine request").with(asked);
    Ok(api.manager.tell(vec![Told { note, outcome: Outcome::Done }]).await?)
}

/// Copies both ways until both sides have ended.
async fn splice(
    client: hyper::upgrade::OnUpgrade,
    engine: hyper::upgrade::OnUpgrade,
    stop: tokio_util::sync::CancellationToken,
) {
    let both = async {
        let (client, engine) = tokio::try_join!(client, engine)?;
        let (mut client, mut engine) = (TokioIo::new(client), TokioIo::new(engine));
        let copied = tokio::io::copy_bidirectional(&mut client, &mut engine).await;
        Ok::<_, hyper::Error>(copied)
    };
    tokio::select! {
        () = stop.cancelled() => {}
        ended = both => match ended {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "an upgraded connection ended"),
            Err(error) => tracing::debug!(%error, "a connection was not upgraded"),
        }
    }
}

/// The answers of a host without containers.
fn without_engine(request: &Request<Body>) -> Response<Body> {
    let path = request.uri().path();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let is_get = request.method() == Method::GET;
    let names_one = |id: &str| !matches!(id, "create" | "prune");
    let missing = |text: String| Failure(Refusal::front(Reason::NotFound, text)).into_response();
    match parts[..] {
        ["containers", "json"] | ["images", "json"] | ["networks"] | ["plugins"] if is_get => {
            json(StatusCode::OK, &json!([]))
        }
        ["volumes"] if is_get => json(StatusCode::OK, &json!({"Volumes": [], "Warnings": null})),
        ["system", "df"] if is_get => json(
            StatusCode::OK,
            &json!({"LayersSize": 0, "Images": [], "Containers": [], "Volumes": [], "BuildCache": []}),
        ),
        ["containers", id, ..] if names_one(id) => missing(format!("No such container: {id}")),
        ["images", ref name @ .., "json"] if is_get => {
            missing(format!("No such image: {}", name.join("/")))
        }
        ["networks", id] if names_one(id) => missing(format!("network {id} not found")),
        ["volumes", name] if names_one(name) => missing(format!("get {name}: no such volume")),
        ["plugins", name, "json"] => missing(format!("plugin {name:?} not found")),
        ["exec", id, ..] => missing(format!("No such exec instance: {id}")),
        ["distribution", ..]
        | ["containers" | "images" | "networks" | "volumes" | "build" | "auth" | "commit", ..] => {
            Failure(Refusal::front(Reason::Unavailable, "no engine is attached to this manager"))
                .into_response()
        }
        _ => Failure::no_route().into_response(),
    }
}
