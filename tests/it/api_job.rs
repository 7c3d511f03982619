//! Jobs in the API: how they and their tasks are shown, and what an update of one does.

use super::api_table::{
    check, column, filters, get, idle_spec, make_service, masked, post, version,
};
use super::kit::eventually;
use super::kit::http::Client;
use super::kit::purser::Purser;
use serde_json::{Value, json};
use std::time::Duration;

/// The planners answer a request within moments, but after it.
const SOON: Duration = Duration::from_secs(10);

fn job(name: &str, mode: Value) -> Value {
    let mut spec = idle_spec(name);
    spec["Mode"] = mode;
    spec
}

fn shown(client: &Client, name: &str) -> Value {
    client.get(&format!("/services/{name}")).json()
}

#[test]
fn a_job_is_shown_with_its_run() {
    let purser = Purser::swarm("job");
    let client = purser.client();
    let template = json!({"ContainerSpec": {"Image": "busybox:latest"}});
    let body =
        |name: &str, mode: Value| json!({"Name": name, "TaskTemplate": template, "Mode": mode});
    let text = |name: &str, mode: &str, more: &str| {
        format!(
            r#"{{"ID":"<id>","Version":{{"Index":0}},"CreatedAt":"<ts>","UpdatedAt":"<ts>","Spec":{{"Name":"{name}","Labels":{{}},"TaskTemplate":{{"ContainerSpec":{{"Image":"busybox:latest","Isolation":"default"}},"ForceUpdate":0,"Runtime":"container"}},"Mode":{mode}}},"Endpoint":{{"Spec":{{}}}},{more}"JobStatus":{{"JobIteration":{{}},"LastExecution":"<ts>"}}}}"#
        )
    };
    let replicated = r#"{"ReplicatedJob":{"MaxConcurrent":2,"TotalCompletions":5}}"#;
    let status = r#""ServiceStatus":{"RunningTasks":0,"DesiredTasks":2,"CompletedTasks":0},"#;
    // No node takes tasks here, so that a global job has none.
    let no_status = r#""ServiceStatus":{"RunningTasks":0,"DesiredTasks":0,"CompletedTasks":0},"#;
    let named = |name: &str| filters("/services", &json!({"name": [name]}));
    let sum = json!({"ReplicatedJob": {"MaxConcurrent": 2, "TotalCompletions": 5}});
    check(
        &client,
        vec![
            post("/services/create", &body("sum", sum)).is(201),
            post("/services/create", &body("scan", json!({"GlobalJob": {}}))).is(201),
            get("/services/sum").shows(200, text("sum", replicated, "")),
            get("/services/scan").shows(200, text("scan", r#"{"GlobalJob":{}}"#, "")),
            get(named("sum").replace('?', "?status=1&"))
                .shows(200, format!("[{}]", text("sum", replicated, status))),
            get(named("scan").replace('?', "?status=1&"))
                .shows(200, format!("[{}]", text("scan", r#"{"GlobalJob":{}}"#, no_status))),
        ],
    );
    // The Engine shows defaults for rollouts, which jobs do not have, all the same.
    let filled = client.get("/services/sum?insertDefaults=true").json()["Spec"].clone();
    assert_eq!(filled["UpdateConfig"]["Parallelism"], 1);
    assert_eq!(filled["RestartPolicy"], json!(null));
    assert_eq!(filled["TaskTemplate"]["RestartPolicy"]["Condition"], "any");
}

#[test]
fn modes_of_jobs_have_defaults() {
    let purser = Purser::swarm("job-modes");
    let client = purser.client();
    let replicated = |max: u64, total: u64| json!({"ReplicatedJob": {"MaxConcurrent": max, "TotalCompletions": total}});
    for (name, sent, kept) in [
        ("empty", json!({"ReplicatedJob": {}}), replicated(1, 1)),
        ("max", json!({"ReplicatedJob": {"MaxConcurrent": 3}}), replicated(3, 3)),
        ("total", json!({"replicatedjob": {"totalcompletions": 3}}), replicated(1, 3)),
        ("none", replicated(0, 4), replicated(0, 4)),
        ("more", replicated(9, 2), replicated(9, 2)),
        ("nulls", json!({"Replicated": null, "GlobalJob": {}}), json!({"GlobalJob": {}})),
    ] {
        make_service(&client, &job(name, sent));
        assert_eq!(shown(&client, name)["Spec"]["Mode"], kept, "{name}");
    }
    let mode = |mode: &str| {
        let list = client.get(&filters("/services", &json!({"mode": [mode]})));
        let mut names = column(&list, "/Spec/Name");
        names.sort();
        names.join(" ")
    };
    assert_eq!(mode("replicated-job"), "empty max more none total");
    assert_eq!(mode("global-job"), "nulls");
    assert_eq!(mode("replicated"), "");
}

#[test]
fn tasks_of_a_job_wait_to_complete_in_slots_from_0() {
    let purser = Purser::swarm("job-tasks");
    let client = purser.client();
    let id = make_service(
        &client,
        &json!({"Name": "sum", "TaskTemplate": {"ContainerSpec": {"Image": "busybox:latest"}},
            "Mode": {"ReplicatedJob": {"MaxConcurrent": 2, "TotalCompletions": 5}}}),
    );
    let path = filters("/tasks", &json!({"service": [id], "desired-state": ["complete"]}));
    let tasks = eventually("two tasks that wait for a node", SOON, || {
        let tasks = client.get(&path).json();
        let explained = |task: &Value| task["Status"]["Err"] != json!(null);
        tasks.as_array()?.iter().all(explained).then_some(())?;
        (tasks.as_array()?.len() == 2).then_some(tasks)
    });
    let mut texts: Vec<String> =
        tasks.as_array().into_iter().flatten().map(|task| task["ID"].to_string()).collect();
    texts = texts
        .iter()
        .map(|id| masked(&client.get(&format!("/tasks/{}", id.trim_matches('"'))).text()))
        .collect();
    texts.sort_by_key(String::len);
    let text = |slot: &str| {
        format!(
            r#"{{"ID":"<id>","Version":{{"Index":0}},"CreatedAt":"<ts>","UpdatedAt":"<ts>","Labels":{{}},"Spec":{{"ContainerSpec":{{"Image":"busybox:latest","Isolation":"default"}},"ForceUpdate":0}},"ServiceID":"<id>",{slot}"Status":{{"Timestamp":"<ts>","State":"pending","Message":"pending task scheduling","Err":"no suitable node (1 node not available for new tasks)","PortStatus":{{}}}},"DesiredState":"complete","JobIteration":{{}},"Volumes":null}}"#
        )
    };
    let trimmed: Vec<&str> = texts.iter().map(|text| text.trim_end()).collect();
    assert_eq!(trimmed, [text(""), text("\"Slot\":1,")]);
    // They stand in the lists that are asked for them, and in no other.
    let count = |wish: Value| column(&client.get(&filters("/tasks", &wish)), "/ID").len();
    assert_eq!(count(json!({"desired-state": ["running"]})), 0);
    assert_eq!(count(json!({"service": ["sum"], "_up-to-date": ["true"]})), 2);
    assert_eq!(count(json!({"name": ["sum.0"]})), 1);
}

#[test]
fn every_update_of_a_job_begins_another_run() {
    let purser = Purser::swarm("job-runs");
    let client = purser.client();
    let id = make_service(&client, &job("sum", json!({"ReplicatedJob": {"MaxConcurrent": 2}})));
    let run = || shown(&client, "sum")["JobStatus"].clone();
    let tasks_are_of = |run: Value| {
        eventually("two tasks of the run", SOON, || {
            let tasks = client.get(&filters("/tasks", &json!({"service": [id]}))).json();
            let tasks = tasks.as_array()?;
            let fits = |task: &Value| task["JobIteration"] == run;
            (tasks.len() == 2 && tasks.iter().all(fits)).then_some(())
        });
    };
    let update = |change: fn(&mut Value), query: &str| {
        let mut spec = shown(&client, "sum")["Spec"].clone();
        change(&mut spec);
        let now = version(&client, "/services/sum");
        check(&client, vec![post(format!("/services/sum/update?{now}{query}"), &spec).is(200)]);
    };
    let first = run();
    assert_eq!(first["JobIteration"], json!({}));
    assert_eq!(first["LastExecution"], shown(&client, "sum")["CreatedAt"]);
    tasks_are_of(json!({}));
    update(|spec| spec["TaskTemplate"]["ForceUpdate"] = json!(1), "");
    assert_eq!(run()["JobIteration"], json!({"Index": 1}));
    assert!(run()["LastExecution"].as_str() > first["LastExecution"].as_str());
    tasks_are_of(json!({"Index": 1}));
    update(|spec| spec["Labels"] = json!({"a": "b"}), "");
    tasks_are_of(json!({"Index": 2}));
    assert_eq!(shown(&client, "sum")["UpdateStatus"], json!(null), "there is no rollout");
    update(|_| (), "&rollback=previous");
    tasks_are_of(json!({"Index": 3}));
    let service = shown(&client, "sum");
    assert_eq!(service["Spec"]["Labels"], json!({}));
    assert_eq!(service["PreviousSpec"]["Labels"], json!({"a": "b"}));
    assert_eq!(service["UpdateStatus"]["State"], "rollback_completed");
    assert_eq!(service["UpdateStatus"]["Message"], "rollback completed");
}

#[test]
fn a_job_stays_the_kind_of_job_that_it_is() {
    let purser = Purser::swarm("job-kind");
    let client = purser.client();
    let moded = "rpc error: code = Unimplemented desc = service mode change is not allowed";
    let modes = [
        json!({"Replicated": {"Replicas": 1}}),
        json!({"Global": {}}),
        json!({"ReplicatedJob": {}}),
        json!({"GlobalJob": {}}),
    ];
    for (at, mode) in modes.iter().enumerate() {
        let name = format!("at-{at}");
        make_service(&client, &job(&name, mode.clone()));
        let path = format!("/services/{name}/update?version=1");
        for other in modes.iter().filter(|other| *other != mode) {
            check(&client, vec![post(&*path, &job(&name, other.clone())).fails(501, moded)]);
        }
    }
    // A client that does not know jobs does not make one into a service.
    let now = version(&client, "/services/at-2");
    let path = format!("/v1.40/services/at-2/update?{now}");
    let mut configured = job("at-2", modes[2].clone());
    configured["UpdateConfig"] = json!({"Parallelism": 1});
    let text = "rpc error: code = InvalidArgument desc = Jobs may not have an update config";
    check(
        &client,
        vec![
            post(path, &job("at-2", modes[2].clone())).fails(501, moded),
            post(format!("/services/at-2/update?{now}"), &configured).fails(400, text),
        ],
    );
}
