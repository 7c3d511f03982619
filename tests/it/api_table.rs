//! Tables of requests with the answers they must get, and the objects they are about.

use serde_json::{Value, json};

use super::kit::http::{Answer, Client};

/// One request and what it must get.
pub struct Case {
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    status: u16,
    want: Want,
}

/// The body of an answer.
enum Want {
    /// Not looked at.
    Any,
    /// No body, and so no type.
    Empty,
    /// An error with this message.
    Message(String),
    /// An error whose message begins so.
    Start(String),
    /// JSON of exactly this text, once ids, times and versions are masked.
    Text(String),
}

pub fn get(path: impl Into<String>) -> Case {
    request("GET", path)
}

pub fn delete(path: impl Into<String>) -> Case {
    request("DELETE", path)
}

/// A POST of JSON.
pub fn post(path: impl Into<String>, body: &Value) -> Case {
    post_text(path, &body.to_string())
}

/// A POST of text that claims to be JSON.
pub fn post_text(path: impl Into<String>, body: &str) -> Case {
    request("POST", path).header("Content-Type", "application/json").body(body)
}

pub fn request(method: &'static str, path: impl Into<String>) -> Case {
    Case {
        method,
        path: path.into(),
        headers: Vec::new(),
        body: Vec::new(),
        status: 200,
        want: Want::Any,
    }
}

impl Case {
    pub fn header(mut self, name: &str, value: &str) -> Case {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn body(mut self, body: &str) -> Case {
        self.body = body.into();
        self
    }

    /// The error it gets.
    pub fn fails(mut self, status: u16, message: impl Into<String>) -> Case {
        (self.status, self.want) = (status, Want::Message(message.into()));
        self
    }

    /// The error it gets, by how its message begins.
    pub fn fails_with(mut self, status: u16, start: impl Into<String>) -> Case {
        (self.status, self.want) = (status, Want::Start(start.into()));
        self
    }

    /// Only the status it gets.
    pub fn is(mut self, status: u16) -> Case {
        (self.status, self.want) = (status, Want::Any);
        self
    }

    /// The status it gets, without a body.
    pub fn bare(mut self, status: u16) -> Case {
        (self.status, self.want) = (status, Want::Empty);
        self
    }

    /// The JSON it gets, as [`masked`] shows it.
    pub fn shows(mut self, status: u16, text: impl Into<String>) -> Case {
        (self.status, self.want) = (status, Want::Text(text.into()));
        self
    }

    fn send(&self, client: &Client) -> Answer {
        let headers: Vec<(&str, &str)> =
            self.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        client.request(self.method, &self.path, &headers, &self.body)
    }
}

/// Sends all requests, one after the other, and tells of all answers that are not what they must be.
#[track_caller]
pub fn check(client: &Client, cases: Vec<Case>) {
    let mut wrong = Vec::new();
    for case in cases {
        let answer = case.send(client);
        if let Err(why) = compare(&case, &answer) {
            let body = String::from_utf8_lossy(&case.body[..case.body.len().min(400)]);
            wrong.push(format!("{} {} {body}\n    {why}", case.method, case.path));
        }
    }
    assert!(wrong.is_empty(), "{} answers are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

fn compare(case: &Case, answer: &Answer) -> Result<(), String> {
    let body = answer.text();
    if answer.status != case.status {
        return Err(format!("is {}, not {}: {body}", answer.status, case.status));
    }
    check_headers(answer)?;
    let (same, wish) = match &case.want {
        Want::Any => (true, String::new()),
        Want::Empty => (body.is_empty() && answer.header("Content-Type").is_none(), "empty".into()),
        Want::Message(message) => {
            let text = json!({ "message": message }).to_string() + "\n";
            (body == text, text)
        }
        Want::Start(start) => (answer.message().starts_with(start), format!("{start}…")),
        Want::Text(text) => (masked(&body) == format!("{text}\n"), text.clone()),
    };
    match same {
        true => Ok(()),
        false => Err(format!("is   {}\n    not  {wish}", masked(&body))),
    }
}

/// What every answer of a route carries, a refusal too.
fn check_headers(answer: &Answer) -> Result<(), String> {
    let wanted = [
        ("Api-Version", "1.55"),
        ("Docker-Experimental", "false"),
        ("Ostype", "linux"),
        ("Server", concat!("purser/", env!("CARGO_PKG_VERSION"), " (linux)")),
    ];
    for (name, value) in wanted {
        if answer.header(name) != Some(value) {
            return Err(format!("{name} is {:?}, not {value:?}", answer.header(name)));
        }
    }
    if answer.header("Date").is_none() {
        return Err("it has no Date".into());
    }
    let is_json = answer.body.starts_with(b"{") || answer.body.starts_with(b"[");
    let is_stream = answer.header("Transfer-Encoding").is_some();
    if is_json && !is_stream && answer.header("Content-Type") != Some("application/json") {
        return Err(format!("its type is {:?}", answer.header("Content-Type")));
    }
    Ok(())
}

/// The text with `<id>` for every id, `<ts>` for every time, and `{"Index":0}` for every version.
pub fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, part) in text.split('"').enumerate() {
        if at > 0 {
            out.push('"');
        }
        match part {
            part if is_id(part) => out.push_str("<id>"),
            part if is_time(part) => out.push_str("<ts>"),
            part if out.ends_with("\"Index\"") => {
                let end = part.find('}').unwrap_or(part.len());
                out.push_str(":0");
                out.push_str(&part[end..]);
            }
            part => out.push_str(part),
        }
    }
    out
}

fn is_id(text: &str) -> bool {
    text.len() == 25 && text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
}

fn is_time(text: &str) -> bool {
    let shape = |b: u8| if b.is_ascii_digit() { '0' } else { char::from(b) };
    let shape: String = text.bytes().map(shape).collect();
    shape.starts_with("0000-00-00T00:00:00") && shape.ends_with('Z') && text.len() <= 30
}

/// A query with these filters, encoded as curl and docker-py do.
pub fn filters(path: &str, filters: &Value) -> String {
    format!("{path}?filters={}", encoded(&filters.to_string()))
}

/// A text as part of a query.
pub fn encoded(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect()
}

/// Makes a secret and gives its id.
#[track_caller]
pub fn make_secret(client: &Client, name: &str, labels: &Value) -> String {
    let body = json!({"Name": name, "Labels": labels, "Data": "cHVyc2Vy"});
    made(&client.post("/secrets/create", &body))
}

/// Makes a service of this spec and gives its id.
#[track_caller]
pub fn make_service(client: &Client, spec: &Value) -> String {
    made(&client.post("/services/create", spec))
}

#[track_caller]
fn made(answer: &Answer) -> String {
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["ID"].as_str().expect("an id").to_owned()
}

/// The spec of a service without tasks.
pub fn idle_spec(name: &str) -> Value {
    json!({"Name": name, "TaskTemplate": {"ContainerSpec": {"Image": "busybox:latest"}},
        "Mode": {"Replicated": {"Replicas": 0}}})
}

/// The version that an object has now, as a query.
#[track_caller]
pub fn version(client: &Client, path: &str) -> String {
    let answer = client.get(path);
    let index = &answer.json()["Version"]["Index"];
    assert!(index.is_u64(), "{path}: {}", answer.text());
    format!("version={index}")
}

/// The names, ids or whatever a pointer finds in each entry of a list.
#[track_caller]
pub fn column(answer: &Answer, pointer: &str) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let list = answer.json();
    let list = list.as_array().unwrap_or_else(|| panic!("no list: {}", answer.text()));
    list.iter()
        .map(|entry| entry.pointer(pointer).and_then(Value::as_str).unwrap_or("").into())
        .collect()
}
