//! The Python client, docker-py, unmodified, from a virtual environment of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kit::engine::{Engine, HOST};
use crate::kit::purser::Purser;

/// The release that is tested.
const RELEASE: &str = "docker==7.1.0";

/// A Python with the client, made on the first run and kept for the next.
fn python() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("docker-py-7.1.0");
    let python = dir.join("bin/python");
    let ready = dir.join("ready");
    if !ready.exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir));
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", RELEASE]));
        std::fs::write(&ready, RELEASE).expect("the target directory can be written to");
    }
    python
}

#[track_caller]
fn run(command: &mut Command) {
    let said = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success(), "{command:?}: {}\n{out}\n{err}", said.status);
}

#[test]
fn docker_py_manages_secrets_services_nodes_and_the_swarm() {
    let python = python();
    let engine = Engine::up("docker-py");
    let socket = format!("unix://{}", engine.socket().display());
    let purser = Purser::with_args("docker-py", &["--engine", &socket]);
    purser.init(&format!("{HOST}:0"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/docker_py.py");
    run(Command::new("timeout").arg("180").arg(python).arg(script).arg(purser.socket()));
}
