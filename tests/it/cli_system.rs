//! `docker context`, `info`, `version`, `events`, and the commands that fall through to a swarm's
//! objects, against a purser without an engine.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::kit::docker::{docker, docker_with};
use crate::kit::eventually;
use crate::kit::purser::Purser;

#[test]
fn context_leads_to_the_socket() {
    let purser = Purser::swarm("context");
    let config = purser.dir().join("config");
    let docker = |args: &[&str]| {
        let mut command = Command::new("docker");
        command.args(args).env("DOCKER_CONFIG", &config).env_remove("DOCKER_HOST");
        let said = command.output().expect("docker runs");
        let err = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.status.success(), "{args:?}: {err}");
        String::from_utf8_lossy(&said.stdout).trim_end().to_owned()
    };
    let host = format!("host=unix://{}", purser.socket().display());
    assert_eq!(docker(&["context", "create", "purser", "--docker", &host]), "purser");
    let leader = docker(&["--context", "purser", "node", "ls", "--format", "{{.ManagerStatus}}"]);
    assert_eq!(leader, "Leader");
    assert_eq!(docker(&["context", "use", "purser"]), "purser");
    assert_eq!(docker(&["context", "show"]), "purser");
    let value = purser.dir().join("value");
    std::fs::write(&value, "x").expect("a file");
    docker(&["secret", "create", "db-pass", &value.display().to_string()]);
    assert_eq!(docker(&["secret", "ls", "--format", "{{.Name}}"]), "db-pass");
}

#[test]
fn info_shows_the_swarm() {
    let purser = Purser::serve("info");
    let socket = purser.socket();
    assert!(docker(&socket, "info").ok().contains("\n Swarm: inactive\n"));
    let addr = purser.init("127.0.0.1:0");
    let info = docker(&socket, "info").ok();
    for line in [
        " Swarm: active",
        "  Is Manager: true",
        "  Managers: 1",
        "  Nodes: 1",
        "   Task History Retention Limit: 5",
        "   Heartbeat Period: 5 seconds",
        "   Expiry Duration: 3 months",
        "  Autolock Managers: false",
        "  Node Address: 127.0.0.1",
        &format!("   {addr}"),
    ] {
        assert!(info.lines().any(|shown| shown == line), "{line}: {info}");
    }
    assert!(!info.contains("SWMTKN"), "tokens are not for everyone who asks");
}

#[test]
fn version_names_purser_as_the_server() {
    let purser = Purser::serve("version");
    let socket = purser.socket();
    let said = docker(&socket, "version").ok();
    let version = env!("CARGO_PKG_VERSION");
    assert!(said.contains(&format!("Server: purser {version}")), "{said}");
    let format = "'{{.Server.Version}} {{.Server.APIVersion}} {{.Server.Os}}'";
    assert_eq!(
        docker(&socket, &format!("version -f {format}")).ok(),
        format!("{version} 1.55 linux")
    );
}

#[test]
fn ps_and_df_of_a_host_without_an_engine_are_empty() {
    let purser = Purser::swarm("empty");
    let socket = purser.socket();
    for args in ["ps -q", "ps -aq", "images -q", "volume ls -q", "plugin ls -q"] {
        assert_eq!(docker(&socket, args).ok(), "", "{args}");
    }
    let format = "'{{.Type}} {{.TotalCount}} {{.Size}}'";
    assert_eq!(
        docker(&socket, &format!("system df --format {format}")).ok(),
        "Images 0 0B\nContainers 0 0B\nLocal Volumes 0 0B\nBuild Cache 0 0B"
    );
}

#[test]
fn inspect_finds_what_is_no_container_in_the_swarm() {
    let purser = Purser::swarm("inspect");
    let socket = purser.socket();
    let secret = docker_with(&socket, "secret create db-pass -", b"x").ok();
    let service = docker(&socket, "service create -d --no-resolve-image --name web redis").ok();
    let task = eventually("it has a task", Duration::from_secs(10), || {
        let task = docker(&socket, "service ps -q --no-trunc web").ok();
        (!task.is_empty()).then_some(task)
    });
    let node = docker(&socket, "info -f {{.Swarm.NodeID}}").ok();
    for (name, id) in [("db-pass", &secret), ("web", &service), (&task, &task), (&node, &node)] {
        assert_eq!(docker(&socket, &format!("inspect -f {{{{.ID}}}} {name}")).ok(), *id, "{name}");
    }
    let by_type = |kind: &str, name: &str| {
        docker(&socket, &format!("inspect --type {kind} -f {{{{.ID}}}} {name}"))
    };
    assert_eq!(by_type("secret", "db-pass").ok(), secret);
    assert_eq!(by_type("service", "web").ok(), service);
    assert_eq!(by_type("container", "web").code, 1);
    let said = docker(&socket, "inspect web nope db-pass");
    let found: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(found.as_array().map(Vec::len), Some(2));
    assert_eq!(said.refused(), "Error: No such object: nope");
}

/// The events of the last minutes, a line each. The client rounds times down to seconds, so it is
/// asked to wait for the next one.
fn events(socket: &Path, filters: &str) -> Vec<String> {
    let format = "'{{.Type}} {{.Action}} {{.Actor.Attributes.name}} {{.Scope}}'";
    let args = format!("events --since 5m --until -1s {filters} --format {format}");
    docker(socket, &args).ok().lines().map(str::to_owned).collect()
}

#[test]
fn events_of_the_past_are_replayed_and_filtered() {
    let purser = Purser::swarm("events");
    let socket = purser.socket();
    let id = docker_with(&socket, "secret create one -", b"x").ok();
    docker_with(&socket, "secret create two -", b"x").ok();
    docker(&socket, "service create -d --no-resolve-image --name web --replicas 0 redis").ok();
    docker(&socket, "service scale -d web=2").ok();
    docker(&socket, "secret rm one").ok();
    docker(&socket, "service rm web").ok();

    let secrets = ["secret create one swarm", "secret create two swarm", "secret remove one swarm"];
    assert_eq!(events(&socket, "--filter type=secret"), secrets);
    let one = [secrets[0], secrets[2]];
    assert_eq!(events(&socket, "--filter secret=one"), one);
    assert_eq!(events(&socket, &format!("--filter secret={id}")), one);
    assert_eq!(events(&socket, "--filter type=secret --filter event=remove"), [secrets[2]]);
    assert_eq!(
        events(&socket, "--filter type=service"),
        ["service create web swarm", "service update web swarm", "service remove web swarm"]
    );
    assert_eq!(events(&socket, "--filter scope=local"), [""; 0]);
    let scaled = "events --since 5m --until -1s --filter event=update --filter service=web";
    let scaled = docker(&socket, scaled).ok();
    assert!(scaled.contains("(name=web, replicas.new=2, replicas.old=0)"), "{scaled}");
    assert!(docker(&socket, "events --since zz").code != 0);
}

#[test]
fn events_to_come_are_streamed() {
    let purser = Purser::swarm("events-live");
    let socket = purser.socket();
    let listening = {
        let socket = socket.clone();
        std::thread::spawn(move || {
            let format = "'{{.Action}} {{.Actor.Attributes.name}}'";
            docker(&socket, &format!("events --until -3s --filter type=secret --format {format}"))
                .ok()
        })
    };
    let made = (0..).take_while(|_| !listening.is_finished()).map(|number| {
        docker_with(&socket, &format!("secret create s{number} -"), b"x").ok();
    });
    let made = made.count();
    let heard = listening.join().expect("the listener ends");
    let heard: Vec<&str> = heard.lines().collect();
    assert!(!heard.is_empty() && heard.len() <= made, "{made} made, heard {heard:?}");
    assert!(heard.iter().all(|line| line.starts_with("create s")), "{heard:?}");
}
