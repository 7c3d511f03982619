//! Containers that people run by themselves on networks of the swarm, from engines that are nodes.

use crate::kit::engine::{Engine, PATIENCE, Site};
use crate::kit::eventually;

/// The attachments that purser knows.
fn attachments(site: &Site) -> usize {
    let tasks = site.purser.client().get("/tasks?filters={\"runtime\":[\"attachment\"]}").json();
    tasks.as_array().map_or(0, Vec::len)
}

#[track_caller]
fn until_attached(site: &Site, count: usize) {
    let what = format!("there are {count} attachments");
    eventually(&what, PATIENCE, || (attachments(site) == count).then_some(()));
}

/// Waits until a container of an engine reaches another.
#[track_caller]
fn until_reached(engine: &Engine, from: &str, to: &str) {
    eventually(&format!("{from} reaches {to}"), PATIENCE, || {
        let said = engine.docker(&format!("exec {from} ping -c 1 -W 1 {to}"));
        (said.code == 0).then_some(())
    });
}

/// The address of a container on `net1`.
#[track_caller]
fn address(engine: &Engine, container: &str) -> String {
    let format = "{{(index .NetworkSettings.Networks \"net1\").IPAddress}}";
    engine.docker(&format!("inspect --format '{format}' {container}")).ok()
}

#[test]
fn a_container_of_a_user_joins_a_network_of_the_swarm() {
    let site = Site::up(&["a", "b"]);
    let [local, second] = &site.engines[..] else { panic!("two engines") };
    site.docker("network create -d overlay --attachable --subnet 10.77.0.0/24 net1").ok();
    site.docker(&format!(
        "service create -d --name web --network net1 --endpoint-mode dnsrr \
         --constraint node.hostname=={} redis:alpine",
        local.name()
    ))
    .ok();
    let web = site.await_running("web", 1).remove(0);

    // Directly on an engine that has no task on that network.
    second.docker("run -d --name own --network net1 --ip 10.77.0.99 redis:alpine").ok();
    until_attached(&site, 1);
    assert_eq!(address(second, "own"), "10.77.0.99");
    until_reached(local, &web.container, "10.77.0.99");
    until_reached(second, "own", &address(local, &web.container));
    until_reached(second, "own", "tasks.web");
    until_reached(local, &web.container, "own");

    // Through purser, on the engine of its host: a container that is there already.
    site.docker("run -d --name plain redis:alpine").ok();
    site.docker("network connect net1 plain").ok();
    until_attached(&site, 2);
    until_reached(local, "plain", "10.77.0.99");
    until_reached(second, "own", "plain");
    // Nobody is shown what the docker command cannot show.
    assert_eq!(site.docker("node ps self --format '{{.Name}}'").ok().lines().count(), 1);

    let refused = second.docker("run -d --name late --network net1 --ip 10.77.0.99 redis:alpine");
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(refused.err.contains("address 10.77.0.99 of network net1 is taken"), "{}", refused.err);
    site.docker("network create -d overlay shut").ok();
    let refused = second.docker("run -d --network shut redis:alpine");
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(refused.err.contains("network shut is not attachable"), "{}", refused.err);

    site.docker("service rm web").ok();
    let refused = site.docker("network rm net1");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("is in use by task"), "{}", refused.err);
    site.docker("network disconnect net1 plain").ok();
    until_attached(&site, 1);
    assert_eq!(site.docker("network rm net1").code, 1, "the other one is there");
    second.docker("rm -f own").ok();
    until_attached(&site, 0);
    site.docker("network rm net1").ok();
}

#[test]
fn what_an_engine_had_attached_when_it_died_is_forgotten() {
    let site = Site::up(&["a", "b"]);
    let second = &site.engines[1];
    site.docker("network create -d overlay --attachable net1").ok();
    second.docker("run -d --name own --network net1 redis:alpine").ok();
    until_attached(&site, 1);
    second.kill();
    site.await_node(second, "down");
    assert_eq!(attachments(&site), 1, "it may come back");
    second.revive();
    site.await_node(second, "ready");
    until_attached(&site, 0);
    // What was attached may be again.
    second.docker("start own").ok();
    until_attached(&site, 1);
    second.docker("rm -f own").ok();
    until_attached(&site, 0);
    site.docker("network rm net1").ok();
}
