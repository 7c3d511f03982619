//! A new value of a secret on stock engines: ten tasks take it a few at a time, and a wrong one comes
//! back by itself before it does harm.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::kit::docker::docker_with;
use crate::kit::engine::{Engine, PATIENCE, Site};
use crate::kit::eventually;
use crate::kit::http::{Client, Flow};
use crate::kit::rotation::{await_version, consumer, rollout_state, seen_by_task, send};

const REPLICAS: usize = 10;
/// Tasks that a rollout has in hand at once, and so may take away.
const AT_ONCE: usize = 2;

/// A service that is healthy with a value that begins with `good`, and says at its start what it has.
const CREATE: &str = r#"service create -d --name web --secret db --stop-grace-period 2s
    --update-parallelism 2 --update-failure-action rollback --update-monitor 3s
    --health-cmd 'grep -q ^good /run/secrets/db' --health-interval 300ms --health-retries 2
    --replicas 10 redis:alpine
    sh -c 'echo $(cat /run/secrets/db); trap "exit 0" TERM; while :; do sleep 1 & wait $!; done'"#;

#[test]
fn a_wrong_value_comes_back_by_itself() {
    let site = Site::up(&["a", "b", "c"]);
    let client = site.purser.client();
    docker_with(&site.purser.socket(), "secret create db -", b"good1").ok();
    let mut health = Health::of(&site.engines);
    site.docker(CREATE).ok();
    await_version(&client, "web", 1, REPLICAS);

    send(&client, "good2");
    await_version(&client, "web", 2, REPLICAS);
    await_rollout(&client, "completed");
    assert_eq!(tasks_that_said(&site.engines, "good2"), REPLICAS);

    send(&client, "bad");
    await_rollout(&client, "rollback_completed");
    await_version(&client, "web", 2, REPLICAS);
    assert_eq!(consumer(&client, "web")["Wanted"], 2);
    let spoiled = tasks_that_said(&site.engines, "bad");
    assert!((1..=AT_ONCE).contains(&spoiled), "{spoiled} tasks ran with the wrong value");
    // The tasks that were spoiled have their good value again; the others were left alone.
    assert_eq!(tasks_that_said(&site.engines, "good2"), REPLICAS + spoiled);
    assert_eq!(health.fewest(REPLICAS), REPLICAS - AT_ONCE);
    check_story(&client);
}

/// The audit tells of it from the wrong value to the return, in this order.
#[track_caller]
fn check_story(client: &Client) {
    let records = client.get("/purser/audit").text();
    let told = |verb: &str, detail: &str| {
        let has =
            |line: &&str| line.contains(&format!(r#""verb":"{verb}""#)) && line.contains(detail);
        let number = records.lines().position(|line| has(&line));
        number.unwrap_or_else(|| panic!("{verb} {detail} is not told: {records}"))
    };
    let story = [
        told("secret update", r#""detail":"version 3""#),
        told("service rollout", "updating: update in progress (secret db: version 2 to 3)"),
        told("service rollout", "rollback_started: update rolled back due to failure"),
        told("service rollout", "rollback_completed: "),
    ];
    assert!(story.is_sorted(), "{story:?}");
    let back = records.lines().nth(story[2]).unwrap_or_default();
    assert!(back.contains("(secret db: version 3 to 2)"), "{back}");
}

#[track_caller]
fn await_rollout(client: &Client, state: &str) {
    eventually(&format!("the rollout is {state}"), PATIENCE, || {
        (rollout_state(client, "web") == state).then_some(())
    });
}

/// How many tasks ran with a value.
#[track_caller]
fn tasks_that_said(engines: &[Engine], value: &str) -> usize {
    engines.iter().flat_map(seen_by_task).filter(|(_, said)| said == value).count()
}

/// What engines tell of the health of their containers, from a moment on.
struct Health {
    flows: Vec<Flow>,
}

impl Health {
    #[track_caller]
    fn of(engines: &[Engine]) -> Health {
        let filters = "%7B%22event%22:%5B%22health_status%22,%22kill%22,%22die%22%5D%7D";
        let path = format!("/events?filters={filters}");
        let open = |engine: &Engine| Client::new(&engine.socket()).open(&path);
        Health { flows: engines.iter().map(open).collect() }
    }

    /// The fewest containers that were healthy at any one moment since `all` of them were. The engines
    /// are on one machine, so that their events have one order. One that is told to stop counts no more.
    #[track_caller]
    fn fewest(&mut self, all: usize) -> usize {
        let mut events: Vec<Value> = Vec::new();
        for flow in &mut self.flows {
            let text = flow.until("an engine tells of health", |answer| Some(answer.text()));
            let lines = text.lines().map(|line| serde_json::from_str(line).expect("an event"));
            events.extend(lines);
        }
        events.sort_by_key(|event| event["timeNano"].as_i64());
        let mut healthy = BTreeMap::new();
        let counts = events.iter().map(|event| {
            let is_healthy = event["Action"] == "health_status: healthy";
            healthy.insert(event["Actor"]["ID"].as_str(), is_healthy);
            healthy.values().filter(|is_healthy| **is_healthy).count()
        });
        let counts: Vec<usize> = counts.collect();
        let from = counts.iter().position(|count| *count == all).expect("all were healthy");
        counts[from..].iter().copied().min().unwrap_or_default()
    }
}
