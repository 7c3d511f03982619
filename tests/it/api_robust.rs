//! What clients do to a server by mistake or on purpose: it answers, or hangs up, and goes on.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Barrier;
use std::time::Duration;

use super::api_table::{check, column, get, make_secret, post};
use super::kit::purser::Purser;
use serde_json::json;

fn connect(purser: &Purser) -> UnixStream {
    let stream = UnixStream::connect(purser.socket()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time limit");
    stream
}

/// Sends bytes, says that no more come, and reads what comes back until it ends.
fn exchange(purser: &Purser, bytes: &[u8]) -> String {
    let mut stream = connect(purser);
    // A server that has seen enough may hang up before it has read all.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[track_caller]
fn still_well(purser: &Purser) {
    let answer = purser.client().get("/secrets");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(!purser.log().contains("panicked"), "{}", purser.log());
}

#[test]
fn bodies_that_are_too_large_or_end_too_soon_are_refused() {
    let purser = Purser::swarm("bodies");
    let client = purser.client();
    let large = |len: usize| json!({"Name": "x", "Data": "A".repeat(len)});
    let labels = json!({"Name": "x", "Labels": {"l": "x".repeat(5 << 20)},
        "TaskTemplate": {"ContainerSpec": {"Image": "i"}}});
    let too_large = "the request body is larger than 8388608 bytes";
    check(
        &client,
        vec![
            post("/secrets/create", &large(10 << 20)).fails(400, too_large),
            post("/services/create", &large(10 << 20)).fails(400, too_large),
            post("/nodes/x/update?version=1", &large(10 << 20)).fails(400, too_large),
            post("/swarm/update?version=1", &large(10 << 20)).fails(400, too_large),
            post("/services/create", &labels).fails_with(
                500,
                "rpc error: code = ResourceExhausted desc = grpc: received message \
                    larger than max (",
            ),
        ],
    );
    let head = "POST /secrets/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let cut = exchange(&purser, format!("{head}Content-Length: 100\r\n\r\n{{\"Name\":").as_bytes());
    assert!(cut.is_empty() || cut.starts_with("HTTP/1.1 400 "), "{cut}");
    let cut = exchange(
        &purser,
        format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\n{{\"Nam").as_bytes(),
    );
    assert!(cut.is_empty() || cut.starts_with("HTTP/1.1 400 "), "{cut}");
    check(&client, vec![get("/secrets").shows(200, "[]")]);
    still_well(&purser);
}

#[test]
fn chunks_and_expectations_are_understood() {
    let purser = Purser::swarm("chunks");
    let body = r#"{"Name":"chunked","Data":"eA=="}"#;
    let head = "POST /secrets/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let mut chunks = String::new();
    for part in body.as_bytes().chunks(7) {
        chunks.push_str(&format!("{:x}\r\n{}\r\n", part.len(), String::from_utf8_lossy(part)));
    }
    let request =
        format!("{head}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n{chunks}0\r\n\r\n");
    let answer = exchange(&purser, request.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    // A chunk whose length is no number.
    let answer =
        exchange(&purser, format!("{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n").as_bytes());
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    // curl waits for leave before it sends a large body.
    let body = json!({"Name": "patient", "Data": "QUFB".repeat(100_000)}).to_string();
    let mut stream = connect(&purser);
    let request = format!(
        "{head}Expect: 100-continue\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("the head is sent");
    let mut leave = [0; 25];
    stream.read_exact(&mut leave).expect("leave to go on");
    assert_eq!(&leave, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).expect("the body is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    still_well(&purser);
}

#[test]
fn one_connection_serves_many_requests_waiting_or_not() {
    let purser = Purser::swarm("keepalive");
    make_secret(&purser.client(), "a", &json!({}));
    let mut stream = connect(&purser);
    let request = b"GET /v1.41/secrets/a HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut first = Vec::new();
    for at in 0..500 {
        stream.write_all(request).expect("it is sent");
        let answer = read_answer(&mut stream);
        let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default().as_bytes().to_vec();
        if at == 0 {
            first = body.clone();
        }
        assert!(answer.starts_with("HTTP/1.1 200 ") && body == first, "{answer}");
    }
    // A refusal does not end the connection, nor does a request that has a body which nobody reads.
    stream
        .write_all(b"GET /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
        .expect("sent");
    assert!(read_answer(&mut stream).starts_with("HTTP/1.1 404 "));
    stream.write_all(request).expect("it is sent");
    assert!(read_answer(&mut stream).starts_with("HTTP/1.1 200 "));
    // Requests that do not wait for each other are answered in their order.
    let many: Vec<u8> = (0..100)
        .flat_map(|at| format!("GET /secrets/no.s{at} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes())
        .collect();
    stream.write_all(&many).expect("all are sent");
    for at in 0..100 {
        let answer = read_answer(&mut stream);
        assert!(answer.contains(&format!("secret no.s{at} not found")), "{at}: {answer}");
    }
    still_well(&purser);
}

/// One answer of a connection that stays open: its head, and as many bytes as it says.
fn read_answer(stream: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a head");
        bytes.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; len.unwrap_or(0)];
    stream.read_exact(&mut body).expect("a body");
    bytes.extend_from_slice(&body);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn of_many_who_create_one_name_at_once_one_succeeds() {
    let purser = Purser::swarm("race");
    let client = purser.client();
    let body = json!({"Name": "same", "Data": "eA=="});
    let spec = super::api_table::idle_spec("same");
    for (path, body, word) in
        [("/secrets", &body, "secret same already"), ("/services", &spec, "service same already")]
    {
        let start = Barrier::new(64);
        let answers: Vec<_> = std::thread::scope(|scope| {
            let one = || {
                start.wait();
                client.post(&format!("{path}/create"), body)
            };
            let threads: Vec<_> = (0..64).map(|_| scope.spawn(one)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let made = answers.iter().filter(|answer| answer.status == 201).count();
        let taken = answers
            .iter()
            .filter(|answer| answer.status == 409 && answer.message().contains(word))
            .count();
        assert_eq!((made, taken), (1, 63), "{path}");
        assert_eq!(column(&client.get(path), "/Spec/Name"), ["same"]);
    }
    still_well(&purser);
}

#[test]
fn bytes_that_are_no_request_do_no_harm() {
    let purser = Purser::swarm("garbage");
    let long = "x".repeat(2 << 20);
    let noise: Vec<u8> =
        (0..4096_u32).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
    let requests: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"\0\0\0\0".to_vec(),
        b"\r\n\r\n\r\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"GET secrets HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"GET /secrets HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n".to_vec(),
        b"POST /secrets/create HTTP/1.1\r\nContent-Length: -1\r\n\r\n".to_vec(),
        b"POST /secrets/create HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"
            .to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        noise,
        format!("GET /secrets HTTP/1.1\r\nHost: x\r\nX-Long: {long}\r\n\r\n").into_bytes(),
        format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes(),
        format!("GET /secrets HTTP/1.1\r\n{}\r\n", "X-Many: 1\r\n".repeat(1000)).into_bytes(),
    ];
    for bytes in requests {
        let answer = exchange(&purser, &bytes);
        let status = answer.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]);
        assert!(status.is_none_or(|status| (400..500).contains(&status)), "{shown:?}: {answer}");
    }
    // A connection that is opened and left alone holds up nobody.
    let idle: Vec<UnixStream> = (0..100).map(|_| connect(&purser)).collect();
    still_well(&purser);
    drop(idle);
    still_well(&purser);
}

#[test]
fn what_has_too_many_values_takes_no_memory() {
    let purser = Purser::swarm("robust-values");
    let client = purser.client();
    let body = format!("[{}0]", "0,".repeat(4_000_000));
    let headers = [("Content-Type", "application/json")];
    for path in ["/secrets/create", "/services/create", "/networks/create"] {
        let refused = client.request("POST", path, &headers, body.as_bytes());
        assert_eq!(refused.status, if path == "/secrets/create" { 400 } else { refused.status });
        assert!((400..=500).contains(&refused.status), "{path}: {}", refused.text());
    }
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", purser.pid())).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(kib < 200 * 1024, "{kib} KiB at its peak");
}

#[test]
fn a_page_of_the_web_asks_for_nothing_over_tcp() {
    use std::io::{Read as _, Write as _};
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    let addr = port.expect("a free port").to_string();
    let purser = Purser::with_args("robust-web", &["--engine", "none", "--api-addr", &addr]);
    let ask = |head: &str| {
        let mut stream = std::net::TcpStream::connect(&addr).expect("it listens");
        let text = format!(
            "POST /swarm/leave?force=1 HTTP/1.1\r\n{head}Content-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(text.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    };
    purser.init("127.0.0.1:0");
    for head in [
        "Host: evil.example:2375\r\n".to_owned(),
        format!("Host: {addr}\r\nOrigin: http://evil.example\r\n"),
        format!("Host: {addr}\r\nOrigin: null\r\n"),
    ] {
        let answer = ask(&head);
        assert!(answer.starts_with("HTTP/1.1 403 "), "{head}: {answer}");
    }
    assert_eq!(purser.client().get("/swarm").status, 200, "it is still there");
    let answer = ask(&format!("Host: {addr}\r\n"));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}
