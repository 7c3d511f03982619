//! Certificates: who is signed, and in which role.

use std::sync::{Mutex, MutexGuard};

use super::Manager;
use crate::ca::identity::not_after_of_chain;
use crate::ca::issue::Holder;
use crate::ca::token;
use crate::domain::cluster::Cluster;
use crate::domain::id::NodeId;
use crate::domain::intent::{Actor, Intent};
use crate::domain::node::{Availability, NodeRole};
use crate::domain::refusal::{Reason, Refusal};

/// The one-time join secret of the engine that is attached to this manager. It names the manager's
/// own node, so that both are one node in the API. In memory only.
#[derive(Default)]
pub struct OneTime(Mutex<Option<String>>);

impl OneTime {
    fn put(&self, token: String) {
        *self.lock() = Some(token);
    }

    /// True for the token that was put; it is gone after that.
    fn take_if(&self, token: &str) -> bool {
        use subtle::ConstantTimeEq as _;
        let is_it = |held: &mut String| bool::from(held.as_bytes().ct_eq(token.as_bytes()));
        self.lock().take_if(is_it).is_some()
    }

    /// Puts a token back whose use failed, unless another was put meanwhile.
    fn put_back(&self, token: &str) {
        self.lock().get_or_insert_with(|| token.to_owned());
    }

    /// Withdraws the token: its swarm is no more.
    pub(super) fn clear(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().expect("a token is never left half put")
    }
}

impl Manager {
    /// Makes a token with which one host joins under the manager's own node id. It replaces the one
    /// before, and works once.
    ///
    /// # Errors
    /// There is no swarm.
    pub fn make_one_time_token(&self) -> Result<String, Refusal> {
        let view = self.view();
        let cluster = view.require_cluster()?;
        let secret = token::make_secret(self.entropy());
        let token = token::format_token(&cluster.root_ca, &secret);
        self.inner.one_time.put(token.clone());
        Ok(token)
    }

    /// Admits a host: checks its token, makes its node and signs its request.
    ///
    /// # Errors
    /// The token is not one of this cluster's, invites a manager, or the request is malformed.
    pub async fn admit(
        &self,
        token: &str,
        csr: Vec<u8>,
        availability: Availability,
    ) -> Result<NodeId, Refusal> {
        let view = self.view();
        let cluster = view.require_cluster()?;
        if self.inner.one_time.take_if(token) {
            let id = cluster.manager;
            let admitted = self.make_member(cluster, id, csr, availability).await;
            if admitted.is_err() {
                // An agent tries again with the same token.
                self.inner.one_time.put_back(token);
            }
            return admitted.map(|()| id);
        }
        match token::role_of(cluster, token) {
            Some(NodeRole::Worker) => {}
            Some(NodeRole::Manager) => {
                return Err(Refusal::invalid(
                    "an engine cannot join purser as a manager; use the worker token",
                ));
            }
            None => {
                return Err(Refusal::invalid(
                    "A valid join token is necessary to join this cluster",
                ));
            }
        }
        let id = NodeId::make(self.entropy());
        self.make_member(cluster, id, csr, availability).await?;
        Ok(id)
    }

    async fn make_member(
        &self,
        cluster: &Cluster,
        id: NodeId,
        csr: Vec<u8>,
        availability: Availability,
    ) -> Result<(), Refusal> {
        let (chain, not_after) = self.sign(cluster, id, &csr)?;
        let intent = Intent::AdmitNode { id, csr, chain, not_after, availability };
        self.submit(Actor::Joiner, intent).await?;
        // A host that goes away before its first session is noticed like one that is lost.
        self.inner.sessions.await_node(id, self.heartbeat_period());
        Ok(())
    }

    /// Signs the next certificate of a node.
    ///
    /// # Errors
    /// The node is not known, or the request is malformed.
    pub async fn renew(&self, id: NodeId, csr: Vec<u8>) -> Result<(), Refusal> {
        let view = self.view();
        let cluster = view.require_cluster()?;
        if view.node(id).is_none() {
            return Err(Refusal::store(Reason::NotFound, format!("node {id} not found")));
        }
        let (chain, not_after) = self.sign(cluster, id, &csr)?;
        let intent = Intent::RenewCertificate { id, csr, chain, not_after };
        self.submit(Actor::Node(id), intent).await.map(|_| ())
    }

    fn sign(&self, cluster: &Cluster, id: NodeId, csr: &[u8]) -> Result<(String, i64), Refusal> {
        if csr.is_empty() {
            return Err(Refusal::invalid("no CSR present in the request"));
        }
        let lead = self.inner.lead.borrow().clone();
        let lead = lead.ok_or_else(Refusal::no_swarm)?;
        // On the wire every engine is a worker, the manager's own among them.
        let holder = Holder { cluster: cluster.id, node: id, role: NodeRole::Worker };
        let life = cluster.spec.node_cert_expiry();
        let chain = lead
            .root()
            .sign_request(csr, holder, self.clock().now(), life)
            .map_err(|error| Refusal::invalid(error.to_string()))?;
        let not_after = not_after_of_chain(&chain);
        Ok((chain, not_after))
    }
}
