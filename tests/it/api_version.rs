//! Which versions an update may know: all since the last change of what clients change.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::api_table::{idle_spec, make_service};
use super::kit::http::Client;
use super::kit::purser::Purser;

fn index(client: &Client, path: &str) -> u64 {
    client.get(path).json()["Version"]["Index"].as_u64().expect("a version")
}

fn update(client: &Client, path: &str, version: u64, spec: &Value) -> u16 {
    client.post(&format!("{path}/update?version={version}"), spec).status
}

#[test]
fn what_the_manager_writes_is_in_no_clients_way() {
    let purser = Purser::swarm("own-writes");
    let client = purser.client();
    let data = |text: &str| json!({"Name": "s", "Data": STANDARD.encode(text)});
    let secret = client.post("/secrets/create", &data("one")).json()["ID"].clone();
    let grant = json!([{"SecretID": secret, "SecretName": "s",
        "File": {"Name": "s", "UID": "0", "GID": "0", "Mode": 292}}]);
    let mut spec = idle_spec("web");
    spec["Mode"]["Replicated"]["Replicas"] = 1.into();
    spec["TaskTemplate"]["ContainerSpec"]["Secrets"] = grant;
    make_service(&client, &spec);
    let read = index(&client, "/services/web");
    let path = format!("/secrets/{}", secret.as_str().expect("an id"));
    assert_eq!(update(&client, &path, index(&client, &path), &data("two")), 200);
    super::kit::eventually("the rollout is told of", super::kit::engine::PATIENCE, || {
        let shown = client.get("/services/web").json();
        shown["UpdateStatus"]["State"].is_string().then_some(())
    });
    assert!(index(&client, "/services/web") > read, "the rollout wrote to the service");
    spec["Labels"] = json!({"a": "b"});
    assert_eq!(update(&client, "/services/web", read, &spec), 200);
    assert_eq!(update(&client, "/services/web", read, &spec), 500, "another client was first");
}

#[test]
fn of_two_clients_that_read_before_either_wrote_one_wins() {
    let purser = Purser::swarm("two-clients");
    let client = purser.client();
    let spec = idle_spec("web");
    make_service(&client, &spec);
    let data = json!({"Name": "s", "Data": "YQ==", "Labels": {"a": "b"}});
    for kind in ["secrets", "configs"] {
        assert_eq!(client.post(&format!("/{kind}/create"), &data).status, 201);
    }
    let node = client.get("/nodes").json()[0].clone();
    let node_path = format!("/nodes/{}", node["ID"].as_str().expect("an id"));
    let swarm = client.get("/swarm").json()["Spec"].clone();
    let objects = [
        ("/services/web", spec),
        ("/secrets/s", data.clone()),
        ("/configs/s", data),
        (&*node_path, node["Spec"].clone()),
        ("/swarm", swarm),
    ];
    for (path, spec) in &objects {
        let read = index(&client, path);
        // The same spec again is an update as well.
        let said = [0, 1].map(|_| update(&client, path, read, spec));
        assert_eq!(said, [200, 500], "{path}");
        let newest = index(&client, path);
        assert_eq!(update(&client, path, newest + 1, spec), 500, "{path}: from the future");
        assert_eq!(update(&client, path, newest, spec), 200, "{path}");
    }
}
