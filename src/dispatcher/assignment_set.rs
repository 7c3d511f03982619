//! What a node should hold, and the difference to what it holds. Pure: streams are not known here.
//!
//! A node holds its tasks from the moment they are assigned, and it has an address on each of their
//! networks, until they are deleted. It gets a
//! secret or config when a task that is to run there references it, and keeps it until the last
//! task that does has ended.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::change::Key;
use crate::domain::id::{NodeId, TaskId};
use crate::domain::revision::{Owner, number_of};
use crate::domain::task::Task;
use crate::domain::task_state::TaskState;
use crate::domain::view::View;
use crate::wire;

/// What a node holds: what was sent to it in the present stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Tasks, with the desired state that was sent: a task's spec never changes, and nothing else
    /// of it matters to an agent.
    tasks: BTreeMap<TaskId, TaskState>,
    /// Values of secrets and configs.
    grants: BTreeSet<Grant>,
}

/// What a node should hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    tasks: BTreeMap<TaskId, TaskState>,
    /// Secrets and configs of tasks that are to run: sent if the node lacks them.
    grants: BTreeSet<Grant>,
    /// Those of tasks that are told to stop and have not ended: kept if the node has them.
    spared: BTreeSet<Grant>,
}

/// What has to be sent. Secrets and configs that are put come before tasks, those that are removed
/// after.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub put_grants: Vec<Grant>,
    pub put_tasks: Vec<TaskId>,
    pub remove_tasks: Vec<TaskId>,
    pub remove_grants: Vec<Grant>,
}

impl Wanted {
    /// What a node should hold.
    pub(super) fn of(view: &View, node: NodeId) -> Wanted {
        let mut wanted = Wanted::default();
        for task in view.tasks_of_node(node) {
            if task.status.state < TaskState::Assigned || view.is_held_back(task) {
                continue;
            }
            wanted.tasks.insert(task.id, task.desired_state);
            if task.is_live() {
                wanted.grants.extend(grants(view, task));
            } else if !task.status.state.is_terminal() {
                wanted.spared.extend(grants(view, task));
            }
        }
        wanted
    }
}

/// The values that a task was granted and that are still there. One that is gone cannot be sent; the
/// task fails with a clear message.
fn grants<'v>(view: &'v View, task: &'v Task) -> impl Iterator<Item = Grant> + 'v {
    let grants = task.grants().map(|key| Grant::of(view, task, key));
    grants.filter(|grant| grant.place(view).is_some())
}

/// A value on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Grant {
    /// The secret or config.
    pub key: Key,
    /// Which of its values.
    pub number: u64,
    /// The task that it is for alone.
    task: Option<TaskId>,
}

impl Grant {
    /// What a task was granted. An agent knows a secret by its id, and looks first for one that is for
    /// the task alone: so a later value stands beside an earlier one that another task has still. Once
    /// there are several, each task gets its own, the first value too: a container that is started again
    /// by hand, after its task has ended, would find that one under the plain id, and does not. For configs
    /// an agent does not look so; their later values go under ids of their own.
    fn of(view: &View, task: &Task, key: Key) -> Grant {
        let number = number_of(&task.revisions, key.id());
        let is_alone = match key {
            Key::Secret(id) => view.secret(id).is_some_and(|secret| !secret.revisions.is_first()),
            _ => false,
        };
        Grant { key, number, task: is_alone.then_some(task.id) }
    }

    /// The id that the agent knows it by.
    pub(super) fn id(&self) -> String {
        match (self.task, self.number) {
            (Some(task), _) => format!("{}.{task}", self.key.id()),
            (None, 1) => self.key.id().to_owned(),
            (None, number) => wire::reference::revision_id(self.key.id(), number),
        }
    }

    /// Where the value lies; `None` when it is gone.
    pub(super) fn place(&self, view: &View) -> Option<Key> {
        match self.key {
            Key::Secret(id) => view.secret(id)?.revisions.place(Owner::Secret(id), self.number),
            Key::Config(id) => view.config(id)?.revisions.place(Owner::Config(id), self.number),
            _ => None,
        }
    }
}

impl Held {
    /// What has to be sent to a node so that it holds what is wanted.
    pub(super) fn difference(&self, wanted: &Wanted) -> Difference {
        let changed =
            |(id, state): (&TaskId, &TaskState)| (self.tasks.get(id) != Some(state)).then_some(*id);
        let gone = |id: &&TaskId| !wanted.tasks.contains_key(id);
        let given_up = |key: &&Grant| !wanted.grants.contains(key) && !wanted.spared.contains(key);
        Difference {
            put_grants: wanted.grants.difference(&self.grants).copied().collect(),
            put_tasks: wanted.tasks.iter().filter_map(changed).collect(),
            remove_tasks: self.tasks.keys().filter(gone).copied().collect(),
            remove_grants: self.grants.iter().filter(given_up).copied().collect(),
        }
    }

    /// Notes that a secret or config was sent ahead of the rest.
    pub(super) fn note_grant(&mut self, grant: Grant) {
        self.grants.insert(grant);
    }

    /// Notes that the whole difference to what is wanted was sent.
    pub(super) fn note_all(&mut self, wanted: Wanted) {
        self.tasks = wanted.tasks;
        self.grants.retain(|grant| wanted.spared.contains(grant));
        self.grants.extend(wanted.grants);
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
    use crate::dispatcher::fixture::{self, config, config_id, secret, secret_id, task_id};
    use crate::domain::change::Change;
    use crate::domain::id::NetworkId;
    use crate::domain::meta::{Stamp, Version};
    use crate::domain::network::Attachment;
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
        let has = |grants: &Vec<Grant>, key| grants.iter().any(|grant| grant.key == key);
        let secret = |grants: &Vec<Grant>| {
            let grants = grants.clone();
            move |number| has(&grants, Key::Secret(secret_id(number)))
        };
        let config = |grants: &Vec<Grant>| {
            let grants = grants.clone();
            move |number| has(&grants, Key::Config(config_id(number)))
        };
        let task = |ids: &Vec<TaskId>| {
            let ids = ids.clone();
            move |number| ids.contains(&task_id(number))
        };
        let parts = [
            name("+", 's', &secret(&difference.put_grants)),
            name("+", 'c', &config(&difference.put_grants)),
            name("+", 't', &task(&difference.put_tasks)),
            name("-", 't', &task(&difference.remove_tasks)),
            name("-", 's', &secret(&difference.remove_grants)),
            name("-", 'c', &config(&difference.remove_grants)),
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
    fn a_task_that_is_to_complete_has_its_secrets_until_it_ends() {
        for end in [TaskState::Complete, Failed] {
            let mut node = Follower::default();
            let job = |state| task(1, state, TaskState::Complete, &[1]);
            assert_eq!(node.after(&[secret(1), job(Assigned)]), "+s1 +t1");
            assert_eq!(node.after(&[job(Running)]), "");
            assert_eq!(node.after(&[job(end)]), "-s1", "{end}");
        }
    }

    #[test]
    fn a_config_comes_and_goes_as_a_secret_does() {
        let mut node = Follower::default();
        let both = |state, desired| {
            let task = fixture::task(self::node(1), 1, state, desired, &[1]);
            Change::from(fixture::with_configs(task, &[1, 2]))
        };
        assert_eq!(node.after(&[secret(1), config(1), config(3)]), "");
        assert_eq!(node.after(&[both(Assigned, Running)]), "+s1 +c1 +t1", "the other is gone");
        assert_eq!(node.after(&[both(Running, Shutdown)]), "+t1");
        assert_eq!(node.after(&[both(Shutdown, Shutdown)]), "-s1 -c1");
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
        let key = Key::Secret(secret_id(1));
        node.held.note_grant(Grant { key, number: 1, task: None });
        assert_eq!(node.after(&[]), "-s1");
    }

    #[test]
    fn a_task_is_held_back_until_its_node_has_an_address_on_its_network() {
        let mut follower = Follower::default();
        let network = NetworkId::derive([7; 17]);
        let place = |address: &str| Attachment { network, address: address.parse().ok() };
        let on_network = |state, desired| {
            let task = fixture::task(node(1), 1, state, desired, &[1]);
            Change::from(Task { networks: vec![place("10.0.1.2/24")], ..task })
        };
        assert_eq!(follower.after(&[secret(1), on_network(Assigned, Running)]), "");
        assert_eq!(follower.after(&[fixture::node(node(1), vec![]).into()]), "");
        let attached = fixture::node(node(1), vec![place("10.0.1.3/24")]);
        assert_eq!(follower.after(&[attached.into()]), "+s1 +t1");
        assert_eq!(follower.after(&[on_network(Running, Shutdown)]), "+t1");
        let ended = [on_network(Shutdown, Shutdown), fixture::node(node(1), vec![]).into()];
        assert_eq!(follower.after(&ended), "-s1", "the task is there until it is deleted");

        let mut follower = Follower::default();
        assert_eq!(follower.after(&[on_network(Assigned, Running)]), "");
        assert_eq!(follower.after(&[on_network(Assigned, Remove)]), "+t1", "who else would end it");
    }

    #[test]
    fn other_nodes_want_nothing_of_it() {
        let mut one = Follower::default();
        one.after(&[secret(1), task(1, Assigned, Running, &[1])]);
        assert_eq!(Wanted::of(&one.view, node(2)), Wanted::default());
    }
}
