//! `/secrets`: every answer, every refusal, and that a payload never comes back.

use super::api_table::{
    check, column, delete, filters, get, idle_spec, make_secret, make_service, masked, post,
    post_text, version,
};
use super::kit::http::Client;
use super::kit::purser::Purser;
use serde_json::{Value, json};

const INVALID: &str = "rpc error: code = InvalidArgument desc = ";
const BAD_NAME: &str = "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and \
    end character must be [a-zA-Z0-9]";
const BAD_SIZE: &str = "secret data must be larger than 0 and less than 512000 bytes";

fn base64_of(len: usize) -> String {
    assert_eq!(len % 3, 0, "so that no padding is needed");
    "QUFB".repeat(len / 3)
}

#[test]
fn what_a_secret_is_made_of_is_checked_in_the_engines_order() {
    let purser = Purser::swarm("secret-new");
    let client = purser.client();
    let create = |body: Value| post("/secrets/create", &body);
    let invalid = |body: Value, text: &str| create(body).fails(400, format!("{INVALID}{text}"));
    let mut cases = vec![
        invalid(json!({"Data": "eA=="}), "name must be provided"),
        invalid(json!({"Name": "", "Data": ""}), "name must be provided"),
        // A fault of the name hides one of the payload.
        invalid(json!({"Name": "-", "Data": ""}), BAD_NAME),
        invalid(json!({"Name": "x"}), BAD_SIZE),
        invalid(json!({"Name": "x", "Data": null}), BAD_SIZE),
        invalid(json!({"Name": "x", "Data": ""}), BAD_SIZE),
        invalid(json!({"Name": "x", "Data": base64_of(512_001)}), BAD_SIZE),
        invalid(json!({"Name": "x", "Data": base64_of(511_998) + "QUE="}), BAD_SIZE),
        invalid(json!({"Name": "x", "Data": base64_of(3 * 1024 * 1024)}), BAD_SIZE),
        create(json!({"Name": "largest", "Data": base64_of(511_998) + "QQ=="})).is(201),
        invalid(json!({"Name": "x", "Driver": {}}), "secret driver must have a name"),
        invalid(json!({"Name": "", "Driver": {}}), "name must be provided"),
        // The Engine looks for the plugin for a while; there is none to wait for here.
        create(json!({"Name": "x", "Driver": {"Name": "vault"}}))
            .fails(500, "rpc error: code = Unknown desc = plugin \"vault\" not found"),
        create(json!({"Name": "taken", "Data": "eA=="})).shows(201, r#"{"ID":"<id>"}"#),
        create(json!({"Name": "TAKEN", "Data": "eA=="}))
            .fails(409, "rpc error: code = AlreadyExists desc = secret TAKEN already exists"),
        invalid(json!({"Name": "taken", "Data": ""}), BAD_SIZE),
        get("/secrets/no.such").fails(404, "secret no.such not found"),
    ];
    for name in ["-a", "a-", ".a", "a.", "_a", "a_", "a b", "a/b", "\u{e4}", "a\n", &"x".repeat(65)]
    {
        cases.push(invalid(json!({"Name": name, "Data": "eA=="}), BAD_NAME));
    }
    for name in ["a..b", "a--b_c.d", "0", &"x".repeat(64)] {
        cases.push(create(json!({"Name": name, "Data": "eA=="})).is(201));
    }
    check(&client, cases);
}

#[test]
fn a_secret_is_shown_without_its_payload() {
    let purser = Purser::swarm("secret-show");
    let client = purser.client();
    let payload = "dGhlIHBheWxvYWQgaXRzZWxm";
    let body = json!({"Name": "db-pass", "Labels": {"env": "prod", "x": "", "a b": "c"},
        "Data": payload, "Templating": {"Name": "golang", "Options": {"k": "v"}}});
    let id = client.post("/v1.40/secrets/create", &body).json()["ID"].clone();
    let id = id.as_str().expect("an id");
    let shown = r#"{"ID":"<id>","Version":{"Index":0},"CreatedAt":"<ts>","UpdatedAt":"<ts>","Spec":{"Name":"db-pass","Labels":{"a b":"c","env":"prod","x":""},"Templating":{"Name":"golang","Options":{"k":"v"}}}}"#;
    let plain = r#"{"ID":"<id>","Version":{"Index":0},"CreatedAt":"<ts>","UpdatedAt":"<ts>","Spec":{"Name":"plain","Labels":{}}}"#;
    make_secret(&client, "plain", &json!(null));
    let list = filters("/secrets", &json!({"name": [""]}));
    check(
        &client,
        vec![
            get(format!("/secrets/{id}")).shows(200, shown),
            get("/secrets/DB-PASS").shows(200, shown),
            get("/v1.40/secrets/db-pass").shows(200, shown),
            get("/secrets/plain").shows(200, plain),
            get(list).shows(200, format!("[{shown},{plain}]")),
            get(filters("/secrets", &json!({"names": ["nope"]}))).shows(200, "[]"),
        ],
    );
    for version in ["", "/v1.40", "/v1.55"] {
        for path in
            ["/secrets", "/secrets/db-pass", "/services", "/info", "/events?since=1&until=2"]
        {
            let text = client.get(&format!("{version}{path}")).text();
            assert!(!text.contains("Data\"") && !text.contains(payload), "{version}{path}: {text}");
        }
    }
    assert!(!purser.log().contains("payload itself") && !purser.log().contains(payload));
    let made = client.get(&format!("/secrets/{id}")).json();
    assert_eq!(made["CreatedAt"], made["UpdatedAt"]);
}

#[test]
fn only_labels_of_a_secret_can_be_updated() {
    let purser = Purser::with_args("secret-up", &["--engine", "none", "--compat", "strict"]);
    purser.init("127.0.0.1:0");
    let client = purser.client();
    let id = make_secret(&client, "a", &json!({"x": "y"}));
    let path = format!("/secrets/{id}");
    let update = |query: &str, body: Value| post(format!("{path}/update?{query}"), &body);
    let only = format!("{INVALID}only updates to Labels are allowed");
    let mut cases = Vec::new();
    for bad in [
        "",
        "version=",
        "version=-1",
        "version=+1",
        "version=x",
        "version=1.0",
        "version=18446744073709551616",
    ] {
        cases.push(update(bad, json!({"Name": "a"})).fails(400, "invalid secret version"));
    }
    // What may not change is looked at before the version is.
    for body in [
        json!({}),
        json!({"Name": "b"}),
        json!({"Name": "A"}),
        json!({"Name": "a", "Data": "b3RoZXI="}),
        json!({"Name": "a", "Data": "cHVyc2VyIA=="}),
    ] {
        cases.push(update("version=0", body).fails(400, &*only));
    }
    let stale = "rpc error: code = Unknown desc = update out of sequence";
    cases.push(update("version=0", json!({"Name": "a"})).fails(500, stale));
    check(&client, cases);
    // Absent, null, empty and equal payloads are no change of it; drivers are passed over.
    let labels = || client.get(&path).json()["Spec"].clone();
    for (body, wanted) in [
        (json!({"Name": "a", "Labels": {"n": "1"}}), json!({"n": "1"})),
        (json!({"Name": "a", "Data": null}), json!({})),
        (json!({"Name": "a", "Labels": {"n": "2"}, "Data": ""}), json!({"n": "2"})),
        (json!({"Name": "a", "Labels": {"n": "3"}, "Data": "cHVyc2Vy"}), json!({"n": "3"})),
        (
            json!({"Name": "a", "Labels": null, "Driver": {"Name": "x"}, "Templating": {"Name": "golang"}}),
            json!({}),
        ),
    ] {
        let now = version(&client, &path);
        check(&client, vec![update(&now, body).bare(200)]);
        assert_eq!(labels(), json!({"Name": "a", "Labels": wanted}));
    }
    // By name as well, and while in use.
    make_service(
        &client,
        &with_secrets("web", &[json!({"File": {"Name": "t"}, "SecretID": id, "SecretName": "a"})]),
    );
    let now = version(&client, &path);
    check(&client, vec![post(format!("/secrets/a/update?{now}"), &json!({"Name": "a"})).bare(200)]);
}

fn with_secrets(name: &str, references: &[Value]) -> Value {
    let mut spec = idle_spec(name);
    spec["TaskTemplate"]["ContainerSpec"]["Secrets"] = json!(references);
    spec
}

#[test]
fn references_to_secrets_are_checked() {
    let purser = Purser::swarm("secret-ref");
    let client = purser.client();
    let a = make_secret(&client, "a", &json!({}));
    let b = make_secret(&client, "b", &json!({}));
    let file = |target: &str| json!({"Name": target, "UID": "0", "GID": "0", "Mode": 292});
    let reference = |id: &str, name: &str, target: &str| json!({"File": file(target), "SecretID": id, "SecretName": name});
    let create = |references: &[Value]| post("/services/create", &with_secrets("web", references));
    let refused = |references: &[Value], text: &str| {
        create(references).fails(400, format!("{INVALID}{text}"))
    };
    let targetless = "malformed file secret reference, invalid target file name provided";
    let mut cases = vec![
        refused(&[json!({})], "malformed secret reference"),
        refused(&[reference("", "a", "t")], "malformed secret reference"),
        refused(&[reference(&a, "", "t")], "malformed secret reference"),
        refused(
            &[json!({"SecretID": a, "SecretName": "a"})],
            "malformed secret reference, no target provided",
        ),
        refused(&[reference(&a, "a", "")], targetless),
        refused(
            &[reference(&a, "a", "t1"), reference(&b, "b", "t1")],
            "secret references 'a' and 'b' have a conflicting target: 't1'",
        ),
        refused(&[reference("zz", "zz", "t")], "secret not found: zz"),
        // A name in the place of an id, the beginning of an id, and names of another case are none.
        refused(&[reference("a", "a", "t")], "secret not found: a"),
        refused(&[reference(&a[..24], "a", "t")], "secret not found: a"),
        refused(&[reference(&a, "A", "t")], "secret not found: A"),
        refused(&[reference(&a, "b", "t")], "secret not found: b"),
        refused(
            &[reference("zz", "zz", "1"), reference(&a, "a", "2"), reference("yy", "yy", "3")],
            "secrets not found: zz, yy",
        ),
    ];
    // What is shown of a reference is what was sent.
    let good = [
        reference(&a, "a", "db-pass"),
        reference(&a, "a", "again"),
        reference(&b, "b", "/abs/path"),
        json!({"File": {"Name": "sub/../x", "UID": "abc", "GID": "", "Mode": 0}, "SecretID": b, "SecretName": "b"}),
    ];
    cases.push(create(&good).is(201));
    check(&client, cases);
    let shown = client.get("/services/web");
    let shown_refs = shown.json()["Spec"]["TaskTemplate"]["ContainerSpec"]["Secrets"].clone();
    assert_eq!(shown_refs, json!(good));
    let first = r#""Secrets":[{"File":{"Name":"db-pass","UID":"0","GID":"0","Mode":292},"SecretID":"<id>","SecretName":"a"},"#;
    assert!(masked(&shown.text()).contains(first), "{}", shown.text());
}

#[test]
fn a_secret_in_use_stays() {
    let purser = Purser::swarm("secret-use");
    let client = purser.client();
    let id = make_secret(&client, "db-pass", &json!({}));
    let spec = |name: &str| {
        with_secrets(
            name,
            &[json!({"File": {"Name": "t"}, "SecretID": id, "SecretName": "db-pass"})],
        )
    };
    make_service(&client, &spec("web"));
    let one = format!("{INVALID}secret 'db-pass' is in use by the following service: web");
    check(&client, vec![delete("/secrets/db-pass").fails(400, one)]);
    make_service(&client, &spec("web2"));
    let answer = client.delete(&format!("/secrets/{id}"));
    let both = ["web, web2", "web2, web"].map(|names| {
        format!("{INVALID}secret 'db-pass' is in use by the following services: {names}")
    });
    assert!(answer.status == 400 && both.contains(&answer.message()), "{}", answer.text());
    // Only what a service references now counts, not what it referenced before.
    let now = version(&client, "/services/web2");
    check(
        &client,
        vec![
            post(format!("/services/web2/update?{now}"), &idle_spec("web2")).is(200),
            delete("/services/web").bare(200),
            delete(format!("/secrets/{id}")).bare(204),
            delete(format!("/secrets/{id}")).fails(404, format!("secret {id} not found")),
            post_text("/secrets/create", r#"{"Name":"db-pass","Data":"eA=="}"#).is(201),
        ],
    );
    assert_eq!(column(&client.get("/secrets"), "/Spec/Name"), ["db-pass"]);
}

#[test]
fn a_secret_is_rotated_as_clients_do_it() {
    let purser = Purser::swarm("secret-rot");
    let client = purser.client();
    let grant = |client: &Client, name: &str| {
        let id = make_secret(client, name, &json!({}));
        with_secrets(
            "web",
            &[json!({"File": {"Name": "pass"}, "SecretID": id, "SecretName": name})],
        )
    };
    make_service(&client, &grant(&client, "pass-1"));
    let next = grant(&client, "pass-2");
    let now = version(&client, "/services/web");
    check(
        &client,
        vec![
            delete("/secrets/pass-1").is(400),
            post(format!("/services/web/update?{now}"), &next).is(200),
            delete("/secrets/pass-1").bare(204),
            delete("/secrets/pass-2").is(400),
        ],
    );
}
