//! `explain`: in one screen, why a service or task has a secret, or has it not.

use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use super::IN_THE_WAY;
use super::ask::{Ask, Consumer, Secret, UpdateStatus, current, part};

/// Lines that are printed at most, so that they are one screen.
const LINES_MAX: usize = 20;

/// Options of `explain`.
#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    /// Name of the secret
    name: String,
    /// Name or id of the service, or id of the task
    subject: String,
}

/// One thing that has to be so.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
struct Finding {
    /// Whether it is.
    fine: bool,
    /// What is so.
    told: String,
}

/// What was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    has: bool,
    findings: Vec<Finding>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(rename = "ID")]
    id: String,
    spec: ServiceSpec,
    #[serde(default)]
    update_status: UpdateStatus,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ServiceSpec {
    name: String,
    task_template: TaskSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct TaskSpec {
    container_spec: ContainerSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ContainerSpec {
    secrets: Vec<Grant>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Grant {
    #[serde(rename = "SecretID")]
    secret_id: String,
    file: Option<File>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct File {
    name: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Task {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "ServiceID", default)]
    service_id: String,
    #[serde(rename = "NodeID", default)]
    node_id: String,
    status: TaskStatus,
    desired_state: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TaskStatus {
    state: String,
    message: String,
    #[serde(default)]
    err: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    status: NodeStatus,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NodeStatus {
    state: String,
    #[serde(default)]
    message: String,
}

fn fine(told: String) -> Finding {
    Finding { fine: true, told }
}

fn wrong(told: String) -> Finding {
    Finding { fine: false, told }
}

impl Explain {
    pub(super) fn run(&self, ask: &Ask<'_>) -> anyhow::Result<ExitCode> {
        let findings = self.findings(ask)?;
        let has = findings.iter().all(|finding| finding.fine);
        let answer = Answer { has, findings };
        ask.print(&answer, || {
            let mark = |finding: &Finding| if finding.fine { "ok " } else { "-- " };
            // One screen: what is wrong comes before what is fine.
            let (fine, wrong): (Vec<_>, Vec<_>) = answer.findings.iter().partition(|f| f.fine);
            let left = LINES_MAX.saturating_sub(wrong.len());
            let shown = fine.iter().take(left).chain(wrong.iter().take(LINES_MAX));
            let mut text: String =
                shown.map(|finding| format!("{} {}\n", mark(finding), finding.told)).collect();
            let count = answer.findings.len();
            if count > LINES_MAX {
                text += &format!("and more: {count} findings in all\n");
            }
            text
        })?;
        Ok(if has { ExitCode::SUCCESS } else { ExitCode::from(IN_THE_WAY) })
    }

    fn findings(&self, ask: &Ask<'_>) -> anyhow::Result<Vec<Finding>> {
        let (name, subject) = (&self.name, &self.subject);
        let found: Option<Secret> = ask.find(&format!("/secrets/{}", part(name)))?;
        let Some(secret) = found else {
            return Ok(vec![wrong(format!("there is no secret {name}"))]);
        };
        let newest = current(&ask.versions(&secret.id)?);
        let mut findings = vec![fine(format!("secret {name}, current version {newest}"))];
        let service_at = |wanted: &str| -> anyhow::Result<Option<Service>> {
            ask.find(&format!("/services/{}", part(wanted)))
        };
        let (mut task, mut service) = (None, service_at(subject)?);
        if service.is_none() {
            let found: Option<Task> = ask.find(&format!("/tasks/{}", part(subject)))?;
            service =
                found.as_ref().map(|task| service_at(&task.service_id)).transpose()?.flatten();
            task = found;
        }
        let Some(service) = service else {
            findings.push(wrong(format!("there is no service or task {subject}")));
            return Ok(findings);
        };
        let is_granted = grant(&secret, &service, &mut findings);
        let consumers = ask.consumers(&secret.id)?;
        let consumer = consumers.iter().find(|consumer| consumer.service_id == service.id);
        if is_granted && let Some(consumer) = consumer {
            findings.push(version(consumer, &service.update_status, newest));
        }
        let tasks = match task {
            Some(task) => vec![task],
            None => tasks_of(ask, &service.spec.name)?,
        };
        if tasks.is_empty() {
            findings.push(wrong("no task of it is meant to run".to_owned()));
        }
        for task in &tasks {
            findings.push(of_task(task, consumer));
            if let Some(finding) = of_node(ask, task)? {
                findings.push(finding);
            }
        }
        Ok(findings)
    }
}

fn tasks_of(ask: &Ask<'_>, service: &str) -> anyhow::Result<Vec<Task>> {
    let filters = serde_json::json!({"service": [service], "desired-state": ["running"]});
    ask.get(&format!("/tasks?filters={}", part(&filters.to_string())))
}

/// Whether the service is granted the secret, and where its containers have it.
fn grant(secret: &Secret, service: &Service, findings: &mut Vec<Finding>) -> bool {
    let (name, of) = (&secret.spec.name, &service.spec.name);
    let grants = &service.spec.task_template.container_spec.secrets;
    let mut own = grants.iter().filter(|grant| grant.secret_id == secret.id).peekable();
    if own.peek().is_none() {
        let how = format!("docker service update --secret-add {name} {of}");
        findings.push(wrong(format!("service {of} is not granted it; {how}")));
        return false;
    }
    for grant in own {
        let path = grant.file.as_ref().map_or(name.as_str(), |file| &file.name);
        let path =
            if path.starts_with('/') { path.to_owned() } else { format!("/run/secrets/{path}") };
        findings.push(fine(format!("service {of} is granted it, as {path}")));
    }
    true
}

/// Which version the service should have, and why it is no newer one.
fn version(consumer: &Consumer, status: &UpdateStatus, newest: u64) -> Finding {
    let wanted = consumer.wanted.unwrap_or(newest);
    let of = &consumer.service_name;
    if wanted == newest {
        return fine(format!("service {of} takes the current version, {newest}"));
    }
    match consumer.follows.as_deref() {
        Some("manual") => fine(format!(
            "service {of} keeps version {wanted} until its next update (purser.rotate=manual)"
        )),
        Some("pinned") => fine(format!("service {of} is kept to version {wanted} by a label")),
        Some("job") => fine(format!("service {of} is a job; its run has version {wanted}")),
        _ => {
            let UpdateStatus { state, message } = status;
            wrong(format!("service {of} has version {wanted}, not {newest}: {state}: {message}"))
        }
    }
}

fn of_task(task: &Task, consumer: Option<&Consumer>) -> Finding {
    let TaskStatus { state, message, err } = &task.status;
    let err = if err.is_empty() { String::new() } else { format!(": {err}") };
    let holders = consumer.into_iter().flat_map(|consumer| &consumer.tasks);
    let holder = holders.into_iter().find(|holder| holder.id == task.id);
    let id = &task.id;
    match holder {
        Some(holder) if state == "running" => {
            fine(format!("task {id} runs with version {}", holder.version))
        }
        Some(holder) => {
            let version = holder.version;
            wrong(format!("task {id} is to have version {version}, and is {state}: {message}{err}"))
        }
        None if matches!(task.desired_state.as_str(), "shutdown" | "remove") => wrong(format!(
            "task {id} is over ({state}: {message}{err}), and secrets end with tasks"
        )),
        None => wrong(format!(
            "task {id} was made without it ({state}): what a task is given is fixed when it is made"
        )),
    }
}

/// What is wrong with the node that a task is on.
fn of_node(ask: &Ask<'_>, task: &Task) -> anyhow::Result<Option<Finding>> {
    if task.node_id.is_empty() {
        return Ok(None);
    }
    let id = &task.node_id;
    let node: Option<Node> = ask.find(&format!("/nodes/{}", part(id)))?;
    let Some(Node { status: NodeStatus { state, message } }) = node else {
        return Ok(Some(wrong(format!("its node {id} is gone"))));
    };
    let is_ready = state == "ready";
    Ok((!is_ready).then(|| wrong(format!("its node {id} is {state}: {message}"))))
}
