//! What a service may not be: every refusal of a spec, and what is not built yet.

use super::api_table::{Case, check, get, idle_spec, post};
use super::kit::purser::Purser;
use serde_json::{Value, json};

/// The smallest spec with this laid over it, objects into objects.
fn spec(change: Value) -> Value {
    let mut spec = idle_spec("web");
    lay(&mut spec, change);
    spec
}

fn lay(known: &mut Value, change: Value) {
    match (known, change) {
        (Value::Object(known), Value::Object(change)) => {
            for (key, value) in change {
                lay(known.entry(key).or_insert(Value::Null), value);
            }
        }
        (known, change) => *known = change,
    }
}

fn container(change: Value) -> Value {
    json!({"TaskTemplate": {"ContainerSpec": change}})
}

fn task(change: Value) -> Value {
    json!({"TaskTemplate": change})
}

/// Sends each change of the smallest spec and expects its refusal.
#[track_caller]
fn check_refusals(name: &str, cases: Vec<(Value, u16, String)>) {
    let purser = Purser::swarm(name);
    let mut cases: Vec<Case> = cases
        .into_iter()
        .map(|(change, status, text)| post("/services/create", &spec(change)).fails(status, text))
        .collect();
    cases.push(get("/services").shows(200, "[]"));
    check(&purser.client(), cases);
}

fn invalid(change: Value, text: &str) -> (Value, u16, String) {
    (change, 400, format!("rpc error: code = InvalidArgument desc = {text}"))
}

fn plain(change: Value, text: &str) -> (Value, u16, String) {
    (change, 400, text.into())
}

#[test]
fn names_images_and_what_does_not_convert() {
    let dns = "name must be valid as a DNS name component";
    let mut cases = vec![
        invalid(json!({"Name": "x".repeat(64)}), "name must be 63 characters or fewer"),
        plain(
            json!({"TaskTemplate": {"ContainerSpec": null}}),
            "mismatched Runtime and *Spec fields",
        ),
        plain(task(json!({"Runtime": "zz"})), "unsupported runtime"),
        plain(task(json!({"Runtime": "attachment"})), "unsupported runtime"),
        (
            task(json!({"Runtime": "plugin"})),
            500,
            "runtime type \"plugin\" only supported in experimental".into(),
        ),
        invalid(container(json!({"Image": ""})), "ContainerSpec: image reference must be provided"),
        invalid(
            container(json!({"Image": "A:b:c"})),
            "ContainerSpec: \"A:b:c\" is not a valid repository/tag",
        ),
        plain(
            container(json!({"Privileges": {"CredentialSpec": {}}})),
            "invalid CredentialSpec: must either provide \"file\", \"registry\", or \"config\" for \
             credential spec",
        ),
        plain(
            container(json!({"Privileges": {"CredentialSpec": {"File": "a", "Registry": "b"}}})),
            "invalid CredentialSpec: must either provide \"file\", \"registry\", or \"config\" for \
             credential spec",
        ),
        invalid(
            container(json!({"Privileges": {"CredentialSpec": {"Config": "x"}}})),
            "CredentialSpec references config 'x', but that config isn't in config references with \
             RuntimeTarget",
        ),
        plain(
            container(json!({"Configs": [{"ConfigID": "a", "ConfigName": "a"}]})),
            "invalid Config: either File or Runtime should be set",
        ),
        plain(
            container(json!({"Configs": [{"File": {"Name": "a"}, "Runtime": {}}]})),
            "invalid Config: cannot specify both File and Runtime",
        ),
        plain(container(json!({"Isolation": "zz"})), "invalid isolation: \"zz\""),
    ];
    for name in ["a.b", "-a", "a-", "_a", "a_", "a b", "\u{e4}", "a/b"] {
        cases.push(invalid(json!({"Name": name}), dns));
    }
    check_refusals("ref-name", cases);
}

#[test]
fn containers_templates_mounts_and_health() {
    let health = |change: Value| container(json!({"Healthcheck": change}));
    let mount = |mounts: Value| container(json!({"Mounts": mounts}));
    let mut cases = vec![
        invalid(
            mount(json!([{"Target": "/a"}, {"Type": "volume", "Target": "/a"}])),
            "ContainerSpec: duplicate mount point: /a",
        ),
        plain(mount(json!([{"Type": "zz", "Target": "/a"}])), "invalid MountType: \"zz\""),
        plain(
            mount(json!([{"Target": "/a", "BindOptions": {"Propagation": "zz"}}])),
            "invalid MountPropagation: \"zz\"",
        ),
        invalid(
            health(json!({"Retries": -1})),
            "ContainerSpec: Retries in HealthConfig cannot be negative",
        ),
    ];
    for name in ["Interval", "Timeout", "StartPeriod", "StartInterval"] {
        for span in [1, 999_999, -1] {
            let text = format!("ContainerSpec: {name} in HealthConfig cannot be less than 1ms");
            cases.push(invalid(health(json!({name: span})), &text));
        }
    }
    check_refusals("ref-container", cases);
    let purser = Purser::swarm("ref-template");
    let refused = |change: Value, text: &str| {
        let start = format!("rpc error: code = InvalidArgument desc = {text}");
        post("/services/create", &spec(change)).fails_with(400, start)
    };
    check(
        &purser.client(),
        vec![
            refused(
                container(json!({"Env": ["A={{.Nope}}"]})),
                "expanding env failed: expanding env \"A={{.Nope}}\": ",
            ),
            refused(container(json!({"Env": ["ok", "A={{"]})), "expanding env failed: "),
            refused(container(json!({"Hostname": "{{.Nope}}"})), "expanding hostname failed: "),
            refused(
                container(json!({"Mounts": [{"Source": "{{.Nope}}", "Target": "/a"}]})),
                "expanding mounts failed: ",
            ),
            post(
                "/services/create",
                &spec(container(
                    json!({"Env": ["A={{.Node.Hostname}}"], "Hostname": "{{.Task.Slot}}",
                    "Healthcheck": {"Interval": 1_000_000, "Timeout": 0}}),
                )),
            )
            .is(201),
        ],
    );
}

#[test]
fn resources_restarts_and_placement() {
    let resources = |change: Value| task(json!({"Resources": change}));
    let restart = |change: Value| task(json!({"RestartPolicy": change}));
    let constraint = |text: &str| task(json!({"Placement": {"Constraints": [text]}}));
    let unknown = |change: Value, text: &str| {
        (change, 500, format!("rpc error: code = Unknown desc = {text}"))
    };
    let mut cases = vec![
        plain(
            resources(json!({"SwapBytes": 1})),
            "memory swap provided, but no memory-limit was set",
        ),
        plain(restart(json!({"Condition": "foo"})), "invalid RestartCondition: \"foo\""),
        invalid(restart(json!({"Delay": -1})), "TaskSpec: restart-delay cannot be negative"),
        invalid(restart(json!({"Window": -1})), "TaskSpec: restart-window cannot be negative"),
        unknown(constraint("node.role=manager"), "constraint expected one operator from ==, !="),
        unknown(constraint("node.role"), "constraint expected one operator from ==, !="),
        unknown(constraint(""), "constraint expected one operator from ==, !="),
        unknown(constraint("1node==a"), "key '1node' is invalid"),
        unknown(constraint("node.role==~~"), "value '~~' is invalid"),
        unknown(constraint("node.role=="), "value '' is invalid"),
    ];
    for part in ["Limits", "Reservations"] {
        for (nano, shown) in [(100, "1e-07"), (999_999, "0.000999999"), (-1, "-1e-09")] {
            let text = format!("invalid cpu value {shown}: Must be at least 0.001");
            cases.push(invalid(resources(json!({part: {"NanoCPUs": nano}})), &text));
        }
        for bytes in [1000, 4_194_303, -1] {
            let text = format!("invalid memory value {bytes}: Must be at least 4MiB");
            cases.push(invalid(resources(json!({part: {"MemoryBytes": bytes}})), &text));
        }
    }
    check_refusals("ref-resources", cases);
    let purser = Purser::swarm("good-place");
    let good = [
        "node.role==manager",
        "node.hostname != a b",
        " node.ip == 10.0.0.0/8 ",
        "node.labels.a-b==x",
        "what.ever==*",
        "NODE.ROLE==MANAGER",
    ];
    let cases = good.iter().enumerate().map(|(at, text)| {
        let mut spec = spec(constraint(text));
        spec["Name"] = json!(format!("ok-{at}"));
        post("/services/create", &spec).is(201)
    });
    check(&purser.client(), cases.collect());
}

#[test]
fn modes_updates_and_endpoints() {
    let mode = |change: Value| {
        let mut whole = json!({"Replicated": null});
        lay(&mut whole, change);
        json!({"Mode": whole})
    };
    let update = |change: Value| json!({"UpdateConfig": change});
    let endpoint = |change: Value| json!({"EndpointSpec": change});
    let too_many = 9_223_372_036_854_775_808_u64;
    let host = json!({"TargetPort": 80, "PublishedPort": 80, "PublishMode": "host"});
    let cases = vec![
        plain(mode(json!({"Replicated": {}, "Global": {}})), "must specify only one service mode"),
        plain(
            mode(json!({"ReplicatedJob": {}, "GlobalJob": {}})),
            "must specify only one service mode",
        ),
        invalid(
            mode(json!({"Replicated": {"Replicas": too_many}})),
            "Number of replicas must be non-negative",
        ),
        invalid(
            mode(json!({"ReplicatedJob": {"MaxConcurrent": too_many}})),
            "Maximum concurrent jobs must not be negative",
        ),
        invalid(
            mode(json!({"ReplicatedJob": {"TotalCompletions": too_many}})),
            "Total completed jobs must not be negative",
        ),
        invalid(
            mode(json!({"ReplicatedJob": {"TotalCompletions": 100_001}})),
            "Total completed jobs must be at most 100000",
        ),
        invalid(
            mode(json!({"ReplicatedJob": {"MaxConcurrent": 100_001}})),
            "Total completed jobs must be at most 100000",
        ),
        invalid(
            json!({"Mode": {"Replicated": null, "GlobalJob": {}}, "UpdateConfig": {}}),
            "Jobs may not have an update config",
        ),
        invalid(
            json!({"Mode": {"Replicated": null, "ReplicatedJob": {}}, "UpdateConfig": {}}),
            "Jobs may not have an update config",
        ),
        invalid(update(json!({"Delay": -1})), "TaskSpec: update-delay cannot be negative"),
        invalid(update(json!({"Monitor": -1})), "TaskSpec: update-monitor cannot be negative"),
        invalid(
            update(json!({"MaxFailureRatio": 1.5})),
            "TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1",
        ),
        invalid(
            update(json!({"MaxFailureRatio": -0.1})),
            "TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1",
        ),
        plain(update(json!({"FailureAction": "zz"})), "unrecognized update failure action zz"),
        plain(update(json!({"Order": "zz"})), "unrecognized update order zz"),
        plain(
            json!({"RollbackConfig": {"FailureAction": "zz"}}),
            "unrecognized update failure action zz",
        ),
        plain(endpoint(json!({"Mode": "zz"})), "invalid resolution mode: \"zz\""),
        invalid(
            endpoint(json!({"Mode": "dnsrr", "Ports": [{"TargetPort": 80}]})),
            "EndpointSpec: port published with ingress mode can't be used with dnsrr mode",
        ),
        invalid(
            endpoint(json!({"Ports": [host, host]})),
            "EndpointSpec: duplicate published ports provided",
        ),
    ];
    check_refusals("ref-mode", cases);
}

/// Of several faults, the one that the Engine finds first is told.
#[test]
fn faults_are_found_in_the_engines_order() {
    let in_order = [
        plain(json!({"UpdateConfig": {"Order": "zz"}}), "unrecognized update order zz"),
        plain(json!({"Mode": {"Global": {}}}), "must specify only one service mode"),
        invalid(json!({"Name": "-"}), "name must be valid as a DNS name component"),
        invalid(
            task(json!({"Resources": {"Limits": {"MemoryBytes": 1}}})),
            "invalid memory value 1: Must be at least 4MiB",
        ),
        invalid(
            task(json!({"RestartPolicy": {"Delay": -1}})),
            "TaskSpec: restart-delay cannot be negative",
        ),
        (
            task(json!({"Placement": {"Constraints": ["x"]}})),
            500,
            "rpc error: code = Unknown desc = constraint expected one operator from ==, !=".into(),
        ),
        invalid(container(json!({"Secrets": [{}]})), "malformed secret reference"),
        invalid(container(json!({"Image": ""})), "ContainerSpec: image reference must be provided"),
        invalid(
            json!({"UpdateConfig": {"Delay": -1}}),
            "TaskSpec: update-delay cannot be negative",
        ),
        invalid(
            json!({"EndpointSpec": {"Mode": "dnsrr", "Ports": [{"TargetPort": 1}]}}),
            "EndpointSpec: port published with ingress mode can't be used with dnsrr mode",
        ),
    ];
    let mut cases = Vec::new();
    for (at, (change, status, text)) in in_order.iter().enumerate() {
        let mut both = change.clone();
        for (later, ..) in &in_order[at + 1..] {
            lay(&mut both, later.clone());
        }
        // Laid over it, a later fault must not take an earlier one away.
        lay(&mut both, change.clone());
        cases.push((both, *status, text.clone()));
    }
    check_refusals("ref-order", cases);
}
