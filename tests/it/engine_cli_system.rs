//! What concerns the host, passed on to its engine: containers, events, `info` and `version`.

use crate::kit::docker::{docker, docker_with};
use crate::kit::engine::Engine;
use crate::kit::purser::Purser;

#[test]
fn commands_for_containers_reach_the_engine() {
    let engine = Engine::up("cli-engine");
    let purser = Purser::with_args(
        "cli-engine",
        &["--engine", &format!("unix://{}", engine.socket().display())],
    );
    let socket = purser.socket();
    purser.init(&format!("{}:0", engine.host()));
    let run = |args: &str| docker(&socket, args);

    let said = run("version").ok();
    let own = engine.docker("version -f {{.Server.Version}}").ok();
    assert!(said.contains(&format!("Server: purser {}", env!("CARGO_PKG_VERSION"))), "{said}");
    assert!(said.contains(&own), "{said}");
    let info = "'{{.Name}} {{.ServerVersion}} {{.Swarm.ControlAvailable}}'";
    assert_eq!(run(&format!("info -f {info}")).ok(), format!("{} {own} true", engine.name()));

    assert_eq!(run("run --rm redis:alpine echo hello").ok(), "hello");
    let said = run("run --rm redis:alpine sh -c 'echo oops >&2; exit 3'");
    assert_eq!((said.code, said.err.as_str()), (3, "oops"));
    let piped = docker_with(&socket, "run --rm -i redis:alpine wc -c", b"12345").ok();
    assert_eq!(piped, "5");
    let container = run("run -d --name box redis:alpine").ok();
    assert_eq!(run("inspect -f {{.Id}} box").ok(), container);
    assert_eq!(run("ps --format {{.Names}}").ok(), "box");
    assert_eq!(run("exec box echo hello").ok(), "hello");
    assert_eq!(run("exec box sh -c 'exit 4'").code, 4);
    assert_eq!(run("network create back").ok().len(), 64);
    assert_eq!(run("network ls -q --filter name=back").ok().len(), 12);
    assert_eq!(run("volume create data").ok(), "data");
    assert_eq!(run("system df --format '{{.Type}} {{.TotalCount}}'").ok(), {
        "Images 1\nContainers 1\nLocal Volumes 1\nBuild Cache 0"
    });
    run("rm -f box").ok();
    assert_eq!(run("run nowhere:1").code, 125);
}

#[test]
fn inspect_prefers_the_container_and_finds_the_service_too() {
    let engine = Engine::up("cli-inspect");
    let purser = Purser::with_args(
        "cli-inspect",
        &["--engine", &format!("unix://{}", engine.socket().display())],
    );
    let socket = purser.socket();
    purser.init(&format!("{}:0", engine.host()));
    let service =
        docker(&socket, "service create -d --no-resolve-image --name web redis:alpine").ok();
    let secret = docker_with(&socket, "secret create db-pass -", b"x").ok();
    let node = docker(&socket, "info -f {{.Swarm.NodeID}}").ok();
    for (name, id) in [("web", &service), ("db-pass", &secret), (engine.name(), &node)] {
        assert_eq!(docker(&socket, &format!("inspect -f {{{{.ID}}}} {name}")).ok(), *id, "{name}");
    }
    let container = docker(&socket, "run -d --name web redis:alpine").ok();
    assert_eq!(docker(&socket, "inspect -f {{.Id}} web").ok(), container);
    let of_service = docker(&socket, "inspect --type service -f {{.ID}} web").ok();
    assert_eq!(of_service, service);
}

#[test]
fn events_of_the_engine_and_of_the_swarm_come_in_one_stream() {
    let engine = Engine::up("cli-events");
    let purser = Purser::with_args(
        "cli-events",
        &["--engine", &format!("unix://{}", engine.socket().display())],
    );
    let socket = purser.socket();
    purser.init(&format!("{}:0", engine.host()));
    docker_with(&socket, "secret create db-pass -", b"x").ok();
    docker(&socket, "service create -q --no-resolve-image --name web redis:alpine").ok();
    docker(&socket, "run --rm --name box redis:alpine true").ok();
    let events = |filters: &str| {
        let format = "'{{.Type}} {{.Action}} {{.Actor.Attributes.name}}'";
        let args = format!("events --since 2m --until -1s {filters} --format {format}");
        docker(&socket, &args).ok()
    };
    let all = events("");
    for line in
        ["secret create db-pass", "service create web", "container start box", "container die box"]
    {
        assert_eq!(all.lines().filter(|shown| *shown == line).count(), 1, "{line}: {all}");
    }
    assert_eq!(events("--filter type=secret"), "secret create db-pass");
    let box_only = events("--filter container=box --filter event=die");
    assert_eq!(box_only, "container die box");
    let nodes = events("--filter type=node --filter event=create");
    assert!(nodes.starts_with("node create"), "{nodes}");
}
