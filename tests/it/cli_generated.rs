//! The API document as others use it: it is valid, and a client that a stock generator makes of it
//! works.

use std::path::Path;
use std::process::Command;

use crate::kit::purser::Purser;
use crate::kit::python::{environment, run};
use crate::kit::scratch::Scratch;

#[test]
fn a_client_generated_from_the_document_works() {
    let packages = ["openapi-python-client==0.29.1", "openapi-spec-validator==0.9.0"];
    let programs = environment("openapi", &packages);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = root.join("openapi/openapi.json");
    run(Command::new(programs.join("openapi-spec-validator")).arg(&document));

    let scratch = Scratch::new("generated");
    let generate = ["generate", "--overwrite", "--meta", "none"];
    run(Command::new(programs.join("openapi-python-client"))
        .args(generate)
        .arg("--path")
        .arg(&document)
        .arg("--output-path")
        .arg(scratch.join("client")));

    let purser = Purser::swarm("generated");
    let script = root.join("tests/clients/generated.py");
    run(Command::new("timeout")
        .arg("60")
        .arg(programs.join("python"))
        .arg(script)
        .arg(&*scratch)
        .arg(purser.socket()));
}
