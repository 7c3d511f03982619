//! `/networks`: those of the swarm, and in one list with them those of the engine of this host.
//! Whatever names no network of the swarm is the engine's to answer; so are connecting and
//! disconnecting.

mod answer;
pub(super) mod prune;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

pub(super) use answer::{AttachmentAnswer, NetworkAnswer, attachments};

use super::context::{Access, Api, ApiInner, Proposer, Wanted};
use super::error::{ErrorResponse, Failure, empty, json};
use super::query::Query;
use super::{decode, passthrough};
use crate::domain::change::Object;
use crate::domain::filter::Filters;
use crate::domain::id::NetworkId;
use crate::domain::intent::Intent;
use crate::domain::network::{Ipam, Network, NetworkSpec, OVERLAY, PREDEFINED};
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::service::ServiceSpec;
use crate::domain::view::View;
use crate::manager::{Right, Verb};
use std::sync::Arc;

/// A network as it is asked for.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
#[schema(as = NetworkCreateRequest)]
pub(super) struct NetworkBody {
    /// Name, unique ignoring case.
    name: String,
    /// Driver; `overlay` makes a network of the swarm.
    driver: String,
    /// `swarm` makes one of the swarm, whatever the driver.
    scope: String,
    /// It has IPv4 subnets; it always does in a swarm.
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: Option<bool>,
    /// It has IPv6 subnets.
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    /// Subnets, when they are not to be chosen.
    #[serde(rename = "IPAM")]
    ipam: Option<Ipam>,
    /// It has no way to the outside.
    internal: bool,
    /// Containers that are no tasks may join it.
    attachable: bool,
    /// It is that of the routing mesh.
    ingress: bool,
    /// It is a configuration for others only; not supported in a swarm.
    config_only: bool,
    /// The network whose configuration it takes; not supported in a swarm.
    config_from: Option<ConfigFrom>,
    /// Options of the driver.
    options: std::collections::BTreeMap<String, String>,
    /// Labels.
    labels: std::collections::BTreeMap<String, String>,
}

/// The network whose configuration another one takes.
#[derive(Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
#[schema(as = NetworkConfigWish)]
pub(super) struct ConfigFrom {
    network: String,
}

/// A network that was made.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NetworkCreateResponse {
    id: String,
    warning: &'static str,
}

impl NetworkBody {
    fn is_of_swarm(&self) -> bool {
        self.driver == OVERLAY || self.scope == "swarm"
    }

    pub(super) fn into_spec(self) -> Result<NetworkSpec, Failure> {
        if self.config_only || self.config_from.is_some_and(|from| !from.network.is_empty()) {
            return Err(Failure::unsupported(
                "networks of the swarm cannot take their configuration from one of each node",
            ));
        }
        if self.enable_ipv4 == Some(false) {
            return Err(Failure::unsupported("IPv4 cannot be disabled in a Swarm scoped network"));
        }
        let driver = if self.driver.is_empty() { OVERLAY.to_owned() } else { self.driver };
        Ok(NetworkSpec {
            name: self.name,
            labels: self.labels,
            driver,
            options: self.options,
            ipam: self.ipam.unwrap_or_default(),
            enable_ipv6: self.enable_ipv6,
            internal: self.internal,
            attachable: self.attachable,
            ingress: self.ingress,
        })
    }
}

/// Most bytes that a pattern may take once it is compiled.
const PATTERN_SIZE_MAX: usize = 256 * 1024;

const KEYS: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];

/// List networks
#[utoipa::path(get, path = "/networks", tag = "Network", operation_id = "NetworkList",
    params(("filters" = Option<String>, Query, description = "JSON map of `dangling`, `driver`, `id`, `label`, `name`, `scope`, `type` to values")),
    responses((status = 200, description = "Those of the swarm first", body = Vec<NetworkAnswer>), (status = 400, body = ErrorResponse)))]
pub(super) async fn list(
    State(api): State<Api>,
    access: Access,
    query: Query,
    request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    let filters = query.filters(KEYS)?;
    check_types(&filters)?;
    let view = api.manager.view();
    if view.cluster().is_none() {
        return Ok(passthrough::fallback(&api, request).await);
    }
    let sees = |network: &Arc<Network>| access.sees(|| Object::Network(network.clone()));
    let own = view.networks().filter(|network| network.is_shown());
    let (ids, names) = (Patterns::of(&filters, "id"), Patterns::of(&filters, "name"));
    let mut found: Vec<Value> = own
        .filter(|network| passes(&view, &filters, (&ids, &names), network) && sees(network))
        .map(|network| serde_json::to_value(NetworkAnswer::from(&**network)).unwrap_or_default())
        .collect();
    let path = request.uri().path_and_query().map_or("/networks", |path| path.as_str());
    if access.check_at_all(Verb::Use, Right::Engine).is_ok() {
        // What tasks of this host use of the swarm's networks is there already.
        let is_local = |network: &Value| text_of(network, "Scope") != "swarm";
        found.extend(engine_list(&api, path).await.into_iter().filter(is_local));
    }
    found.sort_by_key(|network| !names.name(text_of(network, "Name")));
    Ok(json(StatusCode::OK, &found))
}

fn check_types(filters: &Filters) -> Result<(), Failure> {
    let bad = |value: &&String| !matches!(value.as_str(), "builtin" | "custom");
    match filters.values("type").iter().find(bad) {
        None => Ok(()),
        Some(value) => Err(Failure::invalid(format!("invalid filter 'type={value}'"))),
    }
}

fn passes(
    view: &View,
    filters: &Filters,
    (ids, names): (&Patterns, &Patterns),
    network: &Network,
) -> bool {
    let Network { id, spec, .. } = network;
    let is_used = || view.has_addresses(*id) || view.services_of_network(*id).next().is_some();
    filters.passes("driver", |value| spec.driver == value)
        && ids.find(id.as_str())
        && names.find(&spec.name)
        && filters.passes("scope", |value| value == "swarm")
        && filters.passes("type", |value| value == "custom")
        && filters.passes("dangling", |value| matches!(value, "1" | "true") != is_used())
        && has_labels(filters.values("label"), spec)
}

/// True when it has all of these labels, with the values that some of them name.
fn has_labels(wanted: &[String], spec: &NetworkSpec) -> bool {
    wanted.iter().all(|entry| match entry.split_once('=') {
        Some((key, value)) => spec.labels.get(key).is_some_and(|label| label == value),
        None => spec.labels.contains_key(entry),
    })
}

/// Patterns of a filter, by which names and ids are looked for.
struct Patterns(Vec<(String, Option<Regex>)>);

impl Patterns {
    /// Those of a key. One that is no regular expression stands for itself alone.
    fn of(filters: &Filters, key: &str) -> Patterns {
        let compile = |value: &String| {
            let limited = RegexBuilder::new(value).size_limit(PATTERN_SIZE_MAX).build();
            (value.clone(), limited.ok())
        };
        Patterns(filters.values(key).iter().map(compile).collect())
    }

    /// True without patterns, and for a text that one of them is found in.
    fn find(&self, text: &str) -> bool {
        let is_found = |(value, pattern): &(String, Option<Regex>)| {
            value == text || pattern.as_ref().is_some_and(|pattern| pattern.is_match(text))
        };
        self.0.is_empty() || self.0.iter().any(is_found)
    }

    /// True for a text that is wholly named.
    fn name(&self, text: &str) -> bool {
        self.0.iter().any(|(value, _)| value == text)
    }
}

/// The networks that the engine of this host lists; none when there is none, or it is out of reach.
async fn engine_list(api: &ApiInner, path: &str) -> Vec<Value> {
    let Some(engine) = &api.engine else { return Vec::new() };
    match engine.get(path).await {
        Ok(Value::Array(networks)) => networks,
        Ok(_) => Vec::new(),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the engine's networks are not in the list");
            Vec::new()
        }
    }
}

/// The network that the engine of this host has by this id or name.
async fn engine_network(api: &ApiInner, wanted: &str, verbose: bool) -> Option<Value> {
    let engine = api.engine.as_ref()?;
    let encoded = percent_encoding::utf8_percent_encode(wanted, percent_encoding::NON_ALPHANUMERIC);
    engine.get(&format!("/networks/{encoded}?verbose={verbose}")).await.ok()
}

fn text_of<'v>(network: &'v Value, key: &str) -> &'v str {
    network.get(key).and_then(Value::as_str).unwrap_or("")
}

/// Create a network
#[utoipa::path(post, path = "/networks/create", tag = "Network", operation_id = "NetworkCreate",
    request_body = NetworkBody,
    responses((status = 201, body = NetworkCreateResponse), (status = 400, body = ErrorResponse), (status = 403, body = ErrorResponse), (status = 409, body = ErrorResponse), (status = 500, body = ErrorResponse), (status = 501, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn create(
    State(api): State<Api>,
    Proposer(actor): Proposer,
    request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    let (parts, body) = request.into_parts();
    let bytes = decode::read(body).await?;
    let headers = parts.headers.clone();
    let wish = decode::apart(bytes.clone(), move |bytes| read(&headers, bytes)).await?;
    let view = api.manager.view();
    if view.network_named(&wish.name).is_some_and(|n| n.is_shown() && n.spec.name == wish.name) {
        return Err(name_taken(&wish.name));
    }
    if !wish.is_of_swarm() {
        let request = Request::from_parts(parts, Body::from(bytes));
        return Ok(passthrough::fallback(&api, request).await);
    }
    if view.cluster().is_none() {
        return Err(Refusal { reason: Reason::Forbidden, ..Refusal::no_swarm() }.into());
    }
    if wish.name.trim().is_empty() {
        return Err(Failure::invalid("invalid name: name is empty"));
    }
    if PREDEFINED.iter().any(|(name, _)| *name == wish.name) {
        let message = format!("operation is not permitted on predefined {} network", wish.name);
        return Err(Refusal::front(Reason::Forbidden, message).into());
    }
    let local = engine_network(&api, &wish.name, false).await;
    let is_local = |network: &Value| {
        text_of(network, "Name") == wish.name && text_of(network, "Scope") != "swarm"
    };
    if local.as_ref().is_some_and(is_local) {
        return Err(name_taken(&wish.name));
    }
    let id = NetworkId::make(api.manager.entropy());
    let intent = Intent::CreateNetwork { id, spec: wish.into_spec()? };
    api.manager.submit(actor, intent).await?;
    let answer = NetworkCreateResponse { id: id.to_string(), warning: "" };
    Ok(json(StatusCode::CREATED, &answer))
}

pub(super) fn read(headers: &HeaderMap, bytes: &[u8]) -> Result<NetworkBody, Failure> {
    decode::check_object_len(bytes.len())?;
    decode::value(headers, bytes).and_then(decode::from_value)
}

fn name_taken(name: &str) -> Failure {
    let message = format!("network with name {name} already exists");
    Refusal::front(Reason::Conflict, message).into()
}

/// Inspect a network
#[utoipa::path(get, path = "/networks/{id}", tag = "Network", operation_id = "NetworkInspect",
    params(("id" = String, Path, description = "Id, name, or prefix of the id"),
        ("scope" = Option<String>, Query, description = "`local` looks at the engine of this host only, `swarm` at the swarm only"),
        ("verbose" = Option<bool>, Query, description = "More, of a network of the engine of this host")),
    responses((status = 200, body = NetworkAnswer), (status = 400, body = ErrorResponse), (status = 404, body = ErrorResponse)))]
pub(super) async fn inspect(
    State(api): State<Api>,
    access: Access,
    Wanted(wanted): Wanted,
    query: Query,
    request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    let verbose = query.strict_bool("verbose")?;
    let scope = query.text("scope");
    let view = api.manager.view();
    // Asked for in the swarm only, what stands for a network of every engine is found as well: so the
    // docker command learns which id to attach a service to.
    let found = match scope {
        "swarm" => view.look_up_network(&wanted),
        _ => view.find_network(&wanted),
    };
    let own = match found {
        Ok(network) if matches!(scope, "" | "swarm") => network,
        Err(refusal) if scope == "swarm" || refusal.reason == Reason::Invalid => {
            return Err(refusal.into());
        }
        _ => return Ok(passthrough::fallback(&api, request).await),
    };
    access.check(Verb::Read, || Object::Network(own.clone()))?;
    let local = match access.check_at_all(Verb::Use, Right::Engine) {
        Ok(()) => engine_network(&api, own.id.as_str(), verbose).await,
        Err(_) => None,
    };
    let local = local.filter(|network| text_of(network, "Id") == own.id.as_str());
    Ok(json(StatusCode::OK, &NetworkAnswer::from(&**own).with_local(local.as_ref())))
}

/// Remove a network
#[utoipa::path(delete, path = "/networks/{id}", tag = "Network", operation_id = "NetworkDelete",
    params(("id" = String, Path, description = "Id, name, or prefix of the id")),
    responses((status = 204), (status = 400, body = ErrorResponse), (status = 404, body = ErrorResponse)))]
pub(super) async fn remove(
    State(api): State<Api>,
    Proposer(actor): Proposer,
    Wanted(wanted): Wanted,
    request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    let view = api.manager.view();
    let network = match view.find_network(&wanted) {
        Ok(network) => network,
        Err(refusal) if refusal.reason == Reason::Invalid => return Err(refusal.into()),
        Err(_) => return Ok(passthrough::fallback(&api, request).await),
    };
    api.manager.submit(actor, Intent::RemoveNetwork { id: network.id }).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Prepares the networks of a service: those that are the engine's are refused, and what stands for
/// one that every engine has gets its name.
///
/// # Errors
/// A network is one of this host only.
pub(super) async fn check_local(api: &ApiInner, spec: &mut ServiceSpec) -> Result<(), Failure> {
    let view = api.manager.view();
    let template = &spec.task_template.networks;
    let targets = if template.is_empty() { &spec.networks } else { template };
    let unknown = |wanted: &&String| view.resolve_network(wanted).is_err();
    let unknown: std::collections::BTreeSet<String> =
        targets.iter().map(|network| &network.target).filter(unknown).cloned().collect();
    for wanted in unknown {
        // Nobody has it: that is for the decision to say.
        let Some(local) = engine_network(api, &wanted, false).await else { break };
        let name = text_of(&local, "Name").to_owned();
        if !PREDEFINED.iter().any(|(predefined, _)| *predefined == name) {
            let message = format!(
                "The network {name} cannot be used with services. Only networks scoped to the \
                 swarm can be used, such as those created with the overlay driver."
            );
            return Err(Refusal::front(Reason::Forbidden, message).into());
        }
        let template = std::sync::Arc::make_mut(&mut spec.task_template);
        let networks = template.networks.iter_mut().chain(&mut spec.networks);
        networks
            .filter(|network| network.target == wanted)
            .for_each(|network| network.target.clone_from(&name));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_for_by_regular_expressions() {
        let cases = [
            ("ac", "back", true),
            ("^ba", "back", true),
            ("^ac", "back", false),
            ("ck$", "back", true),
            ("^back$", "back", true),
            ("^back$", "backs", false),
            ("^app-(front|back)$", "app-back", true),
            ("^app-(front|back)$", "app-back2", false),
            ("b.ck", "back", true),
            ("[", "back", false),
            ("[", "[", true),
            ("a{1000}{1000}{1000}", "back", false),
            ("", "back", true),
        ];
        for (pattern, text, expected) in cases {
            let asked = serde_json::json!({"name": [pattern]}).to_string();
            let filters = Filters::parse(Some(&asked)).expect("a filter");
            assert_eq!(Patterns::of(&filters, "name").find(text), expected, "{pattern} in {text}");
        }
    }
}
