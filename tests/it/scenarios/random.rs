//! Random commands: the checker looks after every one, and in the end everything heals.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::Config;

use purser::domain::service::UpdateState;
use purser::domain::task_state::TaskState;

use super::world::World;

const NODES: [&str; 4] = ["n1", "n2", "n3", "n4"];
const SERVICES: [&str; 2] = ["web", "log"];

proptest! {
    #![proptest_config(Config { cases: 96, failure_persistence: None, ..Config::default() })]

    #[test]
    fn whatever_happens_the_view_is_sound_and_heals(seed: u64, script in vec(command(), 1..40)) {
        let mut world = World::new(seed);
        let mut done = Vec::new();
        let order = if is_crowded(&script) { "stop-first" } else { "start-first" };
        for line in START.into_iter().map(str::to_owned).chain(script).chain(heal(order)) {
            let _ = world.line(&line);
            done.push(line);
            prop_assert!(world.complaints.is_empty(), "{}\n{:?}", done.join("\n"), world.complaints);
        }
        let unwell = unwell(&world);
        prop_assert!(unwell.is_empty(), "{}\n{unwell:?}\n{}", done.join("\n"), tables(&world));
    }
}

const START: [&str; 3] = ["node n1 label.zone=a", "node n2 label.zone=b", "node n3 label.zone=a"];

/// Every node works, every service has an image that runs and no more tasks than there are nodes,
/// and there is time.
fn heal(order: &str) -> impl Iterator<Item = String> {
    let nodes = NODES.into_iter().flat_map(|name| {
        ["node", "up", "activate"]
            .map(|verb| format!("{verb} {name}"))
            .into_iter()
            .chain([format!("label {name} zone=a")])
    });
    let rest = [
        format!("update web image=app:9 replicas={} order={order}", NODES.len()),
        "update log image=app:9".to_owned(),
        "advance 30m".to_owned(),
    ];
    nodes.chain(rest)
}

/// True for a script after which a node may have room for only one task of a service, so that none
/// can start beside the one that is to be replaced.
fn is_crowded(script: &[String]) -> bool {
    script.iter().any(|line| line.contains("port=") || line.contains("max-per-node="))
}

fn command() -> impl Strategy<Value = String> {
    let node = prop::sample::select(&NODES[..]);
    let image = prop::sample::select(
        &[
            "app:1",
            "app:2",
            "slow:1",
            "slow-crash:1",
            "crash:1",
            "once:1",
            "lingers:1",
            "absent:1",
            "sick:1",
        ][..],
    );
    let policy = prop::sample::select(
        &[
            "",
            " restart=none",
            " restart=on-failure attempts=2",
            " restart=any attempts=1 window=20s",
        ][..],
    );
    let rollout = prop::sample::select(
        &[
            "",
            " parallelism=2",
            " parallelism=0",
            " update-delay=7s failure=continue",
            " ratio=0.5",
            " order=start-first",
            " order=start-first parallelism=2 failure=continue",
            " order=stop-first",
            " failure=rollback rollback.order=start-first",
            " order=start-first failure=rollback rollback.failure=continue",
        ][..],
    );
    let placement = prop::sample::select(
        &["", " constraint=node.labels.zone==a", " port=80", " cpus=1", " max-per-node=1"][..],
    );
    let settings =
        (image, policy, rollout, placement).prop_map(|(image, policy, rollout, placement)| {
            format!("image={image}{policy}{rollout}{placement}")
        });
    let slot = (1..4u8).prop_map(|slot| format!("web.{slot}"));
    let running = prop_oneof![slot, node.clone().prop_map(|node| format!("log.{node}"))];
    let on_node = prop::sample::select(
        &["up", "down", "hang", "drain", "pause", "activate", "remove-node", "node"][..],
    );
    prop_oneof![
        3 => settings.clone().prop_map(|settings| format!("service web replicas=3 {settings}")),
        2 => settings.clone().prop_map(|settings| format!("global log {}", at_port_81(&settings))),
        3 => settings.clone().prop_map(|settings| format!("update web {settings}")),
        2 => settings.prop_map(|settings| format!("update log {}", at_port_81(&settings))),
        2 => (0..6u8).prop_map(|replicas| format!("scale web {replicas}")),
        1 => prop::sample::select(&SERVICES[..]).prop_map(|name| format!("remove {name}")),
        2 => prop::sample::select(&SERVICES[..]).prop_map(|name| format!("rollback {name}")),
        3 => (prop::sample::select(&["fail", "complete"][..]), running)
            .prop_map(|(verb, task)| format!("{verb} {task}")),
        6 => (on_node, node.clone()).prop_map(|(verb, node)| format!("{verb} {node}")),
        2 => (node, prop::sample::select(&["a", "b"][..]))
            .prop_map(|(node, zone)| format!("label {node} zone={zone}")),
        1 => Just("restart-manager".to_owned()),
        4 => prop::sample::select(&["1s", "5s", "20s", "2m"][..]).prop_map(|span| format!("advance {span}")),
    ]
}

/// The two services would keep each other from a node with the same port.
fn at_port_81(settings: &str) -> String {
    settings.replace("port=80", "port=81")
}

/// What has not healed.
fn unwell(world: &World) -> Vec<String> {
    let view = &world.view;
    let mut found = Vec::new();
    for service in view.services() {
        let running = view.tasks_of_service(service.id).filter(|task| {
            let container = task.spec.container_spec.as_ref();
            let is_new = container.is_some_and(|container| container.image == "app:9");
            is_new && task.is_wanted() && task.status.state == TaskState::Running
        });
        if running.count() != NODES.len() {
            found.push(format!("{} does not have all its tasks", service.spec.name));
        }
        let state = service.update_status.as_ref().map(|status| status.state);
        if !matches!(state, None | Some(UpdateState::Completed)) {
            found.push(format!("{} is still being updated", service.spec.name));
        }
    }
    let stopping =
        view.tasks().filter(|task| !task.is_wanted() && !task.status.state.is_terminal());
    found.extend(stopping.map(|task| format!("{} has not stopped", task.name())));
    let kept = view.tasks().filter(|task| view.service(task.service_id).is_none());
    found.extend(kept.map(|task| format!("{} is kept without its service", task.name())));
    found
}

fn tables(world: &World) -> String {
    let table = |what| world.show(what, None).unwrap_or_default();
    [table("services"), table("nodes"), table("tasks")].concat()
}
