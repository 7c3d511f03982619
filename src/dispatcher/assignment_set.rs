//! What a node should hold, and the difference to what it holds. Pure: streams are not known here.
//!
//! A node holds its tasks from the moment they are assigned until they are deleted, and a secret as
//! long as one of those tasks that has not ended references it.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::id::{NodeId, SecretId, TaskId};
use crate::domain::task::Task;
use crate::domain::task_state::TaskState;
use crate::domain::view::View;

/// What a node holds, or should hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct AssignmentSet {
    /// Tasks, with the desired state that was sent: a task's spec never changes, and nothing else
    /// of it matters to an agent.
    tasks: BTreeMap<TaskId, TaskState>,
    secrets: BTreeSet<SecretId>,
}

/// What has to be sent. Secrets that are put come before tasks, those that are removed after.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub put_secrets: Vec<SecretId>,
    pub put_tasks: Vec<TaskId>,
    pub remove_tasks: Vec<TaskId>,
    pub remove_secrets: Vec<SecretId>,
}

impl AssignmentSet {
    /// What a node should hold.
    pub(super) fn wanted(view: &View, node: NodeId) -> AssignmentSet {
        let mut set = AssignmentSet::default();
        for task in view.tasks_of_node(node) {
            if task.status.state < TaskState::Assigned {
                continue;
            }
            set.tasks.insert(task.id, task.desired_state);
            if needs_secrets(task) {
                let known = task.secret_ids().filter_map(|id| id.parse().ok());
                // One that is gone cannot be sent; the task fails with a clear message.
                set.secrets.extend(known.filter(|id| view.secret(*id).is_some()));
            }
        }
        set
    }

    /// What has to be sent to a node that holds `self` so that it holds `wanted`.
    pub(super) fn difference(&self, wanted: &AssignmentSet) -> Difference {
        let changed =
            |(id, state): (&TaskId, &TaskState)| (self.tasks.get(id) != Some(state)).then_some(*id);
        Difference {
            put_secrets: wanted.secrets.difference(&self.secrets).copied().collect(),
            put_tasks: wanted.tasks.iter().filter_map(changed).collect(),
            remove_tasks: self
                .tasks
                .keys()
                .filter(|id| !wanted.tasks.contains_key(id))
                .copied()
                .collect(),
            remove_secrets: self.secrets.difference(&wanted.secrets).copied().collect(),
        }
    }
}

impl Difference {
    pub(super) fn is_empty(&self) -> bool {
        *self == Difference::default()
    }
}

/// A task that has ended needs nothing any more.
fn needs_secrets(task: &Task) -> bool {
    !task.status.state.is_terminal()
}
