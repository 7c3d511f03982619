//! What a stock engine that is a manager shows and expands, compared with the tables and with purser.

use super::api_defaults::{cases, check};
use super::api_grants::expands;
use super::kit::engine::Engine;
use super::kit::http::Client;
use super::kit::purser::Purser;

#[test]
fn a_stock_manager_shows_what_the_table_says() {
    let engine = Engine::up("reference");
    engine.docker(&format!("swarm init --advertise-addr {}", engine.addr())).ok();
    let client = Client::new(&engine.socket());
    for case in cases().iter().filter(|case| !case.is_newer) {
        check(&client, case);
    }
}

#[test]
fn a_stock_manager_expands_the_same_templates() {
    let engine = Engine::up("templates");
    engine.docker(&format!("swarm init --advertise-addr {}", engine.addr())).ok();
    let stock = Client::new(&engine.socket());
    let purser = Purser::swarm("templates");
    let client = purser.client();
    let texts: Vec<String> =
        serde_json::from_str(include_str!("../tables/templates.json")).expect("a list of texts");
    for text in texts {
        let [stock, ours] = [&stock, &client].map(|client| expands(client, &text));
        assert_eq!(stock.is_ok(), ours.is_ok(), "{text}: {stock:?}, here {ours:?}");
    }
}
