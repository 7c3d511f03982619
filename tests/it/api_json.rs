//! How bodies are read: the case of keys, nulls, types, bytes, content types, syntax.

use super::api_table::{check, post, post_text, request, version};
use super::kit::purser::Purser;
use serde_json::{Value, json};

const NAMELESS: &str = "rpc error: code = InvalidArgument desc = name must be provided";

#[test]
fn bodies_are_refused_in_the_engines_words() {
    let purser = Purser::swarm("json");
    let client = purser.client();
    let path = "/secrets/create";
    let named = r#"{"Name":"x","Data":"eA=="}"#;
    let syntax = |text: &str, message: &str| post_text(path, text).fails(400, message);
    let unfit = |path: &str, text: &str| post_text(path, text).fails_with(400, "invalid JSON: ");
    let typed = |kind: &str| request("POST", path).header("Content-Type", kind).body(named);
    let other = "unsupported Content-Type header";
    let mut cases = vec![
        request("POST", path).fails(400, NAMELESS),
        request("POST", "/services/create").fails(400, "mismatched Runtime and *Spec fields"),
        post_text(path, "{}").fails(400, NAMELESS),
        post_text(path, "null").fails(400, NAMELESS),
        request("POST", path)
            .body(named)
            .fails(400, "malformed Content-Type header (): mime: no media type"),
        typed("text/plain").fails(400, format!("{other} (text/plain): must be 'application/json'")),
        typed("application/x-www-form-urlencoded").fails(
            400,
            format!("{other} (application/x-www-form-urlencoded): must be 'application/json'"),
        ),
        typed("application/jsonl")
            .fails(400, format!("{other} (application/jsonl): must be 'application/json'")),
        typed("application/json; charset=utf-8").is(201),
        typed("Application/JSON").fails_with(409, "rpc error: code = AlreadyExists"),
        syntax(r#"{"Name":"x""#, "invalid JSON: unexpected EOF"),
        syntax("{", "invalid JSON: unexpected EOF"),
        syntax("\"", "invalid JSON: unexpected EOF"),
        syntax("not", "invalid JSON: invalid character 'o' in literal null (expecting 'u')"),
        syntax("<x>", "invalid JSON: invalid character '<' looking for beginning of value"),
        syntax(r#"{"Name":"y","Data":"eA=="} {}"#, "unexpected content after JSON"),
        syntax(r#"{"Name":"y","Data":"eA=="}x"#, "unexpected content after JSON"),
        post_text(path, "{\"Name\":\"white\",\"Data\":\"eA==\"} \r\n\t").is(201),
    ];
    for text in [
        "[]",
        "1",
        "\"x\"",
        "true",
        r#"{"Name":1}"#,
        r#"{"Name":["x"]}"#,
        r#"{"Labels":[]}"#,
        r#"{"Labels":{"a":1}}"#,
        r#"{"Data":1}"#,
        r#"{"Driver":"x"}"#,
        r#"{"Name":"\ud800"}"#,
        "{\"Name\":\"a\nb\"}",
        "{'Name':1}",
        "[[[[",
        r#"{"Name":"x",}"#,
    ] {
        cases.push(unfit(path, text));
    }
    for text in ["!!!!", "eA", "-_8="] {
        let body = json!({"Name": "bytes", "Data": text}).to_string();
        cases.push(
            post_text(path, &body).fails(400, "invalid JSON: illegal base64 data at input byte 0"),
        );
    }
    for (at, fields) in [
        ("/services/create", json!({"Mode": {"Replicated": {"Replicas": -1}}})),
        ("/services/create", json!({"Mode": {"Replicated": {"Replicas": 1.5}}})),
        ("/services/create", json!({"Mode": {"Replicated": {"Replicas": "1"}}})),
        ("/services/create", json!({"Mode": {"Replicated": {"Replicas": 1e30}}})),
        ("/services/create", json!({"TaskTemplate": {"ForceUpdate": -1}})),
        ("/services/create", json!({"TaskTemplate": {"ContainerSpec": {"TTY": "yes"}}})),
        ("/services/create", json!({"TaskTemplate": {"ContainerSpec": {"Env": {}}}})),
        ("/services/create", json!({"TaskTemplate": {"RestartPolicy": {"MaxAttempts": -1}}})),
        (
            "/services/create",
            json!({"TaskTemplate": {"ContainerSpec": {"DNSConfig": {"Nameservers": ["x"]}}}}),
        ),
        (
            "/services/create",
            json!({"TaskTemplate": {"ContainerSpec": {"Secrets": [{"File": {"Mode": -1}}]}}}),
        ),
        ("/nodes/x/update?version=1", json!({"Labels": 1})),
        ("/swarm/update?version=1", json!({"Orchestration": []})),
        ("/swarm/unlock", json!({"UnlockKey": 1})),
    ] {
        cases.push(unfit(at, &fields.to_string()));
    }
    check(&client, cases);
}

#[test]
fn keys_have_no_case_and_null_is_absent() {
    let purser = Purser::swarm("keys");
    let client = purser.client();
    let made = |text: &str| -> Value {
        let headers = [("Content-Type", "application/json")];
        let path =
            if text.contains("Image") || text.contains("IMAGE") { "/services" } else { "/secrets" };
        let answer = client.request("POST", &format!("{path}/create"), &headers, text.as_bytes());
        assert_eq!(answer.status, 201, "{text}: {}", answer.text());
        let id = answer.json()["ID"].as_str().expect("an id").to_owned();
        client.get(&format!("{path}/{id}")).json()["Spec"].clone()
    };
    // As docker-py writes modes.
    let spec = made(
        r#"{"name":"py","TaskTemplate":{"ContainerSpec":{"Image":"i","Args":null,"Env":null}},
            "Mode":{"replicated":{"Replicas":3}},"Labels":null,"EndpointSpec":null}"#,
    );
    assert_eq!(spec["Mode"], json!({"Replicated": {"Replicas": 3}}));
    let spec = made(
        r#"{"NAME":"all","tasktemplate":{"CONTAINERSPEC":{"IMAGE":"i","tTy":true}},
            "mode":{"global":{}},"labels":{"Keep":"Case"}}"#,
    );
    assert_eq!(spec["Mode"], json!({"Global": {}}));
    assert_eq!(spec["Labels"], json!({"Keep": "Case"}));
    assert_eq!(spec["TaskTemplate"]["ContainerSpec"]["TTY"], json!(true));
    // Of several keys that are one, the last counts, in whichever order they sort.
    assert_eq!(made(r#"{"Name":"u1","NAME":"u2","Data":"eA=="}"#)["Name"], "u2");
    assert_eq!(made(r#"{"NAME":"u3","Name":"u4","Data":"eA=="}"#)["Name"], "u4");
    assert_eq!(made(r#"{"Name":"u5","Name":"u6","Data":"eA=="}"#)["Name"], "u6");
    assert_eq!(made(r#"{"Name":"u7","name":null,"Data":"eA=="}"#)["Name"], "u7");
    // Unknown keys and line breaks in bytes are passed over.
    let spec =
        made("{\"Name\":\"x\",\"Data\":\"e\\nA=\\r\\n=\",\"Nope\":{\"a\":[1]},\"Driver\":null}");
    assert_eq!(spec, json!({"Name": "x", "Labels": {}}));
    // The same rules hold for nodes and for the swarm.
    let node = client.get("/nodes").json()[0]["ID"].as_str().expect("a node").to_owned();
    let path = format!("/nodes/{node}");
    let body = r#"{"ROLE":"manager","availability":"pause","labels":null,"Name":null}"#;
    let swarm = r#"{"orchestration":{"taskHISTORYretentionlimit":7},"Labels":null,"Raft":null}"#;
    let cases = vec![
        post_text(format!("{path}/update?{}", version(&client, &path)), body).is_empty(200),
        post_text(format!("/swarm/update?{}", version(&client, "/swarm")), swarm).is_empty(200),
    ];
    check(&client, cases);
    assert_eq!(
        client.get(&path).json()["Spec"],
        json!({"Labels": {}, "Role": "manager", "Availability": "pause"})
    );
    let spec = client.get("/swarm").json()["Spec"].clone();
    assert_eq!(spec["Orchestration"], json!({"TaskHistoryRetentionLimit": 7}));
    assert_eq!(spec["Raft"]["ElectionTick"], 10);
}

#[test]
fn answers_leave_html_as_it_is_and_end_with_a_line_break() {
    let purser = Purser::swarm("html");
    let client = purser.client();
    let labels = json!({"html": "<a href='x'>&</a>", "": "", "sp ace": "\u{e9}\u{2028}"});
    let id = super::api_table::make_secret(&client, "html", &labels);
    let text = client.get(&format!("/secrets/{id}")).text();
    assert!(text.contains("<a href='x'>&</a>") && text.ends_with("}\n"), "{text}");
    assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON")["Spec"]["Labels"], labels);
    check(
        &client,
        vec![post("/secrets/create", &json!({"Name": "<"})).fails_with(400, "rpc error")],
    );
}
