//! wip
pub mod ca;
pub mod domain;
pub mod plan;
pub mod seal;
pub mod store;
pub mod wire;
