//! Tests of the whole program. One binary, so that it is linked once.
//!
//! - `kit`: starting purser and engines, and asking them things.
//! - The other modules: one subject each.
//!
//! Tests that need an engine call [`kit::engine::Engine::up`], which fails with what is missing;
//! they are in modules whose name begins with `engine_`, so that a run without engines can say how
//! many it leaves out.

mod kit;

mod api_document;
mod api_event;
mod api_filter;
mod api_fuzz;
mod api_host;
mod api_json;
mod api_lookup;
mod api_node;
mod api_robust;
mod api_secret;
mod api_service;
mod api_service_refusal;
mod api_swarm;
mod api_table;
mod api_task;
mod api_transport;
