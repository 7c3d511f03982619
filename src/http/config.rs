//! `/configs`: create, list, inspect, update of labels and data, remove. Unlike a secret's, the data of a
//! config are shown.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::context::{Access, Api, ApiInner, Proposer, Wanted};
use super::decode;
use super::error::{ErrorResponse, Failure, empty, json};
use super::query::Query;
use super::secret::{IdResponse, payload};
use crate::domain::change::Object;
use crate::domain::config::{Config, ConfigSpec};
use crate::domain::container::Driver;
use crate::domain::intent::Intent;
use crate::domain::json::is_zero;
use crate::domain::meta::Version;
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::time::Timestamp;
use crate::manager::{PayloadError, Verb};
use crate::seal::secret::SecretBytes;

/// A config as it is shown.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = Config)]
pub(super) struct ConfigAnswer {
    #[serde(rename = "ID")]
    id: String,
    version: Version,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    spec: ConfigSpecAnswer,
}

/// A config's spec as it is shown: with its data.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = ConfigSpec)]
struct ConfigSpecAnswer {
    /// Name, unique ignoring case.
    name: String,
    /// Labels.
    labels: std::collections::BTreeMap<String, String>,
    /// The data in base64.
    #[schema(format = Byte)]
    data: String,
    /// Template engine that renders the data when a task starts.
    #[serde(skip_serializing_if = "is_zero")]
    templating: Option<Driver>,
}

/// A config as it is sent.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = ConfigCreateRequest)]
pub(super) struct ConfigBody {
    /// Name, unique ignoring case.
    #[serde(default)]
    name: String,
    /// Labels.
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
    /// The data in base64, 1 to 1,023,999 bytes before encoding.
    #[serde(default, deserialize_with = "payload")]
    #[schema(value_type = Option<String>, format = Byte)]
    data: Option<SecretBytes>,
    /// Template engine that renders the data when a task starts.
    templating: Option<Driver>,
}

impl ConfigBody {
    fn split(self) -> (ConfigSpec, SecretBytes) {
        let ConfigBody { name, labels, data, templating } = self;
        let data = data.unwrap_or_else(|| SecretBytes::new(Vec::new()));
        (ConfigSpec { name, labels, templating }, data)
    }
}

const KEYS: &[&str] = &["name", "id", "label"];

/// List configs
#[utoipa::path(get, path = "/configs", tag = "Config", operation_id = "ConfigList",
    params(("filters" = Option<String>, Query, description = "JSON map of `id`, `label`, `name` to values")),
    responses((status = 200, body = Vec<ConfigAnswer>), (status = 400, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn list(
    State(api): State<Api>,
    access: Access,
    query: Query,
) -> Result<Response<Body>, Failure> {
    let filters = query.filters(KEYS)?;
    let view = api.manager.view();
    view.require_cluster()?;
    let any_name = KEYS[..2].iter().any(|key| !filters.values(key).is_empty());
    let is_named = |config: &Config| {
        let name = config.spec.name.to_lowercase();
        filters.any("name", |value| name.starts_with(&value.to_lowercase()))
            || filters.any("id", |value| config.id.as_str().starts_with(value))
    };
    let passes = |config: &Config| {
        (!any_name || is_named(config)) && filters.passes_labels("label", &config.spec.labels)
    };
    let sees = |config: &Arc<Config>| access.sees(|| Object::Config(config.clone()));
    let mut found: Vec<Arc<Config>> =
        view.configs().filter(|config| passes(config) && sees(config)).cloned().collect();
    if !filters.values("name").is_empty() {
        found.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
    }
    let listing = Listing { api, left: found.into_iter(), text: vec![b'['] };
    let pieces = stream::try_unfold(Some(listing), next);
    let mut response = Response::new(Body::from_stream(pieces));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}

/// A list under way. Configs are large: each is read when the one before it was taken.
struct Listing {
    api: Api,
    left: std::vec::IntoIter<Arc<Config>>,
    /// What stands before the next one.
    text: Vec<u8>,
}

/// The next config of a list with what stands before it; at last the end of the list.
async fn next(
    listing: Option<Listing>,
) -> Result<Option<(Vec<u8>, Option<Listing>)>, PayloadError> {
    let Some(Listing { api, mut left, mut text }) = listing else { return Ok(None) };
    for config in left.by_ref() {
        // One that is removed just now is not in the list any more.
        let Some(answer) = answer(&api, &config).await? else { continue };
        serde_json::to_writer(&mut text, &answer).expect("answers are maps of texts and numbers");
        return Ok(Some((text, Some(Listing { api, left, text: vec![b','] }))));
    }
    // The comma that stands before nothing.
    text.retain(|byte| *byte != b',');
    text.extend_from_slice(b"]\n");
    Ok(Some((text, None)))
}

/// A config with its data; `None` when it was removed meanwhile.
async fn answer(api: &ApiInner, config: &Config) -> Result<Option<ConfigAnswer>, PayloadError> {
    let data = api.manager.store().config_data(config).await.inspect_err(|error| {
        tracing::error!(error = error as &dyn std::error::Error, "a config cannot be read");
    })?;
    let ConfigSpec { name, labels, templating } = config.spec.clone();
    Ok(data.map(|data| ConfigAnswer {
        id: config.id.to_string(),
        version: config.meta.version,
        created_at: config.meta.created_at,
        updated_at: config.meta.updated_at,
        spec: ConfigSpecAnswer { name, labels, data: STANDARD.encode(data), templating },
    }))
}

/// Create a config
#[utoipa::path(post, path = "/configs/create", tag = "Config", operation_id = "ConfigCreate",
    request_body = ConfigBody,
    responses((status = 201, body = IdResponse), (status = 400, body = ErrorResponse), (status = 409, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn create(
    State(api): State<Api>,
    Proposer(actor): Proposer,
    request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    let body: ConfigBody = decode::body(request).await?;
    let (spec, data) = body.split();
    let id = api.manager.create_config(actor, spec, data).await?;
    Ok(json(StatusCode::CREATED, &IdResponse { id: id.to_string() }))
}

/// Inspect a config
#[utoipa::path(get, path = "/configs/{id}", tag = "Config", operation_id = "ConfigInspect",
    params(("id" = String, Path, description = "Id, name, or prefix of the id")),
    responses((status = 200, body = ConfigAnswer), (status = 404, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn inspect(
    State(api): State<Api>,
    access: Access,
    Wanted(wanted): Wanted,
) -> Result<Response<Body>, Failure> {
    let view = api.manager.view();
    view.require_cluster()?;
    let config = view.find_config(&wanted)?;
    access.check(Verb::Read, || Object::Config(config.clone()))?;
    let answer = answer(&api, config)
        .await
        .map_err(|error| Refusal::front(Reason::Unknown, error.to_string()))?;
    let answer = answer.ok_or_else(|| Refusal::not_found("config", &wanted))?;
    Ok(json(StatusCode::OK, &answer))
}

/// Update the labels or the data of a config
#[utoipa::path(post, path = "/configs/{id}/update", tag = "Config", operation_id = "ConfigUpdate",
    params(("id" = String, Path, description = "Id, name, or prefix of the id"),
        ("version" = u64, Query, description = "The version that was seen")),
    request_body = ConfigBody,
    responses((status = 200), (status = 400, body = ErrorResponse), (status = 404, body = ErrorResponse), (status = 500, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn update(
    State(api): State<Api>,
    Proposer(actor): Proposer,
    Wanted(wanted): Wanted,
    query: Query,
    request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    let body: ConfigBody = decode::body(request).await?;
    let version = query.version().ok_or_else(|| Failure::invalid("invalid config version"))?;
    let view = api.manager.view();
    view.require_cluster()?;
    let id = view.find_config(&wanted)?.id;
    let (spec, data) = body.split();
    api.manager.update_config(actor, (id, version), spec, data).await?;
    Ok(empty(StatusCode::OK))
}

/// Delete a config
#[utoipa::path(delete, path = "/configs/{id}", tag = "Config", operation_id = "ConfigDelete",
    params(("id" = String, Path, description = "Id, name, or prefix of the id")),
    responses((status = 204), (status = 400, body = ErrorResponse), (status = 404, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn remove(
    State(api): State<Api>,
    Proposer(actor): Proposer,
    Wanted(wanted): Wanted,
) -> Result<Response<Body>, Failure> {
    let view = api.manager.view();
    view.require_cluster()?;
    let id = view.find_config(&wanted)?.id;
    api.manager.submit(actor, Intent::RemoveConfig { id }).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
