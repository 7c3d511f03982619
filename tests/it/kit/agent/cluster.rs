//! A swarm of purser and simulated engines, as its clients see it.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tonic::Status;

use super::{Agent, Member, PATIENCE};
use crate::kit::eventually;
use crate::kit::http::{Answer, Client};
use crate::kit::purser::Purser;

/// A purser that leads a swarm, and what a test asks of it.
pub struct Cluster {
    pub purser: Purser,
    pub client: Client,
    /// The nodes' door.
    pub addr: SocketAddr,
}

impl Cluster {
    pub fn new(name: &str) -> Cluster {
        Cluster::of(Purser::swarm(name))
    }

    /// The swarm that a purser leads.
    pub fn of(purser: Purser) -> Cluster {
        let client = purser.client();
        let nodes = client.get("/nodes").json();
        let mut managers = nodes.as_array().into_iter().flatten();
        let addr = managers.find_map(|node| node["ManagerStatus"]["Addr"].as_str());
        let addr = addr.and_then(|addr| addr.parse().ok());
        Cluster { purser, client, addr: addr.expect("the manager's address") }
    }

    /// The settings and tokens.
    pub fn swarm(&self) -> Value {
        self.client.get("/swarm").json()
    }

    /// The token of `Worker` or `Manager`.
    pub fn token(&self, role: &str) -> String {
        self.swarm()["JoinTokens"][role].as_str().expect("a token").to_owned()
    }

    /// Changes settings; what is left out stays.
    #[track_caller]
    pub fn update(&self, query: &str, spec: &Value) {
        let version = &self.swarm()["Version"]["Index"];
        let answer = self.client.post(&format!("/swarm/update?version={version}{query}"), spec);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    #[track_caller]
    pub fn set_heartbeat(&self, period: Duration) {
        let nanos = u64::try_from(period.as_nanos()).expect("a short period");
        self.update("", &json!({"Dispatcher": {"HeartbeatPeriod": nanos}}));
    }

    pub fn join(&self) -> Result<Member, Status> {
        Member::join(self.addr, &self.token("Worker"))
    }

    /// A new engine that does what it is told.
    #[track_caller]
    pub fn engine(&self) -> Agent {
        self.join().expect("it is admitted").start()
    }

    pub fn node(&self, id: &str) -> Value {
        self.client.get(&format!("/nodes/{id}")).json()
    }

    /// The state of a node in a word; empty when there is no such node.
    pub fn node_state(&self, id: &str) -> String {
        self.node(id)["Status"]["State"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub fn until_node(&self, id: &str, state: &str) {
        let what = format!("node {id} is {state}");
        eventually(&what, PATIENCE, || (self.node_state(id) == state).then_some(()));
    }

    pub fn node_count(&self) -> usize {
        self.client.get("/nodes").json().as_array().map_or(0, Vec::len)
    }

    /// Changes a node's labels or availability.
    #[track_caller]
    pub fn update_node(&self, id: &str, change: impl FnOnce(&mut Value)) {
        let node = self.node(id);
        let mut spec = node["Spec"].clone();
        change(&mut spec);
        let version = &node["Version"]["Index"];
        let answer = self.client.post(&format!("/nodes/{id}/update?version={version}"), &spec);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    #[track_caller]
    pub fn remove_node(&self, id: &str) {
        let answer = self.client.delete(&format!("/nodes/{id}?force=true"));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Makes a secret and returns its id.
    #[track_caller]
    pub fn secret(&self, name: &str, data: &[u8]) -> String {
        use base64::Engine as _;
        let data = base64::engine::general_purpose::STANDARD.encode(data);
        let made = self.client.post("/secrets/create", &json!({"Name": name, "Data": data}));
        id_of(&made)
    }

    /// Makes a service and returns its id.
    #[track_caller]
    pub fn service(&self, spec: &Value) -> String {
        id_of(&self.client.post("/services/create", spec))
    }

    /// Changes the spec of a service. A rollout writes to it as well, so it is tried until no such
    /// write comes between.
    #[track_caller]
    pub fn update_service(&self, name: &str, change: impl Fn(&mut Value)) {
        eventually(&format!("service {name} is updated"), PATIENCE, || {
            let service = self.client.get(&format!("/services/{name}")).json();
            let mut spec = service["Spec"].clone();
            change(&mut spec);
            let version = &service["Version"]["Index"];
            let path = format!("/services/{name}/update?version={version}");
            let answer = self.client.post(&path, &spec);
            let came_between = answer.message().contains("out of sequence");
            assert!(came_between || answer.status == 200, "{}", answer.text());
            (answer.status == 200).then_some(())
        });
    }

    #[track_caller]
    pub fn remove_service(&self, name: &str) {
        let answer = self.client.delete(&format!("/services/{name}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// The tasks of a service, in no order.
    pub fn tasks(&self, service: &str) -> Vec<Value> {
        let tasks = self.client.get("/tasks").json();
        let id = self.client.get(&format!("/services/{service}")).json()["ID"].clone();
        let tasks = tasks.as_array().cloned().unwrap_or_default();
        tasks.into_iter().filter(|task| task["ServiceID"] == id).collect()
    }

    pub fn task(&self, id: &str) -> Value {
        self.client.get(&format!("/tasks/{id}")).json()
    }

    #[track_caller]
    pub fn until_task(&self, id: &str, state: &str) {
        let what = format!("task {id} is {state}");
        eventually(&what, PATIENCE, || (self.task(id)["Status"]["State"] == state).then_some(()));
    }

    /// Waits until so many tasks of a service run, and returns their ids.
    #[track_caller]
    pub fn until_running(&self, service: &str, count: usize) -> Vec<String> {
        eventually(&format!("{count} tasks of {service} run"), PATIENCE, || {
            let tasks = self.tasks(service);
            let running = tasks.iter().filter(|task| {
                task["Status"]["State"] == "running" && task["DesiredState"] == "running"
            });
            let ids: Vec<_> = running.filter_map(|task| task["ID"].as_str()).collect();
            (ids.len() == count).then(|| ids.into_iter().map(str::to_owned).collect())
        })
    }
}

#[track_caller]
fn id_of(made: &Answer) -> String {
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()["ID"].as_str().expect("an id").to_owned()
}

/// A service with so many tasks and these secrets, `(id, name)`. Its tasks are restarted without
/// delay.
pub fn service(name: &str, replicas: u64, secrets: &[(&str, &str)]) -> Value {
    let secrets: Vec<Value> = secrets
        .iter()
        .map(|(id, name)| {
            let file = json!({"Name": name, "UID": "0", "GID": "0", "Mode": 292});
            json!({"SecretID": id, "SecretName": name, "File": file})
        })
        .collect();
    json!({
        "Name": name,
        "TaskTemplate": {
            "ContainerSpec": {"Image": "app:1", "Secrets": secrets},
            "RestartPolicy": {"Condition": "any", "Delay": 0},
        },
        "Mode": {"Replicated": {"Replicas": replicas}},
        "UpdateConfig": {"Parallelism": 0, "Monitor": 1},
    })
}

/// The same service on one node only.
pub fn on_node(mut service: Value, node: &str) -> Value {
    service["TaskTemplate"]["Placement"] = json!({"Constraints": [format!("node.id=={node}")]});
    service
}
