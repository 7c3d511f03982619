//! The API document: checked in as the code has it, whole, and the same as what is served.

use std::collections::BTreeSet;
use std::path::Path;

use super::kit::http::Client;
use super::kit::purser::Purser;
use serde_json::Value;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json");

fn document() -> Value {
    serde_json::to_value(purser::http::document()).expect("a document is JSON")
}

/// Every operation: method, path, and what is said of it.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let operations = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().expect("an object").iter();
        methods.map(move |(method, operation)| {
            (method.to_uppercase(), path.clone(), operation.clone())
        })
    });
    operations.collect()
}

#[test]
fn the_document_is_checked_in_as_the_code_has_it() {
    let text = purser::http::document().to_pretty_json().expect("a document is JSON") + "\n";
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::create_dir_all(Path::new(FILE).parent().expect("a directory"))
            .expect("it is there");
        std::fs::write(FILE, &text).expect("it is written");
    }
    let kept = std::fs::read_to_string(FILE).unwrap_or_default();
    let same = kept == text;
    assert!(same, "openapi/openapi.json is out of date: run this test with UPDATE_OPENAPI=1");
    let said = std::process::Command::new(env!("CARGO_BIN_EXE_purser")).arg("openapi").output();
    let said = said.expect("the binary runs");
    assert!(said.status.success() && said.stdout == text.as_bytes(), "purser openapi says another");
}

/// Sends every example of a request, and finds in the answers what their examples have.
#[test]
fn the_examples_are_true() {
    let examples = document()["components"]["schemas"].clone();
    let example = |name: &str| examples[name]["examples"][0].clone();
    let purser = Purser::serve("document-examples");
    let client = purser.client();
    let post = |path: &str, body: &Value| {
        let answer = client.post(path, body);
        assert!(answer.status < 300, "{path}: {} {}", answer.status, answer.text());
        answer.json()["ID"].as_str().or(answer.json()["Id"].as_str()).unwrap_or_default().to_owned()
    };
    let mut init = example("SwarmInitRequest");
    // The addresses are those of another host.
    init["ListenAddr"] = "127.0.0.1:0".into();
    init["AdvertiseAddr"] = "127.0.0.1".into();
    post("/swarm/init", &init);
    let secret = post("/secrets/create", &example("SecretCreateRequest"));
    post("/configs/create", &example("ConfigCreateRequest"));
    let network = post("/networks/create", &example("NetworkCreateRequest"));
    let mut spec = example("ServiceSpec");
    spec["TaskTemplate"]["ContainerSpec"]["Secrets"][0]["SecretID"] = secret.into();
    spec["TaskTemplate"]["Networks"][0]["Target"] = network.into();
    post("/services/create", &spec);
    let swarm = client.get("/swarm").json();
    let version = &swarm["Version"]["Index"];
    post(&format!("/swarm/update?version={version}"), &example("ClusterSpec"));
    let node = client.get("/nodes").json()[0].clone();
    let (id, version) = (node["ID"].as_str().expect("an id"), &node["Version"]["Index"]);
    post(&format!("/nodes/{id}/update?version={version}"), &example("NodeUpdateRequest"));

    let shown = [
        ("Secret", "/secrets"),
        ("Config", "/configs"),
        ("Network", "/networks?filters={\"name\":[\"backend\"]}"),
        ("Service", "/services"),
        ("Task", "/tasks"),
        ("Node", "/nodes"),
        ("Swarm", "/swarm"),
    ];
    for (name, path) in shown {
        let answer = client.get(path).json();
        let found = answer.as_array().map_or(&answer, |list| &list[0]);
        let missing = missing(&example(name), found);
        // Without an engine nothing runs, and the node says nothing of itself.
        let is_known = |key: &String| {
            ["NodeID", "ContainerStatus", "NanoCPUs", "MemoryBytes", "EngineVersion"]
                .contains(&key.as_str())
        };
        assert!(missing.iter().all(is_known), "{name} has no {missing:?}: {found}");
    }
}

/// The keys of an example that an answer does not have, at any depth.
fn missing(example: &Value, found: &Value) -> Vec<String> {
    match (example, found) {
        (Value::Object(example), Value::Object(found)) => example
            .iter()
            .flat_map(|(key, value)| match found.get(key) {
                Some(found) => missing(value, found),
                None => vec![key.clone()],
            })
            .collect(),
        (Value::Array(example), Value::Array(found)) => match (example.first(), found.first()) {
            (Some(example), Some(found)) => missing(example, found),
            (Some(_), None) => vec!["an item".into()],
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

#[test]
fn every_body_has_an_example() {
    let document = document();
    let mut without = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let bodies = operation["responses"].as_object().expect("answers").iter();
        let good = bodies.filter(|(status, _)| status.starts_with('2')).map(|(_, body)| body);
        for body in good.chain([&operation["requestBody"]]) {
            let schema = &body["content"]["application/json"]["schema"];
            let schema = if schema["items"].is_object() { &schema["items"] } else { schema };
            let Some(name) = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next())
            else {
                continue;
            };
            let schema = &document["components"]["schemas"][name];
            let parts = schema["properties"].as_object().map_or(0, serde_json::Map::len);
            // One field says enough by itself.
            if parts > 2 && !schema["examples"].is_array() {
                without.insert(format!("{method} {path}: {name}"));
            }
        }
    }
    assert!(without.is_empty(), "{without:?}");
}

#[test]
fn every_operation_says_what_it_is_and_how_it_fails() {
    let document = document();
    let mut wrong = Vec::new();
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let mut blame = |what: String| wrong.push(format!("{method} {path}: {what}"));
        let id = operation["operationId"].as_str().unwrap_or_default();
        if id.is_empty() || !ids.insert(id.to_owned()) {
            blame(format!("its id is {id:?}"));
        }
        let tags = operation["tags"].as_array().map_or(0, Vec::len);
        if tags != 1 || operation["summary"].as_str().is_none_or(str::is_empty) {
            blame("it has no tag or no summary".into());
        }
        for status in needed_answers(&method, &path) {
            let answer = &operation["responses"][status];
            let schema = &answer["content"]["application/json"]["schema"]["$ref"];
            if answer.is_null() {
                blame(format!("it does not tell of {status}"));
            } else if *status >= *"400" && schema != "#/components/schemas/ErrorResponse" {
                blame(format!("its {status} is no ErrorResponse"));
            }
        }
        let params = operation["parameters"].as_array().cloned().unwrap_or_default();
        if path.contains("{id}") && !params.iter().any(|p| p["name"] == "id" && p["in"] == "path") {
            blame("its id is no parameter".into());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // What it refers to is there.
    let text = document.to_string();
    for (at, start) in text.match_indices("#/components/schemas/") {
        let rest = &text[at + start.len()..];
        let name = &rest[..rest.find('"').expect("a text ends")];
        assert!(
            document["components"]["schemas"][name].is_object(),
            "{name} is not in the document"
        );
    }
}

/// The answers that an operation of this shape must tell of.
fn needed_answers(method: &str, path: &str) -> Vec<&'static str> {
    let of_managers = ["/secrets", "/configs", "/services", "/tasks", "/nodes", "/swarm"];
    let mut needed = vec!["400"];
    if of_managers.iter().any(|start| path.starts_with(start)) {
        needed.push("503");
        if path.contains("{id}") {
            needed.push("404");
        }
        // What the Engine answers to words that it does not know, and to plugins that are not there.
        let with_words = ["/tasks", "/nodes", "/secrets/create", "/services/create"];
        if path.ends_with("/update") || path.ends_with("/logs") || with_words.contains(&path) {
            needed.push("500");
        }
        if path.ends_with("/create") {
            needed.extend(["201", "409"]);
        } else if method == "DELETE"
            && (path.starts_with("/secrets") || path.starts_with("/configs"))
        {
            needed.push("204");
        } else if !path.ends_with("/join") && !path.ends_with("/unlock") {
            needed.push("200");
        }
    }
    needed
}

/// Asks for an operation of something that is not there, outside of a swarm.
fn status_of(client: &Client, method: &str, path: &str) -> (u16, String) {
    let answer = client.request(method, path, &[], b"");
    (answer.status, answer.message())
}

#[test]
fn the_running_server_has_every_operation_and_no_other() {
    let purser = Purser::serve("document");
    let client = purser.client();
    let served = client.get("/openapi.json");
    assert_eq!((served.status, served.json()), (200, document()));
    let document = document();
    let known: BTreeSet<(String, String)> =
        operations(&document).into_iter().map(|(method, path, _)| (method, path)).collect();
    for path in document["paths"].as_object().expect("paths").keys() {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
            // A stream without an end would not end here.
            let ask = path.replace("{id}", "x").replace("/events", "/events?until=1");
            let (status, message) = status_of(&client, method, &ask);
            let is_route = status != 404 || !matches!(&*message, "" | "page not found");
            // What is created is also a name that can be asked for.
            let is_named = path.ends_with("s/create") && matches!(method, "GET" | "DELETE");
            // Networks of the host are the engine's, and there is none.
            let is_hosts = path.starts_with("/networks");
            let is_known = known.contains(&(method.to_owned(), path.clone()));
            assert!(
                is_route == is_known || is_named || is_hosts,
                "{method} {path}: {status} {message}"
            );
        }
    }
}

/// The routes of the Engine API that are Swarm's or purser's own. A route that only the router knows
/// would not be found by asking what the document has.
#[test]
fn the_document_has_every_route_of_the_router() {
    let wanted = "
        GET /secrets, POST /secrets/create, GET /secrets/{id}, DELETE /secrets/{id},
        POST /secrets/{id}/update, GET /services, POST /services/create, GET /services/{id},
        DELETE /services/{id}, POST /services/{id}/update, GET /services/{id}/logs, GET /tasks,
        GET /tasks/{id}, GET /tasks/{id}/logs, GET /nodes, GET /nodes/{id}, DELETE /nodes/{id},
        POST /nodes/{id}/update, GET /swarm, POST /swarm/init, POST /swarm/join, POST /swarm/leave,
        POST /swarm/update, GET /swarm/unlockkey, POST /swarm/unlock, GET /configs,
        GET /networks, POST /networks/create, GET /networks/{id}, DELETE /networks/{id},
        POST /configs/create, GET /configs/{id}, DELETE /configs/{id}, POST /configs/{id}/update,
        GET /_ping, HEAD /_ping, GET /version, GET /info, GET /events, GET /openapi.json";
    let known: BTreeSet<String> = operations(&document())
        .into_iter()
        .map(|(method, path, _)| format!("{method} {path}"))
        .collect();
    for route in wanted.split(',').map(str::trim) {
        assert!(known.contains(route), "{route}");
    }
    // Beside the list that the document grows from, only names that look like routes are added.
    let router = include_str!("../../src/http/router.rs");
    let added: Vec<&str> = router.lines().filter(|line| line.contains(".route(")).collect();
    assert!(added.len() == 4 && added.iter().all(|line| line.contains("s/create\"")), "{added:?}");
    for other in [".nest(", ".merge(", ".route_service("] {
        assert!(!router.contains(other), "{other} adds routes that the document does not have");
    }
}
