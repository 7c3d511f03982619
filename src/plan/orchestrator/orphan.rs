//! Orphaning: what a node holds that was down for so long that nobody counts on it is given up. Its
//! tasks were replaced elsewhere long before, but they kept their secrets in use, their places in the
//! history and the addresses that they had; an orphaned task is over, and is reaped like any other.
//!
//! The time is counted from [`Node::down_since`], which is stored with the node: a restart of the
//! manager neither loses it nor begins it anew. Nobody could be heard of while no manager ran, so
//! whoever was down before a start has at least [`RETURN_TIME`] after it.

use std::sync::Arc;

use crate::domain::change::{Change, Key};
use crate::domain::id::NodeId;
use crate::domain::node::{Node, NodeState};
use crate::domain::task::Task;
use crate::domain::task_state::{Mover, TaskState, may_move};
use crate::domain::time::{Nanoseconds, Timestamp};
use crate::domain::view::View;
use crate::plan::{Context, Planned};

const HOUR: Nanoseconds = 3_600 * 1_000_000_000;

/// How long a node is down until its tasks are given up: 24 hours, as long as other swarms wait.
const ORPHAN_AFTER: Nanoseconds = 24 * HOUR;

/// The least time between the start of a manager and the giving up of what a node holds: 1 hour. An
/// engine that waits for its manager tries again every few seconds, so this is ample.
const RETURN_TIME: Nanoseconds = HOUR;

/// Gives up the tasks of a node that was down for too long; tells when, if it is not yet.
pub fn orphan(view: &View, id: NodeId, ctx: Context<'_>) -> Planned {
    let mut planned = Planned::default();
    let down = view.node(id).filter(|node| node.status.state == NodeState::Down);
    let Some(node) = down else { return planned };
    let moment = down_since(node).plus(ORPHAN_AFTER);
    if moment > ctx.now {
        planned.again.push((moment, Key::Node(id)));
        return planned;
    }
    let message = "Task belonged to a node that was down for too long";
    planned.changes.extend(view.tasks_of_node(id).filter_map(|task| give_up(task, message, ctx)));
    planned
}

/// A task that is over because its node does not count any more; `None` when it is over already.
pub fn give_up(task: &Arc<Task>, message: &str, ctx: Context<'_>) -> Option<Change> {
    may_move(Mover::Reaper, task.status.state, TaskState::Orphaned).then(|| {
        let mut task = Task::clone(task);
        task.status.state = TaskState::Orphaned;
        task.status.message = message.into();
        task.status.timestamp = ctx.now;
        task.status.applied_at = ctx.now;
        task.into()
    })
}

/// A node that is down when a manager starts, with the time that it has left; `None` when it has
/// enough.
pub fn postpone(node: &Node, now: Timestamp) -> Option<Node> {
    let least = now.plus(RETURN_TIME - ORPHAN_AFTER);
    (down_since(node) < least).then(|| Node { down_since: Some(least), ..node.clone() })
}

/// A node that was stored before this was noted is taken to be down since it was last changed.
fn down_since(node: &Node) -> Timestamp {
    node.down_since.unwrap_or(node.meta.updated_at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{Entropy, Stream};
    use crate::domain::meta::Meta;
    use crate::domain::node::{Availability, NodeRole, NodeSpec, NodeStatus};

    struct NoEntropy;
    impl Entropy for NoEntropy {
        fn fill(&self, _: Stream, _: &mut [u8]) {}
    }

    fn hour(hours: Nanoseconds) -> Timestamp {
        Timestamp::from_unix_nanos(i128::from(hours * HOUR))
    }

    fn node(state: NodeState, down_since: Option<Timestamp>) -> Node {
        let (name, labels, addr) = Default::default();
        let (role, availability) = (NodeRole::Worker, Availability::Active);
        Node {
            id: NodeId::derive([1; 17]),
            meta: Meta { updated_at: hour(100), ..Meta::default() },
            spec: NodeSpec { name, labels, role, availability },
            description: None,
            status: NodeStatus { state, message: String::new(), addr },
            down_since,
            manager: None,
            certificate: Default::default(),
            attachments: Vec::new(),
        }
    }

    /// When a node asks to be looked at again.
    fn again(node: Node, now: Timestamp) -> Vec<(Timestamp, Key)> {
        let (id, mut view) = (node.id, View::default());
        view.load(&node.into());
        let planned = orphan(&view, id, Context { now, entropy: &NoEntropy });
        assert!(planned.changes.is_empty(), "it has no tasks");
        planned.again
    }

    #[test]
    fn a_day_is_counted_from_when_the_node_was_lost() {
        let key = Key::Node(NodeId::derive([1; 17]));
        let lost = |at| node(NodeState::Down, at);
        assert_eq!(again(lost(Some(hour(90))), hour(101)), [(hour(114), key)]);
        assert_eq!(again(lost(None), hour(101)), [(hour(124), key)], "stored by an older release");
        assert_eq!(again(lost(Some(hour(90))), hour(114)), [], "its time is over");
        assert_eq!(again(node(NodeState::Ready, None), hour(101)), []);
        assert_eq!(again(node(NodeState::Unknown, None), hour(101)), []);
    }

    #[test]
    fn a_start_leaves_a_lost_node_an_hour() {
        let left = |since, now| {
            let node = postpone(&node(NodeState::Down, Some(hour(since))), hour(now))?;
            node.down_since
        };
        assert_eq!(left(90, 101), None, "it has 13 hours");
        assert_eq!(left(90, 113), None, "just enough");
        assert_eq!(left(90, 114), Some(hour(91)));
        assert_eq!(left(90, 900), Some(hour(877)));
    }
}
