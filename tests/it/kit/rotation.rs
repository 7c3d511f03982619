//! Services that say what they see of a secret whose values change, and what purser says that each
//! of their tasks has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use super::docker::docker_with;
use super::engine::{Engine, PATIENCE, Site};
use super::eventually;
use super::http::Client;

/// What the tasks run: it says what it reads, and says so again whenever that is something else. A
/// container that is started again begins anew. When its engine is killed, `cat` may be before the shell.
const READS: &str = r#"sh -c 'trap "exit 0" TERM; seen=none
    while :; do
        now=$(cat /run/secrets/db) || [ $? -lt 128 ] || continue
        [ "$now" = "$seen" ] || echo "saw $now"
        seen=$now; sleep 0.2 & wait $!
    done'"#;

/// The value that a version of the secret `db` has.
pub fn value(version: u64) -> String {
    format!("value-{version}")
}

/// Makes the secret `db` with its first value.
#[track_caller]
pub fn make_secret(site: &Site) {
    docker_with(&site.purser.socket(), "secret create db -", value(1).as_bytes()).ok();
    // As many as there may be: the containers of tasks that ended are looked at in the end.
    site.docker("swarm update --task-history-limit 100").ok();
}

/// Makes a service that uses it, with options of the docker command.
#[track_caller]
pub fn make_service(site: &Site, name: &str, options: &str) {
    let create = "service create -d --secret db --stop-grace-period 2s --update-monitor 500ms";
    site.docker(&format!("{create} --name {name} {options} redis:alpine {READS}")).ok();
}

/// Gives it its next value, and answers the number of that version.
#[track_caller]
pub fn rotate(client: &Client) -> u64 {
    let next = current(client) + 1;
    send(client, &value(next));
    assert_eq!(current(client), next);
    next
}

/// Gives it a value.
#[track_caller]
pub fn send(client: &Client, value: &str) {
    let answer = crate::api_rotate::rotate(client, "/secrets/db", value.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// The number of its current version.
#[track_caller]
pub fn current(client: &Client) -> u64 {
    let versions = client.get("/secrets/db/versions").json();
    let mut versions = versions.as_array().into_iter().flatten();
    let current = versions.find(|version| version["Current"] == true);
    current.and_then(|version| version["Version"].as_u64()).expect("one is the current one")
}

/// How the rollout of a service stands.
pub fn rollout_state(client: &Client, service: &str) -> Value {
    client.get(&format!("/services/{service}")).json()["UpdateStatus"]["State"].clone()
}

/// Waits until so many tasks of a service run, all with this version, and no others are left.
#[track_caller]
pub fn await_version(client: &Client, service: &str, version: u64, tasks: usize) {
    let what = format!("{service} has version {version} {tasks} times");
    let shown = std::cell::RefCell::new(Value::Null);
    let _print = PrintIfFailed(&shown);
    eventually(&what, PATIENCE, || {
        *shown.borrow_mut() = consumer(client, service);
        let shown = shown.borrow();
        let held = shown["Tasks"].as_array()?;
        let fits = |task: &Value| task["Version"] == version && task["State"] == "running";
        (shown["Wanted"] == version && held.len() == tasks && held.iter().all(fits)).then_some(())
    });
}

/// What was seen last is the reason why something never came.
struct PrintIfFailed<'a>(&'a std::cell::RefCell<Value>);

impl Drop for PrintIfFailed<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("at last: {:#}", self.0.borrow());
        }
    }
}

/// What `/consumers` says of a service; null when it says nothing of it.
pub fn consumer(client: &Client, service: &str) -> Value {
    let all = consumers(client).unwrap_or_default();
    all.into_iter().find(|consumer| consumer["ServiceName"] == service).unwrap_or_default()
}

/// Who uses the secret; `None` while nobody answers that.
fn consumers(client: &Client) -> Option<Vec<Value>> {
    let request = "GET /secrets/db/consumers HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    client.raw(request.as_bytes()).ok()?.json().as_array().cloned()
}

/// The versions that each task was said to have: one, if all is well.
pub type Pins = BTreeMap<String, BTreeSet<u64>>;

/// Notes all the time which task has which version, while purser answers.
pub struct Watch {
    has_ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<Pins>>,
}

impl Watch {
    pub fn start(client: Client) -> Watch {
        let has_ended = Arc::new(AtomicBool::new(false));
        let ends = has_ended.clone();
        let thread = std::thread::spawn(move || {
            let mut pins = Pins::new();
            while !ends.load(Ordering::Relaxed) {
                for consumer in consumers(&client).unwrap_or_default() {
                    note(&mut pins, &consumer);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            pins
        });
        Watch { has_ended, thread: Some(thread) }
    }

    /// Checks that every task kept its version, and that each of its containers saw the value of that
    /// version and no other. Answers how many containers said so.
    #[track_caller]
    pub fn check(mut self, engines: &[Engine]) -> usize {
        self.has_ended.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is ended once");
        let pins = thread.join().expect("it does not fail");
        let changed = pins.iter().find(|(_, versions)| versions.len() != 1);
        assert_eq!(changed, None, "a task keeps its version");
        engines
            .iter()
            .flat_map(seen_by_task)
            .map(|(task, seen)| check_seen(&pins, &task, &seen))
            .sum()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::Relaxed);
    }
}

fn note(pins: &mut Pins, consumer: &Value) {
    for task in consumer["Tasks"].as_array().into_iter().flatten() {
        if let (Some(id), Some(version)) = (task["ID"].as_str(), task["Version"].as_u64()) {
            pins.entry(id.to_owned()).or_default().insert(version);
        }
    }
}

/// What the container of each task on an engine said, those that have ended included.
#[track_caller]
pub fn seen_by_task(engine: &Engine) -> Vec<(String, String)> {
    let format = r#"{{.ID}} {{.Label "com.docker.swarm.task.id"}}"#;
    let listed = engine.docker(&format!("ps -a --format '{format}'")).ok();
    let pairs = listed.lines().filter_map(|line| line.split_once(' '));
    pairs
        .map(|(container, task)| {
            (task.to_owned(), engine.docker(&format!("logs {container}")).ok())
        })
        .collect()
}

/// Compares what a container said with the version of its task; 0 for one that never ran.
#[track_caller]
fn check_seen(pins: &Pins, task: &str, seen: &str) -> usize {
    let version = pins.get(task).and_then(BTreeSet::first);
    let expected = version.map(|version| format!("saw {}", value(*version)));
    for line in seen.lines() {
        assert_eq!(Some(line), expected.as_deref(), "task {task} has version {version:?}: {seen}");
    }
    usize::from(!seen.is_empty())
}
