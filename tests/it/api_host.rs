//! What a host without an engine answers for what is an engine's, and what purser says of itself.

use super::api_table::{check, get, post, request};
use super::kit::purser::Purser;
use serde_json::json;

#[test]
fn a_host_without_an_engine_has_nothing_and_says_so() {
    let purser = Purser::serve("host-none");
    let no_engine = "no engine is attached to this manager";
    check(
        &purser.client(),
        vec![
            get("/containers/json").shows(200, "[]"),
            get("/v1.41/images/json?all=1").shows(200, "[]"),
            get("/networks").shows(200, "[]"),
            get("/plugins").shows(200, "[]"),
            get("/volumes").shows(200, r#"{"Volumes":[],"Warnings":null}"#),
            get("/system/df").shows(
                200,
                r#"{"LayersSize":0,"Images":[],"Containers":[],"Volumes":[],"BuildCache":[]}"#,
            ),
            get("/containers/x/json").fails(404, "No such container: x"),
            get("/containers/x/logs").fails(404, "No such container: x"),
            request("DELETE", "/containers/x").fails(404, "No such container: x"),
            get("/images/a/b/json").fails(404, "No such image: a/b"),
            post("/networks/prune", &json!({})).fails(503, "no engine is attached to this manager"),
            get("/networks/x").fails(404, "network x not found"),
            get("/volumes/x").fails(404, "get x: no such volume"),
            get("/plugins/x/json").fails(404, "plugin \"x\" not found"),
            get("/exec/x/json").fails(404, "No such exec instance: x"),
            // Any error makes the docker command go on without a digest.
            get("/distribution/busybox:latest/json").fails(503, no_engine),
            post("/containers/create", &json!({"Image": "i"})).fails(503, no_engine),
            request("POST", "/images/create?fromImage=x").fails(503, no_engine),
            request("POST", "/build").fails(503, no_engine),
            request("POST", "/commit").fails(503, no_engine),
            post("/networks/create", &json!({"Name": "x", "Driver": "bridge"}))
                .fails(503, no_engine),
            post("/networks/prune", &json!({})).fails(503, no_engine),
            post("/volumes/create", &json!({})).fails(503, no_engine),
        ],
    );
}

#[test]
fn version_and_info_say_what_this_is() {
    let purser = Purser::swarm("host-self");
    let client = purser.client();
    let version = client.get("/version").json();
    let own = env!("CARGO_PKG_VERSION");
    for (field, value) in
        [("ApiVersion", "1.55"), ("MinAPIVersion", "1.40"), ("Version", own), ("Os", "linux")]
    {
        assert_eq!(version[field], value, "{version}");
    }
    let details = version["Components"][0]["Details"].as_object().expect("details");
    assert!(details.values().all(serde_json::Value::is_string), "{details:?}");
    let info = client.get("/info").json();
    for (field, value) in [
        ("OSType", json!("linux")),
        ("ServerVersion", json!(own)),
        ("Labels", json!([])),
        ("Containers", json!(0)),
        ("Warnings", json!(null)),
    ] {
        assert_eq!(info[field], value, "{info}");
    }
    for path in ["/livez", "/readyz"] {
        assert_eq!((client.get(path).status, client.get(path).text()), (200, "ok\n".into()));
    }
}
