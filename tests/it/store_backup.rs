//! Backups: one file, made while clients write, that brings everything back on another host.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::kit::agent::Habits;
use crate::kit::agent::cluster::{Cluster, service};
use crate::kit::http::Client;
use crate::kit::purser::Purser;
use crate::kit::scratch::Scratch;
use crate::kit::search::canary;

fn purser(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_purser")).args(words).env_clear().output().expect("it runs")
}

#[track_caller]
fn ok(output: Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[track_caller]
fn refused(output: Output) -> String {
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A recovery key: its file and its recipient.
fn key(dir: &Path) -> (String, String) {
    let file = dir.join("recovery.key").display().to_string();
    let recipient = ok(purser(&["backup", "key", &file])).trim().to_owned();
    assert!(recipient.starts_with("age1"), "{recipient}");
    (file, recipient)
}

fn make(dir: &Path, of: &Purser, name: &str, recipient: &str) -> PathBuf {
    let file = dir.join(name);
    let socket = of.socket().display().to_string();
    let path = file.display().to_string();
    ok(purser(&["backup", &path, "--recipient", recipient, "--socket", &socket]));
    file
}

/// What `restore` takes besides the file: into the directories of a purser that does not run.
fn restore(file: &Path, identity: &str, to: &Purser, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_purser"));
    command.arg("restore").arg(file).args(["--identity", identity]).args(more);
    command.args(to.dirs()).env_clear().output().expect("it runs")
}

fn make_secret(client: &Client, name: &str, data: &str) {
    let body = json!({"Name": name, "Data": data});
    assert_eq!(client.post("/secrets/create", &body).status, 201);
}

#[test]
fn a_backup_brings_everything_back_on_another_host() {
    let dir = Scratch::new("backup");
    let (identity, recipient) = key(&dir);
    let mut cluster = Cluster::new("backup-old");
    let value = canary(40);
    let secret = cluster.secret("granted", value.as_bytes());
    cluster.service(&service("web", 1, &[(&secret, "granted")]));
    let member = cluster.join().expect("it is admitted");
    let agent = member.start();
    agent.until("the secret", |seen| seen.model.secrets.contains_key(&secret).then_some(()));
    cluster.until_running("web", 1);
    let before = (cluster.swarm()["JoinTokens"].clone(), cluster.client.get("/services").text());
    let file = make(&dir, &cluster.purser, "swarm.age", &recipient);

    // Nothing in it can be read without the key, and nothing is left beside the store.
    let bytes = std::fs::read(&file).expect("a file");
    assert!(bytes.starts_with(b"age-encryption.org/v1\n"));
    assert!(!bytes.windows(value.len()).any(|window| window == value.as_bytes()));
    let left = std::fs::read_dir(cluster.purser.data_dir()).expect("a directory");
    let left: Vec<_> = left.map(|entry| entry.expect("an entry").file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("scratch")), "{left:?}");
    let path = file.display().to_string();
    let said = ok(purser(&["backup", "verify", &path, "--identity", &identity]));
    assert!(said.contains("it can be restored"), "{said}");

    // The old host is gone; the new one has other keys, and the old one's address.
    cluster.purser.kill();
    let mut other = Purser::serve("backup-new");
    other.stop();
    let said = refused(restore(&file, &identity, &other, &[]));
    assert!(said.contains("--replace"), "{said}");
    let said = ok(restore(&file, &identity, &other, &["--replace"]));
    assert!(said.contains("restored store"), "{said}");
    other.start();
    let restored = Cluster::of(other);
    assert_eq!(restored.addr, cluster.addr);
    assert_eq!(restored.swarm()["JoinTokens"], before.0);
    assert_eq!(restored.client.get("/services").text(), before.1);
    // The node comes back with the certificate that it has, and gets what it had.
    let agent = member.open(&Habits::default()).expect("a session");
    agent.until("the secret", |seen| {
        let held = seen.model.secrets.get(&secret)?;
        (held.as_slice() == value.as_bytes()).then_some(())
    });
    let verified = restored.client.get("/purser/audit/verify");
    assert_eq!(verified.status, 200, "{}", verified.text());
    let told = restored.client.get("/purser/audit").text();
    assert!(told.contains("backup restore"), "{told}");
}

/// A host that has nothing but the backup gets a key of its own; one whose providers have none is told
/// so before anything is given up.
#[test]
fn a_restored_store_can_be_opened_by_who_restored_it() {
    let dir = Scratch::new("backup-bare");
    let (identity, recipient) = key(&dir);
    let mut own = Purser::swarm("backup-bare");
    make_secret(&own.client(), "kept", "eA==");
    let file = make(&dir, &own, "swarm.age", &recipient);
    own.kill();
    let none = dir.join("none").display().to_string();
    let said = refused(restore(
        &file,
        &identity,
        &own,
        &["--replace", "--unlock", &format!("file:{none}")],
    ));
    assert!(said.contains("no provider has an unlock key"), "{said}");
    own.start();
    assert_eq!(own.client().get("/secrets").json().as_array().map(Vec::len), Some(1));
    own.kill();

    std::fs::remove_dir_all(own.data_dir()).expect("it was there");
    let dirs = own.dirs();
    let at = dirs.iter().position(|word| word == "--unlock-key-file").expect("it has one");
    std::fs::remove_file(&dirs[at + 1]).expect("it was there");
    ok(restore(&file, &identity, &own, &[]));
    own.start();
    assert_eq!(own.client().get("/secrets").json().as_array().map(Vec::len), Some(1));
}

#[test]
fn a_backup_is_of_one_moment_while_clients_write() {
    let dir = Scratch::new("backup-load");
    let (identity, recipient) = key(&dir);
    let purser_of_load = Purser::swarm("backup-load");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let (client, stop) = (purser_of_load.client(), &stop);
            scope.spawn(move || {
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    make_secret(&client, &format!("w{writer}-{number}"), "eA==");
                    number += 1;
                }
            });
        }
        for round in 0..5 {
            let file = make(&dir, &purser_of_load, &format!("{round}.age"), &recipient);
            let path = file.display().to_string();
            ok(purser(&["backup", "verify", &path, "--identity", &identity]));
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn an_older_state_is_restored_only_on_purpose() {
    let dir = Scratch::new("backup-older");
    let (identity, recipient) = key(&dir);
    let mut own = Purser::swarm("backup-older");
    make_secret(&own.client(), "kept", "eA==");
    let file = make(&dir, &own, "old.age", &recipient);
    make_secret(&own.client(), "later", "eA==");
    // A backup may lie beside the store; nothing but who put it there takes it away.
    let beside = own.data_dir().join("backup-mine.age");
    std::fs::copy(&file, &beside).expect("a file");
    // Not while it runs.
    assert!(refused(restore(&file, &identity, &own, &["--replace"])).contains("in use"));
    own.stop();
    let said = refused(restore(&file, &identity, &own, &[]));
    assert!(said.contains("--accept-older"), "{said}");
    own.start();
    assert_eq!(own.client().get("/secrets").json().as_array().map(Vec::len), Some(2));
    own.stop();
    ok(restore(&beside, &identity, &own, &["--accept-older"]));
    own.start();
    assert_eq!(own.client().get("/secrets").json().as_array().map(Vec::len), Some(1));
}

#[test]
fn what_is_no_whole_backup_for_this_key_changes_nothing() {
    let dir = Scratch::new("backup-bad");
    let (identity, recipient) = key(&dir);
    let mut own = Purser::swarm("backup-bad");
    make_secret(&own.client(), "kept", "eA==");
    let file = make(&dir, &own, "good.age", &recipient);
    let client = own.client();
    for body in [
        json!({}),
        json!({"Recipient": "age1x"}),
        json!({"Passphrase": "short"}),
        json!({"Recipient": recipient, "Passphrase": "correct horse battery"}),
    ] {
        assert_eq!(client.post("/purser/backup", &body).status, 400, "{body}");
    }
    own.stop();
    let good = std::fs::read(&file).expect("a file");
    let bad = dir.join("bad.age");
    let mut changed = good.clone();
    let at = changed.len() - 100;
    changed[at] ^= 1;
    for bytes in [&good[..good.len() - 1], &good[..500], &changed, b"nonsense"] {
        std::fs::write(&bad, bytes).expect("a file");
        refused(restore(&bad, &identity, &own, &["--replace", "--accept-older"]));
    }
    let others = Scratch::new("backup-others");
    let (other, _) = key(&others);
    let said = refused(restore(&file, &other, &own, &["--replace"]));
    assert!(said.contains("not for this key"), "{said}");
    own.start();
    assert_eq!(own.client().get("/secrets").json().as_array().map(Vec::len), Some(1));
}

#[test]
fn a_passphrase_does_as_well_and_autolock_is_not_needed() {
    let dir = Scratch::new("backup-phrase");
    let mut own = Purser::swarm("backup-phrase");
    make_secret(&own.client(), "kept", "eA==");
    crate::kit::docker::docker(&own.socket(), "swarm update --autolock=true").ok();
    let file = dir.join("swarm.age").display().to_string();
    let with_phrase = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_purser"));
        command.args(words).args(["--passphrase-fd", "0"]).env_clear();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it runs");
        let mut stdin = child.stdin.take().expect("piped");
        std::io::Write::write_all(&mut stdin, b"correct horse battery\n").expect("it reads");
        drop(stdin);
        child.wait_with_output().expect("it ends")
    };
    let socket = own.socket().display().to_string();
    ok(with_phrase(&["backup", &file, "--socket", &socket]));
    ok(with_phrase(&["backup", "verify", &file]));
    own.kill();
    let dirs = own.dirs();
    let dirs: Vec<&str> = dirs.iter().map(String::as_str).collect();
    ok(with_phrase(&[&["restore", &file, "--replace"], &dirs[..]].concat()));
    // It opens with the key of this host; the lock is back once a user has seen its key.
    own.start();
    assert_eq!(own.client().get("/secrets").json().as_array().map(Vec::len), Some(1));
    let key = own.client().get("/swarm/unlockkey").json()["UnlockKey"].clone();
    own.kill();
    own.start_locked();
    assert_eq!(own.client().post("/swarm/unlock", &json!({"UnlockKey": key})).status, 200);
}
