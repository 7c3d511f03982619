//! Tests of the whole program. One binary, so that it is linked once.
//!
//! - `kit`: starting purser and engines, and asking them things.
//! - The other modules: one subject each.
//!
//! Tests that need an engine call [`kit::engine::Engine::up`], which fails with what is missing;
//! they are in modules whose name begins with `engine_`, so that a run without engines can say how
//! many it leaves out.

mod cli_curl;
mod cli_node;
mod cli_secret;
mod cli_service;
mod cli_swarm;
mod cli_system;
mod cli_unsupported;
mod engine_cli_docker_py;
mod engine_cli_node;
mod engine_cli_service;
mod engine_cli_system;
mod engine_image;
mod kit;
mod scenarios;
mod tidy;
