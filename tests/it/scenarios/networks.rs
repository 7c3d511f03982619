//! Random services on small networks: nothing is given twice, and in the end nothing is missing.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::Config;

use purser::domain::endpoint::{EndpointSpec, PortConfig};
use purser::domain::id::ServiceId;
use purser::domain::intent::Intent;
use purser::domain::task_state::{Mover, TaskState};

use super::world::World;

/// The ports that are given to services that name none.
const DYNAMIC: std::ops::RangeInclusive<u32> = 30_000..=32_767;

const NODES: [&str; 3] = ["n1", "n2", "n3"];
const SERVICES: [&str; 3] = ["web", "log", "api"];
const NETWORKS: [&str; 3] = ["front", "back", "wide"];

proptest! {
    #![proptest_config(Config { cases: 96, failure_persistence: None, ..Config::default() })]

    #[test]
    fn whatever_happens_nothing_is_given_twice_or_lost(seed: u64, script in vec(command(), 1..40)) {
        let mut world = World::new(seed);
        let mut done = Vec::new();
        let start = ["network mesh ingress=yes", "node n1", "node n2", "node n3"];
        let lines = start.into_iter().map(str::to_owned).chain(script);
        for line in lines.chain(end()) {
            let _ = world.line(&line);
            done.push(line);
            prop_assert!(world.complaints.is_empty(), "{}\n{:?}", done.join("\n"), world.complaints);
        }
        let view = &world.view;
        let left = (view.addresses().len(), view.networks().len(), view.tasks().len());
        prop_assert_eq!(left, (0, 0, 0), "{}", done.join("\n"));
    }
}

/// Every node works, everything is removed, and there is time.
fn end() -> impl Iterator<Item = String> {
    let nodes = NODES.into_iter().flat_map(|name| ["node", "up"].map(|v| format!("{v} {name}")));
    let services = SERVICES.into_iter().map(|name| format!("remove {name}"));
    let networks = NETWORKS.into_iter().chain(["mesh"]).map(|n| format!("remove-network {n}"));
    let own = NODES.into_iter().map(|name| format!("detach {name}"));
    nodes.chain(own).chain(services).chain(networks).chain(["advance 30m".to_owned()])
}

fn command() -> impl Strategy<Value = String> {
    let node = prop::sample::select(&NODES[..]);
    let name = || prop::sample::select(&SERVICES[..]);
    let network = prop::sample::select(
        &[
            "front subnet=10.1.0.0/29",
            "front subnet=10.1.0.0/29 attachable=yes",
            "back subnet=10.2.0.0/28 range=10.2.0.8/29 attachable=yes",
            "back subnet=10.2.0.0/28 aux=10.2.0.4 gateway=10.2.0.9",
            "wide subnet=10.3.0.0/29 subnet=10.4.0.0/30 attachable=yes",
            "wide",
            "front subnet=10.1.0.0/16",
        ][..],
    );
    let settings = prop::sample::select(
        &[
            "",
            "networks=front",
            "networks=front,back",
            "networks=wide endpoint=dnsrr",
            "networks=wide,front publish=80",
            "networks= publish=80",
            "networks=back publish=0",
            "publish=0 order=start-first",
            "endpoint=vip",
        ][..],
    );
    let wish = prop::sample::select(
        &["front", "back", "wide", "back address=10.2.0.3", "wide address=10.4.0.2", "mesh"][..],
    );
    let replicas = 0..9u8;
    let on_node = prop::sample::select(
        &["up", "down", "hang", "drain", "activate", "remove-node", "node"][..],
    );
    prop_oneof![
        4 => network.prop_map(|network| format!("network {network}")),
        2 => prop::sample::select(&["front", "back", "wide", "mesh"][..])
            .prop_map(|name| format!("remove-network {name}")),
        1 => Just("network mesh ingress=yes".to_owned()),
        5 => (name(), settings.clone(), replicas.clone())
            .prop_map(|(name, settings, count)| format!("service {name} replicas={count} {settings}")),
        4 => (name(), settings).prop_map(|(name, settings)| format!("update {name} {settings}")),
        3 => (name(), replicas).prop_map(|(name, count)| format!("scale {name} {count}")),
        1 => name().prop_map(|name| format!("update {name} image=app:2 failure=rollback")),
        1 => name().prop_map(|name| format!("rollback {name}")),
        2 => name().prop_map(|name| format!("remove {name}")),
        1 => (name(), 1..4u8).prop_map(|(name, slot)| format!("fail {name}.{slot}")),
        4 => (on_node, node.clone()).prop_map(|(verb, node)| format!("{verb} {node}")),
        4 => (node.clone(), wish).prop_map(|(node, wish)| format!("attach {node} {wish}")),
        2 => (prop::sample::select(&["detach ", "fail own."][..]), node)
            .prop_map(|(verb, node)| format!("{verb}{node}")),
        1 => Just("restart-manager".to_owned()),
        3 => prop::sample::select(&["1s", "5s", "20s"][..]).prop_map(|span| format!("advance {span}")),
    ]
}

/// A service that takes every port that is given out keeps others waiting, with a word, until it is
/// gone.
#[test]
fn a_service_waits_for_a_port_until_one_is_free() {
    let mut world = World::new(3);
    let _ = world.line("network mesh ingress=yes; node n1");
    let mut spec = super::spec::plain("greedy");
    let port = |target_port| PortConfig { target_port, ..PortConfig::default() };
    let ports = DYNAMIC.map(port).collect();
    spec.endpoint_spec = Some(EndpointSpec { ports, ..EndpointSpec::default() });
    let id = ServiceId::make(&world.entropy);
    let intent = Intent::CreateService { id, spec, registry_auth: None };
    assert_eq!(world.submit(Mover::Orchestrator, intent), Ok(true));
    let shown = |world: &mut World, line: &str| {
        let shown = world.line(line) + &world.line("show tasks late");
        assert!(world.complaints.is_empty(), "{:?}", world.complaints);
        shown
    };
    let waits =
        "  late.1   -    app:1     running/new  no free tcp port is left of 30000 to 32767\n";
    assert_eq!(shown(&mut world, "service late publish=0"), waits);
    assert_eq!(shown(&mut world, "update late image=app:2"), waits.replace("app:1", "app:2"));
    let runs = "  late.1   n1   app:2     running/running\n";
    assert_eq!(shown(&mut world, "remove greedy; advance 1m"), runs);
}

/// What a large cluster needs in one go. How long that takes is the benches' to say.
#[test]
fn many_tasks_on_many_networks_are_settled() {
    let mut world = World::new(7);
    let _ = world.line("network mesh ingress=yes subnet=10.255.0.0/16");
    let nodes: Vec<String> = (0..100).map(|at| format!("node n{at} cpus=64")).collect();
    let _ = world.line(&nodes.join("; "));
    for at in 0..5 {
        let _ = world.line(&format!("network net{at} subnet=10.{at}.0.0/20"));
        let _ = world.line(&format!("service s{at} replicas=200 networks=net{at} publish=0"));
    }
    assert!(world.complaints.is_empty(), "{:?}", world.complaints);
    let running = world.view.tasks().filter(|task| task.status.state == TaskState::Running);
    assert_eq!(running.count(), 1_000);
}
