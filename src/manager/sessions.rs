//! Sessions: which nodes are heard of. Kept in memory only: after a restart nothing is known of any
//! node, and each has twice the usual time to be heard of again.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::domain::id::{Entropy, NodeId, SessionId, Stream};
use crate::domain::network::Attachment;
use crate::domain::time::Nanoseconds;

/// Periods without a beat after which a node is down.
const MISSED_BEATS: u32 = 3;
/// The same for a node that was not heard of since the manager started.
const MISSED_BEATS_AT_START: u32 = 6;
/// Sessions that a node may open in [`REGISTRATION_SPAN`]; an agent whose sessions keep failing
/// would otherwise open many a second.
const REGISTRATIONS_MAX: usize = 3;
const REGISTRATION_SPAN: Duration = Duration::from_secs(8);

/// A node's agent may not have, or does not have, a session.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SessionError {
    /// It opened too many in a short time.
    #[error("too many sessions in a short time; wait a little")]
    TooMany,
    /// It is not the present session of the node.
    #[error("session invalid")]
    Invalid,
    /// The node has none.
    #[error("node not registered")]
    NotRegistered,
}

/// The sessions of all nodes.
pub struct Sessions {
    live: Mutex<HashMap<NodeId, Live>>,
    entropy: Arc<dyn Entropy>,
}

/// What an agent gets when its session begins.
#[derive(Debug, Clone)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Called when the session is replaced by another, or the node is lost or removed.
    pub ended: CancellationToken,
    /// The places on networks that the node has been told: tasks on them come after that.
    pub told: watch::Sender<BTreeSet<Attachment>>,
}

/// A node that is heard of, or has a time by which it should be.
struct Live {
    session: Option<Session>,
    /// The session's stream of assignments ends with this; there is one at a time, so that an agent
    /// which asks again and again leaves none behind.
    assignments: CancellationToken,
    deadline: Instant,
    registrations: VecDeque<Instant>,
}

impl Live {
    fn until(deadline: Instant) -> Live {
        let (session, registrations) = (None, VecDeque::new());
        Live { session, assignments: CancellationToken::new(), deadline, registrations }
    }
}

impl Sessions {
    pub(super) fn new(entropy: Arc<dyn Entropy>) -> Sessions {
        Sessions { live: Mutex::new(HashMap::new()), entropy }
    }

    /// Begins a session, ending the one that the node had. `offered` is the id of the agent's last
    /// session, kept if it is the node's present one.
    ///
    /// # Errors
    /// The node opened too many in a short time.
    pub fn register(
        &self,
        node: NodeId,
        offered: Option<SessionId>,
        period: Nanoseconds,
    ) -> Result<Session, SessionError> {
        let now = Instant::now();
        let mut all = self.lock();
        let live = all.entry(node).or_insert_with(|| Live::until(now));
        live.registrations.retain(|at| now.duration_since(*at) < REGISTRATION_SPAN);
        if live.registrations.len() >= REGISTRATIONS_MAX {
            return Err(SessionError::TooMany);
        }
        live.registrations.push_back(now);
        let kept = live.session.take().and_then(|before| {
            before.ended.cancel();
            Some(before.id).filter(|id| Some(*id) == offered)
        });
        let id = kept.unwrap_or_else(|| SessionId::make(&*self.entropy));
        let (ended, told) = (CancellationToken::new(), watch::Sender::default());
        let session = Session { id, ended, told };
        live.session = Some(session.clone());
        live.deadline = now + span(period) * MISSED_BEATS;
        Ok(session)
    }

    /// Notes a beat, and answers how long until the next: the period, spread by a tenth so that
    /// nodes which connected together drift apart.
    ///
    /// # Errors
    /// It is not the node's present session.
    pub fn beat(
        &self,
        node: NodeId,
        id: SessionId,
        period: Nanoseconds,
    ) -> Result<Nanoseconds, SessionError> {
        let mut all = self.lock();
        let live = check(&mut all, node, id)?;
        live.deadline = Instant::now() + span(period) * MISSED_BEATS;
        let mut draw = [0];
        self.entropy.fill(Stream::Other, &mut draw);
        // Nothing keeps a setting from being as long as a number can say.
        let spread = period / 5 / 255 * Nanoseconds::from(draw[0]);
        Ok((period - period / 10).saturating_add(spread))
    }

    /// The node's present session, if this is it.
    ///
    /// # Errors
    /// It is not.
    pub fn current(&self, node: NodeId, id: SessionId) -> Result<Session, SessionError> {
        let mut all = self.lock();
        let live = check(&mut all, node, id)?;
        live.session.clone().ok_or(SessionError::NotRegistered)
    }

    /// The node's present session.
    ///
    /// # Errors
    /// It has none.
    pub fn present(&self, node: NodeId) -> Result<Session, SessionError> {
        let all = self.lock();
        let session = all.get(&node).and_then(|live| live.session.clone());
        session.ok_or(SessionError::NotRegistered)
    }

    /// Begins the stream of assignments of a session, ending the one before it. What is returned
    /// ends with the stream or the session, whichever ends first.
    ///
    /// # Errors
    /// It is not the node's present session.
    pub fn begin_assignments(&self, node: NodeId, id: SessionId) -> Result<Session, SessionError> {
        let mut all = self.lock();
        let live = check(&mut all, node, id)?;
        let session = live.session.as_ref().ok_or(SessionError::NotRegistered)?;
        live.assignments.cancel();
        live.assignments = session.ended.child_token();
        Ok(Session { id, ended: live.assignments.clone(), told: session.told.clone() })
    }

    /// Gives a node that is not in a session its time to open one: after it was admitted, and after
    /// the manager started.
    pub(super) fn await_node(&self, node: NodeId, period: Nanoseconds) {
        let deadline = Instant::now() + span(period) * MISSED_BEATS_AT_START;
        self.lock().entry(node).or_insert_with(|| Live::until(deadline));
    }

    /// The nodes whose time is up. Their sessions end.
    pub(super) fn take_expired(&self) -> Vec<NodeId> {
        let now = Instant::now();
        let mut all = self.lock();
        let expired: Vec<NodeId> =
            all.iter().filter(|(_, live)| live.deadline <= now).map(|(node, _)| *node).collect();
        for node in &expired {
            forget(&mut all, *node);
        }
        expired
    }

    /// Ends a session, if it is the node's present one. The node may open another, and is lost when
    /// its time is up without one.
    pub fn end(&self, node: NodeId, id: SessionId) {
        let mut all = self.lock();
        let live = all.get_mut(&node);
        let ended = live.and_then(|live| live.session.take_if(|session| session.id == id));
        if let Some(session) = ended {
            session.ended.cancel();
        }
    }

    /// Ends the session of a node that is no longer of the cluster.
    pub fn forget(&self, node: NodeId) {
        forget(&mut self.lock(), node);
    }

    /// Ends all sessions.
    pub fn end_all(&self) {
        for (_, live) in self.lock().drain() {
            if let Some(session) = live.session {
                session.ended.cancel();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Live>> {
        self.live.lock().expect("nothing panics while it holds the sessions")
    }
}

fn forget(all: &mut HashMap<NodeId, Live>, node: NodeId) {
    if let Some(session) = all.remove(&node).and_then(|live| live.session) {
        session.ended.cancel();
    }
}

fn check(
    all: &mut HashMap<NodeId, Live>,
    node: NodeId,
    id: SessionId,
) -> Result<&mut Live, SessionError> {
    let live = all.get_mut(&node).ok_or(SessionError::NotRegistered)?;
    match &live.session {
        Some(session) if session.id == id => Ok(live),
        Some(_) => Err(SessionError::Invalid),
        None => Err(SessionError::NotRegistered),
    }
}

fn span(period: Nanoseconds) -> Duration {
    Duration::from_nanos(period.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Zeros;
    impl Entropy for Zeros {
        fn fill(&self, _: Stream, out: &mut [u8]) {
            out.fill(0);
        }
    }

    const PERIOD: Nanoseconds = 5_000_000_000;

    fn sessions() -> (Sessions, NodeId) {
        (Sessions::new(Arc::new(Zeros)), NodeId::derive([1; 17]))
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_is_lost_after_three_missed_beats() {
        let (sessions, node) = sessions();
        let session = sessions.register(node, None, PERIOD).expect("the first session");
        tokio::time::advance(Duration::from_secs(14)).await;
        assert!(sessions.take_expired().is_empty());
        assert!(sessions.beat(node, session.id, PERIOD).is_ok());
        tokio::time::advance(Duration::from_secs(14)).await;
        assert!(sessions.take_expired().is_empty());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(sessions.take_expired(), [node]);
        assert!(session.ended.is_cancelled());
        assert_eq!(sessions.beat(node, session.id, PERIOD), Err(SessionError::NotRegistered));
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_that_keep_failing_are_slowed_down() {
        let (sessions, node) = sessions();
        for _ in 0..3 {
            assert!(sessions.register(node, None, PERIOD).is_ok());
        }
        assert_eq!(sessions.register(node, None, PERIOD).err(), Some(SessionError::TooMany));
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(sessions.register(node, None, PERIOD).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_registration_counts_and_leaves_the_node_its_time() {
        let (sessions, node) = sessions();
        for _ in 0..3 {
            let session = sessions.register(node, None, PERIOD).expect("not too many yet");
            sessions.end(node, session.id);
            assert!(session.ended.is_cancelled());
        }
        assert_eq!(sessions.register(node, None, PERIOD).err(), Some(SessionError::TooMany));
        assert_eq!(sessions.present(node).err(), Some(SessionError::NotRegistered));
        tokio::time::advance(Duration::from_secs(16)).await;
        assert_eq!(sessions.take_expired(), [node]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_an_older_session_leaves_its_successor_alone() {
        let (sessions, node) = sessions();
        let old = sessions.register(node, None, PERIOD).expect("the first session");
        let other = SessionId::derive([9; 17]);
        sessions.end(node, other);
        assert!(!old.ended.is_cancelled(), "not its id");
        let kept = sessions.register(node, Some(old.id), PERIOD).expect("the second session");
        assert_eq!(kept.id, old.id, "resumed");
        assert!(old.ended.is_cancelled(), "its streams belong to a connection that is gone");
        assert!(!kept.ended.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_has_one_stream_of_assignments() {
        let (sessions, node) = sessions();
        let session = sessions.register(node, None, PERIOD).expect("the first session");
        let first = sessions.begin_assignments(node, session.id).expect("its session");
        let second = sessions.begin_assignments(node, session.id).expect("its session");
        assert!(first.ended.is_cancelled() && !second.ended.is_cancelled());
        assert!(!session.ended.is_cancelled());
        sessions.forget(node);
        assert!(second.ended.is_cancelled());
        let gone = sessions.begin_assignments(node, session.id).err();
        assert_eq!(gone, Some(SessionError::NotRegistered));
    }

    #[test]
    fn any_period_is_spread_by_a_tenth() {
        struct Ones;
        impl Entropy for Ones {
            fn fill(&self, _: Stream, out: &mut [u8]) {
                out.fill(255);
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(async {
            let node = NodeId::derive([1; 17]);
            for period in [1_000_000_000, PERIOD, Nanoseconds::MAX / 2, Nanoseconds::MAX] {
                for (entropy, tenths) in
                    [(Arc::new(Zeros) as Arc<dyn Entropy>, 9), (Arc::new(Ones), 11)]
                {
                    let sessions = Sessions::new(entropy);
                    let session = sessions.register(node, None, period).expect("the first");
                    let next = sessions.beat(node, session.id, period).expect("its session");
                    let expected = (period / 10).saturating_mul(tenths);
                    assert!((next - expected).abs() < 1_000, "{next}");
                }
            }
        });
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_restart_nodes_have_twice_the_time() {
        let (sessions, node) = sessions();
        sessions.await_node(node, PERIOD);
        tokio::time::advance(Duration::from_secs(29)).await;
        assert!(sessions.take_expired().is_empty());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(sessions.take_expired(), [node]);
    }
}
