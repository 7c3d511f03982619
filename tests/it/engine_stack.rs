//! A stack on a stock engine: what a compose file says reaches the containers, a second deploy
//! changes nothing, a third what was changed, and removal takes everything along.

use crate::kit::engine::{PATIENCE, Site};
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
