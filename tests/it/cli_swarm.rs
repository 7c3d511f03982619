//! `docker swarm`, against a purser without an engine.

use crate::kit::docker::{docker, docker_with};
use crate::kit::purser::Purser;

const NO_SWARM: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker \
    swarm join\" to connect this node to swarm and try again.";

/// An address of the loopback with a port that nobody has.
fn free_address() -> String {
    let probe = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    probe.local_addr().expect("its address").to_string()
}

#[test]
fn swarm_init_prints_how_others_join() {
    let purser = Purser::serve("swarm-init");
    let socket = purser.socket();
    let addr = free_address();
    let args = format!("swarm init --listen-addr {addr} --advertise-addr {addr}");
    let said = docker(&socket, &args).ok();
    let id = docker(&socket, "info -f {{.Swarm.NodeID}}").ok();
    assert!(
        said.starts_with(&format!("Swarm initialized: current node ({id}) is now a manager.")),
        "{said}"
    );
    let token = docker(&socket, "swarm join-token -q worker").ok();
    assert!(said.contains(&format!("docker swarm join --token {token} {addr}")), "{said}");
    assert_eq!(
        docker(&socket, &args).refused(),
        "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and \
         join another one."
    );
    assert!(docker(&socket, &format!("{args} --force-new-cluster")).ok().contains(&id));
}

#[test]
fn swarm_init_takes_settings_and_refuses_those_that_cannot_be() {
    let purser = Purser::serve("swarm-settings");
    let socket = purser.socket();
    let addr = free_address();
    let init = |more: &str| {
        let base = format!("swarm init --listen-addr {addr} --advertise-addr {addr}");
        docker(&socket, &format!("{base} {more}"))
    };
    assert_eq!(
        init("--availability foo").refused(),
        "invalid availability \"foo\", only active, pause and drain are supported"
    );
    let refusal = init("--cert-expiry 59m").refused();
    assert!(refusal.ends_with("minimum certificate expiry time is: 1h0m0s"), "{refusal}");
    // None of these left half a swarm behind.
    assert_eq!(docker(&socket, "info -f {{.Swarm.LocalNodeState}}").ok(), "inactive");
    let settings = "--task-history-limit 3 --dispatcher-heartbeat 7s --cert-expiry 2h \
        --default-addr-pool 10.20.0.0/16 --default-addr-pool-mask-length 26 --availability drain";
    init(settings).ok();
    let format = "'{{.Swarm.Cluster.Spec.Orchestration.TaskHistoryRetentionLimit}} \
        {{.Swarm.Cluster.Spec.Dispatcher.HeartbeatPeriod}} \
        {{.Swarm.Cluster.Spec.CAConfig.NodeCertExpiry}} {{.Swarm.Cluster.DefaultAddrPool}} \
        {{.Swarm.Cluster.SubnetSize}}'";
    assert_eq!(docker(&socket, &format!("info -f {format}")).ok(), "3 7s 2h0m0s [10.20.0.0/16] 26");
    assert_eq!(docker(&socket, "node inspect -f {{.Spec.Availability}} self").ok(), "drain");
}

#[test]
fn swarm_join_token_shows_and_rotates_each_token_by_itself() {
    let purser = Purser::swarm("swarm-token");
    let socket = purser.socket();
    let token = |role: &str| docker(&socket, &format!("swarm join-token -q {role}")).ok();
    let (worker, manager) = (token("worker"), token("manager"));
    assert!(worker.starts_with("SWMTKN-1-") && worker.len() == 9 + 50 + 1 + 25, "{worker}");
    assert_ne!(worker, manager);
    let said = docker(&socket, "swarm join-token worker").ok();
    assert!(
        said.starts_with("To add a worker to this swarm, run the following command:"),
        "{said}"
    );
    assert!(said.contains(&format!("docker swarm join --token {worker} 127.0.0.1:")), "{said}");
    let said = docker(&socket, "swarm join-token manager").ok();
    assert!(
        said.starts_with("To add a manager to this swarm") && said.contains(&manager),
        "{said}"
    );

    let rotated = docker(&socket, "swarm join-token --rotate -q worker").ok();
    assert_ne!(rotated, worker);
    assert_eq!(rotated[..60], worker[..60], "the digest of the root certificate stays");
    assert_eq!((token("worker"), token("manager")), (rotated.clone(), manager.clone()));
    let said = docker(&socket, "swarm join-token --rotate manager").ok();
    assert!(said.starts_with("Successfully rotated manager join token."), "{said}");
    assert_ne!(token("manager"), manager);
    assert_eq!(token("worker"), rotated);
    assert_eq!(docker(&socket, "swarm join-token zz").code, 1);
}

#[test]
fn swarm_update_changes_only_what_is_asked() {
    let purser = Purser::swarm("swarm-update");
    let socket = purser.socket();
    let worker = docker(&socket, "swarm join-token -q worker").ok();
    let shown = || {
        let format = "'{{.Swarm.Cluster.Spec.Orchestration.TaskHistoryRetentionLimit}} \
            {{.Swarm.Cluster.Spec.Dispatcher.HeartbeatPeriod}} \
            {{.Swarm.Cluster.Spec.CAConfig.NodeCertExpiry}}'";
        docker(&socket, &format!("info -f {format}")).ok()
    };
    assert_eq!(shown(), "5 5s 2160h0m0s");
    assert_eq!(docker(&socket, "swarm update --task-history-limit 2").ok(), "Swarm updated.");
    assert_eq!(shown(), "2 5s 2160h0m0s");
    docker(&socket, "swarm update --dispatcher-heartbeat 10s --cert-expiry 48h").ok();
    assert_eq!(shown(), "2 10s 48h0m0s");
    assert_eq!(
        docker(&socket, "swarm update --cert-expiry 59m").refused(),
        "rpc error: code = InvalidArgument desc = minimum certificate expiry time is: 1h0m0s"
    );
    assert_eq!(shown(), "2 10s 48h0m0s");
    assert_eq!(docker(&socket, "swarm join-token -q worker").ok(), worker);
}

#[test]
fn swarm_without_autolock_has_nothing_to_unlock() {
    let purser = Purser::swarm("swarm-lock");
    let socket = purser.socket();
    assert_eq!(docker(&socket, "swarm unlock-key").refused(), "no unlock key is set");
    assert_eq!(docker(&socket, "swarm unlock-key -q").refused(), "no unlock key is set");
    let refusal = docker(&socket, "swarm unlock-key --rotate").refused();
    assert_eq!(refusal, "cannot rotate because autolock is not turned on");
    let refusal = docker_with(&socket, "swarm unlock", b"SWMKEY-1-x\n").refused();
    assert_eq!(refusal, "Error: swarm is not locked");
}

#[test]
fn swarm_ca_prints_the_root_certificate_and_rotates_it() {
    let purser = Purser::swarm("swarm-ca");
    let socket = purser.socket();
    let root = docker(&socket, "swarm ca").ok();
    assert!(root.starts_with("-----BEGIN CERTIFICATE-----\n"), "{root}");
    assert!(root.ends_with("\n-----END CERTIFICATE-----"), "{root}");
    // With no node but the manager's there is nobody to wait for.
    let said = docker(&socket, "swarm ca --rotate").ok();
    let next = docker(&socket, "swarm ca").ok();
    assert!(next != root && said.contains(&next), "{said}");
    assert_eq!(docker(&socket, "node ls --format {{.TLSStatus}}").ok(), "Ready");
}

#[test]
fn swarm_leave_wants_force_and_then_forgets_everything() {
    let purser = Purser::swarm("swarm-leave");
    let socket = purser.socket();
    docker_with(&socket, "secret create db-pass -", b"x").ok();
    assert_eq!(
        docker(&socket, "swarm leave").refused(),
        "You are attempting to leave the swarm on a node that is participating as a manager. \
         Removing the last manager erases all current state of the swarm. Use `--force` to ignore \
         this message."
    );
    assert_eq!(docker(&socket, "secret ls --format {{.Name}}").ok(), "db-pass");
    assert_eq!(docker(&socket, "swarm leave --force").ok(), "Node left the swarm.");
    assert_eq!(docker(&socket, "info -f {{.Swarm.LocalNodeState}}").ok(), "inactive");
    assert_eq!(docker(&socket, "secret ls").refused(), NO_SWARM);
    purser.init("127.0.0.1:0");
    assert_eq!(docker(&socket, "secret ls -q").ok(), "");
}

#[test]
fn swarm_commands_outside_of_a_swarm_say_so() {
    let purser = Purser::serve("swarm-none");
    let socket = purser.socket();
    for args in [
        "secret ls",
        "secret inspect x",
        "secret rm x",
        "service ls",
        "service create -d --no-resolve-image redis",
        "service inspect x",
        "service rm x",
        "node ls",
        "node rm x",
        "swarm join-token worker",
        "swarm update --task-history-limit 2",
        "swarm ca",
    ] {
        assert_eq!(docker(&socket, args).refused(), NO_SWARM, "{args}");
    }
    assert_eq!(docker_with(&socket, "secret create x -", b"x").refused(), NO_SWARM);
    let unlock_key = docker(&socket, "swarm unlock-key").refused();
    assert!(unlock_key.ends_with(NO_SWARM), "{unlock_key}");
    let not_part = "This node is not part of a swarm";
    assert_eq!(docker(&socket, "swarm leave").refused(), not_part);
    assert_eq!(docker(&socket, "swarm leave --force").refused(), not_part);
    let unlock = docker(&socket, "swarm unlock").refused();
    assert_eq!(unlock, format!("Error: {not_part}"));
}

#[test]
fn swarm_join_says_what_to_do_in_its_place() {
    let purser = Purser::serve("swarm-join");
    let socket = purser.socket();
    let join = "swarm join --token SWMTKN-1-x-y 127.0.0.1:2377";
    let refusal = docker(&socket, join).refused();
    assert!(refusal.starts_with("purser cannot join another manager yet"), "{refusal}");
    purser.init("127.0.0.1:0");
    let refusal = docker(&socket, join).refused();
    assert!(refusal.starts_with("This node is already part of a swarm."), "{refusal}");
}
