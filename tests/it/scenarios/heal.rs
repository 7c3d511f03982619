//! Healing: the faults stop, and whatever came before, every service has to run as it is meant to.

use purser::domain::service::{ModeKind, Service, UpdateState};
use purser::domain::task_state::TaskState;
use purser::domain::view::View;

use super::check::slots_of;
use super::world::World;

pub const NODES: [&str; 4] = ["n1", "n2", "n3", "n4"];

/// Every node works, every service has an image that runs and no more tasks than there are nodes,
/// and there is time.
pub fn lines(script: &[String]) -> [String; 3] {
    let nodes = NODES
        .map(|name| format!("node {name} ; up {name} ; activate {name} ; label {name} zone=a"));
    let order = if is_crowded(script) { "stop-first" } else { "start-first" };
    [
        nodes.join(" ; "),
        format!(
            "update web image=app:9 replicas=4 order={order} ; \
             update db image=app:9 replicas=4 order={order} ; update log image=app:9 ; \
             update sum image=once:9 completions=6 concurrent=2 ; update scan image=once:9"
        ),
        "advance 30m".to_owned(),
    ]
}

/// True for a script after which a node may have room for only one task of a service, so that none
/// can start beside the one that is to be replaced.
fn is_crowded(script: &[String]) -> bool {
    script.iter().any(|line| line.contains("port=") || line.contains("max-per-node="))
}

/// What has not healed.
pub fn unwell(world: &World) -> Vec<String> {
    let view = &world.view;
    let mut found = Vec::new();
    for service in view.services() {
        if service.job_status.is_some() {
            found.extend(unfinished(view, service));
            continue;
        }
        let running = view.tasks_of_service(service.id).filter(|task| {
            let is_new = task.spec == service.spec.task_template;
            is_new && task.is_wanted() && task.status.state == TaskState::Running
        });
        let wanted = match service.spec.mode.kind() {
            ModeKind::Replicated(replicas) => usize::try_from(replicas).unwrap_or(usize::MAX),
            _ => NODES.len(),
        };
        if running.count() != wanted {
            found.push(format!("{} does not have all its tasks", service.spec.name));
        }
        let state = service.update_status.as_ref().map(|status| status.state);
        if !matches!(state, None | Some(UpdateState::Completed)) {
            found.push(format!("{} is still being updated", service.spec.name));
        }
    }
    let stopping =
        view.tasks().filter(|task| !task.is_wanted() && !task.status.state.is_terminal());
    found.extend(stopping.map(|task| format!("{} has not stopped", task.name())));
    let is_left = |id| view.service(id).is_none();
    let kept = view.tasks().filter(|task| task.service_id.is_some_and(is_left));
    found.extend(kept.map(|task| format!("{} is kept without its service", task.name())));
    found
}

/// What is left to do of a job.
fn unfinished(view: &View, service: &Service) -> Option<String> {
    let done = slots_of(view, service, |task| service.is_done_by(task)).len();
    let total = match service.spec.mode.kind() {
        ModeKind::ReplicatedJob { .. } => 6,
        _ => NODES.len(),
    };
    let wants = view.tasks_of_service(service.id).filter(|task| task.is_wanted()).count();
    let name = &service.spec.name;
    let what = format!("{name} completed {done} of {total} and wants {wants} tasks more");
    (done != total || wants > 0).then_some(what)
}

pub fn tables(world: &World) -> String {
    let table = |what| world.show(what, None).unwrap_or_default();
    [table("services"), table("nodes"), table("tasks")].concat()
}
