//! `docker config`, against a purser without an engine.

use crate::kit::docker::{docker, docker_with};
use crate::kit::purser::Purser;

#[test]
fn configs_are_made_listed_shown_and_removed() {
    let purser = Purser::swarm("config-cli");
    let socket = purser.socket();
    let id = docker_with(&socket, "config create -l env=prod site.conf -", b"listen 80").ok();
    assert_eq!(id.len(), 25);
    let row = "{{.ID}} {{.Name}} {{.Labels}}";
    assert_eq!(
        docker(&socket, &format!("config ls --format '{row}'")).ok(),
        format!("{id} site.conf env=prod")
    );
    assert_eq!(docker(&socket, "config ls -q --filter name=other").ok(), "");
    let pretty = docker(&socket, "config inspect --pretty site.conf").ok();
    for line in ["Name:\t\t\tsite.conf", " - env=prod", "listen 80"] {
        assert!(pretty.contains(line), "{line} in {pretty}");
    }
    let data = docker(&socket, "config inspect -f '{{json .Spec.Data}}' site.conf").ok();
    assert_eq!(data, "\"bGlzdGVuIDgw\"");
    assert_eq!(
        docker_with(&socket, "config create site.conf -", b"x").refused(),
        "rpc error: code = AlreadyExists desc = config site.conf already exists"
    );
    let said = docker(&socket, "config rm nope site.conf");
    assert_eq!(said.out, "site.conf");
    assert_eq!(said.refused(), "config nope not found");
    assert_eq!(docker(&socket, "config inspect nope").refused(), "config nope not found");
}

#[test]
fn a_service_is_granted_configs_and_they_are_rotated() {
    let purser = Purser::swarm("config-grant");
    let socket = purser.socket();
    for name in ["one", "two"] {
        docker_with(&socket, &format!("config create {name} -"), name.as_bytes()).ok();
    }
    let create = "service create -d --no-resolve-image --name web \
                  --config source=one,target=/etc/app,uid=1,gid=2,mode=0440 redis:alpine";
    docker(&socket, create).ok();
    assert_eq!(
        docker(&socket, "service create -d --config nope redis").refused(),
        "config not found: nope"
    );
    let shown = "service inspect -f '{{json .Spec.TaskTemplate.ContainerSpec.Configs}}' web";
    let grants: serde_json::Value =
        serde_json::from_str(&docker(&socket, shown).ok()).expect("JSON");
    assert_eq!(grants[0]["ConfigName"], "one");
    assert_eq!(
        grants[0]["File"],
        serde_json::json!({"Name": "/etc/app", "UID": "1", "GID": "2", "Mode": 0o440})
    );
    assert_eq!(
        docker(&socket, "config rm one").refused(),
        "rpc error: code = InvalidArgument desc = config 'one' is in use by the following service: \
         web"
    );
    let update = "service update -d --no-resolve-image --config-rm one \
                  --config-add source=two,target=/etc/app web";
    docker(&socket, update).ok();
    assert_eq!(docker(&socket, "config rm one").ok(), "one");
}
