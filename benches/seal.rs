//! `cargo bench --bench seal`: what sealing costs a request that creates a secret of 4 KiB, with the
//! audit on and the database on this disk.
//!
//! Once the payload is sealed within the request, and once it was sealed before: the difference is
//! what sealing a payload costs. What is sealed in both, the object's row and the record, is measured
//! with the payload in the third, alone. Sealing is to cost at most 5 % of the request.

use std::path::PathBuf;
use std::sync::Arc;

use criterion::{BatchSize, Criterion};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use purser::app::{SystemClock, SystemEntropy};
use purser::domain::actor::Actor;
use purser::domain::audit::Note;
use purser::domain::change::{Change, Key, SealedData};
use purser::domain::id::SecretId;
use purser::domain::meta::Stamp;
use purser::domain::secret::{Secret, SecretSpec};
use purser::domain::view::View;
use purser::seal::envelope::{Nonces, Purpose};
use purser::seal::keyring::Value;
use purser::seal::secret::SecretBytes;
use purser::seal::unlock::Providers;
use purser::store::{self, Store};

const PAYLOAD_LEN: usize = 4096;
/// About what the row of a secret and a record take.
const ROW_LEN: usize = 400;
const RECORD_LEN: usize = 300;

fn main() {
    let mut criterion = Criterion::default().sample_size(50).configure_from_args();
    let bench = Bench::new();
    bench.create(&mut criterion);
    bench.seal(&mut criterion);
    criterion.final_summary();
    let _ = std::fs::remove_dir_all(&bench.dir);
}

struct Bench {
    runtime: Runtime,
    store: Store,
    dir: PathBuf,
}

impl Bench {
    fn new() -> Bench {
        let runtime = Runtime::new().expect("threads");
        let dir = std::env::temp_dir().join(format!("purser-bench-{}", std::process::id()));
        let config = store::Config { data_dir: dir.clone() };
        let providers = Arc::new(Providers::of_key([7; 32]));
        let (clock, entropy) = (Arc::new(SystemClock::default()), Arc::new(SystemEntropy));
        let stop = CancellationToken::new();
        let opened = runtime.block_on(store::open(&config, providers.into(), clock, entropy, stop));
        let (store, _) = opened.expect("a store");
        Bench { runtime, store, dir }
    }

    fn sealed(&self, id: SecretId) -> SealedData {
        let data = SecretBytes::new(vec![7; PAYLOAD_LEN]);
        self.store.seal_payload(&Key::Secret(id), &data, &SystemEntropy)
    }

    fn write(&self, id: SecretId, payload: SealedData) {
        let spec = SecretSpec { name: id.to_string(), ..Default::default() };
        let fingerprint = purser::domain::secret::Fingerprint([0; 32]);
        let secret = Secret {
            revisions: Default::default(),
            id,
            meta: Default::default(),
            spec,
            fingerprint,
            shown: Default::default(),
        };
        let decide = move |_: &View, _: Stamp| {
            Ok(vec![secret.into(), Change::PutPayload(Key::Secret(id), payload)])
        };
        let note = Note::new(Actor::Manager, "secret create").about(Key::Secret(id));
        self.runtime.block_on(self.store.write_noted(decide, note)).expect("it is written");
    }

    fn create(&self, criterion: &mut Criterion) {
        let id = || SecretId::make(&SystemEntropy);
        criterion.bench_function(
            "create a secret of 4 KiB, sealed within the request",
            |bencher| {
                let create = |id| self.write(id, self.sealed(id));
                bencher.iter_batched(id, create, BatchSize::PerIteration);
            },
        );
        criterion.bench_function("create a secret of 4 KiB that was sealed before", |bencher| {
            let begin = || {
                let id = id();
                (id, self.sealed(id))
            };
            let create = |(id, payload)| self.write(id, payload);
            bencher.iter_batched(begin, create, BatchSize::PerIteration);
        });
    }

    fn seal(&self, criterion: &mut Criterion) {
        let id = SecretId::make(&SystemEntropy);
        let value = Value { purpose: Purpose::Object, kind: 1, id: id.as_str(), version: 1 };
        let (row, record) = ([7; ROW_LEN], [7; RECORD_LEN]);
        criterion.bench_function("all that is sealed for a secret of 4 KiB", |bencher| {
            bencher.iter(|| {
                let keyring = self.store.keyring();
                let mut nonces = Nonces::draw(&SystemEntropy);
                let small =
                    [&row[..], &record[..]].map(|plain| keyring.seal(value, plain, &mut nonces));
                (self.sealed(id), small)
            });
        });
    }
}
