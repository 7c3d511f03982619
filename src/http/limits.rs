//! What one client may take up: connections at once, and requests that fail. Without these, whoever may
//! connect but do nothing else could keep everybody out, or fill the audit until what matters is
//! dropped from it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::actor::Identity;

/// Connections of one client at once, and so requests too: each connection has one at a time.
pub(super) const CONNECTIONS_MAX: usize = 1024;
/// Requests of one client that are denied within a minute; then it waits until the minute is over.
pub(super) const DENIED_MAX: u32 = 300;
/// Requests of one client that fail in another way within a minute and are recorded one by one.
pub(super) const RECORDED_MAX: u32 = 600;
const WINDOW: Duration = Duration::from_secs(60);
/// Clients that are remembered without a connection; they are rarely more than a handful.
const CLIENTS_MAX: usize = 4096;

/// What clients take up now; clones share it.
#[derive(Clone, Default)]
pub(super) struct Limits(Arc<Mutex<HashMap<Client, Usage>>>);

/// Who is one client here. Of the groups of a user it is not gone by: users choose among theirs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Client {
    User(u32),
    Certificate(String),
    /// All that come over the loopback without a certificate, whom nothing tells apart.
    Anyone,
}

impl Client {
    fn of(identity: &Identity) -> Client {
        match identity {
            Identity::User { uid, .. } => Client::User(*uid),
            Identity::Certificate(name) => Client::Certificate(name.clone()),
            Identity::Anyone => Client::Anyone,
        }
    }
}

struct Usage {
    connections: usize,
    /// Begin of the minute that is counted.
    since: Instant,
    denied: u32,
    recorded: u32,
}

impl Usage {
    fn new() -> Usage {
        Usage { connections: 0, since: Instant::now(), denied: 0, recorded: 0 }
    }
}

/// What the audit is told of a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Telling {
    /// The request.
    All,
    /// The request, and that further ones are not told of before the minute is over.
    Last,
    /// Nothing.
    Nothing,
}

/// The place of a connection; free again when it is dropped.
pub(super) struct Place {
    limits: Limits,
    client: Client,
}

impl Limits {
    /// A place for a connection; none when the client has as many as it may.
    pub(super) fn connect(&self, identity: &Identity) -> Option<Place> {
        let client = Client::of(identity);
        let mut known = self.0.lock().expect("a count is never left half put");
        if known.len() >= CLIENTS_MAX {
            known.retain(|_, usage| usage.connections > 0);
        }
        let usage = known.entry(client.clone()).or_insert_with(Usage::new);
        if usage.connections >= CONNECTIONS_MAX {
            return None;
        }
        usage.connections += 1;
        Some(Place { limits: self.clone(), client })
    }

    /// True for a client that was denied too much, and has to wait.
    pub(super) fn is_barred(&self, identity: &Identity, now: Instant) -> bool {
        let known = self.0.lock().expect("a count is never left half put");
        let is_over = |usage: &Usage| usage.denied >= DENIED_MAX && now < usage.since + WINDOW;
        known.get(&Client::of(identity)).is_some_and(is_over)
    }

    /// Counts a request that failed.
    pub(super) fn note(&self, identity: &Identity, is_denied: bool, now: Instant) -> Telling {
        let client = Client::of(identity);
        let mut known = self.0.lock().expect("a count is never left half put");
        let usage = known.entry(client).or_insert_with(Usage::new);
        if now >= usage.since + WINDOW {
            (usage.since, usage.denied, usage.recorded) = (now, 0, 0);
        }
        let (count, max) = match is_denied {
            true => (&mut usage.denied, DENIED_MAX),
            false => (&mut usage.recorded, RECORDED_MAX),
        };
        *count = count.saturating_add(1);
        match (*count).cmp(&max) {
            std::cmp::Ordering::Less => Telling::All,
            std::cmp::Ordering::Equal => Telling::Last,
            std::cmp::Ordering::Greater => Telling::Nothing,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut known = self.limits.0.lock().expect("a count is never left half put");
        if let Some(usage) = known.get_mut(&self.client) {
            usage.connections -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many seconds after the first use of a client.
    fn at(seconds: u64) -> Instant {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *START.get_or_init(|| Instant::now() + WINDOW) + Duration::from_secs(seconds)
    }

    fn user(uid: u32) -> Identity {
        Identity::User { uid, gid: 0 }
    }

    #[test]
    fn a_client_has_so_many_connections_and_others_have_theirs() {
        let limits = Limits::default();
        let mut places: Vec<Place> =
            (0..CONNECTIONS_MAX).map(|_| limits.connect(&user(1)).expect("a place")).collect();
        assert!(limits.connect(&user(1)).is_none());
        assert!(limits.connect(&user(2)).is_some());
        places.pop();
        assert!(limits.connect(&user(1)).is_some(), "one is free again");
        let in_other_group = Identity::User { uid: 1, gid: 1 };
        let _last = limits.connect(&user(1));
        assert!(limits.connect(&in_other_group).is_none(), "it is the same user");
    }

    #[test]
    fn who_is_denied_too_much_waits_for_the_end_of_the_minute() {
        let limits = Limits::default();
        for _ in 1..DENIED_MAX {
            assert_eq!(limits.note(&user(1), true, at(100)), Telling::All);
            assert!(!limits.is_barred(&user(1), at(100)));
        }
        assert_eq!(limits.note(&user(1), true, at(159)), Telling::Last);
        assert!(limits.is_barred(&user(1), at(159)) && !limits.is_barred(&user(2), at(159)));
        assert!(!limits.is_barred(&user(1), at(160)));
        assert_eq!(limits.note(&user(1), true, at(160)), Telling::All);
        assert!(!limits.is_barred(&user(1), at(160)), "it begins anew");
    }

    #[test]
    fn so_many_failures_are_told_of() {
        let limits = Limits::default();
        let told = |count: u32| {
            let all = (0..count).map(|_| limits.note(&user(1), false, at(100)));
            all.filter(|telling| *telling != Telling::Nothing).count()
        };
        assert_eq!(told(RECORDED_MAX + 50), RECORDED_MAX as usize);
        assert!(!limits.is_barred(&user(1), at(100)), "what it may do it may go on with");
    }

    #[test]
    fn no_more_clients_are_remembered_than_stated() {
        let limits = Limits::default();
        let _place = limits.connect(&user(0));
        for uid in 1..=10_000 {
            limits.connect(&user(uid));
        }
        let known = limits.0.lock().expect("a test's lock");
        assert!(known.len() <= CLIENTS_MAX && known.contains_key(&Client::User(0)));
    }
}
