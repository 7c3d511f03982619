//! The manager: what moves while this process leads.
//!
//! ```text
//!   doors ──submit──▶ access ▶ one write ──▶ commit ──▶ driver ──▶ planners, each step a write
//!   sessions: who is heard of        certificates: who is signed        lead: start and stop
//!   logs: clients that ask for lines, and the nodes that send them
//! ```
//!
//! Left to others: how a request looks (`http`, `dispatcher`), what it may do (`plan`), how it
//! becomes durable (`store`).

mod attempts;
mod autolock;
mod backup;
mod certificates;
mod clocks;
mod driver;
mod lead;
mod logs;
mod renewal;
mod root;
mod sessions;
mod submit;
mod supply;

#[cfg(test)]
pub(crate) mod fixture;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use autolock::ShownKey;
pub use backup::{Header as BackupHeader, ReadError as BackupError, read as read_backup};
pub use certificates::OneTime;
pub use lead::{Lead, StartError, SwarmWish};
pub use logs::{Listening, Logs, Publication, Reader, SUBSCRIPTIONS_MAX, UnknownSubscription};
pub use sessions::{Session, SessionError, Sessions};

use crate::ca::token;
use crate::domain::cluster::{EXPIRED_GRACE_MAX, JoinTokens};
use crate::domain::id::Entropy;
use crate::domain::log::{Options, Subject};
use crate::domain::refusal::Refusal;
use crate::domain::revision::REVISIONS_KEPT;
use crate::domain::task::Task;
use crate::domain::time::Clock;
use crate::domain::view::View;
use crate::plan::orchestrator;
use crate::store::Store;

pub use crate::plan::access::policy::{Kind as Right, Policy, PolicyError, Verb};
pub use crate::plan::access::rights::{Asking, target};
pub use crate::store::audit::{AuditError, Chain as AuditChain, Lines as AuditLines};
pub use crate::store::{Commit, PayloadError, Told};

/// A handle to the manager; clones share it.
#[derive(Clone)]
pub struct Manager {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    sessions: Sessions,
    logs: Logs,
    one_time: OneTime,
    clocks: clocks::Clocks,
    attempts: attempts::Attempts,
    /// Who was denied something of late, and how often anybody was.
    denied: attempts::Attempts,
    denials: AtomicU64,
    policy: RwLock<Arc<Policy>>,
    /// Held while a key of autolock is made for a user, so that two users see the same.
    showing_key: tokio::sync::Mutex<()>,
    /// Seconds for which a node may renew its certificate after that has ended.
    expired_grace: AtomicU64,
    /// New values under the same name are refused, as Swarm does.
    is_strict: AtomicBool,
    /// Which values that nothing uses stay when a new one comes: so many of the newest.
    kept_values: AtomicUsize,
    supplies: supply::Supplies,
    /// The present lead; `None` outside a swarm. Every loop that belongs to one ends with it.
    lead: watch::Sender<Option<Arc<Lead>>>,
    stop: CancellationToken,
    loops: tokio_util::task::TaskTracker,
}

impl Manager {
    /// A manager over a store. It leads nothing until [`Manager::start`].
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        stop: CancellationToken,
    ) -> Manager {
        let sessions = Sessions::new(entropy.clone());
        let logs = Logs::new(entropy.clone());
        let inner = Inner {
            store,
            clock,
            entropy,
            sessions,
            logs,
            one_time: OneTime::default(),
            clocks: clocks::Clocks::default(),
            attempts: attempts::Attempts::default(),
            denied: attempts::Attempts::default(),
            denials: AtomicU64::default(),
            policy: RwLock::default(),
            showing_key: tokio::sync::Mutex::new(()),
            expired_grace: AtomicU64::default(),
            is_strict: AtomicBool::default(),
            kept_values: AtomicUsize::new(REVISIONS_KEPT),
            supplies: supply::Supplies::default(),
            lead: watch::Sender::new(None),
            stop,
            loops: tokio_util::task::TaskTracker::new(),
        };
        Manager { inner: Arc::new(inner) }
    }

    /// The cluster as of the last commit.
    pub fn view(&self) -> View {
        self.inner.store.view()
    }

    /// The store, for subscribing and for payloads.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// The clock.
    pub fn clock(&self) -> &dyn Clock {
        &*self.inner.clock
    }

    /// The source of ids.
    pub fn entropy(&self) -> &dyn Entropy {
        &*self.inner.entropy
    }

    /// Who is in a session.
    pub fn sessions(&self) -> &Sessions {
        &self.inner.sessions
    }

    /// Who asks for logs, and who is asked.
    pub fn logs(&self) -> &Logs {
        &self.inner.logs
    }

    /// Asks the nodes for lines of tasks.
    ///
    /// # Errors
    /// Too many are asked for already.
    pub fn subscribe_logs(&self, subject: Subject, options: Options) -> Result<Reader, Refusal> {
        self.inner.logs.subscribe(|| self.view(), subject, options)
    }

    /// What clients may do.
    pub fn policy(&self) -> Arc<Policy> {
        self.inner.policy.read().expect("a policy is never left half put").clone()
    }

    /// Takes another policy, whole; requests that are under way are decided by the one before or by
    /// this one.
    pub fn set_policy(&self, policy: Policy) {
        *self.inner.policy.write().expect("a policy is never left half put") = Arc::new(policy);
    }

    /// Counts something that was denied to a host. True if there is more to say of it: of one address,
    /// no more is said than so many times a minute.
    pub fn count_denial(&self, from: IpAddr) -> bool {
        self.inner.denials.fetch_add(1, Ordering::Relaxed);
        let now = self.clock().now();
        if self.inner.denied.is_barred(from, now) {
            return false;
        }
        self.inner.denied.note(from, now);
        true
    }

    /// How much was denied to hosts and nodes since the start.
    pub fn denials(&self) -> u64 {
        self.inner.denials.load(Ordering::Relaxed)
    }

    /// True when new values under the same name are refused, as Swarm does.
    pub fn is_strict(&self) -> bool {
        self.inner.is_strict.load(Ordering::Relaxed)
    }

    /// Sets that.
    pub fn set_strict(&self, is_strict: bool) {
        self.inner.is_strict.store(is_strict, Ordering::Relaxed);
    }

    /// Sets how many values that nothing uses are kept when a new one comes.
    pub fn set_kept_values(&self, newest: usize) {
        self.inner.kept_values.store(newest, Ordering::Relaxed);
    }

    /// How long a node may renew its certificate after that has ended.
    pub fn expired_grace(&self) -> Duration {
        Duration::from_secs(self.inner.expired_grace.load(Ordering::Relaxed))
    }

    /// Sets that, for leads that begin from now on; 90 days at most.
    pub fn set_expired_grace(&self, grace: Duration) {
        let seconds = grace.as_secs().min(EXPIRED_GRACE_MAX.unsigned_abs());
        self.inner.expired_grace.store(seconds, Ordering::Relaxed);
    }

    /// The present lead, now and whenever it changes.
    pub fn lead(&self) -> watch::Receiver<Option<Arc<Lead>>> {
        self.inner.lead.subscribe()
    }

    /// True when a task was made from what its service says now.
    pub fn is_up_to_date(view: &View, task: &Task) -> bool {
        let service = task.service_id.and_then(|id| view.service(id));
        service.is_some_and(|service| orchestrator::is_current(view, service, task))
    }

    /// The tokens with which hosts join, as far as there is a swarm.
    pub fn join_tokens(view: &View) -> JoinTokens {
        view.cluster().map(|cluster| token::tokens(cluster)).unwrap_or_default()
    }

    /// Draws the secret part of a new join token.
    pub fn make_join_secret(&self) -> String {
        token::make_secret(self.entropy())
    }

    /// Waits until all loops have ended, after `stop` was called.
    pub async fn stopped(&self) {
        self.inner.loops.close();
        self.inner.loops.wait().await;
    }
}
