//! Random sequences of commands over the whole planner set: the checker looks after every one, and
//! when the faults stop, everything heals.
//!
//! A sequence grows from its seed alone. The seeds of a run are the same on every machine, so that a
//! run which fails tells of the change that it tests; others are tried with
//! `PURSER_SEEDS=10001..30000 cargo test --release --test it scenarios::random`. A failure prints
//! its seed, by which it is run again, and the shortest part of the sequence that still fails.

use std::ops::RangeInclusive;

use super::heal;
use super::world::{World, mix};

/// Sequences of one test. The tests run beside each other.
const SEQUENCES: u64 = 2_500;
/// The commands of a sequence, before it is healed.
const COMMANDS_MAX: u64 = 24;

#[test]
fn whatever_happens_heals_1() {
    run_part(0);
}

#[test]
fn whatever_happens_heals_2() {
    run_part(1);
}

#[test]
fn whatever_happens_heals_3() {
    run_part(2);
}

#[test]
fn whatever_happens_heals_4() {
    run_part(3);
}

/// The seeds of one of four tests: a quarter of those that were asked for.
fn run_part(part: u64) {
    let seeds = std::env::var("PURSER_SEEDS").map_or(1..=4 * SEQUENCES, |text| seeds(&text));
    for seed in seeds.filter(|seed| seed % 4 == part) {
        let script = script(seed);
        if fault(seed, &script).is_some() {
            let script = shorten(seed, script);
            let fault = fault(seed, &script).unwrap_or_default();
            panic!("PURSER_SEEDS={seed} fails with\n{}\n{fault}", script.join("\n"));
        }
    }
}

/// `7`, or `1..500` with both ends.
pub fn seeds(text: &str) -> RangeInclusive<u64> {
    let number = |text: &str| text.parse::<u64>().expect("PURSER_SEEDS=7 or PURSER_SEEDS=1..500");
    match text.split_once("..") {
        Some((first, last)) => number(first)..=number(last),
        None => number(text)..=number(text),
    }
}

/// What a script ends in, if not in health.
fn fault(seed: u64, script: &[String]) -> Option<String> {
    let mut world = World::new(seed);
    for line in script.iter().cloned().chain(heal::lines(script)) {
        world.line(&line);
        if !world.complaints.is_empty() {
            return Some(format!("after `{line}`: {}", world.complaints.join("\n")));
        }
    }
    let unwell = heal::unwell(&world);
    (!unwell.is_empty()).then(|| format!("{}\n{}", unwell.join("\n"), heal::tables(&world)))
}

/// The script without the lines that it fails without as well.
fn shorten(seed: u64, mut script: Vec<String>) -> Vec<String> {
    let mut at = script.len();
    while at > 0 {
        at -= 1;
        let line = script.remove(at);
        match fault(seed, &script) {
            Some(_) => at = at.min(script.len()),
            None => script.insert(at, line),
        }
    }
    script
}

fn script(seed: u64) -> Vec<String> {
    let mut dice = Dice(seed);
    let mut script = vec![START.to_owned()];
    for _ in 0..=dice.below(COMMANDS_MAX) {
        let mut line = command(&mut dice);
        // Some are decided together, before any planner looks.
        while dice.below(6) == 0 {
            line = format!("{line} ; {}", command(&mut dice));
        }
        script.push(line);
    }
    script
}

const START: &str = "node n1 label.zone=a ; node n2 label.zone=b ; node n3 label.zone=a ; \
                     secret s1 ; secret s2 ; config c1";

/// Draws from a seed.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % bound
    }

    pub fn pick<'t>(&mut self, of: &[&'t str]) -> &'t str {
        let at = self.below(of.len() as u64);
        of[usize::try_from(at).expect("a place in a list")]
    }
}

fn command(dice: &mut Dice) -> String {
    let service = dice.pick(&["web", "web", "db", "log"]);
    match dice.below(50) {
        0..=2 => format!("service web replicas=3 {}", settings(dice, "80")),
        3..=4 => format!("service db replicas=2 {}", settings(dice, "82")),
        5..=6 => format!("global log {}", settings(dice, "81")),
        7..=10 => format!("update web {}", settings(dice, "80")),
        11 => format!("update db {}", settings(dice, "82")),
        12..=13 => format!("update log {}", settings(dice, "81")),
        14..=15 => format!("scale {} {}", dice.pick(&["web", "web", "db"]), dice.below(6)),
        16 => format!("update {service} force={}", dice.below(100)),
        17 => format!("remove {service}"),
        18..=19 => format!("rollback {service}"),
        20..=22 => {
            let tasks = ["web.1", "web.2", "web.3", "db.1", "log.n1", "log.n2", "sum.0", "scan.n1"];
            format!("{} {}", dice.pick(&["fail", "complete", "late"]), dice.pick(&tasks))
        }
        23..=24 => {
            let verbs = ["secret", "remove-secret", "rotate", "rotate", "choose", "prune"];
            format!("{} {}", dice.pick(&verbs), secret(dice))
        }
        25 => format!("{} c1", dice.pick(&["config", "remove-config"])),
        26..=32 => {
            let verb = dice.pick(&[
                "up",
                "up",
                "down",
                "down",
                "hang",
                "drain",
                "pause",
                "activate",
                "remove-node",
                "node",
                "promote",
                "mutter",
            ]);
            format!("{verb} {}", node(dice))
        }
        33..=34 => format!("label {} zone={}", node(dice), dice.pick(&["a", "b"])),
        35 => dice.pick(&["restart-manager", "leap 30m ; restart-manager"]).to_owned(),
        36 => format!("history {}", dice.below(4)),
        37 => format!("leap {}", dice.pick(&["25h", "3h"])),
        38..=42 => job(dice),
        _ => format!("advance {}", dice.pick(&["1s", "5s", "20s", "2m"])),
    }
}

/// A job is made, changed, rolled back or removed.
fn job(dice: &mut Dice) -> String {
    let counts = format!("completions={} concurrent={}", dice.below(6), dice.below(4));
    match dice.below(10) {
        0..=2 => format!("job sum {counts} {}", job_settings(dice, "83")),
        3..=4 => format!("global-job scan {}", job_settings(dice, "84")),
        5..=6 => format!("update sum {counts} {}", job_settings(dice, "83")),
        7 => format!("update scan {}", job_settings(dice, "84")),
        _ => format!("{} {}", dice.pick(&["rollback", "remove"]), dice.pick(&["sum", "scan"])),
    }
}

/// Settings of a job, which is not rolled out.
fn job_settings(dice: &mut Dice, port: &str) -> String {
    let image = dice.pick(&[
        "app:1",
        "slow:1",
        "slow-crash:1",
        "crash:1",
        "once:1",
        "once:2",
        "flaky:1",
        "lingers:1",
        "absent:1",
        "sick:1",
    ]);
    let policy = dice.pick(&[
        "",
        " restart=none",
        " restart=on-failure attempts=2",
        " restart=any attempts=1 window=20s",
        " delay=1s",
    ]);
    let port = format!(" port={port}");
    let placement = match dice.below(6) {
        0 => " constraint=node.labels.zone==a",
        1 => &port,
        2 => " max-per-node=1",
        3 => " secret=s1",
        _ => "",
    };
    format!("image={image}{policy}{placement}")
}

fn node(dice: &mut Dice) -> &'static str {
    dice.pick(&heal::NODES)
}

fn secret(dice: &mut Dice) -> &'static str {
    dice.pick(&["s1", "s2"])
}

/// Settings of a service. Each has a port of its own, or they would keep each other from a node.
fn settings(dice: &mut Dice, port: &str) -> String {
    let image = dice.pick(&[
        "app:1",
        "app:2",
        "app:3",
        "slow:1",
        "slow-crash:1",
        "crash:1",
        "once:1",
        "lingers:1",
        "absent:1",
        "sick:1",
    ]);
    let policy = dice.pick(&[
        "",
        "",
        "",
        " restart=none",
        " restart=on-failure attempts=2",
        " restart=any attempts=1 window=20s",
        " delay=2s",
        " delay=30s",
    ]);
    let rollout = dice.pick(&[
        "",
        "",
        " parallelism=2",
        " parallelism=0",
        " update-delay=7s failure=continue",
        " ratio=0.5",
        " order=start-first",
        " order=start-first parallelism=2 failure=continue",
        " order=stop-first",
        " failure=rollback rollback.order=start-first",
        " order=start-first failure=rollback rollback.failure=continue",
        " failure=rollback rollback.parallelism=0 monitor=20s",
    ]);
    let placement = match dice.below(8) {
        0 => " constraint=node.labels.zone==a".to_owned(),
        1 => " constraint=".to_owned(),
        2 => format!(" port={port}"),
        3 => " cpus=1".to_owned(),
        4 => " max-per-node=1".to_owned(),
        5 => " spread=node.labels.zone".to_owned(),
        _ => String::new(),
    };
    let grants = match dice.below(8) {
        0 => " secret=s1".to_owned(),
        1 => format!(" secret={} config=c1", secret(dice)),
        2 => " secret=s1,s2".to_owned(),
        3 => " secret= config=".to_owned(),
        _ => String::new(),
    };
    format!("image={image}{policy}{rollout}{placement}{grants}")
}
