//! Names for services that were given none: an adjective and a navigator.

use crate::domain::id::{Entropy, Stream};

const ADJECTIVES: &[&str] = &[
    "able", "bold", "brave", "bright", "brisk", "calm", "clever", "daring", "eager", "fair",
    "fleet", "frank", "gentle", "glad", "hardy", "keen", "kind", "lively", "loyal", "merry",
    "neat", "noble", "patient", "proud", "quick", "quiet", "ready", "sharp", "steady", "stout",
    "sturdy", "swift",
];

const NAVIGATORS: &[&str] = &[
    "amundsen",
    "baffin",
    "barents",
    "beaufort",
    "bering",
    "bougainville",
    "bowditch",
    "cabot",
    "cartier",
    "chichester",
    "cook",
    "davis",
    "drake",
    "ericson",
    "franklin",
    "frobisher",
    "henson",
    "hudson",
    "magellan",
    "nansen",
    "noonan",
    "polo",
    "pytheas",
    "ross",
    "shackleton",
    "slocum",
    "tasman",
    "tupaia",
    "vancouver",
    "vespucci",
    "weddell",
    "zheng",
];

/// Tries before a number is added.
const TRIES: usize = 16;

/// A name that is not taken.
pub(super) fn make(entropy: &dyn Entropy, is_taken: impl Fn(&str) -> bool) -> String {
    let mut name = String::new();
    for _ in 0..TRIES {
        name = draw(entropy);
        if !is_taken(&name) {
            return name;
        }
    }
    (2u64..).map(|number| format!("{name}{number}")).find(|name| !is_taken(name)).unwrap_or(name)
}

fn draw(entropy: &dyn Entropy) -> String {
    let mut bytes = [0; 2];
    entropy.fill(Stream::Other, &mut bytes);
    let pick = |words: &[&'static str], byte: u8| words[usize::from(byte) % words.len()];
    format!("{}_{}", pick(ADJECTIVES, bytes[0]), pick(NAVIGATORS, bytes[1]))
}
