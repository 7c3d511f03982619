//! Secrets that have a driver: the next value, and when it comes. Of purser's own.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::context::{Access, Api, Proposer, Wanted};
use super::error::{ErrorResponse, Failure, empty, json};
use super::query::Query;
use crate::domain::change::Object;
use crate::domain::secret::Secret;
use crate::domain::supply::Supply;
use crate::domain::time::{Nanoseconds, Timestamp};
use crate::manager::{Manager, Verb};

/// How a secret comes to its values.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SecretRotation {
    /// The driver that makes them; absent when clients send them.
    #[serde(skip_serializing_if = "Option::is_none")]
    driver: Option<String>,
    /// When the newest value was made.
    #[schema(value_type = String, format = DateTime)]
    newest_at: Timestamp,
    /// How old a value may become before the next one is made, in nanoseconds; absent when that is never done
    /// by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 2592000000000000_i64)]
    every: Option<Nanoseconds>,
    /// When the next one is made, or tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    next_at: Option<Timestamp>,
    /// The last try to make one, if it failed; the newest value stays then.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<RotationFailure>,
}

/// A try that failed.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RotationFailure {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Why.
    message: String,
}

impl SecretRotation {
    fn of(manager: &Manager, secret: &Secret) -> SecretRotation {
        let supply = Supply::of(&secret.spec).ok().flatten();
        let failure = manager.last_try(secret.id).and_then(|tried| {
            tried.failure.map(|message| RotationFailure { at: tried.at, message })
        });
        SecretRotation {
            driver: secret.spec.driver.as_ref().map(|driver| driver.name.clone()),
            newest_at: secret.newest_value_at(),
            every: supply.and_then(|supply| supply.every),
            next_at: manager.next_supply(secret),
            failure,
        }
    }
}

/// Say how a secret comes to its values
#[utoipa::path(get, path = "/secrets/{id}/rotation", tag = "Secret", operation_id = "SecretRotation",
    params(("id" = String, Path, description = "Id, name, or prefix of the id")),
    responses((status = 200, body = SecretRotation), (status = 404, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn rotation(
    State(api): State<Api>,
    access: Access,
    Wanted(wanted): Wanted,
) -> Result<Response<Body>, Failure> {
    let view = api.manager.view();
    view.require_cluster()?;
    let secret = view.find_secret(&wanted)?;
    access.check(Verb::Read, || Object::Secret(secret.clone()))?;
    Ok(json(StatusCode::OK, &SecretRotation::of(&api.manager, secret)))
}

/// Have the driver of a secret make its next value
#[utoipa::path(post, path = "/secrets/{id}/rotate", tag = "Secret", operation_id = "SecretRotate",
    params(("id" = String, Path, description = "Id, name, or prefix of the id"),
        ("version" = u64, Query, description = "The version that was seen")),
    responses((status = 200), (status = 400, body = ErrorResponse), (status = 404, body = ErrorResponse), (status = 500, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn rotate(
    State(api): State<Api>,
    Proposer(actor): Proposer,
    Wanted(wanted): Wanted,
    query: Query,
) -> Result<Response<Body>, Failure> {
    let version = query.version().ok_or_else(|| query.bad_version("secret"))?;
    let view = api.manager.view();
    view.require_cluster()?;
    let id = view.find_secret(&wanted)?.id;
    api.manager.rotate_secret(actor, (id, version)).await?;
    Ok(empty(StatusCode::OK))
}
