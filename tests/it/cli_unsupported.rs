//! What needs an engine says so in a sentence when there is none, and the command fails.

use crate::kit::docker::docker;
use crate::kit::purser::Purser;

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
