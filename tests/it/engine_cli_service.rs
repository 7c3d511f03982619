//! `docker service` with progress, and what becomes of it in containers on a stock engine.

use std::time::Duration;

use crate::kit::docker::{Said, docker, docker_with};
use crate::kit::engine::Engine;
use crate::kit::eventually;
use crate::kit::purser::Purser;

/// A purser whose own engine is its one node.
struct Host {
    purser: Purser,
    _engine: Engine,
}

impl Host {
    fn up(name: &str) -> Host {
        let engine = Engine::up(name);
        let socket = format!("unix://{}", engine.socket().display());
        let purser = Purser::with_args(name, &["--engine", &socket]);
        purser.init(&format!("{}:0", engine.host()));
        Host { purser, _engine: engine }
    }

    #[track_caller]
    fn docker(&self, args: &str) -> Said {
        docker(&self.purser.socket(), args)
    }

    #[track_caller]
    fn secret(&self, name: &str, value: &str) {
        docker_with(&self.purser.socket(), &format!("secret create {name} -"), value.as_bytes())
            .ok();
    }

    /// Makes a service and waits, as the client does, until it runs.
    #[track_caller]
    fn create(&self, args: &str) -> String {
        let short = "--no-resolve-image --update-monitor 500ms --stop-grace-period 1s";
        self.docker(&format!("service create {short} {args}")).ok()
    }

    /// Names of the running containers of a service.
    #[track_caller]
    fn containers(&self, service: &str) -> Vec<String> {
        let filter = format!("label=com.docker.swarm.service.name={service}");
        let names = self.docker(&format!("ps --filter {filter} --format {{{{.Names}}}}")).ok();
        names.lines().map(str::to_owned).collect()
    }

    /// What a command says in the one container of a service.
    #[track_caller]
    fn exec(&self, service: &str, command: &str) -> String {
        let containers = self.containers(service);
        assert_eq!(containers.len(), 1, "{containers:?}");
        self.docker(&format!("exec {} {command}", containers[0])).ok()
    }
}

#[test]
fn service_create_shows_progress_until_the_service_has_converged() {
    let host = Host::up("cli-create");
    let said = host.create("--name web --replicas 2 redis:alpine");
    let (id, progress) = said.split_once('\n').expect("an id, then progress");
    assert_eq!(id, host.docker("service inspect -f {{.ID}} web").ok());
    assert!(progress.contains("overall progress: 2 out of 2 tasks"), "{progress}");
    assert!(progress.ends_with(&format!("verify: Service {id} converged")), "{progress}");
    let listed = host.docker("service ls --format '{{.Name}} {{.Mode}} {{.Replicas}}'").ok();
    assert_eq!(listed, "web replicated 2/2");
    let rows = host.docker("service ps --format '{{.Name}} {{.Image}} {{.DesiredState}}' web").ok();
    assert_eq!(rows, "web.1 redis:alpine Running\nweb.2 redis:alpine Running");
    // Containers are named for service, slot and task.
    let mut named = host.containers("web");
    named.sort_unstable();
    let tasks = host.docker("service ps -q --no-trunc web").ok();
    let expected = tasks.lines().zip(1..).map(|(task, slot)| format!("web.{slot}.{task}"));
    assert_eq!(named, expected.collect::<Vec<_>>());

    let said = host.create("--name agent --mode global redis:alpine");
    assert!(said.contains("overall progress: 1 out of 1 tasks"), "{said}");
    let rows = host.docker("node ps --format {{.Name}} self").ok();
    let node = host.docker("info -f {{.Swarm.NodeID}}").ok();
    assert_eq!(rows, format!("agent.{node}\nweb.1\nweb.2"));
    assert_eq!(host.docker("service rm web agent").ok(), "web\nagent");
    eventually("the containers stop", Duration::from_secs(20), || {
        host.docker("ps -q").ok().is_empty().then_some(())
    });
}

#[test]
fn service_create_options_reach_the_container() {
    let host = Host::up("cli-options");
    host.secret("plain", "one");
    host.secret("owned", "two");
    host.create(
        "--name web --secret plain --secret source=owned,target=/etc/app/key,uid=10,gid=20,mode=0400 \
         --env 'WHERE={{.Service.Name}} on {{.Node.Hostname}}' --env PLAIN=yes \
         --mount type=tmpfs,dst=/scratch,tmpfs-size=1048576 --hostname {{.Service.Name}}-{{.Task.Slot}} \
         --constraint node.role==manager --limit-memory 64M --user 10:20 redis:alpine",
    );
    let stat = "stat -c '%a %u %g %s %n'";
    assert_eq!(
        host.exec("web", &format!("{stat} /run/secrets/plain")),
        "444 0 0 3 /run/secrets/plain"
    );
    assert_eq!(host.exec("web", &format!("{stat} /etc/app/key")), "400 10 20 3 /etc/app/key");
    assert_eq!(host.exec("web", "cat /run/secrets/plain /etc/app/key"), "onetwo");
    assert_eq!(host.exec("web", "hostname"), "web-1");
    let hostname = host.docker("node inspect -f {{.Description.Hostname}} self").ok();
    let env = host.exec("web", "env");
    assert!(env.lines().any(|line| line == format!("WHERE=web on {hostname}")), "{env}");
    assert!(env.lines().any(|line| line == "PLAIN=yes"), "{env}");
    assert!(host.exec("web", "mount").contains("tmpfs on /scratch type tmpfs"));
    let container = &host.containers("web")[0];
    let limit = host.docker(&format!("inspect -f {{{{.HostConfig.Memory}}}} {container}")).ok();
    assert_eq!(limit, "67108864");
    assert_eq!(host.exec("web", "id -u"), "10");
}

#[test]
fn secret_is_rotated_by_a_new_one_under_the_old_target() {
    let host = Host::up("cli-rotate");
    host.secret("pw-1", "old");
    host.create("--name web --secret source=pw-1,target=pw redis:alpine");
    assert_eq!(host.exec("web", "cat /run/secrets/pw"), "old");

    host.secret("pw-2", "new");
    let refusal = host.docker("secret rm pw-1").refused();
    assert!(
        refusal.ends_with("secret 'pw-1' is in use by the following service: web"),
        "{refusal}"
    );
    let args = "service update --secret-rm pw-1 --secret-add source=pw-2,target=pw web";
    let said = host.docker(args).ok();
    assert!(said.starts_with("web\n"), "{said}");
    assert!(said.ends_with("verify: Service web converged"), "{said}");
    assert_eq!(host.exec("web", "cat /run/secrets/pw"), "new");
    assert_eq!(host.exec("web", "ls /run/secrets"), "pw");
    assert_eq!(host.docker("secret rm pw-1").ok(), "pw-1");
    // The old task is kept as history, and shut down.
    let rows = host.docker("service ps --format '{{.Name}} {{.DesiredState}}' web").ok();
    assert_eq!(rows, "web.1 Running\nweb.1 Shutdown");
    let state = host.docker("service inspect -f {{.UpdateStatus.State}} web").ok();
    assert_eq!(state, "completed");
}

#[test]
fn service_update_replaces_tasks_only_when_it_must() {
    let host = Host::up("cli-update");
    host.create("--name web redis:alpine");
    let first = host.containers("web");
    host.docker("service update --label-add a=b --constraint-add node.role==manager web").ok();
    assert_eq!(host.containers("web"), first);
    let said = host.docker("service scale web=3").ok();
    assert!(said.starts_with("web scaled to 3\n"), "{said}");
    assert!(said.ends_with("verify: Service web converged"), "{said}");
    let three = host.containers("web");
    assert!(three.len() == 3 && three.contains(&first[0]), "{three:?}");

    host.docker("service update -q --update-parallelism 0 --force web").ok();
    let forced = host.containers("web");
    assert_eq!(forced.len(), 3);
    assert!(forced.iter().all(|name| !three.contains(name)), "{forced:?} {three:?}");
    host.docker("service scale web=1").ok();
    eventually("two containers stop", Duration::from_secs(20), || {
        (host.containers("web").len() == 1).then_some(())
    });
    host.docker("service update -q --env-add A=b web").ok();
    assert!(host.exec("web", "env").lines().any(|line| line == "A=b"));
    host.docker("service update -q --env-rm A web").ok();
    assert!(!host.exec("web", "env").lines().any(|line| line == "A=b"));
}

#[test]
fn service_update_that_fails_is_paused_and_the_command_fails() {
    let host = Host::up("cli-paused");
    host.create("--name web --replicas 2 redis:alpine");
    let said = host.docker("service update --no-resolve-image --image nowhere:1 web");
    let refusal = said.refused();
    let text = "service update paused: update paused due to failure or early termination of task ";
    assert!(refusal.contains(text), "{refusal}");
    let rows =
        host.docker("service ps --no-trunc --format '{{.CurrentState}} {{.Error}}' web").ok();
    assert!(rows.contains("Rejected") && rows.contains("No such image: nowhere:1"), "{rows}");
    // The old task of the slot may still be stopping; the other replica is left alone.
    eventually("one replica is left", Duration::from_secs(20), || {
        (host.containers("web").len() == 1).then_some(())
    });
    let said = host.docker("service update --no-resolve-image --image redis:alpine web").ok();
    assert!(said.ends_with("verify: Service web converged"), "{said}");
    assert_eq!(host.containers("web").len(), 2);
}

#[test]
fn a_failing_update_rolls_back_by_itself_and_a_service_is_rolled_back_by_hand() {
    let host = Host::up("cli-rollback");
    host.secret("pw", "kept");
    host.create(
        "--name web --secret pw --env V=1 --update-failure-action rollback \
         --rollback-monitor 500ms --rollback-order start-first redis:alpine",
    );
    let said =
        host.docker("service update --no-resolve-image --secret-rm pw --image nowhere:1 web").ok();
    let text = "rollback: update rolled back due to failure or early termination of task ";
    assert!(said.contains(text), "{said}");
    eventually("the rollback is over", Duration::from_secs(20), || {
        let state = host.docker("service inspect -f {{.UpdateStatus.State}} web").ok();
        (state == "rollback_completed").then_some(())
    });
    assert_eq!(host.exec("web", "cat /run/secrets/pw"), "kept");
    // What failed is not kept to go back to.
    let refusal = host.docker("service rollback web").refused();
    assert!(refusal.ends_with(" does not have a previous spec"), "{refusal}");

    let args = "service update -q --no-resolve-image --update-order start-first \
                --env-add V=2 --secret-rm pw web";
    host.docker(args).ok();
    eventually("the old one is gone", Duration::from_secs(20), || {
        (host.containers("web").len() == 1).then_some(())
    });
    assert!(host.exec("web", "env").lines().any(|line| line == "V=2"));
    let said = host.docker("service rollback web").ok();
    assert!(said.contains("rollback: manually requested rollback"), "{said}");
    eventually("the old one is gone", Duration::from_secs(20), || {
        (host.containers("web").len() == 1).then_some(())
    });
    assert!(host.exec("web", "env").lines().any(|line| line == "V=1"));
    assert_eq!(host.exec("web", "cat /run/secrets/pw"), "kept");
    let shown = host.docker("service inspect -f {{.UpdateStatus.Message}} web").ok();
    assert_eq!(shown, "rollback completed");
}

#[test]
fn service_whose_command_ends_is_restarted_by_its_policy() {
    let host = Host::up("cli-restart");
    let create = "service create -d --no-resolve-image --restart-delay 100ms";
    host.docker(&format!("{create} --name once --restart-condition none redis:alpine false")).ok();
    host.docker(&format!(
        "{create} --name thrice --restart-condition on-failure --restart-max-attempts 2 redis:alpine \
         sh -c 'exit 3'"
    ))
    .ok();
    let failed = |service: &str| {
        let rows = host.docker(&format!("service ps --format {{{{.Error}}}} {service}")).ok();
        rows.lines().filter(|error| error.contains("non-zero exit")).count()
    };
    eventually("it fails three times", Duration::from_secs(30), || {
        (failed("thrice") == 3).then_some(())
    });
    let rows = host.docker("service ps --no-trunc --format {{.Error}} thrice").ok();
    assert!(rows.contains("task: non-zero exit (3)"), "{rows}");
    assert_eq!(failed("once"), 1);
    assert_eq!(
        host.docker("service ls --format '{{.Name}} {{.Replicas}}'").ok(),
        "once 0/1\nthrice 0/1"
    );
}
