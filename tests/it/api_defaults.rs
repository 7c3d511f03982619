//! What is read back of a service: what was left out, and comes back with its default, and words that
//! may be written in any case. `tests/tables/service_defaults.json` has what a stock engine shows, and
//! `engine_defaults` compares it with one.

use serde_json::{Value, json};

use super::kit::http::Client;
use super::kit::purser::Purser;

/// One request, and what becomes of it.
pub struct Case {
    pub name: String,
    /// What is sent besides a name and an image.
    sent: Value,
    /// The spec that is shown, or the status and message of the refusal.
    expected: Result<Value, (u16, String)>,
    /// The engine of the tests is too old to know it.
    pub is_newer: bool,
}

pub fn cases() -> Vec<Case> {
    let table = include_str!("../tables/service_defaults.json");
    let rows: Vec<Value> = serde_json::from_str(table).expect("the table is JSON");
    let case = |row: Value| Case {
        name: row["case"].as_str().expect("a name").to_owned(),
        sent: row["sent"].clone(),
        expected: match row.get("shown") {
            Some(shown) => Ok(shown.clone()),
            None => {
                let status = row["status"].as_u64().expect("a status").try_into();
                let message = row["refused"].as_str().expect("a message");
                Err((status.expect("an HTTP status"), message.to_owned()))
            }
        },
        is_newer: row["newer"] == true,
    };
    rows.into_iter().map(case).collect()
}

/// Lays one object over another.
fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

/// Makes the service of a case, compares what is shown of it and of its earlier spec, and removes it.
pub fn check(client: &Client, case: &Case) {
    let mut spec = json!({"Name": "t1", "TaskTemplate": {"ContainerSpec": {"Image": "bb:1"}}});
    merge(&mut spec, &case.sent);
    let made = client.post("/services/create", &spec);
    let id = match &case.expected {
        Err((status, message)) => {
            assert_eq!(made.status, *status, "{}", case.name);
            return assert_eq!(made.json()["message"], *message, "{}", case.name);
        }
        Ok(_) => {
            assert_eq!(made.status, 201, "{}: {}", case.name, made.text());
            made.json()["ID"].as_str().expect("an id").to_owned()
        }
    };
    let mut expected = case.expected.clone().expect("a spec");
    expected["Name"] = "t1".into();
    let shown = client.get(&format!("/services/{id}")).json();
    assert_eq!(shown["Spec"], expected, "{}", case.name);
    // A stock manager refuses an update when it has written to the service itself since it was read.
    super::kit::eventually("it is updated", super::kit::engine::PATIENCE, || {
        let version = client.get(&format!("/services/{id}")).json()["Version"]["Index"].clone();
        let updated = client.post(&format!("/services/{id}/update?version={version}"), &spec);
        (updated.status == 200).then_some(())
    });
    let shown = client.get(&format!("/services/{id}")).json();
    assert_eq!(shown["PreviousSpec"], expected, "{}: the earlier spec", case.name);
    let tasks = client.get(r#"/tasks?filters={"service":["t1"]}"#).json();
    for task in tasks.as_array().expect("a list") {
        let mut template = expected["TaskTemplate"].clone();
        template.as_object_mut().expect("a template").remove("Runtime");
        assert_eq!(task["Spec"], template, "{}: its task", case.name);
    }
    assert_eq!(client.delete(&format!("/services/{id}")).status, 200, "{}", case.name);
}

#[test]
fn what_was_left_out_comes_back_with_its_default() {
    let purser = Purser::swarm("defaults");
    let client = purser.client();
    for case in cases() {
        check(&client, &case);
    }
}

#[test]
fn what_becomes_of_ports_is_whole() {
    let purser = Purser::swarm("ports");
    let client = purser.client();
    let ports =
        json!([{"TargetPort": 80}, {"TargetPort": 53, "Protocol": "UDP", "PublishMode": "Host"}]);
    let spec = json!({"Name": "web", "Mode": {"Replicated": {"Replicas": 0}},
        "TaskTemplate": {"ContainerSpec": {"Image": "i"}}, "EndpointSpec": {"Ports": ports}});
    assert_eq!(client.post("/services/create", &spec).status, 201);
    let endpoint = super::kit::eventually("it has ports", super::kit::engine::PATIENCE, || {
        let shown = client.get("/services/web").json();
        let is_given = shown["Endpoint"]["VirtualIPs"].is_array();
        is_given.then(|| shown["Endpoint"].clone())
    });
    let given = |port: &Value| json!([port["Protocol"], port["TargetPort"], port["PublishMode"]]);
    for ports in [&endpoint["Ports"], &endpoint["Spec"]["Ports"]] {
        let ports: Vec<Value> = ports.as_array().expect("ports").iter().map(given).collect();
        assert_eq!(json!(ports), json!([["tcp", 80, "ingress"], ["udp", 53, "host"]]));
    }
    assert_eq!(endpoint["Spec"]["Mode"], "vip");
    assert!(endpoint["Ports"][0]["PublishedPort"].as_u64() >= Some(30_000), "{endpoint}");
}

#[test]
fn words_of_a_node_may_be_written_in_any_case() {
    let purser = Purser::swarm("words");
    let client = purser.client();
    let node = client.get("/nodes").json()[0].clone();
    let (id, version) = (node["ID"].as_str().expect("an id"), &node["Version"]["Index"]);
    let path = format!("/nodes/{id}/update?version={version}");
    let spec = json!({"Role": "MANAGER", "Availability": "Drain"});
    assert_eq!(client.post(&path, &spec).status, 200);
    let shown = client.get(&format!("/nodes/{id}")).json()["Spec"].clone();
    assert_eq!((&shown["Role"], &shown["Availability"]), (&json!("manager"), &json!("drain")));
    let refused = client.post(&path, &json!({"Role": "manager", "Availability": "away"}));
    assert_eq!(refused.json()["message"], "invalid Availability: \"away\"");
}
