//! What tests start and ask.

pub mod agent;
pub mod docker;
pub mod engine;
pub mod http;
pub mod load;
pub mod purser;
pub mod python;
pub mod rotation;
pub mod scratch;
pub mod search;
pub mod start;
pub mod steps;
pub mod tls;

use std::time::{Duration, Instant};

/// Tries until `check` gives something, for at most this long.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "tests against real processes wait in real time")]
pub fn eventually<T>(what: &str, time: Duration, mut check: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + time;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < end, "not within {time:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
