//! What a request for logs must say, and in which order its faults are found. What comes back is in
//! `node_logs`.

use super::api_table::{check, get, idle_spec};
use super::kit::http::Client;
use super::kit::purser::Purser;

const NO_SWARM: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker \
    swarm join\" to connect this node to swarm and try again.";
const NO_STREAM: &str = "must specify at least one of 'stdout' or 'stderr'";

#[test]
fn a_request_for_logs_that_is_wrong_is_refused() {
    let purser = Purser::swarm("logs-bad");
    let client = purser.client();
    for name in ["web", "other"] {
        let made = client.post("/services/create", &idle_spec(name));
        assert_eq!(made.status, 201, "{}", made.text());
    }
    let mut cases = Vec::new();
    for (kind, path) in [("service", "/services"), ("task", "/tasks")] {
        let missing = format!("{kind} X not found");
        let none = ["", "?", "?stdout=0&stderr=false", "?stdout=no&stderr=None&follow=1&since=z"];
        for query in none {
            cases.push(get(format!("{path}/X/logs{query}")).fails(400, NO_STREAM));
        }
        for bad in ["abc", "1.x", "-", "5m", "1.1234567890"] {
            let start = format!("invalid value for \"since\": invalid timestamp \"{bad}\": ");
            let path = format!("{path}/X/logs?stderr=1&since={bad}&tail=x");
            cases.push(get(path).fails_with(400, start));
        }
        for fine in
            ["stdout=1", "stderr=True&since=0&tail=all", "stdout=1&tail=x", "stdout=1&tail=-1"]
        {
            cases.push(get(format!("{path}/X/logs?{fine}")).fails(404, &missing));
        }
    }
    let no_number = "tail value must be a positive integer or \"all\"";
    for (tail, message) in [
        ("x", no_number),
        ("ALL", no_number),
        ("1.5", no_number),
        ("99999999999999999999", no_number),
        ("-1", "negative tail values not supported"),
        ("-9", "negative tail values not supported"),
    ] {
        cases.push(get(format!("/services/web/logs?stdout=1&tail={tail}")).fails(500, message));
    }
    cases.push(get("/services/WEB/logs?stdout=1").fails(404, "service WEB not found"));
    check(&client, cases);
}

#[test]
fn outside_of_a_swarm_there_are_no_logs() {
    let purser = Purser::serve("logs-none");
    let paths = ["/services/x/logs", "/tasks/x/logs"];
    let asked = paths.map(|path| get(format!("{path}?stdout=1&tail=x")).fails(503, NO_SWARM));
    let refused = paths.map(|path| get(path).fails(400, NO_STREAM));
    check(&purser.client(), asked.into_iter().chain(refused).collect());
}

/// The type of an answer.
fn media_type(client: &Client, path: &str) -> String {
    let answer = client.get(path);
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b""[..]), "{path}");
    answer.header("Content-Type").unwrap_or_default().to_owned()
}

#[test]
fn the_type_of_logs_is_by_version_and_terminal() {
    let purser = Purser::swarm("logs-type");
    let client = purser.client();
    let mut terminal = idle_spec("tty");
    terminal["TaskTemplate"]["ContainerSpec"]["TTY"] = true.into();
    for spec in [idle_spec("web"), terminal] {
        assert_eq!(client.post("/services/create", &spec).status, 201);
    }
    let (frames, raw) =
        ("application/vnd.docker.multiplexed-stream", "application/vnd.docker.raw-stream");
    for (path, expected) in [
        ("/services/web/logs?stdout=1", frames),
        ("/v1.42/services/web/logs?stdout=1", frames),
        ("/v1.41/services/web/logs?stdout=1", raw),
        ("/services/tty/logs?stdout=1", raw),
        ("/v1.41/services/tty/logs?stdout=1", raw),
    ] {
        // No task has a node, so that the stream ends at once.
        assert_eq!(media_type(&client, path), expected, "{path}");
    }
}
