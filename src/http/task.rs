//! `/tasks`: list and inspect.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::context::{Access, Api, Wanted};
use super::error::{ErrorResponse, Failure, json, json_list};
use super::network::{AttachmentAnswer, attachments};
use super::query::Query;
use crate::domain::change::Object;
use crate::domain::endpoint::PortConfig;
use crate::domain::filter::Filters;
use crate::domain::id::{NodeId, ServiceId, TaskId};
use crate::domain::json::is_zero;
use crate::domain::meta::Version;
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::service::{GenericResource, Runtime, TaskSpec};
use crate::domain::task::{Task, TaskStatus};
use crate::domain::task_state::TaskState;
use crate::domain::time::Timestamp;
use crate::domain::view::View;
use crate::manager::{Manager, Verb};
use std::sync::Arc;

/// A task as it is shown.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = Task)]
pub(super) struct TaskAnswer<'a> {
    #[serde(rename = "ID")]
    #[schema(value_type = String)]
    id: TaskId,
    version: Version,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    #[schema(value_type = Object)]
    labels: serde_json::Map<String, Value>,
    spec: TaskSpec,
    #[serde(rename = "ServiceID", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    service_id: Option<ServiceId>,
    #[serde(skip_serializing_if = "is_zero")]
    slot: u64,
    #[serde(rename = "NodeID", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    node_id: Option<NodeId>,
    status: StatusAnswer<'a>,
    desired_state: TaskState,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    networks_attachments: Vec<AttachmentAnswer<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    generic_resources: &'a [GenericResource],
    #[serde(skip_serializing_if = "Option::is_none")]
    job_iteration: Option<Version>,
    #[schema(value_type = Option<Vec<Object>>)]
    volumes: Option<Vec<Value>>,
}

/// What a task does, as it is shown.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = TaskStatus)]
pub(super) struct StatusAnswer<'a> {
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    state: TaskState,
    message: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    err: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_status: Option<ContainerAnswer<'a>>,
    port_status: PortStatus<'a>,
}

/// The container of a task, as it is shown.
#[derive(Serialize, ToSchema)]
#[schema(as = ContainerStatus)]
pub(super) struct ContainerAnswer<'a> {
    #[serde(rename = "ContainerID")]
    container_id: &'a str,
    #[serde(rename = "PID")]
    pid: i32,
    #[serde(rename = "ExitCode")]
    exit_code: i32,
}

/// Host-mode ports in use.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PortStatus<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    ports: &'a [PortConfig],
}

impl<'a> TaskAnswer<'a> {
    fn new(view: &'a View, task: &'a Task) -> Self {
        TaskAnswer {
            id: task.id,
            version: task.meta.version,
            created_at: task.meta.created_at,
            updated_at: task.meta.updated_at,
            labels: serde_json::Map::new(),
            // A task's spec is the service's but for the runtime, which is shown of attachments.
            spec: TaskSpec {
                runtime: task.spec.runtime.filter(|runtime| *runtime != Runtime::Container),
                ..(*task.spec).clone()
            },
            service_id: task.service_id,
            slot: task.slot,
            node_id: task.node_id,
            status: StatusAnswer::from(&task.status),
            desired_state: task.desired_state,
            networks_attachments: attachments(view, &task.networks),
            generic_resources: &task.generic_resources,
            job_iteration: task.job_iteration,
            volumes: None,
        }
    }
}

impl<'a> From<&'a TaskStatus> for StatusAnswer<'a> {
    fn from(status: &'a TaskStatus) -> Self {
        let container = status.container.as_ref();
        StatusAnswer {
            timestamp: status.timestamp,
            state: status.state,
            message: &status.message,
            err: &status.err,
            container_status: container.map(|container| ContainerAnswer {
                container_id: &container.container_id,
                pid: container.pid,
                exit_code: container.exit_code,
            }),
            port_status: PortStatus { ports: &status.ports },
        }
    }
}

const KEYS: &[&str] =
    &["id", "name", "service", "node", "label", "desired-state", "_up-to-date", "runtime"];

/// List tasks
#[utoipa::path(get, path = "/tasks", tag = "Task", operation_id = "TaskList",
    params(("filters" = Option<String>, Query, description = "JSON map of `desired-state`, `id`, `label`, `name`, `node`, `runtime`, `service` to values")),
    responses((status = 200, body = Vec<TaskAnswer>), (status = 400, body = ErrorResponse), (status = 404, body = ErrorResponse), (status = 500, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn list(
    State(api): State<Api>,
    access: Access,
    query: Query,
) -> Result<Response<Body>, Failure> {
    let view = api.manager.view();
    // The one list whose filters are read after the state of the node.
    view.require_cluster()?;
    let filters = query.filters(KEYS)?;
    let wish = Wish::resolve(&view, &filters)?;
    // By service or node there is an index; otherwise all are looked at.
    let sees = |task: &Arc<Task>| access.sees(|| Object::Task(task.clone()));
    let passes = |task: &&Arc<Task>| wish.passes(&view, task) && sees(task);
    let mut found: Vec<&Arc<Task>> = match (&wish.services, &wish.nodes) {
        (Some(services), _) => {
            services.iter().flat_map(|id| view.tasks_of_service(*id)).filter(passes).collect()
        }
        (None, Some(nodes)) => {
            nodes.iter().flat_map(|id| view.tasks_of_node(*id)).filter(passes).collect()
        }
        (None, None) => view.tasks().filter(passes).collect(),
    };
    found.sort_by_key(|task| task.id);
    found.dedup_by_key(|task| task.id);
    Ok(json_list(found.into_iter().map(|task| TaskAnswer::new(&view, task)), 768))
}

/// The filters, with what they name found.
struct Wish<'f> {
    filters: &'f Filters,
    services: Option<Vec<ServiceId>>,
    nodes: Option<Vec<NodeId>>,
    states: Vec<TaskState>,
}

impl<'f> Wish<'f> {
    fn resolve(view: &View, filters: &'f Filters) -> Result<Wish<'f>, Failure> {
        let mut states = Vec::new();
        for value in filters.values("desired-state") {
            let state = TaskState::parse(&value.to_lowercase()).ok_or_else(|| {
                let message = format!("Invalid desired-state filter: '{value}'");
                Failure(Refusal::front(Reason::Unknown, message))
            })?;
            states.push(state);
        }
        let services = filters.values("service");
        let services: Result<Vec<_>, _> =
            services.iter().map(|wanted| view.find_service(wanted).map(|found| found.id)).collect();
        let nodes = filters.values("node");
        let nodes: Result<Vec<_>, _> =
            nodes.iter().map(|wanted| view.find_node(wanted).map(|found| found.id)).collect();
        let (services, nodes) = (services?, nodes?);
        Ok(Wish {
            filters,
            services: (!services.is_empty()).then_some(services),
            nodes: (!nodes.is_empty()).then_some(nodes),
            states,
        })
    }

    fn passes(&self, view: &View, task: &Task) -> bool {
        let filters = self.filters;
        let service = task.service_id.and_then(|id| view.service(id));
        let runtime = task.spec.runtime.unwrap_or(Runtime::Container);
        // Clients that do not ask for them do not expect tasks without a container.
        let is_asked = runtime == Runtime::Container || !filters.values("runtime").is_empty();
        let labels = service.map_or(&task.service_labels, |service| &service.spec.labels);
        let up_to_date = filters.values("_up-to-date").is_empty();
        is_asked
            && filters.passes("id", |value| task.id.as_str().starts_with(value))
            && filters.passes("name", |value| task.name().starts_with(value))
            && filters.passes("runtime", |value| value == runtime.as_str())
            && self.services.as_ref().is_none_or(|services| {
                task.service_id.is_some_and(|service| services.contains(&service))
            })
            && self
                .nodes
                .as_ref()
                .is_none_or(|nodes| task.node_id.is_some_and(|node| nodes.contains(&node)))
            && (self.states.is_empty() || self.states.contains(&task.desired_state))
            && filters.passes_labels("label", labels)
            && (up_to_date || Manager::is_up_to_date(view, task))
    }
}

/// Inspect a task
#[utoipa::path(get, path = "/tasks/{id}", tag = "Task", operation_id = "TaskInspect",
    params(("id" = String, Path, description = "Id, full name, or prefix of the id")),
    responses((status = 200, body = TaskAnswer), (status = 404, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn inspect(
    State(api): State<Api>,
    access: Access,
    Wanted(wanted): Wanted,
) -> Result<Response<Body>, Failure> {
    let view = api.manager.view();
    view.require_cluster()?;
    let task = view.find_task(&wanted)?;
    access.check(Verb::Read, || Object::Task(task.clone()))?;
    Ok(json(StatusCode::OK, &TaskAnswer::new(&view, task)))
}
