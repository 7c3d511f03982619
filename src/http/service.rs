//! `/services`: list, create, inspect, update, remove.

use std::borrow::Cow;
use std::collections::BTreeSet;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::Value;
use utoipa::ToSchema;

use super::context::{Access, Api, ApiVersion, Proposer, Wanted};
use super::decode;
use super::error::{ErrorResponse, Failure, empty, json, json_list};
use super::query::Query;
use super::{gates, names, network};
use crate::domain::change::Object;
use crate::domain::endpoint::{EndpointSpec, PortConfig};
use crate::domain::id::ServiceId;
use crate::domain::intent::{AuthFrom, Intent};
use crate::domain::json::is_zero;
use crate::domain::meta::Version;
use crate::domain::network::Attachment;
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::service::{
    JobStatus, ModeKind, RESTART_DELAY_DEFAULT, RegistryAuth, Runtime, STOP_GRACE_DEFAULT, Service,
    ServiceSpec, UPDATE_MONITOR_DEFAULT, UpdateConfig, UpdateStatus,
};
use crate::domain::task_state::TaskState;
use crate::domain::time::Timestamp;
use crate::domain::view::View;
use crate::manager::Verb;
use std::sync::Arc;

/// A service as it is shown.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = Service)]
pub(super) struct ServiceAnswer<'a> {
    #[serde(rename = "ID")]
    #[schema(value_type = String)]
    id: ServiceId,
    version: Version,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    #[schema(value_type = ServiceSpec)]
    spec: Cow<'a, ServiceSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ServiceSpec>)]
    previous_spec: Option<Cow<'a, ServiceSpec>>,
    endpoint: Endpoint<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    update_status: Option<&'a UpdateStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_status: Option<ServiceStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_status: Option<&'a JobStatus>,
}

/// How a service is reached, as it came out.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Endpoint<'a> {
    #[schema(value_type = EndpointSpec)]
    #[serde(serialize_with = "or_empty")]
    spec: Option<&'a EndpointSpec>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    ports: &'a [PortConfig],
    #[serde(rename = "VirtualIPs", skip_serializing_if = "<[_]>::is_empty")]
    virtual_ips: &'a [Attachment],
}

/// What is absent is written as an empty object.
fn or_empty<S: Serializer>(spec: &Option<&EndpointSpec>, serializer: S) -> Result<S::Ok, S::Error> {
    match spec {
        Some(spec) => spec.serialize(serializer),
        None => serializer.serialize_map(Some(0))?.end(),
    }
}

/// How many tasks a service has and should have.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ServiceStatus {
    running_tasks: u64,
    desired_tasks: u64,
    completed_tasks: u64,
}

/// A service that was made.
#[derive(Serialize, ToSchema)]
pub(super) struct ServiceCreateResponse {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Warnings")]
    warnings: Option<Vec<String>>,
}

/// A service that was updated.
#[derive(Serialize, ToSchema)]
pub(super) struct ServiceUpdateResponse {
    #[serde(rename = "Warnings")]
    warnings: Option<Vec<String>>,
}

impl<'a> ServiceAnswer<'a> {
    fn new(service: &'a Service, asked: ApiVersion) -> Self {
        let wish = service.spec.endpoint_spec.as_ref();
        let given = service.endpoint.as_deref();
        let ports = given.map(|endpoint| &endpoint.ports).or(wish.map(|wish| &wish.ports));
        ServiceAnswer {
            id: service.id,
            version: service.meta.version,
            created_at: service.meta.created_at,
            updated_at: service.meta.updated_at,
            spec: gates::shown(&service.spec, asked),
            previous_spec: service.previous_spec.as_ref().map(|spec| gates::shown(spec, asked)),
            endpoint: Endpoint {
                spec: wish,
                ports: ports.map_or(&[], Vec::as_slice),
                virtual_ips: given.map_or(&[], |endpoint| endpoint.addresses()),
            },
            update_status: service.update_status.as_ref(),
            service_status: None,
            job_status: service.job_status.as_ref(),
        }
    }
}

const KEYS: &[&str] = &["name", "id", "label", "mode", "runtime"];

/// List services
#[utoipa::path(get, path = "/services", tag = "Service", operation_id = "ServiceList",
    params(("filters" = Option<String>, Query, description = "JSON map of `id`, `label`, `mode`, `name`, `runtime` to values"),
        ("status" = Option<bool>, Query, description = "Include `ServiceStatus`")),
    responses((status = 200, body = Vec<ServiceAnswer>), (status = 400, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn list(
    State(api): State<Api>,
    access: Access,
    version: ApiVersion,
    query: Query,
) -> Result<Response<Body>, Failure> {
    let filters = query.filters(KEYS)?;
    let with_status = query.strict_bool("status")? && version >= ApiVersion::v1(41);
    let view = api.manager.view();
    view.require_cluster()?;
    let passes = |service: &&Service| {
        filters.passes("name", |value| service.spec.name.starts_with(value))
            && filters.passes("id", |value| service.id.as_str().starts_with(value))
            && filters.passes("mode", |value| service.spec.mode.name() == value)
            && filters.passes("runtime", |value| value == Runtime::Container.as_str())
            && filters.passes_labels("label", &service.spec.labels)
    };
    let sees = |service: &&Arc<Service>| access.sees(|| Object::Service((*service).clone()));
    let found: Vec<&Service> =
        view.services().filter(sees).map(|service| &**service).filter(passes).collect();
    let answers = found.into_iter().map(|service| {
        let mut answer = ServiceAnswer::new(service, version);
        answer.service_status = with_status.then(|| status_of(&view, service));
        answer
    });
    Ok(json_list(answers, 512))
}

fn status_of(view: &View, service: &Service) -> ServiceStatus {
    let mut status = ServiceStatus { running_tasks: 0, desired_tasks: 0, completed_tasks: 0 };
    let mode = service.spec.mode.kind();
    let mut done = BTreeSet::new();
    for task in view.tasks_of_service(service.id).filter(|task| service.is_of_run(task)) {
        status.running_tasks += u64::from(task.status.state == TaskState::Running);
        let counts = task.is_wanted() && task.desired_state == task.goal();
        status.desired_tasks += u64::from(counts);
        // A slot may have two: one on a node that was lost for a while, and its replacement.
        if service.is_done_by(task) {
            done.insert((task.slot, task.node_id.filter(|_| mode.is_by_node())));
        }
    }
    status.completed_tasks = done.len() as u64;
    match mode {
        ModeKind::Replicated(replicas) => status.desired_tasks = replicas,
        ModeKind::ReplicatedJob { max_concurrent, .. } => status.desired_tasks = max_concurrent,
        ModeKind::Global | ModeKind::GlobalJob => {}
    }
    status
}

/// Create a service
#[utoipa::path(post, path = "/services/create", tag = "Service", operation_id = "ServiceCreate",
    params(("X-Registry-Auth" = Option<String>, Header, description = "Registry credentials, base64url JSON")),
    request_body = ServiceSpec,
    responses((status = 201, body = ServiceCreateResponse), (status = 400, body = ErrorResponse), (status = 409, body = ErrorResponse), (status = 500, body = ErrorResponse), (status = 501, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn create(
    State(api): State<Api>,
    Proposer(actor): Proposer,
    asked: ApiVersion,
    request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    let registry_auth = registry_auth(request.headers());
    let mut spec = decode_spec(request, asked).await?;
    let view = api.manager.view();
    view.require_cluster()?;
    if spec.name.is_empty() {
        spec.name = names::make(api.manager.entropy(), |name| view.service_named(name).is_some());
    }
    network::check_local(&api, &mut spec).await?;
    let id = ServiceId::make(api.manager.entropy());
    let intent = Intent::CreateService { id, spec, registry_auth };
    api.manager.submit(actor, intent).await?;
    let answer = ServiceCreateResponse { id: id.to_string(), warnings: None };
    Ok(json(StatusCode::CREATED, &answer))
}

async fn decode_spec(request: Request<Body>, asked: ApiVersion) -> Result<ServiceSpec, Failure> {
    let (parts, body) = request.into_parts();
    let bytes = decode::read(body).await?;
    decode::check_object_len(bytes.len())?;
    decode::apart(bytes, move |bytes| spec_of(decode::value(&parts.headers, bytes)?, asked)).await
}

/// The spec that was sent, with what is always written in its place.
pub(super) fn spec_of(value: Value, asked: ApiVersion) -> Result<ServiceSpec, Failure> {
    let mut spec: ServiceSpec = decode::from_value(value)?;
    gates::drop_newer(&mut spec, asked);
    let template = std::sync::Arc::make_mut(&mut spec.task_template);
    // Always written, whether sent or not.
    template.runtime.get_or_insert(Runtime::Container);
    // Only nodes make attachments.
    template.network_attachment_spec = None;
    if let Some(placement) = &mut template.placement {
        // One that says nothing is none.
        placement.preferences.retain(|preference| preference.spread.is_some());
    }
    if is_zero(&spec.mode) {
        spec.mode.replicated = Some(Default::default());
    }
    if let Some(replicated) = &mut spec.mode.replicated {
        replicated.replicas.get_or_insert(1);
    }
    if let Some(job) = &mut spec.mode.replicated_job {
        let at_once = *job.max_concurrent.get_or_insert(1);
        job.total_completions.get_or_insert(at_once);
    }
    Ok(spec)
}

fn registry_auth(headers: &HeaderMap) -> Option<RegistryAuth> {
    let value = headers.get("X-Registry-Auth")?.to_str().ok()?;
    (!value.is_empty()).then(|| RegistryAuth(value.to_owned()))
}

/// Inspect a service
#[utoipa::path(get, path = "/services/{id}", tag = "Service", operation_id = "ServiceInspect",
    params(("id" = String, Path, description = "Id, name, or prefix of the id"),
        ("insertDefaults" = Option<bool>, Query, description = "Fill in what was left out")),
    responses((status = 200, body = ServiceAnswer), (status = 404, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn inspect(
    State(api): State<Api>,
    access: Access,
    Wanted(wanted): Wanted,
    asked: ApiVersion,
    query: Query,
) -> Result<Response<Body>, Failure> {
    let with_defaults = query.strict_bool("insertDefaults")?;
    let view = api.manager.view();
    view.require_cluster()?;
    let service = view.find_service(&wanted)?;
    access.check(Verb::Read, || Object::Service(service.clone()))?;
    let mut answer = ServiceAnswer::new(service, asked);
    if with_defaults {
        answer.spec = Cow::Owned(insert_defaults(answer.spec.into_owned()));
    }
    Ok(json(StatusCode::OK, &answer))
}

/// The same spec with the values that apply where it says nothing.
fn insert_defaults(mut spec: ServiceSpec) -> ServiceSpec {
    let template = std::sync::Arc::make_mut(&mut spec.task_template);
    if let Some(container) = &mut template.container_spec {
        container.stop_grace_period.get_or_insert(STOP_GRACE_DEFAULT);
        container.dns_config.get_or_insert_default();
    }
    template.resources.get_or_insert_default();
    template.placement.get_or_insert_default();
    let restart = template.restart_policy.get_or_insert_default();
    restart.delay.get_or_insert(RESTART_DELAY_DEFAULT);
    for config in [&mut spec.update_config, &mut spec.rollback_config] {
        let config =
            config.get_or_insert(UpdateConfig { parallelism: 1, ..UpdateConfig::default() });
        if config.monitor == 0 {
            config.monitor = UPDATE_MONITOR_DEFAULT;
        }
    }
    spec
}

/// Update a service
#[utoipa::path(post, path = "/services/{id}/update", tag = "Service", operation_id = "ServiceUpdate",
    params(("id" = String, Path, description = "Id, name, or prefix of the id"),
        ("version" = u64, Query, description = "The version that was seen"),
        ("registryAuthFrom" = Option<String>, Query, description = "`spec` or `previous-spec`"),
        ("rollback" = Option<String>, Query, description = "`previous` gives the service back the spec before"),
        ("X-Registry-Auth" = Option<String>, Header, description = "Registry credentials, base64url JSON")),
    request_body = ServiceSpec,
    responses((status = 200, body = ServiceUpdateResponse), (status = 400, body = ErrorResponse), (status = 404, body = ErrorResponse), (status = 500, body = ErrorResponse), (status = 501, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn update(
    State(api): State<Api>,
    Proposer(actor): Proposer,
    Wanted(wanted): Wanted,
    asked: ApiVersion,
    query: Query,
    request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    let registry_auth = registry_auth(request.headers());
    let mut spec = decode_spec(request, asked).await?;
    let version = query.version().ok_or_else(|| query.bad_version("service"))?;
    let view = api.manager.view();
    view.require_cluster()?;
    let service = view.find_service(&wanted)?;
    network::check_local(&api, &mut spec).await?;
    let auth_from = match query.text("registryAuthFrom") {
        "" | "spec" => AuthFrom::Spec,
        "previous-spec" => AuthFrom::PreviousSpec,
        other => return Err(Failure::invalid(format!("invalid registryAuthFrom '{other}'"))),
    };
    let id = service.id;
    let intent = match query.text("rollback") {
        "" | "none" => Intent::UpdateService { id, version, spec, registry_auth, auth_from },
        "previous" => Intent::RollBackService { id, version, spec, registry_auth, auth_from },
        other => {
            let message = format!("unrecognized rollback option {other}");
            return Err(Refusal::front(Reason::Unknown, message).into());
        }
    };
    api.manager.submit(actor, intent).await?;
    Ok(json(StatusCode::OK, &ServiceUpdateResponse { warnings: None }))
}

/// Delete a service
#[utoipa::path(delete, path = "/services/{id}", tag = "Service", operation_id = "ServiceDelete",
    params(("id" = String, Path, description = "Id, name, or prefix of the id")),
    responses((status = 200), (status = 404, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn remove(
    State(api): State<Api>,
    Proposer(actor): Proposer,
    Wanted(wanted): Wanted,
) -> Result<Response<Body>, Failure> {
    let view = api.manager.view();
    view.require_cluster()?;
    let id = view.find_service(&wanted)?.id;
    api.manager.submit(actor, Intent::RemoveService { id }).await?;
    Ok(empty(StatusCode::OK))
}
