//! The agent protocol's messages and their conversions to and from the domain.
//!
//! [`proto`] is generated from `proto/` and is the second vocabulary of purser; nothing outside of
//! this room and the dispatcher speaks it. Every other file converts one family of messages, by
//! hand. A function named after a thing makes the message of it (`node`, `secret`); what reads a
//! message ends in `_from`, or is named after what an engine reports (`task::status`,
//! `node::description`).
//!
//! Two rules hold throughout:
//!
//! - Objects are written out with every field, never with a `..default()`: an absent scalar is a
//!   zero to the engine, and a zero is an instruction of its own. (A removal is no object; it names
//!   one.) Sub-messages that an engine dereferences without looking cannot be left out by any
//!   constructor here.
//! - What comes from a node is bounded on its way in, since it is stored, and a node may be hostile.
//!
//! Deliberately absent: streams, chaining and the question which node gets what (the dispatcher's),
//! and opening payloads (the seal's). Reading order: [`session`] (what a session sends), [`task`],
//! [`container`], [`secret`], [`node`], [`time`].

/// The generated messages, enumerations, clients and servers. None of the messages can be printed.
#[allow(
    missing_docs,
    unreachable_pub,
    rustdoc::all,
    clippy::all,
    clippy::pedantic,
    reason = "generated code; its documentation stands in the proto files"
)]
pub mod proto {
    tonic::include_proto!("docker.swarmkit.v1");
}

pub mod session;

pub mod task;

pub mod container;
mod mount;
mod privileges;
pub mod reference;

pub mod config;
pub mod secret;

pub mod log;
pub mod network;
pub mod node;

mod common;
mod endpoint;
pub mod time;

#[cfg(test)]
mod fixture;
