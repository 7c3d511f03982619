//! Secrets whose driver makes their values, earlier versions chosen again, and old ones dropped: the routes,
//! their refusals, and what events and the audit tell.

use std::os::unix::fs::PermissionsExt as _;

use purser::domain::time::Timestamp;
use serde_json::{Value, json};

use super::api_table::{check, make_secret, post, request, version};
use super::kit::agent::Habits;
use super::kit::agent::cluster::{Cluster, service};
use super::kit::http::Client;
use super::kit::purser::Purser;
use super::kit::scratch::Scratch;

fn driven(name: &str, driver: &str, labels: &Value) -> Value {
    json!({"Name": name, "Labels": labels, "Driver": {"Name": driver}})
}

fn ask(client: &Client, path: &str) -> u16 {
    client.post(path, &json!({})).status
}

#[test]
fn a_generated_value_reaches_its_tasks_and_nobody_else() {
    let cluster = Cluster::new("supply-tasks");
    let client = &cluster.client;
    let made =
        client.post("/secrets/create", &driven("pw", "generate", &json!({"purser.length": "40"})));
    assert_eq!(made.status, 201, "{}", made.text());
    let id = made.json()["ID"].as_str().expect("an id").to_owned();
    cluster.service(&service("web", 1, &[(&id, "pw")]));
    let member = cluster.join().expect("it is admitted");
    let agent = member.open(&Habits::default()).expect("a session");
    let value = |not: &[u8]| {
        agent.until("the value", |seen| {
            let value = seen.model.secrets.values().next()?.as_slice();
            (seen.model.secrets.len() == 1 && value != not).then(|| value.to_vec())
        })
    };
    let first = value(b"");
    assert!(first.len() == 40 && first.iter().all(u8::is_ascii_alphanumeric));
    assert_eq!(ask(client, &format!("/secrets/pw/rotate?{}", version(client, "/secrets/pw"))), 200);
    let second = value(&first);
    for text in ["/secrets", "/secrets/pw/versions", "/secrets/pw/rotation", "/purser/audit"] {
        let shown = client.get(text).text();
        for value in [&first, &second] {
            assert!(!shown.contains(&*String::from_utf8_lossy(value)), "{text}");
        }
    }
    let records = client.get("/purser/audit?object=pw").text();
    assert!(records.contains(r#""verb":"secret rotate""#), "{records}");
}

#[test]
fn a_command_supplies_values_and_its_failure_keeps_the_last() {
    let dir = Scratch::new("supply");
    let program = dir.join("keeper");
    std::fs::write(&program, format!("#!/bin/sh\ncat {}/$PURSER_LABEL_ENTRY", dir.display()))
        .expect("a file");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    std::fs::write(dir.join("entry1"), "kept elsewhere\n").expect("a file");
    let command = format!("keeper={}", program.display());
    let purser =
        Purser::with_args("supply-exec", &["--engine", "none", "--secret-command", &command]);
    purser.init("127.0.0.1:0");
    let client = purser.client();
    let labels =
        json!({"entry": "entry1", "purser.rotate-every": "30d", "purser.command": "keeper"});
    assert_eq!(client.post("/secrets/create", &driven("db", "exec", &labels)).status, 201);
    std::fs::remove_file(dir.join("entry1")).expect("it was there");
    let rotate = || {
        client.post(&format!("/secrets/db/rotate?{}", version(&client, "/secrets/db")), &json!({}))
    };
    let failed = rotate();
    assert!(
        failed.status == 500 && failed.message().contains("ended with exit status: 1"),
        "{}",
        failed.text()
    );
    let shown = client.get("/secrets/db/rotation").json();
    assert_eq!(
        (&shown["Driver"], &shown["Every"]),
        (&json!("exec"), &json!(2_592_000_000_000_000_i64))
    );
    let told = shown["Failure"]["Message"].as_str().expect("a failure");
    assert!(told.contains("exit status: 1") && shown["NewestAt"].is_string(), "{shown}");
    assert_eq!(client.get("/secrets/db/versions").json().as_array().map(Vec::len), Some(1));
    let records = client.get("/purser/audit?object=db").text();
    assert!(records.contains(r#""outcome":"failed""#), "{records}");
    // It is tried once more when the value is there again.
    std::fs::write(dir.join("entry1"), "another\n").expect("a file");
    assert_eq!(rotate().status, 200);
    assert_eq!(client.get("/secrets/db/rotation").json()["Failure"], Value::Null);
    assert_eq!(client.get("/secrets/db/versions").json().as_array().map(Vec::len), Some(2));
    assert!(!purser.log().contains("kept elsewhere"));
}

#[test]
fn what_a_driver_cannot_do_is_refused() {
    let purser = Purser::swarm("supply-bad");
    let client = purser.client();
    make_secret(&client, "plain", &json!({}));
    assert_eq!(client.post("/secrets/create", &driven("gen", "generate", &json!({}))).status, 201);
    let invalid = "rpc error: code = InvalidArgument desc = ";
    let create = |body: Value| post("/secrets/create", &body);
    let mut with_data = driven("x", "generate", &json!({}));
    with_data["Data"] = "eA==".into();
    let [plain, driven_version] =
        ["plain", "gen"].map(|name| version(&client, &format!("/secrets/{name}")));
    let every = |text: &str| create(driven("x", "generate", &json!({"purser.rotate-every": text})));
    check(
        &client,
        vec![
            create(driven("x", "vault", &json!({})))
                .fails(500, "rpc error: code = Unknown desc = plugin \"vault\" not found"),
            create(driven("gen", "generate", &json!({})))
                .fails(409, "rpc error: code = AlreadyExists desc = secret gen already exists"),
            create(driven("", "generate", &json!({})))
                .fails_with(400, format!("{invalid}name must be provided")),
            create(with_data).fails_with(400, format!("{invalid}the driver makes the value")),
            create(driven("x", "generate", &json!({"purser.length": "4"})))
                .fails_with(400, format!("{invalid}label purser.length")),
            create(driven("x", "exec", &json!({})))
                .fails_with(400, format!("{invalid}the driver exec needs")),
            create(driven("x", "exec", &json!({"purser.command": "none"})))
                .fails_with(400, format!("{invalid}label purser.command: no command \"none\"")),
            create(driven("x", "exec", &json!({"purser.command": "a", "b.c": "1", "b_c": "2"})))
                .fails_with(400, format!("{invalid}labels \"b.c\" and \"b_c\"")),
            every("1s").fails_with(400, format!("{invalid}label purser.rotate-every")),
            request("POST", format!("/secrets/plain/rotate?{plain}"))
                .fails(400, format!("{invalid}secret plain has no driver that makes its values")),
            request("POST", "/secrets/gen/rotate?version=1")
                .fails(500, "rpc error: code = Unknown desc = update out of sequence"),
            request("POST", "/secrets/gen/rotate").fails_with(400, "invalid secret version"),
            request("POST", "/secrets/none/rotate?version=1").fails(404, "secret none not found"),
            post(
                format!("/secrets/gen/update?{driven_version}"),
                &json!({"Name": "gen", "Data": "eA=="}),
            )
            .fails(400, format!("{invalid}secret gen has its values from the driver generate")),
            post(
                format!("/secrets/gen/update?{driven_version}"),
                &json!({"Name": "gen", "Labels": {"purser.length": "x"}}),
            )
            .fails_with(400, format!("{invalid}label purser.length")),
            request("POST", format!("/secrets/plain/rollback?{plain}"))
                .fails(400, format!("{invalid}secret plain has no version before the present one")),
            request("POST", format!("/secrets/plain/rollback?{plain}&to=7"))
                .fails(400, format!("{invalid}secret plain has no version 7")),
            request("POST", format!("/secrets/plain/rollback?{plain}&to=x"))
                .fails(400, "invalid value for to: \"x\" is no number"),
            request("POST", "/secrets/none/rollback?version=1").fails(404, "secret none not found"),
            request("POST", "/configs/none/rollback?version=1").fails(404, "config none not found"),
            request("POST", "/secrets/plain/prune?unusedFor=soon")
                .fails_with(400, "invalid value for unusedFor"),
            request("POST", "/configs/none/prune").fails(404, "config none not found"),
            request("POST", "/secrets/plain/prune").bare(200),
        ],
    );
}

#[test]
fn strict_has_no_drivers_either() {
    let purser = Purser::with_args("supply-strict", &["--engine", "none", "--compat", "strict"]);
    purser.init("127.0.0.1:0");
    let refused = "rpc error: code = Unknown desc = plugin \"generate\" not found";
    check(
        &purser.client(),
        vec![
            post("/secrets/create", &driven("x", "generate", &json!({}))).fails(500, refused),
            post("/secrets/create", &driven("x", "generate", &json!({"purser.length": "3"})))
                .fails(500, refused),
        ],
    );
    let client = purser.client();
    let id = make_secret(&client, "plain", &json!({}));
    let back = client.post(
        &format!("/secrets/{id}/rollback?{}", version(&client, "/secrets/plain")),
        &json!({}),
    );
    let words = "only updates to Labels are allowed";
    assert!(back.status == 400 && back.message().ends_with(words), "{}", back.text());
}

#[test]
fn an_earlier_version_is_chosen_again_and_that_is_told() {
    let purser = Purser::swarm("supply-back");
    let client = purser.client();
    client.post("/configs/create", &json!({"Name": "conf", "Data": "b25l"}));
    let update = |data: &str| {
        let path = format!("/configs/conf/update?{}", version(&client, "/configs/conf"));
        client.post(&path, &json!({"Name": "conf", "Data": data})).status
    };
    let back = |query: &str| {
        ask(
            &client,
            &format!("/configs/conf/rollback?{}{query}", version(&client, "/configs/conf")),
        )
    };
    let data = || client.get("/configs/conf").json()["Spec"]["Data"].as_str().map(str::to_owned);
    assert_eq!([update("dHdv"), update("dGhyZWU=")], [200, 200]);
    assert_eq!((back(""), data().as_deref()), (200, Some("dHdv")));
    assert_eq!((back("&to=1"), data().as_deref()), (200, Some("b25l")));
    // What is sent again is the present one, and so no other.
    assert_eq!(update("b25l"), 200);
    let numbers = || -> Vec<Value> {
        let versions = client.get("/configs/conf/versions").json();
        versions.as_array().expect("a list").iter().map(|item| item["Version"].clone()).collect()
    };
    assert_eq!(numbers(), [1, 2, 3]);
    assert_eq!(ask(&client, "/configs/conf/prune?keep=1"), 200);
    assert_eq!(numbers(), [1, 3], "the newest stays");
    assert_eq!(update("Zm91cg=="), 200);
    assert_eq!(numbers(), [1, 3, 4]);
    let records = client.get("/purser/audit?object=conf").text();
    for told in [
        r#""verb":"config rollback""#,
        r#""detail":"version 2 dropped""#,
        r#""detail":"version 4""#,
    ] {
        assert!(records.contains(told), "{told}: {records}");
    }
    let end = client.get("/configs/conf").json()["UpdatedAt"].as_str().and_then(Timestamp::parse);
    let end = end.expect("a time").unix_seconds() + 1;
    let events = client.get(&format!("/events?since=0&until={end}")).text();
    let told = r#""Attributes":{"name":"conf","version":"4"}"#;
    assert!(events.contains(told), "{events}");
}
