//! Nodes that die, are cut off, or lose their manager for a while.

use std::time::Duration;

use crate::kit::docker::docker_with;
use crate::kit::engine::{PATIENCE, Site};
use crate::kit::eventually;

/// Two nodes that are looked after closely, and a service with two tasks on each.
fn site_with_web() -> Site {
    let site = Site::up(&["a", "b"]);
    site.docker("swarm update --dispatcher-heartbeat 1s").ok();
    docker_with(&site.purser.socket(), "secret create s -", b"This is a secret").ok();
    let create = "service create -d --name web --replicas 4 --stop-grace-period 1s --secret s";
    site.docker(&format!("{create} redis:alpine")).ok();
    site.await_running("web", 4);
    site
}

#[track_caller]
fn check_secret(site: &Site, service: &str) {
    for task in site.running(service) {
        assert_eq!(site.exec(&task, "cat /run/secrets/s").ok(), "This is a secret");
    }
}

#[test]
fn work_moves_from_a_dead_node_and_the_node_comes_back() {
    let site = site_with_web();
    let [local, second] = &site.engines[..] else { panic!("two engines") };
    let (first_id, second_id) = (site.node_id(local), site.node_id(second));
    let before = site.running("web");

    second.kill();
    site.await_node(second, "down");
    let status = site.node(second)["Status"]["Message"].clone();
    assert_eq!(status, "heartbeat failure");
    let after = site.await_tasks("web", "all run on the node that is left", |tasks| {
        tasks.len() == 4 && tasks.iter().all(|task| task.node == first_id)
    });
    // Those that were there already were left alone.
    let stayed = before.iter().filter(|task| task.node == first_id);
    assert!(stayed.clone().count() == 2 && stayed.clone().all(|task| after.contains(task)));
    check_secret(&site, "web");

    second.revive();
    site.await_node(second, "ready");
    assert_eq!(site.node_id(second), second_id);
    eventually("nothing old runs there", PATIENCE, || second.containers().is_empty().then_some(()));
    assert_eq!(site.running("web"), after);
    site.docker("service scale -d web=6").ok();
    let tasks = site.await_running("web", 6);
    assert_eq!(tasks.iter().filter(|task| task.node == second_id).count(), 2, "{tasks:?}");
    check_secret(&site, "web");
}

#[test]
fn a_node_cut_off_keeps_its_tasks_until_it_hears_again() {
    let site = site_with_web();
    let [local, second] = &site.engines[..] else { panic!("two engines") };
    let (first_id, second_id) = (site.node_id(local), site.node_id(second));
    let old = second.containers();
    assert_eq!(old.len(), 2);

    second.cut();
    site.await_node(second, "down");
    site.await_tasks("web", "all run on the node that is left", |tasks| {
        tasks.len() == 4 && tasks.iter().all(|task| task.node == first_id)
    });
    assert_eq!(second.containers(), old, "a node that hears nothing does nothing");

    second.heal();
    site.await_node(second, "ready");
    assert_eq!(site.node_id(second), second_id);
    eventually("the old tasks are stopped", PATIENCE, || {
        second.containers().is_empty().then_some(())
    });
    assert_eq!(site.running("web").len(), 4);
    check_secret(&site, "web");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "what is tested is that nothing happens for a time")]
fn nodes_carry_on_while_purser_is_away() {
    let mut site = Site::up(&["a", "b", "c"]);
    docker_with(&site.purser.socket(), "secret create s -", b"This is a secret").ok();
    site.docker("service create -d --name web --replicas 6 --secret s redis:alpine").ok();
    let tasks = site.await_running("web", 6);
    let containers = |site: &Site| -> Vec<Vec<String>> {
        site.engines.iter().map(crate::kit::engine::Engine::containers).collect()
    };
    let before = containers(&site);

    site.purser.stop();
    std::thread::sleep(Duration::from_secs(30));
    assert_eq!(containers(&site), before);
    site.purser.start();
    let back = std::time::Instant::now();
    for engine in &site.engines {
        site.await_node(engine, "ready");
    }
    let time = back.elapsed();
    assert!(time < Duration::from_secs(30), "{time:?}");
    assert_eq!(site.await_running("web", 6), tasks);

    // The swarm is whole: a change still arrives everywhere.
    site.docker("service scale -d web=9").ok();
    let grown = site.await_running("web", 9);
    assert!(tasks.iter().all(|task| grown.contains(task)));
    let after = containers(&site);
    for (before, after) in before.iter().zip(&after) {
        assert!(before.iter().all(|container| after.contains(container)), "{before:?} {after:?}");
    }
    check_secret(&site, "web");
}
