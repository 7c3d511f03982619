//! The words of the cluster: its objects, what may be asked of it, and the whole of it in memory.
//!
//! Everything here is plain data and pure rules. An object's *spec* is the Docker Engine API's own
//! JSON shape, so one set of types serves the HTTP door, the store and the planners; what the
//! Engine omits stays omitted, and a default is applied only where a planner or the wire asks for
//! it.
//!
//! ```text
//!   intent ──▶ (plan) ──▶ change ──▶ view ──▶ commit
//! ```
//!
//! Reading order: [`id`] and [`time`] (the small words), the objects one file each, [`intent`]
//! (what is asked), [`change`] (what a plan answers), [`view`] (the cluster in memory), [`refusal`]
//! (why not).
//!
//! Deliberately absent: databases, wire formats, the runtime, the system clock and randomness.
//! Time and random bytes come in as parameters ([`time::Clock`], [`id::Entropy`]).

pub mod id;
pub mod time;

pub mod json;
pub mod meta;

pub mod address;
pub mod cluster;
pub mod config;
pub mod container;
pub mod endpoint;
pub mod mode;
pub mod network;
pub mod network_keys;
pub mod node;
pub mod secret;
pub mod service;
pub mod supply;
pub mod task;
pub mod task_state;

pub mod actor;
pub mod audit;
pub mod change;
pub mod constraint;
pub mod filter;
pub mod forecast;
pub mod image;
pub mod intent;
pub mod log;
pub mod name;
pub mod refusal;
pub mod revision;
pub mod view;
