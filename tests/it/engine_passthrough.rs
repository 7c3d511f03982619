//! What is not Swarm's reaches the local engine through purser's socket as if it were the engine's.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::kit::docker::docker_with;
use crate::kit::engine::{PATIENCE, Site};
use crate::kit::eventually;
use crate::kit::scratch::Scratch;

/// A text of a mebibyte whose every line is another.
fn mebibyte() -> Vec<u8> {
    (0..131_072).flat_map(|number| format!("{number:07}\n").into_bytes()).collect()
}

#[test]
fn containers_are_run_entered_and_attached_to() {
    let site = Site::up(&["run"]);
    let socket = site.purser.socket();
    let said = site.docker("run --rm redis:alpine sh -c 'echo out; echo err >&2; exit 7'");
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (7, "out", "err"));

    let id = site.docker("run -d --name box redis:alpine").ok();
    assert_eq!(site.docker("ps -q --no-trunc --filter name=box").ok(), id);
    assert_eq!(site.engines[0].docker("ps -q --no-trunc --filter name=box").ok(), id);
    let input = mebibyte();
    let echoed = docker_with(&socket, "exec -i box cat", &input).ok();
    assert_eq!(echoed.len() + 1, input.len());
    assert!(echoed.as_bytes() == &input[..input.len() - 1], "what came back is something else");
    let counted = docker_with(&socket, "exec -i box wc -c", &input).ok();
    assert_eq!(counted, input.len().to_string());
    assert_eq!(site.docker("exec box sh -c 'exit 9'").code, 9);
    assert!(site.docker("top box").ok().contains("sleep"));

    let reader = "while read line; do echo got $line; [ $line = end ] && exit 3; done";
    // Made with its input attached, since an engine lets go of the output as well when the input
    // of another one ends.
    site.docker(&format!("create -i --name ears redis:alpine sh -c '{reader}'")).ok();
    site.docker("start ears").ok();
    let said = docker_with(&socket, "attach ears", b"one\ntwo\nend\n");
    assert_eq!((said.code, said.out.as_str()), (3, "got one\ngot two\ngot end"), "{said:?}");
    site.docker("create -i --name once redis:alpine cat").ok();
    assert_eq!(docker_with(&socket, "start -a -i once", b"ahoy").ok(), "ahoy");
    assert_eq!(site.docker("wait ears").ok(), "3");
    site.docker("rm -f box ears once").ok();
    assert_eq!(site.docker("ps -aq").ok(), "");
}

#[test]
fn images_are_built_and_files_copied() {
    let site = Site::up(&["build"]);
    let dir = Scratch::new("build");
    let big = mebibyte();
    std::fs::write(dir.join("big"), &big).expect("a file");
    let text =
        "FROM redis:alpine\nCOPY big /srv/big\nRUN wc -c </srv/big >/srv/size\nCMD cat /srv/size\n";
    std::fs::write(dir.join("Dockerfile"), text).expect("a file");
    let built = Command::new("docker")
        .args(["build", "-t", "made"])
        .arg(&*dir)
        .env("DOCKER_HOST", format!("unix://{}", site.purser.socket().display()))
        .env("DOCKER_CONFIG", "/nonexistent")
        .env("DOCKER_BUILDKIT", "0")
        .output()
        .expect("docker is installed");
    let said = String::from_utf8_lossy(&built.stdout);
    assert!(built.status.success() && said.contains("Successfully tagged made"), "{built:?}");
    assert_eq!(site.docker("run --name made made").ok(), big.len().to_string());
    assert!(site.docker("image ls -q made").ok().len() >= 12);

    let out = dir.join("out");
    site.docker(&format!("cp made:/srv/big {}", out.display())).ok();
    assert!(std::fs::read(&out).is_ok_and(|copied| copied == big), "cp out");
    site.docker(&format!("cp {} made:/srv/in", out.display())).ok();
    site.docker("commit made again").ok();
    assert_eq!(site.docker("run --rm again wc -c /srv/in").ok(), format!("{} /srv/in", big.len()));
    site.docker("tag again other:name").ok();
    let saved = dir.join("saved.tar");
    site.docker(&format!("save -o {} again", saved.display())).ok();
    site.docker("image rm again other:name").ok();
    site.docker(&format!("load -i {}", saved.display())).ok();
    site.docker("image inspect again").ok();
}

#[test]
fn logs_are_followed_to_their_end() {
    let site = Site::up(&["logs"]);
    let talk = "for i in 1 2 3 4 5; do echo $i; sleep 0.2; done";
    site.docker(&format!("run -d --name talk redis:alpine sh -c '{talk}'")).ok();
    assert_eq!(site.docker("logs -f talk").ok(), "1\n2\n3\n4\n5");
    assert_eq!(site.docker("logs --tail 2 talk").ok(), "4\n5");
    // A container of a task is one like any other.
    site.docker("service create -d --name web redis:alpine sh -c 'echo ahoy; sleep 1000'").ok();
    let task = site.await_running("web", 1).remove(0);
    eventually("it has spoken", PATIENCE, || {
        (site.docker(&format!("logs {}", task.container)).out == "ahoy").then_some(())
    });
}

/// `docker events`, written to a file while it runs.
struct Listening {
    child: std::process::Child,
    file: std::path::PathBuf,
}

impl Listening {
    fn start(socket: &Path, dir: &Path) -> Listening {
        let file = dir.join("events");
        let child = Command::new("docker")
            .args(["events", "--format", "{{json .}}"])
            .env("DOCKER_HOST", format!("unix://{}", socket.display()))
            .env("DOCKER_CONFIG", "/nonexistent")
            .stdout(std::fs::File::create(&file).expect("a file"))
            .stderr(Stdio::null())
            .spawn()
            .expect("docker is installed");
        Listening { child, file }
    }

    /// The events so far: type, action, and the name that they give.
    fn events(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events
            .map(|event| {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let name = text(&event["Actor"]["Attributes"]["name"]);
                [text(&event["Type"]), text(&event["Action"]), name].join(" ")
            })
            .collect()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn events_of_engine_and_swarm_come_in_one_stream() {
    let site = Site::up(&["events"]);
    let dir = Scratch::new("events");
    let listening = Listening::start(&site.purser.socket(), &dir);
    // The stream is there once something comes out of it.
    eventually("the stream begins", PATIENCE, || {
        site.docker("volume create first").ok();
        site.docker("volume rm first").ok();
        (!listening.events().is_empty()).then_some(())
    });
    docker_with(&site.purser.socket(), "secret create s -", b"x").ok();
    site.docker("run --rm --name box redis:alpine true").ok();
    site.docker("service create -d --name web --secret s redis:alpine").ok();
    site.await_running("web", 1);
    site.docker("service rm web").ok();
    site.docker("secret rm s").ok();
    let expected = [
        "secret create s",
        "container create box",
        "container start box",
        "container die box",
        "service create web",
        "container start web.1",
        "service remove web",
        "secret remove s",
    ];
    eventually("all events", PATIENCE, || {
        let events = listening.events();
        let has = |wanted: &&str| events.iter().any(|event| event.starts_with(*wanted));
        expected.iter().all(has).then_some(())
    });
    let events = listening.events();
    let starts = events.iter().filter(|event| *event == "container start box").count();
    assert_eq!(starts, 1, "{events:?}");
    let own = events.iter().filter(|event| event.starts_with("service create")).count();
    assert_eq!(own, 1, "{events:?}");
}

#[test]
fn volumes_networks_and_what_the_host_is() {
    let site = Site::up(&["info"]);
    assert_eq!(site.docker("volume create --label a=b stuff").ok(), "stuff");
    site.docker("run --rm -v stuff:/stuff redis:alpine touch /stuff/x").ok();
    assert_eq!(site.docker("run --rm -v stuff:/stuff redis:alpine ls /stuff").ok(), "x");
    assert_eq!(site.docker("volume ls -q").ok(), "stuff");
    site.docker("volume rm stuff").ok();

    site.docker("network create --subnet 10.250.7.0/24 own").ok();
    let names = site.docker("network ls --format {{.Name}}").ok();
    for name in ["own", "bridge", "host", "none"] {
        assert!(names.lines().any(|line| line == name), "{name} in {names}");
    }
    let run = "run --rm --network own --ip 10.250.7.9 redis:alpine ip -4 address show eth0";
    assert!(site.docker(run).ok().contains("10.250.7.9/24"));
    site.docker("network inspect own").ok();
    site.docker("network rm own").ok();

    site.docker("run -d redis:alpine").ok();
    let info: Value =
        serde_json::from_str(&site.docker("info --format '{{json .}}'").ok()).expect("JSON");
    assert_eq!(info["Name"], site.engines[0].name());
    assert_eq!(info["ContainersRunning"], 1);
    assert_eq!(info["Swarm"]["LocalNodeState"], "active");
    assert_eq!(info["Swarm"]["ControlAvailable"], true);
    assert_eq!(info["Swarm"]["NodeID"], site.node_id(&site.engines[0]).as_str());
    assert_eq!((&info["Swarm"]["Nodes"], &info["Swarm"]["Managers"]), (&1.into(), &1.into()));
    let version = site.docker("version --format '{{.Server.APIVersion}}'").ok();
    let engines = site.engines[0].docker("version --format '{{.Server.APIVersion}}'").ok();
    assert_eq!(version, engines);
    assert!(site.docker("system df").ok().contains("Local Volumes"));
}

#[test]
fn the_engine_may_restart_under_purser() {
    let site = Site::up(&["restart"]);
    let engine = &site.engines[0];
    site.docker("swarm update --dispatcher-heartbeat 1s").ok();
    docker_with(&site.purser.socket(), "secret create s -", b"This is a secret").ok();
    site.docker("service create -d --name web --secret s redis:alpine").ok();
    site.await_running("web", 1);
    let node = site.node_id(engine);

    engine.kill();
    site.await_node(engine, "down");
    let client = site.purser.client();
    let secrets = client.get("/secrets");
    assert_eq!((secrets.status, secrets.json().as_array().map(Vec::len)), (200, Some(1)));
    docker_with(&site.purser.socket(), "secret create t -", b"made without an engine").ok();
    assert_eq!(client.get("/readyz").status, 200);
    assert_eq!(client.get("/info").json()["Swarm"]["LocalNodeState"], "active");
    let passed = client.get("/containers/json");
    assert!(passed.status >= 500 && passed.message().contains("engine"), "{}", passed.text());
    let said = site.docker("ps");
    assert_eq!(said.code, 1, "{said:?}");

    engine.revive();
    site.await_node(engine, "ready");
    assert_eq!(site.node_id(engine), node);
    let task = site.await_running("web", 1).remove(0);
    assert_eq!(site.exec(&task, "cat /run/secrets/s").ok(), "This is a secret");
    assert_eq!(site.docker("run --rm redis:alpine echo again").ok(), "again");
    eventually("one container is left", Duration::from_secs(60), || {
        (site.docker("ps -q").ok().lines().count() == 1).then_some(())
    });
}
