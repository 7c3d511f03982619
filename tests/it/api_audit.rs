//! The audit: what it tells, that it tells of it before the answer, and that nothing done to it behind
//! purser's back goes unnoticed.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};

use crate::kit::agent::cluster::{Cluster, service};
use crate::kit::docker::{docker, docker_with};
use crate::kit::http::Client;
use crate::kit::purser::Purser;

fn records(client: &Client, query: &str) -> Vec<Value> {
    let text = client.get(&format!("/purser/audit{query}")).text();
    text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
}

/// The records in short, but for what sets the scene.
fn told(client: &Client, query: &str) -> Vec<String> {
    let word = |record: &Value, key: &str| record[key].as_str().unwrap_or("").to_owned();
    let of_user = |record: &Value| {
        let (verb, name) = (word(record, "verb"), word(record, "name"));
        let text = format!("{} {verb} {name}", word(record, "outcome"));
        text.trim_end().to_owned()
    };
    let records = records(client, query);
    records.iter().filter(|r| word(r, "actor").starts_with("uid:")).map(of_user).collect()
}

#[test]
fn every_change_and_every_refusal_is_told() {
    let purser = Purser::swarm("audit-told");
    let (client, socket) = (purser.client(), purser.socket());
    docker_with(&socket, "secret create --label a=b one -", b"canary-value").ok();
    docker(&socket, "service create -d --name web --secret one redis:alpine").ok();
    docker(&socket, "secret rm one").refused();
    docker_with(&socket, "secret create one -", b"x").refused();
    docker(&socket, "service update -d --label-add x=y web").ok();
    docker(&socket, "service rm web").ok();
    docker(&socket, "secret rm one").ok();
    assert_eq!(client.post("/secrets/create", &json!([])).status, 400);
    assert_eq!(client.delete("/secrets/no.such").status, 404);
    assert_eq!(
        told(&client, ""),
        [
            "done swarm init",
            "done secret create one",
            "done service create web",
            "refused secret remove one",
            "refused secret create one",
            "done service update web",
            "done service remove web",
            "done secret remove one",
            "refused request",
            "refused request",
        ]
    );
    let all = records(&client, "");
    let made = all.iter().find(|record| record["verb"] == "secret create").expect("told");
    let text = |key: &str| made[key].as_str().unwrap_or_default();
    let uid = nix::unistd::Uid::effective();
    assert_eq!((text("actor"), text("kind")), (&*format!("uid:{uid}"), "secret"));
    assert!(text("source").starts_with("unix:") && text("request").len() == 12, "{made}");
    assert_eq!(text("value").len(), 44, "a keyed hash");
    assert_eq!(text("id").len(), 25);
    let refused = all.iter().find(|r| r["outcome"] == "refused").expect("told");
    let why = refused["detail"].as_str().unwrap_or_default();
    assert!(why.contains("in use by the following service: web"), "{why}");
    for canary in ["canary-value", "Y2FuYXJ5LXZhbHVl"] {
        assert!(!client.get("/purser/audit").text().contains(canary));
    }
    // By object and actor, and the newest of them.
    assert_eq!(told(&client, "?object=web").len(), 3);
    assert_eq!(told(&client, &format!("?object=one&actor=uid:{uid}")).len(), 4);
    assert!(told(&client, "?actor=cert:ann").is_empty());
    assert_eq!(records(&client, "?tail=2").len(), 2);
    assert_eq!(client.get("/purser/audit?tail=x").status, 400);
    // Reading changes nothing, and is not told.
    assert_eq!(records(&client, "").len(), all.len());
}

#[test]
fn payloads_are_told_before_a_node_has_them_and_when_it_gives_them_up() {
    let cluster = Cluster::new("audit-nodes");
    let agent = cluster.engine();
    let secret = cluster.secret("granted", b"canary-value");
    cluster.service(&service("web", 1, &[(&secret, "granted")]));
    cluster.until_running("web", 1);
    assert!(agent.seen().model.secrets.contains_key(&secret));
    let of = |verb: &str| {
        let all = records(&cluster.client, "?object=granted");
        let found = all.into_iter().filter(|record| record["verb"] == verb);
        found.map(|r| r["detail"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of("payload deliver"), [format!("node {}", agent.member.node_id)]);
    assert!(of("payload withdraw").is_empty());
    let made = cluster.client.get("/services").json()[0]["ID"].clone();
    let path = format!("/services/{}", made.as_str().expect("an id"));
    assert_eq!(cluster.client.delete(&path).status, 200);
    crate::kit::eventually("it is withdrawn", crate::kit::agent::PATIENCE, || {
        (of("payload withdraw") == [format!("node {}", agent.member.node_id)]).then_some(())
    });
    let joined = records(&cluster.client, "");
    let joined: BTreeSet<&str> = joined
        .iter()
        .filter(|record| record["outcome"] == "done")
        .filter_map(|record| record["verb"].as_str())
        .collect();
    assert!(joined.contains("node admit") && joined.contains("node register"), "{joined:?}");
}

fn purser_command(purser: &Purser, words: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_purser"));
    let output = command.args(words).args(purser.dirs()).env_clear().output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text.into_owned())
}

#[test]
fn the_command_shows_exports_and_verifies() {
    let mut purser = Purser::swarm("audit-command");
    let socket = purser.socket();
    for number in 0..5 {
        docker_with(&socket, &format!("secret create s{number} -"), b"x").ok();
    }
    let (is_done, newest) = purser_command(&purser, &["audit", "tail", "-n", "2"]);
    assert!(is_done && newest.lines().count() == 2 && newest.contains("\"s4\""), "{newest}");
    let (_, of_one) = purser_command(&purser, &["audit", "tail", "--object", "s3"]);
    assert_eq!(of_one.lines().count(), 1, "{of_one}");
    let (_, exported) = purser_command(&purser, &["audit", "export"]);
    // Whoever has the export can follow the chain with nothing but SHA-256.
    use sha2::Digest as _;
    let mut hash = "0".repeat(64);
    for line in exported.lines() {
        let record: Value = serde_json::from_str(line).expect("a record");
        assert_eq!(record["prev"], hash.as_str(), "{line}");
        hash = sha2::Sha256::digest(line).iter().map(|byte| format!("{byte:02x}")).collect();
    }
    let (is_whole, said) = purser_command(&purser, &["audit", "verify"]);
    assert!(is_whole && said.contains(&hash), "{said}");
    purser.stop();
    purser.start();
    let (is_whole, said) = purser_command(&purser, &["audit", "verify"]);
    assert!(is_whole && !said.contains(&hash), "the start is told as well: {said}");
    let (_, later) = purser_command(&purser, &["audit", "export"]);
    assert!(later.starts_with(&exported));
}

/// A database file, open for damage.
fn damage(path: &std::path::Path, sql: &str) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(path);
        let mut connection: SqliteConnection = options.connect().await.expect("a database");
        let statements = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        let done = statements.execute(&mut connection).await.expect("it is done").rows_affected();
        connection.close().await.expect("closed");
        done
    })
}

fn row_numbers(path: &std::path::Path) -> Vec<i64> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(path);
        let mut connection: SqliteConnection = options.connect().await.expect("a database");
        let rows = sqlx::query("SELECT version FROM objects WHERE kind = 255 ORDER BY row")
            .fetch_all(&mut connection);
        let numbers = rows.await.expect("rows").iter().map(|row| row.get(0)).collect();
        connection.close().await.expect("closed");
        numbers
    })
}

#[test]
fn what_was_removed_changed_or_moved_is_found() {
    let mut purser = Purser::swarm("audit-tamper");
    let socket = purser.socket();
    for number in 0..6 {
        docker_with(&socket, &format!("secret create s{number} -"), b"x").ok();
    }
    purser.stop();
    let path = purser.data_dir().join("purser.db");
    let whole = std::fs::read(&path).expect("the database");
    let rows = row_numbers(&path);
    assert!(rows.len() >= 6, "{rows:?}");
    let (first, second, last) = (rows[0], rows[1], rows[rows.len() - 1]);
    let of = |first: i64| format!("kind = 255 AND version = {first}");
    let swap = format!(
        "CREATE TEMP TABLE t AS SELECT sealed FROM objects WHERE {one};
         UPDATE objects SET sealed = (SELECT sealed FROM objects WHERE {two}) WHERE {one};
         UPDATE objects SET sealed = (SELECT sealed FROM t) WHERE {two}",
        one = of(first),
        two = of(second)
    );
    let cases = [
        format!("DELETE FROM objects WHERE {}", of(first)),
        format!("DELETE FROM objects WHERE {}", of(second)),
        format!("DELETE FROM objects WHERE {}", of(last)),
        "DELETE FROM objects WHERE kind = 255".to_owned(),
        swap,
        format!("UPDATE objects SET row = 1000000 WHERE {}", of(second)),
        format!("UPDATE objects SET version = version + 1 WHERE {}", of(second)),
        format!("UPDATE objects SET sealed = CAST(sealed || x'00' AS BLOB) WHERE {}", of(second)),
    ];
    for sql in cases {
        std::fs::write(&path, &whole).expect("put back");
        assert!(damage(&path, &sql) > 0, "{sql} changes nothing");
        purser.start();
        let (is_whole, said) = purser_command(&purser, &["audit", "verify"]);
        assert!(!is_whole && said.contains("the audit is not whole"), "{sql}: {said}");
        purser.stop();
    }
    std::fs::write(&path, &whole).expect("put back");
    purser.start();
    assert!(purser_command(&purser, &["audit", "verify"]).0);
}

#[test]
fn old_records_are_dropped_and_the_chain_stays_provable() {
    let mut purser = Purser::swarm("audit-trim");
    let client = purser.client();
    for number in 0..40 {
        let body = json!({"Name": format!("s{number}"), "Data": "eA=="});
        assert_eq!(client.post("/secrets/create", &body).status, 201);
    }
    purser.stop();
    purser.set_args(&["--engine", "none", "--audit-keep", "10"]);
    purser.start();
    let client = purser.client();
    let chain =
        crate::kit::eventually("they are dropped", std::time::Duration::from_secs(20), || {
            let chain = client.get("/purser/audit/verify");
            assert_eq!(chain.status, 200, "{}", chain.text());
            (chain.json()["Records"].as_u64()? < 20).then(|| chain.json())
        });
    assert!(chain["First"].as_u64().expect("a number") > 20, "{chain}");
    assert_eq!(records(&client, "").len() as u64, chain["Records"].as_u64().expect("a number"));
    purser.stop();
    purser.start();
    assert!(purser_command(&purser, &["audit", "verify"]).0);
}

#[test]
fn records_are_handed_on_to_a_file_and_the_log() {
    let dir = crate::kit::purser::scratch_dir("audit-file");
    let file = dir.join("audit.jsonl");
    let args = ["--engine", "none", "--audit-log", "--audit-file", file.to_str().expect("text")];
    let purser = Purser::with_args("audit-file", &args);
    purser.init("127.0.0.1:0");
    docker_with(&purser.socket(), "secret create handed-on -", b"x").ok();
    let client = purser.client();
    crate::kit::eventually("they are there", std::time::Duration::from_secs(20), || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let all = client.get("/purser/audit").text();
        (all.ends_with(&text) && text.contains("handed-on")).then_some(())
    });
    assert!(purser.log().contains("handed-on"));
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(&file).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let _ = std::fs::remove_dir_all(&dir);
}
