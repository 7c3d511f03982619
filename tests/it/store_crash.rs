//! purser is killed again and again while clients write: what was answered stays, and what was not
//! is either done or not.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::kit::load::{Random, Writer, read_all};
use crate::kit::purser::Purser;

const CLIENTS: usize = 4;
const KILLS: usize = 60;

/// Lets the clients write for a random while, kills purser under them, starts it and compares.
#[track_caller]
pub fn round(purser: &mut Purser, writers: &mut [Writer], random: &mut Random) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in writers.iter_mut() {
            let (client, stop) = (purser.client(), &stop);
            scope.spawn(move || writer.run(&client, stop));
        }
        std::thread::sleep(Duration::from_micros(20_000 + random.below(300_000)));
        purser.kill();
    });
    if random.below(4) == 0 {
        // It may die while it starts as well.
        purser.spawn();
        std::thread::sleep(Duration::from_micros(random.below(80_000)));
        purser.kill();
    }
    purser.start();
    let there = read_all(&purser.client());
    writers.iter_mut().for_each(|writer| writer.check(&there));
}

#[test]
fn a_kill_at_any_moment_loses_nothing_that_was_answered() {
    let mut purser = Purser::swarm("crash");
    let mut random = Random::new();
    let mut writers: Vec<Writer> = (0..CLIENTS).map(|number| Writer::new(number, None)).collect();
    for _ in 0..KILLS {
        round(&mut purser, &mut writers, &mut random);
    }
    let answered: u64 = writers.iter().map(|writer| writer.answered).sum();
    let unanswered: u64 = writers.iter().map(|writer| writer.unanswered).sum();
    println!("{answered} writes answered, {unanswered} not");
    assert!(answered > 1_000, "{answered} writes are too few to say anything");
    assert!(unanswered as usize > KILLS, "the kills did not meet writes: {unanswered}");
}
