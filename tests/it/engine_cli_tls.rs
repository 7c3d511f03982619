//! Upgraded connections over TLS: what goes on to an engine's containers.

use crate::kit::docker::{Said, docker_in};
use crate::kit::engine::Engine;
use crate::kit::tls::{CLIENT, Guarded, LATER};

#[test]
fn containers_are_entered_and_attached_to_over_tls() {
    let engine = Engine::up("tls");
    let socket = format!("unix://{}", engine.socket().display());
    let guarded = Guarded::with_args("engine-tls", &["--engine", &socket]);
    let host = guarded.docker_args(&guarded.authority.issue("ann", &CLIENT, LATER));
    let docker = |args: &str, input: &[u8]| -> Said {
        docker_in(&guarded.dir, &format!("{host} {args}"), input)
    };
    let said = docker("run --rm redis:alpine sh -c 'echo out; echo err >&2; exit 7'", b"");
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (7, "out", "err"));
    docker("run -d --name box redis:alpine", b"").ok();
    // A mebibyte each way, and the end of the input is the end of the command.
    let input = "0123456\n".repeat(131_072);
    let echoed = docker("exec -i box cat", input.as_bytes()).ok();
    assert!(echoed == input.trim_end(), "what came back is something else");
    docker("create -i --name once redis:alpine cat", b"").ok();
    assert_eq!(docker("start -a -i once", b"ahoy").ok(), "ahoy");
    docker("rm -f box once", b"").ok();
}
