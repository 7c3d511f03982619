//! `/events`: replay, live, filters, forms, and what is refused.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::api_table::{
    check, delete, encoded, get, idle_spec, make_secret, make_service, masked, post, version,
};
use super::kit::eventually;
use super::kit::http::Client;
use super::kit::purser::Purser;
use serde_json::{Value, json};

/// Seconds since 1970 with a fraction, as a query has them.
#[expect(clippy::disallowed_methods, reason = "the server under test goes by the real clock")]
pub fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    format!("{}.{:09}", now.as_secs(), now.subsec_nanos())
}

/// The events up to now that pass.
pub fn replay(client: &Client, filters: &Value) -> Vec<Value> {
    let filters = encoded(&filters.to_string());
    let answer = client.get(&format!("/events?until={}&filters={filters}", now()));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON in each line"))
        .collect()
}

/// Each event as `type action name`.
fn words(events: &[Value]) -> Vec<String> {
    let words = events.iter().map(|event| {
        let name = &event["Actor"]["Attributes"]["name"];
        let words = [&event["Type"], &event["Action"], name];
        words.map(|word| word.as_str().unwrap_or_default()).join(" ")
    });
    words.collect()
}

/// Waits until this many events pass, for they are derived a moment after the write.
#[track_caller]
fn replayed(client: &Client, filters: &Value, count: usize) -> Vec<Value> {
    eventually("the events", Duration::from_secs(10), || {
        let events = replay(client, filters);
        (events.len() >= count).then_some(events)
    })
}

#[test]
fn what_cannot_be_read_is_refused() {
    let purser = Purser::serve("event-bad");
    let client = purser.client();
    let mut cases = Vec::new();
    for key in ["since", "until"] {
        for bad in ["zz", "1.x", "1.1234567890", "5m", "-", "1e3"] {
            let start = format!("invalid value for '{key}': invalid timestamp \"{bad}\": ");
            cases.push(get(format!("/events?{key}={bad}")).fails_with(400, start));
        }
    }
    cases.push(
        get("/events?since=20&until=10")
            .fails(400, "`since` time (20) cannot be after `until` time (10)"),
    );
    cases.push(get("/events?until=1&filters=x").fails(400, "invalid filter"));
    cases.push(get("/events?until=1&filters=%7B%22nope%22%3A%5B%22x%22%5D%7D").is(200));
    check(&client, cases);
}

#[test]
fn the_form_of_the_stream_is_the_versions_or_the_one_accepted() {
    let purser = Purser::swarm("event-form");
    let client = purser.client();
    make_secret(&client, "a", &json!({}));
    replayed(&client, &json!({"type": ["secret"]}), 1);
    let path = format!("/events?until={}&filters=%7B%22type%22%3A%5B%22secret%22%5D%7D", now());
    let cases = [
        ("", "", "application/jsonl"),
        ("/v1.52", "", "application/jsonl"),
        ("/v1.55", "", "application/jsonl"),
        ("/v1.51", "", "application/json"),
        ("/v1.40", "*/*", "application/json"),
        ("", "application/json", "application/jsonl"),
        ("", "application/x-ndjson", "application/x-ndjson"),
        ("/v1.52", "text/html, application/json-seq;q=0.9, */*", "application/json-seq"),
        ("/v1.41", "application/jsonl", "application/jsonl"),
    ];
    for (prefix, accept, kind) in cases {
        let headers = [("Accept", accept)];
        let answer = client.request("GET", &format!("{prefix}{path}"), &headers, b"");
        assert_eq!((answer.status, answer.header("Content-Type")), (200, Some(kind)), "{accept}");
        let lead = if kind.ends_with("seq") { "\u{1e}" } else { "" };
        let line = r#"{"Type":"secret","Action":"create","Actor":{"ID":"<id>","Attributes":{"name":"a"}},"scope":"swarm","time":"#;
        let text = masked(&answer.text());
        assert!(text.starts_with(&format!("{lead}{line}")) && text.ends_with("}\n"), "{text}");
        assert_eq!(answer.header("Transfer-Encoding"), Some("chunked"));
        assert_eq!(answer.header("Api-Version"), Some("1.55"));
    }
}

#[test]
fn every_change_of_an_object_is_an_event() {
    let purser = Purser::swarm("event-all");
    let client = purser.client();
    let secret = make_secret(&client, "db", &json!({}));
    let at = |path: &str| format!("{path}/update?{}", version(&client, path));
    check(
        &client,
        vec![
            post(at("/secrets/db"), &json!({"Name": "db", "Labels": {"a": "b"}})).is(200),
            delete("/secrets/db").is(204),
        ],
    );
    let service = make_service(&client, &idle_spec("web"));
    let mut changed = idle_spec("web");
    changed["TaskTemplate"]["ContainerSpec"]["Image"] = json!("busybox:2");
    changed["Mode"] = json!({"Replicated": {"Replicas": 1}});
    check(&client, vec![post(at("/services/web"), &changed).is(200)]);
    let node = client.get("/nodes").json()[0]["ID"].as_str().expect("an id").to_owned();
    let drain = json!({"Role": "manager", "Availability": "drain"});
    check(
        &client,
        vec![post(at(&format!("/nodes/{node}")), &drain).is(200), delete("/services/web").is(200)],
    );
    replayed(&client, &json!({"event": ["remove"]}), 2);
    let secrets = replay(&client, &json!({"type": ["secret"]}));
    assert_eq!(words(&secrets), ["secret create db", "secret update db", "secret remove db"]);
    assert!(secrets.iter().all(|event| event["Actor"]["ID"] == json!(secret)));
    let services = replay(&client, &json!({"service": [service]}));
    assert_eq!(words(&services)[..2], ["service create web", "service update web"]);
    assert_eq!(words(&services).last().map(String::as_str), Some("service remove web"));
    assert_eq!(
        services[1]["Actor"]["Attributes"],
        json!({"name": "web", "image.old": "busybox:latest", "image.new": "busybox:2",
            "replicas.old": "0", "replicas.new": "1"})
    );
    let nodes = replay(&client, &json!({"type": ["node"]}));
    let host = client.get("/info").json()["Name"].clone();
    let host = host.as_str().expect("a name");
    assert_eq!(words(&nodes), [format!("node create {host}"), format!("node update {host}")]);
    assert_eq!(
        nodes[1]["Actor"]["Attributes"],
        json!({"name": host, "availability.old": "active", "availability.new": "drain"})
    );
    let all = replay(&client, &json!({}));
    assert!(all.iter().all(|event| event["scope"] == "swarm"), "tasks make none");
    let times: Vec<i64> = all.iter().filter_map(|event| event["timeNano"].as_i64()).collect();
    assert!(times.len() == all.len() && times.is_sorted(), "{times:?}");
    assert!(all.iter().all(
        |event| event["time"].as_i64() == event["timeNano"].as_i64().map(|t| t / 1_000_000_000)
    ));
}

#[test]
fn filters_are_met_by_every_key_and_any_value() {
    let purser = Purser::swarm("event-filter");
    let client = purser.client();
    let one = make_secret(&client, "web-one", &json!({}));
    make_secret(&client, "two", &json!({}));
    make_service(&client, &idle_spec("web"));
    check(&client, vec![delete("/secrets/two").is(204)]);
    replayed(&client, &json!({"event": ["remove"]}), 1);
    let (create, remove) = (["secret create web-one", "secret create two"], "secret remove two");
    let service = "service create web";
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (json!({"type": ["secret"]}), vec![create[0], create[1], remove]),
        (
            json!({"type": ["secret", "service"], "event": ["create"]}),
            vec![create[0], create[1], service],
        ),
        (json!({"event": ["rem"]}), vec![]),
        (json!({"scope": ["local"]}), vec![]),
        (json!({"scope": ["swarm"], "event": ["remove"]}), vec![remove]),
        (json!({"secret": [one]}), vec![create[0]]),
        (json!({"secret": [one[..9]]}), vec![create[0]]),
        // A name is a prefix, and does not restrict the type.
        (json!({"service": ["web"]}), vec![create[0], service]),
        (json!({"secret": ["two"], "type": ["secret"]}), vec![create[1], remove]),
        (json!({"secret": ["two"], "event": ["create", "remove"]}), vec![create[1], remove]),
        (json!({"label": ["name=two"]}), vec![create[1], remove]),
        (json!({"label": ["name=two", "name=web"]}), vec![]),
        (json!({"label": ["image"]}), vec![]),
        (json!({"type": {"secret": true}, "event": {"remove": true}}), vec![remove]),
        (json!({"nonsense": ["x"], "event": ["remove"]}), vec![remove]),
    ];
    for (wish, wanted) in cases {
        assert_eq!(words(&replay(&client, &wish)), wanted, "{wish}");
    }
    // A label with an empty value is that value here, and nothing is without a name.
    assert_eq!(words(&replay(&client, &json!({"label": ["name="]}))), [""; 0]);
}

#[test]
fn configs_make_events_as_secrets_do() {
    let purser = Purser::swarm("event-config");
    let client = purser.client();
    let config = json!({"Name": "site", "Data": "eA=="});
    check(&client, vec![post("/configs/create", &config).is(201)]);
    let now = version(&client, "/configs/site");
    check(
        &client,
        vec![
            post(format!("/configs/site/update?{now}"), &json!({"Name": "site"})).is(200),
            delete("/configs/site").is(204),
        ],
    );
    replayed(&client, &json!({"event": ["remove"]}), 1);
    let wanted = ["config create site", "config update site", "config remove site"];
    assert_eq!(words(&replay(&client, &json!({"type": ["config"]}))), wanted);
    assert_eq!(words(&replay(&client, &json!({"config": ["site"]}))), wanted);
}

#[test]
fn since_and_until_cut_the_replay() {
    let purser = Purser::swarm("event-time");
    let client = purser.client();
    make_secret(&client, "one", &json!({}));
    replayed(&client, &json!({"type": ["secret"]}), 1);
    let between = now();
    make_secret(&client, "two", &json!({}));
    replayed(&client, &json!({"type": ["secret"]}), 2);
    let filters = "filters=%7B%22type%22%3A%5B%22secret%22%5D%7D";
    let shown = |query: &str| {
        let text = client.get(&format!("/events?{query}&{filters}")).text();
        ["one", "two"].map(|name| text.contains(&format!("\"name\":\"{name}\"")))
    };
    assert_eq!(shown(&format!("until={between}")), [true, false]);
    assert_eq!(shown(&format!("since={between}&until={}", now())), [false, true]);
    assert_eq!(shown(&format!("since=1&until={}", now())), [true, true]);
    assert_eq!(shown("since=1&until=2"), [false, false]);
}

#[test]
fn the_newest_256_events_are_kept() {
    let purser = Purser::swarm("event-buffer");
    let client = purser.client();
    for at in 0..260 {
        make_secret(&client, &format!("s{at}"), &json!({}));
    }
    eventually("the newest event", Duration::from_secs(10), || {
        let events = replay(&client, &json!({}));
        words(&events).contains(&"secret create s259".into()).then_some(())
    });
    // That may have come during the replay, behind the 256 before it.
    let events = replay(&client, &json!({}));
    assert_eq!(events.len(), 256);
    assert_eq!(words(&events)[0], "secret create s4");
}

#[test]
fn a_live_stream_shows_what_comes_and_ends_with_the_process() {
    let mut purser = Purser::swarm("event-live");
    let client = purser.client();
    make_secret(&client, "before", &json!({}));
    replayed(&client, &json!({"type": ["secret"]}), 1);
    let mut stream = UnixStream::connect(purser.socket()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
    let filters = "filters=%7B%22type%22%3A%5B%22secret%22%5D%7D";
    let request = format!("GET /v1.41/events?{filters} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is sent");
    let mut lines = BufReader::new(stream).lines().map(|line| line.expect("a line in time"));
    let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    assert_eq!(head[0], "HTTP/1.1 200 OK", "the head comes at once");
    make_secret(&client, "after", &json!({}));
    let event = lines.find(|line| line.starts_with('{')).expect("an event");
    assert!(event.contains("\"name\":\"after\""), "nothing of before: {event}");
    purser.stop();
    // The stream ends whole, with its last chunk.
    let rest: Vec<String> = lines.collect();
    assert!(rest.contains(&"0".to_owned()), "{rest:?}");
}
