//! A manager of a test's own, over a real store in a directory of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Manager, SwarmWish};
use crate::domain::actor::Actor;
use crate::domain::cluster::ClusterSpec;
use crate::domain::id::{Entropy, NodeId, Stream};
use crate::domain::node::Availability;
use crate::domain::time::{Clock, Timestamp};
use crate::seal::unlock::Providers;
use crate::store;

/// A clock that is moved by hand. It starts in 2026.
pub struct HandClock(AtomicI64);

impl HandClock {
    pub fn advance(&self, by: Duration) {
        let seconds = i64::try_from(by.as_secs()).expect("a short time");
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_nanos(i128::from(self.0.load(Ordering::Relaxed)) * 1_000_000_000)
    }
}

/// Bytes that never repeat.
#[derive(Default)]
struct Counting(AtomicU64);

impl Entropy for Counting {
    fn fill(&self, _: Stream, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let number = self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            chunk.copy_from_slice(&number.to_le_bytes()[..chunk.len()]);
        }
    }
}

/// A manager whose loops and files go with it.
pub struct Fixture {
    pub manager: Manager,
    pub clock: Arc<HandClock>,
    stop: CancellationToken,
    dir: PathBuf,
}

impl Fixture {
    /// A manager outside of a swarm.
    pub async fn new() -> Fixture {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir =
            std::env::temp_dir().join(format!("purser-manager-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory for temporary files");
        let clock = Arc::new(HandClock(AtomicI64::new(1_780_000_000)));
        let (entropy, stop) = (Arc::new(Counting::default()), CancellationToken::new());
        let config = store::Config { data_dir: dir.clone() };
        let unlock = Arc::new(Providers::of_key([7; 32])).into();
        let opened =
            store::open(&config, unlock, clock.clone(), entropy.clone(), stop.clone()).await;
        let (store, _writer) = opened.expect("a new store");
        let manager = Manager::new(store, clock.clone(), entropy, stop.clone());
        Fixture { manager, clock, stop, dir }
    }

    /// A manager that leads a swarm.
    pub async fn leading() -> Fixture {
        let fixture = Fixture::new().await;
        fixture.init().await;
        fixture
    }

    /// Makes a swarm; its id is that of the manager's node.
    pub async fn init(&self) -> NodeId {
        let wish = SwarmWish {
            hostname: "manager".into(),
            listen_addr: "127.0.0.1:0".parse().expect("an address"),
            advertise_addr: "127.0.0.1:2377".parse().expect("an address"),
            spec: ClusterSpec::default(),
            availability: Availability::Active,
            default_addr_pool: Vec::new(),
            subnet_size: 24,
            data_path_port: 4789,
        };
        self.manager.init_swarm(Actor::Client(Default::default()), wish).await.expect("a new swarm")
    }

    /// Ends the loops of the lead, for tests in which nothing should move by itself.
    pub fn stop_planning(&self) {
        let lead = self.manager.lead().borrow().clone();
        lead.expect("it leads").ended.cancel();
    }

    /// A request for a certificate.
    pub fn request() -> Vec<u8> {
        let key = rcgen::KeyPair::generate().expect("a key");
        let request = rcgen::CertificateParams::default().serialize_request(&key);
        request.and_then(|request| request.pem()).expect("a request").into_bytes()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop.cancel();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
