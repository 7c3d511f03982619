//! Tasks: what a node's reports do, and what it is told in their course.

use std::time::Duration;

use purser::wire::proto::{Task, TaskState};
use serde_json::{Value, json};
use tonic::Code;

use crate::kit::agent::cluster::{Cluster, on_node, service};
use crate::kit::agent::{Agent, Habits, PATIENCE, Seen};
use crate::kit::eventually;

fn engine_with(cluster: &Cluster, habits: &Habits) -> Agent {
    cluster.join().expect("admitted").open(habits).expect("a session")
}

fn silent_engine(cluster: &Cluster) -> Agent {
    engine_with(cluster, &Habits { reports: false, ..Habits::default() })
}

/// The id of a task of a service that is wanted in this state.
fn task_of(seen: &Seen, service: &str, desired: TaskState) -> Option<String> {
    let tasks = seen.model.tasks_of(service);
    tasks.into_iter().find(|task| task.desired_state() == desired).map(|task| task.id.clone())
}

fn with_delay(mut service: Value, delay: Duration) -> Value {
    let nanos = u64::try_from(delay.as_nanos()).expect("a short delay");
    service["TaskTemplate"]["RestartPolicy"]["Delay"] = json!(nanos);
    service
}

/// The version index of the whole cluster, by making something.
fn version(cluster: &Cluster, name: &str) -> u64 {
    let id = cluster.secret(name, b"x");
    let secret = cluster.client.get(&format!("/secrets/{id}")).json();
    secret["Version"]["Index"].as_u64().expect("a version")
}

#[test]
fn only_forward_moves_by_the_owner_count_and_repetitions_are_not_written() {
    let cluster = Cluster::new("report");
    let (one, other) = (silent_engine(&cluster), silent_engine(&cluster));
    cluster.service(&on_node(service("web", 1, &[]), one.node_id()));
    let task = one.until("a task", |seen| task_of(seen, "web", TaskState::Running));
    let told = one.seen().model.state_of(&task);
    assert!(told == TaskState::Assigned, "this is where an engine starts from");
    // Steps may be left out.
    for (state, word) in [
        (TaskState::Preparing, "preparing"),
        (TaskState::Starting, "starting"),
        (TaskState::Running, "running"),
    ] {
        one.report(&task, state).expect("believed");
        assert_eq!(cluster.task(&task)["Status"]["State"], word);
    }
    let before = version(&cluster, "before");
    for backwards in [TaskState::Accepted, TaskState::Preparing, TaskState::Starting] {
        one.report(&task, backwards).expect("no error, or the session would be built anew");
    }
    for _ in 0..5 {
        one.report(&task, TaskState::Running).expect("no news");
    }
    for nonsense in [TaskState::New, TaskState::Pending, TaskState::Remove, TaskState::Orphaned] {
        one.report(&task, nonsense).expect("not the node's to say");
    }
    one.report(&"0".repeat(25), TaskState::Running).expect("a task that is not known");
    one.report("nonsense", TaskState::Running).expect("an id that is none");
    assert_eq!(version(&cluster, "after"), before + 1, "nothing of it was written");
    let denied = other.report(&task, TaskState::Failed).err().map(|status| status.code());
    assert_eq!(denied, Some(Code::PermissionDenied));
    assert_eq!(cluster.task(&task)["Status"]["State"], "running");
    assert_eq!(version(&cluster, "denied"), before + 3, "only that it was denied");

    one.report(&task, TaskState::Failed).expect("believed");
    one.report(&task, TaskState::Running).expect("what is over stays over");
    cluster.until_task(&task, "failed");
}

#[test]
fn a_task_is_stopped_before_it_is_forgotten() {
    let cluster = Cluster::new("stop");
    let agent = silent_engine(&cluster);
    cluster.service(&service("web", 1, &[]));
    let task = agent.until("a task", |seen| task_of(seen, "web", TaskState::Running));
    agent.report(&task, TaskState::Running).expect("believed");
    cluster.remove_service("web");
    agent.until("it is told to stop", |seen| {
        (seen.model.tasks.get(&task)?.desired_state >= TaskState::Shutdown as i32).then_some(())
    });
    std::thread::sleep(Duration::from_millis(500));
    assert!(agent.seen().model.tasks.contains_key(&task), "its end would never be reported");
    agent.report(&task, TaskState::Shutdown).expect("believed");
    agent.until("it may forget it", |seen| seen.model.tasks.is_empty().then_some(()));
    eventually("so does the manager", PATIENCE, || {
        (cluster.client.get(&format!("/tasks/{task}")).status == 404).then_some(())
    });
    agent.assert_no_faults();
}

#[test]
fn an_update_stops_the_old_task_before_it_starts_the_new_one() {
    let cluster = Cluster::new("update");
    let agent = silent_engine(&cluster);
    cluster.service(&service("web", 1, &[]));
    let old = agent.until("a task", |seen| task_of(seen, "web", TaskState::Running));
    agent.report(&old, TaskState::Running).expect("believed");
    cluster.update_service("web", |spec| {
        spec["TaskTemplate"]["ContainerSpec"]["Image"] = json!("app:2");
    });
    let new =
        agent.until("its successor is made ready", |seen| task_of(seen, "web", TaskState::Ready));
    agent.report(&new, TaskState::Ready).expect("believed");
    std::thread::sleep(Duration::from_millis(500));
    let desired = |seen: &Seen, id: &str| seen.model.tasks.get(id).map(Task::desired_state);
    assert!(desired(&agent.seen(), &old) == Some(TaskState::Shutdown));
    assert!(desired(&agent.seen(), &new) == Some(TaskState::Ready), "the old one still runs");
    agent.report(&old, TaskState::Shutdown).expect("believed");
    agent.until("now it may start", |seen| {
        (desired(seen, &new) == Some(TaskState::Running)).then_some(())
    });
    agent.assert_no_faults();
}

#[test]
fn a_replacement_is_held_ready_for_the_restart_delay() {
    let cluster = Cluster::new("delay");
    let agent = silent_engine(&cluster);
    cluster.service(&with_delay(service("web", 1, &[]), Duration::from_secs(2)));
    let task = agent.until("a task", |seen| task_of(seen, "web", TaskState::Running));
    agent.report(&task, TaskState::Running).expect("believed");
    let failed = tokio::time::Instant::now();
    agent.report(&task, TaskState::Failed).expect("believed");
    let next = agent.until("a replacement", |seen| task_of(seen, "web", TaskState::Ready));
    agent.report(&next, TaskState::Ready).expect("believed");
    agent.until("it may start", |seen| {
        (seen.model.tasks.get(&next)?.desired_state() == TaskState::Running).then_some(())
    });
    let held = failed.elapsed();
    assert!(held >= Duration::from_millis(1900), "{held:?}");
    assert!(held < Duration::from_secs(8), "{held:?}");
    agent.assert_no_faults();
}

#[test]
fn a_clock_that_is_off_by_a_day_delays_nothing() {
    let cluster = Cluster::new("clock");
    for (name, clock_off) in [("behind", -86_400), ("ahead", 86_400)] {
        let agent = engine_with(&cluster, &Habits { clock_off, ..Habits::default() });
        let spec = with_delay(service(name, 1, &[]), Duration::from_secs(1));
        cluster.service(&on_node(spec, agent.node_id()));
        let task = cluster.until_running(name, 1).remove(0);
        let started = tokio::time::Instant::now();
        agent.report(&task, TaskState::Failed).expect("believed");
        eventually("it is replaced", PATIENCE, || {
            let running = cluster.until_running(name, 1);
            (running[0] != task).then_some(())
        });
        let delay = started.elapsed();
        assert!(delay >= Duration::from_millis(900), "{name}: {delay:?}");
        assert!(delay < Duration::from_secs(6), "{name}: {delay:?}");
        cluster.update_service(name, |spec| {
            spec["TaskTemplate"]["ContainerSpec"]["Image"] = json!("app:2");
            spec["UpdateConfig"] = json!({"Parallelism": 1, "Monitor": 500_000_000});
        });
        eventually("the update is completed", Duration::from_secs(10), || {
            let service = cluster.client.get(&format!("/services/{name}")).json();
            (service["UpdateStatus"]["State"] == "completed").then_some(())
        });
        agent.assert_no_faults();
        let said = cluster.node(agent.node_id())["Status"]["Message"].clone();
        let side = if clock_off > 0 { "ahead of" } else { "behind" };
        assert_eq!(said, format!("its clock is about 24 hours {side} the manager's").as_str());
    }
}

#[test]
fn the_tasks_of_a_lost_node_move_and_their_secrets_with_them() {
    let cluster = Cluster::new("lost");
    cluster.set_heartbeat(Duration::from_secs(1));
    let word = b"it moves along";
    let id = cluster.secret("word", word);
    let agents = [cluster.engine(), cluster.engine()];
    for agent in &agents {
        cluster.until_node(agent.node_id(), "ready");
    }
    cluster.service(&service("web", 1, &[(&id, "word")]));
    let task = cluster.until_running("web", 1).remove(0);
    let home = cluster.task(&task)["NodeID"].clone();
    let [one, two] = agents;
    let (lost, other) = if home == one.node_id() { (one, two) } else { (two, one) };
    assert!(lost.heard(word) && !other.heard(word));
    let member = lost.member.clone();
    drop(lost);
    cluster.until_node(&member.node_id, "down");
    let next = other.until("it takes over", |seen| task_of(seen, "web", TaskState::Running));
    cluster.until_task(&next, "running");
    assert!(other.heard(word));

    let back = engine_of(&member);
    back.until("what it ran is to stop", |seen| {
        (seen.model.tasks.get(&task)?.desired_state >= TaskState::Shutdown as i32).then_some(())
    });
    assert!(!back.heard(word), "it has no use for the secret any more");
    back.report(&task, TaskState::Shutdown).expect("believed");
    cluster.until_task(&task, "shutdown");
    assert_eq!(cluster.until_running("web", 1), [next]);
    back.assert_no_faults();
    other.assert_no_faults();
}

fn engine_of(member: &crate::kit::agent::Member) -> Agent {
    member.open(&Habits { reports: false, ..Habits::default() }).expect("a session")
}

#[test]
fn a_drained_node_gives_its_tasks_up_in_good_order() {
    let cluster = Cluster::new("drain");
    let (one, two) = (cluster.engine(), cluster.engine());
    let id = cluster.secret("word", b"word");
    cluster.service(&service("web", 4, &[(&id, "word")]));
    cluster.until_running("web", 4);
    cluster.update_node(one.node_id(), |spec| spec["Availability"] = json!("drain"));
    one.until("its secrets are withdrawn", |seen| seen.model.secrets.is_empty().then_some(()));
    eventually("all run on the other", PATIENCE, || {
        let ids = cluster.until_running("web", 4);
        let there = ids.iter().filter(|id| cluster.task(id)["NodeID"] == two.node_id());
        (there.count() == 4).then_some(())
    });
    assert!(one.seen().model.due().is_empty(), "what it was told to stop has stopped");
    one.assert_no_faults();
    two.assert_no_faults();
}

#[test]
fn what_an_engine_had_not_started_when_it_ended_is_replaced_if_it_was_granted_something() {
    let cluster = Cluster::new("unstarted");
    let secret = cluster.secret("s", b"x");
    let engine = silent_engine(&cluster);
    let granted = with_delay(service("granted", 1, &[(&secret, "s")]), Duration::ZERO);
    cluster.service(&granted);
    cluster.service(&service("plain", 1, &[]));
    let of = |engine: &Agent, name: &str| {
        engine.until("a task", |seen| task_of(seen, name, TaskState::Running))
    };
    let (old, plain) = (of(&engine, "granted"), of(&engine, "plain"));
    for task in [&old, &plain] {
        engine.report(task, TaskState::Starting).expect("believed");
    }
    // A session that is only resumed says that the engine has gone on.
    let resumed = Habits { session_id: engine.id.clone(), reports: false, ..Habits::default() };
    let member = engine.member.clone();
    drop(engine);
    let engine = member.clone().open(&resumed).expect("a session");
    assert_eq!(cluster.task(&old)["Status"]["State"], "starting");
    drop(engine);
    let engine = member.open(&Habits { reports: false, ..Habits::default() }).expect("a session");
    let shown = cluster.task(&old);
    assert_eq!(shown["Status"]["State"], "failed", "{shown}");
    assert!(shown["Status"]["Err"].as_str().is_some_and(|err| err.contains("granted")), "{shown}");
    assert_eq!(cluster.task(&plain)["Status"]["State"], "starting");
    // What the engine says of it now counts no more, and another one takes its place.
    engine.report(&old, TaskState::Running).expect("no error");
    assert_eq!(cluster.task(&old)["Status"]["State"], "failed");
    eventually("it is replaced", PATIENCE, || {
        let seen = engine.seen();
        task_of(&seen, "granted", TaskState::Running).filter(|task| *task != old)
    });
}
