//! `dryRun`: what a request would change is told, and nothing is changed; what cannot be tried says so.

use serde_json::{Value, json};

use super::api_table::{column, idle_spec, make_secret, make_service, version};
use super::kit::agent::Habits;
use super::kit::agent::cluster::Cluster;
use super::kit::http::Client;
use super::kit::purser::Purser;

/// All that a client can see of the cluster, and the audit's last number.
fn state(client: &Client) -> Vec<String> {
    let kinds = ["secrets", "configs", "services", "tasks", "nodes", "networks"];
    let mut texts: Vec<String> =
        kinds.iter().map(|kind| client.get(&format!("/{kind}")).text()).collect();
    texts.push(client.get("/swarm").text());
    texts.push(client.get("/purser/audit?tail=1").json()["seq"].to_string());
    texts
}

fn tried(client: &Client, method: &str, path: &str, body: &Value) -> Value {
    let headers = [("Content-Type", "application/json")];
    let answer = client.request(method, path, &headers, body.to_string().as_bytes());
    assert_eq!(answer.status, 202, "{method} {path}: {}", answer.text());
    answer.json()
}

#[test]
fn what_would_change_is_told_and_nothing_is_changed() {
    let cluster = Cluster::new("trial");
    let client = cluster.client.clone();
    let member = cluster.join().expect("it is admitted");
    let _agent = member.open(&Habits::default()).expect("a session");
    let secret = make_secret(&client, "db", &json!({}));
    let mut spec = idle_spec("web");
    spec["Mode"] = json!({"Replicated": {"Replicas": 5}});
    spec["UpdateConfig"] =
        json!({"Parallelism": 2, "Delay": 7_000_000_000_i64, "Order": "start-first"});
    let file = json!({"Name": "db", "UID": "0", "GID": "0", "Mode": 292});
    let grant = json!([{"SecretID": secret, "SecretName": "db", "File": file}]);
    spec["TaskTemplate"]["ContainerSpec"]["Secrets"] = grant;
    let service = make_service(&client, &spec);
    let mut manual = spec.clone();
    manual["Name"] = "manual".into();
    manual["Labels"] = json!({"purser.rotate": "manual"});
    make_service(&client, &manual);
    for name in ["web", "manual"] {
        cluster.until_running(name, 5);
    }
    let before = state(&client);

    let index = version(&client, &format!("/secrets/{secret}"));
    let update = format!("/secrets/db/update?{index}&dryRun=true");
    let told = tried(&client, "POST", &update, &json!({"Name": "db", "Data": "bmV3"}));
    let of = |name: &str| {
        let services = told["Services"].as_array().expect("services").clone();
        services.into_iter().find(|item| item["Name"] == name).expect("it is told")
    };
    let web = of("web");
    assert_eq!((&web["Replaced"], &web["Waves"]), (&json!(5), &json!([2, 2, 1])));
    assert_eq!((&web["Order"], &web["Delay"]), (&json!("start-first"), &json!(7_000_000_000_i64)));
    assert_eq!((&of("manual")["Waits"], &of("manual")["Replaced"]), (&json!("manual"), &json!(0)));
    let changes = told["Changes"].as_array().expect("changes");
    let own = changes.iter().find(|item| item["Kind"] == "secret").expect("it is told");
    assert_eq!((&own["Action"], &own["Version"]), (&json!("update"), &json!(2)));

    spec["Mode"] = json!({"Replicated": {"Replicas": 8}});
    let index = version(&client, &format!("/services/{service}"));
    let told = tried(&client, "POST", &format!("/services/web/update?{index}&dryRun=1"), &spec);
    assert_eq!(told["Services"][0]["Started"], 3);
    let told = tried(&client, "DELETE", "/services/web?dryRun=true", &Value::Null);
    assert_eq!(told["Services"][0]["Stopped"], 5);
    let told = tried(
        &client,
        "POST",
        "/secrets/create?dryRun=true",
        &json!({"Name": "n", "Data": "eA=="}),
    );
    assert_eq!(told["Changes"][0]["Action"], "create");
    let generated = json!({"Name": "g", "Driver": {"Name": "generate"}});
    let node = &client.get("/tasks").json()[0]["NodeID"];
    let node = node.as_str().expect("it is on one");
    let index = version(&client, &format!("/nodes/{node}"));
    let drained = json!({"Role": "worker", "Availability": "drain"});
    let path = format!("/nodes/{node}/update?{index}&dryRun=true");
    let told = tried(&client, "POST", &path, &drained);
    let replaced = |at: usize| told["Services"][at]["Replaced"].as_u64();
    assert_eq!([replaced(0), replaced(1)], [Some(5), Some(5)], "{told}");
    let told = tried(&client, "POST", "/swarm/leave?force=true&dryRun=true", &json!({}));
    let stopped: u64 = told["Services"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|service| service["Stopped"].as_u64())
        .sum();
    assert_eq!(stopped, 10, "{told}");
    let told = tried(&client, "POST", "/secrets/create?dryRun=true", &generated);
    assert_eq!(told["Changes"][0]["Name"], "g");

    // Whether a value is the present one is not to be learned so.
    let index = version(&client, &format!("/secrets/{secret}"));
    let present = json!({"Name": "db", "Data": "cHVyc2Vy"});
    let update = format!("/secrets/db/update?{index}&dryRun=true");
    assert!(tried(&client, "POST", &update, &present).to_string().contains("\"Version\":2"));
    // What would be refused is, in the same words.
    let refused = client.delete("/secrets/db?dryRun=true");
    let text = refused.message();
    assert!(refused.status == 400 && text.contains("in use by the following services"), "{text}");
    let is_same = state(&client) == before;
    assert!(is_same, "and nothing is told of what was only tried");
    assert_eq!(client.delete("/secrets/db?dryRun=perhaps").status, 400);
}

/// Each change that the document has is tried, with whatever it names: none may be carried out.
#[test]
fn every_change_can_be_tried_or_says_that_it_cannot() {
    let purser = Purser::swarm("trial-all");
    let client = purser.client();
    let secret = make_secret(&client, "it", &json!({}));
    client.post("/configs/create", &json!({"Name": "it", "Data": "eA=="}));
    make_service(&client, &idle_spec("it"));
    client.post("/networks/create", &json!({"Name": "it", "Driver": "overlay"}));
    let node = column(&client.get("/nodes"), "/ID")[0].clone();
    let before = state(&client);
    let document = serde_json::to_value(purser::http::document()).expect("JSON");
    let mut tried = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in ["post", "delete"] {
            let operation = &item[method];
            if operation.is_null() {
                continue;
            }
            let id = if path.starts_with("/nodes") { node.as_str() } else { "it" };
            let named = path.replace("{id}", id);
            let object = named.trim_end_matches("/update").trim_end_matches("/rollback");
            let index =
                client.get(object.trim_end_matches("/rotate")).json()["Version"]["Index"].clone();
            let query = format!("version={index}&force=true&dryRun=true");
            let body = json!({"Name": "it2", "Driver": "overlay", "Data": "eA==",
                "Role": "manager", "Availability": "drain", "passphrase": "long enough it is"});
            let headers = [("Content-Type", "application/json")];
            let path = format!("{named}?{query}");
            let answer = client.request(
                &method.to_uppercase(),
                &path,
                &headers,
                body.to_string().as_bytes(),
            );
            let text = answer.text();
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let can_be = parameters.iter().any(|parameter| parameter["name"] == "dryRun");
            let is_forecast = answer.status == 202 && text.contains("\"Changes\"");
            let is_refused = (400..600).contains(&answer.status);
            let cannot = text.contains("cannot be tried with dryRun");
            assert!(is_forecast || is_refused, "{method} {path}: {} {text}", answer.status);
            assert_eq!(can_be, !cannot, "{method} {path}: {text}");
            tried += usize::from(is_forecast);
        }
    }
    assert!(tried >= 9, "{tried} only");
    // What is passed on to the engine of the host is not tried either.
    let passed = client.post("/containers/create?dryRun=true", &json!({}));
    assert!(passed.message().contains("cannot be tried"), "{}", passed.text());
    let answer = client.get(&format!("/secrets/{secret}?dryRun=true"));
    assert_eq!(answer.status, 200, "what changes nothing is what it always is");
    let is_same = state(&client) == before;
    assert!(is_same, "something was changed");
}
