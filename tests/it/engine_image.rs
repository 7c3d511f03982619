//! The container image: the final stage of the Dockerfile, on a base made here, since no registry
//! may be reachable.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::kit::engine::Engine;
use crate::kit::eventually;
use crate::kit::scratch::Scratch;

/// Where the Dockerfile's final stage begins.
const FINAL_STAGE: &str = "# --- final stage";

#[test]
fn the_image_runs_as_a_user_of_its_own_and_becomes_healthy() {
    let engine = Engine::up("img");
    let dir = Scratch::new("img");
    let binary = env!("CARGO_BIN_EXE_purser");
    import(&engine, &dir, "purser-base:test", &libraries(binary), &[]);
    let out = [(binary.to_owned(), "out/purser".to_owned())];
    import(&engine, &dir, "purser-build:test", &out, &["out/data", "out/run"]);

    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Dockerfile"));
    let text = text.expect("the Dockerfile");
    let (_, stage) = text.split_once(FINAL_STAGE).expect("a final stage");
    let stage = stage.replacen("FROM debian:bookworm-slim", "FROM purser-base:test", 1);
    let context = dir.join("context");
    std::fs::create_dir_all(&context).expect("a directory");
    std::fs::write(context.join("Dockerfile"), format!("FROM purser-build:test AS build\n{stage}"))
        .expect("a Dockerfile");
    build(&engine, &context);

    let key = dir.join("unlock.key");
    std::fs::write(&key, "0123456789abcdef".repeat(4)).expect("a key file");
    run("chmod", &["600", &key.display().to_string()]);
    run("chown", &["65532:65532", &key.display().to_string()]);
    let mount = format!("-v {}:/run/keys/unlock.key:ro", key.display());
    engine.docker(&format!("run -d --name purser --network host {mount} purser:test")).ok();
    eventually("the container is healthy", Duration::from_secs(60), || {
        let state = engine.docker("inspect -f {{.State.Health.Status}} purser").out;
        assert_ne!(engine.docker("inspect -f {{.State.Running}} purser").out, "false", "{}", {
            engine.docker("logs purser").err
        });
        (state == "healthy").then_some(())
    });
    assert!(engine.docker("top purser -o pid,uid").ok().contains("65532"));
    engine.docker("exec purser /usr/local/bin/purser healthcheck").ok();
    engine.docker("stop -t 10 purser").ok();
    assert_eq!(engine.docker("inspect -f {{.State.ExitCode}} purser").ok(), "0");
}

/// What a binary needs of its host: the libraries it is linked with, at the same places.
fn libraries(binary: &str) -> Vec<(String, String)> {
    let listed = Command::new("ldd").arg(binary).output().expect("ldd runs");
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
    paths.map(|path| (path.to_owned(), path.trim_start_matches('/').to_owned())).collect()
}

/// Makes an image from files of this host and empty directories.
fn import(engine: &Engine, dir: &Path, tag: &str, files: &[(String, String)], empty: &[&str]) {
    let root = dir.join(tag.replace(':', "-"));
    for path in empty {
        std::fs::create_dir_all(root.join(path)).expect("a directory");
    }
    for (from, to) in files {
        let to = root.join(to);
        std::fs::create_dir_all(to.parent().expect("a parent")).expect("a directory");
        std::fs::copy(from, to).expect("a copy");
    }
    let socket = format!("unix://{}", engine.socket().display());
    let pack = format!("tar -C {} -c . | docker -H {socket} import - {tag}", root.display());
    run("sh", &["-c", &pack]);
    let _ = std::fs::remove_dir_all(&root);
}

fn build(engine: &Engine, context: &Path) {
    let built = Command::new("docker")
        .args(["build", "-q", "-t", "purser:test"])
        .arg(context)
        .env("DOCKER_HOST", format!("unix://{}", engine.socket().display()))
        .env("DOCKER_BUILDKIT", "0")
        .output()
        .expect("docker runs");
    let err = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{}{err}", String::from_utf8_lossy(&built.stdout));
}

fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).stdout(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "{program} {args:?}");
}
