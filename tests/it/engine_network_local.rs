//! Networks of the swarm beside those of the engine.

use serde_json::json;

use crate::kit::engine::Site;

#[test]
fn networks_of_the_swarm_and_of_the_engine_stand_in_one_list() {
    let site = Site::up(&["a"]);
    site.docker("network create -d overlay back").ok();
    site.docker("network create -d bridge own").ok();
    let listed = site.docker("network ls --format '{{.Name}} {{.Driver}} {{.Scope}}'").ok();
    for line in
        ["back overlay swarm", "ingress overlay swarm", "own bridge local", "host host local"]
    {
        assert!(listed.lines().any(|known| known == line), "{line}: {listed}");
    }
    let own = site.docker("network ls -q --filter scope=local --filter name=own").ok();
    assert_eq!(own.lines().count(), 1, "{own}");
    for (args, refusal) in [
        ("network create -d bridge back", "network with name back already exists"),
        ("network create -d overlay own", "network with name own already exists"),
    ] {
        assert_eq!(site.docker(args).refused(), refusal, "{args}");
    }
    let spec = json!({"Name": "web", "TaskTemplate": {"Networks": [{"Target": "own"}],
        "ContainerSpec": {"Image": "redis:alpine"}}});
    let refused = site.purser.client().post("/services/create", &spec);
    let message = "The network own cannot be used with services. Only networks scoped to the swarm \
         can be used, such as those created with the overlay driver.";
    assert_eq!((refused.status, &*refused.message()), (403, message));
    site.docker("network rm own back").ok();
    assert_eq!(site.docker("network ls -q --filter name=own --filter name=back").ok(), "");
}

#[test]
fn a_service_runs_on_a_network_that_every_engine_has() {
    let site = Site::up(&["a"]);
    for (network, expected) in [("host", "docker0"), ("bridge", "eth0"), ("none", "lo")] {
        let create = format!("service create -d --name {network} --network {network}");
        site.docker(&format!("{create} redis:alpine")).ok();
        let tasks = site.await_running(network, 1);
        let interfaces = site.exec(&tasks[0], "ls /sys/class/net").ok();
        assert!(interfaces.contains(expected), "{network}: {interfaces}");
        assert!(network == "host" || !interfaces.contains("docker0"), "{network}: {interfaces}");
        let shown = site.docker(&format!("service inspect --pretty {network}")).ok();
        assert!(shown.contains(&format!("Networks: {network}")), "{shown}");
    }
}
