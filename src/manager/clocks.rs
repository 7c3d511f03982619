//! The clocks of nodes, as far as their reports show how far they are off. Nothing here goes by them;
//! certificates do, on both sides, and people who read the times of tasks.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::Manager;
use crate::domain::actor::Actor;
use crate::domain::id::NodeId;
use crate::domain::intent::Intent;

/// Seconds that a report may be ahead before its node's clock is.
const AHEAD_MAX: i64 = 30;
/// Seconds that reports may be behind: they take their time, and what could not be said while a node was
/// cut off is said late.
const BEHIND_MAX: i64 = 60;
/// Two reports that are late by as much, within these seconds, are so for the clock.
const STEADY: i64 = 10;
/// A node's status says something else of its clock once in this time: a node that wants to could
/// otherwise have every report of its written.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// What is known of the clocks.
#[derive(Default)]
pub(super) struct Clocks(Mutex<HashMap<NodeId, Seen>>);

#[derive(Default)]
struct Seen {
    /// Of the last report.
    offset: i64,
    /// What the node's status says.
    said: String,
    /// Since when.
    said_at: Option<Instant>,
}

impl Clocks {
    /// Notes by how many seconds a report was ahead, or behind if it is negative. Answers what the
    /// node's status should say from now on, if that is something else.
    fn note(&self, node: NodeId, offset: i64, now: Instant) -> Option<String> {
        let mut all = self.0.lock().expect("a clock is never left half noted");
        let seen = all.entry(node).or_default();
        let is_steady = (seen.offset - offset).abs() <= STEADY;
        seen.offset = offset;
        let say = match offset {
            ahead if ahead > AHEAD_MAX => {
                format!("its clock is {} ahead of the manager's", words(ahead))
            }
            behind if behind < -BEHIND_MAX && is_steady => {
                format!("its clock is {} behind the manager's", words(-behind))
            }
            // It may be, or not.
            behind if behind < -BEHIND_MAX => return None,
            _ => String::new(),
        };
        // A clock that runs on is not another one every second.
        let is_same = say == seen.said
            || !say.is_empty()
                && !seen.said.is_empty()
                && is_steady
                && (offset > 0) == seen.said.contains("ahead");
        if is_same || seen.said_at.is_some_and(|at| now < at + SAID_EVERY) {
            return None;
        }
        seen.said_at = Some(now);
        seen.said.clone_from(&say);
        Some(say)
    }

    /// Forgets a node's clock: its status says nothing of it any more.
    pub(super) fn forget(&self, node: NodeId) {
        self.0.lock().expect("a clock is never left half noted").remove(&node);
    }
}

/// A time in words, as far as it matters.
fn words(seconds: i64) -> String {
    match seconds {
        ..120 => format!("about {seconds} seconds"),
        120..7200 => format!("about {} minutes", (seconds + 30) / 60),
        7200..172_800 => format!("about {} hours", (seconds + 1800) / 3600),
        _ => format!("about {} days", (seconds + 43_200) / 86_400),
    }
}

impl Manager {
    /// A node's session begins: its status says nothing of its clock.
    pub fn forget_clock(&self, node: NodeId) {
        self.inner.clocks.forget(node);
    }

    /// Notes by how many seconds the newest of a node's reports was ahead of this manager's clock.
    pub async fn note_clock(&self, node: NodeId, offset: i64) {
        let Some(message) = self.inner.clocks.note(node, offset, Instant::now()) else { return };
        if message.is_empty() {
            tracing::info!(node = %node, "its clock is right again");
        } else {
            tracing::warn!(node = %node, "{message}");
        }
        let intent = Intent::NoteClock { id: node, message };
        if let Err(error) = self.submit(Actor::Manager, intent).await {
            tracing::warn!(%error, "a node's clock was not noted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_said_once() {
        let (clocks, node) = (Clocks::default(), NodeId::derive([1; 17]));
        let now = std::cell::Cell::new(Instant::now());
        let said = |offset| {
            now.set(now.get() + SAID_EVERY);
            clocks.note(node, offset, now.get()).unwrap_or_else(|| "-".into())
        };
        assert_eq!(said(0), "-");
        assert_eq!(said(180), "its clock is about 3 minutes ahead of the manager's");
        assert_eq!(said(181), "-");
        assert_eq!(said(179), "-");
        assert_eq!(said(7300), "its clock is about 2 hours ahead of the manager's");
        assert_eq!(said(-3), "", "it is right again");
        // Late once is no clock; late by the same twice is.
        assert_eq!(said(-500), "-");
        assert_eq!(said(-90), "-");
        assert_eq!(said(-95), "its clock is about 95 seconds behind the manager's");
        assert_eq!(said(-96), "-");
        assert_eq!(said(1), "");
    }

    #[test]
    fn a_clock_that_jumps_to_and_fro_is_written_once_a_minute() {
        let (clocks, node) = (Clocks::default(), NodeId::derive([1; 17]));
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        let offset = |second: u64| if second.is_multiple_of(2) { 0 } else { 3600 };
        let written = (0..=180).filter_map(|s| clocks.note(node, offset(s), at(s))).count();
        assert_eq!(written, 3);
    }
}
