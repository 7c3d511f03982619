//! What an engine holds, as its manager told it.

use std::collections::BTreeMap;

use purser::wire::proto;
use purser::wire::proto::assignment::Item;
use purser::wire::proto::assignment_change::AssignmentAction;
use purser::wire::proto::assignments_message::Type;
use purser::wire::proto::{AssignmentsMessage, Task, TaskState, task_spec};

/// Tasks and secrets of one engine, and whatever was wrong with the messages that told of them.
#[derive(Default)]
pub struct Model {
    pub tasks: BTreeMap<String, Task>,
    /// Payloads by secret.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// The states that this engine reported.
    pub reported: BTreeMap<String, TaskState>,
    /// What a real engine would have stumbled over.
    pub faults: Vec<String>,
    state: Option<String>,
}

impl Model {
    /// Does as an engine does: a complete set replaces everything, secrets come before tasks.
    pub fn apply(&mut self, message: &AssignmentsMessage) {
        match (message.r#type(), &self.state) {
            (Type::Complete, _) => {
                if !message.applies_to.is_empty() {
                    self.faults.push("a complete set that applies to something".into());
                }
                self.tasks.clear();
                self.secrets.clear();
            }
            (Type::Incremental, Some(state)) if *state == message.applies_to => {}
            (Type::Incremental, state) => {
                let state = state.as_deref().unwrap_or("nothing");
                self.faults.push(format!("after {state} came one for {}", message.applies_to));
            }
        }
        self.state = Some(message.results_in.clone());
        let mut put = Vec::new();
        let (tasks, others): (Vec<_>, Vec<_>) =
            message.changes.iter().partition(|change| matches!(item(change), Some(Item::Task(_))));
        for change in others.into_iter().chain(tasks) {
            self.change(change, &mut put);
        }
        self.check(&put);
    }

    fn change(&mut self, change: &proto::AssignmentChange, put: &mut Vec<String>) {
        match (change.action(), item(change)) {
            (AssignmentAction::Update, Some(Item::Secret(secret))) => {
                let data = secret.spec.as_ref().map(|spec| spec.data.clone());
                self.secrets.insert(secret.id.clone(), data.unwrap_or_default());
                put.push(secret.id.clone());
            }
            (AssignmentAction::Remove, Some(Item::Secret(secret))) => {
                if self.secrets.remove(&secret.id).is_none() {
                    self.faults.push(format!("secret {} taken back that was not here", secret.id));
                }
            }
            (AssignmentAction::Update, Some(Item::Task(task))) => {
                if let Some(known) = self.tasks.get(&task.id)
                    && known.desired_state > task.desired_state
                {
                    self.faults.push(format!("the desired state of task {} sank", task.id));
                }
                self.tasks.insert(task.id.clone(), task.clone());
            }
            (AssignmentAction::Remove, Some(Item::Task(task))) => {
                if self.tasks.remove(&task.id).is_none() {
                    self.faults.push(format!("task {} removed that was not here", task.id));
                }
                self.reported.remove(&task.id);
            }
            _ => self.faults.push("a change of nothing".into()),
        }
    }

    /// A task that is to run has its secrets; a secret that was put has a task that is to run.
    fn check(&mut self, put: &[String]) {
        let mut faults = Vec::new();
        for (id, task) in self.tasks.iter().filter(|(id, _)| self.is_live(id)) {
            let lacks = |secret: &&str| {
                let own = format!("{secret}.{id}");
                !self.secrets.contains_key(&own) && !self.secrets.contains_key(*secret)
            };
            for secret in secrets_of(task).filter(lacks) {
                faults.push(format!("task {id} came before its secret {secret}"));
            }
        }
        for secret in put {
            let mut live = self.tasks.iter().filter(|(id, _)| self.is_live(id));
            let is_for = |id: &str, wanted: &str| match secret.split_once('.') {
                Some((secret, task)) => (secret, task) == (wanted, id),
                None => secret == wanted,
            };
            if !live.any(|(id, task)| secrets_of(task).any(|wanted| is_for(id, wanted))) {
                faults.push(format!("secret {secret} came without a task that needs it"));
            }
        }
        self.faults.extend(faults);
    }

    /// The furthest that is known of a task's state.
    pub fn state_of(&self, id: &str) -> TaskState {
        let told = self.tasks.get(id).and_then(|task| task.status.as_ref());
        let told = told.map_or(TaskState::New, proto::TaskStatus::state);
        let reported = self.reported.get(id).copied().unwrap_or(TaskState::New);
        if (reported as i32) < told as i32 { told } else { reported }
    }

    fn is_live(&self, id: &str) -> bool {
        let wanted = self.tasks[id].desired_state <= TaskState::Complete as i32;
        wanted && self.state_of(id) as i32 <= TaskState::Running as i32
    }

    /// What an engine would report next: what it was told to do, done.
    pub fn due(&self) -> Vec<(String, TaskState)> {
        let due = self.tasks.iter().filter_map(|(id, task)| {
            let known = self.state_of(id);
            let next = match task.desired_state() {
                wanted @ (TaskState::Ready | TaskState::Running | TaskState::Complete) => wanted,
                _ => TaskState::Shutdown,
            };
            let is_over = known as i32 > TaskState::Running as i32;
            (!is_over && (known as i32) < next as i32).then(|| (id.clone(), next))
        });
        due.collect()
    }

    /// The tasks of a service, by name.
    pub fn tasks_of(&self, service: &str) -> Vec<&Task> {
        let named = |task: &&Task| {
            task.service_annotations.as_ref().is_some_and(|named| named.name == service)
        };
        self.tasks.values().filter(named).collect()
    }
}

fn item(change: &proto::AssignmentChange) -> Option<&Item> {
    change.assignment.as_ref()?.item.as_ref()
}

/// The secrets that a task's container mounts.
pub fn secrets_of(task: &Task) -> impl Iterator<Item = &str> {
    let runtime = task.spec.as_ref().and_then(|spec| spec.runtime.as_ref());
    let secrets = match runtime {
        Some(task_spec::Runtime::Container(container)) => &container.secrets[..],
        _ => &[],
    };
    secrets.iter().map(|reference| reference.secret_id.as_str())
}
