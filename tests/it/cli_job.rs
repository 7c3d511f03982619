//! `docker service` with jobs, against a purser with simulated engines, on which every task of a job
//! completes at once.

use std::path::Path;
use std::time::Duration;

use purser::wire::proto::{Task, TaskState};
use serde_json::{Value, json};

use crate::kit::agent::cluster::Cluster;
use crate::kit::agent::{Agent, Habits};
use crate::kit::docker::docker;
use crate::kit::eventually;
use crate::kit::purser::Purser;

/// The planners answer a request within moments, but after it.
const SOON: Duration = Duration::from_secs(20);

fn create(socket: &Path, args: &str) -> String {
    docker(socket, &format!("service create --no-resolve-image {args}")).ok()
}

fn inspect(socket: &Path, name: &str) -> Value {
    let text = docker(socket, &format!("service inspect {name}")).ok();
    let found: Value = serde_json::from_str(&text).expect("JSON");
    found[0].clone()
}

/// The line of a service in the list, once it says this.
#[track_caller]
fn until_listed(socket: &Path, line: &str) {
    let args = "service ls --format '{{.Name}} {{.Mode}} {{.Replicas}}'";
    eventually(&format!("listed: {line}"), SOON, || {
        docker(socket, args).ok().lines().any(|listed| listed == line).then_some(())
    });
}

#[test]
fn job_create_shows_progress_until_the_job_is_complete() {
    let cluster = Cluster::new("job-create");
    let _engines = [cluster.engine(), cluster.engine()];
    let socket = cluster.purser.socket();
    let args = "--name sum --mode replicated-job --max-concurrent 2 --replicas 5 redis:alpine";
    let said = create(&socket, &format!("--detach=false {args}"));
    assert!(said.starts_with(inspect(&socket, "sum")["ID"].as_str().expect("an id")), "{said}");
    assert!(said.ends_with("job complete"), "{said}");
    until_listed(&socket, "sum replicated job 0/2 (5/5 completed)");
    let said = create(&socket, "--detach=false --name scan --mode global-job redis:alpine");
    assert!(said.ends_with("job complete"), "{said}");
    until_listed(&socket, "scan global job 0/0 (2/2 completed)");

    // Slot 0 is shown by its node, as Docker's own client does it.
    let row = "'{{.Name}} {{.DesiredState}} {{.CurrentState}}'";
    let rows = docker(&socket, &format!("service ps --format {row} sum")).ok();
    assert_eq!(rows.lines().count(), 5, "{rows}");
    assert!(rows.lines().all(|row| row.contains(" Complete Complete ")), "{rows}");
    for slot in 1..5 {
        assert!(rows.contains(&format!("sum.{slot} ")), "{rows}");
    }
    let quiet = |filter: &str| {
        docker(&socket, &format!("service ps -q --filter desired-state={filter} sum")).ok()
    };
    assert_eq!((quiet("complete").lines().count(), quiet("running").lines().count()), (5, 0));
    let listed = |mode: &str| {
        docker(&socket, &format!("service ls --filter mode={mode} --format {{{{.Name}}}}")).ok()
    };
    assert_eq!((listed("replicated-job"), listed("global-job")), ("sum".into(), "scan".into()));
    assert_eq!(docker(&socket, "service rm sum scan").ok(), "sum\nscan");
    eventually("their tasks are gone", SOON, || {
        (cluster.client.get("/tasks").text() == "[]\n").then_some(())
    });
}

#[test]
fn job_update_scale_and_rollback_run_it_again() {
    let cluster = Cluster::new("job-again");
    let _engine = cluster.engine();
    let socket = cluster.purser.socket();
    create(&socket, "--name sum --mode replicated-job --replicas 3 redis:alpine");
    let run = || inspect(&socket, "sum")["JobStatus"]["JobIteration"].clone();
    assert_eq!(run(), json!({}));
    // With --force alone, it is the same again.
    let said = docker(&socket, "service update --force --detach=false sum").ok();
    assert!(said.ends_with("job complete"), "{said}");
    assert_eq!(run(), json!({"Index": 1}));
    until_listed(&socket, "sum replicated job 0/3 (3/3 completed)");
    let said = docker(&socket, "service scale sum=5").ok();
    assert!(said.starts_with("sum scaled to 5") && said.ends_with("job complete"), "{said}");
    until_listed(&socket, "sum replicated job 0/3 (5/5 completed)");
    assert_eq!(docker(&socket, "service update --env-add A=b -q sum").ok(), "sum");
    until_listed(&socket, "sum replicated job 0/3 (5/5 completed)");
    // The client changes how many there are by scaling only.
    let refusal = docker(&socket, "service update -d --replicas 2 sum").refused();
    assert_eq!(refusal, "replicas can only be used with replicated mode");
    let said = docker(&socket, "service rollback sum").ok();
    assert!(said.ends_with("job complete"), "{said}");
    assert_eq!(run(), json!({"Index": 4}));
    let service = inspect(&socket, "sum");
    assert_eq!(service["Spec"]["TaskTemplate"]["ContainerSpec"].get("Env"), None);
    assert_eq!(
        service["Spec"]["Mode"],
        json!({"ReplicatedJob": {"MaxConcurrent": 3, "TotalCompletions": 5}})
    );
    until_listed(&socket, "sum replicated job 0/3 (5/5 completed)");
    // Earlier runs are history.
    let rows = docker(&socket, "service ps --format {{.Name}} sum").ok();
    assert_eq!(rows.lines().filter(|row| *row == "sum.1").count(), 5, "{rows}");
}

#[test]
fn job_fails_as_often_as_it_may() {
    let cluster = Cluster::new("job-fails");
    let silent = Habits { reports: false, ..Habits::default() };
    let engine = cluster.join().expect("admitted").open(&silent).expect("a session");
    let socket = cluster.purser.socket();
    create(
        &socket,
        "-d --name sum --mode replicated-job --restart-condition on-failure \
         --restart-max-attempts 1 --restart-delay 10ms redis:alpine",
    );
    let mut failed = Vec::new();
    for _ in 0..2 {
        let task = engine.until("a task to complete", |seen| {
            let tasks = seen.model.tasks_of("sum");
            let wanted = |task: &&&Task| {
                task.desired_state() == TaskState::Complete && !failed.contains(&task.id)
            };
            tasks.iter().find(wanted).map(|task| task.id.clone())
        });
        until_listed(&socket, "sum replicated job 0/1 (0/1 completed)");
        engine.report(&task, TaskState::Running).expect("believed");
        until_listed(&socket, "sum replicated job 1/1 (0/1 completed)");
        engine.report(&task, TaskState::Failed).expect("believed");
        failed.push(task);
    }
    until_listed(&socket, "sum replicated job 0/1 (0/1 completed)");
    let rows = docker(&socket, "service ps --format {{.DesiredState}} sum").ok();
    assert_eq!(rows, "Shutdown\nShutdown");
    engine.assert_no_faults();
}

#[test]
fn job_options_are_kept_and_what_jobs_do_not_have_is_refused() {
    let purser = Purser::swarm("job-options");
    let socket = purser.socket();
    let no_rollout = "update and rollback configuration is not supported for jobs";
    let jobs_only = "max-concurrent can only be used with replicated-job mode";
    let not_replicated = "replicas can only be used with replicated or replicated-job mode";
    for (args, refusal) in [
        ("--mode replicated-job --update-parallelism 2", no_rollout),
        ("--mode global-job --rollback-parallelism 2", no_rollout),
        ("--mode global-job --replicas 2", not_replicated),
        ("--mode global-job --max-concurrent 2", jobs_only),
        ("--max-concurrent 2", jobs_only),
    ] {
        let said = docker(&socket, &format!("service create -d --no-resolve-image {args} redis"));
        assert_eq!(said.refused(), refusal, "{args}");
    }
    create(
        &socket,
        "-d --name sum --mode replicated-job --replicas 4 --max-concurrent 2 \
         --restart-condition none --constraint node.role==worker redis:alpine true",
    );
    create(&socket, "-d --name scan --mode global-job redis:alpine true");
    let spec = &inspect(&socket, "sum")["Spec"];
    assert_eq!(spec["Mode"], json!({"ReplicatedJob": {"MaxConcurrent": 2, "TotalCompletions": 4}}));
    assert_eq!(spec["TaskTemplate"]["RestartPolicy"]["Condition"], "none");
    assert_eq!(inspect(&socket, "scan")["Spec"]["Mode"], json!({"GlobalJob": {}}));
    until_listed(&socket, "sum replicated job 0/2 (0/4 completed)");
    until_listed(&socket, "scan global job 0/0 (0/0 completed)");
    let pretty = docker(&socket, "service inspect --pretty sum").ok();
    for line in ["Name:\t\tsum", " Image:\t\tredis:alpine", " Constraints:\t[node.role==worker]"] {
        assert!(pretty.lines().any(|shown| shown == line), "{line:?}: {pretty}");
    }
    docker(&socket, "service inspect --pretty scan").ok();
    let refusal = docker(&socket, "service update -d --update-parallelism 2 sum").refused();
    assert_eq!(
        refusal,
        "rpc error: code = InvalidArgument desc = Jobs may not have an update config"
    );
    let refusal = docker(&socket, "service scale -d scan=2").refused();
    assert_eq!(refusal, "scan: scale can only be used with replicated or replicated-job mode");
}

#[test]
fn job_counts_a_completion_that_is_reported_twice_once() {
    let cluster = Cluster::new("job-late");
    let socket = cluster.purser.socket();
    cluster.set_heartbeat(Duration::from_millis(200));
    let silent = Habits { reports: false, ..Habits::default() };
    let engine = || cluster.join().expect("admitted").open(&silent).expect("a session");
    let mut engines = vec![engine()];
    create(&socket, "-d --name sum --mode replicated-job --restart-delay 10ms redis:alpine");
    let task_of = |engine: &Agent| {
        engine.until("a task to complete", |seen| {
            let tasks = seen.model.tasks_of("sum");
            let wanted = tasks.iter().find(|task| task.desired_state() == TaskState::Complete);
            wanted.map(|task| task.id.clone())
        })
    };
    let first = task_of(&engines[0]);
    engines[0].report(&first, TaskState::Running).expect("believed");
    // The node is lost for a while, and its task with it.
    let lost = engines.remove(0).member.clone();
    cluster.until_node(&lost.node_id, "down");
    engines.push(engine());
    let second = task_of(&engines[0]);
    for state in [TaskState::Running, TaskState::Complete] {
        engines[0].report(&second, state).expect("believed");
    }
    until_listed(&socket, "sum replicated job 1/1 (1/1 completed)");
    let back = lost.open(&silent).expect("a session");
    back.report(&first, TaskState::Complete).expect("believed");
    until_listed(&socket, "sum replicated job 0/1 (1/1 completed)");
    let states: Vec<Value> =
        cluster.tasks("sum").iter().map(|task| task["Status"]["State"].clone()).collect();
    assert_eq!(states, ["complete", "complete"]);
}
