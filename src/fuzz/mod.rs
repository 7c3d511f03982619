//! What is tried with bytes that nobody meant well: one function for each place where bytes from
//! outside are taken apart. None of them may panic, or find what it asserts untrue.
//!
//! The same functions are driven in two ways. `cargo fuzz run TARGET` (the crate in `fuzz/`) searches
//! with the compiler's help for inputs that reach new code; the test below tries the corpora that it
//! left behind, and a bounded number of changed ones, in every run of the tests.
//!
//! Deliberately absent from every build but these two.

mod bytes;
mod cluster;
mod seals;
#[cfg(test)]
mod tests;

use std::str::from_utf8;

use crate::domain::actor::{Caller, Identity, Source};
use crate::plan::access::policy::{Kind, Policy, Target, Verb};
use crate::{domain, http};

use bytes::Bytes;
pub use cluster::{protobuf, request};
pub use seals::{certificate, envelope, restore};

/// The query of a list, and what its filters let pass.
pub fn filters(data: &[u8]) {
    let mut data = Bytes(data);
    let is_query = data.number() % 2 == 0;
    let Ok(text) = from_utf8(data.0) else { return };
    let filters = if is_query {
        http::fuzz::query(text)
    } else {
        domain::filter::Filters::parse(Some(text)).unwrap_or_default()
    };
    let keys = ["id", "name", "label", "node", "desired-state", "since"];
    let labels = [("a".to_owned(), "b".to_owned())].into();
    for key in keys {
        let any = filters.any(key, |value| value == "x");
        assert!(!any || !filters.values(key).is_empty(), "nothing matches a filter without values");
        assert!(filters.passes(key, |_| true), "a filter stops what each of its values matches");
        filters.passes_labels(key, &labels);
    }
    if let Ok(constraint) = domain::constraint::Constraint::parse(text) {
        constraint.matches(&cluster::node());
    }
    domain::image::is_reference(text);
}

/// A policy file. One that binds nobody in words that a client could be bound by allows nothing.
pub fn policy(data: &[u8]) {
    let Ok(text) = from_utf8(data) else { return };
    let Ok(policy) = Policy::parse(text) else { return };
    assert!(!policy.is_open(), "a policy that was read is one");
    let labels = [("team".to_owned(), "web".to_owned())].into();
    let words = [
        (Identity::Anyone, "anyone"),
        (Identity::User { uid: 1000, gid: 1000 }, "id:1000"),
        (Identity::Certificate("deployer".into()), "cert:"),
    ];
    for (identity, word) in words {
        let may_be_bound = [word, "*", "\\"].iter().any(|part| text.contains(part));
        let caller = Caller::new(identity, Source::Unknown);
        for verb in [Verb::Read, Verb::Create, Verb::Grant, Verb::Use] {
            for name in ["", "prod-db", "prod-"] {
                let target = Target { name, labels: Some(&labels), ..Target::of(Kind::Secret) };
                let is_allowed = policy.allows(&caller, verb, target);
                assert!(may_be_bound || !is_allowed, "allowed to somebody who is bound by nothing");
            }
        }
    }
}
