//! Rotations at bad moments, on stock engines. However they are met, the end is one version for each
//! service, and no container ever sees another than that of its task.

use std::time::Duration;

use serde_json::Value;

use crate::kit::engine::{PATIENCE, Site};
use crate::kit::eventually;
use crate::kit::http::Client;
use crate::kit::load::Random;
use crate::kit::rotation::{
    Watch, await_version, consumer, current, make_secret, make_service, rollout_state, rotate,
};

const KILLS: usize = 20;

/// True while tasks of a service are being replaced, or are about to be.
fn is_under_way(client: &Client, service: &str) -> bool {
    let shown = consumer(client, service);
    let tasks = shown["Tasks"].as_array().cloned().unwrap_or_default();
    let is_stale = tasks.iter().any(|task| task["Version"] != shown["Wanted"]);
    is_stale || rollout_state(client, service) == "updating"
}

#[track_caller]
fn await_end(client: &Client, service: &str) {
    eventually(&format!("{service} is updated"), PATIENCE, || {
        (rollout_state(client, service) == "completed").then_some(())
    });
}

#[test]
fn purser_is_killed_again_and_again_in_the_middle_of_rollouts() {
    let given = std::env::var("PURSER_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| Random::new().below(u64::MAX) | 1);
    println!("PURSER_SEED={seed}");
    let mut random = Random::seeded(seed);
    let mut site = Site::up(&["kills"]);
    make_secret(&site);
    make_service(&site, "web", "--replicas 3");
    make_service(&site, "api", "--replicas 2 --update-order start-first");
    let client = site.purser.client();
    await_version(&client, "web", 1, 3);
    await_version(&client, "api", 1, 2);
    let watch = Watch::start(client.clone());
    let mut kills = 0;
    while kills < KILLS {
        if !is_under_way(&client, "web") {
            rotate(&client);
            if random.below(2) == 0 {
                // What is changed at the same time is one more thing to be in the middle of.
                let number = random.below(1_000);
                site.docker(&format!("service update -d --env-add N={number} web")).ok();
            }
        }
        std::thread::sleep(Duration::from_millis(random.below(3_000)));
        kills += usize::from(is_under_way(&client, "web"));
        site.purser.kill();
        site.purser.start();
    }
    let last = rotate(&client);
    for (service, tasks) in [("web", 3), ("api", 2)] {
        await_end(&client, service);
        await_version(&client, service, last, tasks);
    }
    let containers = watch.check(&site.engines);
    println!("{containers} containers, {last} versions");
    assert!(last > 2, "{last} versions are too few to say anything, PURSER_SEED={seed}");
}

#[test]
fn a_node_cut_off_keeps_its_version_and_ends_up_right() {
    let site = Site::up(&["a", "b"]);
    let client = site.purser.client();
    let [_, second] = &site.engines[..] else { panic!("two engines") };
    site.docker("swarm update --dispatcher-heartbeat 1s").ok();
    make_secret(&site);
    make_service(&site, "web", "--replicas 4");
    make_service(&site, "each", "--mode global");
    await_version(&client, "web", 1, 4);
    await_version(&client, "each", 1, 2);
    let watch = Watch::start(client.clone());
    let old = second.containers();
    assert_eq!(old.len(), 3);

    let next = rotate(&client);
    second.cut();
    site.await_node(second, "down");
    // Those that are lost are there again elsewhere, with the new value.
    site.await_tasks("web", "all run on the node that is left", |tasks| {
        tasks.len() == 4 && tasks.iter().all(|task| task.node != site.node_id(second))
    });
    assert_eq!(second.containers(), old, "a node that hears nothing does nothing");
    let last = rotate(&client);
    assert!(last > next);

    second.heal();
    site.await_node(second, "ready");
    await_version(&client, "web", last, 4);
    await_version(&client, "each", last, 2);
    await_end(&client, "web");
    let now = second.containers();
    assert!(now.iter().all(|container| !old.contains(container)), "{now:?}");
    watch.check(&site.engines);
}

/// Updates a service, again if it was changed between the docker command's look and its request.
#[track_caller]
fn update_service(site: &Site, update: &str) {
    eventually(&format!("web is updated with {update}"), PATIENCE, || {
        let said = site.docker(&format!("service update -d {update} web"));
        assert!(said.code == 0 || said.err.contains("update out of sequence"), "{said:?}");
        (said.code == 0).then_some(())
    });
}

#[test]
fn updates_and_removals_meet_rollouts() {
    let site = Site::up(&["meet"]);
    let client = site.purser.client();
    make_secret(&site);
    make_service(&site, "web", "--replicas 3");
    await_version(&client, "web", 1, 3);
    let watch = Watch::start(client.clone());

    // Together, one before the other and the other before the one: one rollout, or two.
    let updates = ["--label-add a=b", "--env-add A=1", "--env-add A=2 --update-parallelism 2"];
    for (number, update) in updates.into_iter().enumerate() {
        let version = std::thread::scope(|scope| {
            let rotated = scope.spawn(|| rotate(&client));
            update_service(&site, update);
            rotated.join().expect("it is rotated")
        });
        if number > 0 {
            // And once more, when tasks of it are made already.
            eventually("the rollout has begun", PATIENCE, || {
                (rollout_state(&client, "web") == "updating").then_some(())
            });
            assert_eq!(rotate(&client), version + 1);
        }
        await_version(&client, "web", current(&client), 3);
        await_end(&client, "web");
    }
    let env = "{{json .Spec.TaskTemplate.ContainerSpec.Env}} {{.Spec.Labels.a}}";
    assert_eq!(site.docker(&format!("service inspect -f '{env}' web")).ok(), r#"["A=2"] b"#);
    watch.check(&site.engines);

    rotate(&client);
    eventually("the rollout has begun", PATIENCE, || {
        (rollout_state(&client, "web") == "updating").then_some(())
    });
    let refused = site.docker("secret rm db").refused();
    assert!(refused.contains("secret 'db' is in use by the following service: web"), "{refused}");
    site.docker("service rm web").ok();
    site.docker("secret rm db").ok();
    assert_eq!(client.get("/secrets/db/consumers").status, 404);
    eventually("all of it is gone", PATIENCE, || {
        let is_empty = site.engines[0].docker("ps -aq").is("");
        (is_empty && client.get("/tasks").text().trim() == "[]").then_some(())
    });
    assert_eq!(site.docker("secret ls -q").ok(), "");
}

#[test]
fn what_is_started_again_sees_the_version_of_its_task() {
    let site = Site::up(&["again"]);
    let client = site.purser.client();
    let [engine] = &site.engines[..] else { panic!("one engine") };
    make_secret(&site);
    make_service(&site, "web", "--replicas 2 --update-delay 3s");
    // Another one on the same engine keeps the first version.
    make_service(&site, "held", "--replicas 1 --label purser.rotate=manual");
    let watch = Watch::start(client.clone());
    await_version(&client, "web", 1, 2);
    await_version(&client, "held", 1, 1);
    let version = rotate(&client);
    await_version(&client, "web", version, 2);
    await_end(&client, "web");

    // Stopped and started by hand, a container is without a task, and so without a secret: it gets neither
    // its own value nor the first one, which another task has still.
    let [stopped, other] = &site.running("web")[..] else { panic!("two tasks") };
    engine.docker(&format!("stop -t 2 {}", stopped.container)).ok();
    site.await_tasks("web", "the task has a successor", |tasks| {
        tasks.len() == 2 && !tasks.contains(stopped) && tasks.contains(other)
    });
    eventually("its secret is withdrawn", PATIENCE, || {
        let started = engine.docker(&format!("start {}", stopped.container));
        if started.code == 0 {
            engine.docker(&format!("stop -t 2 {}", stopped.container)).ok();
        }
        started.err.contains("unable to get secret").then_some(())
    });

    // The task is over when its container stops, and has a successor. The engine starts the container
    // again all the same, which nobody looks after any more, if it still has its secret by then.
    let [restarted, other] = &site.running("web")[..] else { panic!("two tasks") };
    let again = engine.docker(&format!("restart -t 2 {}", restarted.container));
    assert!(again.code == 0 || again.err.contains("unable to get secret"), "{again:?}");
    site.await_tasks("web", "the task has a successor", |tasks| {
        tasks.len() == 2 && !tasks.contains(restarted) && tasks.contains(other)
    });

    let last = rotate(&client);
    // Not while a container is made: an engine that dies before it has started one forgets which secrets
    // that was to have, and starts it without.
    eventually("one of two tasks has the new version", PATIENCE, || {
        let tasks = consumer(&client, "web")["Tasks"].clone();
        let is_new = |task: &&Value| task["Version"] == last && task["State"] == "running";
        (tasks.as_array()?.iter().filter(is_new).count() == 1).then_some(())
    });
    engine.kill();
    engine.revive();
    await_version(&client, "web", last, 2);
    await_end(&client, "web");
    assert!(watch.check(&site.engines) > 6);
}
