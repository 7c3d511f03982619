//! Versions, routes, headers, queries: what all requests have in common.

use super::api_table::{
    Case, check, delete, encoded, get, idle_spec, make_secret, make_service, masked, post, request,
};
use super::kit::purser::Purser;
use serde_json::json;

const TOO_NEW: &str = "is too new. Maximum supported API version is 1.55";
const TOO_OLD: &str = "is too old. Minimum supported API version is 1.40, please upgrade your client \
    to a newer version";

#[test]
fn the_version_in_front_of_a_path_is_checked_number_by_number() {
    let purser = Purser::swarm("version");
    let client = purser.client();
    let mut cases: Vec<Case> = ["1.40", "1.41", "1.52", "1.55", "1.41.7"]
        .iter()
        .map(|version| get(format!("/v{version}/secrets")).shows(200, "[]"))
        .collect();
    for version in ["9.9", "1.56", "1.100", "2.0", "1.99999999999999999999"] {
        let message = format!("client version {version} {TOO_NEW}");
        cases.push(get(format!("/v{version}/secrets")).fails(400, message));
    }
    for version in ["1.24", "1.24.1", "1.39"] {
        let message = format!("client version {version} {TOO_OLD}");
        cases.push(get(format!("/v{version}/secrets")).fails(400, message));
    }
    // The version comes before the route.
    cases.push(get("/v9.9/nope").fails(400, format!("client version 9.9 {TOO_NEW}")));
    check(&client, cases);
    // Below 1.24 there were no JSON errors; 1.9 is below 1.24.
    for version in ["1.23", "1.9", "0.1", "1", "."] {
        let answer = client.get(&format!("/v{version}/secrets"));
        assert_eq!(answer.status, 400, "{version}");
        assert_eq!(answer.text(), format!("client version {version} {TOO_OLD}\n"));
        assert_eq!(answer.header("Content-Type"), Some("text/plain; charset=utf-8"));
    }
}

#[test]
fn unknown_routes_and_methods_are_one_refusal() {
    let purser = Purser::swarm("routes");
    let client = purser.client();
    let missing = |case: Case| case.fails(404, "page not found");
    let head = |path: &str| request("HEAD", path).is(404);
    let mut cases: Vec<Case> = [
        "/",
        "/nope",
        "/v1.41",
        "/v1.41/",
        "/v1.41/nope",
        "/vx/secrets",
        "/v/secrets",
        "/v1.41x/secrets",
        "/secrets/",
        "/v1.41/secrets/",
        "/secrets/a/",
        "/secrets/a/b",
        "/_ping/",
        "/services/a/b",
        "/swarm/nope",
        "/swarm/init",
        "/tasks/a/b",
        "/nodes/a/update",
        "/secrets/%ff",
        "/SECRETS",
        "/session",
    ]
    .map(|path| missing(get(path)))
    .into();
    for (method, path) in [
        ("POST", "/secrets"),
        ("PUT", "/secrets/a"),
        ("PATCH", "/secrets"),
        ("DELETE", "/secrets"),
        ("POST", "/tasks"),
        ("DELETE", "/tasks/a"),
        ("POST", "/nodes"),
        ("DELETE", "/swarm"),
        ("POST", "/info"),
        ("POST", "/_ping"),
        ("BREW", "/secrets"),
    ] {
        cases.push(missing(request(method, path)));
    }
    cases.extend(["/secrets", "/v1.41/secrets", "/info", "/version", "/services/x"].map(head));
    cases.extend(["/_ping", "/v1.41/_ping"].map(|path| request("HEAD", path).is(200)));
    cases.extend(["/", "/secrets", "/v1.41/x/y/z"].map(|path| request("OPTIONS", path).bare(200)));
    check(&client, cases);
    let ping = client.request("HEAD", "/_ping", &[], b"");
    assert_eq!(ping.header("content-type"), Some("text/plain; charset=utf-8"));
}

#[test]
fn a_path_with_empty_parts_is_sent_to_the_one_without() {
    let purser = Purser::serve("slashes");
    let client = purser.client();
    for (path, clean) in [
        ("//secrets", "/secrets"),
        ("//v1.41///secrets", "/v1.41/secrets"),
        ("/v1.41//secrets?filters=a//b", "/v1.41/secrets?filters=a//b"),
    ] {
        let answer = client.get(path);
        assert_eq!((answer.status, answer.header("Location")), (301, Some(clean)), "{path}");
        assert_eq!((answer.text(), answer.header("Api-Version")), (String::new(), None), "{path}");
    }
}

#[test]
fn ping_tells_the_state_of_the_swarm() {
    let purser = Purser::serve("ping");
    let client = purser.client();
    let swarm = |path: &str| client.get(path).header("Swarm").map(str::to_owned);
    assert_eq!(swarm("/_ping").as_deref(), Some("inactive"));
    purser.init("127.0.0.1:0");
    for path in ["/_ping", "/v1.40/_ping"] {
        let answer = client.get(path);
        assert_eq!((answer.status, answer.text()), (200, "OK".to_owned()));
        for (name, value) in [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", "2"),
            ("Cache-Control", "no-cache, no-store, must-revalidate"),
            ("Pragma", "no-cache"),
            ("Swarm", "active/manager"),
            ("Api-Version", "1.55"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
    }
    let head = client.request("HEAD", "/_ping", &[], b"");
    assert_eq!((head.status, head.header("Content-Length")), (200, Some("0")));
    assert_eq!(head.header("Swarm"), Some("active/manager"));
}

#[test]
fn any_host_is_served_and_bodiless_answers_have_no_type() {
    let purser = Purser::swarm("host");
    let client = purser.client();
    for host in ["docker", "localhost:1", "api.moby.localhost", "%2Fvar%2Frun%2Fx.sock", ""] {
        let text =
            format!("GET /v1.41/secrets HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = client.raw(text.as_bytes()).expect("an answer");
        assert_eq!((answer.status, answer.text()), (200, "[]\n".to_owned()), "{host}");
        assert_eq!(answer.header("Content-Length"), Some("3"), "{host}");
        assert_eq!(answer.header("Content-Encoding"), None);
    }
    let id = make_secret(&client, "a", &json!({}));
    let path = format!("/secrets/{id}");
    let version = super::api_table::version(&client, &path);
    let updated = client.post(&format!("{path}/update?{version}"), &json!({"Name": "a"}));
    assert_eq!((updated.status, updated.header("Content-Length")), (200, Some("0")));
    check(&client, vec![delete(path).bare(204)]);
}

#[test]
fn queries_are_forms_in_which_the_first_of_several_counts() {
    let purser = Purser::swarm("query");
    let client = purser.client();
    make_secret(&client, "one", &json!({"a b": "c+d"}));
    make_secret(&client, "two", &json!({}));
    let names = |query: &str| {
        let answer = client.get(&format!("/secrets?{query}"));
        super::api_table::column(&answer, "/Spec/Name").join(",")
    };
    let (one, two) = (encoded(r#"{"names":["one"]}"#), encoded(r#"{"names":["two"]}"#));
    let cases = [
        (format!("filters={one}"), "one"),
        (format!("filters={one}&filters={two}"), "one"),
        (format!("filters={two}&filters=nonsense"), "two"),
        (format!("limit=1&filters={one}&all"), "one"),
        // docker-py has a blank after the colon, and writes it as a plus sign.
        ("filters=%7B%22names%22%3A+%5B%22one%22%5D%7D".to_owned(), "one"),
        ("filters=%7B%22label%22%3A%5B%22a+b%3Dc%2Bd%22%5D%7D".to_owned(), "one"),
        ("filters=".to_owned(), "one,two"),
        ("".to_owned(), "one,two"),
    ];
    for (query, wanted) in cases {
        let mut found: Vec<_> = names(&query).split(',').map(str::to_owned).collect();
        found.sort();
        assert_eq!(found.join(","), wanted, "{query}");
    }
    // Percent signs are decoded once.
    let twice = format!("/secrets?filters={}", encoded(&one));
    check(&client, vec![get(twice).fails(400, "invalid filter")]);
}

#[test]
fn booleans_have_two_readings() {
    let purser = Purser::swarm("booleans");
    let client = purser.client();
    let spec = super::api_table::idle_spec("web");
    let id = super::api_table::make_service(&client, &spec);
    let mut cases = Vec::new();
    let plain = masked(&client.get(&format!("/services/{id}")).text());
    let plain = plain.trim_end();
    for value in ["0", "f", "F", "FALSE", "false", "False", ""] {
        cases.push(get(format!("/services/{id}?insertDefaults={value}")).shows(200, plain));
        cases.push(get(format!("/services?status={value}")).shows(200, format!("[{plain}]")));
    }
    for value in ["1", "t", "T", "TRUE", "true", "True"] {
        let service = client.get(&format!("/services/{id}?insertDefaults={value}")).json();
        assert!(service["Spec"]["UpdateConfig"].is_object(), "{value}");
        let list = client.get(&format!("/services?status={value}")).json();
        assert!(list[0]["ServiceStatus"].is_object(), "{value}");
    }
    for value in ["yes", "2", "tRUE", "on"] {
        let fails = |case: Case, name: &str| {
            case.fails_with(400, format!("invalid value for {name}: {value}"))
        };
        cases.push(fails(get(format!("/services/{id}?insertDefaults={value}")), "insertDefaults"));
        cases.push(fails(get(format!("/services?status={value}")), "status"));
        for name in ["rotateWorkerToken", "rotateManagerToken", "rotateManagerUnlockKey"] {
            let path = format!("/swarm/update?version=1&{name}={value}");
            cases.push(fails(post(path, &json!({})), name));
        }
    }
    // The loose reading: whatever does not deny agrees.
    let last = "You are attempting to leave the swarm on a node that is participating as a manager. \
        Removing the last manager erases all current state of the swarm. Use `--force` to ignore \
        this message. ";
    for value in ["", "0", "no", "NO", "false", "False", "none", "None"] {
        cases.push(request("POST", format!("/swarm/leave?force={value}")).fails(503, last));
    }
    cases.push(request("POST", "/swarm/leave").fails(503, last));
    cases.push(request("POST", "/swarm/leave?force=certainly").bare(200));
    check(&client, cases);
}

#[test]
fn later_requests_of_a_connection_may_have_quotes_and_a_body_in_their_query() {
    let purser = Purser::swarm("transport-heads");
    let client = purser.client();
    let spec = idle_spec("web");
    make_service(&client, &spec);
    let index = client.get("/services/web").json()["Version"]["Index"].to_string();
    // As dockerode sends it: the body once more in the query.
    let repeated = "canary".repeat(100_000);
    let body = spec.to_string();
    let raw = "GET /services?filters={\"name\":[\"web\"]} HTTP/1.1\r\nHost: x\r\n";
    let text = format!(
        "{raw}\r\n{raw}\r\nPOST /services/web/update?TaskTemplate={repeated}&version={index} \
         HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}\
         {raw}Connection: close\r\n\r\n",
        body.len()
    );
    let mut stream = std::os::unix::net::UnixStream::connect(purser.socket()).expect("it listens");
    let mut answers = String::new();
    {
        use std::io::{Read as _, Write as _};
        stream.write_all(text.as_bytes()).expect("it reads");
        stream.read_to_string(&mut answers).expect("it answers");
    }
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 4, "{answers}");
    assert!(!purser.log().contains("canary") && !answers.contains("canary"));
    let endless = "y".repeat(2 << 20);
    let refused = client.raw(format!("GET /{endless} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
    assert!(refused.is_ok_and(|answer| matches!(answer.status, 414 | 431)));
    assert_eq!(client.get("/_ping").status, 200);
}
