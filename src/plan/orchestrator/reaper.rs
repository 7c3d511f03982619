//! The reaper: deletes tasks that are over, and the history that is more than the cluster keeps.

use std::collections::BTreeMap;

use super::slot::SlotKey;
use crate::domain::change::{Change, Key};
use crate::domain::cluster::TASK_HISTORY_DEFAULT;
use crate::domain::id::ServiceId;
use crate::domain::service::ModeKind;
use crate::domain::task::Task;
use crate::domain::task_state::TaskState;
use crate::domain::view::View;

/// The tasks of a service that should be deleted.
pub fn reap(view: &View, id: ServiceId) -> Vec<Change> {
    let limit = view.cluster().map_or_else(
        || usize::try_from(TASK_HISTORY_DEFAULT).unwrap_or(usize::MAX),
        |cluster| cluster.spec.task_history_limit(),
    );
    let mut reaped = Vec::new();
    let mut history: BTreeMap<_, Vec<&Task>> = BTreeMap::new();
    // The tasks of a service that is gone have no history.
    let service = view.service(id);
    let mode = service.map_or(ModeKind::Global, |service| service.spec.mode.kind());
    for task in view.tasks_of_service(id) {
        if is_forgettable(view, mode, task) {
            reaped.push(Change::Remove(Key::Task(task.id)));
        } else {
            history.entry(SlotKey::of(mode, task)).or_default().push(task);
        }
    }
    // What completed in the present run of a job says that its slot has nothing left to do.
    let counts = |task: &Task| service.is_some_and(|service| service.is_done_by(task));
    for mut tasks in history.into_values() {
        tasks.sort_by_key(|task| std::cmp::Reverse((task.meta.created_at, task.id)));
        // The newest stays whatever the limit: it says whether its slot is to be filled again.
        let old = tasks
            .into_iter()
            .skip(limit.max(1))
            .filter(|task| is_over(view, task) && !counts(task));
        reaped.extend(old.map(|task| Change::Remove(Key::Task(task.id))));
    }
    reaped
}

/// True for a task that is not wanted any more and was never on a node, or has ended there. The
/// slot of a global service or job is its node, so its history goes when the node does.
fn is_forgettable(view: &View, mode: ModeKind, task: &Task) -> bool {
    let node_gone = task.node_id.is_some_and(|id| view.node(id).is_none());
    let slot_gone = mode.is_by_node() && node_gone;
    match task.desired_state {
        TaskState::Remove => is_over(view, task),
        TaskState::Shutdown => task.status.state < TaskState::Assigned || slot_gone,
        TaskState::Complete => !task.is_wanted() && slot_gone,
        _ => false,
    }
}

fn is_over(view: &View, task: &Task) -> bool {
    let node_gone = task.node_id.is_none_or(|id| view.node(id).is_none());
    let never_sent = task.status.state < TaskState::Assigned;
    !task.is_wanted() && (task.status.state.is_terminal() || never_sent || node_gone)
}
