//! Tests of the whole program. One binary, so that it is linked once.
//!
//! - `kit`: starting purser and engines, and asking them things.
//! - The other modules: one subject each.
//!
//! Tests that need an engine call [`kit::engine::Engine::up`], which fails with what is missing;
//! they are in modules whose name begins with `engine_`, so that a run without engines can say how
//! many it leaves out.

mod engine_crash;
mod engine_image;
mod engine_loss;
mod engine_nodes;
mod engine_options;
mod engine_passthrough;
mod engine_secrets;
mod kit;
mod scenarios;
mod store_at_rest;
mod store_crash;
mod tidy;
