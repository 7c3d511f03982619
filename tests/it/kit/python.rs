//! Python programs from the package index, each in a virtual environment of its own, made on the
//! first run and kept for the next.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory of programs, `python` among them, with these packages.
#[track_caller]
pub fn environment(name: &str, packages: &[&str]) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let ready = dir.join("ready");
    if std::fs::read_to_string(&ready).ok().as_deref() != Some(&packages.join(" ")) {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir));
        let pip = ["-m", "pip", "install", "--quiet"];
        run(Command::new(dir.join("bin/python")).args(pip).args(packages));
        std::fs::write(&ready, packages.join(" ")).expect("the target directory can be written to");
    }
    dir.join("bin")
}

/// Runs a program to its end, which has to be a good one.
#[track_caller]
pub fn run(command: &mut Command) {
    let said = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success(), "{command:?}: {}\n{out}\n{err}", said.status);
}
