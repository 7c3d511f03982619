//! Forecasts beside what comes of them. In a cluster that is well, random requests are forecast and done,
//! one after the other, each with time enough to come to its end; then is counted which tasks took the
//! place of others, which were started besides, and which were stopped for good.
//!
//! Two of the four nodes work all the time and have room for everything, which no forecast looks at.
//! `PURSER_SEEDS` tries others than the usual sequences, as in [`super::random`].

use std::collections::{BTreeMap, BTreeSet};

use purser::domain::id::{NodeId, ServiceId, TaskId};
use purser::domain::view::View;
use purser::plan::forecast::forecast;

use super::check::slot_of;
use super::heal;
use super::random::{Dice, seeds};
use super::world::World;

/// Sequences of the test.
const SEQUENCES: u64 = 600;
/// The requests of a sequence.
const REQUESTS: u64 = 12;

const START: &str = "node n1 label.zone=a ; node n2 label.zone=b ; node n3 label.zone=a ; \
                     node n4 label.zone=a ; secret s1 ; secret s2 ; config c1 ; \
                     service web replicas=3 secret=s1 ; service db replicas=2 config=c1 ; global log";

#[test]
fn what_is_forecast_comes_about() {
    let seeds = std::env::var("PURSER_SEEDS").map_or(1..=SEQUENCES, |text| seeds(&text));
    let mut told = 0;
    for seed in seeds {
        let mut dice = Dice(seed);
        let mut world = World::new(seed);
        let mut script = vec![START.to_owned()];
        world.line(START);
        world.line("advance 1h");
        for _ in 0..REQUESTS {
            let line = request(&mut dice);
            script.push(line.clone());
            match comes_about(&mut world, &line) {
                Ok(count) => told += count,
                Err(why) => panic!(
                    "PURSER_SEEDS={seed}: after\n{}\n{why}\n{}",
                    script.join("\n"),
                    heal::tables(&world)
                ),
            }
        }
    }
    assert!(told > 1_000, "only {told} tasks: next to nothing was forecast");
}

/// Does what a line says, and compares what comes of its last request with the forecast. Answers how many
/// tasks that was about.
fn comes_about(world: &mut World, line: &str) -> Result<u64, String> {
    let before = slots(&world.view);
    world.asked = None;
    world.line(line);
    let asked = world.asked.take();
    world.line("advance 1h");
    if !world.complaints.is_empty() {
        return Err(world.complaints.join("\n"));
    }
    // What nodes do is no request, and what was refused did nothing.
    let is_request = !["node", "up", "down"].contains(&line.split(' ').next().unwrap_or_default());
    let Some((view, changes)) = asked.filter(|_| is_request) else { return Ok(0) };
    let expected = forecast(&view, &changes, world.now);
    let after = slots(&world.view);
    let mut count = 0;
    let services: BTreeSet<&ServiceId> = before.keys().chain(after.keys()).collect();
    for id in services {
        let none = BTreeMap::new();
        let [before, after] = [&before, &after].map(|slots| slots.get(id).unwrap_or(&none));
        let replaced =
            before.iter().filter(|(slot, tasks)| after.get(slot).is_some_and(|now| now != *tasks));
        let found = Counts {
            replaced: replaced.count() as u64,
            started: after.keys().filter(|slot| !before.contains_key(slot)).count() as u64,
            stopped: before.keys().filter(|slot| !after.contains_key(slot)).count() as u64,
        };
        let told = expected.services.iter().find(|service| service.id == *id);
        let told = told.map(|service| {
            let (replaced, started, stopped) = (service.replaced, service.started, service.stopped);
            (Counts { replaced, started, stopped }, service.waves.iter().sum::<u64>())
        });
        let (told, waves) = told.unwrap_or_default();
        if told != found || waves != told.replaced {
            return Err(format!(
                "{id}: forecast {told:?} in waves of {waves}, and came to {found:?}"
            ));
        }
        count += found.replaced + found.started + found.stopped;
    }
    Ok(count)
}

/// What becomes of a service's tasks.
#[derive(Debug, Default, PartialEq)]
struct Counts {
    replaced: u64,
    started: u64,
    stopped: u64,
}

/// A slot: its number, or its node where that is the slot.
type Slot = (u64, Option<NodeId>);

/// The wanted tasks of every slot.
fn slots(view: &View) -> BTreeMap<ServiceId, BTreeMap<Slot, BTreeSet<TaskId>>> {
    let mut found: BTreeMap<_, BTreeMap<Slot, BTreeSet<TaskId>>> = BTreeMap::new();
    for service in view.services() {
        let slots = found.entry(service.id).or_default();
        for task in view.tasks_of_service(service.id).filter(|task| task.is_wanted()) {
            slots.entry(slot_of(Some(service), task)).or_default().insert(task.id);
        }
    }
    found
}

fn request(dice: &mut Dice) -> String {
    let service = dice.pick(&["web", "web", "db", "log"]);
    let replicated = dice.pick(&["web", "web", "db"]);
    let node = dice.pick(&["n1", "n2"]);
    match dice.below(24) {
        0..=4 => format!("update {service} {}", settings(dice)),
        5..=6 => format!("scale {replicated} {}", dice.below(7)),
        7..=8 => format!("update {replicated} replicas={} {}", dice.below(7), settings(dice)),
        9..=10 => format!("rotate {}", dice.pick(&["s1", "s2", "c1"])),
        11 => format!("choose {}", dice.pick(&["s1", "s2", "c1"])),
        12 => format!("rollback {service}"),
        13 => format!("remove {service}"),
        14 => dice
            .pick(&["service web replicas=3 secret=s1", "service db replicas=2", "global log"])
            .to_owned(),
        15..=16 => format!("drain {node}"),
        17..=18 => format!("activate {node}"),
        19 => format!("pause {node}"),
        20 => format!("label {node} zone={}", dice.pick(&["a", "b"])),
        21 => format!("{} {node}", dice.pick(&["down", "up", "up"])),
        22 => format!("{} {node}", dice.pick(&["remove-node", "node"])),
        _ => format!("prune {} keep=1", dice.pick(&["s1", "s2", "c1"])),
    }
}

fn settings(dice: &mut Dice) -> String {
    let what = dice.pick(&[
        "image=app:1",
        "image=app:2",
        "image=app:3",
        "force=1",
        "force=2",
        "constraint=node.labels.zone==a",
        "constraint=",
        "secret=s1",
        "secret=s1,s2",
        "secret=",
        "config=c1",
        "label.purser.rotate=manual",
        "label.purser.rotate=",
        "label.tier=x",
        "delay=2s",
    ]);
    let how = dice.pick(&[
        "",
        "",
        " parallelism=2",
        " parallelism=0",
        " update-delay=7s",
        " order=start-first",
        " order=stop-first",
        " order=start-first parallelism=2",
    ]);
    format!("{what}{how}")
}
