//! The Rust client, bollard, unmodified and with the version of the API that it asks for by itself:
//! every answer fits its types.

use std::collections::HashMap;

use bollard::errors::Error;
use bollard::models::{
    ConfigSpec, EventMessageTypeEnum, NodeSpecAvailabilityEnum, NodeState, SecretSpec, ServiceSpec,
    ServiceSpecMode, ServiceSpecModeReplicated, SwarmInitRequest, Task, TaskSpec,
    TaskSpecContainerSpec, TaskSpecContainerSpecFile, TaskSpecContainerSpecSecrets,
};
use bollard::query_parameters::{
    DeleteNodeOptionsBuilder, EventsOptionsBuilder, InspectServiceOptionsBuilder,
    LeaveSwarmOptionsBuilder, ListConfigsOptionsBuilder, ListNodesOptionsBuilder,
    ListSecretsOptionsBuilder, ListServicesOptionsBuilder, ListTasksOptionsBuilder,
    LogsOptionsBuilder, UpdateConfigOptionsBuilder, UpdateNodeOptionsBuilder,
    UpdateSecretOptionsBuilder, UpdateServiceOptionsBuilder, UpdateSwarmOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::kit::agent::Agent;
use super::kit::agent::cluster::Cluster;
use super::kit::agent::wait;
use super::kit::eventually;
use super::kit::purser::Purser;

fn connect(purser: &Purser) -> Docker {
    let socket = purser.socket();
    let socket = socket.to_str().expect("a path of the test's own");
    Docker::connect_with_unix(socket, 30, API_DEFAULT_VERSION).expect("a client")
}

fn filter(key: &str, value: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([(key.to_owned(), vec![value.to_owned()])])
}

fn labels() -> Option<HashMap<String, String>> {
    Some(HashMap::from([("env".to_owned(), "prod".to_owned())]))
}

/// The version of an object, which it has to have.
fn index<T: TryFrom<u64>>(version: Option<bollard::models::ObjectVersion>) -> T {
    let index = version.and_then(|version| version.index).expect("a version");
    T::try_from(index).ok().expect("a small number")
}

#[track_caller]
fn check_refused<T: std::fmt::Debug>(done: Result<T, Error>, status: u16, text: &str) {
    match done {
        Err(Error::DockerResponseServerError { status_code, message }) => {
            assert!(status_code == status && message.ends_with(text), "{status_code} {message}");
        }
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn secrets_and_configs_fit_its_types() {
    let purser = Purser::swarm("bollard");
    let docker = connect(&purser);
    wait(async {
        secrets(&docker).await.expect("every call is granted");
        configs(&docker).await.expect("every call is granted");
    });
}

async fn secrets(docker: &Docker) -> Result<(), Error> {
    let spec = |name: &str| SecretSpec {
        name: Some(name.into()),
        data: Some("aHVudGVyMg==".into()),
        labels: labels(),
        ..Default::default()
    };
    let made = docker.create_secret(spec("db-pass")).await?;
    docker.create_secret(spec("other")).await?;
    let options = ListSecretsOptionsBuilder::default().filters(&filter("name", "db-")).build();
    let listed = docker.list_secrets(Some(options)).await?;
    assert_eq!(
        listed.iter().map(|secret| secret.id.as_ref()).collect::<Vec<_>>(),
        [Some(&made.id)]
    );
    let shown = docker.inspect_secret("db-pass").await?;
    assert!(shown == listed[0] && shown.created_at.is_some() && shown.updated_at.is_some());
    let change = shown.spec.clone().expect("a spec");
    assert!(change.data.is_none() && change.labels == labels(), "{change:?}");
    let change = SecretSpec { labels: None, ..change };
    let version = index(shown.version);
    let options = || UpdateSecretOptionsBuilder::default().version(version).build();
    docker.update_secret("db-pass", change.clone(), options()).await?;
    let stale = docker.update_secret("db-pass", change, options()).await;
    check_refused(stale, 500, "desc = update out of sequence");
    check_refused(docker.create_secret(spec("OTHER")).await, 409, "secret OTHER already exists");
    docker.delete_secret("db-pass").await?;
    check_refused(docker.inspect_secret("db-pass").await, 404, "secret db-pass not found");
    Ok(())
}

async fn configs(docker: &Docker) -> Result<(), Error> {
    let data = Some("aHVudGVyMg==".to_owned());
    let name = Some("app.conf".to_owned());
    let spec = ConfigSpec { name, data, labels: labels(), ..Default::default() };
    let made = docker.create_config(spec.clone()).await?;
    let options = ListConfigsOptionsBuilder::default().filters(&filter("id", &made.id)).build();
    let listed = docker.list_configs(Some(options)).await?;
    let shown = docker.inspect_config("app.conf").await?;
    assert_eq!((listed.len(), &listed[0]), (1, &shown));
    assert_eq!(shown.spec, Some(spec.clone()));
    let options = UpdateConfigOptionsBuilder::default().version(index(shown.version)).build();
    docker.update_config("app.conf", ConfigSpec { labels: None, ..spec }, options).await?;
    docker.delete_config(&made.id).await?;
    check_refused(docker.inspect_config(&made.id).await, 404, "not found");
    Ok(())
}

/// A service with so many tasks, each with a secret.
fn web(replicas: i64, secret: &str) -> ServiceSpec {
    let target = TaskSpecContainerSpecFile {
        name: Some("db-pass".into()),
        uid: Some("0".into()),
        gid: Some("0".into()),
        mode: Some(0o444),
    };
    let grant = TaskSpecContainerSpecSecrets {
        file: Some(target),
        secret_id: Some(secret.into()),
        secret_name: Some("db-pass".into()),
    };
    let container = TaskSpecContainerSpec {
        image: Some("redis:alpine".into()),
        env: Some(vec!["A=b".into()]),
        secrets: Some(vec![grant]),
        ..Default::default()
    };
    let replicated = ServiceSpecModeReplicated { replicas: Some(replicas) };
    ServiceSpec {
        name: Some("web".into()),
        labels: labels(),
        task_template: Some(TaskSpec { container_spec: Some(container), ..Default::default() }),
        mode: Some(ServiceSpecMode { replicated: Some(replicated), ..Default::default() }),
        ..Default::default()
    }
}

#[test]
fn services_tasks_and_logs_fit_its_types() {
    let cluster = Cluster::new("bollard-service");
    let engine = cluster.engine();
    let docker = connect(&cluster.purser);
    let secret = cluster.secret("db-pass", b"hunter2");
    let made = wait(docker.create_service(web(2, &secret), None)).expect("it is made");
    let id = made.id.expect("an id");
    cluster.until_running("web", 2);
    let task = wait(tasks(&docker, engine.node_id())).expect("every call is granted");
    logs(&docker, &engine, &id, &task);
    // Last: with what is filled in, tasks are no longer up to date.
    wait(service(&docker, &id, &secret)).expect("every call is granted");
    wait(docker.delete_service("web")).expect("it is removed");
    check_refused(wait(docker.inspect_service("web", None::<_>)), 404, "service web not found");
}

async fn service(docker: &Docker, id: &str, secret: &str) -> Result<(), Error> {
    let options = ListServicesOptionsBuilder::default();
    let options = options.filters(&filter("label", "env=prod")).status(true).build();
    let listed = docker.list_services(Some(options)).await?;
    let status = listed[0].service_status.clone().expect("it was asked for");
    assert_eq!((status.running_tasks, status.desired_tasks), (Some(2), Some(2)));
    let shown = docker.inspect_service("web", None::<_>).await?;
    let spec = shown.spec.clone().expect("a spec");
    assert_eq!((shown.id.as_deref(), spec.mode.clone()), (Some(id), web(2, secret).mode));
    let options = InspectServiceOptionsBuilder::default().insert_defaults(true).build();
    let filled = docker.inspect_service("web", Some(options)).await?.spec.expect("a spec");
    let config = filled.update_config.clone().expect("a default");
    assert_eq!((config.parallelism, config.monitor), (Some(1), Some(5_000_000_000)));
    // What was filled in can be sent back, and so can what was not.
    for spec in [filled, spec, web(1, secret)] {
        let mut version = 0;
        let updated = loop {
            let now = index(docker.inspect_service("web", None::<_>).await?.version);
            // The rollout of the update before writes as well.
            let options = UpdateServiceOptionsBuilder::default().version(now).build();
            match docker.update_service("web", spec.clone(), options, None).await {
                Err(Error::DockerResponseServerError { status_code: 500, .. })
                    if now != version =>
                {
                    version = now;
                }
                done => break done?,
            }
        };
        assert_eq!(updated.warnings, None);
    }
    Ok(())
}

/// The list of tasks, and one of them that ran on this node.
async fn tasks(docker: &Docker, node: &str) -> Result<Task, Error> {
    let options = ListTasksOptionsBuilder::default().filters(&filter("service", "web")).build();
    let listed = docker.list_tasks(Some(options)).await?;
    let ran = listed.into_iter().find(|task| task.node_id.as_deref() == Some(node));
    let id = ran.and_then(|task| task.id).expect("a task ran here");
    let shown = docker.inspect_task(&id).await?;
    let status = shown.status.clone().expect("a status");
    assert!(status.timestamp.is_some() && status.state.is_some(), "{status:?}");
    assert!(shown.desired_state.is_some() && shown.slot.is_some() && shown.spec.is_some());
    Ok(shown)
}

fn logs(docker: &Docker, engine: &Agent, service: &str, task: &Task) {
    let task = task.id.as_deref().expect("an id");
    let options = LogsOptionsBuilder::default().stdout(true).stderr(true).build();
    let lines = std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let lines = docker.task_logs(task, Some(options)).map_ok(|line| line.to_string());
            wait(lines.try_collect::<Vec<_>>())
        });
        let publishing = engine.publish(&engine.asked(1).id);
        publishing.send(publishing.line(service, task, 1, "a line\n"));
        publishing.close().expect("it is taken");
        reading.join().expect("it ends")
    });
    assert_eq!(lines.expect("frames"), ["a line\n"]);
}

#[test]
fn nodes_and_the_swarm_fit_its_types() {
    let purser = Purser::serve("bollard-swarm");
    let docker = connect(&purser);
    let door = "127.0.0.1:0".to_owned();
    check_refused(wait(docker.inspect_swarm()), 503, "and try again.");
    assert_eq!(wait(docker.ping()).expect("an answer"), "OK");
    let version = wait(docker.version()).expect("an answer");
    assert!(version.api_version.is_some());
    purser.init(&door);
    let again = SwarmInitRequest { listen_addr: Some(door), ..Default::default() };
    check_refused(wait(docker.init_swarm(again)), 503, "join another one.");
    let cluster = Cluster::of(purser);
    let engine = cluster.engine();
    cluster.until_node(engine.node_id(), "ready");
    wait(swarm(&docker)).expect("every call is granted");
    wait(nodes(&docker, engine.node_id())).expect("every call is granted");
    let info = wait(docker.info()).expect("an answer").swarm.expect("it is in one");
    assert_eq!((info.control_available, info.managers), (Some(true), Some(1)));
    let options = LeaveSwarmOptionsBuilder::default().force(true).build();
    wait(docker.leave_swarm(Some(options))).expect("it leaves");
}

async fn swarm(docker: &Docker) -> Result<(), Error> {
    let before = docker.inspect_swarm().await?;
    let spec = before.spec.clone().expect("a spec");
    let options = UpdateSwarmOptionsBuilder::default().version(index(before.version));
    let options = options.rotate_worker_token(true).build();
    docker.update_swarm(spec.clone(), options).await?;
    let after = docker.inspect_swarm().await?;
    assert!(after.spec == Some(spec) && after.join_tokens != before.join_tokens);
    assert_eq!(after.tls_info, before.tls_info);
    Ok(())
}

async fn nodes(docker: &Docker, engine: &str) -> Result<(), Error> {
    let options = ListNodesOptionsBuilder::default().filters(&filter("role", "worker")).build();
    let listed = docker.list_nodes(Some(options)).await?;
    assert_eq!(listed.len(), 1);
    let node = docker.inspect_node(engine).await?;
    assert_eq!(node.status.and_then(|status| status.state), Some(NodeState::READY));
    assert!(node.description.is_some_and(|description| description.engine.is_some()));
    let mut spec = node.spec.expect("a spec");
    spec.availability = Some(NodeSpecAvailabilityEnum::DRAIN);
    spec.labels = labels();
    let options = UpdateNodeOptionsBuilder::default().version(index(node.version)).build();
    docker.update_node(engine, spec.clone(), options).await?;
    assert_eq!(docker.inspect_node(engine).await?.spec, Some(spec));
    let options = DeleteNodeOptionsBuilder::default();
    let kept = docker.delete_node(engine, Some(options.clone().build())).await;
    check_refused(kept, 400, "is not down and can't be removed");
    docker.delete_node(engine, Some(options.force(true).build())).await
}

#[test]
fn events_fit_its_types() {
    let cluster = Cluster::new("bollard-events");
    let docker = connect(&cluster.purser);
    cluster.secret("db-pass", b"hunter2");
    cluster.service(&super::api_table::idle_spec("web"));
    cluster.update_service("web", |spec| spec["Labels"] = serde_json::json!({"a": "b"}));
    cluster.remove_service("web");
    let heard = eventually("all events are there", super::kit::agent::PATIENCE, || {
        let options = EventsOptionsBuilder::default().since("1").until(&super::api_event::now());
        let options =
            options.filters(&HashMap::from([("type", vec!["service", "secret"])])).build();
        let heard: Vec<_> = wait(docker.events(Some(options)).collect());
        (heard.len() >= 4).then_some(heard)
    });
    let words = heard.into_iter().map(|event| {
        let event = event.expect("an event");
        let actor = event.actor.expect("an actor");
        assert!(event.time.is_some() && event.time_nano.is_some() && actor.id.is_some());
        let name = actor.attributes.and_then(|attributes| attributes.get("name").cloned());
        (event.typ.expect("a type"), event.action.unwrap_or_default(), name.unwrap_or_default())
    });
    let words: Vec<_> = words.collect();
    let word = |kind, action: &str, name: &str| (kind, action.to_owned(), name.to_owned());
    assert_eq!(words[0], word(EventMessageTypeEnum::SECRET, "create", "db-pass"));
    assert_eq!(words[1], word(EventMessageTypeEnum::SERVICE, "create", "web"));
    assert_eq!(words.last(), Some(&word(EventMessageTypeEnum::SERVICE, "remove", "web")));
}
