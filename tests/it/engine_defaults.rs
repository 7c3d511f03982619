//! The table of what is read back of a service, compared with a stock engine that is a manager.

use super::api_defaults::{cases, check};
use super::kit::engine::Engine;
use super::kit::http::Client;

#[test]
fn a_stock_manager_shows_what_the_table_says() {
    let engine = Engine::up("reference");
    engine.docker(&format!("swarm init --advertise-addr {}", engine.addr())).ok();
    let client = Client::new(&engine.socket());
    for case in cases().iter().filter(|case| !case.is_newer) {
        check(&client, case);
    }
}
