//! Where a secret's bytes must not be: files, logs, answers, events, and the memory of purser once
//! the requests have ended. Names, labels and environments must not be in files or logs.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::kit::eventually;
use crate::kit::http::{Answer, Client};
use crate::kit::purser::Purser;
use crate::kit::search::{canary, files_with, in_memory};

/// A client that keeps all that it was answered.
struct Listening {
    client: Client,
    heard: Vec<u8>,
}

impl Listening {
    fn keep(&mut self, answer: Answer) -> Answer {
        for (name, value) in &answer.headers {
            self.heard.extend_from_slice(format!("{name}: {value}\n").as_bytes());
        }
        self.heard.extend_from_slice(&answer.body);
        answer
    }

    fn get(&mut self, path: &str) -> Answer {
        let answer = self.client.get(path);
        self.keep(answer)
    }

    fn post(&mut self, path: &str, body: &Value) -> Answer {
        let answer = self.client.post(path, body);
        self.keep(answer)
    }

    /// Posts text that may be no JSON.
    fn post_text(&mut self, path: &str, body: &str) -> Answer {
        let headers = [("Content-Type", "application/json")];
        let answer = self.client.request("POST", path, &headers, body.as_bytes());
        self.keep(answer)
    }

    fn delete(&mut self, path: &str) -> Answer {
        let answer = self.client.delete(path);
        self.keep(answer)
    }

    #[track_caller]
    fn made(&mut self, path: &str, body: &Value) -> String {
        let answer = self.post(path, body);
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["ID"].as_str().expect("an id").to_owned()
    }
}

/// Everything that `/events` says from now on.
fn listen_to_events(socket: &Path) -> Arc<Mutex<Vec<u8>>> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let mut stream = UnixStream::connect(socket).expect("purser listens");
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").expect("purser listens");
    let writing = heard.clone();
    std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(len @ 1..) = stream.read(&mut chunk) {
            writing.lock().expect("a buffer").extend_from_slice(&chunk[..len]);
        }
    });
    heard
}

/// The ways in which a value may be written down.
fn spellings(value: &str) -> Vec<String> {
    let hex = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    // Base64 of the value alone, and of the value behind one or two other bytes.
    let aligned = (0..3).map(|shift| {
        let text = STANDARD.encode([&b"xx"[..shift], value.as_bytes()].concat());
        text[4..text.len() - 4].to_owned()
    });
    aligned.chain([value.to_owned(), hex]).collect()
}

/// Values that nothing else holds, by what they are used for.
struct Canaries {
    kept: String,
    removed: String,
    refused: Vec<String>,
    words: Vec<String>,
}

/// Puts canaries everywhere a client can put something, through requests good and bad.
fn speak(api: &mut Listening) -> Canaries {
    let secret = |name: &str, value: &str, labels: Value| json!({"Name": name, "Data": STANDARD.encode(value), "Labels": labels});
    let (kept, removed) = (canary(64), canary(64));
    let words: Vec<String> =
        (0..9).map(|_| format!("w{}w", canary(30).replace('-', "_"))).collect();
    let [name, key, label, service, env, other, arg, image, dir] = &words[..] else { panic!() };
    let id = api.made("/secrets/create", &secret(name, &kept, json!({key: label})));
    let gone = api.made("/secrets/create", &secret(other, &removed, json!({})));

    let mut spec = json!({
        "Name": service, "Labels": {key: label},
        "TaskTemplate": {"ContainerSpec": {
            "Image": format!("{}:latest", image.to_lowercase()), "Env": [format!("A={env}")],
            "Args": [arg], "Dir": format!("/{dir}"), "Labels": {key: label},
            "Secrets": [{"SecretID": id, "SecretName": name,
                "File": {"Name": "x", "UID": "0", "GID": "0", "Mode": 292}}],
        }},
        "Mode": {"Replicated": {"Replicas": 3}},
    });
    let made = api.made("/services/create", &spec);
    spec["TaskTemplate"]["ForceUpdate"] = json!(1);
    eventually("the service is updated", Duration::from_secs(20), || {
        let version = api.get(&format!("/services/{made}")).json()["Version"]["Index"].clone();
        let answer = api.post(&format!("/services/{made}/update?version={version}"), &spec);
        (answer.status == 200).then_some(())
    });
    let version = api.get(&format!("/secrets/{id}")).json()["Version"]["Index"].clone();
    let changed = json!({"Name": name, "Labels": {key: label, "more": label}});
    assert_eq!(api.post(&format!("/secrets/{id}/update?version={version}"), &changed).status, 200);
    assert_eq!(api.delete(&format!("/secrets/{gone}")).status, 204);

    let refused = refusals(api, name, &id);
    for path in ["/secrets", "/services", "/tasks", "/nodes", "/swarm", "/info", "/version"] {
        assert_eq!(api.get(path).status, 200, "{path}");
    }
    for path in [format!("/secrets/{name}"), format!("/services/{service}?insertDefaults=true")] {
        assert_eq!(api.get(&path).status, 200, "{path}");
    }
    Canaries { kept, removed, refused, words }
}

/// Sends secrets in requests that are refused; returns their values.
fn refusals(api: &mut Listening, name: &str, id: &str) -> Vec<String> {
    let mut values = Vec::new();
    let mut value = || {
        values.push(canary(64));
        values.last().cloned().expect("it was just pushed")
    };
    let data = |value: &str| STANDARD.encode(value);
    let bodies = [
        json!({"Name": name, "Data": data(&value())}).to_string(),
        json!({"Name": "-bad-", "Data": data(&value())}).to_string(),
        json!({"Name": "x", "Data": [data(&value())]}).to_string(),
        json!({"Name": {"x": data(&value())}, "Data": data(&value())}).to_string(),
        json!({"Name": "x", "Data": format!("{}*", data(&value()))}).to_string(),
        json!({"Name": "x", "Data": value()}).to_string() + "}",
        format!("{{\"Name\": \"x\", \"Data\": \"{}", data(&value())),
        json!({"Name": "x", "Data": data(&value().repeat(8_000))}).to_string(),
        json!({"Name": "x", "Driver": {"Name": "d"}, "Data": data(&value())}).to_string(),
        json!({"Name": "x", "Templating": {"Name": [value()]}, "Data": data(&value())}).to_string(),
        json!(data(&value())).to_string(),
    ];
    for (number, body) in bodies.iter().enumerate() {
        let answer = api.post_text("/secrets/create", body);
        assert!(answer.status >= 400, "{number}: {} {}", answer.status, answer.text());
    }
    let version = api.get(&format!("/secrets/{id}")).json()["Version"]["Index"].clone();
    let changed = json!({"Name": name, "Data": data(&value())});
    let answer = api.post(&format!("/secrets/{id}/update?version={version}"), &changed);
    assert_eq!(answer.status, 200, "{}", answer.text());
    values
}

#[test]
fn nothing_readable_is_left_anywhere() {
    let mut purser = Purser::swarm("rest");
    let events = listen_to_events(&purser.socket());
    let mut api = Listening { client: purser.client(), heard: Vec::new() };
    let canaries = speak(&mut api);
    eventually("events come", Duration::from_secs(10), || {
        let heard = events.lock().expect("a buffer").clone();
        String::from_utf8_lossy(&heard).contains("remove").then_some(())
    });

    let values = [&canaries.kept, &canaries.removed].into_iter().chain(&canaries.refused);
    let values: Vec<String> = values.flat_map(|value| spellings(value)).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let words: Vec<&str> = canaries.words.iter().map(String::as_str).collect();

    check_texts("answers", &api.heard, &values);
    check_texts("events", &events.lock().expect("a buffer"), &values);
    // The search finds what is there, so that finding nothing says something.
    assert_ne!(in_memory(purser.pid(), &words), [""; 0], "the search is blind");
    eventually("no value is in memory", Duration::from_secs(10), || {
        in_memory(purser.pid(), &values).is_empty().then_some(())
    });
    check_files(&purser, &values, &words);
    purser.stop();
    check_files(&purser, &values, &words);
    purser.start();
    assert_eq!(in_memory(purser.pid(), &values), [""; 0]);
    purser.kill();
    check_files(&purser, &values, &words);
}

#[track_caller]
fn check_texts(what: &str, heard: &[u8], values: &[&str]) {
    let heard = String::from_utf8_lossy(heard);
    assert!(!heard.is_empty(), "no {what}");
    for value in values {
        let line = heard.lines().find(|line| line.contains(value));
        assert_eq!(line, None, "{value} is in the {what}");
    }
}

/// Neither values nor words are in any file under the data directory, nor in the log.
#[track_caller]
fn check_files(purser: &Purser, values: &[&str], words: &[&str]) {
    let all = [values, words].concat();
    assert_eq!(files_with(&purser.data_dir(), &all), [""; 0]);
    assert!(std::fs::metadata(purser.data_dir().join("purser.db")).is_ok_and(|db| db.len() > 0));
    check_texts("log", purser.log().as_bytes(), &all);
}
