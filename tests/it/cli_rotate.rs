//! `purser secret`, and the same as a plugin of the docker command.

use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::kit::agent::cluster::{Cluster, service};
use super::kit::agent::{Habits, PATIENCE};
use super::kit::docker::{Said, docker_in};
use super::kit::eventually;
use super::kit::scratch::Scratch;
use super::kit::search::canary;

/// Runs `purser secret` against a purser.
fn secret(cluster: &Cluster, args: &str, input: &[u8]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_purser"));
    command.arg("secret").args(["--socket", &cluster.purser.socket().display().to_string()]);
    command.args(args.split_whitespace());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    // A command that does not read its input is fine.
    let _ = child.stdin.take().expect("it was piped").write_all(input);
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end().to_owned();
    let code = output.status.code().unwrap_or(-1);
    Said { code, out: text(output.stdout), err: text(output.stderr) }
}

fn parsed(said: Said) -> Value {
    serde_json::from_str(&said.ok()).expect("JSON")
}

#[test]
fn a_secret_is_set_followed_and_brought_back() {
    let cluster = Cluster::new("cli-rotate");
    let member = cluster.join().expect("it is admitted");
    let agent = member.open(&Habits::default()).expect("a session");
    let value = canary(40);
    assert_eq!(secret(&cluster, "set db -l team=web", value.as_bytes()).ok(), "db: version 1");
    let id = cluster.client.get("/secrets/db").json()["ID"].as_str().expect("an id").to_owned();
    cluster.service(&service("web", 3, &[(&id, "db")]));
    cluster.until_running("web", 3);
    let planned = secret(&cluster, "plan db", b"").ok();
    assert!(planned.contains("service web: 3 tasks in"), "{planned}");
    let tried = secret(&cluster, "set --dry-run db -", b"second").ok();
    assert!(tried.starts_with("update secret db, version 2"), "{tried}");
    assert_eq!(secret(&cluster, "set db -", b"second").ok(), "db: version 2");
    let waited = secret(&cluster, "wait db --timeout 60s", b"");
    assert_eq!(waited.code, 0, "{waited:?}");
    let consumers = parsed(secret(&cluster, "--format json consumers db", b""));
    let tasks = consumers[0]["Tasks"].as_array().expect("tasks");
    assert!(tasks.len() == 3 && tasks.iter().all(|task| task["Version"] == 2), "{consumers}");
    let explained = secret(&cluster, "explain db web", b"");
    assert!(explained.code == 0 && explained.out.contains("runs with version 2"), "{explained:?}");
    assert_eq!(secret(&cluster, "rollback db", b"").ok(), "db: version 1");
    assert_eq!(secret(&cluster, "wait db --timeout 60s", b"").code, 0);
    agent.until("every task has the first value again", |seen| {
        let values: Vec<_> = seen.model.secrets.values().collect();
        let all = values.iter().all(|held| held.as_slice() == value.as_bytes());
        (!values.is_empty() && all).then_some(())
    });
    let history = parsed(secret(&cluster, "history db --format json", b""));
    assert_eq!(history["Versions"][0]["Current"], true, "{history}");
    // Labels stay, and a label can be put without another value.
    let shown = cluster.client.get("/secrets/db").json();
    assert_eq!(shown["Spec"]["Labels"], json!({"team": "web"}));
    let records = cluster.client.get("/purser/audit").text();
    assert!(records.contains("secret db: version 1 to 2"), "the rollout is told: {records}");
    assert!(!records.contains(&value) && !cluster.purser.log().contains(&value));
}

#[test]
fn what_is_in_the_way_is_said_and_has_a_code() {
    let cluster = Cluster::new("cli-rotate-way");
    secret(&cluster, "set db", b"one").ok();
    let id = cluster.client.get("/secrets/db").json()["ID"].as_str().expect("an id").to_owned();
    let mut held = service("held", 1, &[(&id, "db")]);
    held["Labels"] = json!({"purser.rotate": "manual"});
    cluster.service(&held);
    cluster.service(&service("other", 1, &[]));
    // Without a node nothing runs.
    let late = secret(&cluster, "wait db --timeout 1s", b"");
    assert!(late.code == 4 && late.out.contains("no suitable node"), "{late:?}");
    let explained = secret(&cluster, "explain db other", b"");
    assert_eq!(explained.code, 3);
    assert!(explained.out.contains("docker service update --secret-add db other"), "{explained:?}");
    assert_eq!(secret(&cluster, "explain none other", b"").code, 3);
    let member = cluster.join().expect("it is admitted");
    let _agent = member.open(&Habits::default()).expect("a session");
    cluster.until_running("held", 1);
    secret(&cluster, "set db", b"two").ok();
    assert_eq!(secret(&cluster, "wait db", b"").code, 0, "it has what it should");
    let kept = secret(&cluster, "explain db held", b"");
    assert!(kept.code == 0 && kept.out.contains("keeps version 1"), "{kept:?}");
    // Versions in use stay.
    assert_eq!(secret(&cluster, "prune --keep 0 --dry-run", b"").ok(), "nothing to drop");
    secret(&cluster, "set db", b"three").ok();
    assert_eq!(secret(&cluster, "prune --keep 0 --unused-for 1h", b"").ok(), "nothing to drop");
    assert_eq!(secret(&cluster, "prune --keep 0 --dry-run", b"").ok(), "db: would drop version 2");
    assert_eq!(secret(&cluster, "prune db --keep 0", b"").ok(), "db: dropped version 2");
    for (args, code) in [
        ("history none", 1),
        ("rotate db", 1),
        ("rollback db --to 9", 1),
        ("prune --unused-for soon", 1),
        ("wait db --timeout soon", 2),
        ("set", 2),
        ("set db --value x", 2),
    ] {
        let said = secret(&cluster, args, b"");
        assert_eq!(said.code, code, "{args}: {said:?}");
    }
    assert!(secret(&cluster, "set db", b"").err.contains("empty"));
}

#[test]
fn the_docker_command_has_it_as_a_plugin() {
    let cluster = Cluster::new("cli-plugin");
    let config = Scratch::new("docker-config");
    std::fs::create_dir_all(config.join("cli-plugins")).expect("a directory");
    let plugin = config.join("cli-plugins/docker-purser");
    symlink(env!("CARGO_BIN_EXE_purser"), plugin).expect("a link");
    let host = format!("host=unix://{}", cluster.purser.socket().display());
    docker_in(&config, &format!("context create here --docker {host}"), b"").ok();
    docker_in(&config, "context use here", b"").ok();
    let docker = |args: &str, input: &[u8]| docker_in(&config, args, input);
    assert_eq!(docker("purser secret set pw", b"first").ok(), "pw: version 1");
    assert_eq!(docker("secret ls --format '{{.Name}}'", b"").ok(), "pw");
    assert_eq!(docker("--context here purser secret set pw -", b"second").ok(), "pw: version 2");
    let made = "secret create --driver generate --label purser.length=48 made";
    docker(made, b"").ok();
    assert_eq!(
        docker("secret inspect made --format '{{.Spec.Driver.Name}}'", b"").ok(),
        "generate"
    );
    assert_eq!(docker("purser secret rotate made", b"").ok(), "made: version 2");
    assert_eq!(docker("purser secret set made", b"x").code, 1, "it has a driver");
    assert_eq!(docker("purser secret history none", b"").code, 1);
    assert_eq!(docker("--context nowhere purser secret history pw", b"").code, 1);
    assert!(docker("info --format '{{json .ClientInfo.Plugins}}'", b"").out.contains("purser"));
}

#[test]
fn a_value_on_its_way_is_in_no_core() {
    let cluster = Cluster::new("cli-rotate-core");
    let mut command = Command::new(env!("CARGO_BIN_EXE_purser"));
    command.arg("secret").args(["--socket", &cluster.purser.socket().display().to_string()]);
    let mut child = command.args(["set", "pw"]).stdin(Stdio::piped()).spawn().expect("it runs");
    let limits = format!("/proc/{}/limits", child.id());
    eventually("it may write no core", PATIENCE, || {
        let text = std::fs::read_to_string(&limits).expect("it waits for the value");
        let line = text.lines().find(|line| line.starts_with("Max core file size"))?;
        line.split_whitespace().nth(4).filter(|limit| *limit == "0").map(|_| ())
    });
    child.stdin.take().expect("it was piped").write_all(b"value").expect("it reads");
    assert!(child.wait().expect("it ends").success());
}

const STACK: &str = r#"version: "3.8"
services:
  web:
    image: redis:alpine
    secrets: [pw]
secrets:
  pw:
    driver: generate
    labels: {purser.length: "50"}
"#;

#[test]
fn a_stack_has_a_value_made() {
    let cluster = Cluster::new("cli-stack-made");
    let member = cluster.join().expect("it is admitted");
    let agent = member.open(&Habits::default()).expect("a session");
    let config = Scratch::new("stack-made");
    let file = config.join("stack.yml");
    std::fs::write(&file, STACK).expect("a file");
    let host = format!("-H unix://{}", cluster.purser.socket().display());
    let docker = |args: &str| docker_in(&config, &format!("{host} {args}"), b"");
    let deploy = format!("stack deploy -d --resolve-image never -c {} app", file.display());
    docker(&deploy).ok();
    let made = agent.until("the value", |seen| {
        seen.model.secrets.values().next().map(|value| value.as_slice().to_vec())
    });
    assert_eq!(made.len(), 50);
    // Deployed again, it is the same one.
    docker(&deploy).ok();
    let versions = cluster.client.get("/secrets/app_pw/versions").json();
    assert_eq!(versions.as_array().map(Vec::len), Some(1));
    docker("stack rm app").ok();
    assert_eq!(docker("secret ls -q").ok(), "");
}
