//! `cargo bench --bench plan`: how long the planners take, without the store that their steps are
//! written to. What is measured is a settle: all planners in their order, until none changes
//! anything.
//!
//! Three things are shown. Ten thousand tasks find their places on a thousand nodes in less than a
//! second, with and without addresses on overlay networks. A change of one service costs what that
//! service is worth, whether it is one of a hundred or one of a thousand, which is why these come in
//! both sizes. And a new value of a secret costs what the services are worth that use it, nearly
//! whatever else there is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::{BatchSize, Criterion};

use purser::domain::change::{Key, SealedData};
use purser::domain::cluster::{Cluster, ClusterSpec, JoinSecrets};
use purser::domain::container::ContainerSpec;
use purser::domain::endpoint::NetworkAttachmentConfig;
use purser::domain::id::{
    ClusterId, Entropy, NetworkId, NodeId, RevisionId, SecretId, ServiceId, Stream,
};
use purser::domain::intent::{AuthFrom, Intent, NewValue, SealedPayload, TaskReport};
use purser::domain::meta::{Stamp, Version};
use purser::domain::network::{Ipam, IpamConfig, NetworkSpec, OVERLAY};
use purser::domain::node::{Availability, NodeDescription};
use purser::domain::revision::{GATHER_TIME, Keep, REVISIONS_KEPT};
use purser::domain::secret::{FileTarget, Fingerprint, SecretReference, SecretSpec};
use purser::domain::service::{Replicated, ServiceSpec, TaskSpec};
use purser::domain::task::{Task, TaskStatus};
use purser::domain::task_state::TaskState;
use purser::domain::time::{Nanoseconds, Timestamp};
use purser::domain::view::View;
use purser::plan::settle::{Dirty, ROUNDS_MAX, STAGES, step};
use purser::plan::{Context, intent};

/// Tasks of each service, where there are many services.
const REPLICAS: u64 = 10;
/// The secret that is rotated.
const SECRET: &str = "db";

fn main() {
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    place(&mut criterion);
    attach(&mut criterion);
    for services in [100, 1_000] {
        change_one(&mut criterion, services);
    }
    for (replicas, others) in [(5, 0), (50, 0), (5, 2_000)] {
        rotate(&mut criterion, replicas, others);
    }
    criterion.final_summary();
}

/// Every task of a cluster is new.
fn place(criterion: &mut Criterion) {
    for (services, replicas) in [(1, 10_000), (1_000, 10)] {
        let name = format!("{services} services of {replicas} tasks placed on 1000 nodes");
        let empty = Bench::of(1_000);
        criterion.bench_function(&name, |bencher| {
            let begin = || {
                let mut bench = empty.clone();
                (0..services).for_each(|number| bench.create(number, replicas));
                bench
            };
            let settle = |mut bench: Bench| {
                bench.settle();
                bench
            };
            bencher.iter_batched(begin, settle, BatchSize::PerIteration);
        });
    }
}

/// Every task is new and gets an address, and every node one on each network of its tasks.
fn attach(criterion: &mut Criterion) {
    let mut empty = Bench::of(1_000);
    for number in 0..20 {
        let config = IpamConfig { subnet: format!("10.{number}.0.0/20"), ..Default::default() };
        let ipam = Ipam { config: vec![config], ..Default::default() };
        let (name, driver) = (format!("network-{number}"), OVERLAY.to_owned());
        let spec = NetworkSpec { name, driver, ipam, ..Default::default() };
        empty.submit(Intent::CreateNetwork { id: NetworkId::make(&ENTROPY), spec });
    }
    empty.settle();
    let begin = || {
        let mut bench = empty.clone();
        (0..20).for_each(|number| bench.create_on(number, 500, &format!("network-{number}")));
        bench
    };
    let settle = |mut bench: Bench| {
        bench.settle();
        bench
    };
    criterion.bench_function(
        "20 services of 500 tasks on 20 networks over 1000 nodes",
        |bencher| {
            bencher.iter_batched(begin, settle, BatchSize::PerIteration);
        },
    );
}

/// One service changes in a cluster where everything else runs.
fn change_one(criterion: &mut Criterion, services: u64) {
    let mut cluster = Bench::of(services);
    (0..services).for_each(|number| cluster.create(number, REPLICAS));
    cluster.settle();
    cluster.run_all();
    cluster.settle();
    let tasks = services * REPLICAS;
    let of = format!("one service of {services} ({tasks} tasks, {services} nodes)");
    let mut measure = |what: &str, change: fn(&mut Bench)| {
        let begin = || {
            let mut bench = cluster.clone();
            change(&mut bench);
            bench
        };
        let settle = |mut bench: Bench| {
            bench.settle();
            bench
        };
        criterion.bench_function(&format!("{of} {what}"), |bencher| {
            bencher.iter_batched(begin, settle, BatchSize::PerIteration);
        });
    };
    measure("is scaled up by 1 task", |bench| {
        bench.update(|spec| {
            spec.mode.replicated = Some(Replicated { replicas: Some(REPLICAS + 1) });
        });
    });
    measure("begins an update", |bench| {
        bench.update(|spec| Arc::make_mut(&mut spec.task_template).force_update += 1);
    });
    measure("has a task that failed", |bench| {
        let service = bench.service();
        let task = bench.view.tasks_of_service(service).next().expect("it has tasks");
        let report = report(task, TaskState::Failed);
        bench.submit(Intent::ReportTasks { reports: vec![report] });
    });
}

/// A secret that 200 services use gets a new value, in a cluster where everything else runs. Nodes have
/// ten tasks each, whose load is summed up where one is placed.
fn rotate(criterion: &mut Criterion, replicas: u64, others: u64) {
    const USERS: u64 = 200;
    let mut cluster = Bench::of((USERS * replicas + others * REPLICAS) / 10);
    let secret = cluster.make_secret();
    (0..USERS).for_each(|number| cluster.create_user(number, replicas, secret));
    (USERS..USERS + others).for_each(|number| cluster.create(number, REPLICAS));
    cluster.settle();
    cluster.run_all();
    cluster.settle();
    let of = format!("a secret of {USERS} services of {replicas} tasks beside {others} others");
    let mut measure = |what: &str, cluster: &Bench, act: fn(&mut Bench)| {
        let act = |mut bench: Bench| {
            act(&mut bench);
            bench
        };
        criterion.bench_function(&format!("{of} {what}"), |bencher| {
            bencher.iter_batched(|| cluster.clone(), act, BatchSize::PerIteration);
        });
    };
    measure("is rotated", &cluster, Bench::rotate);
    let mut rotated = cluster.clone();
    rotated.rotate();
    rotated.settle();
    rotated.wait(GATHER_TIME);
    measure("begins to be rolled out", &rotated, Bench::settle);
    // As many as are kept: with the next one it is asked which of them are in use.
    (1..REVISIONS_KEPT).for_each(|_| cluster.rotate());
    measure("that has many versions is rotated", &cluster, Bench::rotate);
}

/// A cluster in memory, and what its planners have yet to look at.
#[derive(Clone)]
struct Bench {
    view: View,
    dirty: Dirty,
    /// What asked to be looked at again.
    again: BTreeSet<Key>,
    /// The clock stands still, but where something waits for it.
    now: Timestamp,
}

impl Bench {
    /// A cluster of so many nodes that take tasks.
    fn of(nodes: u64) -> Bench {
        let (view, dirty, again) = (View::default(), Dirty::default(), BTreeSet::new());
        let now = Timestamp::from_unix_nanos(1_800_000_000_000_000_000);
        let mut bench = Bench { view, dirty, again, now };
        bench.write(&[make_cluster().into()]);
        for number in 0..nodes {
            let id = NodeId::make(&ENTROPY);
            let (csr, chain, availability) = (Vec::new(), String::new(), Availability::Active);
            let admit = Intent::AdmitNode { id, csr, chain, not_after: i64::MAX, availability };
            bench.submit(admit);
            let hostname = format!("node-{number}");
            let description = Box::new(NodeDescription { hostname, ..Default::default() });
            let addr = "10.0.0.1".to_owned();
            bench.submit(Intent::RegisterNode { id, description, addr, is_fresh: true });
        }
        bench.settle();
        bench
    }

    fn create(&mut self, number: u64, replicas: u64) {
        self.create_with(number, replicas, Vec::new(), Vec::new());
    }

    fn create_user(&mut self, number: u64, replicas: u64, secret: SecretId) {
        let (secret_id, secret_name) = (secret.to_string(), SECRET.to_owned());
        let file = Some(FileTarget { name: SECRET.to_owned(), ..Default::default() });
        let secret = SecretReference { file, secret_id, secret_name };
        self.create_with(number, replicas, Vec::new(), vec![secret]);
    }

    fn create_on(&mut self, number: u64, replicas: u64, network: &str) {
        let target = network.to_owned();
        let network = NetworkAttachmentConfig { target, ..Default::default() };
        self.create_with(number, replicas, vec![network], Vec::new());
    }

    fn create_with(
        &mut self,
        number: u64,
        replicas: u64,
        networks: Vec<NetworkAttachmentConfig>,
        secrets: Vec<SecretReference>,
    ) {
        let container = ContainerSpec { image: "app:1".into(), secrets, ..Default::default() };
        let template = TaskSpec { container_spec: Some(container), networks, ..Default::default() };
        let mut spec = ServiceSpec {
            name: format!("service-{number}"),
            task_template: Arc::new(template),
            ..Default::default()
        };
        spec.mode.replicated = Some(Replicated { replicas: Some(replicas) });
        let id = ServiceId::make(&ENTROPY);
        self.submit(Intent::CreateService { id, spec, registry_auth: None });
    }

    fn make_secret(&mut self) -> SecretId {
        let id = SecretId::make(&ENTROPY);
        let spec = SecretSpec { name: SECRET.into(), ..Default::default() };
        let payload = Some(sealed());
        self.submit(Intent::CreateSecret { id, spec, payload, payload_len: 1 });
        id
    }

    /// The secret gets a new value.
    fn rotate(&mut self) {
        let secret = self.view.secret_named(SECRET).expect("it was made");
        let (id, version, spec) = (secret.id, secret.meta.version, secret.spec.clone());
        let payload = sealed();
        let fingerprint = Some(payload.fingerprint);
        let (revision, payload) = (RevisionId::make(&ENTROPY), Some(payload));
        let value = Some(NewValue {
            id: revision,
            payload,
            payload_len: 1,
            is_supplied: false,
            keep: Keep::default(),
        });
        self.submit(Intent::UpdateSecret { id, version, spec, fingerprint, value });
    }

    /// Time passes, and what waited for it is to be looked at.
    fn wait(&mut self, time: Nanoseconds) {
        self.now = self.now.plus(time);
        std::mem::take(&mut self.again).into_iter().for_each(|key| self.dirty.add_key(key));
    }

    /// The service that is changed.
    fn service(&self) -> ServiceId {
        self.view.service_named("service-7").expect("there are so many services").id
    }

    fn update(&mut self, change: impl FnOnce(&mut ServiceSpec)) {
        let service = self.view.service(self.service()).expect("it was just found");
        let (id, version, mut spec) = (service.id, service.meta.version, service.spec.clone());
        change(&mut spec);
        let auth_from = AuthFrom::Spec;
        self.submit(Intent::UpdateService { id, version, spec, registry_auth: None, auth_from });
    }

    /// Every task is reported to run.
    fn run_all(&mut self) {
        let reports = self.view.tasks().map(|task| report(task, TaskState::Running)).collect();
        self.submit(Intent::ReportTasks { reports });
    }

    fn submit(&mut self, intent: Intent) {
        let changes =
            intent::decide(&self.view, intent, self.context()).expect("an intent that is well");
        self.write(&changes);
    }

    fn context(&self) -> Context<'static> {
        Context { now: self.now, entropy: &ENTROPY }
    }

    fn write(&mut self, changes: &[purser::domain::change::Change]) {
        let version = Version { index: self.view.version().index + 1 };
        for changed in self.view.apply(changes, Stamp { version, now: self.now }) {
            self.dirty.add(&changed);
        }
    }

    /// What the driver does, but that a write costs nothing.
    fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let before = self.view.version();
            for stage in STAGES {
                let planned = step(stage, &self.view, &self.dirty, self.context());
                self.again.extend(planned.again.iter().map(|(_, key)| *key));
                if !planned.changes.is_empty() {
                    self.write(&planned.changes);
                }
            }
            if self.view.version() == before {
                self.dirty = Dirty::default();
                return;
            }
        }
        panic!("the planners are not content after {ROUNDS_MAX} rounds");
    }
}

fn report(task: &Task, state: TaskState) -> TaskReport {
    let node = task.node_id.expect("a task that was placed");
    TaskReport { node, task: task.id, status: TaskStatus { state, ..task.status.clone() } }
}

/// A value that no other is the same as.
fn sealed() -> SealedPayload {
    let mut fingerprint = [0; 32];
    ENTROPY.fill(Stream::Other, &mut fingerprint);
    SealedPayload {
        bytes: SealedData::default(),
        fingerprint: Fingerprint(fingerprint),
        fault: None,
    }
}

fn make_cluster() -> Cluster {
    Cluster {
        id: ClusterId::make(&ENTROPY),
        meta: Default::default(),
        spec: ClusterSpec::default(),
        root_ca: String::new(),
        tls_info: Default::default(),
        join_secrets: JoinSecrets { worker: String::new(), manager: String::new() },
        manager: NodeId::LOWEST,
        listen_addr: String::new(),
        advertise_addr: String::new(),
        default_addr_pool: Vec::new(),
        subnet_size: 24,
        data_path_port: 4789,
        network_keys: None,
        root_rotation: None,
        cross_signed: String::new(),
        autolock: Default::default(),
        barred: BTreeMap::new(),
    }
}

/// Ids that never repeat and are in no order.
struct Numbers(AtomicU64);

impl Entropy for Numbers {
    fn fill(&self, _: Stream, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let number = self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            chunk.copy_from_slice(&number.to_be_bytes()[..chunk.len()]);
        }
    }
}

static ENTROPY: Numbers = Numbers(AtomicU64::new(1));
