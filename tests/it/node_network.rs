//! Networks on the wire: what nodes are told of them, and in which order.

use purser::wire::proto;
use serde_json::{Value, json};

use crate::kit::agent::cluster::{Cluster, on_node, service};
use crate::kit::agent::{Agent, Habits, Seen};

/// Makes an overlay and gives its id.
fn overlay(cluster: &Cluster, name: &str) -> String {
    let body = json!({"Name": name, "Driver": "overlay", "Options": {"encrypted": ""}});
    let answer = cluster.client.post("/networks/create", &body);
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["Id"].as_str().expect("an id").to_owned()
}

fn on_networks(mut service: Value, networks: &[&str]) -> Value {
    let targets: Vec<Value> =
        networks.iter().map(|name| json!({"Target": name, "Aliases": ["also"]})).collect();
    service["TaskTemplate"]["Networks"] = json!(targets);
    service
}

/// The places of a node as the newest message of its session says.
fn places(seen: &Seen) -> Vec<proto::NetworkAttachment> {
    let node = seen.messages.last().and_then(|message| message.node.clone());
    node.expect("every message has the node").attachments
}

fn ids(places: &[proto::NetworkAttachment]) -> Vec<String> {
    places.iter().map(|place| whole(place).id.clone()).collect()
}

/// The network of a place, which must have all that an engine looks into.
fn whole(place: &proto::NetworkAttachment) -> &proto::Network {
    let network = place.network.as_ref().expect("an engine dereferences it");
    assert!(network.driver_state.is_some(), "an engine dereferences it");
    let ipam = network.ipam.as_ref().expect("an engine dereferences it");
    assert!(ipam.driver.is_some(), "an engine dereferences it");
    assert!(network.spec.as_ref().is_some_and(|spec| spec.annotations.is_some()));
    network
}

fn task(seen: &Seen, service: &str) -> Option<proto::Task> {
    seen.model.tasks_of(service).first().map(|task| (*task).clone())
}

/// An engine in a session that reports only what the test reports.
fn silent_engine(cluster: &Cluster) -> Agent {
    let habits = Habits { reports: false, ..Habits::default() };
    cluster.join().expect("admitted").open(&habits).expect("a session")
}

#[test]
fn every_node_has_a_place_on_the_routing_mesh_from_the_first_message_on() {
    let cluster = Cluster::new("net-mesh");
    let agents = [cluster.engine(), cluster.engine()];
    let mut addresses = Vec::new();
    for agent in &agents {
        let seen = agent.seen();
        let first = seen.messages[0].node.clone().expect("every message has the node");
        let [place] = &first.attachments[..] else { panic!("{:?}", ids(&first.attachments)) };
        let network = whole(place);
        assert!(network.spec.as_ref().is_some_and(|spec| spec.ingress));
        addresses.extend(place.addresses.clone());
    }
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 2);
    assert!(addresses.iter().all(|address| address.ends_with("/24")), "{addresses:?}");
}

#[test]
fn a_task_comes_with_its_networks_to_a_node_that_has_a_place_on_them() {
    let cluster = Cluster::new("net-task");
    let (agent, other) = (cluster.engine(), cluster.engine());
    let back = overlay(&cluster, "back");
    let mut web = on_networks(on_node(service("web", 1, &[]), agent.node_id()), &["back"]);
    web["EndpointSpec"] = json!({"Ports": [{"TargetPort": 80}]});
    cluster.service(&web);
    let sent = agent.until("the task", |seen| task(seen, "web"));
    agent.until("a place on the network", |seen| ids(&places(seen)).contains(&back).then_some(()));
    let [place, mesh] = &sent.networks[..] else { panic!("{:?}", ids(&sent.networks)) };
    let network = whole(place);
    assert_eq!(network.id, back);
    let state = network.driver_state.as_ref().expect("looked at before");
    assert_eq!(state.options["com.docker.network.driver.overlay.vxlanid_list"], "4097");
    assert!(state.options.contains_key("encrypted"));
    assert_eq!(network.ipam.as_ref().map(|ipam| &*ipam.configs[0].subnet), Some("10.0.1.0/24"));
    assert_eq!(place.aliases, ["also"]);
    assert!(place.addresses[0].starts_with("10.0.1.") && place.addresses[0].ends_with("/24"));
    assert!(whole(mesh).spec.as_ref().is_some_and(|spec| spec.ingress));
    let endpoint = sent.endpoint.expect("it publishes a port");
    assert_eq!(endpoint.ports[0].published_port, 30_000);
    let virtual_ips: Vec<&str> = endpoint.virtual_ips.iter().map(|ip| &*ip.addr).collect();
    assert!(virtual_ips.iter().all(|ip| ip.ends_with("/24")), "{virtual_ips:?}");
    assert_eq!(virtual_ips.len(), 2);
    assert_eq!(sent.spec.map(|spec| spec.networks[0].target.clone()), Some(back));
    cluster.until_running("web", 1);
    let shown = cluster.tasks("web")[0]["NetworksAttachments"][0].clone();
    assert_eq!(shown["Addresses"], json!([place.addresses[0]]));
    let network = &shown["Network"];
    assert_eq!(network["Spec"]["DriverConfiguration"]["Name"], "overlay");
    assert_eq!(
        (&network["Spec"]["Name"], &network["Spec"]["Scope"]),
        (&json!("back"), &json!("swarm"))
    );
    assert_eq!(network["DriverState"]["Options"]["encrypted"], "");
    let pool = json!({"Subnet": "10.0.1.0/24", "Gateway": "10.0.1.1"});
    assert_eq!(network["IPAMOptions"], json!({"Driver": {"Name": "default"}, "Configs": [pool]}));
    assert_eq!(places(&other.seen()).len(), 1, "it has no task on it");
    agent.assert_no_faults();
}

#[test]
fn a_place_goes_when_the_last_task_on_its_network_has_ended() {
    let cluster = Cluster::new("net-ends");
    let agent = silent_engine(&cluster);
    let back = overlay(&cluster, "back");
    for name in ["one", "two"] {
        cluster.service(&on_networks(service(name, 1, &[]), &["back"]));
    }
    let one = agent.until("a task", |seen| task(seen, "one")).id;
    let two = agent.until("a task", |seen| task(seen, "two")).id;
    let has = || ids(&places(&agent.seen())).contains(&back);
    agent.until("a place", |seen| ids(&places(seen)).contains(&back).then_some(()));
    for task in [&one, &two] {
        agent.report(task, proto::TaskState::Running).expect("believed");
    }
    // The network is removed with its services, and is there until nothing runs on it.
    cluster.remove_service("one");
    cluster.remove_service("two");
    assert_eq!(cluster.client.delete("/networks/back").status, 204);
    assert_eq!(cluster.client.get("/networks/back").status, 404);
    agent.until("both are told to stop", |seen| {
        let stops = |id| seen.model.tasks.get(id).is_some_and(|task| task.desired_state > 512);
        (stops(&one) && stops(&two)).then_some(())
    });
    agent.report(&one, proto::TaskState::Shutdown).expect("believed");
    std::thread::sleep(std::time::Duration::from_millis(400));
    assert!(has(), "the other one runs");
    agent.report(&two, proto::TaskState::Shutdown).expect("believed");
    agent.until("the place is gone", |seen| (!ids(&places(seen)).contains(&back)).then_some(()));
    // Its subnet is free only now.
    let again = overlay(&cluster, "back");
    let subnet =
        cluster.client.get(&format!("/networks/{again}")).json()["IPAM"]["Config"][0]["Subnet"]
            .clone();
    assert_eq!(subnet, "10.0.1.0/24");
}

#[test]
fn a_network_that_every_engine_has_needs_no_address() {
    let cluster = Cluster::new("net-host");
    let agent = cluster.engine();
    cluster.service(&on_networks(service("web", 1, &[]), &["host"]));
    let sent = agent.until("the task", |seen| task(seen, "web"));
    let [place] = &sent.networks[..] else { panic!("{:?}", ids(&sent.networks)) };
    let network = whole(place);
    let named = network.spec.as_ref().and_then(|spec| spec.annotations.as_ref());
    let named = named.expect("looked at before");
    assert_eq!((&*named.name, &*named.labels["com.docker.swarm.predefined"]), ("host", "true"));
    assert_eq!(network.driver_state.as_ref().map(|state| &*state.name), Some("host"));
    assert!(place.addresses.is_empty());
    cluster.until_running("web", 1);
    assert_eq!(places(&agent.seen()).len(), 1, "that of the routing mesh");
}

#[test]
fn a_task_goes_to_no_node_that_could_not_have_an_address() {
    let cluster = Cluster::new("net-full");
    let (one, two) = (cluster.engine(), cluster.engine());
    // Three addresses besides the gateway's, of which the tasks leave one.
    let body = json!({"Name": "small", "Driver": "overlay", "IPAM": {"Config": [
        {"Subnet": "10.9.0.0/29", "AuxiliaryAddresses": {"a": "10.9.0.5", "b": "10.9.0.6"}}]}});
    assert_eq!(cluster.client.post("/networks/create", &body).status, 201);
    let mut web = on_networks(service("web", 2, &[]), &["small"]);
    web["EndpointSpec"] = json!({"Mode": "dnsrr"});
    web["TaskTemplate"]["Placement"] = json!({"MaxReplicas": 1});
    cluster.service(&web);
    cluster.until_running("web", 1);
    let waiting = crate::kit::eventually("one waits", crate::kit::agent::PATIENCE, || {
        let tasks = cluster.tasks("web");
        let said = tasks.iter().find(|task| {
            let err = task["Status"]["Err"].as_str().unwrap_or_default();
            err.contains("no free network address for 1 node")
        });
        said.map(|task| task["ID"].as_str().expect("an id").to_owned())
    });
    std::thread::sleep(std::time::Duration::from_millis(400));
    for agent in [&one, &two] {
        assert!(!agent.seen().model.tasks.contains_key(&waiting), "it would hang there");
        agent.assert_no_faults();
    }
}
