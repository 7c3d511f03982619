//! What clients look at while a service changes: which tasks are up to date, how many there are and
//! should be, and what events say of a change.

use serde_json::{Value, json};

use super::api_event::replay;
use super::api_table::{column, filters};
use super::kit::agent::PATIENCE;
use super::kit::agent::cluster::{Cluster, service};
use super::kit::eventually;

/// The ids of the tasks of a service that were made from what it says now.
fn up_to_date(cluster: &Cluster, service: &str) -> Vec<String> {
    let wish = json!({"service": [service], "_up-to-date": ["true"]});
    column(&cluster.client.get(&filters("/tasks", &wish)), "/ID")
}

#[test]
fn tasks_are_up_to_date_until_what_they_are_made_from_changes() {
    let cluster = Cluster::new("up-to-date");
    let _engine = cluster.engine();
    cluster.service(&service("web", 2, &[]));
    cluster.until_running("web", 2);
    let first = up_to_date(&cluster, "web");
    assert_eq!(first.len(), 2);
    // The last is a constraint that holds.
    let changes = [
        ("/Labels", json!({"a": "b"})),
        ("/UpdateConfig/Parallelism", json!(1)),
        ("/Mode/Replicated/Replicas", json!(3)),
        ("/TaskTemplate/Placement", json!({"Constraints": ["node.role==worker"]})),
    ];
    for (place, value) in changes {
        cluster.update_service("web", |spec| {
            let (parent, key) = place.rsplit_once('/').expect("a place in something");
            spec.pointer_mut(parent).expect("it is there")[key] = value.clone();
        });
        let kept = up_to_date(&cluster, "web");
        assert!(first.iter().all(|task| kept.contains(task)), "{place}: {first:?} {kept:?}");
    }
    let before = cluster.until_running("web", 3);
    cluster.update_service("web", |spec| {
        spec["TaskTemplate"]["ContainerSpec"]["Image"] = json!("app:2");
    });
    let fresh = eventually("three other tasks", PATIENCE, || {
        let fresh = up_to_date(&cluster, "web");
        (fresh.len() == 3).then_some(fresh)
    });
    assert!(fresh.iter().all(|task| !before.contains(task)), "{before:?} {fresh:?}");
}

#[test]
fn counts_are_shown_to_those_who_ask() {
    let cluster = Cluster::new("counts");
    let engines = [cluster.engine(), cluster.engine()];
    cluster.service(&service("web", 3, &[]));
    let mut agent = service("agent", 0, &[]);
    agent["Mode"] = json!({"Global": {}});
    cluster.service(&agent);
    cluster.until_running("web", 3);
    cluster.until_running("agent", engines.len());
    let counts = |path: &str| {
        let mut list = cluster.client.get(path).json();
        let list = list.as_array_mut().expect("a list");
        list.sort_by_key(|service| service["Spec"]["Name"].to_string());
        list.iter().map(|service| service["ServiceStatus"].clone()).collect::<Vec<_>>()
    };
    let all =
        |count: u64| json!({"RunningTasks": count, "DesiredTasks": count, "CompletedTasks": 0});
    for asked in ["/services?status=true", "/v1.41/services?status=1"] {
        assert_eq!(counts(asked), [all(2), all(3)], "{asked}");
    }
    for unasked in ["/services", "/services?status=0", "/v1.40/services?status=true"] {
        assert_eq!(counts(unasked), [Value::Null, Value::Null], "{unasked}");
    }
    assert!(cluster.client.get("/services/web").json().get("ServiceStatus").is_none());
}

#[test]
fn events_say_what_changed() {
    let cluster = Cluster::new("changed");
    let engine = cluster.engine();
    cluster.until_node(engine.node_id(), "ready");
    cluster.service(&service("web", 1, &[]));
    cluster.until_running("web", 1);
    cluster.update_service("web", |spec| {
        spec["TaskTemplate"]["ContainerSpec"]["Image"] = json!("app:2");
    });
    // The attributes of all updates of an object, but for its name.
    let updates = |kind: &str, id: &str| {
        let events = replay(&cluster.client, &json!({"type": [kind], "event": ["update"]}));
        let of_it = events.into_iter().filter(|event| event["Actor"]["ID"] == id);
        let attributes = of_it.filter_map(|mut event| match event["Actor"]["Attributes"].take() {
            Value::Object(mut attributes) => attributes.remove("name").map(|_| attributes),
            _ => None,
        });
        attributes.filter(|attributes| !attributes.is_empty()).map(Value::from).collect::<Vec<_>>()
    };
    let web = cluster.client.get("/services/web").json()["ID"].clone();
    let web = web.as_str().expect("an id");
    let told = eventually("the update is completed", PATIENCE, || {
        let told = updates("service", web);
        (told.len() >= 3).then_some(told)
    });
    assert_eq!(
        told,
        [
            json!({"image.old": "app:1", "image.new": "app:2"}),
            json!({"updatestate.new": "updating"}),
            json!({"updatestate.old": "updating", "updatestate.new": "completed"}),
        ]
    );
    let node = updates("node", engine.node_id());
    assert_eq!(node, [json!({"state.old": "unknown", "state.new": "ready"})]);
}
