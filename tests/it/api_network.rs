//! `/networks`: what a network of the swarm is shown as, and every refusal.

use super::api_table::{
    Case, check, column, delete, filters, get, idle_spec, make_service, post, version,
};
use super::kit::eventually;
use super::kit::http::Client;
use super::kit::purser::Purser;
use serde_json::{Value, json};
use std::time::Duration;

pub fn overlay(name: &str) -> Value {
    json!({"Name": name, "Driver": "overlay"})
}

/// Makes an overlay and gives its id.
#[track_caller]
pub fn make(client: &Client, body: &Value) -> String {
    let answer = client.post("/networks/create", body);
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.json()["Warning"], "");
    answer.json()["Id"].as_str().expect("an id").to_owned()
}

fn with(name: &str, more: Value) -> Value {
    let mut body = overlay(name);
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more);
    }
    body
}

fn subnet(config: Value) -> Value {
    json!({"IPAM": {"Config": [config]}})
}

/// A service with this laid into its template and its endpoint.
pub fn networked(name: &str, networks: &[&str], ports: Value) -> Value {
    let mut spec = idle_spec(name);
    let targets: Vec<Value> = networks.iter().map(|name| json!({"Target": name})).collect();
    spec["TaskTemplate"]["Networks"] = json!(targets);
    spec["EndpointSpec"] = json!({"Ports": ports});
    spec
}

/// The endpoint of a service, once it has one.
#[track_caller]
pub fn endpoint(client: &Client, name: &str) -> Value {
    eventually(&format!("{name} is reachable"), Duration::from_secs(10), || {
        let endpoint = client.get(&format!("/services/{name}")).json()["Endpoint"].clone();
        endpoint["VirtualIPs"].is_array().then_some(endpoint)
    })
}

#[test]
fn a_new_swarm_has_the_network_of_the_routing_mesh() {
    let purser = Purser::swarm("net-fresh");
    let client = purser.client();
    let ingress = r#"{"Name":"ingress","Id":"<id>","Created":"<ts>","Scope":"swarm","Driver":"overlay","EnableIPv4":true,"EnableIPv6":false,"IPAM":{"Driver":"default","Options":null,"Config":[{"Subnet":"10.0.0.0/24","Gateway":"10.0.0.1"}]},"Internal":false,"Attachable":false,"Ingress":true,"ConfigFrom":{"Network":""},"ConfigOnly":false,"Options":{"com.docker.network.driver.overlay.vxlanid_list":"4096"},"Labels":{}"#;
    let shown = format!("{ingress},\"Containers\":{{}}}}");
    // But the docker command finds out its id.
    let host = client.get("/networks/host?scope=swarm").json();
    assert_eq!((&host["Name"], &host["Driver"]), (&json!("host"), &json!("host")));
    check(
        &client,
        vec![
            get("/networks").shows(200, format!("[{ingress}}}]")),
            get("/networks/ingress").shows(200, &shown),
            get("/networks/ingress?scope=swarm&verbose=true").shows(200, &shown),
            get("/networks/ingress?scope=local").fails(404, "network ingress not found"),
            // What stands for a network of every engine is not shown.
            get("/networks/host").fails(404, "network host not found"),
            get("/networks/nope?scope=swarm").fails(404, "network nope not found"),
            delete("/networks/host").fails(404, "network host not found"),
        ],
    );
}

#[test]
fn a_network_is_shown_with_what_it_was_given() {
    let purser = Purser::swarm("net-made");
    let client = purser.client();
    let one = make(
        &client,
        &with("ov1", json!({"Attachable": true, "Labels": {"a": "b"}, "CheckDuplicate": true})),
    );
    let text = r#"{"Name":"ov1","Id":"<id>","Created":"<ts>","Scope":"swarm","Driver":"overlay","EnableIPv4":true,"EnableIPv6":false,"IPAM":{"Driver":"default","Options":null,"Config":[{"Subnet":"10.0.1.0/24","Gateway":"10.0.1.1"}]},"Internal":false,"Attachable":true,"Ingress":false,"ConfigFrom":{"Network":""},"ConfigOnly":false,"Options":{"com.docker.network.driver.overlay.vxlanid_list":"4097"},"Labels":{"a":"b"},"Containers":{}}"#;
    let config = json!({"Subnet": "10.9.0.0/16", "IPRange": "10.9.1.0/24", "Gateway": "10.9.0.9",
        "AuxiliaryAddresses": {"printer": "10.9.1.7"}});
    let options = json!({"encrypted": ""});
    make(
        &client,
        &with("own", json!({"IPAM": {"Config": [config]}, "Options": options, "Internal": true})),
    );
    check(&client, vec![get(format!("/networks/{}", &one[..20])).shows(200, text)]);
    let own = client.get("/networks/own").json();
    assert_eq!(own["IPAM"]["Config"][0], config);
    assert_eq!(own["Options"]["encrypted"], "");
    assert_eq!(own["Options"]["com.docker.network.driver.overlay.vxlanid_list"], "4098");
    let six = json!({"Subnet": "fd00:7::/64", "Gateway": "fd00:7::1"});
    let no_ipv6 = "IPv6 is not supported on overlay networks: their nodes would give the same \
                   addresses to several tasks";
    for wish in [
        json!({"EnableIPv6": true}),
        json!({"IPAM": {"Config": [six]}}),
        json!({"EnableIPv6": true, "IPAM": {"Config": [six]}}),
    ] {
        check(&client, vec![post("/networks/create", &with("six", wish)).fails(501, no_ipv6)]);
    }
    make(&client, &with("six", json!({"IPAM": {"Options": {"x": "y"}}})));
    let options = client.get("/networks/six").json()["IPAM"]["Options"].clone();
    assert_eq!(options, json!({"com.docker.network.ipam.serial": "true", "x": "y"}));

    let names = |filter: Value| {
        let mut names = column(&client.get(&filters("/networks", &filter)), "/Name");
        names.sort();
        names.join(" ")
    };
    for (filter, expected) in [
        (json!({}), "ingress ov1 own six"),
        (json!({"name": ["o"]}), "ov1 own"),
        (json!({"name": {"^ov1$": true}}), "ov1"),
        (json!({"name": ["^(ov1|six)$"]}), "ov1 six"),
        (json!({"id": [&one[..20]]}), "ov1"),
        (json!({"label": ["a"]}), "ov1"),
        (json!({"label": ["a="]}), ""),
        (json!({"label": ["a=b"]}), "ov1"),
        (json!({"driver": ["bridge"]}), ""),
        (json!({"scope": ["swarm"], "driver": ["overlay"]}), "ingress ov1 own six"),
        (json!({"scope": ["local"]}), ""),
        (json!({"type": ["builtin"]}), ""),
        (json!({"type": ["custom"]}), "ingress ov1 own six"),
        (json!({"dangling": ["true"]}), "ov1 own six"),
        (json!({"dangling": ["false"]}), "ingress"),
    ] {
        assert_eq!(names(filter.clone()), expected, "{filter}");
    }
    check(
        &client,
        vec![
            get(filters("/networks", &json!({"bogus": ["x"]})))
                .fails(400, "invalid filter 'bogus'"),
            get(filters("/networks", &json!({"type": ["x"]})))
                .fails(400, "invalid filter 'type=x'"),
            delete("/networks/ov1").is(204),
            delete("/networks/ov1").fails(404, "network ov1 not found"),
        ],
    );
}

#[test]
fn what_a_network_may_not_be_is_refused() {
    let purser = Purser::swarm("net-refused");
    let client = purser.client();
    make(&client, &overlay("ov1"));
    let ingress = client.get("/networks/ingress").json()["Id"].as_str().expect("an id").to_owned();
    let refused = |body: Value, status, text: &str| -> Case {
        post("/networks/create", &body).fails(status, text)
    };
    let invalid = |body: Value, text: &str| {
        let text = format!("rpc error: code = InvalidArgument desc = {text}");
        post("/networks/create", &body).fails(400, text)
    };
    check(
        &client,
        vec![
            refused(overlay("ov1"), 409, "network with name ov1 already exists"),
            refused(
                json!({"Name": "ov1", "Driver": "bridge"}),
                409,
                "network with name ov1 already exists",
            ),
            refused(
                overlay("OV1"),
                500,
                "rpc error: code = Unknown desc = name conflicts with an existing object",
            ),
            refused(overlay(""), 400, "invalid name: name is empty"),
            refused(overlay("host"), 403, "operation is not permitted on predefined host network"),
            invalid(overlay("a.b"), "name must be valid as a DNS name component"),
            invalid(
                with("x", json!({"Ingress": true, "Attachable": true})),
                "ingress network cannot be attachable",
            ),
            refused(
                with("x", json!({"Ingress": true})),
                409,
                &format!(
                    "rpc error: code = AlreadyExists desc = ingress network ({ingress}) is already \
                     present"
                ),
            ),
            refused(
                with("x", json!({"Labels": {"com.docker.swarm.predefined": "true"}})),
                403,
                "rpc error: code = PermissionDenied desc = label com.docker.swarm.predefined is \
                 for internally created predefined networks and cannot be applied by users",
            ),
            refused(
                with("x", json!({"ConfigFrom": {"Network": "y"}})),
                501,
                "networks of the swarm cannot take their configuration from one of each node",
            ),
            refused(
                with("x", json!({"IPAM": {"Driver": "zz"}})),
                501,
                "IPAM driver \"zz\" is not supported in a swarm",
            ),
            refused(
                json!({"Name": "x", "Scope": "swarm", "Driver": "weave"}),
                501,
                "network driver \"weave\" is not supported in a swarm",
            ),
            refused(
                json!({"Name": "x", "Driver": "bridge"}),
                503,
                "no engine is attached to this manager",
            ),
        ],
    );
}

#[test]
fn subnets_that_cannot_be_are_refused() {
    let purser = Purser::swarm("net-subnets");
    let client = purser.client();
    make(&client, &overlay("ov1"));
    let ipam = |config: Value, text: &str| {
        let start = "rpc error: code = InvalidArgument desc = ipam configuration:";
        post("/networks/create", &with("x", subnet(config))).fails(400, format!("{start} {text}"))
    };
    let ten = "10.9.0.0/24";
    check(
        &client,
        vec![
            ipam(json!({}), "invalid subnet "),
            ipam(json!({"Subnet": "x"}), "invalid subnet x"),
            ipam(json!({"Subnet": ten, "IPRange": "x"}), "invalid range x"),
            ipam(
                json!({"Subnet": ten, "IPRange": "10.8.0.0/28"}),
                "subnet 10.9.0.0/24 does not contain range 10.8.0.0/28",
            ),
            ipam(json!({"Subnet": ten, "Gateway": "x"}), "invalid gateway x"),
            ipam(
                json!({"Subnet": ten, "Gateway": "10.8.0.1"}),
                "subnet 10.9.0.0/24 does not contain gateway 10.8.0.1",
            ),
            ipam(
                json!({"Subnet": "10.0.1.64/26"}),
                "subnet 10.0.1.64/26 overlaps with 10.0.1.0/24 of network ov1",
            ),
            ipam(
                json!({"Subnet": "10.9.0.0/31"}),
                "subnet 10.9.0.0/31 has no room for a gateway and a task",
            ),
        ],
    );
}

#[test]
fn a_network_in_use_stays() {
    let purser = Purser::swarm("net-used");
    let client = purser.client();
    let (one, _) = (make(&client, &overlay("one")), make(&client, &overlay("two")));
    let web = make_service(&client, &networked("web", &["one"], json!([])));
    let mesh = make_service(&client, &networked("mesh", &[], json!([{"TargetPort": 80}])));
    let used = "rpc error: code = FailedPrecondition desc =";
    check(
        &client,
        vec![
            delete("/networks/one")
                .fails(400, format!("{used} network {one} is in use by service {web}")),
            delete("/networks/ingress").fails(
                400,
                format!(
                    "{used} ingress network cannot be removed because service {mesh} depends on it"
                ),
            ),
            delete("/networks/two").is(204),
            delete("/services/web").is(200),
            delete("/services/mesh").is(200),
            delete("/networks/one").is(204),
            delete("/networks/ingress").is(204),
            get("/networks").shows(200, "[]"),
            post("/services/create", &networked("mesh", &[], json!([{"TargetPort": 80}]))).fails(
                400,
                format!("{used} service needs ingress network, but no ingress network is present"),
            ),
            post("/networks/create", &with("mesh", json!({"Ingress": true}))).is(201),
            post("/services/create", &networked("mesh", &[], json!([{"TargetPort": 80}]))).is(201),
        ],
    );
}

#[test]
fn networks_that_nobody_uses_are_pruned() {
    let purser = Purser::swarm("net-prune");
    let client = purser.client();
    for (name, labels) in
        [("used", json!({})), ("kept", json!({"keep": "yes"})), ("x", json!({})), ("y", json!({}))]
    {
        make(&client, &with(name, json!({"Labels": labels})));
    }
    make_service(&client, &networked("web", &["used"], json!([])));
    let prune = |filter: Value| post(filters("/networks/prune", &filter), &json!({}));
    let none = r#"{"NetworksDeleted":null}"#;
    check(
        &client,
        vec![
            prune(json!({"name": ["x"]})).fails(400, "invalid filter 'name'"),
            prune(json!({"until": ["soon"]})).fails(400, "invalid filter 'until=soon'"),
            prune(json!({"until": ["1h"]})).shows(200, none),
            prune(json!({"label": ["keep=no"]})).shows(200, none),
            prune(json!({"label!": ["keep"]})).is(200),
        ],
    );
    let names = || {
        let mut names = column(&client.get("/networks"), "/Name");
        names.sort();
        names.join(" ")
    };
    assert_eq!(names(), "ingress kept used");
    check(
        &client,
        vec![
            prune(json!({"label": ["keep=yes"], "until": ["0s"]}))
                .shows(200, r#"{"NetworksDeleted":["kept"]}"#),
            prune(json!({})).shows(200, none),
        ],
    );
    assert_eq!(names(), "ingress used");
}

#[test]
fn a_network_within_each_node_has_no_addresses_to_give() {
    let purser = Purser::swarm("net-local");
    let client = purser.client();
    let body = json!({"Name": "lan", "Driver": "macvlan", "Scope": "swarm",
        "Options": {"parent": "eth0"}});
    make(&client, &body);
    let shown = client.get("/networks/lan").json();
    assert_eq!((&shown["Driver"], &shown["Scope"]), (&json!("macvlan"), &json!("swarm")));
    assert_eq!(shown["IPAM"]["Config"], json!([]));
    assert_eq!(shown["Options"], json!({"parent": "eth0"}));
    make_service(&client, &networked("web", &["lan"], json!([{"TargetPort": 80}])));
    let places = endpoint(&client, "web")["VirtualIPs"].as_array().map_or(0, Vec::len);
    assert_eq!(places, 1, "that of the routing mesh");
    let no_engine = "no engine is attached to this manager";
    check(
        &client,
        vec![
            delete("/services/web").is(200),
            delete("/networks/lan").is(204),
            // What concerns containers is an engine's.
            post("/networks/prune", &json!({})).is(200),
            post("/networks/ingress/connect", &json!({"Container": "x"})).fails(503, no_engine),
        ],
    );
}

#[test]
fn a_swarm_gives_subnets_from_its_own_pools() {
    let purser = Purser::serve("net-pools");
    let client = purser.client();
    let init = json!({"ListenAddr": "127.0.0.1:0", "AdvertiseAddr": "127.0.0.1:1",
        "DefaultAddrPool": ["10.20.0.0/28"], "SubnetSize": 29, "DataPathPort": 7789});
    let subnet = |name: &str| {
        let network = client.get(&format!("/networks/{name}")).json();
        network["IPAM"]["Config"][0]["Subnet"].as_str().unwrap_or_default().to_owned()
    };
    check(
        &client,
        vec![
            post("/swarm/init", &init).is(200),
            post("/networks/create", &overlay("one")).is(201),
            post("/networks/create", &overlay("two")).fails(
                500,
                "rpc error: code = ResourceExhausted desc = no free subnet with a prefix of 29 is \
                 left in 10.20.0.0/28",
            ),
        ],
    );
    assert_eq!((&*subnet("ingress"), &*subnet("one")), ("10.20.0.0/29", "10.20.0.8/29"));
    check(
        &client,
        vec![delete("/networks/one").is(204), post("/networks/create", &overlay("two")).is(201)],
    );
    assert_eq!(subnet("two"), "10.20.0.8/29");
}

#[test]
fn what_becomes_of_a_network_is_an_event() {
    let purser = Purser::swarm("net-event");
    let client = purser.client();
    let id = make(&client, &overlay("back"));
    make_service(&client, &networked("web", &["back"], json!([])));
    endpoint(&client, "web");
    let mut spec = networked("web", &["back"], json!([]));
    spec["Mode"] = json!({"Replicated": {"Replicas": 2}});
    let now = version(&client, "/services/web");
    check(
        &client,
        vec![
            post(format!("/services/web/update?{now}"), &spec).is(200),
            delete("/services/web").is(200),
            delete("/networks/back").is(204),
        ],
    );
    let wish = json!({"type": ["network"]});
    let query = filters("/events", &wish).replace("?", "?until=4000000000&");
    let mut flow = client.open(&query);
    let events = flow.until("its removal", |answer| {
        let events: Vec<Value> =
            answer.text().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        events.iter().any(|event| event["Action"] == "remove").then_some(events)
    });
    let words: Vec<String> = events
        .iter()
        .map(|event| {
            let name = event["Actor"]["Attributes"]["name"].as_str().unwrap_or_default();
            format!("{} {name}", event["Action"].as_str().unwrap_or_default())
        })
        .collect();
    // Addresses that it gave out are nobody's news.
    assert_eq!(words, ["create ingress", "create back", "remove back"]);
    assert!(events[1..].iter().all(|event| event["Actor"]["ID"] == json!(id)));
    assert!(events.iter().all(|event| event["scope"] == "swarm"), "{events:?}");
}

#[test]
fn networks_and_addresses_outlive_a_restart() {
    let mut purser = Purser::swarm("net-restart");
    let client = purser.client();
    make(&client, &overlay("back"));
    make_service(&client, &networked("web", &["back"], json!([{"TargetPort": 80}])));
    let before = (endpoint(&client, "web"), client.get("/networks").json());
    purser.kill();
    purser.start();
    let after = (endpoint(&client, "web"), client.get("/networks").json());
    assert_eq!(before, after);
    make_service(&client, &networked("next", &["back"], json!([])));
    let next = endpoint(&client, "next")["VirtualIPs"][0]["Addr"].clone();
    assert_eq!(next, "10.0.1.3/24", "{before:?}");
}
