//! `/nodes`: list, inspect, update, remove.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::context::{Access, Api, Proposer, Wanted};
use super::decode;
use super::error::{ErrorResponse, Failure, empty, json, json_list};
use super::query::Query;
use crate::domain::change::Object;
use crate::domain::id::NodeId;
use crate::domain::intent::Intent;
use crate::domain::meta::Version;
use crate::domain::node::{
    Availability, ManagerStatus, Node, NodeDescription, NodeRole, NodeSpec, NodeStatus,
};
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::time::Timestamp;
use crate::manager::Verb;
use std::sync::Arc;

/// A node as it is shown.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = Node)]
pub(super) struct NodeAnswer<'a> {
    #[serde(rename = "ID")]
    #[schema(value_type = String)]
    id: NodeId,
    version: Version,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    spec: &'a NodeSpec,
    #[schema(value_type = NodeDescription)]
    description: std::borrow::Cow<'a, NodeDescription>,
    status: &'a NodeStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    manager_status: Option<&'a ManagerStatus>,
}

impl<'a> From<&'a Node> for NodeAnswer<'a> {
    fn from(node: &'a Node) -> Self {
        let description = node.description.as_ref();
        NodeAnswer {
            id: node.id,
            version: node.meta.version,
            created_at: node.meta.created_at,
            updated_at: node.meta.updated_at,
            spec: &node.spec,
            description: description.map_or_else(Default::default, std::borrow::Cow::Borrowed),
            status: &node.status,
            manager_status: node.manager.as_ref(),
        }
    }
}

const KEYS: &[&str] = &["id", "name", "label", "node.label", "role", "membership"];

/// List nodes
#[utoipa::path(get, path = "/nodes", tag = "Node", operation_id = "NodeList",
    params(("filters" = Option<String>, Query, description = "JSON map of `id`, `label`, `membership`, `name`, `node.label`, `role` to values")),
    responses((status = 200, body = Vec<NodeAnswer>), (status = 400, body = ErrorResponse), (status = 500, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn list(
    State(api): State<Api>,
    access: Access,
    query: Query,
) -> Result<Response<Body>, Failure> {
    let filters = query.filters(KEYS)?;
    let view = api.manager.view();
    view.require_cluster()?;
    let check = |key: &str, known: &dyn Fn(&str) -> bool| match filters
        .values(key)
        .iter()
        .find(|value| !known(value))
    {
        None => Ok(()),
        Some(value) => {
            let message = format!("Invalid {key} filter: '{value}'");
            Err(Failure(Refusal::front(Reason::Unknown, message)))
        }
    };
    check("role", &|value| NodeRole::read(value).is_some())?;
    check("membership", &|value| {
        ["accepted", "pending"].iter().any(|word| value.eq_ignore_ascii_case(word))
    })?;
    let no_labels = Default::default();
    let passes = |node: &&Node| {
        let engine = node.description.as_ref().map(|description| &description.engine.labels);
        filters.passes("id", |value| node.id.as_str().starts_with(value))
            && filters.passes("name", |value| node.hostname().starts_with(value))
            && filters.passes("role", |value| value.eq_ignore_ascii_case(node.spec.role.as_str()))
            // Whoever has a node here was accepted.
            && filters.passes("membership", |value| value.eq_ignore_ascii_case("accepted"))
            && filters.passes_labels("label", engine.unwrap_or(&no_labels))
            && filters.passes_labels("node.label", &node.spec.labels)
    };
    let sees = |node: &&Arc<Node>| access.sees(|| Object::Node((*node).clone()));
    let found: Vec<&Node> = view.nodes().filter(sees).map(|node| &**node).filter(passes).collect();
    Ok(json_list(found.into_iter().map(NodeAnswer::from), 1536))
}

/// Inspect a node
#[utoipa::path(get, path = "/nodes/{id}", tag = "Node", operation_id = "NodeInspect",
    params(("id" = String, Path, description = "Id, host name, or prefix of the id")),
    responses((status = 200, body = NodeAnswer), (status = 404, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn inspect(
    State(api): State<Api>,
    access: Access,
    Wanted(wanted): Wanted,
) -> Result<Response<Body>, Failure> {
    let view = api.manager.view();
    view.require_cluster()?;
    let node = view.find_node(&wanted)?;
    access.check(Verb::Read, || Object::Node(node.clone()))?;
    Ok(json(StatusCode::OK, &NodeAnswer::from(&**node)))
}

/// A node's spec as it is sent; role and availability are needed.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
#[schema(as = NodeUpdateRequest)]
pub(super) struct NodeBody {
    name: String,
    labels: std::collections::BTreeMap<String, String>,
    /// `worker` or `manager`.
    role: String,
    /// `active`, `pause` or `drain`.
    availability: String,
}

/// Update a node
#[utoipa::path(post, path = "/nodes/{id}/update", tag = "Node", operation_id = "NodeUpdate",
    params(("id" = String, Path, description = "Id, host name, or prefix of the id"),
        ("version" = u64, Query, description = "The version that was seen")),
    request_body = NodeBody,
    responses((status = 200), (status = 400, body = ErrorResponse), (status = 404, body = ErrorResponse), (status = 500, body = ErrorResponse), (status = 501, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn update(
    State(api): State<Api>,
    Proposer(actor): Proposer,
    Wanted(wanted): Wanted,
    query: Query,
    request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    let body: NodeBody = decode::body(request).await?;
    let version = query.version().ok_or_else(|| query.bad_version("node"))?;
    let view = api.manager.view();
    view.require_cluster()?;
    let id = view.find_node(&wanted)?.id;
    let role = NodeRole::read(&body.role);
    let role = role.ok_or_else(|| Failure::invalid(NodeRole::unknown(&body.role)))?;
    let availability = Availability::read(&body.availability)
        .ok_or_else(|| Failure::invalid(Availability::unknown(&body.availability)))?;
    let spec = NodeSpec { name: body.name, labels: body.labels, role, availability };
    api.manager.submit(actor, Intent::UpdateNode { id, version, spec }).await?;
    Ok(empty(StatusCode::OK))
}

/// Delete a node
#[utoipa::path(delete, path = "/nodes/{id}", tag = "Node", operation_id = "NodeDelete",
    params(("id" = String, Path, description = "Id, host name, or prefix of the id"),
        ("force" = Option<bool>, Query, description = "Even when it is not down")),
    responses((status = 200), (status = 400, body = ErrorResponse), (status = 404, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn remove(
    State(api): State<Api>,
    Proposer(actor): Proposer,
    Wanted(wanted): Wanted,
    query: Query,
) -> Result<Response<Body>, Failure> {
    let view = api.manager.view();
    view.require_cluster()?;
    let id = view.find_node(&wanted)?.id;
    let force = query.loose_bool("force");
    api.manager.submit(actor, Intent::RemoveNode { id, force }).await?;
    Ok(empty(StatusCode::OK))
}
