//! `/tasks`: how they are shown while they wait, and how they are found.

use super::api_table::{check, get, make_service};
use super::kit::eventually;
use super::kit::purser::Purser;
use serde_json::json;
use std::time::Duration;

#[test]
fn a_waiting_task_is_shown_and_found() {
    let purser = Purser::swarm("task");
    let client = purser.client();
    let secret = super::api_table::make_secret(&client, "a", &json!({}));
    let reference = json!({"File": {"Name": "t", "UID": "0", "GID": "0", "Mode": 292},
        "SecretID": secret, "SecretName": "a"});
    make_service(
        &client,
        &json!({"Name": "web", "Labels": {"l": "1"}, "TaskTemplate": {"ContainerSpec":
            {"Image": "busybox:latest", "Command": ["sleep", "1000"], "Secrets": [reference]}}}),
    );
    // A service's runtime is not shown with its tasks.
    let shown = r#"{"ID":"<id>","Version":{"Index":0},"CreatedAt":"<ts>","UpdatedAt":"<ts>","Labels":{},"Spec":{"ContainerSpec":{"Image":"busybox:latest","Command":["sleep","1000"],"Secrets":[{"File":{"Name":"t","UID":"0","GID":"0","Mode":292},"SecretID":"<id>","SecretName":"a"}],"Isolation":"default"},"ForceUpdate":0},"ServiceID":"<id>","Slot":1,"Status":{"Timestamp":"<ts>","State":"pending","Message":"pending task scheduling","Err":"no suitable node (1 node not available for new tasks)","PortStatus":{}},"DesiredState":"running","Volumes":null}"#;
    let task = eventually("a task that waits for a node", Duration::from_secs(10), || {
        let task = client.get("/tasks").json()[0].clone();
        (task["Status"]["Err"] != json!(null)).then_some(task)
    });
    let id = task["ID"].as_str().expect("an id");
    check(
        &client,
        vec![
            get("/tasks").shows(200, format!("[{shown}]")),
            get(format!("/tasks/{id}")).shows(200, shown),
            get(format!("/tasks/{}", &id[..20])).shows(200, shown),
            get(format!("/tasks/web.1.{id}")).shows(200, shown),
            get("/tasks/web.1").fails(404, "task web.1 not found"),
            get(format!("/tasks/web.2.{id}")).fails(404, format!("task web.2.{id} not found")),
            get(format!("/tasks/WEB.1.{id}")).fails(404, format!("task WEB.1.{id} not found")),
        ],
    );
}

#[test]
fn the_beginning_of_several_ids_is_ambiguous() {
    let purser = Purser::swarm("task-amb");
    let client = purser.client();
    make_service(
        &client,
        &json!({"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "i"}},
            "Mode": {"Replicated": {"Replicas": 40}}}),
    );
    let ids = eventually("forty tasks", Duration::from_secs(20), || {
        let ids = super::api_table::column(&client.get("/tasks"), "/ID");
        (ids.len() == 40).then_some(ids)
    });
    let count = |start: &str| ids.iter().filter(|id| id.starts_with(start)).count();
    let start = ids.iter().map(|id| &id[..1]).max_by_key(|start| count(start)).expect("tasks");
    let text = format!("task {start} is ambiguous ({} matches found)", count(start));
    check(&client, vec![get(format!("/tasks/{start}")).fails(400, text)]);
}

#[test]
fn tasks_go_with_their_service() {
    let purser = Purser::swarm("task-rm");
    let client = purser.client();
    let mut spec = super::api_table::idle_spec("web");
    spec["Mode"] = json!({"Replicated": {"Replicas": 3}});
    make_service(&client, &spec);
    eventually("three tasks", Duration::from_secs(10), || {
        (client.get("/tasks").json().as_array()?.len() == 3).then_some(())
    });
    check(&client, vec![super::api_table::delete("/services/web").is_empty(200)]);
    eventually("no tasks", Duration::from_secs(10), || {
        (client.get("/tasks").text() == "[]\n").then_some(())
    });
}
