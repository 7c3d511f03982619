//! `/_ping`, `/version`, `/info`, health: what purser and the engine beside it are.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json as value};

use super::context::{API_MAX, API_MIN, Access, Api, ApiInner};
use super::error::{ErrorResponse, Failure, empty, json};
use super::swarm::SwarmAnswer;
use crate::domain::node::NodeState;
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::task_state::TaskState;
use crate::manager::{Right, Verb};

/// Version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Ping
#[utoipa::path(get, path = "/_ping", tag = "System", operation_id = "SystemPing",
    responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn ping(State(api): State<Api>) -> Response<Body> {
    let mut response = Response::new(Body::from("OK"));
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    ping_headers(&api, &mut response);
    response
}

/// Ping without a body
#[utoipa::path(head, path = "/_ping", tag = "System", operation_id = "SystemPingHead",
    responses((status = 200)))]
pub(super) async fn ping_head(State(api): State<Api>) -> Response<Body> {
    let mut response = empty(StatusCode::OK);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, plain);
    ping_headers(&api, &mut response);
    response
}

fn ping_headers(api: &ApiInner, response: &mut Response<Body>) {
    let view = api.manager.view();
    let swarm = match view.cluster() {
        Some(_) => "active/manager",
        None if view.is_locked() => "locked",
        None => "inactive",
    };
    let headers = response.headers_mut();
    let uncached = HeaderValue::from_static("no-cache, no-store, must-revalidate");
    headers.insert(header::CACHE_CONTROL, uncached);
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert("Swarm", HeaderValue::from_static(swarm));
}

/// Version of purser, and of the engine beside it
#[utoipa::path(get, path = "/version", tag = "System", operation_id = "SystemVersion",
    responses((status = 200, body = Object)))]
pub(super) async fn version(State(api): State<Api>) -> Response<Body> {
    let engine = match &api.engine {
        Some(engine) => engine.version().await.ok(),
        None => None,
    };
    let offered = api.offered().to_string();
    let own = value!({"Name": "purser", "Version": VERSION, "Details": {
        "ApiVersion": API_MAX.to_string(), "Arch": arch(), "MinAPIVersion": API_MIN.to_string(),
        "Os": "linux",
    }});
    let mut answer = engine.unwrap_or_else(|| {
        value!({"Platform": {"Name": ""}, "Version": VERSION, "Os": "linux", "Arch": arch(),
            "KernelVersion": kernel(), "Components": []})
    });
    if let Some(fields) = answer.as_object_mut() {
        fields.insert("Platform".into(), value!({"Name": format!("purser {VERSION}")}));
        fields.insert("ApiVersion".into(), offered.into());
        fields.insert("MinAPIVersion".into(), API_MIN.to_string().into());
        let components = fields.entry("Components").or_insert_with(|| value!([]));
        if let Some(components) = components.as_array_mut() {
            components.insert(0, own);
        }
    }
    json(StatusCode::OK, &answer)
}

/// The name that the Engine API has for this processor.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// Name of this host.
pub(super) fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

/// State of this host and its swarm
#[utoipa::path(get, path = "/info", tag = "System", operation_id = "SystemInfo",
    responses((status = 200, body = Object)))]
pub(super) async fn info(State(api): State<Api>, access: Access) -> Response<Body> {
    let is_shown = access.check_at_all(Verb::Use, Right::Engine).is_ok();
    let engine = match &api.engine {
        Some(engine) if is_shown => engine.info().await.ok(),
        _ => None,
    };
    let mut answer = engine.unwrap_or_else(|| without_engine(&api));
    let (mut swarm, warnings) = swarm(&api);
    // Its spec has options of drivers, which may be tokens.
    if access.check_at_all(Verb::Read, Right::Swarm).is_err()
        && let Some(fields) = swarm.as_object_mut()
    {
        fields.remove("Cluster");
    }
    if let Some(fields) = answer.as_object_mut() {
        fields.insert("Swarm".into(), swarm);
        if !warnings.is_empty() {
            let known = fields.entry("Warnings").or_insert_with(|| value!([]));
            match known.as_array_mut() {
                Some(known) => known.extend(warnings),
                None => *known = Value::Array(warnings),
            }
        }
    }
    json(StatusCode::OK, &answer)
}

/// What is known of this host without an engine.
fn without_engine(api: &ApiInner) -> Value {
    let name = host_name();
    value!({
        "ID": "", "Containers": 0, "ContainersRunning": 0, "ContainersPaused": 0,
        "ContainersStopped": 0, "Images": 0, "Driver": "", "DriverStatus": [],
        "Plugins": {"Volume": [], "Network": [], "Authorization": null, "Log": []},
        "SystemTime": api.manager.clock().now(), "LoggingDriver": "", "CgroupDriver": "",
        "KernelVersion": kernel(), "OperatingSystem": "Linux", "OSType": "linux",
        "Architecture": std::env::consts::ARCH, "NCPU": cpus(), "MemTotal": memory(),
        "DockerRootDir": api.data_dir, "Name": name, "Labels": [], "ServerVersion": VERSION,
        "Runtimes": {}, "DefaultRuntime": "", "LiveRestoreEnabled": false,
        "SecurityOptions": [], "Warnings": null,
    })
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// The `Swarm` part of `/info`, and what should be warned of.
fn swarm(api: &ApiInner) -> (Value, Vec<Value>) {
    let view = api.manager.view();
    let Some(cluster) = view.cluster() else {
        let (state, error) = match view.is_locked() {
            true => ("locked", Refusal::locked().message),
            false => ("inactive", String::new()),
        };
        let outside = value!({"NodeID": "", "NodeAddr": "", "LocalNodeState": state,
            "ControlAvailable": false, "Error": error, "RemoteManagers": null});
        return (outside, Vec::new());
    };
    let addr = &cluster.advertise_addr;
    let ip =
        addr.parse::<std::net::SocketAddr>().map_or(addr.clone(), |addr| addr.ip().to_string());
    let managers = view.nodes().filter(|node| node.manager.is_some()).count();
    let swarm = value!({
        "NodeID": cluster.manager, "NodeAddr": ip, "LocalNodeState": "active",
        "ControlAvailable": true, "Error": "",
        "RemoteManagers": [{"NodeID": cluster.manager, "Addr": addr}],
        "Nodes": view.nodes().len(), "Managers": managers,
        "Cluster": serde_json::to_value(SwarmAnswer::from(&**cluster)).unwrap_or_default(),
    });
    (swarm, Vec::new())
}

/// Alive
#[utoipa::path(get, path = "/livez", tag = "System", operation_id = "Livez",
    responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// Ready to serve
#[utoipa::path(get, path = "/readyz", tag = "System", operation_id = "Readyz",
    responses((status = 200, body = String, content_type = "text/plain"), (status = 503, body = ErrorResponse)))]
pub(super) async fn readyz(State(api): State<Api>) -> Result<&'static str, Failure> {
    if api.manager.view().is_locked() {
        return Err(Refusal::locked().into());
    }
    if let Some(cause) = api.manager.store().failure() {
        let message = format!("the store cannot write: {cause}");
        return Err(Failure(Refusal::front(Reason::Unavailable, message)));
    }
    match api.manager.store().is_writing() && !api.stop.is_cancelled() {
        true => Ok("ok\n"),
        false => {
            Err(Failure(Refusal::front(Reason::Unavailable, "the store takes no more writes")))
        }
    }
}

/// Numbers for Prometheus
#[utoipa::path(get, path = "/metrics", tag = "System", operation_id = "Metrics",
    responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn metrics(State(api): State<Api>) -> Response<Body> {
    let view = api.manager.view();
    let ready = view.nodes().filter(|node| node.status.state == NodeState::Ready).count();
    let running = view.tasks().filter(|task| task.status.state == TaskState::Running).count();
    let numbers: [(&str, &str, &str, u64); 10] = [
        ("purser_locked", "gauge", "1 while users have the store locked.", view.is_locked().into()),
        ("purser_nodes", "gauge", "Nodes of the swarm.", view.nodes().len() as u64),
        ("purser_nodes_ready", "gauge", "Those that are ready.", ready as u64),
        ("purser_services", "gauge", "Services.", view.services().len() as u64),
        ("purser_tasks_running", "gauge", "Tasks that run.", running as u64),
        ("purser_secrets", "gauge", "Secrets.", view.secrets().len() as u64),
        ("purser_store_version", "counter", "Writes so far.", view.version().index),
        (
            "purser_store_failing",
            "gauge",
            "1 while the store cannot write, as on a full disk.",
            api.manager.store().failure().is_some().into(),
        ),
        (
            "purser_audit_records_total",
            "counter",
            "Records of the audit so far.",
            api.manager.store().audit_chain().last,
        ),
        (
            "purser_node_denials_total",
            "counter",
            "What was denied to hosts and nodes since the start.",
            api.manager.denials(),
        ),
    ];
    let mut text = String::new();
    for (name, kind, help, value) in numbers {
        use std::fmt::Write as _;
        write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n")
            .expect("writing to a string cannot fail");
    }
    let mut response = Response::new(Body::from(text));
    let plain = HeaderValue::from_static("text/plain; version=0.0.4");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
