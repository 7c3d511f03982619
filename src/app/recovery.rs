//! From a backup to a store that can be used, in a directory of its own.

use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use tokio_util::sync::CancellationToken;

use super::{SystemClock, SystemEntropy};
use crate::domain::actor::Actor;
use crate::domain::audit::{Note, Outcome};
use crate::domain::cluster::Cluster;
use crate::domain::time::Timestamp;
use crate::manager::{Told, read_backup};
use crate::seal::age::Identity;
use crate::seal::unlock::{Providers, UnlockKey};
use crate::store::{self, Store, Unlock};

/// What was found in a backup, all of it opened and checked.
#[derive(Debug)]
pub struct Recovered {
    /// Names the store.
    pub store: String,
    /// The last write in it.
    pub version: u64,
    /// When the backup was made.
    pub made_at: Timestamp,
    /// Objects in it.
    pub objects: usize,
    /// Records of its audit.
    pub records: u64,
}

/// What a store is given on its way back.
#[derive(Debug, Default)]
pub struct Moved {
    /// Where the nodes' door listens, if elsewhere than before.
    pub listen_addr: Option<String>,
    /// What nodes are told, if something else than before.
    pub advertise_addr: Option<String>,
}

/// Unpacks a backup into a directory that is not there yet, opens the store in it, and checks every row
/// and record. With providers, the store is sealed under the key of the first that has one.
///
/// # Errors
/// It is no backup, not for this identity, damaged, or cannot be written; or no provider has a key.
pub fn unpack(
    file: &Path,
    identity: &Identity,
    dir: &Path,
    providers: Option<Arc<Providers>>,
    moved: &Moved,
) -> anyhow::Result<Recovered> {
    let input = File::open(file).with_context(|| format!("the backup {}", file.display()))?;
    let (header, mut copy) = read_backup(BufReader::new(input), identity)?;
    std::fs::DirBuilder::new().mode(0o700).create(dir).context("a directory to unpack in")?;
    let mut options = File::options();
    let path = dir.join(store::FILE);
    let mut out = options.write(true).create_new(true).mode(0o600).open(&path)?;
    // A file that was changed or cut short ends in an error here.
    std::io::copy(&mut copy, &mut out).context("unpacking the backup")?;
    out.sync_all()?;
    let key = header.key().context("the key in the backup is malformed")?;
    let is_kept = providers.is_some();
    let providers = providers.unwrap_or_else(|| Arc::new(Providers::new(Vec::new(), dir.into())));
    let unlock = Unlock { providers, typed: Some(UnlockKey::from_bytes(*key)) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let config = store::Config { data_dir: dir.to_owned() };
        let (clock, entropy) = (Arc::new(SystemClock::default()), Arc::new(SystemEntropy));
        let opened = store::open(&config, unlock, clock, entropy, stop.clone()).await;
        let (store, writer) = opened.context("the store in the backup cannot be opened")?;
        let looked = look(&store, is_kept, moved, header.made_at).await;
        stop.cancel();
        writer.await?;
        let recovered = Recovered { store: header.store.clone(), ..looked? };
        if recovered.version < header.version {
            bail!("the store in the backup is older than the backup says");
        }
        Ok(Recovered { version: header.version, ..recovered })
    })
}

async fn look(
    store: &Store,
    is_kept: bool,
    moved: &Moved,
    made_at: Timestamp,
) -> anyhow::Result<Recovered> {
    let chain = store.verify_audit().await.context("the audit in the backup")?;
    if is_kept {
        // The next start has no other key than this.
        let key = store.provided_key().context("the restored store needs an unlock key")?;
        store.relock(key).await.context("the restored store's unlock key")?;
        move_to(store, moved).await?;
        let note = Note::new(Actor::Manager, "backup restore").with(format!("of {made_at}"));
        store.note(vec![Told { note, outcome: Outcome::Done }]).await?;
    }
    let view = store.view();
    let (version, objects) = (view.version().index, view.objects().count());
    Ok(Recovered { store: String::new(), version, made_at, objects, records: chain.len() })
}

/// Writes where the manager is from now on.
async fn move_to(store: &Store, moved: &Moved) -> anyhow::Result<()> {
    let Moved { listen_addr, advertise_addr } = moved;
    let (listen_addr, advertise_addr) = (listen_addr.clone(), advertise_addr.clone());
    if listen_addr.is_none() && advertise_addr.is_none() {
        return Ok(());
    }
    let decide = move |view: &crate::domain::view::View, _| {
        let mut cluster = Cluster::clone(view.require_cluster()?);
        cluster.listen_addr = listen_addr.unwrap_or(cluster.listen_addr);
        cluster.advertise_addr = advertise_addr.unwrap_or(cluster.advertise_addr);
        Ok(vec![cluster.into()])
    };
    store.write(decide).await.context("the manager's new address")?;
    Ok(())
}

/// The store that lies in a directory: its id and its last write. `None` if there is none.
///
/// # Errors
/// It cannot be opened with these providers.
pub fn look_at(dir: &Path, providers: Arc<Providers>) -> anyhow::Result<Option<(String, u64)>> {
    if !dir.join(store::FILE).exists() {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let config = store::Config { data_dir: dir.to_owned() };
        let (clock, entropy) = (Arc::new(SystemClock::default()), Arc::new(SystemEntropy));
        let (store, writer) =
            store::open(&config, providers.into(), clock, entropy, stop.clone()).await?;
        let found = (store.id().to_owned(), store.view().version().index);
        stop.cancel();
        writer.await?;
        Ok(Some(found))
    })
}
