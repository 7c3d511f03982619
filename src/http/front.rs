//! In front of all routes: the version prefix, the checks and headers that every answer has.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use axum::response::IntoResponse as _;
use tokio::time::Instant;
use tower::ServiceExt as _;
use tracing::Instrument as _;

use super::client::Client;
use super::context::{API_MAX, API_MIN, Api, ApiVersion};
use super::error::{Failure, Why, empty, json, too_many};
use super::limits::{Limits, Telling};
use super::origin;
use super::passthrough;
use super::query::Query;
use crate::domain::actor::{Actor, Caller};
use crate::domain::audit::{Note, Outcome};
use crate::manager::Told;

/// The routes and what stands in front of them.
#[derive(Clone)]
pub(crate) struct Front {
    pub api: Api,
    pub routes: Router,
    pub limits: Limits,
}

impl Front {
    /// Answers one request.
    pub(crate) async fn answer(self, mut request: Request<Body>) -> Response<Body> {
        let number = self.api.requests.fetch_add(1, Ordering::Relaxed);
        let client: Option<&Client> = request.extensions().get();
        let caller = client.map(Client::caller).cloned().unwrap_or_default().with_request(number);
        let span = span(&request, &caller);
        let is_change = is_change(&request);
        let is_trial = match is_change {
            true => Query::parse(request.uri().query().unwrap_or("")).strict_bool("dryRun"),
            false => Ok(false),
        };
        let caller = if matches!(is_trial, Ok(true)) { caller.trying() } else { caller };
        request.extensions_mut().insert(caller.clone());
        let (method, uri) = (request.method().clone(), request.uri().clone());
        async move {
            if let Err(failure) = origin::check(&caller, request.headers()) {
                let mut response = failure.into_response();
                self.add_headers(&mut response);
                return response;
            }
            if self.limits.is_barred(caller.identity(), Instant::now()) {
                let mut response = too_many("too many requests of this client were denied", 60);
                self.add_headers(&mut response);
                return response;
            }
            let mut response = match is_trial {
                Ok(_) => answer_trial(&caller, self.route(request).await),
                Err(failure) => failure.into_response(),
            };
            let why = response.extensions_mut().remove::<Why>();
            if let Some(why) = why
                && (is_change && caller.trial().is_none() || why.is_denied)
            {
                let telling = self.limits.note(caller.identity(), why.is_denied, Instant::now());
                if telling != Telling::Nothing && !caller.is_told() {
                    let mut asked = format!("{method} {}", uri.path());
                    if telling == Telling::Last {
                        asked = format!("{asked} (and no more that fail within the same minute)");
                    }
                    self.tell(caller, asked, why, response.status()).await;
                }
            }
            self.add_headers(&mut response);
            response
        }
        .instrument(span)
        .await
    }

    /// Has the audit tell of a change that failed before anything was decided.
    async fn tell(&self, caller: Caller, asked: String, why: Why, status: StatusCode) {
        let outcome = match why.is_denied {
            true => Outcome::Denied,
            false if status.is_server_error() => Outcome::Failed,
            false => Outcome::Refused,
        };
        let note = Note::new(Actor::Client(caller), "request");
        let note = note.with(format!("{asked}: {}", why.message));
        if self.api.manager.view().is_locked() {
            return;
        }
        if let Err(error) = self.api.manager.tell(vec![Told { note, outcome }]).await {
            tracing::warn!(%error, "the audit does not tell of a request that failed");
        }
    }

    async fn route(&self, mut request: Request<Body>) -> Response<Body> {
        if request.method() == Method::OPTIONS {
            return empty(StatusCode::OK);
        }
        let path = request.uri().path();
        if path.contains("//") {
            return redirect(request.uri());
        }
        if let Some(text) = split_version(path) {
            if let Some(response) = refuse_version(text) {
                return response;
            }
            let (version, len) = (ApiVersion::parse(text), "/v".len() + text.len());
            *request.uri_mut() = without_prefix(request.uri(), len);
            if let Some(version) = version {
                request.extensions_mut().insert(version);
            }
        }
        // Only `/_ping` answers HEAD here; whatever else is asked so is the engine's to answer.
        if request.method() == Method::HEAD && request.uri().path() != "/_ping" {
            return passthrough::fallback(&self.api, request).await;
        }
        let routes = self.routes.clone();
        match routes.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    fn add_headers(&self, response: &mut Response<Body>) {
        let headers = response.headers_mut();
        if response_is_bare(headers) {
            return;
        }
        let offered = self.api.offered().to_string();
        if let Ok(value) = HeaderValue::from_str(&offered) {
            headers.insert("Api-Version", value);
        }
        headers.insert("Docker-Experimental", HeaderValue::from_static("false"));
        headers.insert("Ostype", HeaderValue::from_static("linux"));
        headers.insert(header::SERVER, HeaderValue::from_static(SERVER));
    }
}

/// The answer to a request that was only tried: what it would change, if it would be granted. Its status is one
/// that no change has, so that a client knows the bodies apart.
fn answer_trial(caller: &Caller, response: Response<Body>) -> Response<Body> {
    match caller.trial().map(OnceLock::get) {
        Some(Some(forecast)) if response.status().is_success() => {
            json(StatusCode::ACCEPTED, forecast)
        }
        _ => response,
    }
}

fn span(request: &Request<Body>, caller: &Caller) -> tracing::Span {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return tracing::Span::none();
    }
    let id = format!("{:012x}", caller.request());
    let (method, path) = (request.method(), request.uri().path());
    tracing::debug_span!("request", id, %method, path, client = %caller.identity())
}

/// True for what may change something.
fn is_change(request: &Request<Body>) -> bool {
    !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
}

/// The answer to a version that is not understood; none to one that is.
fn refuse_version(text: &str) -> Option<Response<Body>> {
    let version = ApiVersion::parse(text).unwrap_or(ApiVersion { major: 0, minor: 0 });
    if version > API_MAX {
        let message =
            format!("client version {text} is too new. Maximum supported API version is {API_MAX}");
        return Some(Failure::invalid(message).into_response());
    }
    if version >= API_MIN {
        return None;
    }
    let message = format!(
        "client version {text} is too old. Minimum supported API version is {API_MIN}, please \
         upgrade your client to a newer version"
    );
    if version >= ApiVersion::v1(24) {
        return Some(Failure::invalid(message).into_response());
    }
    // Errors were plain text then.
    let mut response = Response::new(Body::from(message + "\n"));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    Some(response)
}

const SERVER: &str = concat!("purser/", env!("CARGO_PKG_VERSION"), " (linux)");

/// A redirect carries none of the API's headers.
fn response_is_bare(headers: &axum::http::HeaderMap) -> bool {
    headers.contains_key(header::LOCATION)
}

/// `/v1.41/secrets` is version `1.41` of `/secrets`.
fn split_version(path: &str) -> Option<&str> {
    let (version, _) = path.strip_prefix("/v")?.split_once('/')?;
    let is_version =
        !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    is_version.then_some(version)
}

/// A URI without so many bytes at the beginning of its path, which another slash follows.
fn without_prefix(uri: &Uri, len: usize) -> Uri {
    let rest = uri.path_and_query().and_then(|path| path.as_str()[len..].parse().ok());
    let Some(rest) = rest else { return uri.clone() };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(rest);
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

/// A path with the query of another.
fn with_query(path: &str, uri: &Uri) -> String {
    match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

/// To the same path without empty parts.
fn redirect(uri: &Uri) -> Response<Body> {
    let mut clean = String::with_capacity(uri.path().len());
    for c in uri.path().chars() {
        if c != '/' || !clean.ends_with('/') {
            clean.push(c);
        }
    }
    let mut response = empty(StatusCode::MOVED_PERMANENTLY);
    if let Ok(location) = HeaderValue::from_str(&with_query(&clean, uri)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_digits_and_dots_are_a_version() {
        assert_eq!(split_version("/v1.41/secrets"), Some("1.41"));
        assert_eq!(split_version("/v1.24.1/x/y"), Some("1.24.1"));
        for path in ["/vx/secrets", "/v/secrets", "/version", "/v1.41", "/volumes/x"] {
            assert_eq!(split_version(path), None, "{path}");
        }
    }

    #[test]
    fn what_is_behind_the_version_stays_as_it_was() {
        for (asked, meant) in [
            ("/v1.41/secrets?filters=%7B%7D", "/secrets?filters=%7B%7D"),
            ("/v1.41/", "/"),
            ("http://host/v1.41/a%2Fb?x=/v1.41/", "http://host/a%2Fb?x=/v1.41/"),
        ] {
            let asked: Uri = asked.parse().expect("a URI");
            assert_eq!(without_prefix(&asked, "/v1.41".len()).to_string(), meant);
        }
    }
}
