//! wip
pub mod domain;
