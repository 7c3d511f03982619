//! A simulated engine: it joins, keeps sessions and does what it is told, in so far as the manager
//! can see. What a real engine would only stumble over is written down, for tests to look at.
//!
//! - [`door`]: connections, as engines make them and as they should not be made.
//! - [`model`]: what it holds, as told by the manager.
//! - [`lines`]: what it publishes of logs.
//! - [`cluster`]: the manager as its clients see it, and new engines for it.
//!
//! Everything here is called from plain tests; what is asynchronous runs on a runtime of its own.

pub mod cluster;
pub mod door;
pub mod lines;
pub mod model;

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use purser::wire::proto;
use purser::wire::proto::ca_client::CaClient;
use purser::wire::proto::dispatcher_client::DispatcherClient;
use purser::wire::proto::issuance_status::State as Issuance;
use purser::wire::proto::log_broker_client::LogBrokerClient;
use purser::wire::proto::node_ca_client::NodeCaClient;
use purser::wire::proto::update_task_status_request::TaskStatusUpdate;
use purser::wire::proto::{
    AssignmentsMessage, HeartbeatRequest, IssueNodeCertificateRequest, SessionMessage,
    SessionRequest, TaskState, TaskStatus, UpdateTaskStatusRequest,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use self::door::{Credentials, Dial};
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

/// A key of its own, PKCS#8, and a request for a certificate as engines make it: no subject, no
/// extensions.
pub fn make_request() -> (Vec<u8>, Vec<u8>) {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    make_request_of(&params)
}

/// The same with whatever else the request says.
pub fn make_request_of(params: &CertificateParams) -> (Vec<u8>, Vec<u8>) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let request = params.serialize_request(&key).expect("a request");
    let pem = request.pem().expect("a PEM text").replace("\r\n", "\n");
    (key.serialize_der(), pem.into_bytes())
}

/// Fetches the root certificate, and takes it only if the token's digest is of it.
pub async fn fetch_root(addr: SocketAddr, token: &str) -> Result<String, Status> {
    let channel = Dial::bare(addr).channel().await.map_err(unreachable)?;
    let answer = CaClient::new(channel)
        .get_root_ca_certificate(proto::GetRootCaCertificateRequest {})
        .await?
        .into_inner();
    let digest = token.split('-').nth(2).unwrap_or_default();
    if digest != base36(&Sha256::digest(&answer.certificate), 50) {
        return Err(Status::data_loss("the root is not that of the token"));
    }
    String::from_utf8(answer.certificate).map_err(|_| Status::data_loss("not a text"))
}

/// A big-endian number in base 36, padded to so many digits.
pub fn base36(bytes: &[u8], digits: usize) -> String {
    let mut number = bytes.to_vec();
    let mut text = Vec::new();
    for _ in 0..digits {
        let rest = number.iter_mut().fold(0u32, |rest, byte| {
            let value = rest * 256 + u32::from(*byte);
            *byte = u8::try_from(value / 36).expect("a quotient of bytes");
            value % 36
        });
        text.push(char::from_digit(rest, 36).expect("a digit"));
    }
    text.iter().rev().collect()
}

fn unreachable(error: std::io::Error) -> Status {
    Status::unavailable(format!("connecting: {error}"))
}

/// An engine that is a member of a swarm.
#[derive(Clone)]
pub struct Member {
    pub addr: SocketAddr,
    pub root: String,
    pub node_id: String,
    pub credentials: Credentials,
}

impl Member {
    /// Joins as `docker swarm join` does.
    pub fn join(addr: SocketAddr, token: &str) -> Result<Member, Status> {
        let (key, csr) = make_request();
        Member::join_with(addr, token, key, &csr, proto::node_spec::Availability::Active)
    }

    /// Joins with a key and request of the test's own.
    #[track_caller]
    pub fn join_with(
        addr: SocketAddr,
        token: &str,
        key: Vec<u8>,
        csr: &[u8],
        availability: proto::node_spec::Availability,
    ) -> Result<Member, Status> {
        wait(async {
            let root = fetch_root(addr, token).await?;
            let verify = Some((root.clone(), "swarm-ca"));
            let dial = Dial { verify, ..Dial::bare(addr) };
            let mut client = NodeCaClient::new(dial.channel().await.map_err(unreachable)?);
            let request = IssueNodeCertificateRequest {
                role: proto::NodeRole::Worker.into(),
                csr: csr.to_vec(),
                token: token.to_owned(),
                availability: availability.into(),
            };
            let issued = client.issue_node_certificate(request).await?.into_inner();
            assert_eq!(issued.node_membership, 1, "accepted");
            let chain = poll_chain(&mut client, &issued.node_id, csr).await?;
            let credentials = Credentials { chain, key };
            Ok(Member { addr, root, node_id: issued.node_id, credentials })
        })
    }

    /// How it connects once it is a member.
    pub fn dial(&self) -> Dial {
        Dial {
            verify: Some((self.root.clone(), "swarm-manager")),
            credentials: Some(self.credentials.clone()),
            ..Dial::bare(self.addr)
        }
    }

    /// Has a new key signed with the certificate that it has.
    pub fn renew(&self) -> Result<Member, Status> {
        wait(async {
            let mut client = NodeCaClient::new(self.dial().channel().await.map_err(unreachable)?);
            let (key, csr) = make_request();
            let request = IssueNodeCertificateRequest { csr: csr.clone(), ..Default::default() };
            let issued = client.issue_node_certificate(request).await?.into_inner();
            assert_eq!(issued.node_id, self.node_id);
            let chain = poll_chain(&mut client, &issued.node_id, &csr).await?;
            Ok(Member { credentials: Credentials { chain, key }, ..self.clone() })
        })
    }

    /// What an engine says of its trust: its root, and who signed its own certificate.
    fn tls_info(&self) -> proto::NodeTlsInfo {
        let text = self.credentials.chain.clone() + &self.root;
        let blocks = x509_parser::pem::Pem::iter_from_buffer(text.as_bytes());
        let ders: Vec<Vec<u8>> = blocks.map(|block| block.expect("a PEM text").contents).collect();
        let parsed = |der| x509_parser::parse_x509_certificate(der).expect("a certificate").1;
        let (leaf, issuer) = (parsed(&ders[0]), parsed(&ders[1]));
        proto::NodeTlsInfo {
            trust_root: self.root.clone().into_bytes(),
            cert_issuer_subject: leaf.issuer().as_raw().to_vec(),
            cert_issuer_public_key: issuer.public_key().raw.to_vec(),
        }
    }

    /// Opens a session and does what it is told.
    pub fn start(&self) -> Agent {
        self.open(&Habits::default()).expect("a session")
    }

    /// Opens a session with habits of the test's own.
    pub fn open(&self, habits: &Habits) -> Result<Agent, Status> {
        wait(Agent::open(self.clone(), habits.clone()))
    }
}

/// Polls until the manager has signed this very request.
async fn poll_chain(
    client: &mut NodeCaClient<Channel>,
    node_id: &str,
    csr: &[u8],
) -> Result<String, Status> {
    loop {
        let request = proto::NodeCertificateStatusRequest { node_id: node_id.to_owned() };
        let answer = client.node_certificate_status(request).await?.into_inner();
        let state = answer.status.map_or(Issuance::Unknown, |status| status.state());
        let certificate = answer.certificate.unwrap_or_default();
        if matches!(state, Issuance::Issued | Issuance::Rotate) && certificate.csr == csr {
            return String::from_utf8(certificate.certificate)
                .map_err(|_| Status::data_loss("not a text"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
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
        let now = purser::app::SystemClock;
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
