//! The keys of a store: rotated while clients write, whatever moment a crash comes at; and where the
//! key that unlocks them comes from.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::docker::{docker, docker_with};
use crate::kit::http::Client;
use crate::kit::purser::Purser;

fn make_secrets(client: &Client, prefix: &str, count: usize) {
    for number in 0..count {
        let body = json!({"Name": format!("{prefix}-{number}"), "Data": "c2VjcmV0"});
        assert_eq!(client.post("/secrets/create", &body).status, 201);
    }
}

/// The keys of a use: whether each seals now, and how many objects need it.
fn keys(client: &Client, usage: &str) -> Vec<(bool, u64)> {
    let keys = client.get("/purser/keys").json();
    let of_use = |key: &&Value| key["Use"] == usage;
    let shown = |key: &Value| (key["Active"] == true, key["Objects"].as_u64().expect("a count"));
    keys.as_array().expect("a list").iter().filter(of_use).map(shown).collect()
}

fn command(purser: &Purser, words: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_purser"));
    command.args(words).args(purser.dirs()).env_clear();
    let output = command.output().expect("the binary runs");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text.into_owned())
}

#[test]
fn keys_are_rotated_while_clients_write() {
    let mut purser = Purser::swarm("keys-rotate");
    let client = purser.client();
    make_secrets(&client, "before", 300);
    assert_eq!(keys(&client, "ring"), [(true, 301)], "the secrets and the root's signing key");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let (client, stop) = (purser.client(), &stop);
                scope.spawn(move || {
                    let mut made = 0;
                    while !stop.load(Ordering::Relaxed) {
                        make_secrets(&client, &format!("w{writer}-{made}"), 1);
                        made += 1;
                    }
                    made
                })
            })
            .collect();
        for _ in 0..3 {
            let (is_done, said) = command(&purser, &["keys", "rotate"]);
            assert!(is_done && said.contains("rotated"), "{said}");
        }
        stop.store(true, Ordering::Relaxed);
        let made: u64 = writers.into_iter().map(|writer| writer.join().expect("it writes")).sum();
        assert_eq!(keys(&client, "ring"), [(true, 301 + made)]);
    });
    let [(true, objects)] = keys(&client, "epoch")[..] else { panic!("one epoch key is left") };
    assert!(objects > 301, "{objects}");
    assert_eq!(keys(&client, "audit").len(), 4, "records stay as they were sealed");
    let before = client.get("/secrets").text();
    purser.stop();
    purser.start();
    assert_eq!(purser.client().get("/secrets").text(), before);
    let (is_done, said) = command(&purser, &["keys", "list"]);
    assert!(is_done && said.contains("ring") && said.contains("yes"), "{said}");
}

#[test]
fn a_rotation_that_is_killed_goes_on_at_the_next_start() {
    let mut purser = Purser::swarm("keys-kill");
    make_secrets(&purser.client(), "s", 600);
    let before = purser.client().get("/secrets").text();
    for round in 0..10_u64 {
        std::thread::scope(|scope| {
            let client = purser.client();
            scope.spawn(move || {
                let _ = client.raw(b"POST /purser/keys/rotate HTTP/1.0\r\nHost: x\r\n\r\n");
            });
            std::thread::sleep(Duration::from_millis(2 + 5 * round));
            purser.kill();
        });
        purser.start();
        let client = purser.client();
        assert_eq!(client.get("/secrets").text(), before, "round {round}");
        crate::kit::eventually("the rotation ends", Duration::from_secs(20), || {
            let [(true, rings)] = keys(&client, "ring")[..] else { return None };
            let [(true, epochs)] = keys(&client, "epoch")[..] else { return None };
            (rings == 601 && epochs > 601).then_some(())
        });
    }
}

#[test]
fn a_store_moves_to_the_provider_that_stands_first() {
    let mut purser = Purser::swarm("keys-provider");
    make_secrets(&purser.client(), "s", 1);
    purser.stop();
    let file = format!("file:{}", purser.dir().join("unlock.key").display());
    let digits = "5a".repeat(32);
    let script = purser.dir().join("key.sh");
    std::fs::write(&script, format!("echo {digits}\n")).expect("a file");
    let exec = format!("exec:sh {}", script.display());
    // Both are there: the keys lie under the file's, and move.
    purser.set_args(&["--engine", "none", "--unlock", &exec, "--unlock", &file]);
    purser.start();
    purser.stop();
    purser.set_args(&["--engine", "none", "--unlock", &file]);
    assert!(purser.fails_to_start().contains("cannot be opened with this unlock key"));
    purser.set_args(&["--engine", "none", "--unlock", &exec]);
    purser.start();
    assert_eq!(purser.client().get("/secrets").json().as_array().map(Vec::len), Some(1));
    purser.stop();
    assert!(!purser.log().contains(&digits), "what a command prints is said nowhere");
    purser.set_args(&["--engine", "none", "--unlock", "exec:false"]);
    assert!(purser.fails_to_start().contains("ended with exit status: 1"));
    purser.set_args(&["--engine", "none", "--unlock", "kms:x"]);
    assert!(purser.fails_to_start().contains("is no provider"));
}

#[test]
fn a_passphrase_opens_the_store() {
    let dir = crate::kit::purser::scratch_dir("keys-passphrase");
    let path = |name: &str| dir.join(name).display().to_string();
    let run = |passphrase: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_purser"))
            .args(["serve", "--engine", "none", "--unlock", "passphrase:0"])
            .args(["--data-dir", &path("data"), "--socket", &path("p.sock")])
            .env_clear()
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(passphrase.as_bytes()).expect("it reads");
        drop(stdin);
        child
    };
    for _ in 0..2 {
        let mut child = run("correct horse battery staple\n");
        let client = Client::new(&dir.join("p.sock"));
        crate::kit::eventually("it is ready", Duration::from_secs(20), || {
            let ready = client.raw(b"GET /readyz HTTP/1.0\r\nHost: x\r\n\r\n");
            ready.ok().filter(|answer| answer.status == 200)
        });
        child.kill().and_then(|()| child.wait().map(|_| ())).expect("it is there");
    }
    for (passphrase, why) in
        [("correct horse battery stable\n", "cannot be opened"), ("tiny\n", "shorter than 12")]
    {
        let output = run(passphrase).wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(why), "{said}");
        assert!(!said.contains(passphrase.trim()), "{said}");
    }
    let _ = std::fs::remove_dir_all(&dir);
}

/// The documentation's own walk through autolock, with the docker command.
#[test]
fn autolock_is_turned_on_used_rotated_and_turned_off() {
    let mut purser = Purser::swarm("keys-autolock");
    let socket = purser.socket();
    docker_with(&socket, "secret create canary -", b"x").ok();
    let said = docker(&socket, "swarm update --autolock=true").ok();
    let key = said.lines().find_map(|line| line.trim().strip_prefix("SWMKEY-1-"));
    let key = format!("SWMKEY-1-{}", key.expect("the command prints the key"));
    assert_eq!(docker(&socket, "swarm unlock-key -q").ok(), key);

    purser.stop();
    purser.start_locked();
    let locked = "Swarm is encrypted and needs to be unlocked before it can be used. Please use \
        \"docker swarm unlock\" to unlock it.";
    for command in ["secret ls", "service ls", "node ls", "swarm unlock-key", "secret inspect x"] {
        let refused = docker(&socket, command).refused();
        assert!(refused.ends_with(locked), "{command}: {refused}");
    }
    assert_eq!(docker(&socket, "info -f {{.Swarm.LocalNodeState}}").ok(), "locked");
    assert_eq!(docker(&socket, "info -f {{.Swarm.Error}}").ok(), locked);
    let client = purser.client();
    assert_eq!(client.get("/_ping").header("Swarm"), Some("locked"));
    assert_eq!((client.get("/readyz").status, client.get("/livez").status), (503, 200));
    let in_swarm = "This node is already part of a swarm. Use \"docker swarm leave\" to leave this \
        swarm and join another one.";
    assert_eq!(docker(&socket, "swarm init").refused(), in_swarm);
    assert_eq!(
        docker(&socket, "swarm leave").refused(),
        "Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this \
         message."
    );
    let unlock = |key: &str| docker_with(&socket, "swarm unlock", format!("{key}\n").as_bytes());
    assert_eq!(unlock("SWMKEY-1-x").refused(), "invalid key string");
    let wrong = format!("SWMKEY-1-{}", "A".repeat(43));
    assert_eq!(unlock(&wrong).refused(), "swarm could not be unlocked: invalid key provided");
    unlock(&key).ok();
    assert_eq!(docker(&socket, "secret ls -q").ok().lines().count(), 1);
    assert_eq!(client.get("/readyz").status, 200);
    let body = json!({"UnlockKey": key});
    let again = client.post("/swarm/unlock", &body);
    assert_eq!((again.status, again.message()), (409, "swarm is not locked".to_owned()));

    // Another key: the one before opens nothing any more.
    let said = docker(&socket, "swarm unlock-key --rotate -q").ok();
    assert!(said.starts_with("SWMKEY-1-") && said != key, "{said}");
    purser.kill();
    purser.start_locked();
    assert!(unlock(&key).refused().ends_with("invalid key provided"));
    unlock(&said).ok();

    docker(&socket, "swarm update --autolock=false").ok();
    assert_eq!(docker(&socket, "swarm unlock-key").refused(), "no unlock key is set");
    purser.stop();
    purser.start();
    assert_eq!(docker(&socket, "secret ls -q").ok().lines().count(), 1);
    assert!(!purser.log().contains("SWMKEY-1-"), "no key in the log");
}

/// Between the wish for a lock and the first look at its key, nobody could unlock: a crash there locks
/// nobody out.
#[test]
fn a_lock_whose_key_nobody_has_seen_locks_nobody_out() {
    let mut purser = Purser::swarm("keys-unseen");
    let client = purser.client();
    let version = client.get("/swarm").json()["Version"]["Index"].clone();
    let wish = json!({"EncryptionConfig": {"AutoLockManagers": true}});
    let path = format!("/swarm/update?version={version}");
    assert_eq!(client.post(&path, &wish).status, 200);
    purser.kill();
    purser.start();
    let client = purser.client();
    let spec = client.get("/swarm").json()["Spec"]["EncryptionConfig"].clone();
    assert_eq!(spec, json!({"AutoLockManagers": true}));
    let key =
        client.get("/swarm/unlockkey").json()["UnlockKey"].as_str().expect("a key").to_owned();
    assert!(key.starts_with("SWMKEY-1-"));
    purser.kill();
    purser.start_locked();
    assert_eq!(purser.client().post("/swarm/unlock", &json!({"UnlockKey": key})).status, 200);
}

#[test]
fn a_locked_swarm_can_be_given_up() {
    let mut purser = Purser::swarm("keys-forget");
    let socket = purser.socket();
    docker_with(&socket, "secret create canary -", b"x").ok();
    docker(&socket, "swarm update --autolock=true").ok();
    purser.kill();
    purser.start_locked();
    docker(&socket, "swarm leave --force").ok();
    assert_eq!(docker(&socket, "info -f {{.Swarm.LocalNodeState}}").ok(), "inactive");
    purser.init("127.0.0.1:0");
    assert_eq!(docker(&socket, "secret ls -q").ok(), "");
    purser.stop();
    purser.start();
    assert_eq!(docker(&socket, "info -f {{.Swarm.LocalNodeState}}").ok(), "active");
}
