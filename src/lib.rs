//! wip
pub mod ca;
pub mod dispatcher;
pub mod domain;
pub mod manager;
pub mod plan;
pub mod seal;
pub mod store;
pub mod wire;
