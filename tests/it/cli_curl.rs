//! The routes of secrets and services, as somebody at a shell uses them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::eventually;
use crate::kit::purser::Purser;

/// curl against one socket.
struct Curl(PathBuf);

/// The status, and the body as it came.
type Answer = (u16, String);

impl Curl {
    fn new(socket: &Path) -> Curl {
        Curl(socket.to_owned())
    }

    #[track_caller]
    fn run(&self, args: &[&str], path: &str) -> Answer {
        let said = Command::new("curl")
            .args(["-sS", "-g", "-m", "60", "-w", "\n%{http_code}", "--unix-socket"])
            .arg(&self.0)
            .args(args)
            .arg(format!("http://localhost{path}"))
            .output()
            .expect("curl is installed");
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').expect("a status");
        (status.parse().expect("a number"), body.to_owned())
    }

    fn get(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.run(&[], path);
        (status, serde_json::from_str(&body).unwrap_or_default())
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let kind = "Content-Type: application/json";
        let (status, body) = self.run(&["-H", kind, "-d", &body.to_string()], path);
        (status, serde_json::from_str(&body).unwrap_or_default())
    }

    fn delete(&self, path: &str) -> Answer {
        self.run(&["-X", "DELETE"], path)
    }
}

#[test]
fn secrets_are_created_listed_updated_and_removed() {
    let purser = Purser::swarm("curl-secrets");
    let curl = Curl::new(&purser.socket());
    let (status, made) =
        curl.post("/secrets/create", &json!({"Name": "db-pass", "Data": "aHVudGVyMg=="}));
    assert_eq!(status, 201);
    let id = made["ID"].as_str().expect("an id").to_owned();
    assert_eq!(made, json!({"ID": id}));

    let (status, shown) = curl.get("/secrets/db-pass");
    assert_eq!(status, 200);
    assert_eq!(shown["Spec"], json!({"Name": "db-pass", "Labels": {}}));
    for path in [
        "/secrets",
        "/v1.55/secrets",
        "/v1.40/secrets?filters={%22name%22:[%22db%22]}",
        "/secrets?filters={%22names%22:{%22db-pass%22:true}}",
        "/secrets?filters={\"names\":[\"db-pass\"]}",
    ] {
        assert_eq!(curl.get(path), (200, json!([shown])), "{path}");
    }
    assert_eq!(curl.get("/secrets?filters={%22name%22:[%22x%22]}"), (200, json!([])));

    let version = &shown["Version"]["Index"];
    let labelled = json!({"Name": "db-pass", "Labels": {"env": "prod"}});
    let path = format!("/secrets/{id}/update?version={version}");
    assert_eq!(curl.post(&path, &labelled).0, 200);
    assert_eq!(curl.get(&format!("/secrets/{id}")).1["Spec"]["Labels"], json!({"env": "prod"}));
    let (status, refusal) = curl.post(&path, &labelled);
    assert_eq!(status, 500);
    assert_eq!(refusal["message"], "rpc error: code = Unknown desc = update out of sequence");

    assert_eq!(curl.delete("/secrets/db-pass"), (204, String::new()));
    let (status, body) = curl.delete("/secrets/db-pass");
    assert_eq!((status, body.as_str()), (404, "{\"message\":\"secret db-pass not found\"}\n"));
}

#[test]
fn services_are_created_listed_updated_and_removed() {
    let purser = Purser::swarm("curl-services");
    let curl = Curl::new(&purser.socket());
    let spec = json!({"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "redis"}}});
    let (status, made) = curl.post("/services/create", &spec);
    assert_eq!(status, 201);
    let id = made["ID"].as_str().expect("an id").to_owned();

    let (status, shown) = curl.get("/services/web");
    assert_eq!(status, 200);
    assert_eq!(shown["Spec"]["Mode"], json!({"Replicated": {"Replicas": 1}}));
    assert_eq!(shown["Spec"].get("UpdateConfig"), None);
    let (_, filled) = curl.get("/services/web?insertDefaults=true");
    assert_eq!(filled["Spec"]["UpdateConfig"]["Parallelism"], 1);
    let (_, listed) = curl.get("/services?status=true");
    assert_eq!(
        listed[0]["ServiceStatus"],
        json!({"RunningTasks": 0, "DesiredTasks": 1, "CompletedTasks": 0})
    );
    assert_eq!(curl.get("/services").1[0].get("ServiceStatus"), None);

    let mut spec = shown["Spec"].clone();
    spec["Mode"]["Replicated"]["Replicas"] = json!(3);
    let path = format!("/services/{id}/update?version={}", shown["Version"]["Index"]);
    assert_eq!(curl.post(&path, &spec), (200, json!({"Warnings": null})));
    let (status, refusal) = curl.post(&path, &spec);
    assert_eq!(status, 500);
    assert_eq!(refusal["message"], "rpc error: code = Unknown desc = update out of sequence");
    // Without a node they end up waiting for one, and nothing changes them after that.
    let tasks = eventually("three tasks wait", Duration::from_secs(10), || {
        let (_, tasks) = curl.get("/tasks?filters={%22service%22:[%22web%22]}");
        let waiting = tasks.as_array()?.iter().filter(|task| !task["Status"]["Err"].is_null());
        (waiting.count() == 3).then_some(tasks)
    });
    let (status, task) = curl.get(&format!("/tasks/{}", tasks[0]["ID"].as_str().expect("an id")));
    assert_eq!((status, &task), (200, &tasks[0]));
    // No node has ever had one of them.
    let said = curl.run(&[], "/services/web/logs?stdout=1");
    assert_eq!(said, (200, String::new()));

    assert_eq!(curl.delete("/services/web"), (200, String::new()));
    let (status, body) = curl.delete("/services/web");
    assert_eq!((status, body.as_str()), (404, "{\"message\":\"service web not found\"}\n"));
}

#[test]
fn curl_without_a_content_type_is_told_what_is_missing() {
    let purser = Purser::swarm("curl-type");
    let curl = Curl::new(&purser.socket());
    let (status, body) = curl.run(&["-d", "{\"Name\":\"x\"}"], "/secrets/create");
    assert_eq!(status, 400);
    assert_eq!(
        body,
        "{\"message\":\"unsupported Content-Type header (application/x-www-form-urlencoded): must \
         be 'application/json'\"}\n"
    );
}

#[test]
fn curl_sends_a_large_body_only_after_it_is_let() {
    let purser = Purser::swarm("curl-large");
    let curl = Curl::new(&purser.socket());
    let file = purser.dir().join("body");
    let body = |data: usize| format!("{{\"Name\":\"big\",\"Data\":\"{}\"}}", "A".repeat(data));
    let arg = format!("@{}", file.display());
    let args = [
        "-H",
        "Content-Type: application/json",
        "-H",
        "Expect: 100-continue",
        "--data-binary",
        &arg,
    ];
    std::fs::write(&file, body(4 << 20)).expect("a file");
    let (status, said) = curl.run(&args, "/secrets/create");
    assert_eq!(status, 400, "{said}");
    assert!(said.contains("secret data must be larger than 0"), "{said}");
    std::fs::write(&file, body(12 << 20)).expect("a file");
    let (status, said) = curl.run(&args, "/secrets/create");
    assert_eq!(status, 400, "{said}");
    assert!(said.contains("the request body is larger than"), "{said}");
    // Nor does a route that reads nothing of it break the pipe.
    let (status, said) = curl.run(&args, "/containers/create");
    let none = "{\"message\":\"no engine is attached to this manager\"}\n";
    assert_eq!((status, said.as_str()), (503, none));
}

#[test]
fn curl_reads_the_headers_of_ping() {
    let purser = Purser::swarm("curl-ping");
    let curl = Curl::new(&purser.socket());
    let (status, head) = curl.run(&["-I"], "/_ping");
    assert_eq!(status, 200);
    let head = head.to_lowercase();
    for header in ["api-version: 1.55", "ostype: linux", "swarm: active/manager"] {
        assert!(head.contains(header), "{head}");
    }
    assert_eq!(curl.run(&[], "/_ping").1, "OK");
    assert_eq!(curl.get("/nope"), (404, json!({"message": "page not found"})));
}
