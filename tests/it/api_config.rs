//! `/configs`: as secrets, but for data that are shown, and the place they land in.

use super::api_table::{
    check, column, delete, filters, get, idle_spec, make_service, masked, post, post_text, version,
};
use super::kit::http::Client;
use super::kit::purser::Purser;
use serde_json::{Value, json};

const INVALID: &str = "rpc error: code = InvalidArgument desc = ";
const BAD_NAME: &str = "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and \
    end character must be [a-zA-Z0-9]";
const BAD_SIZE: &str = "config data must be larger than 0 and less than 1024000 bytes";

/// The base64 of `len` letters.
fn base64_of(len: usize) -> String {
    "QUFB".repeat(len / 3) + ["", "QQ==", "QUE="][len % 3]
}

#[track_caller]
fn make_config(client: &Client, name: &str, text: &str) -> String {
    let body = json!({"Name": name, "Data": text});
    let made = client.post("/configs/create", &body);
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()["ID"].as_str().expect("an id").to_owned()
}

fn with_configs(name: &str, references: &[Value]) -> Value {
    let mut spec = idle_spec(name);
    spec["TaskTemplate"]["ContainerSpec"]["Configs"] = json!(references);
    spec
}

fn granted(id: &str, name: &str, target: &str) -> Value {
    let file = json!({"Name": target, "UID": "0", "GID": "0", "Mode": 292});
    json!({"File": file, "ConfigID": id, "ConfigName": name})
}

#[test]
fn what_a_config_is_made_of_is_checked_in_the_engines_order() {
    let purser = Purser::swarm("config-new");
    let create = |body: Value| post("/configs/create", &body);
    let invalid = |body: Value, text: &str| create(body).fails(400, format!("{INVALID}{text}"));
    let cases = vec![
        invalid(json!({"Data": "eA=="}), "name must be provided"),
        invalid(json!({"Name": "-", "Data": ""}), BAD_NAME),
        invalid(json!({"Name": "x"}), BAD_SIZE),
        invalid(json!({"Name": "x", "Data": null}), BAD_SIZE),
        invalid(json!({"Name": "x", "Data": ""}), BAD_SIZE),
        invalid(json!({"Name": "x", "Data": base64_of(1_024_000)}), BAD_SIZE),
        create(json!({"Name": "largest", "Data": base64_of(1_023_999)})).is(201),
        // A driver is no part of a config, and what is no part of it is passed over.
        create(json!({"Name": "driven", "Data": "eA==", "Driver": {"Name": "vault"}})).is(201),
        create(json!({"Name": "taken", "Data": "eA=="})).shows(201, r#"{"ID":"<id>"}"#),
        create(json!({"Name": "TAKEN", "Data": "eA=="}))
            .fails(409, "rpc error: code = AlreadyExists desc = config TAKEN already exists"),
        post_text("/configs/create", r#"{"Name":"x","Data":"!"}"#)
            .fails(400, "invalid JSON: illegal base64 data at input byte 0"),
        get("/configs/no.such").fails(404, "config no.such not found"),
        delete("/configs/no.such").fails(404, "config no.such not found"),
        post("/configs/no.such/update?version=1", &json!({}))
            .fails(404, "config no.such not found"),
    ];
    check(&purser.client(), cases);
}

#[test]
fn a_config_is_shown_with_its_data() {
    let purser = Purser::swarm("config-show");
    let client = purser.client();
    let body = json!({"Name": "site.conf", "Labels": {"env": "prod"}, "Data": "bGlzdGVuIDgw",
        "Templating": {"Name": "golang"}});
    let id = client.post("/v1.40/configs/create", &body).json()["ID"].clone();
    let id = id.as_str().expect("an id");
    make_config(&client, "plain", "eA==");
    let shown = r#"{"ID":"<id>","Version":{"Index":0},"CreatedAt":"<ts>","UpdatedAt":"<ts>","Spec":{"Name":"site.conf","Labels":{"env":"prod"},"Data":"bGlzdGVuIDgw","Templating":{"Name":"golang"}}}"#;
    let plain = r#"{"ID":"<id>","Version":{"Index":0},"CreatedAt":"<ts>","UpdatedAt":"<ts>","Spec":{"Name":"plain","Labels":{},"Data":"eA=="}}"#;
    let names = |wanted: &Value| column(&client.get(&filters("/configs", wanted)), "/Spec/Name");
    check(
        &client,
        vec![
            get(format!("/configs/{id}")).shows(200, shown),
            get("/configs/SITE.conf").shows(200, shown),
            get(format!("/configs/{}", &id[..20])).shows(200, shown),
            get(filters("/configs", &json!({"name": [""]})))
                .shows(200, format!("[{plain},{shown}]")),
            get(filters("/configs", &json!({"names": ["plain"]})))
                .fails(400, "invalid filter 'names'"),
        ],
    );
    assert_eq!(names(&json!({"name": ["si", "zz"]})), ["site.conf"]);
    assert_eq!(names(&json!({"id": [id]})), ["site.conf"]);
    assert_eq!(names(&json!({"label": ["env=prod"]})), ["site.conf"]);
    assert_eq!(names(&json!({"label": ["env=test"]})), [""; 0]);
    assert_eq!(names(&json!({})).len(), 2);
}

#[test]
fn only_labels_of_a_config_can_be_updated() {
    let purser = Purser::with_args("config-up", &["--engine", "none", "--compat", "strict"]);
    purser.init("127.0.0.1:0");
    let client = purser.client();
    make_config(&client, "a", "b25l");
    let update = |query: &str, body: Value| post(format!("/configs/a/update?{query}"), &body);
    let only = format!("{INVALID}only updates to Labels are allowed");
    check(
        &client,
        vec![
            update("", json!({"Name": "a"})).fails(400, "invalid config version"),
            update("version=-1", json!({"Name": "a"})).fails(400, "invalid config version"),
            update("version=0", json!({"Name": "b"})).fails(400, &*only),
            update("version=0", json!({"Name": "a", "Data": "dHdv"})).fails(400, &*only),
            update("version=0", json!({"Name": "a"}))
                .fails(500, "rpc error: code = Unknown desc = update out of sequence"),
        ],
    );
    let now = version(&client, "/configs/a");
    let body = json!({"Name": "a", "Labels": {"n": "1"}, "Data": "b25l"});
    check(&client, vec![update(&now, body).bare(200)]);
    let spec = client.get("/configs/a").json()["Spec"].clone();
    assert_eq!(spec, json!({"Name": "a", "Labels": {"n": "1"}, "Data": "b25l"}));
}

#[test]
fn references_to_configs_are_checked() {
    let purser = Purser::swarm("config-ref");
    let client = purser.client();
    let a = make_config(&client, "a", "eA==");
    let b = make_config(&client, "b", "eA==");
    let create = |references: &[Value]| post("/services/create", &with_configs("web", references));
    let refused = |references: &[Value], text: &str| {
        create(references).fails(400, format!("{INVALID}{text}"))
    };
    let runtime = json!({"Runtime": {}, "ConfigID": b, "ConfigName": "b"});
    let both = json!({"File": {"Name": "x"}, "Runtime": {}, "ConfigID": a, "ConfigName": "a"});
    let cases = vec![
        create(&[json!({"ConfigID": a, "ConfigName": "a"})])
            .fails(400, "invalid Config: either File or Runtime should be set"),
        create(&[both]).fails(400, "invalid Config: cannot specify both File and Runtime"),
        refused(&[granted("", "a", "t")], "malformed config reference"),
        refused(&[granted(&a, "", "t")], "malformed config reference"),
        refused(
            &[granted(&a, "a", "")],
            "malformed file config reference, invalid target file name provided",
        ),
        refused(
            &[granted(&a, "a", "t"), granted(&b, "b", "t")],
            "config references 'a' and 'b' have a conflicting target: 't'",
        ),
        refused(&[granted("zz", "zz", "t")], "config not found: zz"),
        refused(&[granted(&a, "A", "t")], "config not found: A"),
        refused(&[granted("zz", "zz", "1"), granted("yy", "yy", "2")], "configs not found: zz, yy"),
        create(&[granted(&a, "a", "/etc/a"), granted(&a, "a", "again"), runtime]).is(201),
    ];
    check(&client, cases);
    let shown = masked(&client.get("/services/web").text());
    let first = r#""Configs":[{"File":{"Name":"/etc/a","UID":"0","GID":"0","Mode":292},"ConfigID":"<id>","ConfigName":"a"},"#;
    assert!(shown.contains(first), "{shown}");
    assert!(shown.contains(r#"{"Runtime":{},"ConfigID":"<id>","ConfigName":"b"}"#), "{shown}");
}

#[test]
fn a_config_in_use_stays() {
    let purser = Purser::swarm("config-use");
    let client = purser.client();
    let id = make_config(&client, "site", "eA==");
    make_service(&client, &with_configs("web", &[granted(&id, "site", "/etc/site")]));
    let used = format!("{INVALID}config 'site' is in use by the following service: web");
    let now = version(&client, "/services/web");
    check(
        &client,
        vec![
            delete("/configs/site").fails(400, used),
            post(format!("/services/web/update?{now}"), &idle_spec("web")).is(200),
            delete("/configs/site").bare(204),
            get(format!("/configs/{id}")).fails(404, format!("config {id} not found")),
        ],
    );
}

#[test]
fn configs_are_there_after_a_restart_and_not_readable_in_the_store() {
    let mut purser = Purser::swarm("config-store");
    let canary = "canary-of-a-config-0123456789";
    let data = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, canary);
    let id = make_config(&purser.client(), "kept", &data);
    purser.stop();
    for entry in std::fs::read_dir(purser.data_dir()).expect("a directory") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("a file");
        assert!(!bytes.windows(canary.len()).any(|window| window == canary.as_bytes()));
    }
    purser.start();
    let shown = purser.client().get(&format!("/configs/{id}")).json();
    assert_eq!(shown["Spec"]["Data"], data);
}
