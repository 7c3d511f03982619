//! What nodes say of their tasks. Only forward moves by the owner count, and what changes nothing
//! is not written.

use crate::domain::change::Change;
use crate::domain::intent::TaskReport;
use crate::domain::task::{Task, TaskStatus};
use crate::domain::task_state::{Mover, TaskState, may_move};
use crate::domain::view::View;
use crate::plan::orchestrator::MISPLACED;

pub(super) fn tasks(view: &View, reports: Vec<TaskReport>) -> Vec<Change> {
    // Several reports of one task in a batch: each is judged by what the one before it left.
    let mut latest: std::collections::BTreeMap<_, Task> = std::collections::BTreeMap::new();
    for report in reports {
        let Some(stored) = view.task(report.task) else { continue };
        if stored.node_id != Some(report.node) {
            continue;
        }
        let known = latest.get(&report.task).unwrap_or(stored);
        let moves = may_move(Mover::Agent, known.status.state, report.status.state);
        if moves && says_more(&known.status, &report.status) {
            let mut report = report;
            if report.status.err.is_empty() && known.status.err == MISPLACED {
                // Why it was told to stop is worth more than that it did.
                report.status.err = MISPLACED.into();
            }
            let runs = report.status.state == TaskState::Running;
            let ran_at = known.ran_at.or(runs.then_some(report.status.applied_at));
            latest.insert(report.task, Task { status: report.status, ran_at, ..known.clone() });
        }
    }
    latest.into_values().map(Change::from).collect()
}

fn says_more(known: &TaskStatus, reported: &TaskStatus) -> bool {
    known.state != reported.state
        || known.message != reported.message
        || known.err != reported.err
        || known.container != reported.container
        || known.ports != reported.ports
}
