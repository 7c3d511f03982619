//! Decisions: pure functions from the view to changes.
//!
//! ```text
//!   a request ──▶ access ──▶ intent ─────────────────────────────┐
//!                                                                ├──▶ changes
//!   a commit, a moment ──▶ settle: orchestrator ▶ reaper ▶       │
//!                                  allocator ▶ scheduler ────────┘
//! ```
//!
//! A request and a reconciler differ only in what wakes them. Neither is told what happened: each
//! looks at the view and answers what should change, so that a restart, a missed event and a normal
//! day all take the same path. Each planner owns a stretch of a task's life
//! ([`crate::domain::task_state`]) and knows none of the others; they meet in the view.
//!
//! Deliberately absent: the clock, randomness, the store, any waiting. "Look again at this time"
//! comes back as data ([`Planned::again`]).

pub mod access;
pub mod forecast;
pub mod intent;
pub mod settle;

pub mod template;

pub mod allocator;
pub mod orchestrator;
pub mod scheduler;

use crate::domain::change::{Change, Key};
use crate::domain::id::Entropy;
use crate::domain::time::Timestamp;

/// What a plan is made with, besides the view.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The present moment.
    pub now: Timestamp,
    /// Where new ids come from.
    pub entropy: &'a dyn Entropy,
}

/// What a planner answers.
#[derive(Debug, Default)]
pub struct Planned {
    /// What should change.
    pub changes: Vec<Change>,
    /// What to look at again, and when, even if nothing changes until then.
    pub again: Vec<(Timestamp, Key)>,
}
