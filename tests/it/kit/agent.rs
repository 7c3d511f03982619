//! A simulated engine: it joins, keeps sessions and does what it is told, in so far as the manager
//! can see. What a real engine would only stumble over is written down, for tests to look at.
//!
//! - [`door`]: connections, as engines make them and as they should not be made.
//! - [`model`]: what it holds, as told by the manager.
//! - [`lines`]: what it publishes of logs.
//! - [`member`]: how it becomes one of a swarm, and stays one.
//! - [`cluster`]: the manager as its clients see it, and new engines for it.
//!
//! Everything here is called from plain tests; what is asynchronous runs on a runtime of its own.

pub mod cluster;
pub mod door;
pub mod lines;
pub mod member;
pub mod model;

use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use purser::wire::proto;
use purser::wire::proto::dispatcher_client::DispatcherClient;
use purser::wire::proto::log_broker_client::LogBrokerClient;
use purser::wire::proto::update_task_status_request::TaskStatusUpdate;
use purser::wire::proto::{
    AssignmentsMessage, HeartbeatRequest, SessionMessage, SessionRequest, TaskState, TaskStatus,
    UpdateTaskStatusRequest,
};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use self::door::Dial;
use self::member::unreachable;
pub use self::member::{Member, fetch_root, make_request, make_request_of};
use self::model::Model;
use super::eventually;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("a runtime")
});

/// Longer than anything takes that is not broken.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Runs something asynchronous to its end. A call that hangs is a failure like any other.
#[track_caller]
pub fn wait<F: Future>(future: F) -> F::Output {
    let bounded = async { tokio::time::timeout(PATIENCE, future).await };
    RUNTIME.block_on(bounded).expect("an answer within half a minute")
}

/// What an agent does by itself.
#[derive(Clone)]
pub struct Habits {
    /// Id of the session before, offered for resumption.
    pub session_id: String,
    pub hostname: String,
    /// Beats, as often as it is told.
    pub beats: bool,
    /// Listens to assignments and log subscriptions.
    pub listens: bool,
    /// Reports that what it was told is done.
    pub reports: bool,
    /// By how many seconds its clock is off.
    pub clock_off: i64,
    /// How it connects, if not as usual.
    pub dial: Option<Dial>,
}

impl Default for Habits {
    fn default() -> Habits {
        Habits {
            session_id: String::new(),
            hostname: "simulated".into(),
            beats: true,
            listens: true,
            reports: true,
            clock_off: 0,
            dial: None,
        }
    }
}

/// What an agent saw and did in a session.
#[derive(Default)]
pub struct Seen {
    pub messages: Vec<SessionMessage>,
    pub assignments: Vec<AssignmentsMessage>,
    pub model: Model,
    /// What it was asked for of logs.
    pub subscriptions: Vec<proto::SubscriptionMessage>,
    /// The periods that it was told.
    pub periods: Vec<Duration>,
    /// How the streams ended: session, assignments, log subscriptions, and the beats.
    pub session_end: Option<Status>,
    pub assignments_end: Option<Status>,
    pub subscriptions_end: Option<Status>,
    pub beats_end: Option<Status>,
}

/// A session of an engine. It ends without a word when dropped.
pub struct Agent {
    pub member: Member,
    /// The session's id.
    pub id: String,
    pub channel: Channel,
    heard: door::Heard,
    clock_off: i64,
    seen: Arc<Mutex<Seen>>,
    loops: Vec<JoinHandle<()>>,
}

impl Agent {
    async fn open(member: Member, habits: Habits) -> Result<Agent, Status> {
        let dial = habits.dial.clone().unwrap_or_else(|| member.dial());
        let channel = dial.channel().await.map_err(unreachable)?;
        let mut client = DispatcherClient::new(channel.clone());
        let description = Some(describe(&habits.hostname, &member));
        let request = SessionRequest { description, session_id: habits.session_id };
        let mut messages = client.session(request).await?.into_inner();
        let first = messages.message().await?;
        let first = first.ok_or_else(|| Status::data_loss("a session without a message"))?;
        let (id, clock_off) = (first.session_id.clone(), habits.clock_off);
        let seen = Arc::new(Mutex::new(Seen { messages: vec![first], ..Seen::default() }));
        let (heard, loops) = (dial.heard.clone(), Vec::new());
        let mut agent = Agent { member, id, channel, heard, clock_off, seen, loops };
        agent.spawn(|agent| agent.hear_session(messages));
        if habits.beats {
            agent.spawn(Hands::beat);
        }
        if habits.listens {
            agent.spawn(move |agent| agent.hear_assignments(habits.reports));
            agent.spawn(Hands::hear_subscriptions);
        }
        Ok(agent)
    }

    fn spawn<A: Future<Output = ()> + Send + 'static>(&mut self, start: impl FnOnce(Hands) -> A) {
        self.loops.push(RUNTIME.spawn(start(self.hands())));
    }

    fn hands(&self) -> Hands {
        Hands {
            id: self.id.clone(),
            channel: self.channel.clone(),
            clock_off: self.clock_off,
            seen: self.seen.clone(),
        }
    }

    pub fn dispatcher(&self) -> DispatcherClient<Channel> {
        DispatcherClient::new(self.channel.clone())
    }

    pub fn logs(&self) -> LogBrokerClient<Channel> {
        LogBrokerClient::new(self.channel.clone())
    }

    pub fn node_id(&self) -> &str {
        &self.member.node_id
    }

    /// What it saw so far.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no agent panics while it notes what it saw")
    }

    /// Waits until `check` finds something in what it saw.
    #[track_caller]
    pub fn until<T>(&self, what: &str, check: impl Fn(&Seen) -> Option<T>) -> T {
        eventually(what, PATIENCE, || check(&self.seen()))
    }

    /// True when the manager said these bytes to it, in whatever message.
    pub fn heard(&self, bytes: &[u8]) -> bool {
        self.heard.has(bytes)
    }

    /// True once its connection is over.
    pub fn is_closed(&self) -> bool {
        self.heard.is_closed()
    }

    /// Reports a state of a task.
    #[track_caller]
    pub fn report(&self, task: &str, state: TaskState) -> Result<(), Status> {
        wait(self.hands().report(vec![(task.to_owned(), state)]))
    }

    /// Beats once.
    #[track_caller]
    pub fn beat(&self) -> Result<Duration, Status> {
        wait(self.hands().beat_once())
    }

    /// What a real engine would have stumbled over.
    #[track_caller]
    pub fn assert_no_faults(&self) {
        let seen = self.seen();
        assert!(seen.model.faults.is_empty(), "{:#?}", seen.model.faults);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        for running in &self.loops {
            running.abort();
        }
    }
}

/// What the loops of an agent share.
struct Hands {
    id: String,
    channel: Channel,
    clock_off: i64,
    seen: Arc<Mutex<Seen>>,
}

impl Hands {
    fn note(&self, note: impl FnOnce(&mut Seen)) {
        note(&mut self.seen.lock().expect("no agent panics while it notes what it saw"));
    }

    async fn hear_session(self, mut messages: Streaming<SessionMessage>) {
        loop {
            match next(&mut messages).await {
                Ok(message) => self.note(|seen| seen.messages.push(message)),
                Err(end) => return self.note(|seen| seen.session_end = Some(end)),
            }
        }
    }

    async fn beat(self) {
        loop {
            match self.beat_once().await {
                Ok(period) => {
                    self.note(|seen| seen.periods.push(period));
                    tokio::time::sleep(period).await;
                }
                Err(end) => return self.note(|seen| seen.beats_end = Some(end)),
            }
        }
    }

    async fn beat_once(&self) -> Result<Duration, Status> {
        let mut client = DispatcherClient::new(self.channel.clone());
        let request = HeartbeatRequest { session_id: self.id.clone() };
        let period = client.heartbeat(request).await?.into_inner().period;
        let period = period.and_then(|period| Duration::try_from(period).ok()).unwrap_or_default();
        if period.is_zero() {
            return Err(Status::data_loss("a heartbeat without a period"));
        }
        Ok(period)
    }

    async fn hear_assignments(self, reports: bool) {
        let client = DispatcherClient::new(self.channel.clone());
        // As engines have it: a complete set may be large.
        let mut client = client.max_decoding_message_size(i32::MAX as usize);
        let request = proto::AssignmentsRequest { session_id: self.id.clone() };
        let mut messages = match client.assignments(request).await {
            Ok(messages) => messages.into_inner(),
            Err(end) => return self.note(|seen| seen.assignments_end = Some(end)),
        };
        loop {
            let mut due = Vec::new();
            match next(&mut messages).await {
                Ok(message) => self.note(|seen| {
                    seen.model.apply(&message);
                    seen.assignments.push(message);
                    due = seen.model.due();
                }),
                Err(end) => return self.note(|seen| seen.assignments_end = Some(end)),
            }
            if reports && !due.is_empty() && self.report(due).await.is_err() {
                return;
            }
        }
    }

    async fn hear_subscriptions(self) {
        let mut client = LogBrokerClient::new(self.channel.clone());
        let end = match client.listen_subscriptions(proto::ListenSubscriptionsRequest {}).await {
            Ok(messages) => {
                let mut messages = messages.into_inner();
                loop {
                    match next(&mut messages).await {
                        Ok(message) => self.note(|seen| seen.subscriptions.push(message)),
                        Err(end) => break end,
                    }
                }
            }
            Err(end) => end,
        };
        self.note(|seen| seen.subscriptions_end = Some(end));
    }

    async fn report(&self, states: Vec<(String, TaskState)>) -> Result<(), Status> {
        let updates = states.iter().map(|(task, state)| TaskStatusUpdate {
            task_id: task.clone(),
            status: Some(self.status(*state)),
        });
        let updates = updates.collect();
        let request = UpdateTaskStatusRequest { session_id: self.id.clone(), updates };
        DispatcherClient::new(self.channel.clone()).update_task_status(request).await?;
        self.note(|seen| seen.model.reported.extend(states));
        Ok(())
    }

    fn status(&self, state: TaskState) -> TaskStatus {
        let now = purser::app::SystemClock::default();
        let now = purser::domain::time::Clock::now(&now).unix_seconds();
        let timestamp = prost_types::Timestamp { seconds: now + self.clock_off, nanos: 0 };
        TaskStatus {
            timestamp: Some(timestamp),
            state: state.into(),
            message: state.as_str_name().to_lowercase(),
            ..Default::default()
        }
    }
}

/// The next message of a stream, or how it ended; a plain end is `Ok`.
async fn next<T>(messages: &mut Streaming<T>) -> Result<T, Status> {
    messages.message().await?.ok_or_else(|| Status::new(Code::Ok, "the stream ended"))
}

fn describe(hostname: &str, member: &Member) -> proto::NodeDescription {
    let platform = proto::Platform { architecture: "x86_64".into(), os: "linux".into() };
    let resources =
        proto::Resources { nano_cpus: 8_000_000_000, memory_bytes: 16 << 30, generic: Vec::new() };
    let engine = proto::EngineDescription { engine_version: "29.7.2".into(), ..Default::default() };
    proto::NodeDescription {
        hostname: hostname.into(),
        platform: Some(platform),
        resources: Some(resources),
        engine: Some(engine),
        tls_info: Some(member.tls_info()),
        ..Default::default()
    }
}
