//! `/secrets`: create, list, inspect, update of labels and value, remove. A payload comes in here and never
//! goes out.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response, StatusCode};
use serde::{Deserialize, Deserializer, Serialize, de};
use utoipa::ToSchema;

use super::context::{Access, Api, Proposer, Wanted};
use super::decode;
use super::error::{ErrorResponse, Failure, empty, json, json_text, list_text};
use super::query::Query;
use crate::domain::change::Object;
use crate::domain::container::Driver;
use crate::domain::intent::Intent;
use crate::domain::json::decode_base64;
use crate::domain::meta::Version;
use crate::domain::secret::{Secret, SecretSpec};
use crate::domain::time::Timestamp;
use crate::manager::Verb;
use crate::seal::secret::SecretBytes;
use std::sync::Arc;

/// A secret as it is shown.
#[derive(Serialize, ToSchema)]
#[schema(as = Secret)]
pub(super) struct SecretAnswer<'a> {
    #[serde(rename = "ID")]
    #[schema(value_type = String)]
    id: &'a crate::domain::id::SecretId,
    #[serde(rename = "Version")]
    version: Version,
    #[serde(rename = "CreatedAt")]
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[serde(rename = "UpdatedAt")]
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    #[serde(rename = "Spec")]
    spec: &'a SecretSpec,
}

impl<'a> From<&'a Secret> for SecretAnswer<'a> {
    fn from(secret: &'a Secret) -> Self {
        SecretAnswer {
            id: &secret.id,
            version: secret.meta.version,
            created_at: secret.meta.created_at,
            updated_at: secret.meta.updated_at,
            spec: &secret.spec,
        }
    }
}

/// A secret as it is sent: the spec and the payload.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = SecretCreateRequest)]
pub(super) struct SecretBody {
    /// Name, unique ignoring case.
    #[serde(default)]
    name: String,
    /// Labels.
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
    /// The payload in base64, 1 to 511,999 bytes before encoding. Never shown again.
    #[serde(default, deserialize_with = "payload")]
    #[schema(value_type = Option<String>, format = Byte)]
    data: Option<SecretBytes>,
    /// Driver that supplies the payload.
    driver: Option<Driver>,
    /// Template engine that renders the payload when a task starts.
    templating: Option<Driver>,
}

impl SecretBody {
    fn split(self) -> (SecretSpec, SecretBytes) {
        let SecretBody { name, labels, data, driver, templating } = self;
        let data = data.unwrap_or_else(|| SecretBytes::new(Vec::new()));
        (SecretSpec { name, labels, driver, templating }, data)
    }
}

/// A door: base64 from the body into the wiped type.
pub(super) fn payload<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SecretBytes>, D::Error> {
    // The text is wiped when it is freed, as are the buffers that it came in.
    let text = String::deserialize(deserializer)?;
    decode_base64(&text).map(|bytes| Some(SecretBytes::new(bytes))).map_err(de::Error::custom)
}

/// An object that was made.
#[derive(Serialize, ToSchema)]
pub(super) struct IdResponse {
    /// Its id.
    #[serde(rename = "ID")]
    #[schema(example = "ktnbjxoalbkvbvedmg1urrz8h")]
    pub id: String,
}

const KEYS: &[&str] = &["names", "name", "id", "label"];

/// List secrets
#[utoipa::path(get, path = "/secrets", tag = "Secret", operation_id = "SecretList",
    params(("filters" = Option<String>, Query, description = "JSON map of `id`, `label`, `name`, `names` to values")),
    responses((status = 200, body = Vec<SecretAnswer>), (status = 400, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn list(
    State(api): State<Api>,
    access: Access,
    query: Query,
) -> Result<Response<Body>, Failure> {
    let filters = query.filters(KEYS)?;
    let view = api.manager.view();
    view.require_cluster()?;
    let any_name = KEYS[..3].iter().any(|key| !filters.values(key).is_empty());
    // By name or id: one hit in any of the keys is enough.
    let is_named = |secret: &Secret| {
        let name = secret.spec.name.to_lowercase();
        filters.any("names", |value| value.to_lowercase() == name)
            || filters.any("name", |value| name.starts_with(&value.to_lowercase()))
            || filters.any("id", |value| secret.id.as_str().starts_with(value))
    };
    let passes = |secret: &Secret| {
        (!any_name || is_named(secret)) && filters.passes_labels("label", &secret.spec.labels)
    };
    let sees = |secret: &Arc<Secret>| access.sees(|| Object::Secret(secret.clone()));
    let mut found: Vec<&Secret> =
        view.secrets().filter(|secret| passes(secret) && sees(secret)).map(|s| &**s).collect();
    if KEYS[..2].iter().any(|key| !filters.values(key).is_empty()) {
        found.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
    }
    Ok(list_text(found.into_iter(), 224, |text, secret| text.extend_from_slice(shown(secret))))
}

/// A secret as JSON.
fn shown(secret: &Secret) -> &[u8] {
    secret.shown.text(|| {
        serde_json::to_vec(&SecretAnswer::from(secret))
            .expect("answers are maps of texts and numbers")
    })
}

/// Create a secret
#[utoipa::path(post, path = "/secrets/create", tag = "Secret", operation_id = "SecretCreate",
    request_body = SecretBody,
    responses((status = 201, body = IdResponse), (status = 400, body = ErrorResponse), (status = 409, body = ErrorResponse), (status = 500, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn create(
    State(api): State<Api>,
    Proposer(actor): Proposer,
    request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    let body: SecretBody = decode::body(request).await?;
    let (spec, data) = body.split();
    let id = api.manager.create_secret(actor, spec, data).await?;
    Ok(json(StatusCode::CREATED, &IdResponse { id: id.to_string() }))
}

/// Inspect a secret
#[utoipa::path(get, path = "/secrets/{id}", tag = "Secret", operation_id = "SecretInspect",
    params(("id" = String, Path, description = "Id, name, or prefix of the id")),
    responses((status = 200, body = SecretAnswer), (status = 404, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn inspect(
    State(api): State<Api>,
    access: Access,
    Wanted(wanted): Wanted,
) -> Result<Response<Body>, Failure> {
    let view = api.manager.view();
    view.require_cluster()?;
    let secret = view.find_secret(&wanted)?;
    access.check(Verb::Read, || Object::Secret(secret.clone()))?;
    let mut text = shown(secret).to_vec();
    text.push(b'\n');
    Ok(json_text(StatusCode::OK, text))
}

/// Update the labels or the value of a secret
#[utoipa::path(post, path = "/secrets/{id}/update", tag = "Secret", operation_id = "SecretUpdate",
    params(("id" = String, Path, description = "Id, name, or prefix of the id"),
        ("version" = u64, Query, description = "The version that was seen")),
    request_body = SecretBody,
    responses((status = 200), (status = 400, body = ErrorResponse), (status = 404, body = ErrorResponse), (status = 500, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn update(
    State(api): State<Api>,
    Proposer(actor): Proposer,
    Wanted(wanted): Wanted,
    query: Query,
    request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    let body: SecretBody = decode::body(request).await?;
    let version = query.version().ok_or_else(|| Failure::invalid("invalid secret version"))?;
    let view = api.manager.view();
    view.require_cluster()?;
    let id = view.find_secret(&wanted)?.id;
    let (spec, data) = body.split();
    api.manager.update_secret(actor, (id, version), spec, data).await?;
    Ok(empty(StatusCode::OK))
}

/// Delete a secret
#[utoipa::path(delete, path = "/secrets/{id}", tag = "Secret", operation_id = "SecretDelete",
    params(("id" = String, Path, description = "Id, name, or prefix of the id")),
    responses((status = 204), (status = 400, body = ErrorResponse), (status = 404, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn remove(
    State(api): State<Api>,
    Proposer(actor): Proposer,
    Wanted(wanted): Wanted,
) -> Result<Response<Body>, Failure> {
    let view = api.manager.view();
    view.require_cluster()?;
    let id = view.find_secret(&wanted)?.id;
    api.manager.submit(actor, Intent::RemoveSecret { id }).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
