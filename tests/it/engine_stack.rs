//! A stack on a stock engine: what a compose file says reaches the containers, a second deploy
//! changes nothing, a third what was changed, and removal takes everything along.

use crate::kit::engine::{PATIENCE, Running, Site};
use crate::kit::eventually;
use crate::kit::scratch::Scratch;

const COMPOSE: &str = r#"version: "3.8"
services:
  web:
    image: redis:alpine
    command: sh -c "trap 'exit 0' TERM; while :; do sleep 1 & wait; done"
    networks: [back]
    stop_grace_period: 1s
    secrets:
      - plain
      - source: long
        target: /etc/app/key
        uid: "103"
        gid: "104"
        mode: 0440
    configs:
      - source: settings
        target: /etc/app/settings
    deploy:
      replicas: REPLICAS
      labels: {tier: front}
networks:
  back:
secrets:
  plain:
    file: ./plain.txt
  long:
    file: ./long.txt
configs:
  settings:
    file: ./settings.txt
"#;

#[test]
fn what_a_compose_file_says_reaches_the_containers() {
    let site = Site::up(&["stack"]);
    let dir = Scratch::new("stack");
    for (name, text) in [("plain", "a plain one"), ("long", "a long one"), ("settings", "a=b")] {
        std::fs::write(dir.join(format!("{name}.txt")), text).expect("a file");
    }
    let file = dir.join("stack.yml");
    let deploy = |replicas: u8| {
        let text = COMPOSE.replace("REPLICAS", &replicas.to_string());
        std::fs::write(&file, text).expect("a file");
        let deploy = "stack deploy -d --resolve-image never -c";
        site.docker(&format!("{deploy} {} shop", file.display())).ok();
    };
    deploy(1);
    let tasks = site.await_running("shop_web", 1);
    let shown = "cat /run/secrets/plain /etc/app/key /etc/app/settings";
    assert_eq!(site.exec(&tasks[0], shown).ok(), "a plain onea long onea=b");
    let stat = site.exec(&tasks[0], "stat -c '%a %u %g' /etc/app/key").ok();
    assert_eq!(stat, "440 103 104");
    assert_eq!(site.docker("stack ls --format '{{.Name}} {{.Services}}'").ok(), "shop 1");
    assert_eq!(site.docker("network ls -q --filter name=shop_back").ok().lines().count(), 1);

    deploy(1);
    assert_eq!(site.running("shop_web"), tasks, "nothing was changed, so nothing is");
    deploy(2);
    let more = site.await_running("shop_web", 2);
    assert!(more.contains(&tasks[0]), "the first one goes on: {more:?}");
    let running = site.docker("stack ps --filter desired-state=running -q shop").ok();
    assert_eq!(running.lines().count(), 2);

    site.docker("stack rm -d=false shop").ok();
    eventually("all of it is gone", PATIENCE, || {
        let left = ["service ls -q", "secret ls -q", "config ls -q", "ps -q --filter name=shop"];
        let network = "network ls -q --filter name=shop_back";
        let is_gone = |args: &str| site.docker(args).ok().is_empty();
        left.into_iter().chain([network]).all(is_gone).then_some(())
    });
}

const ROTATED: &str = r#"version: "3.8"
services:
  web:
    image: redis:alpine
    command: COMMAND
    stop_grace_period: 1s
    secrets: [db]
    configs: [site]
    deploy:
      replicas: 2
      update_config: {parallelism: 1, monitor: 1s}
  held:
    image: redis:alpine
    command: COMMAND
    stop_grace_period: 1s
    secrets: [db]
    deploy:
      labels: {purser.rotate: manual}
secrets:
  db:
    file: ./db.txt
configs:
  site:
    file: ./site.txt
"#;

/// What Swarm refuses: the file of a secret changes, and the stack is deployed again.
#[test]
fn a_changed_file_is_rolled_out_under_the_same_name() {
    let site = Site::up(&["rotate"]);
    let dir = Scratch::new("rotate");
    let command = "sh -c \"trap 'exit 0' TERM; while :; do sleep 1 & wait; done\"";
    let file = dir.join("stack.yml");
    std::fs::write(&file, ROTATED.replace("COMMAND", command)).expect("a file");
    let deploy = |db: &str, conf: &str| {
        std::fs::write(dir.join("db.txt"), db).expect("a file");
        std::fs::write(dir.join("site.txt"), conf).expect("a file");
        let deploy = "stack deploy -d --resolve-image never -c";
        site.docker(&format!("{deploy} {} shop", file.display())).ok();
    };
    deploy("one", "first");
    let before = site.await_running("shop_web", 2);
    let held = site.await_running("shop_held", 1);
    let listed = || site.docker("secret ls --format '{{.ID}} {{.Name}}'").ok();
    let (ids, updated) = (listed(), site.docker("secret inspect -f {{.UpdatedAt}} shop_db").ok());
    deploy("two", "second");
    assert_eq!(listed(), ids, "the same id and name");
    assert_ne!(site.docker("secret inspect -f {{.UpdatedAt}} shop_db").ok(), updated);
    let shown = "cat /run/secrets/db /site";
    let after = eventually("both tasks have the new value", PATIENCE, || {
        let tasks = site.running("shop_web");
        let is_new =
            |task: &Running| !before.contains(task) && site.exec(task, shown).is("twosecond");
        (tasks.len() == 2 && tasks.iter().all(is_new)).then_some(tasks)
    });
    assert_ne!(after, before);
    let state = "service inspect -f {{.UpdateStatus.State}} shop_web";
    eventually("the rollout is over", PATIENCE, || {
        (site.docker(state).ok() == "completed").then_some(())
    });
    // Who waits for its next update has what it was started with, also in a container made anew.
    assert_eq!(site.running("shop_held"), held);
    assert_eq!(site.exec(&held[0], "cat /run/secrets/db").ok(), "one");
    site.docker("service rollback -d shop_web").ok();
    eventually("both have the old value again", PATIENCE, || {
        let tasks = site.running("shop_web");
        let is_old = |task: &Running| site.exec(task, shown).is("onefirst");
        (tasks.len() == 2 && tasks.iter().all(is_old)).then_some(())
    });
    site.docker("stack rm -d=false shop").ok();
}

const SLOW: &str = r#"version: "3.8"
services:
  one:
    image: redis:alpine
    command: COMMAND
    stop_grace_period: 20s
    networks: [a, b]
    deploy: {mode: global}
  two:
    image: redis:alpine
    command: COMMAND
    stop_grace_period: 20s
    networks: [b, c]
    deploy: {mode: global}
networks:
  a:
  b:
  c:
"#;

/// Networks of the new stack have the names of the old one's, whose tasks take a while to stop: an
/// engine that had both would loop for ever.
#[test]
fn a_stack_that_is_deployed_again_at_once_comes_up() {
    let site = Site::up(&["again1", "again2", "again3"]);
    let dir = Scratch::new("again");
    let command = "sh -c \"trap 'sleep 6; exit 0' TERM; while :; do sleep 1 & wait; done\"";
    let file = dir.join("stack.yml");
    std::fs::write(&file, SLOW.replace("COMMAND", command)).expect("a file");
    let deploy = format!("stack deploy -d --resolve-image never -c {} shop", file.display());
    site.docker(&deploy).ok();
    for round in 0..3 {
        let old: Vec<String> = ["one", "two"]
            .iter()
            .flat_map(|name| site.await_running(&format!("shop_{name}"), 3))
            .map(|task| task.task)
            .collect();
        site.docker("stack rm -d shop").ok();
        site.docker(&deploy).ok();
        for name in ["shop_one", "shop_two"] {
            let new = site.await_running(name, 3);
            assert!(new.iter().all(|task| !old.contains(&task.task)), "round {round}: {new:?}");
        }
    }
    let rejected = site.docker("stack ps --no-trunc --format {{.Error}} shop").ok();
    assert_eq!(rejected.trim(), "", "no task was given up on the way");
    site.docker("stack rm -d=false shop").ok();
}
