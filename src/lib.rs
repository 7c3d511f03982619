//! wip
pub mod ca;
pub mod domain;
pub mod seal;
pub mod store;
