//! Filters of lists: both encodings, what is refused, and what passes for each resource.

use super::api_table::{
    Case, check, column, filters, get, idle_spec, make_secret, make_service, post, version,
};
use super::kit::eventually;
use super::kit::http::Client;
use super::kit::purser::Purser;
use serde_json::{Value, json};
use std::time::Duration;

/// Which names a list shows for these filters, sent both ways; sorted, parted by blanks.
#[track_caller]
fn names(client: &Client, path: &str, wish: &Value, pointer: &str) -> String {
    let as_map: serde_json::Map<String, Value> = wish
        .as_object()
        .expect("filters are an object")
        .iter()
        .map(|(key, values)| {
            let values = values.as_array().expect("each a list").iter();
            let set: serde_json::Map<_, _> = values
                .map(|value| (value.as_str().unwrap_or("").to_owned(), json!(true)))
                .collect();
            (key.clone(), Value::Object(set))
        })
        .collect();
    let mut found = [wish.clone(), Value::Object(as_map)]
        .map(|wish| column(&client.get(&filters(path, &wish)), pointer));
    found.iter_mut().for_each(|names| names.sort());
    assert_eq!(found[0], found[1], "both encodings mean the same: {wish}");
    found[0].join(" ")
}

#[test]
fn filters_that_cannot_be_read_or_are_not_known_are_refused() {
    let purser = Purser::swarm("filters");
    let client = purser.client();
    let mut cases: Vec<Case> = Vec::new();
    for path in ["/secrets", "/services", "/tasks", "/nodes"] {
        for bad in [
            "x",
            "1",
            "[]",
            "{",
            "\"name\"",
            r#"{"name":"a"}"#,
            r#"{"name":1}"#,
            r#"{"name":[1]}"#,
            r#"{"name":{"a":"true"}}"#,
            r#"{"name":[["a"]]}"#,
        ] {
            let path = format!("{path}?filters={}", super::api_table::encoded(bad));
            cases.push(get(path).fails(400, "invalid filter"));
        }
        for key in ["bogus", "Name", "driver"] {
            let text = format!("invalid filter '{key}'");
            cases.push(get(filters(path, &json!({key: ["x"]}))).fails(400, text));
        }
        for none in
            [json!({}), json!({"name": []}), json!({"name": {}}), json!({"name": {"x": false}})]
        {
            cases.push(get(filters(path, &none)).is(200));
        }
        cases.push(get(format!("{path}?filters=")).is(200));
    }
    let unknown = |path: &str, key: &str, text: &str| {
        let wish = json!({key: ["zz"]});
        get(filters(path, &wish)).fails(500, format!("Invalid {text} filter: 'zz'"))
    };
    cases.extend([
        get(filters("/services", &json!({"names": ["x"]}))).fails(400, "invalid filter 'names'"),
        unknown("/tasks", "desired-state", "desired-state"),
        unknown("/nodes", "role", "role"),
        unknown("/nodes", "membership", "membership"),
        get(filters("/tasks", &json!({"service": ["nope"]}))).fails(404, "service nope not found"),
        get(filters("/tasks", &json!({"node": ["nope"]}))).fails(404, "node nope not found"),
        get(filters("/services", &json!({"mode": ["zz"]}))).shows(200, "[]"),
    ]);
    check(&client, cases);
}

#[test]
fn secrets_pass_by_any_name_or_id_and_by_all_labels() {
    let purser = Purser::swarm("filter-s");
    let client = purser.client();
    let one = make_secret(&client, "App-One", &json!({"env": "prod", "x": "a=b"}));
    make_secret(&client, "app-two", &json!({"env": "test", "x": ""}));
    make_secret(&client, "other", &json!({"Env": "prod"}));
    let cases = [
        (json!({}), "App-One app-two other"),
        (json!({"names": ["APP-one"]}), "App-One"),
        (json!({"names": ["app"]}), ""),
        (json!({"name": ["aPP"]}), "App-One app-two"),
        (json!({"name": [""]}), "App-One app-two other"),
        (json!({"id": [one[..20]]}), "App-One"),
        (json!({"id": ["NOPE"]}), ""),
        (json!({"names": ["other"], "name": ["app-t"], "id": [one]}), "App-One app-two other"),
        (json!({"names": ["other", "App-One"]}), "App-One other"),
        (json!({"label": ["env"]}), "App-One app-two"),
        (json!({"label": ["env="]}), "App-One app-two"),
        (json!({"label": ["env=prod"]}), "App-One"),
        (json!({"label": ["env", "x=a=b"]}), "App-One"),
        (json!({"label": ["env", "Env"]}), ""),
        (json!({"label": ["env=prod", "env"]}), "App-One app-two"),
        (json!({"label": ["x"], "name": ["other"]}), ""),
        (json!({"label": ["env=prod"], "names": ["app-two"], "name": ["App"]}), "App-One"),
    ];
    for (wish, wanted) in cases {
        assert_eq!(names(&client, "/secrets", &wish, "/Spec/Name"), wanted, "{wish}");
    }
    // Two values of one label collapse into one of them.
    let both =
        names(&client, "/secrets", &json!({"label": ["env=prod", "env=test"]}), "/Spec/Name");
    assert!(both == "App-One" || both == "app-two", "{both}");
    // By id, and by name when names are asked for.
    let ids = column(&client.get("/secrets"), "/ID");
    assert!(ids.is_sorted(), "{ids:?}");
    let list = client.get(&filters("/secrets", &json!({"name": [""]})));
    assert_eq!(column(&list, "/Spec/Name"), ["App-One", "app-two", "other"]);
}

#[test]
fn services_pass_when_every_key_has_a_value_that_fits() {
    let purser = Purser::swarm("filter-v");
    let client = purser.client();
    let mut web = idle_spec("Web");
    web["Labels"] = json!({"com.docker.stack.namespace": "shop"});
    let web = make_service(&client, &web);
    make_service(&client, &idle_spec("webby"));
    let mut global = idle_spec("agent");
    global["Mode"] = json!({"Global": {}});
    make_service(&client, &global);
    let cases = [
        (json!({}), "Web agent webby"),
        (json!({"name": ["web"]}), "webby"),
        (json!({"name": ["We", "ag"]}), "Web agent"),
        (json!({"name": ["Web"], "id": [web[..10]]}), "Web"),
        (json!({"name": ["webby"], "id": [web]}), ""),
        (json!({"mode": ["global"]}), "agent"),
        (json!({"mode": ["replicated", "global"]}), "Web agent webby"),
        (json!({"mode": ["replicated-job"]}), ""),
        (json!({"mode": ["global-job"]}), ""),
        (json!({"runtime": ["container"]}), "Web agent webby"),
        (json!({"runtime": ["plugin"]}), ""),
        (json!({"label": ["com.docker.stack.namespace"]}), "Web"),
        (json!({"label": ["com.docker.stack.namespace=shop"], "mode": ["replicated"]}), "Web"),
        (json!({"label": ["com.docker.stack.namespace=other"]}), ""),
    ];
    for (wish, wanted) in cases {
        assert_eq!(names(&client, "/services", &wish, "/Spec/Name"), wanted, "{wish}");
    }
    assert!(column(&client.get("/services"), "/ID").is_sorted());
}

#[test]
fn tasks_pass_by_service_node_state_and_the_services_labels() {
    let purser = Purser::swarm("filter-t");
    let client = purser.client();
    let spec = |name: &str, tier: &str| {
        json!({"Name": name, "Labels": {"tier": tier},
            "TaskTemplate": {"ContainerSpec": {"Image": "busybox", "Labels": {"inner": "1"}}},
            "Mode": {"Replicated": {"Replicas": 2}}})
    };
    let web = make_service(&client, &spec("web", "front"));
    let api = make_service(&client, &spec("api", "back"));
    let node = client.get("/nodes").json()[0]["ID"].as_str().expect("a node").to_owned();
    let tasks = eventually("four tasks", Duration::from_secs(10), || {
        let tasks = column(&client.get("/tasks"), "/ID");
        (tasks.len() == 4).then_some(tasks)
    });
    assert!(tasks.is_sorted(), "{tasks:?}");
    let count = |wish: &Value| {
        let found = names(&client, "/tasks", wish, "/ServiceID");
        [&web, &api].map(|id| found.matches(&**id).count())
    };
    let id = column(&client.get(&filters("/tasks", &json!({"service": ["web"]}))), "/ID").remove(0);
    let cases = [
        (json!({}), [2, 2]),
        (json!({"service": ["web"]}), [2, 0]),
        (json!({"service": [web[..20]]}), [2, 0]),
        (json!({"service": ["web", "api"]}), [2, 2]),
        (json!({"node": [node]}), [0, 0]),
        (json!({"id": [id]}), [1, 0]),
        (json!({"id": [id], "service": ["api"]}), [0, 0]),
        (json!({"name": ["web.1."]}), [1, 0]),
        (json!({"name": ["web", "api.2"]}), [2, 1]),
        (json!({"label": ["tier=front"]}), [2, 0]),
        (json!({"label": ["tier"]}), [2, 2]),
        (json!({"label": ["inner"]}), [0, 0]),
        (json!({"desired-state": ["running"]}), [2, 2]),
        (json!({"desired-state": ["shutdown"]}), [0, 0]),
        (json!({"desired-state": ["accepted"]}), [0, 0]),
        (json!({"desired-state": ["running", "shutdown"], "service": ["api"]}), [0, 2]),
        (json!({"_up-to-date": ["true"]}), [2, 2]),
        (json!({"runtime": ["container"]}), [2, 2]),
        (json!({"runtime": ["plugin"]}), [0, 0]),
    ];
    for (wish, wanted) in cases {
        assert_eq!(count(&wish), wanted, "{wish}");
    }
    // A task goes by the labels that its service has now, and is up to date unless what it is made
    // from was changed.
    let path = format!("/services/{web}");
    let mut relabelled = spec("web", "side");
    check(
        &client,
        vec![post(format!("{path}/update?{}", version(&client, &path)), &relabelled).is(200)],
    );
    assert_eq!(count(&json!({"label": ["tier=side"]})), [2, 0]);
    assert_eq!(count(&json!({"_up-to-date": ["true"]})), [2, 2]);
    relabelled["TaskTemplate"]["ForceUpdate"] = json!(1);
    relabelled["UpdateConfig"] = json!({"Parallelism": 1, "Delay": 3_600_000_000_000_i64});
    let update = post(format!("{path}/update?{}", version(&client, &path)), &relabelled).is(200);
    check(&client, vec![update]);
    let fresh = client.get(&filters("/tasks", &json!({"_up-to-date": ["1"], "service": ["web"]})));
    for task in fresh.json().as_array().expect("a list") {
        assert_eq!(task["Spec"]["ForceUpdate"], 1, "{task}");
    }
}

#[test]
fn nodes_pass_by_role_membership_and_labels() {
    let purser = Purser::swarm("filter-n");
    let client = purser.client();
    let id = client.get("/nodes").json()[0]["ID"].as_str().expect("a node").to_owned();
    let path = format!("/nodes/{id}");
    let spec = json!({"Role": "manager", "Availability": "active", "Labels": {"zone": "a"}});
    check(
        &client,
        vec![post(format!("{path}/update?{}", version(&client, &path)), &spec).is_empty(200)],
    );
    let cases = [
        (json!({}), true),
        (json!({"id": [id[..9]]}), true),
        (json!({"id": ["nope"]}), false),
        (json!({"role": ["manager"]}), true),
        (json!({"role": ["worker"]}), false),
        (json!({"role": ["worker", "manager"]}), true),
        (json!({"membership": ["accepted"]}), true),
        (json!({"membership": ["pending"]}), false),
        (json!({"node.label": ["zone=a"]}), true),
        (json!({"node.label": ["zone"]}), true),
        (json!({"node.label": ["zone=b"]}), false),
        // These are the labels that an engine has of itself.
        (json!({"label": ["zone"]}), false),
        (json!({"role": ["manager"], "id": ["nope"]}), false),
    ];
    for (wish, passes) in cases {
        let found = names(&client, "/nodes", &wish, "/ID");
        assert_eq!(found == id, passes, "{wish}");
    }
}
