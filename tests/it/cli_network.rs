//! `docker network` and `docker stack`, against a purser without an engine.

use crate::kit::docker::docker;
use crate::kit::eventually;
use crate::kit::purser::Purser;
use std::time::Duration;

#[test]
fn an_overlay_is_made_listed_inspected_and_removed() {
    let purser = Purser::serve("cli-net");
    let socket = purser.socket();
    let create = "network create -d overlay --attachable --label a=b back";
    let refusal = docker(&socket, create).refused();
    assert!(refusal.starts_with("This node is not a swarm manager."), "{refusal}");
    purser.init("127.0.0.1:0");
    let id = docker(&socket, create).ok();
    let listed =
        docker(&socket, "network ls --no-trunc --format {{.ID}}:{{.Name}}:{{.Scope}}").ok();
    assert!(listed.contains(&format!("{id}:back:swarm")) && listed.contains(":ingress:swarm"));
    let format = "'{{(index .IPAM.Config 0).Subnet}} {{.Attachable}} {{.Labels.a}}'";
    let shown = docker(&socket, &format!("network inspect -f {format} back")).ok();
    assert_eq!(shown, "10.0.1.0/24 true b");
    assert_eq!(docker(&socket, create).refused(), "network with name back already exists");
    let service = "service create -d --no-resolve-image --network back --name web -p 80:80 redis";
    docker(&socket, service).ok();
    let refusal = docker(&socket, "network rm back").refused();
    assert!(refusal.contains("is in use by service"), "{refusal}");
    let ports = docker(&socket, "service ls --format {{.Ports}}").ok();
    assert_eq!(ports, "*:80->80/tcp");
    docker(&socket, "service update -d --network-rm back web").ok();
    docker(&socket, "service rm web").ok();
    docker(&socket, "network rm back").ok();
    let refusal = docker(&socket, "network inspect back");
    assert!(refusal.err.contains("network back not found"), "{}", refusal.err);
}

const STACK: &str = r#"
services:
  web:
    image: redis:7
    networks: [front, back]
    ports: ["8080:80"]
    secrets:
      - short
      - source: long
        target: other
        mode: 0400
    configs:
      - source: settings
        target: /etc/settings
    deploy:
      replicas: 2
      labels: {tier: front}
      update_config: {parallelism: 2, order: start-first}
      restart_policy: {condition: on-failure}
      resources: {limits: {memory: 50M}}
      placement: {constraints: [node.role == worker]}
  db:
    image: redis:7
    networks:
      back: {aliases: [data]}
    deploy: {mode: global, endpoint_mode: dnsrr}
networks:
  front:
  back:
    driver: overlay
    attachable: true
secrets:
  short: {file: ./short}
  long: {file: ./long}
configs:
  settings: {file: ./settings}
"#;

#[test]
fn a_stack_is_deployed_redeployed_and_removed() {
    let mut purser = Purser::swarm("cli-stack");
    let socket = purser.socket();
    for name in ["short", "long", "settings"] {
        std::fs::write(purser.dir().join(name), format!("{name}\n")).expect("a file");
    }
    let file = purser.dir().join("stack.yml");
    std::fs::write(&file, format!("version: \"3.8\"\n{STACK}")).expect("a file");
    let deploy = format!("stack deploy -d --resolve-image never -c {} st", file.display());
    docker(&socket, &deploy).ok();
    let names = |list: &str| {
        let mut names: Vec<String> =
            docker(&socket, list).ok().lines().map(str::to_owned).collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(names("network ls --format {{.Name}}"), "ingress st_back st_front");
    assert_eq!(names("secret ls --format {{.Name}}"), "st_long st_short");
    assert_eq!(names("config ls --format {{.Name}}"), "st_settings");
    assert_eq!(names("stack ls --format {{.Name}}:{{.Services}}"), "st:2");
    assert_eq!(names("stack services --format {{.Name}} st"), "st_db st_web");
    let tasks = eventually("it has tasks", Duration::from_secs(20), || {
        let tasks = names("stack ps --format {{.Name}}:{{.DesiredState}} st");
        (tasks == "st_web.1:Running st_web.2:Running").then_some(tasks)
    });
    assert!(!tasks.is_empty());
    let service = "service inspect -f '{{json .Spec.TaskTemplate.Networks}} {{.Version.Index}}'";
    let web = docker(&socket, &format!("{service} st_web")).ok();
    assert!(web.contains("\"Aliases\":[\"web\"]"), "{web}");
    let given = "service inspect -f '{{len .Endpoint.VirtualIPs}} {{json .Endpoint.Ports}}' st_web";
    let given = docker(&socket, given).ok();
    assert!(given.starts_with("3 ") && given.contains("\"PublishedPort\":8080"), "{given}");

    // The same again changes nothing.
    let ids = |service: &str| names(&format!("service ps -q {service}"));
    let before = ids("st_web");
    docker(&socket, &deploy).ok();
    assert_eq!(ids("st_web"), before);
    // Something else changes that.
    std::fs::write(
        &file,
        format!("version: \"3.8\"\n{}", STACK.replace("replicas: 2", "replicas: 3")),
    )
    .expect("a file");
    docker(&socket, &deploy).ok();
    eventually("a third task", Duration::from_secs(20), || {
        (names("stack ps --format {{.Name}} st").split(' ').count() == 3).then_some(())
    });
    // A file that changed is a new version of the same secret, or needs a name of its own with Swarm.
    let secrets = names("secret ls -q");
    std::fs::write(purser.dir().join("short"), "changed\n").expect("a file");
    docker(&socket, &deploy).ok();
    assert_eq!(names("secret ls -q"), secrets);
    purser.stop();
    purser.set_args(&["--engine", "none", "--compat", "strict"]);
    purser.start();
    std::fs::write(purser.dir().join("short"), "changed again\n").expect("a file");
    let refusal = docker(&socket, &deploy).refused();
    assert!(refusal.contains("only updates to Labels are allowed"), "{refusal}");

    let removed = docker(&socket, "stack rm st");
    assert_eq!(removed.code, 0, "{}", removed.err);
    assert_eq!(names("network ls --format {{.Name}}"), "ingress");
    assert_eq!(names("secret ls -q"), "");
    assert_eq!(names("config ls -q"), "");
    assert_eq!(docker(&socket, "stack ps st").refused(), "nothing found in stack: st");
    let again = docker(&socket, "stack rm st");
    assert_eq!((again.code, again.err.as_str()), (0, "Nothing found in stack: st"));
}
