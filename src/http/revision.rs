//! The versions of secrets and configs, and who has which of them. Of purser's own: Swarm has one value
//! under a name. No value is in any of these answers.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::context::{Access, Api, Proposer, Wanted};
use super::error::{ErrorResponse, Failure, empty, json};
use super::query::Query;
use crate::domain::actor::Actor;
use crate::domain::change::Object;
use crate::domain::id::{NodeId, ServiceId, TaskId};
use crate::domain::intent::Intent;
use crate::domain::refusal::Refusal;
use crate::domain::revision::{Follows, Keep, Owner, Revisions, number_of};
use crate::domain::service::Service;
use crate::domain::task_state::TaskState;
use crate::domain::time::{Timestamp, parse_span};
use crate::domain::view::View;
use crate::manager::Verb;

/// One version of a secret or config.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = ValueVersion)]
pub(super) struct VersionAnswer {
    /// Its number, from 1.
    version: u64,
    /// When it was given.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// True for the one that is given to whoever asks for none.
    current: bool,
}

/// A service that uses a secret or config.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = Consumer)]
pub(super) struct ConsumerAnswer {
    /// Its id.
    #[serde(rename = "ServiceID")]
    #[schema(value_type = String)]
    service_id: ServiceId,
    /// Its name.
    service_name: String,
    /// The version that its tasks are to have; absent for a service that does without it now, or is gone,
    /// and has tasks left.
    #[serde(skip_serializing_if = "Option::is_none")]
    wanted: Option<u64>,
    /// How it comes to a new version: `automatic`, `manual`, `job` or `pinned`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "automatic")]
    follows: Option<&'static str>,
    /// Its tasks that have not ended, and what each has.
    tasks: Vec<HolderAnswer>,
}

/// A task that was given a secret or config.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = Holder)]
pub(super) struct HolderAnswer {
    /// Its id.
    #[serde(rename = "ID")]
    #[schema(value_type = String)]
    id: TaskId,
    /// The node that it is on; absent while it has none.
    #[serde(rename = "NodeID", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    node_id: Option<NodeId>,
    /// The version that it was made with, and has for its whole life.
    version: u64,
    /// What it does.
    #[schema(value_type = String, example = "running")]
    state: TaskState,
}

/// A secret or config that was asked for.
struct Found<'v> {
    owner: Owner,
    name: &'v str,
    revisions: &'v Revisions,
    made_at: Timestamp,
}

fn secret<'v>(view: &'v View, access: &Access, wanted: &str) -> Result<Found<'v>, Failure> {
    view.require_cluster()?;
    let secret = view.find_secret(wanted)?;
    access.check(Verb::Read, || Object::Secret(secret.clone()))?;
    Ok(Found {
        owner: Owner::Secret(secret.id),
        name: &secret.spec.name,
        revisions: &secret.revisions,
        made_at: secret.meta.created_at,
    })
}

fn config<'v>(view: &'v View, access: &Access, wanted: &str) -> Result<Found<'v>, Failure> {
    view.require_cluster()?;
    let config = view.find_config(wanted)?;
    access.check(Verb::Read, || Object::Config(config.clone()))?;
    Ok(Found {
        owner: Owner::Config(config.id),
        name: &config.spec.name,
        revisions: &config.revisions,
        made_at: config.meta.created_at,
    })
}

impl Found<'_> {
    fn versions(&self) -> Response<Body> {
        let current = self.revisions.current;
        let answer = |version, created_at| VersionAnswer {
            version,
            created_at,
            current: version == current,
        };
        let known = self.revisions.known.iter().map(|known| answer(known.number, known.made_at));
        let mut versions: Vec<VersionAnswer> = known.collect();
        if self.revisions.is_first() {
            versions.push(answer(1, self.made_at));
        }
        json(StatusCode::OK, &versions)
    }

    fn consumers(&self, view: &View, access: &Access) -> Response<Body> {
        let key = self.owner.key();
        let mut consumers: BTreeMap<ServiceId, ConsumerAnswer> = BTreeMap::new();
        for service in view.services_of(self.owner) {
            if access.sees(|| Object::Service(service.clone())) {
                consumers.insert(service.id, self.consumer(service));
            }
        }
        for task in view.holders_of(self.owner) {
            let Some(service_id) = task.service_id else { continue };
            if !access.sees(|| Object::Task(task.clone())) {
                continue;
            }
            let consumer = consumers.entry(service_id).or_insert_with(|| ConsumerAnswer {
                service_id,
                service_name: task.service_name.clone(),
                wanted: None,
                follows: None,
                tasks: Vec::new(),
            });
            let version = number_of(&task.revisions, key.id());
            let (id, node_id, state) = (task.id, task.node_id, task.status.state);
            consumer.tasks.push(HolderAnswer { id, node_id, version, state });
        }
        json(StatusCode::OK, &consumers.into_values().collect::<Vec<_>>())
    }

    fn consumer(&self, service: &Service) -> ConsumerAnswer {
        ConsumerAnswer {
            service_id: service.id,
            service_name: service.spec.name.clone(),
            wanted: Some(number_of(&service.revisions, self.owner.key().id())),
            follows: Some(Follows::of(service, self.owner, self.name).word()),
            tasks: Vec::new(),
        }
    }
}

/// List the versions of a secret
#[utoipa::path(get, path = "/secrets/{id}/versions", tag = "Secret", operation_id = "SecretVersions",
    params(("id" = String, Path, description = "Id, name, or prefix of the id")),
    responses((status = 200, body = Vec<VersionAnswer>), (status = 404, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn secret_versions(
    State(api): State<Api>,
    access: Access,
    Wanted(wanted): Wanted,
) -> Result<Response<Body>, Failure> {
    let view = api.manager.view();
    secret(&view, &access, &wanted).map(|found| found.versions())
}

/// List who uses a secret, and which version of it each has
#[utoipa::path(get, path = "/secrets/{id}/consumers", tag = "Secret", operation_id = "SecretConsumers",
    params(("id" = String, Path, description = "Id, name, or prefix of the id")),
    responses((status = 200, body = Vec<ConsumerAnswer>), (status = 404, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn secret_consumers(
    State(api): State<Api>,
    access: Access,
    Wanted(wanted): Wanted,
) -> Result<Response<Body>, Failure> {
    let view = api.manager.view();
    secret(&view, &access, &wanted).map(|found| found.consumers(&view, &access))
}

/// List the versions of a config
#[utoipa::path(get, path = "/configs/{id}/versions", tag = "Config", operation_id = "ConfigVersions",
    params(("id" = String, Path, description = "Id, name, or prefix of the id")),
    responses((status = 200, body = Vec<VersionAnswer>), (status = 404, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn config_versions(
    State(api): State<Api>,
    access: Access,
    Wanted(wanted): Wanted,
) -> Result<Response<Body>, Failure> {
    let view = api.manager.view();
    config(&view, &access, &wanted).map(|found| found.versions())
}

/// List who uses a config, and which version of it each has
#[utoipa::path(get, path = "/configs/{id}/consumers", tag = "Config", operation_id = "ConfigConsumers",
    params(("id" = String, Path, description = "Id, name, or prefix of the id")),
    responses((status = 200, body = Vec<ConsumerAnswer>), (status = 404, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn config_consumers(
    State(api): State<Api>,
    access: Access,
    Wanted(wanted): Wanted,
) -> Result<Response<Body>, Failure> {
    let view = api.manager.view();
    config(&view, &access, &wanted).map(|found| found.consumers(&view, &access))
}

/// Roll a secret back to an earlier version, which services then take as they take a new one
#[utoipa::path(post, path = "/secrets/{id}/rollback", tag = "Secret", operation_id = "SecretRollback",
    params(("id" = String, Path, description = "Id, name, or prefix of the id"),
        ("version" = u64, Query, description = "The version of the object that was seen"),
        ("to" = Option<u64>, Query, description = "Number of the version; the one before the present one when absent")),
    responses((status = 200), (status = 400, body = ErrorResponse), (status = 404, body = ErrorResponse), (status = 500, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn secret_rollback(
    State(api): State<Api>,
    Proposer(actor): Proposer,
    Wanted(wanted): Wanted,
    query: Query,
) -> Result<Response<Body>, Failure> {
    let owner = secret_owner(&api.manager.view(), &wanted)?;
    roll_back(&api, actor, owner, &query).await
}

/// Roll a config back to an earlier version, which services then take as they take a new one
#[utoipa::path(post, path = "/configs/{id}/rollback", tag = "Config", operation_id = "ConfigRollback",
    params(("id" = String, Path, description = "Id, name, or prefix of the id"),
        ("version" = u64, Query, description = "The version of the object that was seen"),
        ("to" = Option<u64>, Query, description = "Number of the version; the one before the present one when absent")),
    responses((status = 200), (status = 400, body = ErrorResponse), (status = 404, body = ErrorResponse), (status = 500, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn config_rollback(
    State(api): State<Api>,
    Proposer(actor): Proposer,
    Wanted(wanted): Wanted,
    query: Query,
) -> Result<Response<Body>, Failure> {
    let owner = config_owner(&api.manager.view(), &wanted)?;
    roll_back(&api, actor, owner, &query).await
}

fn secret_owner(view: &View, wanted: &str) -> Result<Owner, Refusal> {
    view.require_cluster()?;
    view.find_secret(wanted).map(|secret| Owner::Secret(secret.id))
}

fn config_owner(view: &View, wanted: &str) -> Result<Owner, Refusal> {
    view.require_cluster()?;
    view.find_config(wanted).map(|config| Owner::Config(config.id))
}

async fn roll_back(
    api: &Api,
    actor: Actor,
    owner: Owner,
    query: &Query,
) -> Result<Response<Body>, Failure> {
    if api.manager.is_strict() {
        return Err(Refusal::invalid("only updates to Labels are allowed").into());
    }
    let version = query.version().ok_or_else(|| query.bad_version(owner.key().kind().word()))?;
    let number = query.number("to")?;
    api.manager.submit(actor, Intent::ChooseRevision { owner, version, number }).await?;
    Ok(empty(StatusCode::OK))
}

/// Drop versions of a secret that nothing uses, and destroy their keys
#[utoipa::path(post, path = "/secrets/{id}/prune", tag = "Secret", operation_id = "SecretPrune",
    params(("id" = String, Path, description = "Id, name, or prefix of the id"),
        ("keep" = Option<u64>, Query, description = "So many of the newest stay all the same; as many as are kept anyway when absent"),
        ("unusedFor" = Option<String>, Query, description = "Only those that were replaced so long ago, as in `30d` or `12h`")),
    responses((status = 200), (status = 400, body = ErrorResponse), (status = 404, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn secret_prune(
    State(api): State<Api>,
    Proposer(actor): Proposer,
    Wanted(wanted): Wanted,
    query: Query,
) -> Result<Response<Body>, Failure> {
    let owner = secret_owner(&api.manager.view(), &wanted)?;
    prune(&api, actor, owner, &query).await
}

/// Drop versions of a config that nothing uses, and destroy their keys
#[utoipa::path(post, path = "/configs/{id}/prune", tag = "Config", operation_id = "ConfigPrune",
    params(("id" = String, Path, description = "Id, name, or prefix of the id"),
        ("keep" = Option<u64>, Query, description = "So many of the newest stay all the same; as many as are kept anyway when absent"),
        ("unusedFor" = Option<String>, Query, description = "Only those that were replaced so long ago, as in `30d` or `12h`")),
    responses((status = 200), (status = 400, body = ErrorResponse), (status = 404, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn config_prune(
    State(api): State<Api>,
    Proposer(actor): Proposer,
    Wanted(wanted): Wanted,
    query: Query,
) -> Result<Response<Body>, Failure> {
    let owner = config_owner(&api.manager.view(), &wanted)?;
    prune(&api, actor, owner, &query).await
}

async fn prune(
    api: &Api,
    actor: Actor,
    owner: Owner,
    query: &Query,
) -> Result<Response<Body>, Failure> {
    let newest = match query.number("keep")? {
        Some(keep) => usize::try_from(keep).unwrap_or(usize::MAX),
        None => api.manager.keep().newest,
    };
    let unused_for = match query.text("unusedFor") {
        "" => 0,
        text => parse_span(text).ok_or_else(|| {
            let why = format!("invalid value for unusedFor: {text:?} is no time as in 30d or 12h");
            Failure::invalid(why)
        })?,
    };
    let keep = Keep { newest, unused_for };
    api.manager.submit(actor, Intent::PruneRevisions { owner, keep }).await?;
    Ok(empty(StatusCode::OK))
}
