//! What this room makes of bytes, for the fuzzer: bodies and queries without a connection.

use axum::http::{HeaderMap, HeaderValue, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::context::ApiVersion;
use super::query::Query;
use super::{decode, network, service};
use crate::domain::filter::Filters;
use crate::domain::network::NetworkSpec;
use crate::domain::service::ServiceSpec;

/// The spec in the body of a service's creation.
pub fn service_spec(bytes: &[u8], minor: u8) -> Option<ServiceSpec> {
    let asked = ApiVersion::v1(minor.into());
    service::spec_of(value(bytes)?, asked).ok()
}

/// The spec in the body of a network's creation.
pub fn network_spec(bytes: &[u8]) -> Option<NetworkSpec> {
    network::read(&headers(), bytes).ok()?.into_spec().ok()
}

/// A body of any other kind.
pub fn body<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Option<T> {
    let read: T = decode::from_value(value(bytes)?).ok()?;
    assert_reads_again(&read);
    Some(read)
}

/// Panics unless a value that is written out reads as one that is written the same.
pub fn assert_reads_again<T: DeserializeOwned + Serialize>(read: &T) {
    let written = serde_json::to_value(read).expect("what was read can be written");
    let again: T = decode::from_value(written.clone()).expect("what was written can be read");
    let again = serde_json::to_value(again).expect("as before");
    assert!(written == again, "it is written differently the second time");
}

/// Reads everything that a query may hold.
pub fn query(text: &str) -> Filters {
    let query = Query::parse(text);
    let _ = (query.strict_bool("all"), query.loose_bool("all"), query.moment("since"));
    let _ = query.version().ok_or_else(|| query.bad_version("secret"));
    Filters::parse(Some(query.text("filters"))).unwrap_or_default()
}

fn value(bytes: &[u8]) -> Option<Value> {
    decode::value(&headers(), bytes).ok()
}

fn headers() -> HeaderMap {
    let json = HeaderValue::from_static("application/json");
    HeaderMap::from_iter([(header::CONTENT_TYPE, json)])
}
