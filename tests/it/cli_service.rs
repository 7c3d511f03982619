//! `docker service`, against a purser without an engine: tasks wait for a node.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::docker::{docker, docker_with};
use crate::kit::eventually;
use crate::kit::purser::Purser;

/// The planners answer a request within moments, but after it.
const SOON: Duration = Duration::from_secs(10);

/// Makes a service without waiting for its tasks.
fn create(socket: &Path, args: &str) -> String {
    docker(socket, &format!("service create -d --no-resolve-image {args}")).ok()
}

fn update(socket: &Path, args: &str) -> String {
    docker(socket, &format!("service update -d --no-resolve-image {args}")).ok()
}

fn inspect(socket: &Path, name: &str) -> Value {
    let text = docker(socket, &format!("service inspect {name}")).ok();
    let found: Value = serde_json::from_str(&text).expect("JSON");
    found[0].clone()
}

#[test]
fn service_create_keeps_every_option() {
    let purser = Purser::swarm("service-options");
    let socket = purser.socket();
    let pass = docker_with(&socket, "secret create db-pass -", b"1").ok();
    let user = docker_with(&socket, "secret create db-user -", b"2").ok();
    let id = create(
        &socket,
        "--name web --replicas 2 -l tier=front --container-label c=d --constraint \
         node.labels.zone==a --env A=b --mount type=tmpfs,dst=/scratch,tmpfs-size=1048576 \
         --update-parallelism 2 --update-delay 3s --update-failure-action continue \
         --restart-condition on-failure --restart-delay 1s --restart-max-attempts 3 \
         --limit-memory 64M --limit-cpu 0.5 --reserve-memory 8M --stop-grace-period 3s \
         --hostname {{.Task.Slot}} --user 1000 --workdir /tmp --read-only --secret db-pass \
         --secret source=db-user,target=user,uid=10,gid=20,mode=0400 redis:alpine sleep 60",
    );
    let shown = inspect(&socket, "web");
    assert_eq!(shown["ID"], id.as_str());
    let spec = &shown["Spec"];
    assert_eq!(spec["Labels"], json!({"tier": "front"}));
    assert_eq!(spec["Mode"], json!({"Replicated": {"Replicas": 2}}));
    assert_eq!(
        spec["UpdateConfig"],
        json!({"Parallelism": 2, "Delay": 3_000_000_000_u64, "FailureAction": "continue",
            "Monitor": 5_000_000_000_u64, "MaxFailureRatio": 0, "Order": "stop-first"})
    );
    let mut task = spec["TaskTemplate"].clone();
    // The client keeps its grants in a map: they come in any order.
    task["ContainerSpec"]["Secrets"]
        .as_array_mut()
        .expect("an array")
        .sort_by_key(|grant| grant["SecretName"].to_string());
    assert_eq!(task["Placement"]["Constraints"], json!(["node.labels.zone==a"]));
    assert_eq!(
        task["RestartPolicy"],
        json!({"Condition": "on-failure", "Delay": 1_000_000_000, "MaxAttempts": 3})
    );
    assert_eq!(
        task["Resources"],
        json!({"Limits": {"NanoCPUs": 500_000_000, "MemoryBytes": 67_108_864},
            "Reservations": {"MemoryBytes": 8_388_608}})
    );
    assert_eq!(
        task["ContainerSpec"],
        json!({"Image": "redis:alpine", "Labels": {"c": "d"}, "Args": ["sleep", "60"],
            "Hostname": "{{.Task.Slot}}", "Env": ["A=b"], "Dir": "/tmp", "User": "1000",
            "Init": false, "StopGracePeriod": 3_000_000_000_u64, "DNSConfig": {}, "ReadOnly": true,
            "Mounts": [{"Type": "tmpfs", "Target": "/scratch",
                "TmpfsOptions": {"SizeBytes": 1_048_576}}],
            "Secrets": [
                {"File": {"Name": "db-pass", "UID": "0", "GID": "0", "Mode": 0o444},
                    "SecretID": pass, "SecretName": "db-pass"},
                {"File": {"Name": "user", "UID": "10", "GID": "20", "Mode": 0o400},
                    "SecretID": user, "SecretName": "db-user"},
            ],
            "Isolation": "default"})
    );
}

#[test]
fn service_placement_preferences_are_added_and_removed() {
    let purser = Purser::swarm("service-spread");
    let socket = purser.socket();
    create(
        &socket,
        "--name web --placement-pref spread=node.labels.zone --placement-pref \
         spread=node.labels.rack redis:alpine",
    );
    let spread = |label: &str| json!({"Spread": {"SpreadDescriptor": label}});
    let shown = || inspect(&socket, "web")["Spec"]["TaskTemplate"]["Placement"].clone();
    assert_eq!(
        shown()["Preferences"],
        json!([spread("node.labels.zone"), spread("node.labels.rack")])
    );
    update(
        &socket,
        "--placement-pref-rm spread=node.labels.zone --placement-pref-add \
         spread=engine.labels.disk web",
    );
    assert_eq!(
        shown()["Preferences"],
        json!([spread("node.labels.rack"), spread("engine.labels.disk")])
    );
}

#[test]
fn service_inspect_pretty_shows_mode_secrets_and_limits() {
    let purser = Purser::swarm("service-pretty");
    let socket = purser.socket();
    docker_with(&socket, "secret create db-pass -", b"1").ok();
    create(
        &socket,
        "--name web --secret source=db-pass,target=pw --limit-memory 64M --env A=b redis:alpine",
    );
    create(&socket, "--name agent --mode global redis:alpine");
    let pretty = docker(&socket, "service inspect --pretty web").ok();
    for line in [
        "Name:\t\tweb",
        "Service Mode:\tReplicated",
        " Replicas:\t1",
        " Image:\t\tredis:alpine",
        " Env:\t\tA=b ",
        " Target:\tpw",
        "  Source:\tdb-pass",
        "  Memory:\t64MiB",
        " On failure:\tpause",
    ] {
        assert!(pretty.lines().any(|shown| shown == line), "{line:?}: {pretty}");
    }
    let pretty = docker(&socket, "service inspect --pretty agent").ok();
    assert!(pretty.contains("Service Mode:\tGlobal"), "{pretty}");
    let said = docker(&socket, "service inspect web nope");
    assert!(said.out.contains("\"Name\": \"web\""), "{}", said.out);
    assert!(said.refused().contains("no such service: nope"));
}

#[test]
fn service_create_needs_its_secrets_and_one_target_for_each() {
    let purser = Purser::swarm("service-secrets");
    let socket = purser.socket();
    let create =
        |args: &str| docker(&socket, &format!("service create -d --name web {args} redis"));
    for name in ["one", "one-more"] {
        docker_with(&socket, &format!("secret create {name} -"), b"1").ok();
    }
    assert_eq!(create("--secret nope").refused(), "secret not found: nope");
    // A name that another one begins with is not that other one.
    assert_eq!(create("--secret on").refused(), "secret not found: on");
    assert_eq!(
        create("--secret one --secret source=one-more,target=one").refused(),
        "duplicate secret target for one-more not allowed"
    );
    assert_eq!(docker(&socket, "service ls -q").ok(), "");
}

#[test]
fn service_create_refuses_what_cannot_be() {
    let purser = Purser::swarm("service-refused");
    let socket = purser.socket();
    create(&socket, "--name web redis");
    let invalid = "rpc error: code = InvalidArgument desc = ";
    for (args, refusal) in [
        (
            "--name web redis",
            "rpc error: code = AlreadyExists desc = name conflicts with an existing object: \
             service web already exists",
        ),
        ("--name a.b redis", &format!("{invalid}name must be valid as a DNS name component")),
        (
            "--constraint zone=a redis",
            "rpc error: code = Unknown desc = constraint expected one \
            operator from ==, !=",
        ),
        (
            "--limit-memory 1M redis",
            &format!(
                "{invalid}invalid memory value 1048576: Must be at \
            least 4MiB"
            ),
        ),
        ("--restart-condition zz redis", "invalid RestartCondition: \"zz\""),
        (
            "--mount type=tmpfs,dst=/a --mount type=tmpfs,dst=/a redis",
            &format!("{invalid}ContainerSpec: duplicate mount point: /a"),
        ),
        ("--env A={{.Nope}} redis", &format!("{invalid}expanding env failed")),
    ] {
        let args = format!("service create -d --no-resolve-image {args}");
        let said = docker(&socket, &args).refused();
        assert!(said.starts_with(refusal), "{args}: {said}");
    }
}

#[test]
fn service_ls_and_ps_show_what_waits_for_a_node() {
    let purser = Purser::swarm("service-ls");
    let socket = purser.socket();
    create(&socket, "--name web --replicas 2 -l tier=front redis:alpine");
    create(&socket, "--name agent --mode global redis:7");
    let row = "'{{.Name}} {{.Mode}} {{.Replicas}} {{.Image}}'";
    let listed = |filters: &str| {
        let rows = docker(&socket, &format!("service ls {filters} --format {row}")).ok();
        rows.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (agent, web) = ("agent global 0/0 redis:7", "web replicated 0/2 redis:alpine");
    assert_eq!(listed(""), [agent, web]);
    assert_eq!(listed("--filter mode=global"), [agent]);
    assert_eq!(listed("--filter name=we"), [web]);
    assert_eq!(listed("--filter label=tier=front"), [web]);
    assert_eq!(listed("--filter mode=zz"), [""; 0]);

    let row = "'{{.Name}} {{.DesiredState}} {{.CurrentState}} {{.Error}}'";
    let tasks = eventually("two tasks say why they wait", SOON, || {
        let tasks = docker(&socket, &format!("service ps --no-trunc --format {row} web")).ok();
        (tasks.matches("no suitable node").count() == 2).then_some(tasks)
    });
    for (task, name) in tasks.lines().zip(["web.1", "web.2"]) {
        assert!(task.starts_with(&format!("{name} Running Pending ")), "{task}");
        assert!(
            task.ends_with("\"no suitable node (1 node not available for new tasks)\""),
            "{task}"
        );
    }
    let said = docker(&socket, "service ps -q web nope");
    assert_eq!(said.out.lines().count(), 2);
    assert_eq!(said.refused(), "no such service: nope");
    assert_eq!(docker(&socket, "service ps -q --filter desired-state=shutdown web").ok(), "");
}

#[test]
fn service_update_changes_each_field_and_keeps_the_others() {
    let purser = Purser::swarm("service-update");
    let socket = purser.socket();
    for name in ["one", "two"] {
        docker_with(&socket, &format!("secret create {name} -"), b"1").ok();
    }
    create(
        &socket,
        "--name web --replicas 2 --env A=1 --secret one --constraint node.role==manager \
        redis:6",
    );
    let before = inspect(&socket, "web");
    let args = "--image redis:7 --env-add B=2 --secret-rm one --secret-add source=two,target=one \
        --replicas 3 --constraint-add node.labels.zone==a --label-add tier=front --force web";
    assert_eq!(update(&socket, args), "web");
    let after = inspect(&socket, "web");
    let (template, container) =
        (&after["Spec"]["TaskTemplate"], &after["Spec"]["TaskTemplate"]["ContainerSpec"]);
    assert_eq!(container["Image"], "redis:7");
    // The client sends them in any order.
    let mut env: Vec<Option<&str>> =
        container["Env"].as_array().into_iter().flatten().map(Value::as_str).collect();
    env.sort_unstable();
    assert_eq!(env, [Some("A=1"), Some("B=2")]);
    assert_eq!(container["Secrets"][0]["SecretName"], "two");
    assert_eq!(container["Secrets"][0]["File"]["Name"], "one");
    assert_eq!(container["Secrets"].as_array().map(Vec::len), Some(1));
    assert_eq!(template["ForceUpdate"], 1);
    assert_eq!(
        template["Placement"]["Constraints"],
        json!(["node.labels.zone==a", "node.role==manager"])
    );
    assert_eq!(after["Spec"]["Mode"]["Replicated"]["Replicas"], 3);
    assert_eq!(after["Spec"]["Labels"], json!({"tier": "front"}));
    let previous = &after["PreviousSpec"]["TaskTemplate"]["ContainerSpec"];
    assert_eq!(previous["Image"], "redis:6");
    assert_eq!(after["CreatedAt"], before["CreatedAt"]);
    assert_ne!(after["Version"], before["Version"]);

    // How the update goes is written to the service too, and would overtake the next one. Tasks
    // that never had a node do not hold it up.
    eventually("the update is over", SOON, || {
        (inspect(&socket, "web")["UpdateStatus"]["State"] == "completed").then_some(())
    });
    update(&socket, "--env-rm A --constraint-rm node.role==manager --secret-rm two web");
    let after = inspect(&socket, "web");
    let template = &after["Spec"]["TaskTemplate"];
    assert_eq!(template["ContainerSpec"]["Env"], json!(["B=2"]));
    assert_eq!(template["ContainerSpec"].get("Secrets"), None);
    assert_eq!(template["Placement"]["Constraints"], json!(["node.labels.zone==a"]));
    let refusal = docker(&socket, "service update -d --secret-add nope web").refused();
    assert_eq!(refusal, "secret not found: nope");
    assert_eq!(docker(&socket, "service update -d nope").refused(), "service nope not found");
}

#[test]
fn service_rollback_gives_back_the_spec_before() {
    let purser = Purser::swarm("service-rollback");
    let socket = purser.socket();
    let id = create(&socket, "--name web redis");
    let none = format!(
        "rpc error: code = FailedPrecondition desc = service {id} does not have a previous spec"
    );
    assert_eq!(docker(&socket, "service rollback -d web").refused(), none);
    assert_eq!(docker(&socket, "service update -d --rollback web").refused(), none);
    let env = || {
        let args = "service inspect -f {{.Spec.TaskTemplate.ContainerSpec.Env}} web";
        docker(&socket, args).ok()
    };
    // Each writes to the service until it is over, and would overtake the next one.
    let over = |state: &str| {
        eventually("it is over", SOON, || {
            (inspect(&socket, "web")["UpdateStatus"]["State"] == state).then_some(())
        });
    };
    update(&socket, "--env-add A=b web");
    over("completed");
    assert_eq!(env(), "[A=b]");
    assert_eq!(docker(&socket, "service rollback -d web").ok(), "web");
    over("rollback_completed");
    assert_eq!(env(), "[]");
    assert_eq!(docker(&socket, "service update -d --rollback web").ok(), "web");
    over("rollback_completed");
    assert_eq!(env(), "[A=b]");
    let pretty = docker(&socket, "service inspect --pretty web").ok();
    for line in [" State:\t\trollback_completed", " Message:\trollback completed"] {
        assert!(pretty.lines().any(|shown| shown == line), "{line:?}: {pretty}");
    }
    // The client does not mix a rollback with other changes.
    let refusal = docker(&socket, "service update -d --rollback --env-add C=d web").refused();
    assert_eq!(refusal, "other flags may not be combined with --rollback");
}

#[test]
fn service_rollback_needs_the_secrets_of_the_spec_before() {
    let purser = Purser::swarm("service-no-way-back");
    let socket = purser.socket();
    docker_with(&socket, "secret create pw -", b"1").ok();
    create(&socket, "--name web --replicas 0 --secret pw redis");
    update(&socket, "--secret-rm pw web");
    assert_eq!(docker(&socket, "secret rm pw").ok(), "pw");
    assert_eq!(
        docker(&socket, "service rollback -d web").refused(),
        "rpc error: code = InvalidArgument desc = secret not found: pw"
    );
}

#[test]
fn service_keeps_how_it_is_rolled_out_and_back() {
    let purser = Purser::swarm("service-rollout");
    let socket = purser.socket();
    create(
        &socket,
        "--name web --update-order start-first --update-failure-action rollback \
         --rollback-order start-first --rollback-parallelism 2 --rollback-failure-action continue \
         --rollback-delay 3s --rollback-monitor 1s --rollback-max-failure-ratio 0.5 redis",
    );
    let spec = &inspect(&socket, "web")["Spec"];
    assert_eq!(spec["UpdateConfig"]["Order"], "start-first");
    assert_eq!(spec["UpdateConfig"]["FailureAction"], "rollback");
    assert_eq!(
        spec["RollbackConfig"],
        json!({"Parallelism": 2, "Delay": 3_000_000_000_u64, "FailureAction": "continue",
            "Monitor": 1_000_000_000, "MaxFailureRatio": 0.5, "Order": "start-first"})
    );
}

#[test]
fn service_scale_takes_several_and_refuses_a_global_one() {
    let purser = Purser::swarm("service-scale");
    let socket = purser.socket();
    create(&socket, "--name web redis");
    create(&socket, "--name db redis");
    create(&socket, "--name agent --mode global redis");
    let said = docker(&socket, "service scale -d web=3 db=0").ok();
    assert_eq!(said, "web scaled to 3\ndb scaled to 0");
    let replicas = docker(&socket, "service ls --format '{{.Name}} {{.Replicas}}'").ok();
    assert_eq!(replicas, "agent 0/0\ndb 0/0\nweb 0/3");
    assert_eq!(
        docker(&socket, "service scale -d agent=2").refused(),
        "agent: scale can only be used with replicated or replicated-job mode"
    );
    let said = docker(&socket, "service scale -d nope=2 web=1");
    assert_eq!(said.code, 1);
    assert_eq!(said.out, "web scaled to 1");
    assert!(said.err.contains("service nope not found"), "{}", said.err);
    let refusal = docker(&socket, "service update -d --replicas 2 agent").refused();
    assert_eq!(refusal, "replicas can only be used with replicated mode");
}

#[test]
fn service_rm_prints_the_names_and_goes_on_after_one_that_is_not_there() {
    let purser = Purser::swarm("service-rm");
    let socket = purser.socket();
    for name in ["web", "db"] {
        create(&socket, &format!("--name {name} redis"));
    }
    let said = docker(&socket, "service rm web nope db");
    assert_eq!(said.out, "web\ndb");
    assert_eq!(said.refused(), "service nope not found");
    assert_eq!(docker(&socket, "service ls -q").ok(), "");
    let id = create(&socket, "--name web redis");
    let by_prefix = docker(&socket, &format!("service rm {}", &id[..12])).ok();
    assert_eq!(by_prefix, &id[..12]);
}

#[test]
fn service_without_a_name_gets_one() {
    let purser = Purser::swarm("service-name");
    let socket = purser.socket();
    let id = create(&socket, "redis");
    let name = docker(&socket, &format!("service inspect -f {{{{.Spec.Name}}}} {id}")).ok();
    let (first, last) = name.split_once('_').expect("an adjective and a name");
    assert!(!first.is_empty() && !last.is_empty(), "{name}");
}
