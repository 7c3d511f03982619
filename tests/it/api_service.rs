//! `/services`: how they are shown, updated and removed, and what versions of the API change.

use super::api_table::{
    check, delete, get, idle_spec, make_secret, make_service, masked, post, request, version,
};
use super::kit::eventually;
use super::kit::purser::Purser;
use serde_json::{Value, json};
use std::time::Duration;

const UNSEQUENCED: &str = "rpc error: code = Unknown desc = update out of sequence";

/// The smallest service, as it is sent and as it is shown.
const MINIMAL: &str = r#"{"Name":"min","TaskTemplate":{"ContainerSpec":{"Image":"busybox:latest","Command":["sleep","1000"]}}}"#;
const MINIMAL_SHOWN: &str = r#"{"ID":"<id>","Version":{"Index":0},"CreatedAt":"<ts>","UpdatedAt":"<ts>","Spec":{"Name":"min","Labels":{},"TaskTemplate":{"ContainerSpec":{"Image":"busybox:latest","Command":["sleep","1000"],"Isolation":"default"},"ForceUpdate":0,"Runtime":"container"},"Mode":{"Replicated":{"Replicas":1}}},"Endpoint":{"Spec":{}}}"#;
const MINIMAL_FILLED: &str = r#"{"ID":"<id>","Version":{"Index":0},"CreatedAt":"<ts>","UpdatedAt":"<ts>","Spec":{"Name":"min","Labels":{},"TaskTemplate":{"ContainerSpec":{"Image":"busybox:latest","Command":["sleep","1000"],"StopGracePeriod":10000000000,"DNSConfig":{},"Isolation":"default"},"Resources":{},"RestartPolicy":{"Condition":"any","Delay":5000000000,"MaxAttempts":0},"Placement":{},"ForceUpdate":0,"Runtime":"container"},"Mode":{"Replicated":{"Replicas":1}},"UpdateConfig":{"Parallelism":1,"FailureAction":"pause","Monitor":5000000000,"MaxFailureRatio":0,"Order":"stop-first"},"RollbackConfig":{"Parallelism":1,"FailureAction":"pause","Monitor":5000000000,"MaxFailureRatio":0,"Order":"stop-first"}},"Endpoint":{"Spec":{}}}"#;

#[test]
fn a_service_is_shown_as_it_was_sent_and_with_defaults_when_asked() {
    let purser = Purser::swarm("service");
    let client = purser.client();
    let body: Value = serde_json::from_str(MINIMAL).expect("JSON");
    check(
        &client,
        vec![
            post("/services/create", &body).shows(201, r#"{"ID":"<id>","Warnings":null}"#),
            get("/services/min").shows(200, MINIMAL_SHOWN),
            get("/services/min?insertDefaults=false").shows(200, MINIMAL_SHOWN),
            get("/services/min?insertDefaults=true").shows(200, MINIMAL_FILLED),
            // Defaults are shown, not stored.
            get("/services/min").shows(200, MINIMAL_SHOWN),
            get("/services").shows(200, format!("[{MINIMAL_SHOWN}]")),
            get("/v1.40/services?status=true").shows(200, format!("[{MINIMAL_SHOWN}]")),
            get("/services?status=true").shows(
                200,
                format!(
                    "[{},\"ServiceStatus\":{{\"RunningTasks\":0,\"DesiredTasks\":1,\"CompletedTasks\":0}}}}]",
                    MINIMAL_SHOWN.strip_suffix('}').expect("an object")
                ),
            ),
        ],
    );
}

#[test]
fn what_was_set_stays_when_defaults_are_shown() {
    let purser = Purser::swarm("defaults");
    let client = purser.client();
    let spec = json!({"Name": "set", "Mode": {"Global": {}}, "TaskTemplate": {
        "ContainerSpec": {"Image": "i", "StopGracePeriod": 0, "DNSConfig": {"Nameservers": ["10.0.0.1"]}},
        "RestartPolicy": {"Condition": "none", "Delay": 0}, "Placement": {"MaxReplicas": 2}},
        "UpdateConfig": {"Parallelism": 0, "MaxFailureRatio": 0.25, "FailureAction": ""},
        "EndpointSpec": {"Mode": "dnsrr"}});
    make_service(&client, &spec);
    let shown = r#""UpdateConfig":{"Parallelism":0,"FailureAction":"pause","MaxFailureRatio":0.25,"Order":"stop-first"},"EndpointSpec":{"Mode":"dnsrr"}},"Endpoint":{"Spec":{"Mode":"dnsrr"}}}"#;
    let text = client.get("/services/set").text();
    assert!(text.trim_end().ends_with(shown), "{text}");
    let filled = client.get("/services/set?insertDefaults=1").json()["Spec"].clone();
    let template = &filled["TaskTemplate"];
    assert_eq!(template["ContainerSpec"]["StopGracePeriod"], 0);
    assert_eq!(template["ContainerSpec"]["DNSConfig"], json!({"Nameservers": ["10.0.0.1"]}));
    assert_eq!(
        template["RestartPolicy"],
        json!({"Condition": "none", "Delay": 0, "MaxAttempts": 0})
    );
    assert_eq!(template["Placement"], json!({"MaxReplicas": 2}));
    assert_eq!(filled["UpdateConfig"]["Monitor"], 5_000_000_000_u64);
    assert_eq!(filled["UpdateConfig"]["Parallelism"], 0);
}

#[test]
fn of_a_container_service_no_other_runtime_is_kept() {
    let purser = Purser::swarm("runtimes");
    let client = purser.client();
    let mut spec = idle_spec("web");
    let plain = spec["TaskTemplate"].clone();
    spec["TaskTemplate"]["PluginSpec"] = json!({"Name": "p", "Remote": "r"});
    spec["TaskTemplate"]["NetworkAttachmentSpec"] = json!({"ContainerID": "c"});
    make_service(&client, &spec);
    let template = client.get("/services/web").json()["Spec"]["TaskTemplate"].clone();
    assert_eq!(template["ContainerSpec"]["Image"], plain["ContainerSpec"]["Image"]);
    for other in ["PluginSpec", "NetworkAttachmentSpec"] {
        assert!(template.get(other).is_none(), "{template}");
    }
}

#[test]
fn a_service_without_a_name_gets_one() {
    let purser = Purser::swarm("nameless");
    let client = purser.client();
    for _ in 0..3 {
        let spec = json!({"TaskTemplate": {"ContainerSpec": {"Image": "i"}}, "Mode": {"Replicated": {"Replicas": 0}}});
        let id = make_service(&client, &spec);
        let name = client.get(&format!("/services/{id}")).json()["Spec"]["Name"].clone();
        let name = name.as_str().unwrap_or_default().to_owned();
        assert!(
            name.split_once('_').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty()),
            "{name}"
        );
    }
}

#[test]
fn modes_have_defaults_and_counts_of_their_own() {
    let purser = Purser::swarm("modes");
    let client = purser.client();
    for (name, mode, shown, wanted) in [
        ("none", json!({}), json!({"Replicated": {"Replicas": 1}}), 1),
        ("empty", json!({"Replicated": {}}), json!({"Replicated": {"Replicas": 1}}), 1),
        ("zero", json!({"Replicated": {"Replicas": 0}}), json!({"Replicated": {"Replicas": 0}}), 0),
        (
            "three",
            json!({"Replicated": {"Replicas": 3}}),
            json!({"Replicated": {"Replicas": 3}}),
            3,
        ),
        // No node takes tasks here, so a global service has none.
        ("global", json!({"Global": {}}), json!({"Global": {}}), 0),
        (
            "all-null",
            json!({"Global": null, "Replicated": null}),
            json!({"Replicated": {"Replicas": 1}}),
            1,
        ),
    ] {
        let mut spec = idle_spec(name);
        spec["Mode"] = mode;
        make_service(&client, &spec);
        let list = client.get(
            &super::api_table::filters("/services", &json!({"name": [name]}))
                .replace('?', "?status=1&"),
        );
        let service = &list.json()[0];
        assert_eq!(service["Spec"]["Mode"], shown, "{name}");
        assert_eq!(
            service["ServiceStatus"],
            json!({"RunningTasks": 0, "DesiredTasks": wanted, "CompletedTasks": 0}),
            "{name}"
        );
    }
}

#[test]
fn registry_credentials_are_taken_and_never_shown() {
    let purser = Purser::swarm("registry");
    let client = purser.client();
    let auth = "eyJ1c2VybmFtZSI6InB1cnNlciIsInBhc3N3b3JkIjoiaHVzaCJ9";
    for (name, header) in [("good", auth), ("bad", "not base64 {"), ("empty", "")] {
        let body = idle_spec(name).to_string();
        let create = request("POST", "/services/create").header("Content-Type", "application/json");
        check(&client, vec![create.header("X-Registry-Auth", header).body(&body).is(201)]);
    }
    for path in ["/services", "/services/good", "/services/good?insertDefaults=1", "/tasks"] {
        assert!(!client.get(path).text().contains(auth), "{path}");
    }
    assert!(!purser.log().contains(auth));
}

#[test]
fn an_update_replaces_the_spec_and_keeps_the_one_before() {
    let purser = Purser::swarm("replace");
    let client = purser.client();
    let mut spec = idle_spec("web");
    spec["Labels"] = json!({"a": "b"});
    make_service(&client, &spec);
    // The planners write to the service as well, so an update may have to be tried again.
    let update = |body: &Value| {
        let answer = eventually("an update that goes in", Duration::from_secs(10), || {
            let now = version(&client, "/services/web");
            let answer = client.post(&format!("/services/web/update?{now}"), body);
            (answer.status == 200).then_some(answer)
        });
        assert_eq!(answer.text(), "{\"Warnings\":null}\n");
        client.get("/services/web").json()
    };
    let bare = json!({"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "busybox:2"}}});
    let after = update(&bare);
    assert_eq!(after["Spec"]["Labels"], json!({}));
    assert_eq!(after["Spec"]["Mode"], json!({"Replicated": {"Replicas": 1}}));
    assert_eq!(after["PreviousSpec"]["Labels"], json!({"a": "b"}));
    assert_eq!(after["PreviousSpec"]["Mode"], json!({"Replicated": {"Replicas": 0}}));
    let keys: Vec<&String> = after.as_object().expect("an object").keys().collect();
    let known = [
        "ID",
        "Version",
        "CreatedAt",
        "UpdatedAt",
        "Spec",
        "PreviousSpec",
        "Endpoint",
        "UpdateStatus",
    ];
    assert_eq!(keys, &known[..keys.len()]);
    // One level only.
    let after = update(&spec);
    assert_eq!(after["PreviousSpec"]["TaskTemplate"]["ContainerSpec"]["Image"], "busybox:2");
    assert!(after["PreviousSpec"]["PreviousSpec"].is_null());
    // The updater tells of its work once tasks have to be replaced.
    let mut busy = bare.clone();
    busy["Mode"] = json!({"Replicated": {"Replicas": 2}});
    update(&busy);
    eventually("two tasks", Duration::from_secs(10), || {
        (client.get("/tasks").json().as_array()?.len() >= 2).then_some(())
    });
    busy["TaskTemplate"]["ForceUpdate"] = json!(1);
    update(&busy);
    let status = eventually("an update status", Duration::from_secs(10), || {
        let status = client.get("/services/web").json()["UpdateStatus"].clone();
        status.is_object().then_some(status)
    });
    let state = status["State"].as_str().unwrap_or_default();
    let message = status["Message"].as_str().unwrap_or_default();
    let pairs = [("updating", "update in progress"), ("completed", "update completed")];
    assert!(pairs.contains(&(state, message)), "{status}");
    assert!(masked(&status.to_string()).contains(r#""StartedAt":"<ts>""#), "{status}");
}

#[test]
fn an_update_is_refused_in_the_engines_words() {
    let purser = Purser::swarm("refuse-up");
    let client = purser.client();
    let id = make_service(&client, &idle_spec("web"));
    let mut global = idle_spec("agent");
    global["Mode"] = json!({"Global": {}});
    make_service(&client, &global);
    let spec = idle_spec("web");
    let path = "/services/web/update?version=1";
    let bad = |text: &str, why: &str| {
        format!("invalid service version '{text}': strconv.ParseUint: parsing \"{text}\": {why}")
    };
    let at = |version: &str| post(format!("/services/web/update?version={version}"), &spec);
    let renamed = "rpc error: code = Unimplemented desc = renaming services is not supported";
    let moded = "rpc error: code = Unimplemented desc = service mode change is not allowed";
    let no_previous = format!(
        "rpc error: code = FailedPrecondition desc = service {id} does not have a previous spec"
    );
    let mut anonymous = spec.clone();
    anonymous["Name"] = json!("");
    let mut wrong_mode = spec.clone();
    wrong_mode["Mode"] = json!({"Global": {}});
    let mut wrong_agent = global.clone();
    wrong_agent["Mode"] = json!({});
    check(
        &client,
        vec![
            post("/services/web/update", &spec).fails(400, bad("", "invalid syntax")),
            at("").fails(400, bad("", "invalid syntax")),
            at("-1").fails(400, bad("-1", "invalid syntax")),
            at("x").fails(400, bad("x", "invalid syntax")),
            at("18446744073709551616")
                .fails(400, bad("18446744073709551616", "value out of range")),
            at("1").fails(500, UNSEQUENCED),
            post(format!("{path}&registryAuthFrom=zz"), &spec)
                .fails(400, "invalid registryAuthFrom 'zz'"),
            post(format!("{path}&registryAuthFrom=spec"), &spec).fails(500, UNSEQUENCED),
            post(format!("{path}&rollback=zz"), &spec)
                .fails(500, "unrecognized rollback option zz"),
            post(format!("{path}&rollback=none"), &spec).fails(500, UNSEQUENCED),
            post(format!("{path}&rollback=previous"), &spec).fails(400, no_previous),
            post(format!("{path}&rollback=previous&registryAuthFrom=previous-spec"), &spec)
                .fails(500, "service does not have a previous spec"),
            post(path, &idle_spec("other")).fails(501, renamed),
            post(path, &idle_spec("WEB")).fails(501, renamed),
            post(path, &anonymous).fails(501, renamed),
            post(path, &wrong_mode).fails(501, moded),
            post("/services/agent/update?version=1", &wrong_agent).fails(501, moded),
            post("/services/nope/update?version=1", &spec).fails(404, "service nope not found"),
        ],
    );
    let now = version(&client, "/services/web");
    let from = format!("/services/web/update?{now}&registryAuthFrom=previous-spec");
    check(
        &client,
        vec![
            post(&*from, &spec).fails(500, "service does not have a previous spec"),
            post(format!("/services/web/update?{now}"), &spec).is(200),
            delete("/services/web").bare(200),
            delete("/services/web").fails(404, "service web not found"),
            get("/services/agent").is(200),
        ],
    );
}

#[test]
fn a_rollback_swaps_the_spec_with_the_one_before() {
    let purser = Purser::swarm("swap");
    let client = purser.client();
    let (one, mut two) = (idle_spec("web"), idle_spec("web"));
    two["Labels"] = json!({"a": "b"});
    make_service(&client, &one);
    let update = |query: &str, body: &Value| {
        let now = version(&client, "/services/web");
        let answer = client.post(&format!("/services/web/update?{now}{query}"), body);
        assert_eq!((answer.status, answer.text()), (200, "{\"Warnings\":null}\n".to_owned()));
    };
    // There is nothing to replace, but the updater says when it has seen to it.
    let state = |wanted: &str| {
        eventually("it is rolled back", Duration::from_secs(10), || {
            let service = client.get("/services/web").json();
            (service["UpdateStatus"]["State"] == wanted).then_some(service)
        })
    };
    update("", &two);
    // What is sent is checked and not used.
    let mut sent = idle_spec("web");
    sent["Labels"] = json!({"c": "d"});
    update("&rollback=previous", &sent);
    let after = state("rollback_completed");
    assert_eq!(after["Spec"]["Labels"], json!({}));
    assert_eq!(after["PreviousSpec"]["Labels"], json!({"a": "b"}));
    let status = r#"{"State":"rollback_completed","StartedAt":"<ts>","CompletedAt":"<ts>","Message":"rollback completed"}"#;
    let text = masked(&client.get("/services/web").text());
    assert!(text.trim_end().ends_with(&format!("\"UpdateStatus\":{status}}}")), "{text}");
    update("&rollback=previous&registryAuthFrom=previous-spec", &sent);
    let after = state("rollback_completed");
    assert_eq!(after["Spec"]["Labels"], json!({"a": "b"}));
    assert_eq!(after["PreviousSpec"]["Labels"], json!({}));
}

#[test]
fn a_rollback_is_refused_like_an_update_and_when_what_it_needs_is_gone() {
    let purser = Purser::swarm("no-way-back");
    let client = purser.client();
    let secrets = ["pw-1", "pw-2"].map(|name| (name, make_secret(&client, name, &json!({}))));
    let config = client.post("/configs/create", &json!({"Name": "conf", "Data": "YQ=="}));
    let config = config.json()["ID"].as_str().expect("an id").to_owned();
    let plain = idle_spec("web");
    let grant =
        |id: &str, name: &str| json!({"SecretID": id, "SecretName": name, "File": {"Name": name}});
    let mut granted = plain.clone();
    granted["TaskTemplate"]["ContainerSpec"]["Configs"] =
        json!([{"ConfigID": config, "ConfigName": "conf", "File": {"Name": "c"}}]);
    let with_config = granted.clone();
    granted["TaskTemplate"]["ContainerSpec"]["Secrets"] =
        secrets.iter().map(|(name, id)| grant(id, name)).collect();
    make_service(&client, &granted);
    let back = |extra: &str| {
        let now = version(&client, "/services/web");
        format!("/services/web/update?{now}&rollback=previous{extra}")
    };
    let now = version(&client, "/services/web");
    check(&client, vec![post(format!("/services/web/update?{now}"), &plain).is(200)]);
    let mut bad = plain.clone();
    bad["TaskTemplate"]["ContainerSpec"]["Image"] = json!("");
    let invalid = |text: &str| format!("rpc error: code = InvalidArgument desc = {text}");
    check(
        &client,
        vec![
            post("/services/web/update?version=1&rollback=previous", &plain)
                .fails(500, UNSEQUENCED),
            post("/services/web/update?rollback=previous", &plain).fails(
                400,
                "invalid service version '': strconv.ParseUint: parsing \"\": invalid syntax",
            ),
            post(back(""), &bad)
                .fails(400, invalid("ContainerSpec: image reference must be provided")),
            post(back("&registryAuthFrom=zz"), &plain).fails(400, "invalid registryAuthFrom 'zz'"),
            delete("/secrets/pw-1").bare(204),
            post(back(""), &plain).fails(400, invalid("secret not found: pw-1")),
            delete("/secrets/pw-2").bare(204),
            post(back(""), &plain).fails(400, invalid("secrets not found: pw-1, pw-2")),
            // The same for a config.
            post(
                format!("/services/web/update?{}", version(&client, "/services/web")),
                &with_config,
            )
            .is(200),
        ],
    );
    let now = version(&client, "/services/web");
    check(
        &client,
        vec![
            post(format!("/services/web/update?{now}"), &plain).is(200),
            delete("/configs/conf").bare(204),
        ],
    );
    let before = client.get("/services/web").text();
    check(&client, vec![post(back(""), &plain).fails(400, invalid("config not found: conf"))]);
    assert_eq!(client.get("/services/web").text(), before);
}

/// A service with every field that came with a version of the API.
fn dated_spec(name: &str) -> Value {
    json!({"Name": name, "Mode": {"Replicated": {"Replicas": 0}},
        "TaskTemplate": {
            "ContainerSpec": {"Image": "i", "CapabilityAdd": ["NET_ADMIN"], "CapabilityDrop": ["ALL"],
                "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}], "OomScoreAdj": 5,
                "Privileges": {"Seccomp": {"Mode": "unconfined"}, "AppArmor": {"Mode": "disabled"},
                    "NoNewPrivileges": true},
                "Healthcheck": {"Test": ["CMD", "x"], "StartInterval": 1_000_000},
                "Mounts": [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"Options": [["noexec"]]}}]},
            "Resources": {"Limits": {"Pids": 9, "MemoryBytes": 8_388_608}, "SwapBytes": 1, "MemorySwappiness": 7}}})
}

/// The fields of [`dated_spec`], each with the version that brought it.
const DATED: &[(u32, &str)] = &[
    (41, "/ContainerSpec/CapabilityAdd/0"),
    (41, "/ContainerSpec/CapabilityDrop/0"),
    (41, "/ContainerSpec/Ulimits/0"),
    (41, "/Resources/Limits/Pids"),
    (44, "/ContainerSpec/Privileges/Seccomp/Mode"),
    (44, "/ContainerSpec/Privileges/AppArmor/Mode"),
    (44, "/ContainerSpec/Healthcheck/StartInterval"),
    (46, "/ContainerSpec/OomScoreAdj"),
    (46, "/ContainerSpec/Mounts/0/TmpfsOptions/Options"),
    (52, "/Resources/SwapBytes"),
    (52, "/Resources/MemorySwappiness"),
];

#[test]
fn fields_are_dropped_below_the_version_that_brought_them() {
    let purser = Purser::swarm("gates");
    let client = purser.client();
    for minor in [40, 41, 43, 44, 45, 46, 51, 52] {
        let name = format!("at-{minor}");
        let created = client.post(&format!("/v1.{minor}/services/create"), &dated_spec(&name));
        assert_eq!(created.status, 201, "{}", created.text());
        let template =
            client.get(&format!("/services/{name}")).json()["Spec"]["TaskTemplate"].clone();
        for (since, field) in DATED {
            let kept = template.pointer(field).is_some();
            assert_eq!(kept, minor >= *since, "{field} at 1.{minor}");
        }
        let privileges = &template["ContainerSpec"]["Privileges"]["NoNewPrivileges"];
        assert_eq!(privileges, &json!(minor >= 44), "at 1.{minor}");
        assert_eq!(template["Resources"]["Limits"]["MemoryBytes"], 8_388_608);
    }
    // An update is read like that as well, and no version means the newest.
    let now = version(&client, "/services/at-40");
    let path = format!("/services/at-40/update?{now}");
    check(&client, vec![post(path, &dated_spec("at-40")).is(200)]);
    let template = client.get("/services/at-40").json()["Spec"]["TaskTemplate"].clone();
    assert!(DATED.iter().all(|(_, field)| template.pointer(field).is_some()), "{template}");
    // Jobs came with 1.41; before, nothing is left of such a mode but the default.
    let mut job = idle_spec("job");
    job["Mode"] = json!({"ReplicatedJob": {}});
    let mut networked = idle_spec("net");
    networked["Networks"] = json!([{"Target": "no.x"}]);
    check(
        &client,
        vec![
            post("/v1.40/services/create", &job).is(201),
            // The old place of networks counts below 1.44 only.
            post("/v1.43/services/create", &networked).fails(500, "network no.x not found"),
            post("/v1.44/services/create", &networked).is(201),
        ],
    );
    let mode = client.get("/services/job").json()["Spec"]["Mode"].clone();
    assert_eq!(mode, json!({"Replicated": {"Replicas": 1}}));
    job["Name"] = json!("job-41");
    check(&client, vec![post("/v1.41/services/create", &job).is(201)]);
    let mode = client.get("/services/job-41").json()["Spec"]["Mode"].clone();
    assert_eq!(mode, json!({"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 1}}));
    assert!(client.get("/services/net").json()["Spec"]["Networks"].is_null());
}

#[test]
fn host_ports_are_shown_in_spec_and_endpoint() {
    let purser = Purser::swarm("ports");
    let client = purser.client();
    let mut spec = idle_spec("web");
    let port =
        json!({"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host"});
    spec["EndpointSpec"] = json!({"Mode": "vip", "Ports": [port]});
    make_service(&client, &spec);
    let endpoint = r#""Endpoint":{"Spec":{"Mode":"vip","Ports":[{"Protocol":"tcp","TargetPort":80,"PublishedPort":8080,"PublishMode":"host"}]},"Ports":[{"Protocol":"tcp","TargetPort":80,"PublishedPort":8080,"PublishMode":"host"}]}}"#;
    let text = client.get("/services/web").text();
    assert!(text.trim_end().ends_with(endpoint), "{text}");
}
