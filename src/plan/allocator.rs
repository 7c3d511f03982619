//! The allocator: gives tasks their network resources, new → pending.
//!
//! Tasks have none to be given yet: networks and ports of the routing mesh come with a later
//! release, and will stand here.

use crate::domain::change::Change;
use crate::domain::task::Task;
use crate::domain::task_state::{Mover, TaskState, may_move};
use crate::domain::view::View;

/// What a task that waits for the scheduler says.
pub const PENDING_MESSAGE: &str = "pending task scheduling";

/// The tasks that have all they need.
pub fn plan(view: &View) -> Vec<Change> {
    view.waiting_tasks()
        .filter(|task| may_move(Mover::Allocator, task.status.state, TaskState::Pending))
        .map(|task| {
            let mut task = Task::clone(task);
            task.status.state = TaskState::Pending;
            task.status.message = PENDING_MESSAGE.into();
            task.into()
        })
        .collect()
}
