//! Several stock engines as nodes of one purser.

use std::collections::BTreeMap;

use crate::kit::docker::docker_with;
use crate::kit::engine::{Engine, Running, Site};
use crate::kit::search::{canary, files_with, in_memory};

/// How many of the tasks each node has.
fn spread(tasks: &[Running]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for task in tasks {
        *counts.entry(task.node.as_str()).or_insert(0) += 1;
    }
    counts
}

/// Where a text is that an engine should or should not have: its memory, and its files as the host
/// and as the engine itself sees them.
fn traces(engine: &Engine, text: &str) -> Vec<String> {
    let mut found = in_memory(engine.pid(), &[text]);
    found.extend(files_with(&engine.state_dir(), &[text]));
    let inside = format!("/proc/{}/root{}", engine.pid(), engine.state_dir().display());
    found.extend(files_with(inside.as_ref(), &[text]));
    found
}

#[test]
fn three_engines_share_the_work() {
    let site = Site::up(&["a", "b", "c"]);
    let listed = site.docker("node ls --format '{{.Hostname}} {{.Status}} {{.ManagerStatus}}'");
    let listed = listed.ok();
    assert_eq!(listed.lines().count(), 3, "{listed}");
    assert!(listed.contains(&format!("{} Ready Leader", site.engines[0].name())), "{listed}");
    docker_with(&site.purser.socket(), "secret create s -", b"This is a secret").ok();
    site.docker("service create -d --name web --replicas 6 --secret s redis:alpine").ok();
    let tasks = site.await_running("web", 6);
    assert_eq!(spread(&tasks).values().collect::<Vec<_>>(), [&2, &2, &2], "{tasks:?}");
    for task in &tasks {
        assert_eq!(site.exec(task, "cat /run/secrets/s").ok(), "This is a secret");
    }
    site.docker("service create -d --name agent --mode global redis:alpine").ok();
    let agents = site.await_running("agent", 3);
    assert_eq!(spread(&agents).len(), 3, "{agents:?}");
    site.docker("service scale -d web=3").ok();
    let tasks = site.await_running("web", 3);
    assert_eq!(spread(&tasks).len(), 3, "{tasks:?}");
    site.docker("service rm web agent").ok();
    for engine in &site.engines {
        crate::kit::eventually("the containers end", crate::kit::engine::PATIENCE, || {
            engine.containers().is_empty().then_some(())
        });
    }
}

#[test]
fn a_secret_is_sent_only_where_it_is_granted() {
    let site = Site::up(&["a", "b", "c"]);
    let [local, granted, other] = &site.engines[..] else { panic!("three engines") };
    let value = canary(48);
    let socket = site.purser.socket();
    let secret = docker_with(&socket, "secret create only -", value.as_bytes()).ok();
    // Work for all, so that every node has a stream of assignments with something in it.
    site.docker("service create -d --name all --mode global redis:alpine").ok();
    site.docker(&format!(
        "service create -d --name web --replicas 2 --secret only \
         --constraint node.hostname=={} redis:alpine",
        granted.name()
    ))
    .ok();
    site.await_running("all", 3);
    for task in site.await_running("web", 2) {
        assert_eq!(site.exec(&task, "cat /run/secrets/only").ok(), value);
    }
    // The search finds it where it is, so that finding nothing elsewhere says something.
    assert!(!in_memory(granted.pid(), &[&value]).is_empty(), "the search is blind in memory");
    assert!(!traces(granted, &value).is_empty(), "the search is blind");
    for engine in [local, other] {
        assert_eq!(traces(engine, &value), [""; 0], "{}", engine.name());
    }
    crate::kit::eventually("purser itself forgets it", crate::kit::engine::PATIENCE, || {
        in_memory(site.purser.pid(), &[&value]).is_empty().then_some(())
    });
    let log = site.purser.log();
    let sent: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("secret sent to node") && line.contains(&secret))
        .collect();
    let node = site.node_id(granted);
    assert!(!sent.is_empty() && sent.iter().all(|line| line.contains(&node)), "{sent:?}");

    site.docker("service rm web").ok();
    crate::kit::eventually("it is withdrawn", crate::kit::engine::PATIENCE, || {
        let log = site.purser.log();
        let mut lines = log.lines();
        lines.find(|line| line.contains("withdrawn") && line.contains(&secret)).map(|_| ())
    });
    crate::kit::eventually("no file is left", crate::kit::engine::PATIENCE, || {
        let inside = format!("/proc/{}/root{}", granted.pid(), granted.state_dir().display());
        files_with(inside.as_ref(), &[&value]).is_empty().then_some(())
    });
}

#[test]
fn a_node_is_drained_removed_and_leaves() {
    let site = Site::up(&["a", "b"]);
    let [local, second] = &site.engines[..] else { panic!("two engines") };
    site.docker("service create -d --name web --replicas 4 redis:alpine").ok();
    assert_eq!(spread(&site.await_running("web", 4)).len(), 2);

    let id = site.node_id(second);
    site.docker(&format!("node update --availability drain {}", second.name())).ok();
    site.await_tasks("web", "all are on the other node", |tasks| {
        tasks.len() == 4 && tasks.iter().all(|task| task.node != id)
    });
    crate::kit::eventually("the drained node is empty", crate::kit::engine::PATIENCE, || {
        second.containers().is_empty().then_some(())
    });
    site.docker(&format!("node update --availability active {}", second.name())).ok();
    site.docker("service scale -d web=6").ok();
    let tasks = site.await_running("web", 6);
    assert_eq!(spread(&tasks).get(id.as_str()), Some(&2), "{tasks:?}");

    let refused = site.docker(&format!("node rm {}", second.name()));
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("is not down and can't be removed"), "{}", refused.err);
    second.docker("swarm leave").ok();
    site.await_node(second, "down");
    site.await_tasks("web", "all moved", |tasks| {
        tasks.len() == 6 && tasks.iter().all(|task| task.node != id)
    });
    assert_eq!(second.containers(), [""; 0]);
    site.docker(&format!("node rm {}", second.name())).ok();
    assert_eq!(site.docker("node ls -q").ok().lines().count(), 1);

    // It may come back, as another node.
    let token = site.docker("swarm join-token -q worker").ok();
    second.join(&token, &site.door);
    site.await_node(second, "ready");
    assert_ne!(site.node_id(second), id);

    // Removed by force while it is there, it is not let in again.
    site.docker(&format!("node rm --force {}", second.name())).ok();
    assert_eq!(site.docker("node ls -q").ok().lines().count(), 1);
    let said = site.docker("swarm leave");
    assert_eq!(said.code, 1, "{said:?}");
    site.docker("swarm leave --force").ok();
    crate::kit::eventually("the local engine is free", crate::kit::engine::PATIENCE, || {
        let state = local.docker("info --format '{{.Swarm.LocalNodeState}}'").out;
        (state == "inactive").then_some(())
    });
    crate::kit::eventually("its containers end", crate::kit::engine::PATIENCE, || {
        local.containers().is_empty().then_some(())
    });
    assert_eq!(site.docker("info --format '{{.Swarm.LocalNodeState}}'").ok(), "inactive");
    assert_eq!(site.docker("node ls").code, 1);
    // And a new swarm can begin.
    site.purser.init(&format!("{}:0", local.host()));
    site.await_node(local, "ready");
}

#[test]
fn a_rotated_token_lets_nobody_in() {
    let site = Site::up(&["a"]);
    let late = Engine::up("late");
    let old = site.docker("swarm join-token -q worker").ok();
    let new = site.docker("swarm join-token -q --rotate worker").ok();
    assert_ne!(old, new);
    let refused = late.docker(&format!("swarm join --token {old} {}", site.door));
    assert_ne!(refused.code, 0, "{refused:?}");
    late.docker("swarm leave --force");
    late.join(&new, &site.door);
    site.await_node(&late, "ready");
}
