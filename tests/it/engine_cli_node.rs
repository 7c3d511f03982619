//! `docker node` and `docker swarm` with a stock engine: as the manager's own, and as a worker.

use std::path::Path;
use std::time::Duration;

use crate::kit::docker::docker;
use crate::kit::engine::Engine;
use crate::kit::eventually;
use crate::kit::purser::Purser;

/// Waits until a service has this many containers running.
#[track_caller]
fn wait_for(socket: &Path, service: &str, replicas: &str) {
    eventually(&format!("{service} has {replicas}"), Duration::from_secs(30), || {
        let args = format!("service ls --filter name={service} --format {{{{.Replicas}}}}");
        (docker(socket, &args).ok() == replicas).then_some(())
    });
}

#[test]
fn swarm_init_and_leave_take_the_engine_along() {
    let engine = Engine::up("cli-init");
    let args = format!("unix://{}", engine.socket().display());
    let purser = Purser::with_args("cli-init", &["--engine", &args]);
    let socket = purser.socket();
    let probe = std::net::TcpListener::bind((engine.host(), 0)).expect("a free port");
    let addr = probe.local_addr().expect("its address").to_string();
    drop(probe);
    let init = format!("swarm init --listen-addr {addr} --advertise-addr {addr}");
    let said = docker(&socket, &init).ok();
    let id = docker(&socket, "info -f {{.Swarm.NodeID}}").ok();
    assert!(said.contains(&format!("current node ({id}) is now a manager")), "{said}");
    let row = "'{{.ID}} {{.Self}} {{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}}'";
    let rows = docker(&socket, &format!("node ls --format {row}")).ok();
    assert_eq!(rows, format!("{id} true {} Ready Active Leader", engine.name()));
    let pretty = docker(&socket, "node inspect --pretty self").ok();
    for line in
        ["Raft Status:\t\tReachable", "Operating System:\tlinux", "Network:\t\tbridge", "TLS Info:"]
    {
        assert!(pretty.contains(line), "{line}: {pretty}");
    }
    docker(&socket, "service create --no-resolve-image --name web -q redis:alpine").ok();
    assert!(docker(&socket, "swarm leave").refused().contains("erases all current state"));
    assert_eq!(docker(&socket, "swarm leave --force").ok(), "Node left the swarm.");
    let state = engine.docker("info -f {{.Swarm.LocalNodeState}}").ok();
    assert_eq!(state, "inactive");
    eventually("its containers are gone", Duration::from_secs(20), || {
        docker(&socket, "ps -q").ok().is_empty().then_some(())
    });
    docker(&socket, &init).ok();
    assert_eq!(docker(&socket, "node ls --format '{{.Hostname}} {{.Status}}'").ok(), {
        format!("{} Ready", engine.name())
    });
    assert_eq!(docker(&socket, "service ls -q").ok(), "");
}

#[test]
fn a_worker_is_labelled_drained_and_removed() {
    let engine = Engine::up("cli-worker");
    let purser = Purser::serve("cli-worker");
    let socket = purser.socket();
    let addr = purser.init(&format!("{}:0", engine.host()));
    engine.join(&docker(&socket, "swarm join-token -q worker").ok(), &addr);
    let name = engine.name();
    eventually("the worker is ready", Duration::from_secs(20), || {
        let said =
            docker(&socket, "node ls --filter role=worker --format '{{.Hostname}} {{.Status}}'");
        (said.ok() == format!("{name} Ready")).then_some(())
    });

    let create = "service create -d --no-resolve-image --constraint node.labels.zone==a --name web";
    docker(&socket, &format!("{create} redis:alpine")).ok();
    eventually("the scheduler says why it waits", Duration::from_secs(5), || {
        let error = docker(&socket, "service ps --no-trunc --format {{.Error}} web").ok();
        error.contains("scheduling constraints not satisfied on 1 node").then_some(())
    });
    assert_eq!(docker(&socket, &format!("node update --label-add zone=a {name}")).ok(), name);
    wait_for(&socket, "web", "1/1");
    let rows =
        docker(&socket, &format!("node ps --format '{{{{.Name}}}} {{{{.Node}}}}' {name}")).ok();
    assert_eq!(rows, format!("web.1 {name}"));

    docker(&socket, &format!("node update --availability drain {name}")).ok();
    wait_for(&socket, "web", "0/1");
    eventually("the container stops", Duration::from_secs(20), || {
        engine.docker("ps -q").ok().is_empty().then_some(())
    });
    docker(&socket, &format!("node update --availability active {name}")).ok();
    wait_for(&socket, "web", "1/1");

    assert_eq!(
        docker(&socket, &format!("node promote {name}")).refused(),
        "rpc error: code = Unimplemented desc = a node cannot be promoted yet: this manager has no \
         replicas"
    );
    assert_eq!(docker(&socket, &format!("node demote {name}")).code, 0);
    let id = docker(&socket, &format!("node inspect -f {{{{.ID}}}} {name}")).ok();
    assert_eq!(
        docker(&socket, &format!("node rm {name}")).refused(),
        format!(
            "rpc error: code = FailedPrecondition desc = node {id} is not down and can't be removed"
        )
    );
    engine.docker("swarm leave").ok();
    eventually("the worker is down", Duration::from_secs(30), || {
        let state = docker(&socket, &format!("node inspect -f {{{{.Status.State}}}} {name}")).ok();
        (state == "down").then_some(())
    });
    assert_eq!(docker(&socket, &format!("node rm {name}")).ok(), name);
    assert_eq!(docker(&socket, "node ls -q").ok().lines().count(), 1);
}

#[test]
fn a_worker_that_is_up_is_removed_by_force() {
    let engine = Engine::up("cli-force");
    let purser = Purser::serve("cli-force");
    let socket = purser.socket();
    let addr = purser.init(&format!("{}:0", engine.host()));
    engine.join(&docker(&socket, "swarm join-token --rotate -q worker").ok(), &addr);
    let name = engine.name();
    eventually("the worker is ready", Duration::from_secs(20), || {
        let said = docker(&socket, &format!("node inspect -f {{{{.Status.State}}}} {name}"));
        (said.out == "ready").then_some(())
    });
    assert_eq!(docker(&socket, &format!("node rm --force {name}")).ok(), name);
    assert_eq!(docker(&socket, "node ls -q").ok().lines().count(), 1);
}
