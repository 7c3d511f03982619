//! Tasks as they are handed to a node, and what the node reports of them.

use super::common::{annotations, driver, generic, meta, platform, resources, text, version};
use super::container::container;
use super::endpoint::{attachment, endpoint, port, port_from};
use super::network::attachments;
use super::proto;
use super::proto::task_spec::Runtime;
use super::proto::task_status::RuntimeStatus;
use super::time::{duration, timestamp, timestamp_from};
use crate::domain::revision::Numbers;
use crate::domain::service::{
    Limit, Placement, PlacementPreference, RESTART_DELAY_DEFAULT, RegistryAuth,
    ResourceRequirements, RestartCondition, RestartPolicy, TaskSpec,
};
use crate::domain::task::{ContainerStatus, Task, TaskStatus};
use crate::domain::task_state::TaskState;
use crate::domain::time::Timestamp;
use crate::domain::view::View;

/// Bytes of a status text that a node reports: 4 KiB. Texts of engines are a line or two; every
/// status is stored, and kept with the history of its task.
pub const STATUS_TEXT_LEN_MAX: usize = 4096;

/// Characters of a container id: 64 hexadecimal digits.
const CONTAINER_ID_LEN_MAX: usize = 64;

/// Ports in a status that are kept. A task with more of them works as well; only what people are
/// shown ends there.
const STATUS_PORTS_MAX: usize = 256;

/// The message of a task, whole. An engine reads the spec of a task once; later only a desired
/// state that has grown matters.
pub fn task(task: &Task, view: &View) -> proto::Task {
    proto::Task {
        id: task.id.to_string(),
        meta: Some(meta(&task.meta)),
        spec: Some(spec(&task.spec, &task.registry_auth, &task.revisions)),
        service_id: task.service_id.map(|id| id.to_string()).unwrap_or_default(),
        slot: task.slot,
        node_id: task.node_id.map(|id| id.to_string()).unwrap_or_default(),
        // Labels here would become labels of the container; those stand in its own spec.
        annotations: Some(annotations(&task.name(), &Default::default())),
        service_annotations: Some(annotations(&task.service_name, &task.service_labels)),
        status: Some(stored_status(&task.status)),
        desired_state: state(task.desired_state).into(),
        networks: attachments(view, &task.networks, &task.spec.networks),
        endpoint: endpoint(task.endpoint_spec.as_ref(), task.endpoint.as_deref()),
        log_driver: task.spec.log_driver.as_ref().map(driver),
        spec_version: Some(version(task.spec_version)),
        assigned_generic_resources: task.generic_resources.iter().filter_map(generic).collect(),
        job_iteration: task.job_iteration.map(version),
        volumes: Vec::new(),
    }
}

fn spec(spec: &TaskSpec, registry_auth: &RegistryAuth, revisions: &Numbers) -> proto::TaskSpec {
    let limits = spec.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    let pids_limit = limits.map_or(0, |limits| limits.pids);
    let attached = spec.network_attachment_spec.as_ref().map(|spec| {
        let container_id = spec.container_id.clone();
        Runtime::Attachment(proto::NetworkAttachmentSpec { container_id })
    });
    let runtime = attached.or(spec.container_spec.as_ref().map(|spec| {
        let mut container = container(spec, pids_limit, registry_auth);
        super::reference::choose(&mut container, revisions);
        Runtime::Container(container)
    }));
    proto::TaskSpec {
        resources: spec.resources.as_ref().map(requirements),
        restart: Some(restart(spec.restart_policy.as_ref())),
        placement: spec.placement.as_ref().map(placement),
        log_driver: spec.log_driver.as_ref().map(driver),
        networks: spec.networks.iter().map(attachment).collect(),
        force_update: spec.force_update,
        resource_references: Vec::new(),
        runtime,
    }
}

fn requirements(requirements: &ResourceRequirements) -> proto::ResourceRequirements {
    proto::ResourceRequirements {
        limits: requirements.limits.as_ref().map(limits),
        reservations: requirements.reservations.as_ref().map(resources),
        swap_bytes: requirements.swap_bytes,
        memory_swappiness: requirements.memory_swappiness,
    }
}

/// Limits but for that of processes, which the protocol keeps with the container.
fn limits(limit: &Limit) -> proto::Resources {
    proto::Resources {
        nano_cpus: limit.nano_cpus,
        memory_bytes: limit.memory_bytes,
        generic: Vec::new(),
    }
}

/// The restart policy with its defaults. Engines restart nothing and only keep it, but a zero would
/// say "never".
fn restart(policy: Option<&RestartPolicy>) -> proto::RestartPolicy {
    use proto::restart_policy::RestartCondition as Twin;
    let policy = policy.cloned().unwrap_or_default();
    let condition = match policy.condition {
        RestartCondition::None => Twin::None,
        RestartCondition::OnFailure => Twin::OnFailure,
        RestartCondition::Any => Twin::Any,
    };
    proto::RestartPolicy {
        condition: condition.into(),
        delay: Some(duration(policy.delay.unwrap_or(RESTART_DELAY_DEFAULT))),
        max_attempts: policy.max_attempts,
        window: policy.window.map(duration),
    }
}

fn placement(placement: &Placement) -> proto::Placement {
    proto::Placement {
        constraints: placement.constraints.clone(),
        preferences: placement.preferences.iter().filter_map(preference).collect(),
        platforms: placement.platforms.iter().map(platform).collect(),
        max_replicas: placement.max_replicas,
    }
}

fn preference(preference: &PlacementPreference) -> Option<proto::PlacementPreference> {
    let spread_descriptor = preference.spread.as_ref()?.spread_descriptor.clone();
    let spread = proto::SpreadOver { spread_descriptor };
    let preference = proto::placement_preference::Preference::Spread(spread);
    Some(proto::PlacementPreference { preference: Some(preference) })
}

/// The status of a task as it is stored. An engine that has never seen the task starts from it.
fn stored_status(status: &TaskStatus) -> proto::TaskStatus {
    let container = status.container.as_ref().map(|container| {
        RuntimeStatus::Container(proto::ContainerStatus {
            container_id: container.container_id.clone(),
            pid: container.pid,
            exit_code: container.exit_code,
        })
    });
    let ports: Vec<_> = status.ports.iter().map(port).collect();
    proto::TaskStatus {
        timestamp: Some(timestamp(status.timestamp)),
        state: state(status.state).into(),
        message: status.message.clone(),
        err: status.err.clone(),
        port_status: (!ports.is_empty()).then_some(proto::PortStatus { ports }),
        applied_by: String::new(),
        applied_at: Some(timestamp(status.applied_at)),
        runtime_status: container,
    }
}

/// What a node reports of a task, as of `applied_at` by the manager's clock; absent when the state
/// is none that exists. Everything in it is bounded. Whether the node may report this of that task
/// is for the caller to decide.
pub fn status(reported: &proto::TaskStatus, applied_at: Timestamp) -> Option<TaskStatus> {
    let container = reported.runtime_status.as_ref().map(|RuntimeStatus::Container(container)| {
        ContainerStatus {
            container_id: text(&container.container_id, CONTAINER_ID_LEN_MAX),
            pid: container.pid,
            exit_code: container.exit_code,
        }
    });
    let ports = reported.port_status.as_ref().map_or(&[][..], |status| &status.ports);
    Some(TaskStatus {
        timestamp: reported.timestamp.map_or(applied_at, timestamp_from),
        applied_at,
        state: state_from(reported.state)?,
        message: text(&reported.message, STATUS_TEXT_LEN_MAX),
        err: text(&reported.err, STATUS_TEXT_LEN_MAX),
        container,
        ports: ports.iter().filter_map(port_from).take(STATUS_PORTS_MAX).collect(),
    })
}

/// The twin of a state. `Allocated` has none; it goes as the state that follows it.
pub fn state(state: TaskState) -> proto::TaskState {
    match state {
        TaskState::New => proto::TaskState::New,
        TaskState::Allocated | TaskState::Pending => proto::TaskState::Pending,
        TaskState::Assigned => proto::TaskState::Assigned,
        TaskState::Accepted => proto::TaskState::Accepted,
        TaskState::Preparing => proto::TaskState::Preparing,
        TaskState::Ready => proto::TaskState::Ready,
        TaskState::Starting => proto::TaskState::Starting,
        TaskState::Running => proto::TaskState::Running,
        TaskState::Complete => proto::TaskState::Complete,
        TaskState::Shutdown => proto::TaskState::Shutdown,
        TaskState::Failed => proto::TaskState::Failed,
        TaskState::Rejected => proto::TaskState::Rejected,
        TaskState::Remove => proto::TaskState::Remove,
        TaskState::Orphaned => proto::TaskState::Orphaned,
    }
}

/// The state of this number; absent when there is none.
pub fn state_from(number: i32) -> Option<TaskState> {
    Some(match proto::TaskState::try_from(number).ok()? {
        proto::TaskState::New => TaskState::New,
        proto::TaskState::Pending => TaskState::Pending,
        proto::TaskState::Assigned => TaskState::Assigned,
        proto::TaskState::Accepted => TaskState::Accepted,
        proto::TaskState::Preparing => TaskState::Preparing,
        proto::TaskState::Ready => TaskState::Ready,
        proto::TaskState::Starting => TaskState::Starting,
        proto::TaskState::Running => TaskState::Running,
        proto::TaskState::Complete => TaskState::Complete,
        proto::TaskState::Shutdown => TaskState::Shutdown,
        proto::TaskState::Failed => TaskState::Failed,
        proto::TaskState::Rejected => TaskState::Rejected,
        proto::TaskState::Remove => TaskState::Remove,
        proto::TaskState::Orphaned => TaskState::Orphaned,
    })
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::wire::fixture;

    /// The message of a task as the engine reads it.
    fn read(stored: &Task) -> proto::Task {
        proto::Task::decode(&*task(stored, &fixture::view()).encode_to_vec())
            .expect("what is encoded can be read")
    }

    #[test]
    fn a_task_has_all_that_an_engine_needs() {
        let stored = fixture::task();
        let message = read(&stored);
        let network = fixture::network().id;
        assert_eq!(message.id, stored.id.as_str());
        assert_eq!(Some(message.service_id), stored.service_id.map(|id| id.to_string()));
        assert_eq!(message.node_id, fixture::node_id().as_str());
        assert_eq!((message.slot, message.desired_state), (2, 512));
        let own = message.annotations.expect("names the container");
        assert_eq!(own.name, format!("web.2.{}", stored.id));
        assert!(own.labels.is_empty());
        let service = message.service_annotations.expect("names the service");
        assert_eq!((&*service.name, &*service.labels["a"]), ("web", "b"));
        assert_eq!(message.status.map(|status| status.state), Some(192));
        assert_eq!(message.log_driver.map(|driver| driver.name), Some("local".into()));
        assert_eq!(message.spec_version.map(|version| version.index), Some(8));
        assert_eq!(
            message.meta.and_then(|meta| meta.version).map(|version| version.index),
            Some(9)
        );
        let endpoint = message.endpoint.expect("the task publishes a port");
        let ports = endpoint.ports.iter().map(|port| (port.target_port, port.published_port));
        assert_eq!(ports.collect::<Vec<_>>(), [(53, 5353)]);
        let [place] = &message.networks[..] else { panic!("the task is on one network") };
        assert_eq!(place.network.as_ref().map(|network| &*network.id), Some(network.as_str()));
        assert_eq!((&*place.addresses[0], &*place.aliases[0]), ("10.0.1.4/24", "alias"));
        assert_eq!(place.driver_attachment_opts["a"], "b");
        let given = message.assigned_generic_resources.iter().map(|given| given.resource.clone());
        let piece = proto::NamedGenericResource { kind: "gpu".into(), value: "gpu-1".into() };
        let piece = proto::generic_resource::Resource::NamedResourceSpec(piece);
        assert!(given.eq([Some(piece)]));
    }

    #[test]
    fn an_attachment_names_its_container_and_no_service() {
        let container_id = "c0ffee".to_owned();
        let of = crate::domain::service::NetworkAttachmentSpec { container_id };
        let networks = fixture::task().spec.networks.clone();
        let spec = TaskSpec { networks, network_attachment_spec: Some(of), ..Default::default() };
        let stored = Task { service_id: None, spec: spec.into(), slot: 0, ..fixture::task() };
        let message = read(&stored);
        assert_eq!((&*message.service_id, message.desired_state), ("", 512));
        assert_eq!(message.networks[0].addresses, ["10.0.1.4/24"]);
        let spec = message.spec.expect("sent");
        assert_eq!(spec.networks[0].target, fixture::network().id.as_str());
        let Some(Runtime::Attachment(of)) = spec.runtime else { panic!("an attachment") };
        assert_eq!(of.container_id, "c0ffee");
    }

    #[test]
    fn a_global_task_is_named_after_its_node() {
        let stored = Task { slot: 0, ..fixture::task() };
        let own = read(&stored).annotations.expect("names the container");
        assert_eq!(own.name, format!("web.{}.{}", fixture::node_id(), stored.id));
    }

    #[test]
    fn a_task_of_a_job_is_to_complete_and_names_its_run() {
        assert!(read(&fixture::task()).job_iteration.is_none());
        for index in [0, 3] {
            let job_iteration = Some(crate::domain::meta::Version { index });
            let desired_state = TaskState::Complete;
            let stored = Task { slot: 0, job_iteration, desired_state, ..fixture::task() };
            let message = read(&stored);
            assert_eq!((message.slot, message.desired_state), (0, 576));
            assert_eq!(message.job_iteration.map(|run| run.index), Some(index));
        }
    }

    #[test]
    fn every_field_of_a_task_spec_survives() {
        let spec = read(&fixture::task()).spec.expect("sent");
        let proto::task_spec::Runtime::Container(container) = spec.runtime.expect("sent") else {
            panic!("a container");
        };
        assert_eq!((&*container.image, container.pids_limit), ("alpine:3", 77));
        assert_eq!(container.pull_options.map(|pull| pull.registry_auth), Some("auth".into()));
        let resources = spec.resources.expect("sent");
        assert_eq!((resources.swap_bytes, resources.memory_swappiness), (Some(0), Some(60)));
        let limits = resources.limits.expect("sent");
        assert_eq!((limits.nano_cpus, limits.memory_bytes), (1, 2));
        let reservations = resources.reservations.expect("sent");
        assert_eq!((reservations.nano_cpus, reservations.memory_bytes), (3, 4));
        assert_eq!(reservations.generic.len(), 1);
        let restart = spec.restart.expect("sent");
        assert_eq!((restart.condition, restart.max_attempts), (1, 3));
        let spans = [restart.delay, restart.window].map(|span| span.map(|span| span.seconds));
        assert_eq!(spans, [Some(1), Some(2)]);
        let placement = spec.placement.expect("sent");
        assert_eq!((placement.constraints.len(), placement.max_replicas), (1, 4));
        assert_eq!((placement.platforms.len(), placement.preferences.len()), (1, 1));
        assert_eq!(spec.log_driver.map(|driver| driver.name), Some("local".into()));
        let wish = &spec.networks[0];
        let target = fixture::network().id;
        assert_eq!((&*wish.target, &*wish.aliases[0]), (target.as_str(), "alias"));
        assert_eq!(spec.force_update, 6);
    }

    #[test]
    fn a_stop_changes_the_desired_state_and_nothing_else() {
        let stored = fixture::task();
        let stopped = Task { desired_state: TaskState::Shutdown, ..stored.clone() };
        let mut message = read(&stopped);
        assert_eq!(message.desired_state, 640);
        message.desired_state = 512;
        assert!(message == read(&stored), "absent scalars would be other instructions");
    }

    #[test]
    fn a_policy_that_says_nothing_restarts_always() {
        let policy = restart(None);
        assert_eq!((policy.condition, policy.max_attempts), (2, 0));
        assert_eq!(policy.delay.map(|span| span.seconds), Some(5));
        assert!(policy.window.is_none());
    }

    #[test]
    fn states_keep_their_numbers_both_ways() {
        let numbers = [
            ("new", 0),
            ("pending", 64),
            ("assigned", 192),
            ("accepted", 256),
            ("preparing", 320),
            ("ready", 384),
            ("starting", 448),
            ("running", 512),
            ("complete", 576),
            ("shutdown", 640),
            ("failed", 704),
            ("rejected", 768),
            ("remove", 800),
            ("orphaned", 832),
        ];
        for (word, number) in numbers {
            let known = TaskState::parse(word).expect("a word of the domain");
            assert_eq!(state(known) as i32, number, "{word}");
            assert_eq!(state_from(number), Some(known), "{word}");
        }
        assert!(state(TaskState::Allocated) == proto::TaskState::Pending);
        assert_eq!([-1, 1, 128, 833].map(state_from), [None; 4]);
    }

    #[test]
    fn a_report_is_read_as_it_was_stored() {
        let status = fixture::task().status;
        let message = read(&fixture::task()).status.expect("sent");
        assert_eq!(super::status(&message, status.applied_at), Some(status));
    }

    #[test]
    fn a_report_cannot_fill_the_store() {
        let container =
            proto::ContainerStatus { container_id: "c".repeat(1000), pid: 1, exit_code: 0 };
        let mut message = proto::TaskStatus {
            state: 512,
            message: "é".repeat(STATUS_TEXT_LEN_MAX),
            err: "e".repeat(STATUS_TEXT_LEN_MAX + 1),
            runtime_status: Some(RuntimeStatus::Container(container)),
            port_status: Some(proto::PortStatus { ports: vec![port(&fixture::port()); 5000] }),
            ..Default::default()
        };
        let read = status(&message, fixture::at(7)).expect("a known state");
        assert_eq!(read.timestamp, fixture::at(7), "a report without a time is of now");
        assert_eq!(read.message, "é".repeat(STATUS_TEXT_LEN_MAX / 2));
        assert_eq!(read.err.len(), STATUS_TEXT_LEN_MAX);
        assert_eq!(read.container.map(|container| container.container_id.len()), Some(64));
        assert_eq!(read.ports.len(), STATUS_PORTS_MAX);
        message.state = 500;
        assert_eq!(status(&message, fixture::at(7)), None);
    }
}
