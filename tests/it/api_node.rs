//! `/nodes`, as far as the manager's own node shows it.

use super::api_table::{Case, check, delete, get, masked, post, version};
use super::kit::purser::Purser;
use serde_json::{Value, json};

#[test]
fn the_managers_node_is_shown() {
    let purser = Purser::serve("node");
    let addr = purser.init("127.0.0.1:0");
    let client = purser.client();
    let host = client.get("/info").json()["Name"].clone();
    let host = host.as_str().expect("a name");
    let arch = std::env::consts::ARCH;
    let trust = &client.get("/swarm").json()["TLSInfo"];
    let shown = format!(
        r#"{{"ID":"<id>","Version":{{"Index":0}},"CreatedAt":"<ts>","UpdatedAt":"<ts>","Spec":{{"Labels":{{}},"Role":"manager","Availability":"active"}},"Description":{{"Hostname":"{host}","Platform":{{"Architecture":"{arch}","OS":"linux"}},"Resources":{{}},"Engine":{{}},"TLSInfo":{trust}}},"Status":{{"State":"down","Message":"no engine is attached to this manager","Addr":"127.0.0.1"}},"ManagerStatus":{{"Leader":true,"Reachability":"reachable","Addr":"{addr}"}}}}"#
    );
    let list = client.get("/nodes");
    assert_eq!(masked(&list.text()), format!("[{shown}]\n"));
    let id = list.json()[0]["ID"].as_str().expect("an id").to_owned();
    let info = client.get("/info").json()["Swarm"].clone();
    assert_eq!(info["NodeID"], json!(id));
    assert_eq!(info["NodeAddr"], "127.0.0.1");
    assert_eq!(info["LocalNodeState"], "active");
    assert_eq!(info["ControlAvailable"], true);
    assert_eq!(info["RemoteManagers"], json!([{"NodeID": id, "Addr": addr}]));
    assert_eq!((&info["Nodes"], &info["Managers"]), (&json!(1), &json!(1)));
    let mut swarm = client.get("/swarm").json();
    swarm.as_object_mut().expect("an object").remove("JoinTokens");
    assert_eq!(info["Cluster"], swarm);
    check(
        &client,
        vec![
            get(format!("/nodes/{id}")).shows(200, &*shown),
            get(format!("/nodes/{}", &id[..10])).shows(200, shown),
            get("/nodes/self").fails(404, "node self not found"),
        ],
    );
}

#[test]
fn updates_and_removals_are_refused_in_the_engines_words() {
    let purser = Purser::swarm("node-up");
    let client = purser.client();
    let id = client.get("/nodes").json()[0]["ID"].as_str().expect("an id").to_owned();
    let path = format!("/nodes/{id}");
    let spec = |role: &str, availability: &str| json!({"Role": role, "Availability": availability});
    let update = |query: &str, spec: &Value| post(format!("{path}/update?{query}"), spec);
    let bad = |text: &str, why: &str| {
        format!("invalid node version '{text}': strconv.ParseUint: parsing \"{text}\": {why}")
    };
    let good = spec("manager", "active");
    let last = "rpc error: code = FailedPrecondition desc = attempting to demote the last manager of \
        the swarm";
    let stays = format!(
        "rpc error: code = FailedPrecondition desc = node {id} is a cluster manager and is a member \
         of the raft cluster. It must be demoted to worker before removal"
    );
    let mut cases: Vec<Case> = vec![
        update("", &good).fails(400, bad("", "invalid syntax")),
        update("version=-1", &good).fails(400, bad("-1", "invalid syntax")),
        update("version=18446744073709551616", &good)
            .fails(400, bad("18446744073709551616", "value out of range")),
        update("version=0", &json!({})).fails(400, "invalid Role: \"\""),
        update("version=0", &spec("zz", "active")).fails(400, "invalid Role: \"zz\""),
        update("version=0", &spec("Boss", "active")).fails(400, "invalid Role: \"Boss\""),
        update("version=0", &spec("manager", "")).fails(400, "invalid Availability: \"\""),
        update("version=0", &spec("manager", "zz")).fails(400, "invalid Availability: \"zz\""),
        update("version=0", &spec("worker", "active")).fails(400, last),
        update("version=0", &good)
            .fails(500, "rpc error: code = Unknown desc = update out of sequence"),
    ];
    for force in ["", "?force=0", "?force=1", "?force=true"] {
        cases.push(delete(format!("{path}{force}")).fails(400, &*stays));
    }
    check(&client, cases);
    // The whole spec is replaced.
    for (sent, shown) in [
        (
            json!({"Name": "n", "Labels": {"a": "b"}, "Role": "manager", "Availability": "drain"}),
            json!({"Name": "n", "Labels": {"a": "b"}, "Role": "manager", "Availability": "drain"}),
        ),
        (
            json!({"Role": "manager", "Availability": "pause"}),
            json!({"Labels": {}, "Role": "manager", "Availability": "pause"}),
        ),
    ] {
        let now = version(&client, &path);
        check(&client, vec![update(&now, &sent).bare(200)]);
        assert_eq!(client.get(&path).json()["Spec"], shown);
    }
}
