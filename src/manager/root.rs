//! The root certificate of the lead: what signs, and what takes its place.

use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;

use super::{Lead, Manager};
use crate::ca::root::{CaError, Root};
use crate::domain::actor::Actor;
use crate::domain::change::Key;
use crate::domain::cluster::RootRotation;
use crate::domain::cluster::{CaConfig, Cluster};
use crate::domain::intent::{Intent, NewRoot, SwarmUpdate};
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::view::View;
use crate::plan::intent::{is_root_ready, root_rotation_under_way};
use crate::seal::secret::SecretBytes;

/// The root of a cluster: the new one, while one is on its way.
pub(super) fn load(cluster: &Cluster, key: &SecretBytes) -> Result<Root, CaError> {
    match &cluster.root_rotation {
        Some(rotation) => Ok(Root::load(&rotation.root_ca, key)?.with_tail(&rotation.cross_signed)),
        None => Root::load(&cluster.root_ca, key),
    }
}

/// The roots whose certificates nodes may come with, PEM.
pub(super) fn trusted(cluster: &Cluster) -> String {
    let coming = cluster.root_rotation.as_ref().map_or("", |rotation| &rotation.root_ca);
    cluster.root_ca.clone() + coming
}

/// A root that a user supplies, or none.
///
/// # Errors
/// It cannot be used, in the words of an update.
pub(super) fn supplied(
    config: &CaConfig,
    now: crate::domain::time::Timestamp,
) -> Result<Option<Root>, Refusal> {
    let CaConfig { signing_ca_cert, signing_ca_key, .. } = config;
    if signing_ca_cert.is_empty() && signing_ca_key.is_empty() {
        return Ok(None);
    }
    if signing_ca_cert.is_empty() || signing_ca_key.is_empty() {
        return Err(Refusal::invalid("a root certificate and its key have to be given together"));
    }
    let root = Root::supplied(signing_ca_cert, signing_ca_key, now);
    root.map(Some).map_err(|error| Refusal::invalid(error.to_string()))
}

impl Manager {
    /// Makes the root that an update asks for, if it asks for one. What the update says of signing
    /// certificates and keys is taken out of it: they are never stored with the settings.
    pub(super) fn prepare_root(&self, update: &mut SwarmUpdate) -> Result<(), Refusal> {
        let view = self.view();
        let cluster = view.require_cluster()?;
        let now = self.clock().now();
        let own = supplied(&update.spec.ca_config, now)?;
        let wish = &mut update.spec.ca_config;
        (wish.signing_ca_cert, wish.signing_ca_key) = (String::new(), String::new());
        if own.is_none() && wish.force_rotate == cluster.spec.ca_config.force_rotate {
            return Ok(());
        }
        if cluster.root_rotation.is_some() {
            return Err(root_rotation_under_way());
        }
        let internal = |error: CaError| Refusal::front(Reason::Unknown, error.to_string());
        let lead = self.inner.lead.borrow().clone().ok_or_else(Refusal::no_swarm)?;
        let root = match own {
            Some(root) => root,
            None => Root::make(now).map_err(internal)?,
        };
        let rotation = RootRotation {
            root_ca: root.pem().to_owned(),
            cross_signed: lead.root().cross_sign(&root).map_err(internal)?,
            tls_info: root.tls_info().map_err(internal)?,
        };
        let signing_key = self.seal(Key::Cluster(cluster.id), &root.key_bytes()).bytes;
        update.new_root = Some(Box::new(NewRoot { rotation, signing_key }));
        Ok(())
    }

    /// Has the lead sign and trust as the cluster says now.
    pub(super) async fn switch_root(&self, lead: &Lead) {
        if let Err(error) = self.try_switch_root(lead).await {
            // The next start reads the same again; what was issued until then stays good.
            tracing::error!(error = format!("{error:#}"), "the root certificate was not switched");
        }
    }

    async fn try_switch_root(&self, lead: &Lead) -> anyhow::Result<()> {
        // Two at once could leave what is older.
        let _alone = lead.switching.lock().await;
        let view = self.view();
        let Some(cluster) = view.cluster() else { return Ok(()) };
        let key = self.inner.store.payload(Key::Cluster(cluster.id)).await?;
        let key = key.ok_or_else(|| anyhow::anyhow!("its key is missing"))?;
        let root = Arc::new(load(cluster, &key)?);
        let config = self.own_tls(cluster, &root)?;
        lead.set_root(root);
        lead.tls.send_replace(config);
        Ok(())
    }

    /// Ends a rotation of the root once every node is ready for that.
    pub(super) async fn watch_root(self, lead: Arc<Lead>) {
        let (view, mut commits) = self.inner.store.subscribe();
        self.finish_root(&view, &lead).await;
        loop {
            let commit = tokio::select! {
                () = lead.ended.cancelled() => return,
                commit = commits.recv() => commit,
            };
            match commit {
                Ok(commit) => self.finish_root(&commit.view, &lead).await,
                Err(RecvError::Lagged(_)) => self.finish_root(&self.view(), &lead).await,
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Has the lead sign as the cluster says now, if it does not yet.
    pub(super) async fn follow_root(&self, lead: &Lead) {
        let view = self.view();
        let expected = view.cluster().map(|cluster| match &cluster.root_rotation {
            Some(rotation) => &rotation.root_ca,
            None => &cluster.root_ca,
        });
        if expected.is_some_and(|expected| lead.root().pem() != expected) {
            self.switch_root(lead).await;
        }
    }

    async fn finish_root(&self, view: &View, lead: &Lead) {
        self.follow_root(lead).await;
        if !is_root_ready(view) {
            return;
        }
        match self.submit(Actor::Manager, Intent::FinishRootRotation).await {
            Ok(applied) if applied.changed.is_empty() => {}
            Ok(_) => {
                self.switch_root(lead).await;
                tracing::info!("the new root certificate has taken its place");
            }
            Err(error) => tracing::warn!(%error, "the rotation of the root was not finished"),
        }
    }
}
