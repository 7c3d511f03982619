//! Refusals outside of a swarm, and how the `{id}` of a path finds its object.

use super::api_table::{
    Case, check, delete, filters, get, idle_spec, make_secret, make_service, masked, post,
    post_text, request, version,
};
use super::kit::http::Client;
use super::kit::purser::Purser;
use serde_json::json;

const NO_SWARM: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm \
    join\" to connect this node to swarm and try again.";

#[test]
fn outside_of_a_swarm_every_route_of_a_manager_says_so() {
    let purser = Purser::serve("outside");
    let client = purser.client();
    let spec = json!({"TaskTemplate": {"ContainerSpec": {"Image": "i"}}});
    let mut cases: Vec<Case> = [
        get("/secrets"),
        get("/secrets/x"),
        delete("/secrets/x"),
        // What is wrong with a spec shows only to a manager.
        post("/secrets/create", &json!({"Name": "-"})),
        post("/secrets/x/update?version=1", &json!({})),
        get("/services"),
        get("/services/x"),
        delete("/services/x"),
        post("/services/create", &spec),
        post("/services/x/update?version=1", &spec),
        get("/tasks"),
        get("/tasks/x"),
        get("/nodes"),
        get("/nodes/x"),
        delete("/nodes/x"),
        post("/nodes/x/update?version=1", &json!({"Role": "worker", "Availability": "active"})),
        get("/swarm"),
        post("/swarm/update?version=1", &json!({})),
        get("/swarm/unlockkey"),
        request("POST", "/swarm/unlock"),
        // The one list whose filters are read after that.
        get("/tasks?filters=nonsense"),
        get(filters("/tasks", &json!({"bogus": ["x"]}))),
    ]
    .into_iter()
    .map(|case| case.fails(503, NO_SWARM))
    .collect();
    cases.push(request("POST", "/swarm/leave").fails(503, "This node is not part of a swarm"));
    cases.push(
        post("/networks/create", &json!({"Name": "x", "Driver": "overlay"})).fails(403, NO_SWARM),
    );
    // Queries and bodies are read before the state of the node is looked at.
    for path in ["/secrets", "/services", "/nodes"] {
        cases.push(get(format!("{path}?filters=nonsense")).fails(400, "invalid filter"));
        let bogus = filters(path, &json!({"bogus": ["x"]}));
        cases.push(get(bogus).fails(400, "invalid filter 'bogus'"));
    }
    cases.push(get("/services?status=zz").fails(400, "invalid value for status: zz"));
    cases.push(post_text("/secrets/create", "{").fails(400, "invalid JSON: unexpected EOF"));
    cases.push(post_text("/swarm/unlock", "{").fails(400, "invalid JSON: unexpected EOF"));
    cases.push(post("/secrets/x/update", &json!({})).fails(400, "invalid secret version"));
    for kind in ["service", "node", "swarm"] {
        let path =
            if kind == "swarm" { "/swarm/update".into() } else { format!("/{kind}s/x/update") };
        let text =
            format!("invalid {kind} version '': strconv.ParseUint: parsing \"\": invalid syntax");
        cases.push(post(path, &json!({})).fails(400, text));
    }
    check(&client, cases);
    let info = client.get("/info");
    assert_eq!(info.status, 200);
    assert_eq!(
        info.json()["Swarm"],
        json!({"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false,
            "Error": "", "RemoteManagers": null})
    );
}

#[test]
fn what_nothing_is_called_is_not_found() {
    let purser = Purser::swarm("missing");
    let client = purser.client();
    let spec = json!({"Name": "x", "TaskTemplate": {"ContainerSpec": {"Image": "i"}}});
    let node = json!({"Role": "worker", "Availability": "active"});
    let mut cases = Vec::new();
    for wanted in ["x-x", "nope-nope", "self", "zzzzzzzzzzzzzzzzzzzzzzzzz", "ZZ", "\u{e9}"] {
        let at = |kind: &str| format!("/{kind}s/{}", super::api_table::encoded(wanted));
        for (kind, update) in [("secret", &json!({})), ("service", &spec), ("node", &node)] {
            let text = format!("{kind} {wanted} not found");
            cases.push(get(at(kind)).fails(404, &*text));
            cases.push(delete(at(kind)).fails(404, &*text));
            cases.push(post(at(kind) + "/update?version=1", update).fails(404, text));
        }
        cases.push(get(at("task")).fails(404, format!("task {wanted} not found")));
    }
    // The body comes first.
    cases.push(
        post("/services/nope/update?version=1", &json!({"Mode": {"Global": 1}}))
            .fails_with(400, "invalid JSON: "),
    );
    check(&client, cases);
}

/// A first character that several of these ids have.
fn shared_start(ids: &[String]) -> (String, usize) {
    let count = |c: char| ids.iter().filter(|id| id.starts_with(c)).count();
    let most = ids.iter().filter_map(|id| id.chars().next()).max_by_key(|c| count(*c));
    let most = most.expect("there are ids");
    (most.to_string(), count(most))
}

fn check_lookup(client: &Client, kind: &str, ids: &[String]) {
    let (start, count) = shared_start(ids);
    assert!(count > 1, "37 ids have 36 first characters");
    let path = |wanted: &str| format!("/{kind}s/{wanted}");
    let text = format!("{kind} {start} is ambiguous ({count} matches found)");
    let spec = idle_spec("x");
    let whole = client.get(&path(&ids[0]));
    let same = |wanted: &str| get(path(wanted)).shows(200, masked(&whole.text()).trim_end());
    let upper = ids[0].to_uppercase();
    check(
        client,
        vec![
            get(path(&start)).fails(400, &*text),
            delete(path(&start)).fails(400, &*text),
            post(path(&start) + "/update?version=1", &spec).fails(400, text),
            same(&ids[0][..24]),
            same(&ids[0][..12]),
            get(path(&upper)).fails(404, format!("{kind} {upper} not found")),
        ],
    );
}

#[test]
fn secrets_are_found_by_id_then_name_in_any_case_then_prefix() {
    let purser = Purser::swarm("lookup-s");
    let client = purser.client();
    let ids: Vec<String> =
        (0..37).map(|at| make_secret(&client, &format!("name-{at}"), &json!({}))).collect();
    check_lookup(&client, "secret", &ids);
    let found = |wanted: &str| {
        let answer = client.get(&format!("/secrets/{wanted}"));
        answer.json()["ID"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(found("NAME-0"), ids[0], "names of secrets have no case");
    // A name that is the prefix of an id wins over it, and a whole id over a name.
    let (start, _) = shared_start(&ids);
    let short = make_secret(&client, &start, &json!({}));
    assert_eq!(found(&start), short);
    make_secret(&client, &ids[1], &json!({}));
    assert_eq!(found(&ids[1]), ids[1]);
    let named_create = make_secret(&client, "create", &json!({}));
    assert_eq!(found("create"), named_create);
    check(
        &client,
        vec![
            post("/secrets/create", &json!({"Name": "NAME-0", "Data": "eA=="}))
                .fails(409, "rpc error: code = AlreadyExists desc = secret NAME-0 already exists"),
            delete("/secrets/create").bare(204),
            delete("/secrets/Name-0").bare(204),
            get("/secrets/name-0").fails(404, "secret name-0 not found"),
        ],
    );
}

#[test]
fn services_are_found_by_name_in_its_own_case() {
    let purser = Purser::swarm("lookup-v");
    let client = purser.client();
    let make = |name: &str| make_service(&client, &idle_spec(name));
    let ids: Vec<String> = (0..37).map(|at| make(&format!("web-{at}"))).collect();
    check_lookup(&client, "service", &ids);
    let found = |wanted: &str| {
        let answer = client.get(&format!("/services/{wanted}"));
        answer.json()["ID"].as_str().unwrap_or_default().to_owned()
    };
    let (start, _) = shared_start(&ids);
    let short = make(&start);
    assert_eq!(found(&start), short);
    make(&ids[1]);
    assert_eq!(found(&ids[1]), ids[1]);
    let named_create = make("create");
    assert_eq!(found("create"), named_create);
    let taken = "rpc error: code = AlreadyExists desc = name conflicts with an existing object: \
        service web-0 already exists";
    check(
        &client,
        vec![
            get("/services/WEB-0").fails(404, "service WEB-0 not found"),
            post("/services/create", &idle_spec("WEB-0")).fails(409, taken),
            delete("/services/create").bare(200),
            delete("/services/web-0").bare(200),
            get("/services/web-0").fails(404, "service web-0 not found"),
        ],
    );
}

#[test]
fn a_version_changes_with_every_write_and_only_the_present_one_is_right() {
    let purser = Purser::swarm("sequence");
    let client = purser.client();
    let secret = format!("/secrets/{}", make_secret(&client, "a", &json!({})));
    let service = format!("/services/{}", make_service(&client, &idle_spec("web")));
    let node = client.get("/nodes").json()[0]["ID"].as_str().expect("a node").to_owned();
    let node = format!("/nodes/{node}");
    let bodies = [
        (secret, json!({"Name": "a", "Labels": {"x": "y"}})),
        (service, idle_spec("web")),
        (node, json!({"Role": "manager", "Availability": "active"})),
        ("/swarm".to_owned(), json!({"Labels": {"x": "y"}})),
    ];
    let stale = "rpc error: code = Unknown desc = update out of sequence";
    for (path, body) in bodies {
        let now = version(&client, &path);
        check(
            &client,
            vec![
                post(format!("{path}/update?version=0"), &body).fails(500, stale),
                post(format!("{path}/update?{now}9"), &body).fails(500, stale),
                post(format!("{path}/update?{now}"), &body).is(200),
                post(format!("{path}/update?{now}"), &body).fails(500, stale),
            ],
        );
        let after = client.get(&path).json();
        assert_ne!(format!("version={}", after["Version"]["Index"]), now, "{path}");
        assert!(after["UpdatedAt"].as_str() > after["CreatedAt"].as_str(), "{path}: {after}");
    }
}
