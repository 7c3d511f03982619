//! A new value under the same name: versions, what services and nodes have of them, and what is refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::api_table::{check, make_secret, post};
use super::kit::agent::cluster::{Cluster, service};
use super::kit::agent::{Habits, PATIENCE};
use super::kit::eventually;
use super::kit::http::{Answer, Client};
use super::kit::purser::Purser;
use super::kit::search::canary;

/// Sends a value to a secret or config as it is now.
pub fn rotate(client: &Client, path: &str, data: &[u8]) -> Answer {
    let now = client.get(path).json();
    let path = format!("{path}/update?version={}", now["Version"]["Index"]);
    let spec = &now["Spec"];
    let body =
        json!({"Name": spec["Name"], "Labels": spec["Labels"], "Data": STANDARD.encode(data)});
    client.post(&path, &body)
}

#[test]
fn a_new_value_keeps_id_and_name_and_is_shown_nowhere() {
    let mut purser = Purser::swarm("rotate");
    let client = purser.client();
    let id = make_secret(&client, "db", &json!({"a": "b"}));
    let path = format!("/secrets/{id}");
    let before = client.get(&path).json();
    let value = canary(50);
    let rotated = rotate(&client, &path, value.as_bytes());
    assert_eq!((rotated.status, rotated.text()), (200, String::new()));
    let after = client.get("/secrets/db").json();
    assert_eq!((&after["ID"], &after["Spec"]), (&before["ID"], &before["Spec"]));
    assert_eq!(after["CreatedAt"], before["CreatedAt"]);
    assert_ne!(after["UpdatedAt"], before["UpdatedAt"]);
    // The same value again is an update of labels; none is, too.
    assert_eq!(rotate(&client, &path, value.as_bytes()).status, 200);
    assert_eq!(rotate(&client, &path, b"").status, 200);
    let records = client.get("/purser/audit").text();
    assert_eq!(records.matches(r#""verb":"secret update""#).count(), 3, "{records}");
    for text in [records, client.get("/secrets").text(), purser.log()] {
        assert!(!text.contains(&value) && !text.contains(&STANDARD.encode(&value)));
    }
    // More than are kept: the first lies with the secret, the others do not.
    for number in 0..14 {
        assert_eq!(rotate(&client, &path, format!("value {number}").as_bytes()).status, 200);
    }
    for _ in 0..2 {
        purser.kill();
        purser.start();
        assert_eq!(client.get("/secrets").json().as_array().map(Vec::len), Some(1));
        assert_eq!(client.get("/purser/audit/verify").status, 200);
        assert_eq!(rotate(&client, &path, canary(20).as_bytes()).status, 200);
    }
    assert_eq!(client.delete(&path).status, 204);
    purser.kill();
    purser.start();
    assert_eq!(client.get("/secrets").json(), json!([]));
}

#[test]
fn what_is_no_new_value_is_refused() {
    let purser = Purser::swarm("rotate-bad");
    let client = purser.client();
    let id = make_secret(&client, "db", &json!({}));
    let version = client.get(&format!("/secrets/{id}")).json()["Version"]["Index"].clone();
    let update = |version: &Value, body: Value| {
        post(format!("/secrets/{id}/update?version={version}"), &body)
    };
    let invalid = "rpc error: code = InvalidArgument desc = ";
    let data = |len: usize| STANDARD.encode(vec![b'x'; len]);
    let large = "secret data must be larger than 0 and less than 512000 bytes";
    check(
        &client,
        vec![
            update(&json!(0), json!({"Name": "db", "Data": data(5)}))
                .fails(500, "rpc error: code = Unknown desc = update out of sequence"),
            update(&version, json!({"Name": "db", "Data": data(512_000)}))
                .fails(400, format!("{invalid}{large}")),
            update(&version, json!({"Name": "other", "Data": data(5)}))
                .fails(400, format!("{invalid}only updates to Labels are allowed")),
        ],
    );
    let labels = json!({"purser.secret.db": "7"});
    let mut spec = service("web", 1, &[(&id, "db")]);
    spec["Labels"] = labels;
    let pinned = format!("{invalid}label purser.secret.db: secret db has no version \"7\"");
    check(&client, vec![post("/services/create", &spec).fails(400, pinned)]);
}

#[test]
fn a_config_is_shown_with_its_new_data() {
    let purser = Purser::swarm("rotate-config");
    let client = purser.client();
    let made = client.post("/configs/create", &json!({"Name": "site", "Data": "b25l"}));
    assert_eq!(made.status, 201);
    let versions = || client.get("/configs/site/versions").json();
    assert_eq!(versions().as_array().map(Vec::len), Some(1));
    for (number, data) in ["two", "three"].into_iter().enumerate() {
        assert_eq!(rotate(&client, "/configs/site", data.as_bytes()).status, 200);
        let shown = STANDARD.encode(data);
        assert_eq!(client.get("/configs/site").json()["Spec"]["Data"], shown, "{number}");
        assert_eq!(client.get("/configs").json()[0]["Spec"]["Data"], shown, "{number}");
    }
    assert_eq!(versions()[2]["Current"], true);
    assert_eq!(client.get("/configs/site/consumers").json(), json!([]));
    assert_eq!(client.get("/configs/none/versions").status, 404);
    assert_eq!(client.get("/secrets/none/consumers").message(), "secret none not found");
}

#[test]
fn each_task_has_the_value_that_it_was_started_with() {
    let mut cluster = Cluster::new("rotate-tasks");
    let secret = cluster.secret("db", b"first");
    let mut web = service("web", 2, &[(&secret, "db")]);
    web["UpdateConfig"] = json!({"Parallelism": 1, "Delay": 1_500_000_000_i64});
    cluster.service(&web);
    let member = cluster.join().expect("it is admitted");
    let agent = member.start();
    let old = cluster.until_running("web", 2);
    agent.until("the first value", |seen| {
        (seen.model.secrets.get(&secret)?.as_slice() == b"first").then_some(())
    });
    assert_eq!(rotate(&cluster.client, "/secrets/db", b"second").status, 200);
    // One task has been replaced, the other still has what it was started with.
    let own = agent.until("both values side by side, each for a task alone", |seen| {
        let of = |value: &[u8]| {
            let held = seen.model.secrets.iter().find(|(_, held)| held.as_slice() == value);
            held.map(|(id, _)| id.clone())
        };
        let (first, second) = (of(b"first")?, of(b"second")?);
        let is_own = |id: &String| id.starts_with(&format!("{secret}."));
        (is_own(&first) && is_own(&second)).then_some(second)
    });
    let task = own.strip_prefix(&format!("{secret}.")).expect("the id of a task").to_owned();
    assert!(!old.contains(&task), "{task}");
    // Who has what can be seen, and no value.
    let consumers = cluster.client.get("/secrets/db/consumers");
    let shown = &consumers.json()[0];
    let names = [&shown["ServiceName"], &shown["Follows"], &shown["Wanted"]];
    assert_eq!(names, [&json!("web"), &json!("automatic"), &json!(2)]);
    let versions: Vec<&Value> =
        shown["Tasks"].as_array().expect("tasks").iter().map(|task| &task["Version"]).collect();
    assert!(versions.contains(&&json!(2)), "{}", consumers.text());
    let versions = cluster.client.get("/secrets/db/versions").json();
    let of = |at: usize| (versions[at]["Version"].clone(), versions[at]["Current"].clone());
    assert_eq!([of(0), of(1)], [(json!(1), json!(false)), (json!(2), json!(true))]);
    // The manager goes away in the middle, and the agent has to be told everything anew.
    cluster.purser.kill();
    cluster.purser.start();
    let agent = member.open(&Habits::default()).expect("a session");
    agent.until("every task has the second, and the first is withdrawn", |seen| {
        let values: Vec<_> = seen.model.secrets.iter().collect();
        let all = values.iter().all(|(id, value)| **id != secret && value.as_slice() == b"second");
        (all && values.len() == 2).then_some(())
    });
    agent.until("nothing came too early", |seen| seen.model.faults.is_empty().then_some(()));
    eventually("the rollout ends", PATIENCE, || {
        let shown = cluster.client.get("/services/web").json();
        (shown["UpdateStatus"]["State"] == "completed").then_some(())
    });
    let records = cluster.client.get("/purser/audit").text();
    assert!(records.contains(", version 2"), "{records}");
}
