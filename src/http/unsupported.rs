//! Routes that are known and not built yet. Each says so, rather than pretending.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response};
use serde_json::Value;

use super::context::Api;
use super::decode;
use super::error::{ErrorResponse, Failure};
use super::passthrough;

/// Create a network; networks of the swarm are not supported yet
#[utoipa::path(post, path = "/networks/create", tag = "Network", operation_id = "NetworkCreate",
    responses((status = 201, description = "A network of this host, made by its engine", body = Object), (status = 501, body = ErrorResponse)))]
pub(super) async fn network_create(
    State(api): State<Api>,
    request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    let (parts, body) = request.into_parts();
    let bytes = decode::read(body).await?;
    let wish = serde_json::from_slice::<Value>(&bytes).unwrap_or_default();
    let text = |wanted: &str| {
        let field = wish
            .as_object()
            .and_then(|fields| fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(wanted)));
        field.and_then(|(_, value)| value.as_str()).unwrap_or("")
    };
    if text("Driver") == "overlay" || text("Scope") == "swarm" {
        if api.manager.view().cluster().is_none() {
            let refusal = crate::domain::refusal::Refusal::no_swarm();
            let reason = crate::domain::refusal::Reason::Forbidden;
            return Err(crate::domain::refusal::Refusal { reason, ..refusal }.into());
        }
        return Err(Failure::unsupported("networks of the swarm are not supported yet"));
    }
    let request = Request::from_parts(parts, Body::from(bytes));
    Ok(passthrough::fallback(&api, request).await)
}
