//! What one client may take up: connections, and requests that fail.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::kit::scratch::Scratch;
use super::kit::tls::{CLIENT, Guarded, LATER, Pair};

/// Everything for root, nothing for anybody else.
const POLICY: &str = "roles.all.allow = [{ verbs = [\"*\"], kinds = [\"*\"] }]\n\
     bind = [{ role = \"all\", who = [\"uid:0\"] }]\n";

/// How often each status came when somebody asked for these paths, over one connection.
fn statuses(guarded: &Guarded, who: &Pair, paths: &str) -> BTreeMap<u16, usize> {
    let mut command = Command::new("curl");
    command.args(["-sS", "-m", "60", "-w", "%{http_code}\n", "-o", "/dev/null", "--cacert"]);
    command.arg(&guarded.authority.file).arg("--cert").arg(&who.cert).arg("--key").arg(&who.key);
    let said = command.arg(format!("https://{}{paths}", guarded.addr)).output();
    let said = String::from_utf8(said.expect("curl is installed").stdout).expect("text");
    let mut counts = BTreeMap::new();
    for status in said.lines() {
        *counts.entry(status.parse().expect("a number")).or_default() += 1;
    }
    counts
}

#[test]
fn who_is_denied_too_much_waits_and_fills_no_audit() {
    let dir = Scratch::new("limits");
    let path = dir.join("policy.toml");
    std::fs::write(&path, POLICY).expect("a file");
    let args = ["--engine", "none", "--policy", path.to_str().expect("text")];
    let guarded = Guarded::with_args("limits-denied", &args);
    guarded.purser.init("127.0.0.1:0");
    let (bob, ann) = (
        guarded.authority.issue("bob", &CLIENT, LATER),
        guarded.authority.issue("ann", &CLIENT, LATER),
    );
    // More than in one minute, on a machine so slow that it takes two.
    let found = statuses(&guarded, &bob, "/swarm?[1-650]");
    assert!(found[&403] >= 300 && found[&429] >= 50, "{found:?}");
    // What needs no right has to wait as well; others do not.
    assert_eq!(statuses(&guarded, &bob, "/version"), [(429, 1)].into());
    assert_eq!(statuses(&guarded, &ann, "/swarm"), [(403, 1)].into());
    let root = guarded.purser.client();
    assert_eq!(root.get("/swarm").status, 200);
    let records = root.get("/purser/audit?actor=cert:bob&limit=1000").text();
    assert_eq!(records.lines().count(), found[&403], "{records}");
    let last = "and no more that fail within the same minute";
    assert_eq!(records.matches(last).count(), found[&403] / 300, "{records}");
}

#[test]
fn a_client_with_too_many_connections_is_turned_away_and_others_are_not() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("more files");
    let guarded = Guarded::serve("limits-connections");
    let ann = guarded.authority.issue("ann", &CLIENT, LATER);
    let connect = || UnixStream::connect(guarded.purser.socket()).expect("a connection");
    let mut silent: Vec<UnixStream> = (0..1024).map(|_| connect()).collect();
    let root = guarded.purser.client();
    let body = serde_json::json!({"Name": "x", "Data": "A".repeat(100_000)});
    let refused = root.post("/secrets/create", &body);
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.message().contains("this client has 1024 connections open"));
    for _ in 0..12 {
        let refused = crate::kit::docker::docker(&guarded.purser.socket(), "secret ls").refused();
        assert!(refused.contains("this client has 1024 connections open"), "{refused}");
    }
    assert_eq!(statuses(&guarded, &ann, "/_ping"), [(200, 1)].into());
    silent.truncate(1000);
    let is_free = || root.get("/_ping").status == 200;
    let free = (0..300).any(|_| {
        is_free() || {
            std::thread::sleep(Duration::from_millis(20));
            false
        }
    });
    assert!(free, "there are places again");
}
