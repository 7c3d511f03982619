//! Tasks: one attempt at running one instance of a service, or the place of a container that its user
//! runs on a network of the swarm.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::change::Key;
use super::endpoint::{Endpoint, EndpointSpec, PortConfig};
use super::id::{NodeId, ServiceId, TaskId};
use super::meta::{Meta, Version};
use super::network::Attachment;
use super::revision::Numbers;
use super::service::{GenericResource, RegistryAuth, TaskSpec};
use super::task_state::TaskState;
use super::time::{Nanoseconds, Timestamp};

/// A stored task. Its spec never changes; a changed service gets new tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Version and times.
    pub meta: Meta,
    /// What it is made from; shared with the service it was made from.
    pub spec: Arc<TaskSpec>,
    /// The service; absent for an attachment, which a node asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_id: Option<ServiceId>,
    /// Name of the service when the task was made; empty for an attachment.
    pub service_name: String,
    /// Labels of the service when the task was made.
    pub service_labels: BTreeMap<String, String>,
    /// The spec version of the service that it was made from.
    pub spec_version: Version,
    /// Its slot: from 1, in a job from 0. Always 0 where tasks are told apart by node.
    pub slot: u64,
    /// The node; absent until one is chosen.
    pub node_id: Option<NodeId>,
    /// What happens.
    pub status: TaskStatus,
    /// When it was first reported running, by the manager's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ran_at: Option<Timestamp>,
    /// What should happen.
    pub desired_state: TaskState,
    /// The revisions of its secrets and configs, for its whole life.
    #[serde(default, skip_serializing_if = "Numbers::is_empty")]
    pub revisions: Numbers,
    /// Endpoint of the service when the task was made.
    pub endpoint_spec: Option<EndpointSpec>,
    /// How its service is reached, as of when the task got its addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Arc<Endpoint>>,
    /// Its places on networks. The addresses are its own until it has ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Attachment>,
    /// The generic resources of its node that it was given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub generic_resources: Vec<GenericResource>,
    /// Registry credentials for pulling its image.
    pub registry_auth: RegistryAuth,
    /// For a task in place of another: it is not started before then. Zero for the first of a slot.
    pub not_before: Timestamp,
    /// The replacements that led to this task.
    pub restarts: Restarts,
    /// The run of a job that it is of; absent for a task that is to run on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_iteration: Option<Version>,
}

/// How often an instance was restarted, for `MaxAttempts`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Restarts {
    /// Replacements since the service last changed.
    pub count: u64,
    /// The moments of those that still count in the policy's window; empty without a window.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent: Vec<Timestamp>,
    /// When the task was given up, if it was for what it did: from here its policy's window counts
    /// back, whatever is heard of the task later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up_at: Option<Timestamp>,
    /// The newest ends of those before it, no older than [`RECENT`] at the last of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ends: Vec<End>,
}

/// How a task before this one ended by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// When.
    pub at: Timestamp,
    /// The node that it failed on; absent for one that did not fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_on: Option<NodeId>,
}

/// For how long an end is remembered: 5 minutes.
pub const RECENT: Nanoseconds = 300_000_000_000;

/// The most ends that are remembered: as many as a slot has when its restarts are held back, so that
/// they stay so.
const ENDS_MAX: usize = 20;

impl Restarts {
    /// Notes how a task ended by itself; nothing of one that was ended.
    pub fn note_end(&mut self, task: &Task, at: Timestamp) {
        let failed_on = match task.status.state {
            TaskState::Failed | TaskState::Rejected => task.node_id,
            TaskState::Complete => None,
            _ => return,
        };
        self.ends.retain(|end| end.is_recent(at));
        self.ends.push(End { at, failed_on });
        let surplus = self.ends.len().saturating_sub(ENDS_MAX);
        self.ends.drain(..surplus);
    }
}

impl End {
    /// True while it is remembered.
    pub fn is_recent(&self, now: Timestamp) -> bool {
        self.at > now.plus(-RECENT)
    }
}

/// What a task does, as last reported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskStatus {
    /// When that was, by the reporter's clock.
    pub timestamp: Timestamp,
    /// When it was written, by the manager's clock. Planners measure from here, so that a node
    /// whose clock is off delays nothing.
    pub applied_at: Timestamp,
    /// The state.
    pub state: TaskState,
    /// The state in words.
    pub message: String,
    /// What is wrong; empty when nothing is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub err: String,
    /// The container, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerStatus>,
    /// Host-mode ports in use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortConfig>,
}

/// The container of a task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// Its id, 64 hexadecimal digits.
    pub container_id: String,
    /// Its process, 0 after the end.
    pub pid: i32,
    /// Exit code, 0 while it runs.
    pub exit_code: i32,
}

impl Task {
    /// Name of the task: `service.slot.id`, with the node in place of slot 0 once there is one, as
    /// engines name its container.
    pub fn name(&self) -> String {
        match (self.slot, self.node_id) {
            (0, Some(node_id)) => format!("{}.{node_id}.{}", self.service_name, self.id),
            _ => format!("{}.{}.{}", self.service_name, self.slot, self.id),
        }
    }

    /// True while the task is meant to run, or to get ready for running; a job's until it has
    /// completed.
    pub fn is_wanted(&self) -> bool {
        match self.desired_state {
            TaskState::Complete => self.status.state != TaskState::Complete,
            desired => desired <= TaskState::Running,
        }
    }

    /// The desired state of the task from its start until it is given up.
    pub fn goal(&self) -> TaskState {
        match self.job_iteration {
            Some(_) => TaskState::Complete,
            None => TaskState::Running,
        }
    }

    /// True while the task is meant to run and has not ended.
    pub fn is_live(&self) -> bool {
        self.is_wanted() && !self.status.state.is_terminal()
    }

    /// True while the task is meant to run and has no confirmed node yet.
    pub fn is_waiting(&self) -> bool {
        self.is_wanted() && self.status.state < TaskState::Assigned
    }

    /// True when its node was found to have no address on one of its networks.
    pub fn is_starved(&self) -> bool {
        let is_said = self.status.state == TaskState::Assigned && !self.status.err.is_empty();
        is_said && self.networks.iter().any(|place| place.address.is_some())
    }

    /// True while the task has its node, and what it reserved there.
    pub fn holds_place(&self) -> bool {
        self.status.state >= TaskState::Assigned && !self.status.state.is_terminal()
    }

    /// True for an attachment that has ended: nobody replaces it, and it tells nothing to anyone.
    pub fn is_spent(&self) -> bool {
        self.service_id.is_none() && self.status.state.is_terminal()
    }

    /// The node that the task burdens: where it has a place and is meant to run.
    pub fn burdens(&self) -> Option<NodeId> {
        self.node_id.filter(|_| self.is_wanted() && self.holds_place())
    }

    /// What it was granted, until it has ended.
    pub fn held(&self) -> impl Iterator<Item = Key> {
        self.grants().filter(|_| !self.status.state.is_terminal())
    }

    /// The secrets and configs that its container is granted. An id that is none is left out.
    pub fn grants(&self) -> impl Iterator<Item = Key> {
        self.spec.container_spec.iter().flat_map(|container| {
            let secrets = container.secrets.iter();
            let secrets = secrets.filter_map(|grant| grant.secret_id.parse().ok().map(Key::Secret));
            let configs = container.configs.iter();
            let configs = configs.filter_map(|grant| grant.config_id.parse().ok().map(Key::Config));
            secrets.chain(configs)
        })
    }
}

impl TaskStatus {
    /// The status of a task that was just made.
    pub fn made(now: Timestamp) -> TaskStatus {
        TaskStatus {
            timestamp: now,
            applied_at: now,
            state: TaskState::New,
            message: "created".into(),
            err: String::new(),
            container: None,
            ports: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_was_stored_before_there_were_attachments_is_read() {
        let stored = serde_json::json!({
            "id": TaskId::derive([1; 17]),
            "meta": Meta::default(),
            "spec": TaskSpec::default(),
            "service_id": ServiceId::derive([2; 17]),
            "service_name": "web",
            "service_labels": {},
            "spec_version": Version::default(),
            "slot": 1,
            "node_id": null,
            "status": TaskStatus::made(Timestamp::ZERO),
            "desired_state": TaskState::Running,
            "endpoint_spec": null,
            "registry_auth": RegistryAuth::default(),
            "not_before": Timestamp::ZERO,
            "restarts": Restarts::default(),
        });
        let task: Task = serde_json::from_value(stored.clone()).expect("it can be read");
        assert_eq!(task.service_id, Some(ServiceId::derive([2; 17])));
        let again = serde_json::to_value(&task).expect("it can be written");
        assert_eq!(again["service_id"], stored["service_id"], "and is written as it was");
        let own = Task { service_id: None, ..task };
        let read = serde_json::to_value(&own).and_then(serde_json::from_value::<Task>);
        assert_eq!(read.expect("it can be read"), own);
    }
}
