//! What grows old while this process leads: its own certificate, and the keys of overlay networks.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;

use super::{Lead, Manager, root};
use crate::ca::issue::Holder;
use crate::ca::root::{CaError, Root};
use crate::ca::tls;
use crate::domain::actor::Actor;
use crate::domain::cluster::Cluster;
use crate::domain::intent::Intent;
use crate::domain::node::NodeRole;
use crate::domain::time::Nanoseconds;

/// Life of this manager's own certificate: 90 days. It is made anew at half of it.
const OWN_LIFE: Nanoseconds = 90 * 24 * 3600 * 1_000_000_000;
/// How often it is looked what is due. By the clock on the wall, which a host that slept for weeks
/// finds far ahead of any timer.
const CHECK_EVERY: Duration = Duration::from_secs(600);

impl Manager {
    /// A new certificate of this manager's own, as the nodes' door shows it.
    ///
    /// # Errors
    /// The root cannot sign.
    pub(super) fn own_tls(
        &self,
        cluster: &Cluster,
        root: &Root,
    ) -> Result<Arc<ServerConfig>, CaError> {
        let holder = Holder { cluster: cluster.id, node: cluster.manager, role: NodeRole::Manager };
        let (mut chain, key) = root.issue_own(holder, self.clock().now(), OWN_LIFE)?;
        if cluster.root_rotation.is_none() {
            // A node that was away when a rotation ended trusts the root before still.
            chain += &cluster.cross_signed;
        }
        tls::server_config(&chain, &key, &root::trusted(cluster), self.expired_grace())
    }

    /// Renews what is due, until the lead ends.
    pub(super) async fn keep_fresh(self, lead: Arc<Lead>) {
        let mut own_due = self.clock().now().plus(OWN_LIFE / 2);
        loop {
            // At once for the network keys: the manager may have been away.
            self.rotate_network_keys().await;
            tokio::select! {
                () = lead.ended.cancelled() => return,
                () = tokio::time::sleep(CHECK_EVERY) => {}
            }
            let now = self.clock().now();
            if now < own_due {
                continue;
            }
            let _alone = lead.switching.lock().await;
            let view = self.view();
            let Some(cluster) = view.cluster() else { continue };
            match self.own_tls(cluster, &lead.root()) {
                Ok(config) => {
                    lead.tls.send_replace(config);
                    own_due = now.plus(OWN_LIFE / 2);
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "the manager's own certificate could not be renewed");
                }
            }
        }
    }

    /// One step at most, however long ago the last was: engines follow no more than one at a time.
    async fn rotate_network_keys(&self) {
        let rotated = self.submit(Actor::Manager, Intent::RotateNetworkKeys).await;
        match rotated {
            Ok(applied) if applied.changed.is_empty() => {}
            Ok(_) => tracing::info!("the keys of overlay networks were rotated"),
            Err(error) => tracing::warn!(%error, "the keys of overlay networks were not rotated"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::network_keys::NetworkKeys;
    use crate::manager::fixture::Fixture;

    #[tokio::test(start_paused = true)]
    async fn the_managers_own_certificate_is_made_anew_by_the_clock_on_the_wall() {
        let fixture = Fixture::leading().await;
        let lead = fixture.manager.lead().borrow().clone().expect("it leads");
        let mut tls = lead.tls();
        tls.mark_unchanged();
        tokio::time::sleep(2 * CHECK_EVERY).await;
        assert!(!tls.has_changed().expect("it leads"), "too early");
        // The host slept, and no timer ran.
        fixture.clock.advance(Duration::from_secs(60 * 24 * 3600));
        tokio::time::sleep(2 * CHECK_EVERY).await;
        assert!(tls.has_changed().expect("it leads"));
    }

    fn keys(fixture: &Fixture) -> NetworkKeys {
        let view = fixture.manager.view();
        view.cluster().and_then(|cluster| cluster.network_keys.clone()).expect("made at init")
    }

    #[tokio::test(start_paused = true)]
    async fn network_keys_are_rotated_one_step_at_a_time() {
        let fixture = Fixture::leading().await;
        let first = keys(&fixture);
        tokio::time::sleep(2 * CHECK_EVERY).await;
        assert_eq!(keys(&fixture), first, "too early");
        // Ten lives are still one step.
        fixture.clock.advance(Duration::from_secs(120 * 3600));
        tokio::time::sleep(3 * CHECK_EVERY).await;
        let next = keys(&fixture);
        assert_eq!((&next.gossip[..2], &next.ipsec[..2]), (&first.gossip[1..], &first.ipsec[1..]));
        tokio::time::sleep(2 * CHECK_EVERY).await;
        assert_eq!(keys(&fixture), next, "the next is due in twelve hours");
    }
}
