//! Requests drawn from the API document by schemathesis, three minutes of them: each is answered as
//! the document says, and none fails in a way that is the server's own.
//!
//! `tests/clients/fuzz.py` aims them at what is there. With `FUZZ_SEED` in the environment they are
//! others.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use super::kit::agent::cluster::{Cluster, service};
use super::kit::agent::{Agent, Habits};
use super::kit::purser::Purser;
use super::kit::python::{environment, run};
use super::kit::scratch::Scratch;

/// Of all requests, one after the other.
const IN_A_SWARM: Duration = Duration::from_secs(130);
const IN_AND_OUT: Duration = Duration::from_secs(30);

/// What every answer has to hold to.
const CHECKS: &str = "status_code_conformance,content_type_conformance,response_schema_conformance,\
    response_headers_conformance,no_failure_of_the_servers_own";

/// And all of them together: no operation was refused every time.
const CHECK_OF_ALL: &str = "every_operation_succeeds";

/// An answer that takes longer, in seconds, is one that hangs.
const ANSWER_S_MAX: &str = "20";

fn free_address() -> String {
    let probe = TcpListener::bind("127.0.0.1:0").expect("a free port");
    probe.local_addr().expect("its address").to_string()
}

/// A purser, outside of a swarm, that answers over TCP as well: at that address.
fn serve(name: &str) -> (Purser, String) {
    let address = free_address();
    (Purser::with_args(name, &["--engine", "none", "--api-addr", &address]), address)
}

/// Sends requests for so long; `prefix` stands before every path.
#[track_caller]
fn send(address: &str, prefix: &str, lasting: Duration, checks: &str, more: &[&str]) {
    let programs = environment("schemathesis", &["schemathesis==4.32.5"]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scratch = Scratch::new("schemathesis");
    let url = format!("http://{address}{prefix}");
    let seed = std::env::var("FUZZ_SEED").unwrap_or_else(|_| "20261121".into());
    let lasting_s = lasting.as_secs();
    // It ends by itself; a client that hangs does not.
    let mut command = Command::new("timeout");
    command.arg((lasting_s + 60).to_string()).arg(programs.join("schemathesis"));
    command.arg("run").arg(root.join("openapi/openapi.json")).args(["--url", &url]);
    command.args(["--max-time", &lasting_s.to_string(), "--seed", &seed]);
    command.args(["--request-timeout", ANSWER_S_MAX, "--checks", checks]);
    command.args(["--continue-on-failure", "--no-color", "--warnings", "off"]);
    command.args(["--generation-database", "none"]).args(more);
    command.env("SCHEMATHESIS_HOOKS", root.join("tests/clients/fuzz.py"));
    command.env("FUZZ_URL", &url).env("FUZZ_SEED", &seed).env("FUZZ_DOOR", free_address());
    run(command.current_dir(&*scratch));
}

/// Nothing broke inside, whatever the answers were.
#[track_caller]
fn check_log(purser: &Purser) {
    let log = purser.log();
    let broken: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("panicked") || line.contains("\"level\":\"ERROR\""))
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Keeps engines in the swarm, which requests remove, and has them answer what they are asked of
/// logs: with a line each.
fn keep_engines(cluster: &Cluster, ends: &AtomicBool) {
    let mut engines: Vec<(Agent, usize)> = Vec::new();
    while !ends.load(Ordering::Relaxed) {
        if cluster.node_count() < 4
            && let Ok(member) = cluster.join()
            && let Ok(engine) = member.open(&Habits::default())
        {
            engines.push((engine, 0));
        }
        for (engine, answered) in &mut engines {
            let asked = engine.seen().subscriptions.clone();
            for subscription in asked.iter().skip(*answered).filter(|asked| !asked.close) {
                let publishing = engine.publish(&subscription.id);
                publishing.send(publishing.line("", "", 1, "a line\n"));
                let _ = publishing.close();
            }
            *answered = asked.len();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn three_minutes_of_drawn_requests_are_answered_as_the_document_says() {
    on_the_way_in_and_out();
    in_a_swarm();
}

fn on_the_way_in_and_out() {
    let (purser, address) = serve("in-and-out");
    send(&address, "/v1.41", IN_AND_OUT, CHECKS, &[]);
    check_log(&purser);
}

fn in_a_swarm() {
    let (purser, address) = serve("drawn");
    purser.init("127.0.0.1:0");
    let cluster = Cluster::of(purser);
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| keep_engines(&cluster, &ends));
        let sent = std::panic::catch_unwind(|| {
            let checks = format!("{CHECKS},{CHECK_OF_ALL}");
            // It would be the end of the swarm.
            send(&address, "", IN_A_SWARM, &checks, &["--exclude-path", "/swarm/leave"]);
        });
        ends.store(true, Ordering::Relaxed);
        sent.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    check_log(&cluster.purser);
    // It still does what it is for.
    cluster.update("", &json!({"Dispatcher": {"HeartbeatPeriod": 5_000_000_000_u64}}));
    let _engine = cluster.engine();
    cluster.service(&service("still-here", 3, &[]));
    cluster.until_running("still-here", 3);
}
