//! Stores that are not opened, and disks that are full.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use serde_json::json;

use crate::kit::http::Client;
use crate::kit::purser::Purser;
use crate::kit::scratch::Scratch;
use crate::kit::start::Places;

#[test]
fn a_store_is_for_one_process() {
    let purser = Purser::swarm("two");
    let scratch = Scratch::new("two");
    let own = Places::below(purser.dir());
    // With a socket of its own, and then with everything the same.
    let elsewhere = Places { socket: scratch.join("p.sock"), ..own.clone() };
    let refusal = elsewhere.start().refusal();
    assert!(refusal.contains("is in use by another process"), "{refusal}");
    assert!(!elsewhere.socket.exists(), "a start that fails leaves a socket");
    let refusal = own.start().refusal();
    assert!(refusal.contains("p.sock"), "{refusal}");
    // The first one did not notice.
    let answer = purser.client().post("/secrets/create", &json!({"Name": "s", "Data": "eA=="}));
    assert_eq!(answer.status, 201, "{}", answer.text());
}

#[test]
fn a_store_of_a_newer_release_is_left_alone() {
    let mut purser = Purser::swarm("newer");
    purser.stop();
    let database = purser.data_dir().join("purser.db");
    let sql =
        "INSERT INTO _sqlx_migrations(version, description, success, checksum, execution_time)
               VALUES (9999, 'from the future', 1, x'00', 0)";
    run_sql(&database, sql);
    let before = std::fs::read(&database).expect("a file");
    let places = Places::below(purser.dir());
    let refusal = places.start().refusal();
    assert!(refusal.contains("written by a newer release of purser (schema 9999)"), "{refusal}");
    assert!(before == std::fs::read(&database).expect("a file"), "it was changed");
    run_sql(&database, "DELETE FROM _sqlx_migrations WHERE version = 9999");
    places.start().check_serves();
}

fn run_sql(path: &Path, sql: &'static str) {
    use sqlx::{ConnectOptions as _, Connection as _};
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
        let mut connection = options.connect().await.expect("a database");
        sqlx::raw_sql(sql).execute(&mut connection).await.expect(sql);
        connection.close().await.expect("it closes");
    });
}

#[test]
fn an_unlock_key_that_does_not_protect_is_refused() {
    let mut purser = Purser::swarm("unlock");
    purser.stop();
    let places = Places::below(purser.dir());
    let good = std::fs::read(&places.key).expect("a key");
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("a mode");
    };

    for open in [0o640, 0o604, 0o620, 0o660, 0o700 | 0o001] {
        mode(&places.key, open);
        let refusal = places.start().refusal();
        assert!(refusal.contains("chmod 600"), "{open:o}: {refusal}");
    }
    mode(&places.key, 0o600);

    let missing = Places { key: purser.dir().join("none.key"), ..places.clone() };
    let refusal = missing.start().refusal();
    assert!(refusal.contains("needs its unlock key"), "{refusal}");
    assert!(refusal.contains("none.key"), "{refusal}");

    let inside = Places { key: places.data.join("unlock.key"), ..places.clone() };
    std::fs::write(&inside.key, &good).expect("a file");
    mode(&inside.key, 0o600);
    let refusal = inside.start().refusal();
    assert!(refusal.contains("lies inside the data directory"), "{refusal}");
    std::fs::remove_file(&inside.key).expect("it was there");

    let other = Places { key: purser.dir().join("other.key"), ..places.clone() };
    std::fs::write(&other.key, "0123456789abcdef".repeat(4)).expect("a file");
    mode(&other.key, 0o600);
    let refusal = other.start().refusal();
    assert!(refusal.contains("cannot be opened with this unlock key"), "{refusal}");
    for bad in ["", "abc", "not hexadecimal digits at all, but sixty-four characters, at least"] {
        std::fs::write(&other.key, bad).expect("a file");
        let refusal = other.start().refusal();
        assert!(refusal.contains("does not hold 64 hexadecimal digits"), "{refusal}");
    }
    for refused in [&missing, &inside, &other] {
        let text = std::fs::read_to_string(refused.socket.with_extension("log"));
        let good = String::from_utf8_lossy(&good).trim().to_owned();
        assert!(text.is_ok_and(|text| !text.contains(&good)), "the key is in the error");
    }
    places.start().check_serves();
}

/// A request to make a secret of about 100 KiB.
fn create(client: &Client, name: &str) -> (u16, String) {
    let bytes: Vec<u8> = name.bytes().cycle().take(100_000).collect();
    let data = base64::engine::general_purpose::STANDARD.encode(bytes);
    let answer = client.post("/secrets/create", &json!({"Name": name, "Data": data}));
    (answer.status, answer.message())
}

#[test]
fn a_full_disk_stops_writes_and_nothing_else() {
    let mut scratch = Scratch::new("full");
    let places = Places { data: scratch.mount("data", 12 * 1024), ..Places::below(&scratch) };
    places.make_key();
    let started = places.start();
    started.check_serves();
    let client = Client::new(&places.socket);
    let init = client
        .post("/swarm/init", &json!({"ListenAddr": free_addr(), "AdvertiseAddr": "127.0.0.1"}));
    assert_eq!(init.status, 200, "{}", init.text());
    let ballast = places.data.join("ballast");
    std::fs::write(&ballast, vec![1; 4 * 1024 * 1024]).expect("room for it");

    let mut made = Vec::new();
    let refusal = (0..200).find_map(|number| {
        let name = format!("secret-{number}");
        let (status, message) = create(&client, &name);
        if status == 201 {
            made.push(name);
            return None;
        }
        Some((status, message))
    });
    let (status, message) = refusal.expect("the disk is full at some time");
    assert!(status >= 500 && message.contains("full"), "{status} {message}");
    assert!(made.len() >= 5, "{made:?}");
    // It lives, and says the same again.
    let (status, message) = create(&client, "another");
    assert!(status >= 500 && message.contains("full"), "{status} {message}");
    check_there(&client, &made);

    // With room again it goes on as if nothing had been.
    std::fs::remove_file(&ballast).expect("it was there");
    assert_eq!(create(&client, "after").0, 201, "there is room again");
    made.push("after".into());
    check_there(&client, &made);
    started.kill();
    let again = places.start();
    again.check_serves();
    check_there(&client, &made);
    assert_eq!(create(&client, "more").0, 201);
}

/// Exactly these secrets are there, wherever it is looked.
#[track_caller]
fn check_there(client: &Client, names: &[String]) {
    let list = client.get("/secrets").json();
    let list = list.as_array().expect("a list");
    let mut there: Vec<&str> =
        list.iter().filter_map(|secret| secret["Spec"]["Name"].as_str()).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    there.sort_unstable();
    names.sort_unstable();
    assert_eq!(there, names);
}

fn free_addr() -> String {
    let probe = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    probe.local_addr().expect("its address").to_string()
}

#[test]
fn a_data_directory_that_cannot_be_written_is_refused() {
    let mut scratch = Scratch::new("readonly");
    let places = Places { data: scratch.mount("data", 1024), ..Places::below(&scratch) };
    places.make_key();
    let remount = |mode: &str| {
        let options = format!("remount,{mode}");
        let done = Command::new("mount").args(["-o", &options]).arg(&places.data).status();
        assert!(done.is_ok_and(|status| status.success()));
    };
    remount("ro");
    let refusal = places.start().refusal();
    assert!(refusal.contains(&places.data.display().to_string()), "{refusal}");
    remount("rw");
    places.start().check_serves();
}
