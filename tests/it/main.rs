//! Tests of the whole program. One binary, so that it is linked once.
//!
//! - `kit`: starting purser and engines, and asking them things.
//! - The other modules: one subject each.
//!
//! Tests that need an engine call [`kit::engine::Engine::up`], which fails with what is missing;
//! they are in modules whose name begins with `engine_`, so that a run without engines can say how
//! many it leaves out.

mod api_audit;
mod api_config;
mod api_document;
mod api_event;
mod api_filter;
mod api_fuzz;
mod api_host;
mod api_job;
mod api_json;
mod api_logs;
mod api_lookup;
mod api_network;
mod api_node;
mod api_policy;
mod api_progress;
mod api_robust;
mod api_schemathesis;
mod api_secret;
mod api_service;
mod api_service_network;
mod api_service_refusal;
mod api_swarm;
mod api_table;
mod api_task;
mod api_tls;
mod api_transport;
mod cli_bollard;
mod cli_config;
mod cli_curl;
mod cli_generated;
mod cli_job;
mod cli_logs;
mod cli_network;
mod cli_node;
mod cli_secret;
mod cli_service;
mod cli_swarm;
mod cli_system;
mod cli_tls;
mod cli_unsupported;
mod engine_ca;
mod engine_cli_docker_py;
mod engine_cli_node;
mod engine_cli_service;
mod engine_cli_system;
mod engine_cli_tls;
mod engine_crash;
mod engine_image;
mod engine_jobs;
mod engine_logs;
mod engine_loss;
mod engine_network;
mod engine_network_attach;
mod engine_network_local;
mod engine_nodes;
mod engine_options;
mod engine_passthrough;
mod engine_secrets;
mod engine_stack;
mod engine_walk_nginx;
mod engine_walk_wordpress;
mod kit;
mod node_assign;
mod node_attach;
mod node_join;
mod node_logs;
mod node_network;
mod node_root;
mod node_session;
mod node_task;
mod node_tls;
mod scenarios;
mod store_at_rest;
mod store_backup;
mod store_crash;
mod store_keys;
mod store_open;
mod store_process;
mod store_tamper;
mod tidy;
