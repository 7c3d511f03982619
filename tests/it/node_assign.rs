//! Assignments: the chain of messages, and which node holds which secret from when to when.

use std::time::Duration;

use purser::wire::proto::TaskState;
use purser::wire::proto::assignments_message::Type;
use serde_json::json;

use crate::kit::agent::cluster::{Cluster, on_node, service};
use crate::kit::agent::{Agent, Habits, Seen};

/// An engine in a session that reports only what the test reports.
fn silent_engine(cluster: &Cluster) -> Agent {
    let habits = Habits { reports: false, ..Habits::default() };
    cluster.join().expect("admitted").open(&habits).expect("a session")
}

/// The id of the one task of a service on an engine that is meant to run.
fn task_of(seen: &Seen, service: &str) -> Option<String> {
    let running = TaskState::Running as i32;
    let tasks = seen.model.tasks_of(service);
    tasks.into_iter().find(|task| task.desired_state == running).map(|task| task.id.clone())
}

#[track_caller]
fn until_desired(agent: &Agent, task: &str, above: TaskState) {
    agent.until("it is told to stop", |seen| {
        (seen.model.tasks.get(task)?.desired_state >= above as i32).then_some(())
    });
}

/// Long enough for a wrong message to arrive.
fn settle() {
    std::thread::sleep(Duration::from_millis(400));
}

#[test]
fn the_first_message_is_complete_even_when_there_is_nothing() {
    let cluster = Cluster::new("empty");
    let agent = cluster.engine();
    agent.until("assignments", |seen| seen.assignments.first().map(|_| ()));
    let seen = agent.seen();
    let first = &seen.assignments[0];
    assert!(first.r#type() == Type::Complete && first.changes.is_empty());
    assert_eq!((&*first.applies_to, &*first.results_in), ("", "1"));
}

#[test]
fn a_secret_comes_with_its_task_whole_and_to_no_other_node() {
    let cluster = Cluster::new("grant");
    let (one, other) = (cluster.engine(), cluster.engine());
    let every_byte: Vec<u8> = (0..=255).collect();
    let long: Vec<u8> = (0..511_999u32).map(|at| (at % 251) as u8).collect();
    let word = b"correct horse battery staple";
    let payloads = [("bytes", &every_byte[..]), ("long", &long), ("word", word), ("one", b"\0")];
    let ids = payloads.map(|(name, data)| (cluster.secret(name, data), name));
    let granted: Vec<(&str, &str)> = ids.iter().map(|(id, name)| (id.as_str(), *name)).collect();
    cluster.service(&on_node(service("vault", 1, &granted), one.node_id()));
    cluster.service(&on_node(service("plain", 3, &[]), other.node_id()));
    cluster.until_running("vault", 1);
    cluster.until_running("plain", 3);
    one.until("it holds them all", |seen| (seen.model.secrets.len() == 4).then_some(()));
    for ((id, name), (_, data)) in ids.iter().zip(&payloads) {
        assert!(one.seen().model.secrets[id] == *data, "{name}");
    }
    assert!(one.heard(word), "so this is how it would look");

    // The other one is changed, scaled, and told about everything but this.
    cluster.update_service("plain", |spec| spec["TaskTemplate"]["ForceUpdate"] = json!(1));
    cluster.update_service("plain", |spec| spec["Mode"]["Replicated"]["Replicas"] = json!(5));
    cluster.until_running("plain", 5);
    other.member.renew().expect("signed");
    cluster.remove_service("vault");
    one.until("all are withdrawn", |seen| seen.model.secrets.is_empty().then_some(()));
    one.until("the task is gone", |seen| seen.model.tasks.is_empty().then_some(()));
    for (name, data) in payloads.iter().filter(|(_, data)| data.len() > 1) {
        assert!(!other.heard(&data[..data.len().min(64)]), "{name}");
    }
    for (id, name) in &ids {
        assert!(!other.heard(id.as_bytes()), "not even the id of {name}");
    }
    one.assert_no_faults();
    other.assert_no_faults();
}

#[test]
fn a_secret_stays_until_the_last_task_that_needs_it_has_ended() {
    let cluster = Cluster::new("count");
    let agent = silent_engine(&cluster);
    let shared = cluster.secret("shared", b"shared");
    for name in ["one", "two"] {
        cluster.service(&service(name, 1, &[(&shared, "shared")]));
    }
    let one = agent.until("a task of one", |seen| task_of(seen, "one"));
    let two = agent.until("a task of two", |seen| task_of(seen, "two"));
    for task in [&one, &two] {
        agent.report(task, TaskState::Running).expect("believed");
    }
    let holds = || agent.seen().model.secrets.contains_key(&shared);
    let puts = |seen: &Seen| {
        let changes = seen.assignments.iter().flat_map(|message| &message.changes);
        changes.filter(|change| change.action == 0).count()
    };
    assert!(holds());

    cluster.remove_service("one");
    until_desired(&agent, &one, TaskState::Shutdown);
    agent.report(&one, TaskState::Shutdown).expect("believed");
    agent.until("it may forget the task", |seen| {
        (!seen.model.tasks.contains_key(&one)).then_some(())
    });
    settle();
    assert!(holds(), "two needs it");

    cluster.remove_service("two");
    until_desired(&agent, &two, TaskState::Shutdown);
    settle();
    assert!(holds(), "two still runs");
    agent.report(&two, TaskState::Failed).expect("believed");
    agent.until("it is withdrawn", |seen| seen.model.secrets.is_empty().then_some(()));
    agent.until("nothing is left", |seen| seen.model.tasks.is_empty().then_some(()));
    let before = puts(&agent.seen());
    settle();
    assert_eq!(puts(&agent.seen()), before, "and nothing comes back");
    agent.assert_no_faults();
}

#[test]
fn what_was_revoked_while_a_node_was_away_never_reaches_it() {
    let cluster = Cluster::new("revoke");
    let agent = cluster.engine();
    let word = b"a word that was taken back";
    let id = cluster.secret("word", word);
    cluster.service(&on_node(service("web", 1, &[(&id, "word")]), agent.node_id()));
    let task = cluster.until_running("web", 1).remove(0);
    assert!(agent.heard(word));
    let member = agent.member.clone();
    drop(agent);
    cluster.remove_service("web");
    settle();

    let agent = silent_of(&member);
    agent.until("its old task is to stop", |seen| {
        (seen.model.tasks.get(&task)?.desired_state >= TaskState::Shutdown as i32).then_some(())
    });
    assert!(agent.seen().model.secrets.is_empty() && !agent.heard(word));
    agent.report(&task, TaskState::Shutdown).expect("believed");
    agent.until("it may forget it", |seen| seen.model.tasks.is_empty().then_some(()));
    assert!(!agent.heard(word));
    agent.assert_no_faults();
}

fn silent_of(member: &crate::kit::agent::Member) -> Agent {
    let habits = Habits { reports: false, ..Habits::default() };
    member.open(&habits).expect("a session")
}

#[test]
fn a_restarted_manager_tells_each_node_the_same_as_before() {
    let mut cluster = Cluster::new("again");
    let (one, other) = (cluster.engine(), cluster.engine());
    let id = cluster.secret("word", b"word");
    cluster.service(&on_node(service("vault", 2, &[(&id, "word")]), one.node_id()));
    cluster.service(&on_node(service("plain", 2, &[]), other.node_id()));
    cluster.until_running("vault", 2);
    cluster.until_running("plain", 2);
    let held = |agent: &Agent| {
        let seen = agent.seen();
        let tasks: Vec<String> = seen.model.tasks.keys().cloned().collect();
        (tasks, seen.model.secrets.clone())
    };
    let before = [held(&one), held(&other)];
    let members = [one.member.clone(), other.member.clone()];
    drop((one, other));
    cluster.purser.kill();
    cluster.purser.start();
    for (member, before) in members.iter().zip(before) {
        let agent = member.start();
        agent.until("assignments", |seen| seen.assignments.first().map(|_| ()));
        assert!(agent.seen().assignments[0].r#type() == Type::Complete);
        assert!(held(&agent) == before, "never less, or the node would stop it");
        settle();
        assert_eq!(agent.seen().assignments.len(), 1, "what it reports changes nothing");
        agent.assert_no_faults();
    }
}

#[test]
fn many_large_secrets_arrive_in_one_complete_message() {
    let cluster = Cluster::new("large");
    let agent = cluster.engine();
    let data = vec![b'x'; 500 * 1024 - 1];
    let names: Vec<String> = (0..12).map(|number| format!("s{number}")).collect();
    let ids: Vec<String> = names.iter().map(|name| cluster.secret(name, &data)).collect();
    let granted: Vec<(&str, &str)> =
        ids.iter().zip(&names).map(|(id, name)| (id.as_str(), name.as_str())).collect();
    cluster.service(&service("vault", 1, &granted));
    cluster.until_running("vault", 1);
    agent.until("all of them", |seen| (seen.model.secrets.len() == 12).then_some(()));
    assert!(agent.seen().assignments.len() >= 3, "increments are bounded");
    let late_only = |fault: &String| fault.contains("came without a task");
    assert!(agent.seen().model.faults.iter().all(late_only), "secrets may come ahead");
    let member = agent.member.clone();
    drop(agent);
    let agent = member.start();
    agent.until("assignments", |seen| seen.assignments.first().map(|_| ()));
    assert_eq!(agent.seen().model.secrets.len(), 12);
    assert!(agent.seen().model.secrets.values().all(|held| *held == data));
    agent.assert_no_faults();
}

#[test]
fn the_chain_holds_under_many_quick_changes() {
    let cluster = Cluster::new("chain");
    let agents = [cluster.engine(), cluster.engine()];
    let names = ["a", "b", "c", "d", "e"];
    let secrets = names.map(|name| cluster.secret(name, name.repeat(40).as_bytes()));
    let granted = |at: usize| {
        let next = (at + 1) % names.len();
        [(secrets[at].as_str(), names[at]), (secrets[next].as_str(), names[next])]
    };
    let mut exists = [false; 5];
    for step in 0..200u64 {
        // A fixed walk through all combinations of service and change.
        let at = usize::try_from(step * 7 % 5).expect("below five");
        let name = names[at];
        if !exists[at] {
            cluster.service(&service(name, step % 3 + 1, &granted(at)));
            exists[at] = true;
            continue;
        }
        match step * 3 % 7 {
            0 | 1 | 5 => cluster.update_service(name, |spec| {
                spec["Mode"]["Replicated"]["Replicas"] = json!(step % 5);
            }),
            2 | 3 => cluster.update_service(name, |spec| {
                let image = format!("app:{step}");
                spec["TaskTemplate"]["ContainerSpec"]["Image"] = json!(image);
            }),
            4 => cluster.update_service(name, |spec| {
                let secrets = service(name, 1, &granted(usize::try_from(step).unwrap_or(0) % 5));
                let secrets = &secrets["TaskTemplate"]["ContainerSpec"]["Secrets"];
                spec["TaskTemplate"]["ContainerSpec"]["Secrets"] = secrets.clone();
            }),
            _ => {
                cluster.remove_service(name);
                exists[at] = false;
            }
        }
    }
    for (at, name) in names.iter().enumerate().filter(|(at, _)| exists[*at]) {
        cluster.update_service(name, |spec| {
            let replicas = json!(at + 1);
            spec["Mode"]["Replicated"]["Replicas"] = replicas;
        });
        cluster.until_running(name, at + 1);
    }
    for agent in &agents {
        agent.assert_no_faults();
        assert!(agent.seen().assignments_end.is_none(), "one stream carried it all");
    }
    for (_, name) in names.iter().enumerate().filter(|(at, _)| exists[*at]) {
        cluster.remove_service(name);
    }
    for agent in &agents {
        agent.until("nothing is left", |seen| {
            (seen.model.tasks.is_empty() && seen.model.secrets.is_empty()).then_some(())
        });
        agent.assert_no_faults();
    }
    for id in &secrets {
        assert_eq!(cluster.client.delete(&format!("/secrets/{id}")).status, 204);
    }
}
