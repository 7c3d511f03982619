//! What services have of networks: targets, addresses, published ports.

use super::api_network::{endpoint, make, networked, overlay};
use super::api_table::{check, idle_spec, make_service, post, version};
use super::kit::eventually;
use super::kit::purser::Purser;
use serde_json::{Value, json};
use std::time::Duration;

#[test]
fn a_service_is_attached_to_what_it_names() {
    let purser = Purser::swarm("net-service");
    let client = purser.client();
    let id = make(&client, &overlay("back"));
    let ingress = "rpc error: code = InvalidArgument desc = Service cannot be explicitly attached \
         to the ingress network \"ingress\"";
    let create = |name: &str, networks: &[&str]| {
        post("/services/create", &networked(name, networks, json!([])))
    };
    check(
        &client,
        vec![
            create("x", &["nonet"]).fails(500, "network nonet not found"),
            create("x", &["back", "BACK"]).fails(500, "network BACK not found"),
            create("x", &["ingress"]).fails(400, ingress),
            create("by-name", &["back"]).is(201),
            create("by-id", &[&id]).is(201),
            create("by-prefix", &[&id[..20]]).is(201),
            create("host", &["host"]).is(201),
        ],
    );
    for name in ["by-name", "by-id", "by-prefix"] {
        let spec = client.get(&format!("/services/{name}")).json()["Spec"].clone();
        assert_eq!(spec["TaskTemplate"]["Networks"], json!([{"Target": id}]), "{name}");
        let endpoint = endpoint(&client, name);
        assert_eq!(endpoint["VirtualIPs"][0]["NetworkID"], json!(id), "{name}");
        let address = endpoint["VirtualIPs"][0]["Addr"].as_str().unwrap_or_default().to_owned();
        assert!(address.starts_with("10.0.1.") && address.ends_with("/24"), "{address}");
    }
    // The old place of networks, for old clients.
    let mut old = idle_spec("old");
    old["Networks"] = json!([{"Target": "back", "Aliases": ["o"]}]);
    check(&client, vec![post("/v1.43/services/create", &old).is(201)]);
    let networks = json!([{"Target": id, "Aliases": ["o"]}]);
    for (asked, in_old_place) in [("/v1.43", &networks), ("/v1.44", &Value::Null)] {
        for defaults in ["", "?insertDefaults=true"] {
            let shown = client.get(&format!("{asked}/services/old{defaults}")).json();
            assert_eq!(shown["Spec"]["TaskTemplate"]["Networks"], networks, "{asked}{defaults}");
            assert_eq!(shown["Spec"]["Networks"], *in_old_place, "{asked}{defaults}");
        }
    }
}

#[test]
fn ports_are_given_once() {
    let purser = Purser::swarm("net-ports");
    let client = purser.client();
    let port = |target: u16, published: u16, mode: &str| {
        json!({"Protocol": "tcp",
        "TargetPort": target, "PublishedPort": published, "PublishMode": mode})
    };
    let create = |name: &str, ports: Value| post("/services/create", &networked(name, &[], ports));
    let id = make_service(&client, &networked("ep", &[], json!([port(80, 0, "ingress")])));
    let given = endpoint(&client, "ep");
    assert_eq!(given["Ports"], json!([port(80, 30_000, "ingress")]));
    assert_eq!(given["Spec"]["Ports"][0]["PublishedPort"], Value::Null);
    let host = make_service(&client, &networked("ho", &[], json!([port(80, 90, "host")])));
    let taken = "rpc error: code = InvalidArgument desc = port";
    check(
        &client,
        vec![
            create("x", json!([port(1, 30_000, "ingress")])).fails(
                400,
                format!("{taken} '30000' is already in use by service 'ep' ({id}) as an ingress port"),
            ),
            create("x", json!([port(1, 30_000, "host")])).fails(
                400,
                format!("{taken} '30000' is already in use by service 'ep' ({id}) as an ingress port"),
            ),
            create("x", json!([port(1, 90, "ingress")])).fails(
                400,
                format!("{taken} '90' is already in use by service 'ho' ({host}) as a host-published port"),
            ),
            create("other", json!([port(1, 90, "host")])).is(201),
        ],
    );
    // An update that leaves it open keeps it; one that names another gives it back.
    let now = version(&client, "/services/ep");
    let more = networked("ep", &[], json!([port(80, 0, "ingress"), port(81, 0, "ingress")]));
    check(&client, vec![post(format!("/services/ep/update?{now}"), &more).is(200)]);
    eventually("both are given", Duration::from_secs(10), || {
        let ports = client.get("/services/ep").json()["Endpoint"]["Ports"].clone();
        (ports == json!([port(80, 30_000, "ingress"), port(81, 30_001, "ingress")])).then_some(())
    });
    let now = version(&client, "/services/ep");
    let other = networked("ep", &[], json!([port(80, 8080, "ingress")]));
    check(&client, vec![post(format!("/services/ep/update?{now}"), &other).is(200)]);
    eventually("the other is given", Duration::from_secs(10), || {
        let ports = client.get("/services/ep").json()["Endpoint"]["Ports"].clone();
        (ports == json!([port(80, 8080, "ingress")])).then_some(())
    });
    check(&client, vec![create("heir", json!([port(1, 30_000, "ingress")])).is(201)]);
}
