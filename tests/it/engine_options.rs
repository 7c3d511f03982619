//! Options of a service as the engine's containers have them.

use serde_json::{Value, json};

use crate::kit::engine::{Engine, Running, Site};

/// What the engine says of a task's container.
#[track_caller]
fn inspect(site: &Site, task: &Running) -> Value {
    let said = site.engine_of(task).docker(&format!("container inspect {}", task.container)).ok();
    let mut all: Value = serde_json::from_str(&said).expect("JSON");
    all[0].take()
}

/// Compares a part of an answer: what is expected has to be there, more may be.
#[track_caller]
fn check(container: &Value, path: &str, expected: &Value) {
    let found = container.pointer(path).unwrap_or(&Value::Null);
    assert_eq!(found, expected, "{path}");
}

#[test]
fn settings_of_the_process_arrive() {
    let site = Site::up(&["process"]);
    site.docker(
        "service create -d --name web --hostname ahoy --env A=1 --env B= --workdir /srv/work \
         --user 1000:2000 --group 3000 --container-label a.b=c --label not=there \
         --stop-signal SIGINT --init --tty --entrypoint '/bin/sh -c' \
         --health-cmd 'test -d /srv' --health-interval 7s --health-timeout 3s \
         --health-retries 4 --health-start-period 2s \
         --log-driver json-file --log-opt max-size=1m redis:alpine 'sleep 1000' x",
    )
    .ok();
    let task = site.await_running("web", 1).remove(0);
    let container = inspect(&site, &task);
    let expected = [
        ("/Config/Hostname", json!("ahoy")),
        ("/Config/WorkingDir", json!("/srv/work")),
        ("/Config/User", json!("1000:2000")),
        ("/Config/StopSignal", json!("SIGINT")),
        ("/Config/Tty", json!(true)),
        ("/Config/Entrypoint", json!(["/bin/sh", "-c"])),
        ("/Config/Cmd", json!(["sleep 1000", "x"])),
        ("/Config/Labels/a.b", json!("c")),
        ("/Config/Labels/not", Value::Null),
        ("/Config/Labels/com.docker.swarm.service.name", json!("web")),
        ("/Config/Labels/com.docker.swarm.task.id", json!(task.task)),
        ("/Config/Labels/com.docker.swarm.node.id", json!(task.node)),
        ("/Config/Healthcheck/Test", json!(["CMD-SHELL", "test -d /srv"])),
        ("/Config/Healthcheck/Interval", json!(7_000_000_000i64)),
        ("/Config/Healthcheck/Timeout", json!(3_000_000_000i64)),
        ("/Config/Healthcheck/StartPeriod", json!(2_000_000_000i64)),
        ("/Config/Healthcheck/Retries", json!(4)),
        ("/HostConfig/Init", json!(true)),
        ("/HostConfig/GroupAdd", json!(["3000"])),
        ("/HostConfig/LogConfig", json!({"Type": "json-file", "Config": {"max-size": "1m"}})),
    ];
    for (path, expected) in &expected {
        check(&container, path, expected);
    }
    let env = container["Config"]["Env"].as_array().cloned().unwrap_or_default();
    assert!(env.contains(&json!("A=1")) && env.contains(&json!("B=")), "{env:?}");
    let name = container["Name"].as_str().unwrap_or_default();
    assert_eq!(name, format!("/web.1.{}", task.task));
    crate::kit::eventually("it is healthy", crate::kit::engine::PATIENCE, || {
        let said = inspect(&site, &task);
        (said["State"]["Health"]["Status"] == "healthy").then_some(())
    });
}

#[test]
fn settings_of_the_sandbox_arrive() {
    let site = Site::up(&["sandbox"]);
    site.docker("volume create stuff").ok();
    site.docker(
        "service create -d --name web --read-only --host one:10.1.2.3 --host six:fd00::1 \
         --dns 10.9.8.7 --dns-search example.org --dns-option ndots:2 --cap-add NET_ADMIN \
         --cap-drop CHOWN --sysctl net.core.somaxconn=321 --ulimit nofile=100:200 \
         --limit-cpu 0.5 --limit-memory 64m --limit-pids 50 \
         --mount type=tmpfs,target=/scratch,tmpfs-size=1m,tmpfs-mode=1770 \
         --mount type=volume,source=stuff,target=/stuff \
         --mount type=volume,source=made,target=/made,volume-label=x=y,readonly \
         --mount type=bind,source=/etc,target=/host-etc,readonly redis:alpine",
    )
    .ok();
    let task = site.await_running("web", 1).remove(0);
    let container = inspect(&site, &task);
    let expected = [
        ("/HostConfig/ReadonlyRootfs", json!(true)),
        ("/HostConfig/ExtraHosts", json!(["one:10.1.2.3", "six:fd00::1"])),
        ("/HostConfig/Dns", json!(["10.9.8.7"])),
        ("/HostConfig/DnsSearch", json!(["example.org"])),
        ("/HostConfig/DnsOptions", json!(["ndots:2"])),
        ("/HostConfig/CapAdd", json!(["CAP_NET_ADMIN"])),
        ("/HostConfig/CapDrop", json!(["CAP_CHOWN"])),
        ("/HostConfig/Sysctls", json!({"net.core.somaxconn": "321"})),
        ("/HostConfig/Ulimits", json!([{"Name": "nofile", "Soft": 100, "Hard": 200}])),
        ("/HostConfig/NanoCpus", json!(500_000_000)),
        ("/HostConfig/Memory", json!(64 * 1024 * 1024)),
        ("/HostConfig/PidsLimit", json!(50)),
    ];
    for (path, expected) in &expected {
        check(&container, path, expected);
    }
    let tmpfs = site.exec(&task, "grep /scratch /proc/mounts").ok();
    assert!(tmpfs.contains("size=1024k") && tmpfs.contains("mode=1770"), "{tmpfs}");
    assert_ne!(site.exec(&task, "touch /x").code, 0);
    assert_ne!(site.exec(&task, "touch /made/x").code, 0);
    assert_ne!(site.exec(&task, "touch /host-etc/x").code, 0);
    site.exec(&task, "touch /stuff/x /scratch/x").ok();
    assert_eq!(site.exec(&task, "cat /proc/sys/net/core/somaxconn").ok(), "321");
    assert_eq!(site.docker("volume inspect --format '{{.Labels.x}}' made").ok(), "y");
}

#[test]
fn a_stop_waits_for_the_grace_period_and_no_longer() {
    let site = Site::up(&["grace"]);
    // This one never ends by itself: only the kill after the grace period does it.
    site.docker(
        "service create -d --name deaf --stop-grace-period 2s redis:alpine \
         sh -c 'trap \"\" TERM; while :; do sleep 1; done'",
    )
    .ok();
    let task = site.await_running("deaf", 1).remove(0);
    site.docker("service rm deaf").ok();
    let running = format!("ps -q --no-trunc --filter id={}", task.container);
    assert_eq!(site.engines[0].docker(&running).ok(), task.container, "stopped at once");
    crate::kit::eventually("it was killed", std::time::Duration::from_secs(30), || {
        site.engines[0].docker(&running).ok().is_empty().then_some(())
    });
}

#[test]
fn generic_resources_arrive_in_the_environment() {
    let config = json!({"node-generic-resources": ["gpu=gpu-1", "gpu=gpu-2", "ssd=1"]});
    let site = Site::of("generic", vec![Engine::configured("generic", Some(&config))]);
    let create = "service create -d --generic-resource gpu=1";
    site.docker(&format!("{create} --name one redis:alpine")).ok();
    site.docker(&format!("{create} --name two --generic-resource ssd=1 redis:alpine")).ok();
    let variable = |service: &str, name: &str| {
        let task = site.await_running(service, 1).remove(0);
        let env = site.exec(&task, "env").ok();
        let start = format!("DOCKER_RESOURCE_{name}=");
        env.lines().find_map(|line| line.strip_prefix(&start).map(str::to_owned)).expect(name)
    };
    let mut given = [variable("one", "GPU"), variable("two", "GPU")];
    given.sort();
    assert_eq!(given, ["gpu-1", "gpu-2"]);
    assert_eq!(variable("two", "SSD"), "1");
    site.docker(&format!("{create} --name three redis:alpine")).ok();
    crate::kit::eventually("there is no third", std::time::Duration::from_secs(20), || {
        let why = site.docker("service ps --no-trunc --format {{.Error}} three").ok();
        why.contains("insufficient resources on 1 node").then_some(())
    });
}
