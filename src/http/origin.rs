//! Who may ask over TCP without TLS: programs of this host, and no page of the web in a browser of this
//! host. A page can have its browser send requests to the loopback, but not without saying where the page
//! is from (`Origin`), or by which name it reaches this host (`Host`), which it can make resolve to the
//! loopback only for a name of its own.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, header};

use super::error::Failure;
use crate::domain::actor::{Caller, Identity, Source};
use crate::domain::refusal::{Reason, Refusal};

/// Refuses what a page of the web may have asked for.
///
/// # Errors
/// The request comes over TCP without TLS, and names another host than this one.
pub(super) fn check(caller: &Caller, headers: &HeaderMap) -> Result<(), Failure> {
    let is_open = matches!(caller.identity(), Identity::Anyone);
    if !is_open || !matches!(caller.source(), Source::Tcp(_)) {
        return Ok(());
    }
    let host = text(headers, &header::HOST);
    if host.is_some_and(|host| !is_loopback(host)) {
        return refuse("Host");
    }
    let origin = text(headers, &header::ORIGIN);
    if let Some(origin) = origin {
        let of_page = origin.split_once("://").map(|(_, authority)| authority);
        // A page of another port of this host is none of ours either.
        if of_page.is_none() || of_page != host {
            return refuse("Origin");
        }
    }
    Ok(())
}

fn refuse(name: &str) -> Result<(), Failure> {
    let message = format!(
        "the header {name} names another host: over TCP without TLS, only programs of this host may \
         ask, at localhost or an address of the loopback"
    );
    Err(Failure(Refusal::front(Reason::Forbidden, message)))
}

/// A header as text; what is no text names no host.
fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

/// True for a name or an address of the loopback, with a port or without.
fn is_loopback(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => host,
        _ => authority,
    };
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    let is_address = plain.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    is_address || host.is_empty() || host.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn asks(source: Source, host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).expect("a host"));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).expect("an origin"));
        }
        check(&Caller::new(Identity::Anyone, source), &headers).is_ok()
    }

    #[test]
    fn a_page_of_the_web_gets_nothing() {
        let tcp = || Source::Tcp("127.0.0.1:40000".parse().expect("an address"));
        for host in ["localhost:2375", "127.0.0.1:2375", "[::1]:2375", "LOCALHOST", "127.9.9.9"] {
            assert!(asks(tcp(), host, None), "{host}");
        }
        for host in ["evil.example:2375", "localhost.evil.example", "10.0.0.1", "::2"] {
            assert!(!asks(tcp(), host, None), "{host}");
        }
        for origin in ["http://evil.example", "null", "http://localhost:3000"] {
            assert!(!asks(tcp(), "localhost:2375", Some(origin)), "{origin}");
        }
        assert!(asks(tcp(), "localhost:2375", Some("http://localhost:2375")));
        // A page cannot reach a unix socket.
        assert!(asks(Source::Unix(None), "evil.example", Some("http://evil.example")));
    }
}
