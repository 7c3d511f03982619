//! All routes, in one list from which the API document grows as well.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response, StatusCode};
use axum::routing::get;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{SchemaType, Type};
use utoipa::openapi::{ContentBuilder, ObjectBuilder, Ref, RefOr, ResponseBuilder, Schema};
use utoipa::{OpenApi as _, PartialSchema as _, ToSchema as _};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::context::Api;
use super::error::{ErrorResponse, json};
use super::{
    audit, backup, config, events, keys, logs, network, node, passthrough, revision, secret,
    service, supply, swarm, system, task,
};
use crate::domain::forecast::Forecast;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "purser",
        description = "The Docker Engine API for secrets, services, tasks, nodes and the swarm, \
            as purser speaks it. Every path also exists behind a version prefix, as in \
            /v1.41/secrets. Requests that are not listed here are passed on to the engine of the \
            host. A client with too many connections is answered 503, and one that was denied too \
            much within a minute 429, whatever it asks for.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "Secret", description = "Values that only the services granted them can read"),
        (name = "Service", description = "What should run"),
        (name = "Task", description = "What runs"),
        (name = "Node", description = "Where it runs"),
        (name = "Swarm", description = "The cluster"),
        (name = "Config", description = "Files that services are granted and that are no secrets"),
        (name = "Network", description = "Networks of the swarm, and of the host"),
        (name = "System", description = "Version, health and events"),
        (name = "Purser", description = "Keys, audit and backup; of purser's own"),
    )
)]
struct Document;

/// The routes and the document, one grown with the other.
fn list() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(secret::list))
        .routes(routes!(secret::create))
        .routes(routes!(secret::inspect, secret::remove))
        .routes(routes!(secret::update))
        .routes(routes!(revision::secret_versions))
        .routes(routes!(revision::secret_consumers))
        .routes(routes!(revision::secret_rollback))
        .routes(routes!(revision::secret_prune))
        .routes(routes!(supply::rotation))
        .routes(routes!(supply::rotate))
        .routes(routes!(config::list))
        .routes(routes!(config::create))
        .routes(routes!(config::inspect, config::remove))
        .routes(routes!(config::update))
        .routes(routes!(revision::config_versions))
        .routes(routes!(revision::config_consumers))
        .routes(routes!(revision::config_rollback))
        .routes(routes!(revision::config_prune))
        .routes(routes!(service::list))
        .routes(routes!(service::create))
        .routes(routes!(service::inspect, service::remove))
        .routes(routes!(service::update))
        .routes(routes!(logs::of_service))
        .routes(routes!(task::list))
        .routes(routes!(task::inspect))
        .routes(routes!(logs::of_task))
        .routes(routes!(node::list))
        .routes(routes!(node::inspect, node::remove))
        .routes(routes!(node::update))
        .routes(routes!(swarm::inspect))
        .routes(routes!(swarm::init))
        .routes(routes!(swarm::join))
        .routes(routes!(swarm::leave))
        .routes(routes!(swarm::update))
        .routes(routes!(swarm::unlock_key))
        .routes(routes!(swarm::unlock))
        .routes(routes!(network::list))
        .routes(routes!(network::create))
        .routes(routes!(network::inspect, network::remove))
        .routes(routes!(network::prune::prune))
        .routes(routes!(system::ping, system::ping_head))
        .routes(routes!(system::version))
        .routes(routes!(system::info))
        .routes(routes!(events::stream))
        .routes(routes!(keys::list))
        .routes(routes!(keys::rotate))
        .routes(routes!(audit::read))
        .routes(routes!(audit::verify))
        .routes(routes!(backup::make))
        .routes(routes!(system::metrics))
        .routes(routes!(system::livez))
        .routes(routes!(system::readyz))
        .routes(routes!(document_route))
}

/// The routes. What none of them takes is the engine's to answer.
pub(super) fn routes(api: Api) -> Router {
    let (router, _) = list().split_for_parts();
    // An object may be named `create`.
    let router = router
        .route("/secrets/create", get(secret::inspect).delete(secret::remove))
        .route("/configs/create", get(config::inspect).delete(config::remove))
        .route("/services/create", get(service::inspect).delete(service::remove))
        .route("/networks/create", get(network::inspect).delete(network::remove));
    router.fallback(fallback).method_not_allowed_fallback(fallback).with_state(api)
}

async fn fallback(State(api): State<Api>, request: Request<Body>) -> Response<Body> {
    passthrough::fallback(&api, request).await
}

/// The API document of this release.
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = list().split_for_parts().1;
    let schemas = &mut document.components.get_or_insert_default().schemas;
    schemas.entry(ErrorResponse::name().into_owned()).or_insert_with(ErrorResponse::schema);
    schemas.extend(trial_schemas());
    for (name, example) in examples() {
        if let Some(RefOr::T(Schema::Object(schema))) = schemas.get_mut(&name) {
            schema.examples = vec![example];
        }
    }
    for item in document.paths.paths.values_mut() {
        operations(item).for_each(|operation| {
            add_version_answer(operation);
            add_trial(operation);
            describe_answers(operation);
        });
    }
    document
}

/// An example for each schema that is the body of a request or an answer. A test sends and compares
/// them.
fn examples() -> serde_json::Map<String, serde_json::Value> {
    serde_json::from_str(include_str!("../../openapi/examples.json"))
        .expect("the examples, which are part of the program, are JSON")
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, options, head, patch, trace, .. } = item;
    [get, put, post, delete, options, head, patch, trace].into_iter().flatten()
}

/// Whatever is asked for, a version of the API that is not understood is refused.
fn add_version_answer(operation: &mut Operation) {
    let schema = Ref::from_schema_name(ErrorResponse::name());
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let answer = ResponseBuilder::new()
        .description("The version in front of the path, or a parameter, is not understood")
        .content("application/json", content)
        .build();
    let answers = &mut operation.responses.responses;
    answers.entry("400".into()).or_insert(RefOr::T(answer));
}

/// Operations that can be tried: those whose handlers take a [`super::context::Proposer`].
const TRIED: &[&str] = &[
    "SecretCreate",
    "SecretUpdate",
    "SecretDelete",
    "SecretRollback",
    "SecretPrune",
    "SecretRotate",
    "ConfigCreate",
    "ConfigUpdate",
    "ConfigDelete",
    "ConfigRollback",
    "ConfigPrune",
    "ServiceCreate",
    "ServiceUpdate",
    "ServiceDelete",
    "NodeUpdate",
    "NodeDelete",
    "NetworkCreate",
    "NetworkDelete",
    "SwarmUpdate",
    "SwarmLeave",
];

fn trial_schemas() -> Vec<(String, RefOr<Schema>)> {
    let mut schemas = vec![(Forecast::name().into_owned(), Forecast::schema())];
    Forecast::schemas(&mut schemas);
    schemas
}

/// What can be done can mostly be tried first: the answer says then what would change.
fn add_trial(operation: &mut Operation) {
    let id = operation.operation_id.as_deref().unwrap_or_default();
    if !TRIED.contains(&id) {
        return;
    }
    let schema = ObjectBuilder::new().schema_type(SchemaType::new(Type::Boolean));
    let parameter = ParameterBuilder::new()
        .name("dryRun")
        .parameter_in(ParameterIn::Query)
        .description(Some("Change nothing, and answer what would change"))
        .schema(Some(schema))
        .build();
    operation.parameters.get_or_insert_default().push(RefOr::T(parameter));
    let content =
        ContentBuilder::new().schema(Some(Ref::from_schema_name(Forecast::name()))).build();
    let answer = ResponseBuilder::new()
        .description("With `dryRun`: what would change; nothing was")
        .content("application/json", content)
        .build();
    operation.responses.responses.insert("202".into(), RefOr::T(answer));
}

/// Every answer has to be described, so those that say nothing themselves get what their status says.
fn describe_answers(operation: &mut Operation) {
    for (status, answer) in &mut operation.responses.responses {
        let RefOr::T(answer) = answer else { continue };
        if answer.description.is_empty() {
            answer.description = match status.as_str() {
                "200" => "Done, or what was asked for",
                "201" => "It was made",
                "204" => "It was removed",
                "400" => "The request is malformed, or what it asks for cannot be",
                "404" => "There is no such object, or several that begin so",
                "409" => "The name is taken",
                "500" => "The object was changed meanwhile, or the request failed",
                "403" => "This is not granted to this node",
                "501" => "This is not supported",
                "503" => "This process is in no swarm, or cannot write",
                _ => "See the message",
            }
            .into();
        }
    }
}

/// This document
#[utoipa::path(get, path = "/openapi.json", tag = "System", operation_id = "OpenApi",
    responses((status = 200, body = Object)))]
async fn document_route() -> Response<Body> {
    static DOCUMENT: std::sync::OnceLock<serde_json::Value> = std::sync::OnceLock::new();
    let document = DOCUMENT.get_or_init(|| serde_json::to_value(document()).unwrap_or_default());
    json(StatusCode::OK, document)
}
