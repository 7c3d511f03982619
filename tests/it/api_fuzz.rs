//! Random bodies against every route that takes one: the answer is always one that the document
//! knows, and never a failure of the server's own.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

use super::api_table::{idle_spec, make_secret, make_service};
use super::kit::http::Client;
use super::kit::purser::Purser;

/// Cases; at a few milliseconds each, a few seconds in all.
const CASES: u32 = 1500;

/// The words that bodies are made of: the keys of specs, in some case.
const KEYS: &[&str] = &[
    "Name",
    "name",
    "LABELS",
    "Labels",
    "Data",
    "Driver",
    "Templating",
    "Options",
    "TaskTemplate",
    "ContainerSpec",
    "Image",
    "Env",
    "Hostname",
    "Mounts",
    "Target",
    "Type",
    "TmpfsOptions",
    "Healthcheck",
    "Interval",
    "Retries",
    "Secrets",
    "SecretID",
    "SecretName",
    "File",
    "Mode",
    "Configs",
    "Privileges",
    "CredentialSpec",
    "Config",
    "DNSConfig",
    "Nameservers",
    "Resources",
    "Limits",
    "Reservations",
    "NanoCPUs",
    "MemoryBytes",
    "GenericResources",
    "RestartPolicy",
    "Condition",
    "Delay",
    "Window",
    "MaxAttempts",
    "Placement",
    "Constraints",
    "Preferences",
    "MaxReplicas",
    "Platforms",
    "Networks",
    "ForceUpdate",
    "Runtime",
    "PluginSpec",
    "LogDriver",
    "Replicated",
    "Replicas",
    "Global",
    "ReplicatedJob",
    "GlobalJob",
    "UpdateConfig",
    "RollbackConfig",
    "Parallelism",
    "FailureAction",
    "Monitor",
    "MaxFailureRatio",
    "Order",
    "EndpointSpec",
    "Ports",
    "TargetPort",
    "PublishedPort",
    "PublishMode",
    "Protocol",
    "Role",
    "Availability",
    "Orchestration",
    "TaskHistoryRetentionLimit",
    "Raft",
    "ElectionTick",
    "Dispatcher",
    "HeartbeatPeriod",
    "CAConfig",
    "NodeCertExpiry",
    "ExternalCAs",
    "ForceRotate",
    "EncryptionConfig",
    "AutoLockManagers",
    "TaskDefaults",
    "IPAM",
    "Subnet",
    "IPRange",
    "Gateway",
    "Attachable",
    "Ingress",
    "ConfigFrom",
    "EnableIPv6",
    "UnlockKey",
    "ListenAddr",
    "AdvertiseAddr",
    "RemoteAddrs",
    "",
];

const TEXTS: &[&str] = &[
    "",
    "web",
    "a",
    "eA==",
    "!!",
    "busybox",
    "A:b:c",
    "{{.Node.Hostname}}",
    "{{.Nope}}",
    "{{",
    "x=y",
    "container",
    "plugin",
    "any",
    "on-failure",
    "pause",
    "rollback",
    "start-first",
    "vip",
    "dnsrr",
    "host",
    "ingress",
    "tcp",
    "bind",
    "tmpfs",
    "manager",
    "worker",
    "active",
    "drain",
    "default",
    "node.role==manager",
    "node.role",
    "10.0.0.1",
    "\u{0}",
    "\u{fffd}\u{1f512}",
    "/run/x",
    "0",
];

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-3_i64..5).prop_map(Value::from),
        (-2.0..2.0_f64).prop_map(Value::from),
        prop::sample::select(TEXTS).prop_map(Value::from),
        "[ -~]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, |inner| {
        let key = prop::sample::select(KEYS).prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..6)
                .prop_map(|entries| Value::Object(Map::from_iter(entries))),
        ]
    })
}

/// The routes, each with a body that it would take.
fn routes(node: &str, secret: &str) -> Vec<(String, Value)> {
    let mut service = idle_spec("");
    service["TaskTemplate"] = json!({
        "ContainerSpec": {"Image": "busybox", "Env": ["A=b"], "Hostname": "h", "TTY": false,
            "Mounts": [{"Type": "bind", "Source": "/a", "Target": "/a"}],
            "Healthcheck": {"Test": ["NONE"], "Interval": 1_000_000, "Retries": 1},
            "Secrets": [{"File": {"Name": "t", "UID": "0", "GID": "0", "Mode": 292},
                "SecretID": secret, "SecretName": "known"}],
            "Privileges": {"CredentialSpec": {"File": "f"}}, "StopGracePeriod": 1},
        "Resources": {"Limits": {"NanoCPUs": 1_000_000}, "Reservations": {"MemoryBytes": 4_194_304}},
        "RestartPolicy": {"Condition": "any", "Delay": 1, "Window": 1, "MaxAttempts": 1},
        "Placement": {"Constraints": ["node.role==worker"], "MaxReplicas": 1}, "ForceUpdate": 0});
    service["Labels"] = json!({"a": "b"});
    service["UpdateConfig"] = json!({"Parallelism": 1, "Delay": 0, "Monitor": 0,
        "FailureAction": "pause", "MaxFailureRatio": 0.5, "Order": "stop-first"});
    service["EndpointSpec"] = json!({"Mode": "vip", "Ports": [{"TargetPort": 80,
        "PublishedPort": 80, "PublishMode": "host"}]});
    let mut known = service.clone();
    known["Name"] = json!("known");
    let secret = json!({"Name": "known", "Labels": {"a": "b"}, "Data": "cHVyc2Vy"});
    let swarm = json!({"Name": "default", "Labels": {"a": "b"},
        "Orchestration": {"TaskHistoryRetentionLimit": 5}, "Raft": {"ElectionTick": 10},
        "Dispatcher": {"HeartbeatPeriod": 5_000_000_000_u64},
        "CAConfig": {"NodeCertExpiry": 7_776_000_000_000_000_u64, "ForceRotate": 0}});
    let node_spec =
        json!({"Name": "n", "Labels": {"a": "b"}, "Role": "manager", "Availability": "active"});
    let named = |path: &str, body: &Value| (path.to_owned(), body.clone());
    vec![
        named("/secrets/create", &secret),
        named("/secrets/known/update", &secret),
        named("/services/create", &service),
        named("/services/create", &service),
        named("/services/known/update", &known),
        named(&format!("/nodes/{node}/update"), &node_spec),
        named("/swarm/update", &swarm),
        named(
            "/swarm/init",
            &json!({"ListenAddr": "127.0.0.1:1", "Spec": swarm, "SubnetSize": 24}),
        ),
        named("/swarm/join", &json!({"RemoteAddrs": ["127.0.0.1:1"], "JoinToken": "x"})),
        named(
            "/networks/create",
            &json!({"Name": "net", "Driver": "overlay", "Attachable": true, "IPAM": {"Config": [
                {"Subnet": "10.7.0.0/24", "IPRange": "10.7.0.0/25", "Gateway": "10.7.0.1"}]}}),
        ),
        named("/swarm/unlock", &json!({"UnlockKey": "x"})),
    ]
}

/// All places in a value, as pointers.
fn places(value: &Value, here: &str, found: &mut Vec<String>) {
    found.push(here.to_owned());
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(k, v)| places(v, &format!("{here}/{k}"), found));
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(k, v)| places(v, &format!("{here}/{k}"), found));
        }
        _ => {}
    }
}

/// A change of one place: another value of its kind, mostly, or any.
#[derive(Debug, Clone)]
struct Edit {
    at: prop::sample::Index,
    text: String,
    number: i64,
    any: Value,
    keeps_kind: bool,
}

fn any_edit() -> impl Strategy<Value = Edit> {
    let text = prop_oneof![prop::sample::select(TEXTS).prop_map(str::to_owned), "[ -~]{0,70}"];
    let number = prop_oneof![any::<i64>(), -2_i64..3];
    let parts =
        (any::<prop::sample::Index>(), text, number, any_value(), prop::bool::weighted(0.8));
    parts.prop_map(|(at, text, number, any, keeps_kind)| Edit { at, text, number, any, keeps_kind })
}

impl Edit {
    fn apply(self, body: &mut Value) {
        let mut found = Vec::new();
        places(body, "", &mut found);
        let Some(place) = body.pointer_mut(self.at.get::<String>(&found)) else { return };
        *place = match place {
            Value::String(_) if self.keeps_kind => self.text.into(),
            Value::Number(_) if self.keeps_kind => self.number.into(),
            Value::Bool(known) if self.keeps_kind => Value::Bool(!*known),
            Value::Object(map) if self.keeps_kind => {
                map.insert(self.text, self.any);
                return;
            }
            _ => self.any,
        };
    }
}

/// A request: a body that is random through and through, or a good one with a few changes.
fn any_request(routes: Vec<(String, Value)>) -> impl Strategy<Value = (String, Value)> {
    let edits = prop::collection::vec(any_edit(), 0..4);
    let replaced = prop::option::weighted(0.1, any_value());
    (prop::sample::select(routes), edits, replaced).prop_map(
        |((path, mut body), edits, replaced)| {
            edits.into_iter().for_each(|edit| edit.apply(&mut body));
            let mut body = replaced.unwrap_or(body);
            tame(&mut body);
            (path, body)
        },
    )
}

/// Services that would be granted a great many tasks get a few: how many are made is not what is
/// tried here.
fn tame(body: &mut Value) {
    match body {
        Value::Object(map) => map.iter_mut().for_each(|(key, value)| {
            if let Some(wish) = value.as_i64().filter(|wish| key == "Replicas" && *wish > 5) {
                *value = (wish % 5).into();
            }
            tame(value);
        }),
        Value::Array(list) => list.iter_mut().for_each(tame),
        _ => {}
    }
}

/// The 500s that the Engine has for what is really the client's fault.
const KNOWN_500: &[&str] = &[
    "rpc error: code = Unknown desc = update out of sequence",
    "rpc error: code = Unknown desc = constraint expected one operator",
    "rpc error: code = Unknown desc = key '",
    "rpc error: code = Unknown desc = value '",
    "rpc error: code = Unknown desc = plugin \"",
    "rpc error: code = Unknown desc = name conflicts with an existing object",
    "network ",
    "runtime type \"plugin\" only supported in experimental",
];

fn judge(client: &Client, path: &str, body: &Value) -> Result<(), TestCaseError> {
    let answer = client.post(path, body);
    let (status, message) = (answer.status, answer.message());
    let known = match status {
        200 | 201 => true,
        400 | 403 | 404 | 409 | 501 => !message.is_empty(),
        500 => KNOWN_500.iter().any(|start| message.starts_with(start)),
        // Already in a swarm: what another node would be told.
        503 if path.starts_with("/networks") => message.starts_with("no engine"),
        503 => path.starts_with("/swarm/init") || path.starts_with("/swarm/join"),
        _ => false,
    };
    prop_assert!(known, "{} {}: {} {}", path, body, status, answer.text());
    Ok(())
}

#[test]
fn no_body_makes_the_server_fail() {
    let purser = Purser::swarm("fuzz");
    let client = purser.client();
    let secret = make_secret(&client, "known", &json!({}));
    make_service(&client, &idle_spec("known"));
    let node = client.get("/nodes").json()[0]["ID"].as_str().expect("an id").to_owned();
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    });
    let case = (any_request(routes(&node, &secret)), prop::bool::weighted(0.8));
    let ran = runner.run(&case, |((path, body), fresh)| {
        let object = path.trim_end_matches("/update");
        let index = if fresh && path.ends_with("/update") {
            client.get(object).json()["Version"]["Index"].as_u64().unwrap_or(0)
        } else {
            0
        };
        judge(&client, &format!("{path}?version={index}"), &body)
    });
    assert!(ran.is_ok(), "{}", ran.expect_err("it failed"));
    assert!(!purser.log().contains("panicked"), "{}", purser.log());
    for path in ["/secrets", "/services", "/tasks", "/nodes", "/swarm", "/info"] {
        assert_eq!(client.get(path).status, 200, "{path}");
    }
}
