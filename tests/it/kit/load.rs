//! Clients that write all the time and remember what they were answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use base64::Engine as _;
use serde_json::{Value, json};

use super::http::{Answer, Client};

/// Objects of each kind that one client keeps.
const NAMES: u64 = 12;

/// What of an object matters here: a number that every write changes; absent when there is none.
type State = Option<u64>;

/// One client. The names that it writes are its own.
pub struct Writer {
    number: usize,
    random: Random,
    next: u64,
    /// What each object may be: one state, or two after a write that was not answered.
    known: BTreeMap<String, BTreeSet<State>>,
    constraint: Option<String>,
    /// Writes that were answered.
    pub answered: u64,
    /// Writes that were not.
    pub unanswered: u64,
}

/// What a request came to.
enum Outcome {
    Done,
    /// It was refused because something else wrote meanwhile.
    Stale,
    /// No answer.
    Silence,
}

impl Writer {
    /// Services are made with this constraint, if any.
    pub fn new(number: usize, constraint: Option<&str>) -> Writer {
        let (answered, unanswered) = (0, 0);
        let constraint = constraint.map(str::to_owned);
        let (random, next, known) = (Random::new(), 1, BTreeMap::new());
        Writer { number, random, next, known, constraint, answered, unanswered }
    }

    /// Writes until there is no answer, or `stop` is set.
    #[track_caller]
    pub fn run(&mut self, client: &Client, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            if !self.write(client) {
                return;
            }
        }
    }

    /// One write. False when it was not answered.
    #[track_caller]
    fn write(&mut self, client: &Client) -> bool {
        let is_secret = self.random.below(3) > 0;
        let at = self.random.below(NAMES);
        let kind = if is_secret { "secrets" } else { "services" };
        let name = format!("{kind}-{}-{at}", self.number);
        let states = self.known.entry(name.clone()).or_insert_with(|| [None].into());
        let before = *states.first().expect("an object is in some state");
        let number = self.next;
        self.next += 1;
        let (after, outcome) = match before {
            None => (Some(number), self.create(client, kind, &name, number)),
            Some(_) if self.random.below(3) == 0 => (None, remove(client, kind, &name)),
            Some(_) => (Some(number), self.update(client, kind, &name, number)),
        };
        let states = match outcome {
            Outcome::Done => [after].into(),
            Outcome::Stale => [before].into(),
            Outcome::Silence => [before, after].into(),
        };
        self.known.insert(name, states);
        let is_answered = !matches!(outcome, Outcome::Silence);
        *if is_answered { &mut self.answered } else { &mut self.unanswered } += 1;
        is_answered
    }

    fn create(&self, client: &Client, kind: &str, name: &str, number: u64) -> Outcome {
        judge(&send(client, "POST", &format!("/{kind}/create"), &self.spec(kind, name, number)))
    }

    fn update(&self, client: &Client, kind: &str, name: &str, number: u64) -> Outcome {
        let Some(object) = send(client, "GET", &format!("/{kind}/{name}"), &Value::Null) else {
            return Outcome::Silence;
        };
        let object = object.json();
        let mut spec = self.spec(kind, name, number);
        if kind == "secrets" {
            // Only labels can change.
            spec.as_object_mut().expect("an object").remove("Data");
        }
        let version = &object["Version"]["Index"];
        let id = object["ID"].as_str().unwrap_or(name);
        let path = format!("/{kind}/{id}/update?version={version}");
        judge(&send(client, "POST", &path, &spec))
    }

    fn spec(&self, kind: &str, name: &str, number: u64) -> Value {
        let labels = json!({"number": number.to_string()});
        if kind == "secrets" {
            let bytes = format!("{name} {number} ").repeat(20 + name.len() % 7);
            let data = base64::engine::general_purpose::STANDARD.encode(bytes);
            return json!({"Name": name, "Labels": labels, "Data": data});
        }
        let constraints: Vec<&String> = self.constraint.iter().collect();
        json!({
            "Name": name, "Labels": labels,
            "TaskTemplate": {
                "ContainerSpec": {"Image": "redis:alpine", "Env": [format!("NUMBER={number}")]},
                "Placement": {"Constraints": constraints},
            },
            "Mode": {"Replicated": {"Replicas": number % 3}},
        })
    }

    /// Compares what is there with what was answered, and takes it for what is known from now on.
    #[track_caller]
    pub fn check(&mut self, there: &BTreeMap<String, u64>) {
        let own = |name: &str| name.split('-').nth(1) == Some(&self.number.to_string());
        for name in there.keys().filter(|name| own(name)) {
            assert!(self.known.contains_key(name), "{name} was never made");
        }
        for (name, states) in &mut self.known {
            let state = there.get(name).copied();
            assert!(
                states.contains(&state),
                "{name} is {state:?}, and should be one of {states:?}"
            );
            *states = [state].into();
        }
    }
}

/// All secrets and services that are there, with the number of the last write to each. What two
/// fields of a service say must be of one write.
#[track_caller]
pub fn read_all(client: &Client) -> BTreeMap<String, u64> {
    let mut there = BTreeMap::new();
    for kind in ["secrets", "services"] {
        let answer = client.get(&format!("/{kind}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        for object in answer.json().as_array().expect("a list") {
            let spec = &object["Spec"];
            let name = spec["Name"].as_str().expect("a name").to_owned();
            let number = spec["Labels"]["number"].as_str().and_then(|text| text.parse().ok());
            let Some(number) = number else { continue };
            if kind == "services" {
                let env = &spec["TaskTemplate"]["ContainerSpec"]["Env"][0];
                assert_eq!(*env, format!("NUMBER={number}"), "{name}");
            }
            assert_eq!(there.insert(name.clone(), number), None, "{name} is there twice");
        }
    }
    there
}

fn remove(client: &Client, kind: &str, name: &str) -> Outcome {
    judge(&send(client, "DELETE", &format!("/{kind}/{name}"), &Value::Null))
}

/// Sends a request whose answer may never come.
fn send(client: &Client, method: &str, path: &str, body: &Value) -> Option<Answer> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let length = body.len();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    client.raw(text.as_bytes()).ok()
}

#[track_caller]
fn judge(answer: &Option<Answer>) -> Outcome {
    let Some(answer) = answer else { return Outcome::Silence };
    match answer.status {
        200..300 => Outcome::Done,
        _ if answer.message().contains("update out of sequence") => Outcome::Stale,
        // While it is being stopped.
        503 => Outcome::Silence,
        _ => panic!("{} {}", answer.status, answer.text()),
    }
}

/// Numbers that differ from run to run.
pub struct Random(u64);

static SEEDS: AtomicU64 = AtomicU64::new(1);

impl Random {
    pub fn new() -> Random {
        use std::hash::{BuildHasher as _, RandomState};
        Random(RandomState::new().hash_one(SEEDS.fetch_add(1, Ordering::Relaxed)) | 1)
    }

    /// The same numbers each time. The seed is no 0.
    pub fn seeded(seed: u64) -> Random {
        Random(seed)
    }

    /// A number less than `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}
