//! Services: what should run, how often, and how it is changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::container::{ContainerSpec, Driver};
use super::endpoint::{Endpoint, EndpointSpec, NetworkAttachmentConfig};
use super::id::ServiceId;
use super::json::{empty_as_default, empty_as_none, engine_enum, is_zero};
use super::meta::{Meta, Version};
pub use super::mode::{Global, JobStatus, ModeKind, Replicated, ReplicatedJob, ServiceMode};
use super::revision::{GATHER_TIME, Numbers};
use super::task::Task;
use super::task_state::TaskState;
use super::time::{Nanoseconds, Timestamp};

/// A stored service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its id.
    pub id: ServiceId,
    /// Version and times.
    pub meta: Meta,
    /// What its user gave.
    pub spec: ServiceSpec,
    /// The write that last changed `spec`; tasks remember the one they were made from.
    pub spec_version: Version,
    /// The spec before the last update; one level only.
    pub previous_spec: Option<ServiceSpec>,
    /// Where a rolling update stands; absent before the first one.
    pub update_status: Option<UpdateStatus>,
    /// The present run; absent for a service that is no job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_status: Option<JobStatus>,
    /// Registry credentials as the client sent them; never shown.
    pub registry_auth: RegistryAuth,
    /// Registry credentials of `previous_spec`.
    pub previous_registry_auth: RegistryAuth,
    /// The revisions of secrets and configs that its tasks get.
    #[serde(default, skip_serializing_if = "Numbers::is_empty")]
    pub revisions: Numbers,
    /// Those that go with `previous_spec`.
    #[serde(default, skip_serializing_if = "Numbers::is_empty")]
    pub previous_revisions: Numbers,
    /// When the rollout of new revisions begins, unless an update comes before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout_at: Option<Timestamp>,
    /// How it is reached; absent until it was given what its spec leaves open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Arc<Endpoint>>,
}

impl Service {
    /// True when the endpoint is not what the spec asks for: the allocator has work.
    pub fn needs_endpoint(&self) -> bool {
        let networks = &self.spec.task_template.networks;
        let wish = self.spec.endpoint_spec.as_ref();
        let Some(endpoint) = &self.endpoint else {
            return !networks.is_empty() || wish.is_some_and(EndpointSpec::is_in_mesh);
        };
        let targets = networks.iter().map(|network| &network.target);
        endpoint.spec.as_ref() != wish || !targets.eq(&endpoint.networks)
    }
}

impl Service {
    /// True for a task of the present run of a job, and for every task of what is none.
    pub fn is_of_run(&self, task: &Task) -> bool {
        task.job_iteration == self.job_status.as_ref().map(|run| run.job_iteration)
    }

    /// True while it took new revisions a moment ago, and waits for more.
    pub fn gathers(&self, now: Timestamp) -> bool {
        // Further away than it ever begins is a clock that was set back.
        self.rollout_at.is_some_and(|at| now < at && at <= now.plus(GATHER_TIME))
    }

    /// True while its rollout waits for a person: what that person does takes new values along.
    pub fn is_paused(&self) -> bool {
        let state = self.update_status.as_ref().map(|status| status.state);
        matches!(state, Some(UpdateState::Paused | UpdateState::RollbackPaused))
    }

    /// True while the last rollout has not come to an end that it could be left at: what is there now is
    /// not what to go back to.
    pub fn is_unproven(&self, now: Timestamp) -> bool {
        let state = self.update_status.as_ref().map(|status| status.state);
        let is_under_way = match state {
            None => self.rollout_at.is_some(),
            Some(state) => matches!(state, UpdateState::Updating | UpdateState::Paused),
        };
        self.gathers(now) || is_under_way && self.previous_spec.is_some()
    }

    /// True for a task that did its part of the present run of a job, told to stop meanwhile or not.
    pub fn is_done_by(&self, task: &Task) -> bool {
        self.job_status.is_some()
            && self.is_of_run(task)
            && task.status.state == TaskState::Complete
    }
}

/// Registry credentials: the base64url JSON of `X-Registry-Auth`. Sealed at rest with the service,
/// handed to nodes for pulling, and shown to nobody.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RegistryAuth(pub String);

impl std::fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RegistryAuth(…)")
    }
}

/// What a user gives of a service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct ServiceSpec {
    /// Name, a DNS label, unique ignoring case.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What each task is made from.
    pub task_template: Arc<TaskSpec>,
    /// How many tasks and where; replicated with one when absent.
    pub mode: ServiceMode,
    /// How an update is rolled out.
    #[serde(skip_serializing_if = "is_zero")]
    pub update_config: Option<UpdateConfig>,
    /// How a rollback is rolled out.
    #[serde(skip_serializing_if = "is_zero")]
    pub rollback_config: Option<UpdateConfig>,
    /// Networks, in the place that old clients use.
    #[serde(skip_serializing_if = "is_zero")]
    pub networks: Vec<NetworkAttachmentConfig>,
    /// How the service is reached.
    #[serde(skip_serializing_if = "is_zero")]
    pub endpoint_spec: Option<EndpointSpec>,
}

impl ServiceSpec {
    /// The container part of the template; an empty one stands for an absent one, which no stored
    /// service has.
    pub fn container(&self) -> Option<&ContainerSpec> {
        self.task_template.container_spec.as_ref()
    }
}

/// What a task is made from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct TaskSpec {
    /// The container.
    #[serde(skip_serializing_if = "is_zero")]
    pub container_spec: Option<ContainerSpec>,
    /// Resources it needs and may use.
    #[serde(skip_serializing_if = "is_zero")]
    pub resources: Option<ResourceRequirements>,
    /// What happens when it ends.
    #[serde(skip_serializing_if = "is_zero")]
    pub restart_policy: Option<RestartPolicy>,
    /// Where it may run.
    #[serde(skip_serializing_if = "is_zero")]
    pub placement: Option<Placement>,
    /// Networks it is attached to.
    #[serde(skip_serializing_if = "is_zero")]
    pub networks: Vec<NetworkAttachmentConfig>,
    /// Where its output goes.
    #[serde(skip_serializing_if = "is_zero")]
    pub log_driver: Option<Driver>,
    /// Raised to have all tasks replaced without another change.
    pub force_update: u64,
    /// Kind of runtime; `container` for all tasks of services.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "empty_as_none")]
    pub runtime: Option<Runtime>,
    /// The container that an attachment is for.
    #[serde(skip_serializing_if = "is_zero")]
    pub network_attachment_spec: Option<NetworkAttachmentSpec>,
}

/// A container that its user runs on a node, attached to a network of the swarm.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct NetworkAttachmentSpec {
    /// Id of the container, up to 64 hexadecimal digits.
    #[serde(rename = "ContainerID")]
    pub container_id: String,
}

engine_enum! {
    /// What runs a task.
    Runtime, unknown "unsupported runtime{:.0}",
    /// A container.
    Container = "container",
    /// An engine plugin; not supported.
    Plugin = "plugin",
    /// A container that its user runs, attached to a network; made by nodes only.
    Attachment = "attachment",
}

/// Resources of a task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct ResourceRequirements {
    /// What it may use at most.
    #[serde(skip_serializing_if = "is_zero")]
    pub limits: Option<Limit>,
    /// What must be free on its node.
    #[serde(skip_serializing_if = "is_zero")]
    pub reservations: Option<Resources>,
    /// Swap in bytes; needs a memory limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub swap_bytes: Option<i64>,
    /// Tendency to swap, 0 to 100.
    #[serde(skip_serializing_if = "is_zero")]
    pub memory_swappiness: Option<i64>,
}

/// Limits of a task; zero is no limit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Limit {
    /// Processor time in billionths of a core.
    #[serde(rename = "NanoCPUs", skip_serializing_if = "is_zero")]
    pub nano_cpus: i64,
    /// Memory in bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub memory_bytes: i64,
    /// Processes.
    #[serde(skip_serializing_if = "is_zero")]
    pub pids: i64,
}

/// Resources of a node, or reserved for a task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Resources {
    /// Processor time in billionths of a core.
    #[serde(rename = "NanoCPUs", skip_serializing_if = "is_zero")]
    pub nano_cpus: i64,
    /// Memory in bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub memory_bytes: i64,
    /// Resources of the operator's own naming.
    #[serde(skip_serializing_if = "is_zero")]
    pub generic_resources: Vec<GenericResource>,
}

/// A resource of the operator's own naming; exactly one of the two is set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct GenericResource {
    /// One named piece.
    #[serde(skip_serializing_if = "is_zero")]
    pub named_resource_spec: Option<NamedGenericResource>,
    /// So many pieces.
    #[serde(skip_serializing_if = "is_zero")]
    pub discrete_resource_spec: Option<DiscreteGenericResource>,
}

/// One named piece of a generic resource.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct NamedGenericResource {
    /// Kind of resource.
    #[serde(skip_serializing_if = "is_zero")]
    pub kind: String,
    /// Name of the piece.
    #[serde(skip_serializing_if = "is_zero")]
    pub value: String,
}

/// A number of pieces of a generic resource.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct DiscreteGenericResource {
    /// Kind of resource.
    #[serde(skip_serializing_if = "is_zero")]
    pub kind: String,
    /// How many.
    #[serde(skip_serializing_if = "is_zero")]
    pub value: i64,
}

engine_enum! {
    /// When a task that ended is replaced.
    RestartCondition, unknown "invalid RestartCondition: {:?}", default Any,
    /// Never.
    None = "none",
    /// When it failed.
    OnFailure = "on-failure",
    /// Always.
    Any = "any",
}

/// What happens when a task ends.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartPolicy {
    /// When it is replaced; always when absent, and written as such.
    #[serde(deserialize_with = "empty_as_default")]
    pub condition: RestartCondition,
    /// How long the replacement waits; 5 s when absent.
    #[serde(skip_serializing_if = "is_zero")]
    pub delay: Option<Nanoseconds>,
    /// Replacements until it is given up; 0 and absent are unlimited.
    pub max_attempts: u64,
    /// Span in which attempts are counted; 0 and absent count all.
    #[serde(skip_serializing_if = "is_zero")]
    pub window: Option<Nanoseconds>,
}

/// Grace period of a container that says nothing: 10 s.
pub const STOP_GRACE_DEFAULT: Nanoseconds = 10_000_000_000;

/// How long an updated task is watched when the update says nothing: 5 s.
pub const UPDATE_MONITOR_DEFAULT: Nanoseconds = 5_000_000_000;

/// How long a replacement waits when the policy says nothing.
pub const RESTART_DELAY_DEFAULT: Nanoseconds = 5_000_000_000;

/// Where tasks may run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Placement {
    /// Conditions such as `node.role==worker`, all of which must hold.
    #[serde(skip_serializing_if = "is_zero")]
    pub constraints: Vec<String>,
    /// What to spread over.
    #[serde(skip_serializing_if = "is_zero")]
    pub preferences: Vec<PlacementPreference>,
    /// Most tasks on one node; 0 is unlimited.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_replicas: u64,
    /// Platforms the image runs on.
    #[serde(skip_serializing_if = "is_zero")]
    pub platforms: Vec<Platform>,
}

/// What to spread tasks over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct PlacementPreference {
    /// Spread evenly over the values of a label.
    pub spread: Option<SpreadOver>,
}

/// The label whose values tasks are spread over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct SpreadOver {
    /// The label, as in `node.labels.zone`.
    pub spread_descriptor: String,
}

/// Processor and system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Platform {
    /// Processor architecture.
    #[serde(skip_serializing_if = "is_zero")]
    pub architecture: String,
    /// Operating system.
    #[serde(rename = "OS", skip_serializing_if = "is_zero")]
    pub os: String,
}

engine_enum! {
    /// What a failing update does.
    FailureAction, unknown "unrecognized update failure action {}", default Pause,
    /// Stops and waits for a person.
    Pause = "pause",
    /// Goes on.
    Continue = "continue",
    /// Goes back to the spec before.
    Rollback = "rollback",
}

engine_enum! {
    /// Which of the old and the new task goes first.
    UpdateOrder, unknown "unrecognized update order {}", default StopFirst,
    /// The old one stops, then the new one starts.
    StopFirst = "stop-first",
    /// The new one starts, then the old one stops.
    StartFirst = "start-first",
}

/// How a change is rolled out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateConfig {
    /// How many tasks at once; 0 is all of them.
    pub parallelism: u64,
    /// Pause between batches.
    #[serde(skip_serializing_if = "is_zero")]
    pub delay: Nanoseconds,
    /// What a failure does; `pause` when absent, and written as such.
    #[serde(deserialize_with = "empty_as_default")]
    pub failure_action: FailureAction,
    /// How long a new task is watched; 0 is the default of 5 s.
    #[serde(skip_serializing_if = "is_zero")]
    pub monitor: Nanoseconds,
    /// Part of the tasks that may fail, 0 to 1.
    #[serde(serialize_with = "ratio")]
    pub max_failure_ratio: f32,
    /// Which task goes first; `stop-first` when absent, and written as such.
    #[serde(deserialize_with = "empty_as_default")]
    pub order: UpdateOrder,
}

/// None and all are written as whole numbers.
fn ratio<S: serde::Serializer>(ratio: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    if *ratio == 0.0 || *ratio == 1.0 {
        return serializer.serialize_u8(u8::from(*ratio == 1.0));
    }
    serializer.serialize_f32(*ratio)
}

engine_enum! {
    /// Where an update stands.
    UpdateState, unknown "unknown update state {:?}",
    /// Under way.
    Updating = "updating",
    /// Stopped after a failure.
    Paused = "paused",
    /// Done.
    Completed = "completed",
    /// Going back.
    RollbackStarted = "rollback_started",
    /// Going back, stopped after a failure.
    RollbackPaused = "rollback_paused",
    /// Gone back.
    RollbackCompleted = "rollback_completed",
}

/// Where a rolling update stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateStatus {
    /// The state.
    pub state: UpdateState,
    /// When it started.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub completed_at: Option<Timestamp>,
    /// The state in words.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub message: String,
}
