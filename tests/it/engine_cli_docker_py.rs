//! The Python client, docker-py, unmodified, from a virtual environment of its own.

use std::path::Path;
use std::process::Command;

use crate::kit::engine::Engine;
use crate::kit::purser::Purser;
use crate::kit::python::{environment, run};

#[test]
fn docker_py_manages_secrets_services_nodes_and_the_swarm() {
    let python = environment("docker-py", &["docker==7.1.0"]).join("python");
    let engine = Engine::up("docker-py");
    let socket = format!("unix://{}", engine.socket().display());
    let purser = Purser::with_args("docker-py", &["--engine", &socket]);
    purser.init(&format!("{}:0", engine.host()));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/docker_py.py");
    run(Command::new("timeout").arg("180").arg(python).arg(script).arg(purser.socket()));
}
