//! What is not built yet says so in a sentence, and the command fails.

use crate::kit::docker::docker;
use crate::kit::purser::Purser;

#[test]
fn stack_deploy_says_that_networks_are_not_supported() {
    let purser = Purser::swarm("no-stacks");
    let socket = purser.socket();
    let file = purser.dir().join("stack.yml");
    std::fs::write(&file, "services:\n  web:\n    image: redis\n").expect("a file");
    let refusal = docker(&socket, &format!("stack deploy -d -c {} st", file.display())).refused();
    assert!(refusal.ends_with("networks of the swarm are not supported yet"), "{refusal}");
    assert_eq!(docker(&socket, "stack ls --format {{.Name}}").ok(), "");
    assert_eq!(docker(&socket, "stack ps st").refused(), "nothing found in stack: st");
    let said = docker(&socket, "stack rm st");
    assert_eq!((said.code, said.err.as_str()), (0, "Nothing found in stack: st"));
}

#[test]
fn network_create_of_an_overlay_says_that_it_is_not_supported() {
    let purser = Purser::serve("no-networks");
    let socket = purser.socket();
    let create = "network create -d overlay back";
    let refusal = docker(&socket, create).refused();
    assert!(refusal.starts_with("This node is not a swarm manager."), "{refusal}");
    purser.init("127.0.0.1:0");
    let refusal = docker(&socket, create).refused();
    assert_eq!(refusal, "networks of the swarm are not supported yet");
}

#[test]
fn service_create_names_the_option_that_is_not_supported() {
    let purser = Purser::swarm("no-options");
    let socket = purser.socket();
    assert_eq!(
        docker(&socket, "service create -d --no-resolve-image -p 80:80 redis").refused(),
        "ports published in ingress mode are not supported yet"
    );
    assert_eq!(docker(&socket, "service ls -q").ok(), "");
}

#[test]
fn commands_for_containers_say_that_there_is_no_engine() {
    let purser = Purser::swarm("no-engine");
    let socket = purser.socket();
    let sentence = "no engine is attached to this manager";
    for args in ["pull redis", "network create x", "volume create x"] {
        assert_eq!(docker(&socket, args).refused(), sentence, "{args}");
    }
    for _ in 0..5 {
        let said = docker(&socket, "run redis");
        assert_eq!(said.code, 125, "{}", said.err);
        assert!(said.err.contains(sentence), "{}", said.err);
    }
    for args in ["logs x", "exec x ls", "rm x"] {
        let said = docker(&socket, args);
        assert_eq!(said.code, 1);
        assert!(said.err.contains("No such container: x"), "{args}: {}", said.err);
    }
}
