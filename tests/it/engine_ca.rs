//! The root certificate of a swarm of stock engines, rotated: nobody has to join again.

use std::process::Command;

use serde_json::Value;

use crate::kit::engine::{PATIENCE, Site};
use crate::kit::eventually;

/// Each node, and what stands in the column of its certificate.
fn tls_status(site: &Site) -> String {
    site.docker("node ls --format '{{.Status}} {{.TLSStatus}}'").ok()
}

fn in_progress(site: &Site) -> bool {
    site.purser.client().get("/swarm").json()["RootRotationInProgress"] == Value::Bool(true)
}

#[test]
fn a_new_root_takes_its_place_and_all_engines_stay() {
    let site = Site::up(&["a", "b", "c"]);
    let [_, away, _] = &site.engines[..] else { panic!("three engines") };
    site.docker("swarm update --dispatcher-heartbeat 1s").ok();
    site.docker("service create -d --name web --replicas 3 redis:alpine").ok();
    let before = site.await_running("web", 3);
    let (token, root) =
        (site.docker("swarm join-token -q worker").ok(), site.docker("swarm ca").ok());

    // With everybody there it takes seconds; the command shows how it goes, to the end.
    let said = site.docker("swarm ca --rotate").ok();
    assert!(said.contains("BEGIN CERTIFICATE"), "{said}");
    let second = site.docker("swarm ca").ok();
    assert_ne!(second, root);
    assert!(!in_progress(&site));
    assert_eq!(tls_status(&site), ["Ready Ready"; 3].join("\n"));
    let other = site.docker("swarm join-token -q worker").ok();
    assert_ne!(other[..60], token[..60], "tokens name the root");
    assert_eq!(other[60..], token[60..], "and keep their secret");
    assert_eq!(site.running("web"), before, "no container was touched");

    // One that is away is waited for, and finds its way back.
    away.cut();
    site.await_node(away, "down");
    site.docker("swarm ca --rotate -d").ok();
    eventually("the others have renewed", PATIENCE, || {
        (tls_status(&site).matches("Ready Ready").count() == 2).then_some(())
    });
    assert!(in_progress(&site), "{}", tls_status(&site));
    let again = site.docker("swarm ca --rotate -d").refused();
    assert!(again.contains("is under way"), "{again}");
    away.heal();
    site.await_node(away, "ready");
    eventually("it ends", PATIENCE, || (!in_progress(&site)).then_some(()));
    eventually("all say so", PATIENCE, || {
        (tls_status(&site) == ["Ready Ready"; 3].join("\n")).then_some(())
    });
    assert_ne!(site.docker("swarm ca").ok(), second);
    site.await_running("web", 3);

    // The old token names a root that is no more: the engine itself refuses it.
    let mut site = site;
    site.grow("d");
    let newcomer = site.engines.last().expect("it was just made");
    site.await_node(newcomer, "ready");
}

#[test]
fn a_root_of_the_users_own_is_taken() {
    let mut site = Site::up(&["a", "b"]);
    let dir = crate::kit::scratch::Scratch::new("own-root");
    let (cert, key) = (dir.join("root.pem"), dir.join("root-key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "30", "-subj", "/O=Our Company/CN=our root"])
        .args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output();
    assert!(made.is_ok_and(|made| made.status.success()));
    let paths = format!("--ca-cert {} --ca-key {}", cert.display(), key.display());
    site.docker(&format!("swarm ca --rotate {paths}")).ok();
    let shown = site.docker("swarm ca").ok();
    let own = std::fs::read_to_string(&cert).expect("a file");
    assert_eq!(shown.trim(), own.trim());
    let swarm = site.purser.client().get("/swarm").text();
    let secret = std::fs::read_to_string(&key).expect("a file");
    let line = secret.lines().nth(1).expect("a key has lines");
    assert!(!swarm.contains(line), "the key is shown nowhere");
    // After a restart, and for who comes later.
    site.purser.kill();
    site.purser.start();
    site.grow("c");
    let newcomer = site.engines.last().expect("it was just made");
    site.await_node(newcomer, "ready");
    for engine in &site.engines[..2] {
        site.await_node(engine, "ready");
    }
}
