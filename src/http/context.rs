//! What every handler may need: the API version asked for, and the shared state.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;
use tokio_util::sync::CancellationToken;

use super::Locked;
use super::error::Failure;
use super::events::Events;
use crate::domain::actor::{Actor, Caller};
use crate::domain::change::Object;
use crate::domain::refusal::Refusal;
use crate::engine::Engine;
use crate::manager::{Asking, Manager, Right, Verb, target};

/// A version of the API, as in `v1.41`: compared number by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ApiVersion {
    pub major: u32,
    pub minor: u32,
}

/// The newest version that is understood.
pub(crate) const API_MAX: ApiVersion = ApiVersion { major: 1, minor: 55 };
/// The oldest version that is understood.
pub(crate) const API_MIN: ApiVersion = ApiVersion { major: 1, minor: 40 };

impl ApiVersion {
    /// Reads `1.41`; of `1.24.1` only the first two numbers count. A number that is too large to
    /// hold is newer than any version.
    pub(crate) fn parse(text: &str) -> Option<ApiVersion> {
        let mut numbers = text.split('.').map(|number| {
            let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
            is_number.then(|| number.parse().unwrap_or(u32::MAX))
        });
        let major = numbers.next()??;
        let minor = numbers.next().unwrap_or(Some(0))?;
        Some(ApiVersion { major, minor })
    }

    /// A version `1.minor`.
    pub(crate) const fn v1(minor: u32) -> ApiVersion {
        ApiVersion { major: 1, minor }
    }
}

impl std::fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl<S: Sync> FromRequestParts<S> for ApiVersion {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<ApiVersion, Infallible> {
        Ok(parts.extensions.get().copied().unwrap_or(API_MAX))
    }
}

/// What a path names, as in `/secrets/{id}`: an id, a name, or the beginning of an id.
pub(super) struct Wanted(pub String);

impl<S: Sync> FromRequestParts<S> for Wanted {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Wanted, Failure> {
        // It is the second part of every path that has one. What is not text names nothing.
        let text = parts.uri.path().split('/').nth(2).unwrap_or("");
        let text = percent_decode_str(text).decode_utf8().map_err(|_| Failure::no_route())?;
        Ok(Wanted(text.into_owned()))
    }
}

/// Who asks, as the connection shows it, for something that cannot be tried: a request with `dryRun` is
/// refused, as it does more than to write what was decided.
pub(super) struct Asker(pub Actor);

impl<S: Sync> FromRequestParts<S> for Asker {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Asker, Failure> {
        let actor = Actor::Client(parts.extensions.get().cloned().unwrap_or_default());
        check_meant(&actor).map(|()| Asker(actor))
    }
}

/// Refuses a request that is only to be tried, where that cannot be.
///
/// # Errors
/// It is one.
pub(super) fn check_meant(actor: &Actor) -> Result<(), Failure> {
    match actor.is_trying() {
        false => Ok(()),
        true => Err(Failure::invalid("this request cannot be tried with dryRun")),
    }
}

/// Who asks, for something that is wholly decided by the intent it comes to, and so can be tried with
/// `dryRun`.
pub(super) struct Proposer(pub Actor);

impl<S: Sync> FromRequestParts<S> for Proposer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Proposer, Infallible> {
        Ok(Proposer(Actor::Client(parts.extensions.get().cloned().unwrap_or_default())))
    }
}

/// What who asks may do, by the policy of the moment in which it is asked.
#[derive(Clone)]
pub(super) struct Access {
    manager: Manager,
    caller: Caller,
}

impl FromRequestParts<Api> for Access {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Access, Infallible> {
        Ok(Access::new(api, parts.extensions.get().cloned().unwrap_or_default()))
    }
}

impl Access {
    pub(super) fn new(api: &ApiInner, caller: Caller) -> Access {
        Access { manager: api.manager.clone(), caller }
    }

    /// True when it may see an object, in a list or a stream.
    pub(super) fn sees(&self, object: impl FnOnce() -> Object) -> bool {
        let policy = self.manager.policy();
        let asking = Asking { policy: &policy, caller: &self.caller };
        policy.is_open() || asking.is_allowed(Verb::Read, target(&object()))
    }

    /// Checks that it may do this with an object.
    pub(super) fn check(&self, verb: Verb, object: impl FnOnce() -> Object) -> Result<(), Refusal> {
        let policy = self.manager.policy();
        let asking = Asking { policy: &policy, caller: &self.caller };
        if policy.is_open() { Ok(()) } else { asking.may_of(verb, Some(object())) }
    }

    /// Checks that it may do this with what has no name.
    pub(super) fn check_at_all(&self, verb: Verb, right: Right) -> Result<(), Refusal> {
        let policy = self.manager.policy();
        Asking { policy: &policy, caller: &self.caller }.may_at_all(verb, right)
    }
}

/// State that all handlers share; clones are cheap.
#[derive(Clone)]
pub(crate) struct Api {
    pub inner: Arc<ApiInner>,
}

pub(crate) struct ApiInner {
    pub manager: Manager,
    pub engine: Option<Engine>,
    pub events: Events,
    /// Where the store lies, for `/info`.
    pub data_dir: String,
    /// How the manager is unlocked, while it is locked.
    pub locked: Option<Arc<dyn Locked>>,
    /// Counts the requests, from a number drawn at the start.
    pub requests: AtomicU64,
    /// Held while the engine is being attached: a second try would make the first one's token
    /// worthless.
    pub attaching: tokio::sync::Mutex<()>,
    /// Streams end with it.
    pub stop: CancellationToken,
}

impl std::ops::Deref for Api {
    type Target = ApiInner;

    fn deref(&self) -> &ApiInner {
        &self.inner
    }
}

impl ApiInner {
    /// The version that is offered: the lower of ours and the attached engine's.
    pub(crate) fn offered(&self) -> ApiVersion {
        let engine = self.engine.as_ref().and_then(Engine::api_version);
        let engine = engine.as_deref().and_then(ApiVersion::parse);
        engine.map_or(API_MAX, |engine| engine.min(API_MAX))
    }
}
