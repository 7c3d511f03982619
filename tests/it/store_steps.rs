//! What changes keys, roots and whole stores, killed at one step of it after the other: what the next
//! start finds is as before it or as after it, and in use.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::agent::Habits;
use crate::kit::agent::cluster::Cluster;
use crate::kit::eventually;
use crate::kit::http::Client;
use crate::kit::purser::Purser;
use crate::kit::scratch::Scratch;
use crate::kit::steps;

/// Steps beyond which something goes on for ever.
const STEPS_MAX: usize = 3_000;

fn make_secrets(client: &Client, prefix: &str, count: usize) {
    for number in 0..count {
        let body = json!({"Name": format!("{prefix}-{number}"), "Data": "c2VjcmV0"});
        assert_eq!(client.post("/secrets/create", &body).status, 201);
    }
}

/// Asks without minding whether an answer comes; what came of it.
fn ask(client: &Client, method: &str, path: &str, body: &Value) -> String {
    let body = body.to_string();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    client.raw(head.as_bytes()).map(|answer| answer.text()).unwrap_or_default()
}

/// Has a server do something that is killed at a step of it, for ever later ones until it gets through;
/// after each time it is started again, and looked at.
fn at_every_step(
    purser: &mut Purser,
    stride: usize,
    mut work: impl FnMut(&Purser),
    mut look: impl FnMut(&mut Purser),
) -> usize {
    for step in (1..STEPS_MAX).step_by(stride) {
        let watch = steps::kill_at(purser.pid(), step);
        work(purser);
        if purser.answers() {
            drop(watch);
            // It may have been killed by then after all.
            if purser.answers() {
                look(purser);
                return step;
            }
            purser.kill();
        } else {
            purser.kill();
            drop(watch);
        }
        purser.start_locked();
        look(purser);
    }
    panic!("it never gets through");
}

fn verified(client: &Client) {
    let verified = client.get("/purser/audit/verify");
    assert_eq!(verified.status, 200, "{}", verified.text());
}

#[test]
fn a_rotation_of_the_keys_goes_on() {
    let mut purser = Purser::swarm("steps-keys");
    make_secrets(&purser.client(), "s", 40);
    let before = purser.client().get("/secrets").text();
    let rotate = |purser: &Purser| {
        ask(&purser.client(), "POST", "/purser/keys/rotate", &json!({}));
    };
    let steps = at_every_step(&mut purser, 1, rotate, |purser| {
        let client = purser.client();
        assert_eq!(client.get("/secrets").text(), before);
        eventually("the rotation ends", Duration::from_secs(20), || {
            let keys = client.get("/purser/keys").json();
            let of_ring = |key: &&Value| key["Use"] == "ring" || key["Use"] == "epoch";
            (keys.as_array()?.iter().filter(of_ring).count() == 2).then_some(())
        });
        verified(&client);
    });
    assert!(steps > 20, "only {steps}: nothing was killed in the middle");
}

#[test]
fn a_lock_that_is_put_on_changed_and_taken_off_locks_nobody_out() {
    let mut purser = Purser::swarm("steps-lock");
    make_secrets(&purser.client(), "s", 3);
    let before = purser.client().get("/secrets").text();
    let seen = std::cell::RefCell::new(Vec::new());
    let update = |client: &Client, is_on: bool, query: &str| {
        let swarm: Value =
            serde_json::from_str(&ask(client, "GET", "/swarm", &json!({}))).unwrap_or_default();
        let path = format!("/swarm/update?version={}{query}", swarm["Version"]["Index"]);
        ask(client, "POST", &path, &json!({"EncryptionConfig": {"AutoLockManagers": is_on}}));
    };
    let show = |client: &Client| {
        let shown = ask(client, "GET", "/swarm/unlockkey", &json!({}));
        if let Some((_, rest)) = shown.split_once("SWMKEY-1-") {
            seen.borrow_mut().push(format!("SWMKEY-1-{}", &rest[..43]));
        }
    };
    let work = |purser: &Purser| {
        let client = purser.client();
        update(&client, true, "");
        show(&client);
        update(&client, true, "&rotateManagerUnlockKey=true");
        show(&client);
        update(&client, false, "");
    };
    let mut locked = 0;
    let steps = at_every_step(&mut purser, 1, work, |purser| {
        let client = purser.client();
        if client.get("/readyz").status != 200 {
            locked += 1;
            let body = json!({"UnlockKey": seen.borrow().last().expect("one was shown")});
            let unlocked = client.post("/swarm/unlock", &body);
            assert_eq!(unlocked.status, 200, "the key that was shown last: {}", unlocked.text());
        }
        assert_eq!(client.get("/secrets").text(), before);
        verified(&client);
        update(&client, false, "");
        let spec = client.get("/swarm").json()["Spec"]["EncryptionConfig"].clone();
        assert_eq!(spec, json!({"AutoLockManagers": false}));
    });
    assert!(steps > 20 && locked > 5, "{steps} steps, {locked} of them locked");
}

#[test]
fn a_root_that_is_rotated_keeps_its_node() {
    let mut cluster = Cluster::new("steps-root");
    let mut member = Some(cluster.join().expect("it is admitted"));
    let addr = cluster.addr;
    let token = |client: &Client| client.get("/swarm").json()["JoinTokens"]["Worker"].clone();
    let member_of = std::cell::RefCell::new(member.take().expect("just joined"));
    let work = |purser: &Purser| {
        let client = purser.client();
        let swarm: Value =
            serde_json::from_str(&ask(&client, "GET", "/swarm", &json!({}))).unwrap_or_default();
        let rotations = swarm["Spec"]["CAConfig"]["ForceRotate"].as_u64().unwrap_or(0);
        let path = format!("/swarm/update?version={}", swarm["Version"]["Index"]);
        ask(&client, "POST", &path, &json!({"CAConfig": {"ForceRotate": rotations + 1}}));
        // As a node does that was told to: its next certificate, if it gets one, and a session with it.
        let renewed = member_of.borrow().renew();
        let _agent = renewed.ok().and_then(|renewed| {
            *member_of.borrow_mut() = renewed;
            member_of.borrow().open(&Habits::default()).ok()
        });
        for _ in 0..50 {
            let shown = ask(&client, "GET", "/swarm", &json!({}));
            if !shown.contains("\"RootRotationInProgress\":true") {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let mut under_way = 0;
    let steps = at_every_step(&mut cluster.purser, 1, work, |purser| {
        let client = purser.client();
        let rotating = || client.get("/swarm").json()["RootRotationInProgress"] == true;
        under_way += usize::from(rotating());
        // Whatever certificate it has is good for the next one, until the rotation is over.
        eventually("the rotation ends with the node", Duration::from_secs(20), || {
            let renewed = member_of.borrow().renew().ok()?;
            *member_of.borrow_mut() = renewed;
            let agent = member_of.borrow().open(&Habits::default()).ok()?;
            agent.beat().expect("it is of the cluster");
            // That takes a moment, and a node may not open another session every moment.
            let is_over = (0..50).any(|_| {
                std::thread::sleep(Duration::from_millis(10));
                !rotating()
            });
            is_over.then_some(())
        });
        // It trusts from now on what it is told to, as engines do.
        let opened = || member_of.borrow().open(&Habits::default()).ok();
        let agent = eventually("it may open one more session", Duration::from_secs(20), opened);
        let trusted = client.get("/swarm").json()["TLSInfo"]["TrustRoot"].clone();
        member_of.borrow_mut().root = agent.until("it is told what to trust", |seen| {
            let told = String::from_utf8(seen.messages.last()?.root_ca.clone()).ok()?;
            (trusted.as_str() == Some(&told)).then_some(told)
        });
        let token = token(&client);
        let joined = crate::kit::agent::Member::join(addr, token.as_str().expect("a token"));
        let other = joined.expect("others join as well").node_id;
        assert_eq!(client.delete(&format!("/nodes/{other}?force=true")).status, 200);
        verified(&client);
    });
    assert!(steps > 20 && under_way > 3, "{steps} steps, {under_way} of them in the middle");
}

fn count(purser: &Purser) -> usize {
    let secrets = purser.client().get("/secrets").json();
    secrets.as_array().expect("a list").len()
}

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.is_ok_and(|status| status.success()));
}

#[test]
fn a_backup_is_whole_or_not_there_and_a_restore_done_or_not() {
    let binary = env!("CARGO_BIN_EXE_purser");
    let dir = Scratch::new("steps-backup");
    let mut own = Purser::swarm("steps-backup");
    make_secrets(&own.client(), "s", 3);
    let identity = dir.join("recovery.key");
    let made = Command::new(binary).args(["backup", "key"]).arg(&identity).output();
    let recipient = String::from_utf8(made.expect("it runs").stdout).expect("text");
    let file = dir.join("swarm.age");
    let arguments = |own: &Purser| {
        let socket = own.socket().display().to_string();
        let path = file.display().to_string();
        ["backup", &path, "--recipient", recipient.trim(), "--socket", &socket].map(str::to_owned)
    };
    let verify = || {
        let mut command = Command::new(binary);
        command.args(["backup", "verify"]).arg(&file).arg("--identity").arg(&identity);
        command.env_clear().output().expect("it runs")
    };
    let is_whole_or_absent = || {
        let said = verify();
        let why = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.status.success() || !file.exists(), "{why}");
        let _ = std::fs::remove_file(&file);
    };

    // The server, as it makes one.
    let back_up = |own: &Purser| {
        let _ = Command::new(binary).args(arguments(own)).env_clear().output();
    };
    let steps = at_every_step(&mut own, 1, back_up, |own| {
        is_whole_or_absent();
        assert_eq!(count(own), 3);
        let left = std::fs::read_dir(own.data_dir()).expect("a directory");
        let left: Vec<_> = left.map(|entry| entry.expect("an entry").file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().contains("scratch")), "{left:?}");
    });
    assert!(steps > 10, "only {steps}");

    // The command, as it writes the file.
    let mut killed = 0;
    for step in 1..STEPS_MAX {
        let ended = steps::command(binary, step).args(arguments(&own)).env_clear().output();
        let is_done = ended.expect("strace is installed").status.success();
        if is_done {
            break;
        }
        killed += 1;
        is_whole_or_absent();
    }
    assert!(killed > 3 && verify().status.success(), "killed {killed} times");

    // A restore of it, over a store that has gone on since and was killed.
    make_secrets(&own.client(), "later", 2);
    own.kill();
    let (data, kept) = (own.data_dir(), dir.join("kept"));
    copy(&data, &kept);
    let (mut before, mut after) = (0, 0);
    for step in 1..STEPS_MAX {
        copy(&kept, &data);
        let mut restore = steps::command(binary, step);
        restore.arg("restore").arg(&file).arg("--identity").arg(&identity);
        let ended = restore.arg("--accept-older").args(own.dirs()).env_clear().output();
        let ended = ended.expect("strace is installed");
        own.start();
        match count(&own) {
            5 => before += 1,
            3 => after += 1,
            other => panic!("{other} secrets after it was killed at step {step}"),
        }
        verified(&own.client());
        own.kill();
        if ended.status.success() {
            break;
        }
    }
    assert!(before > 3 && after > 0, "{before} times as before, {after} times as after");
}
