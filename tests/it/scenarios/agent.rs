//! The agents of the nodes, simulated. What a task does is told by the name of its image:
//!
//! | image holds | its task |
//! |---|---|
//! | `slow` | takes 20 s to be ready |
//! | `absent` | is rejected, for its image is not to be found |
//! | `sick` | never gets beyond starting |
//! | `crash` | fails when it has run for 1 s |
//! | `once` | completes when it has run for 1 s |
//! | `ill` | is said to run, and 50 ms later to have completed |
//! | `flaky` | fails as `crash` the first time in an odd slot, and else completes as `once` |
//! | `lingers` | takes 5 s to stop |
//!
//! Everything else takes no time and runs until it is told to stop.

use std::collections::BTreeMap;

use purser::domain::container::ContainerSpec;
use purser::domain::id::NodeId;
use purser::domain::intent::{Intent, TaskReport};
use purser::domain::node::NodeDescription;
use purser::domain::task::{ContainerStatus, Task, TaskStatus};
use purser::domain::task_state::TaskState;
use purser::domain::time::{Nanoseconds, Timestamp};
use purser::domain::view::View;

const SECOND: Nanoseconds = 1_000_000_000;

#[derive(Clone)]
pub struct Agent {
    pub id: NodeId,
    /// In a session with the manager.
    pub is_up: bool,
    /// In a session, but its engine does not answer.
    pub hangs: bool,
    pub description: NodeDescription,
    pub addr: String,
}

impl Agent {
    pub fn register(&self) -> Intent {
        Intent::RegisterNode {
            id: self.id,
            description: Box::new(self.description.clone()),
            addr: self.addr.clone(),
            is_fresh: false,
        }
    }
}

/// What all agents have to say at this moment.
pub fn reports(view: &View, agents: &BTreeMap<String, Agent>, now: Timestamp) -> Vec<TaskReport> {
    let due = steps(view, agents).filter(|(_, step)| step.at <= now);
    due.flat_map(|(task, step)| {
        let (first, last) = step.states;
        let states = STATES.iter().filter(move |state| (first..=last).contains(*state));
        states.map(move |state| report(&task, *state, step.err, now))
    })
    .collect()
}

/// The next moment at which an agent has something to say.
pub fn next_moment(
    view: &View,
    agents: &BTreeMap<String, Agent>,
    now: Timestamp,
) -> Option<Timestamp> {
    steps(view, agents).map(|(_, step)| step.at).filter(|at| *at > now).min()
}

/// What an agent says of a task that it has been given.
pub fn report(task: &Task, state: TaskState, err: &str, now: Timestamp) -> TaskReport {
    let node = task.node_id.expect("a task that an agent knows is on its node");
    let message = match state {
        TaskState::Ready => "prepared",
        TaskState::Running => "started",
        TaskState::Complete => "finished",
        TaskState::Rejected => "preparing",
        TaskState::Failed => &task.status.message,
        state => state.as_str(),
    };
    let has_container = (TaskState::Starting..=TaskState::Failed).contains(&state);
    let status = TaskStatus {
        timestamp: now,
        applied_at: now,
        state,
        message: message.into(),
        err: err.into(),
        container: has_container.then(ContainerStatus::default),
        ports: Vec::new(),
    };
    TaskReport { node, task: task.id, status }
}

/// The states that agents report, those in between among them.
const STATES: [TaskState; 9] = [
    TaskState::Accepted,
    TaskState::Preparing,
    TaskState::Ready,
    TaskState::Starting,
    TaskState::Running,
    TaskState::Complete,
    TaskState::Shutdown,
    TaskState::Failed,
    TaskState::Rejected,
];

struct Step {
    at: Timestamp,
    /// From the first to the last.
    states: (TaskState, TaskState),
    err: &'static str,
}

fn steps<'v>(
    view: &'v View,
    agents: &'v BTreeMap<String, Agent>,
) -> impl Iterator<Item = (std::sync::Arc<Task>, Step)> + 'v {
    let at_work = agents.values().filter(|agent| agent.is_up && !agent.hangs);
    at_work
        .flat_map(|agent| view.tasks_of_node(agent.id))
        .filter(|task| !view.is_held_back(task))
        .filter_map(|task| Some((task.clone(), step(task)?)))
}

fn step(task: &Task) -> Option<Step> {
    use TaskState::*;
    let image = task.spec.container_spec.as_ref().map_or("", |ContainerSpec { image, .. }| image);
    let (state, since) = (task.status.state, task.status.applied_at);
    let at = |time, states, err| Some(Step { at: since.plus(time), states, err });
    let after = |seconds, states, err| at(seconds * SECOND, states, err);
    if state < Assigned || state.is_terminal() {
        return None;
    }
    if !task.is_wanted() {
        let seconds = if image.contains("lingers") && state >= Starting { 5 } else { 0 };
        let at = task.meta.updated_at.plus(seconds * SECOND);
        return Some(Step { at, states: (Shutdown, Shutdown), err: "" });
    }
    match state {
        Assigned => after(0, (Accepted, Preparing), ""),
        Accepted | Preparing if image.contains("absent") => {
            after(0, (Rejected, Rejected), "No such image: absent")
        }
        Accepted | Preparing => {
            after(if image.contains("slow") { 20 } else { 0 }, (Ready, Ready), "")
        }
        Ready if task.desired_state < Running => None,
        Ready if image.contains("sick") => after(0, (Starting, Starting), ""),
        Ready => after(0, (Starting, Running), ""),
        Running if image.contains("flaky") && task.slot % 2 == 1 && task.restarts.count == 0 => {
            after(1, (Failed, Failed), "task: non-zero exit (1)")
        }
        Running if image.contains("flaky") => after(1, (Complete, Complete), ""),
        Running if image.contains("crash") => after(1, (Failed, Failed), "task: non-zero exit (1)"),
        Running if image.contains("ill") => at(SECOND / 20, (Complete, Complete), ""),
        Running if image.contains("once") => after(1, (Complete, Complete), ""),
        _ => None,
    }
}
