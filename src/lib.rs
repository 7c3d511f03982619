//! purser: Docker Swarm's control plane, rebuilt around its secrets.
//!
//! In reading order, from the words to the doors; each room's own page says more.
//!
//! - [`domain`]: the words. Objects, requests, changes, and the whole cluster in memory.
//! - [`seal`]: how anything readable becomes a row that nobody can read.
//! - [`ca`]: who is a member, and in which role.
//! - [`wire`]: the agent protocol's messages, and their conversion to and from the words.
//! - [`plan`]: decisions. Pure functions from the view of the cluster to changes.
//! - [`store`]: the cluster in memory and its durable, sealed copy.
//! - [`manager`]: what moves while this process leads.
//! - [`dispatcher`]: the nodes' door.
//! - [`engine`]: the Docker Engine of this host.
//! - [`http`]: the clients' door.
//! - [`config`], [`app`], [`cli`]: the program put together.
//!
//! `ARCHITECTURE.md` has the map, the laws and the ways of the data.

pub mod domain;
pub mod seal;

pub mod ca;
pub mod wire;

pub mod plan;
pub mod store;

pub mod manager;

pub mod dispatcher;
pub mod engine;
pub mod http;

pub mod app;
pub mod cli;
pub mod config;

#[cfg(any(test, fuzzing))]
pub mod fuzz;
