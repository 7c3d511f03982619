//! What a node should hold, and the difference to what it holds. Pure: streams are not known here.
//!
//! A node holds its tasks from the moment they are assigned until they are deleted. It gets a
//! secret when a task that is to run there references it, and keeps it until the last task that
//! does has ended.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::id::{NodeId, SecretId, TaskId};
use crate::domain::task::Task;
use crate::domain::task_state::TaskState;
use crate::domain::view::View;

/// What a node holds: what was sent to it in the present stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Tasks, with the desired state that was sent: a task's spec never changes, and nothing else
    /// of it matters to an agent.
    tasks: BTreeMap<TaskId, TaskState>,
    secrets: BTreeSet<SecretId>,
}

/// What a node should hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    tasks: BTreeMap<TaskId, TaskState>,
    /// Secrets of tasks that are to run: sent if the node lacks them.
    secrets: BTreeSet<SecretId>,
    /// Secrets of tasks that are told to stop and have not ended: kept if the node has them.
    spared: BTreeSet<SecretId>,
}

/// What has to be sent. Secrets that are put come before tasks, those that are removed after.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub put_secrets: Vec<SecretId>,
    pub put_tasks: Vec<TaskId>,
    pub remove_tasks: Vec<TaskId>,
    pub remove_secrets: Vec<SecretId>,
}

impl Wanted {
    /// What a node should hold.
    pub(super) fn of(view: &View, node: NodeId) -> Wanted {
        let mut wanted = Wanted::default();
        for task in view.tasks_of_node(node) {
            if task.status.state < TaskState::Assigned {
                continue;
            }
            wanted.tasks.insert(task.id, task.desired_state);
            if task.is_live() {
                wanted.secrets.extend(secrets(view, task));
            } else if !task.status.state.is_terminal() {
                wanted.spared.extend(secrets(view, task));
            }
        }
        wanted
    }
}

/// The secrets of a task that are still there. One that is gone cannot be sent; the task fails with
/// a clear message.
fn secrets<'v>(view: &'v View, task: &'v Task) -> impl Iterator<Item = SecretId> + 'v {
    let known = task.secret_ids().filter_map(|id| id.parse().ok());
    known.filter(|id| view.secret(*id).is_some())
}

impl Held {
    /// What has to be sent to a node so that it holds what is wanted.
    pub(super) fn difference(&self, wanted: &Wanted) -> Difference {
        let changed =
            |(id, state): (&TaskId, &TaskState)| (self.tasks.get(id) != Some(state)).then_some(*id);
        let gone = |id: &&TaskId| !wanted.tasks.contains_key(id);
        let given_up = |id: &&SecretId| !wanted.secrets.contains(id) && !wanted.spared.contains(id);
        Difference {
            put_secrets: wanted.secrets.difference(&self.secrets).copied().collect(),
            put_tasks: wanted.tasks.iter().filter_map(changed).collect(),
            remove_tasks: self.tasks.keys().filter(gone).copied().collect(),
            remove_secrets: self.secrets.iter().filter(given_up).copied().collect(),
        }
    }

    /// Notes that a secret was sent ahead of the rest.
    pub(super) fn note_secret(&mut self, id: SecretId) {
        self.secrets.insert(id);
    }

    /// Notes that the whole difference to what is wanted was sent.
    pub(super) fn note_all(&mut self, wanted: Wanted) {
        self.tasks = wanted.tasks;
        self.secrets.retain(|id| wanted.spared.contains(id));
        self.secrets.extend(wanted.secrets);
    }
}

impl Difference {
    pub(super) fn is_empty(&self) -> bool {
        *self == Difference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatcher::fixture::{self, secret, secret_id, task_id};
    use crate::domain::change::{Change, Key};
    use crate::domain::meta::{Stamp, Version};
    use crate::domain::time::Timestamp;
    use TaskState::*;

    fn node(number: u8) -> NodeId {
        NodeId::derive([number; 17])
    }

    /// A task on node 1 that references these secrets.
    fn task(number: u8, state: TaskState, desired_state: TaskState, secrets: &[u8]) -> Change {
        fixture::task(node(1), number, state, desired_state, secrets).into()
    }

    /// A node that follows a cluster.
    #[derive(Default)]
    struct Follower {
        view: View,
        held: Held,
    }

    impl Follower {
        /// Applies changes, and answers what has to be sent: `+s1` puts secret 1, `-t2` removes
        /// task 2.
        fn after(&mut self, changes: &[Change]) -> String {
            let version = Version { index: self.view.version().index + 1 };
            self.view.apply(changes, Stamp { version, now: Timestamp::ZERO });
            let wanted = Wanted::of(&self.view, node(1));
            let difference = self.held.difference(&wanted);
            self.held.note_all(wanted.clone());
            assert!(self.held.difference(&wanted).is_empty(), "it holds what is wanted");
            show(&difference)
        }
    }

    fn show(difference: &Difference) -> String {
        let name = |sign: &str, kind: char, of: &dyn Fn(u8) -> bool| {
            let numbers = (0..10).filter(|number| of(*number));
            numbers.map(|number| format!("{sign}{kind}{number}")).collect::<Vec<_>>()
        };
        let secret = |ids: &Vec<SecretId>| {
            let ids = ids.clone();
            move |number| ids.contains(&secret_id(number))
        };
        let task = |ids: &Vec<TaskId>| {
            let ids = ids.clone();
            move |number| ids.contains(&task_id(number))
        };
        let parts = [
            name("+", 's', &secret(&difference.put_secrets)),
            name("+", 't', &task(&difference.put_tasks)),
            name("-", 't', &task(&difference.remove_tasks)),
            name("-", 's', &secret(&difference.remove_secrets)),
        ];
        parts.concat().join(" ")
    }

    #[test]
    fn a_secret_comes_with_its_first_task_and_goes_with_the_end_of_its_last() {
        let mut node = Follower::default();
        assert_eq!(node.after(&[secret(1), secret(2)]), "", "no task needs them");
        assert_eq!(node.after(&[task(1, Assigned, Running, &[1])]), "+s1 +t1");
        assert_eq!(node.after(&[task(2, Assigned, Running, &[1, 2])]), "+s2 +t2");
        assert_eq!(node.after(&[task(1, Running, Running, &[1])]), "", "nothing it does not know");
        assert_eq!(node.after(&[task(1, Running, Shutdown, &[1])]), "+t1");
        assert_eq!(node.after(&[task(1, Shutdown, Shutdown, &[1])]), "", "the other needs it");
        assert_eq!(node.after(&[task(2, Running, Remove, &[1, 2])]), "+t2", "it still runs");
        assert_eq!(node.after(&[task(2, Failed, Remove, &[1, 2])]), "-s1 -s2");
        assert_eq!(node.after(&[Change::Remove(Key::Task(task_id(2)))]), "-t2");
    }

    #[test]
    fn a_task_that_is_not_to_run_any_more_brings_no_secret() {
        let mut node = Follower::default();
        node.after(&[secret(1)]);
        assert_eq!(node.after(&[task(1, Assigned, Shutdown, &[1])]), "+t1");
        assert_eq!(node.after(&[task(2, Running, Remove, &[1])]), "+t2");
        assert_eq!(node.after(&[task(3, Failed, Running, &[1])]), "+t3");
    }

    #[test]
    fn a_task_is_held_from_its_assignment_on() {
        let mut node = Follower::default();
        assert_eq!(node.after(&[secret(1), task(1, New, Running, &[1])]), "");
        assert_eq!(node.after(&[task(1, Pending, Running, &[1])]), "");
        assert_eq!(node.after(&[task(1, Assigned, Ready, &[1])]), "+s1 +t1", "ready needs it too");
        assert_eq!(node.after(&[task(1, Ready, Running, &[1])]), "+t1");
    }

    #[test]
    fn a_secret_that_is_gone_is_not_wanted() {
        let mut node = Follower::default();
        assert_eq!(node.after(&[secret(1), task(1, Running, Running, &[1])]), "+s1 +t1");
        assert_eq!(node.after(&[Change::Remove(Key::Secret(secret_id(1)))]), "-s1");
        assert_eq!(node.after(&[task(2, Assigned, Running, &[1])]), "+t2");
    }

    #[test]
    fn what_was_sent_ahead_is_taken_back_when_it_is_not_wanted_after_all() {
        let mut node = Follower::default();
        node.after(&[secret(1)]);
        node.held.note_secret(secret_id(1));
        assert_eq!(node.after(&[]), "-s1");
    }

    #[test]
    fn other_nodes_want_nothing_of_it() {
        let mut one = Follower::default();
        one.after(&[secret(1), task(1, Assigned, Running, &[1])]);
        assert_eq!(Wanted::of(&one.view, node(2)), Wanted::default());
    }
}
