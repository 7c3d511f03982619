//! A node that turned on the others: it has a valid certificate, and tries what it can. Each try is
//! refused, counted and told to the audit, and the others notice nothing.

use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};

use crate::kit::agent::cluster::{Cluster, service};
use crate::kit::agent::{Agent, Habits, Member, PATIENCE, wait};
use crate::kit::eventually;
use purser::wire::proto;

/// What the audit tells of a node, with the number of all denials so far.
fn told(cluster: &Cluster, actor: &str) -> (Vec<String>, u64) {
    let text = cluster.client.get(&format!("/purser/audit?actor={actor}")).text();
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a record"));
    let denied = records.filter(|record| record["verb"] == "node call");
    let details = denied.map(|r| r["detail"].as_str().unwrap_or_default().to_owned()).collect();
    let metrics = cluster.client.get("/metrics").text();
    let count = metrics.lines().find_map(|line| line.strip_prefix("purser_node_denials_total "));
    (details, count.and_then(|count| count.parse().ok()).expect("a number"))
}

fn code<T>(result: Result<T, tonic::Status>) -> Option<Code> {
    result.err().map(|status| status.code())
}

#[test]
fn whatever_it_tries_it_gets_nothing_of_the_others() {
    let cluster = Cluster::new("hostile");
    let victim = cluster.engine();
    let secret = cluster.secret("theirs", b"the-victims-secret");
    cluster.service(&service("web", 1, &[(&secret, "theirs")]));
    cluster.until_running("web", 1);
    let task = cluster.tasks("web")[0]["ID"].as_str().expect("an id").to_owned();
    let hostile = cluster.engine();
    let name = format!("node:{}", hostile.node_id());

    // Another's session: its assignments, its beats, its task's state.
    let request = proto::AssignmentsRequest { session_id: victim.id.clone() };
    let stolen = wait(hostile.dispatcher().assignments(request));
    assert_eq!(code(stolen), Some(Code::InvalidArgument));
    let request = proto::HeartbeatRequest { session_id: victim.id.clone() };
    assert_eq!(code(wait(hostile.dispatcher().heartbeat(request))), Some(Code::InvalidArgument));
    let reported = hostile.report(&task, proto::TaskState::Failed);
    assert_eq!(code(reported), Some(Code::PermissionDenied));

    // Somebody else's name in the metadata that managers pass on.
    let mut forged = Request::new(proto::HeartbeatRequest { session_id: victim.id.clone() });
    for (key, value) in
        [("forwarded_cert", "true"), ("forwarded_cert_cn", victim.node_id()), ("remote_addr", "x")]
    {
        let value = MetadataValue::try_from(value).expect("text");
        forged.metadata_mut().insert(key, value);
    }
    assert_eq!(code(wait(hostile.dispatcher().heartbeat(forged))), Some(Code::InvalidArgument));

    // A certificate of another cluster.
    let other = Cluster::new("hostile-other");
    let foreign = other.join().expect("a member of the other");
    let foreign = Member { addr: cluster.addr, root: hostile.member.root.clone(), ..foreign };
    assert!(foreign.open(&Habits::default()).is_err());

    // What no message is, and what is too large for one.
    let huge = proto::UpdateTaskStatusRequest {
        session_id: hostile.id.clone(),
        updates: vec![proto::update_task_status_request::TaskStatusUpdate {
            task_id: "x".repeat(8 << 20),
            status: None,
        }],
    };
    assert!(wait(hostile.dispatcher().update_task_status(huge)).is_err());
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 0xff, 0xff, 0], &[0; 4096]] {
        let mut stream = TcpStream::connect(cluster.addr).expect("it listens");
        let _ = std::io::Write::write_all(&mut stream, bytes);
    }

    // Sessions without end.
    let (begun, mut admitted) = (tokio::time::Instant::now(), 0);
    for _ in 0..2_000 {
        admitted += u64::from(hostile.member.open(&quiet()).is_ok());
    }
    // Three within eight seconds, and those before the first of them are forgotten.
    let spans = begun.elapsed().as_secs() / 8 + 2;
    assert!(admitted <= 3 * spans, "{admitted} in {spans} spans");

    let (details, denials) = told(&cluster, &name);
    let tells = |of: &str| details.iter().any(|detail| detail.contains(of));
    assert!(tells("Dispatcher/Assignments") && tells("Dispatcher/Heartbeat"), "{details:?}");
    assert!(tells("that task is assigned to another node"), "{details:?}");
    let (strangers, _) = told(&cluster, "joiner");
    assert!(strangers.iter().any(|detail| detail.contains("TLS:")), "{strangers:?}");
    assert!(denials >= 5, "{denials}");

    undisturbed(&cluster, &victim, &task);
    assert!(!hostile.heard(b"the-victims-secret"), "nothing of it went that way");
}

/// Opens a session and leaves it at that.
fn quiet() -> Habits {
    Habits { beats: false, listens: false, reports: false, ..Habits::default() }
}

fn undisturbed(cluster: &Cluster, victim: &Agent, task: &str) {
    victim.beat().expect("it goes on");
    victim.assert_no_faults();
    eventually("all is as it was", PATIENCE, || {
        let tasks = cluster.tasks("web");
        let own = tasks.iter().find(|found| found["ID"] == task)?;
        (own["Status"]["State"] == "running").then_some(())
    });
}

/// Who guesses tokens is told to wait, and may try again later; others are not kept waiting.
#[test]
fn tokens_cannot_be_guessed_at_any_speed() {
    let cluster = Cluster::new("hostile-tokens");
    let good = cluster.token("Worker");
    let bad = format!("{}{}", &good[..good.len() - 25], "0".repeat(25));
    let mut codes = Vec::new();
    for _ in 0..25 {
        codes.push(code(Member::join(cluster.addr, &bad)).expect("refused"));
    }
    assert_eq!(codes[0], Code::InvalidArgument);
    assert_eq!(codes[24], Code::ResourceExhausted, "{codes:?}");
    let barred = code(Member::join(cluster.addr, &good));
    assert_eq!(barred, Some(Code::ResourceExhausted), "not even with the right one");
    let text = cluster.client.get("/purser/audit").text();
    let told = text.matches("\"node admit\"").count();
    assert!((1..=20).contains(&told), "the audit is not filled: {told}");
    std::thread::sleep(Duration::from_millis(1));
}
