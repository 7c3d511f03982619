//! The docker command over TCP with TLS.

use crate::kit::docker::docker_in;
use crate::kit::tls::{Authority, CLIENT, Guarded, LATER, LONG_AGO, SERVER};

#[test]
fn docker_tlsverify_gets_in_with_a_certificate_of_the_authority_only() {
    let guarded = Guarded::serve("cli-tls");
    guarded.purser.init("127.0.0.1:0");
    let ann = guarded.authority.issue("ann", &CLIENT, LATER);
    let docker = |pair, args: &str, input: &[u8]| {
        let host = guarded.docker_args(pair);
        docker_in(&guarded.dir, &format!("{host} {args}"), input)
    };
    let id = docker(&ann, "secret create db-pass -", b"hunter2").ok();
    assert_eq!(docker(&ann, "secret ls -q", b"").ok(), id);
    let said = docker(&ann, "secret create db-pass -", b"hunter2").refused();
    assert!(said.ends_with("secret db-pass already exists"), "{said}");

    let others = Authority::new(&guarded.dir, "others");
    let refused = [
        // The command does not even show what the server would not believe.
        (others.issue("mallory", &CLIENT, LATER), "certificate required"),
        (guarded.authority.issue("late", &CLIENT, LONG_AGO), "expired certificate"),
        (guarded.authority.issue("not-a-client", &SERVER, LATER), "unsupported certificate"),
    ];
    for (pair, why) in &refused {
        let said = docker(pair, "secret ls", b"");
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{why}: {said:?}");
        assert!(said.err.contains(why), "{why}: {said:?}");
    }
    let bare = format!(
        "--tlsverify --tlscacert {} -H tcp://{} secret ls",
        guarded.authority.file.display(),
        guarded.addr
    );
    let said = docker_in(&guarded.dir, &bare, b"");
    assert!(said.code == 1 && said.err.contains("certificate required"), "{said:?}");
    let plain = docker_in(&guarded.dir, &format!("-H tcp://{} secret ls", guarded.addr), b"");
    assert!(plain.code == 1 && plain.out.is_empty(), "{plain:?}");
    // The server is checked as well.
    let args = guarded.docker_args(&ann).replace("authority.pem", "others.pem");
    let said = docker_in(&guarded.dir, &format!("{args} secret ls"), b"");
    assert!(said.code == 1 && said.err.contains("unknown authority"), "{said:?}");
}

#[test]
fn docker_context_leads_to_it() {
    let guarded = Guarded::serve("cli-context");
    guarded.purser.init("127.0.0.1:0");
    let ann = guarded.authority.issue("ann", &CLIENT, LATER);
    let config = guarded.dir.join("docker");
    let host = format!(
        "host=tcp://{},ca={},cert={},key={}",
        guarded.addr,
        guarded.authority.file.display(),
        ann.cert.display(),
        ann.key.display()
    );
    docker_in(&config, &format!("context create far --docker {host}"), b"").ok();
    let id = docker_in(&config, "--context far config create motd -", b"hello").ok();
    assert_eq!(docker_in(&config, "--context far config ls -q", b"").ok(), id);
    docker_in(&config, "context use far", b"").ok();
    assert_eq!(docker_in(&config, "info -f {{.Swarm.LocalNodeState}}", b"").ok(), "active");
    // Plugins find their own way there.
    std::fs::create_dir(config.join("cli-plugins")).expect("a directory");
    let plugin = config.join("cli-plugins/docker-purser");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_purser"), plugin).expect("a link");
    let set = docker_in(&config, "purser secret set pw", b"by certificate");
    assert_eq!(set.ok(), "pw: version 1");
    let bare = format!("-H tcp://{} purser secret history pw", guarded.addr);
    assert_eq!(docker_in(&config, &bare, b"").code, 1, "without a certificate nothing is told");
    let flags = format!(
        "-H tcp://{} --tlsverify --tlscacert {} --tlscert {} --tlskey {}",
        guarded.addr,
        guarded.authority.file.display(),
        ann.cert.display(),
        ann.key.display()
    );
    let history = docker_in(&config, &format!("{flags} purser secret history pw"), b"").ok();
    assert!(history.contains("yes"), "{history}");
}
