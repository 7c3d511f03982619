//! Jobs in containers on stock engines.

use crate::kit::docker::docker_with;
use crate::kit::engine::{PATIENCE, Site};
use crate::kit::eventually;

#[test]
fn a_job_with_a_secret_completes_and_runs_again() {
    let site = Site::up(&["job"]);
    docker_with(&site.purser.socket(), "secret create pw -", b"open sesame").ok();
    let done = |line: &str| {
        eventually(&format!("listed: {line}"), PATIENCE, || {
            let said = site.docker("service ls --format '{{.Name}} {{.Mode}} {{.Replicas}}'").ok();
            said.lines().any(|listed| listed == line).then_some(())
        });
    };
    let said = site.docker(
        "service create --no-resolve-image --name sum --mode replicated-job --replicas 3 \
         --max-concurrent 2 --secret pw --env SLOT={{.Task.Slot}} redis:alpine \
         sh -c 'echo $SLOT has $(cat /run/secrets/pw)'",
    );
    assert!(said.clone().ok().ends_with("job complete"), "{said:?}");
    done("sum replicated job 0/2 (3/3 completed)");
    let logs = || {
        let mut lines: Vec<String> =
            site.docker("service logs --raw sum").ok().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    // Engines write their node in place of slot 0.
    let id = site.node_id(&site.engines[0]);
    let mut once = ["1", "2", &*id].map(|slot| format!("{slot} has open sesame"));
    once.sort();
    assert_eq!(logs(), once);
    // It ended, so that the node has no use for the secret any more.
    let withdrawn = |line: &&str| line.contains("secret withdrawn from node") && line.contains(&id);
    eventually("the secret is withdrawn", PATIENCE, || {
        site.purser.log().lines().find(withdrawn).map(|_| ())
    });

    let said = site.docker("service update --force sum").ok();
    assert!(said.ends_with("job complete"), "{said}");
    done("sum replicated job 0/2 (3/3 completed)");
    assert_eq!(logs().len(), 6, "each run did all of it");

    // What fails is tried again, and given up with its slot.
    site.docker(
        "service create -d --no-resolve-image --name scan --mode global-job \
         --restart-max-attempts 1 --restart-delay 100ms redis:alpine sh -c 'exit 3'",
    )
    .ok();
    eventually("it failed twice", PATIENCE, || {
        let said = site.docker("service ps --format '{{.DesiredState}} {{.Error}}' scan").ok();
        let failed = "Shutdown \"task: non-zero exit (3)\"";
        (said == format!("{failed}\n{failed}")).then_some(())
    });
    done("scan global job 0/0 (0/0 completed)");

    // Told to run again while it runs: what runs is stopped first.
    let long = "service create -d --no-resolve-image --name long --mode replicated-job \
        --stop-grace-period 1s redis:alpine sleep 1000";
    site.docker(long).ok();
    done("long replicated job 1/1 (0/1 completed)");
    let container = || {
        let filter = "label=com.docker.swarm.service.name=long";
        site.engines[0].docker(&format!("ps -q --no-trunc --filter {filter}")).ok()
    };
    let before = container();
    site.docker("service update -d --force long").ok();
    eventually("another container runs", PATIENCE, || {
        let now = container();
        assert!(now.lines().count() <= 1, "never two: {now}");
        (!now.is_empty() && now != before).then_some(())
    });
    assert_eq!(site.docker("service rm sum scan long").ok(), "sum\nscan\nlong");
    eventually("all containers are gone", PATIENCE, || {
        site.engines[0].docker("ps -aq").ok().is_empty().then_some(())
    });
}
