//! Certificates: who is signed, and in which role.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};

use super::Manager;
use super::lead::Lead;
use crate::ca::identity::not_after_of_chain;
use crate::ca::issue::Holder;
use crate::ca::token;
use crate::domain::actor::Actor;
use crate::domain::audit::{Note, Outcome};
use crate::domain::cluster::Cluster;
use crate::domain::id::{ClusterId, NodeId};
use crate::domain::intent::Intent;
use crate::domain::node::{Availability, NodeRole};
use crate::domain::refusal::{Reason, Refusal};
use crate::store::Told;

/// How often a certificate is signed anew when the root changes in between.
const ISSUE_TRIES: u32 = 3;

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
    /// The token is not one of this cluster's, invites a manager, or the request is malformed; or its
    /// address has failed too often of late.
    pub async fn admit(
        &self,
        from: SocketAddr,
        token: &str,
        csr: Vec<u8>,
        availability: Availability,
    ) -> Result<NodeId, Refusal> {
        let now = self.clock().now();
        if self.inner.attempts.is_barred(from.ip(), now) {
            let message = "too many attempts to join failed; try again in a minute";
            return Err(Refusal::store(Reason::Exhausted, message));
        }
        let admitted = self.try_admit(from, token, csr, availability).await;
        if let Err(refusal) = &admitted
            && refusal.reason == Reason::Invalid
        {
            self.inner.attempts.note(from.ip(), now);
            let note = Note::new(Actor::Joiner(from), "node admit").with(&*refusal.message);
            self.tell(vec![Told { note, outcome: Outcome::Refused }]).await?;
        }
        admitted
    }

    async fn try_admit(
        &self,
        from: SocketAddr,
        token: &str,
        csr: Vec<u8>,
        availability: Availability,
    ) -> Result<NodeId, Refusal> {
        let view = self.view();
        let cluster = view.require_cluster()?;
        if self.inner.one_time.take_if(token) {
            let id = cluster.manager;
            let admitted = self.make_member(from, cluster, id, csr, availability).await;
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
        self.make_member(from, cluster, id, csr, availability).await?;
        Ok(id)
    }

    async fn make_member(
        &self,
        from: SocketAddr,
        cluster: &Cluster,
        id: NodeId,
        csr: Vec<u8>,
        availability: Availability,
    ) -> Result<(), Refusal> {
        let intent = |chain, not_after| {
            let csr = csr.clone();
            Intent::AdmitNode { id, csr, chain, not_after, availability }
        };
        self.issue(Actor::Joiner(from), cluster.id, id, &csr, intent).await?;
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
        let intent = |chain, not_after| {
            let csr = csr.clone();
            Intent::RenewCertificate { id, csr, chain, not_after }
        };
        self.issue(Actor::Node(id), cluster.id, id, &csr, intent).await
    }

    /// Signs and submits, again if the root was changed in between.
    async fn issue(
        &self,
        actor: Actor,
        swarm: ClusterId,
        id: NodeId,
        csr: &[u8],
        intent: impl Fn(String, i64) -> Intent,
    ) -> Result<(), Refusal> {
        let mut left = ISSUE_TRIES;
        loop {
            left -= 1;
            let lead = self.inner.lead.borrow().clone();
            let lead = lead.ok_or_else(Refusal::no_swarm)?;
            self.follow_root(&lead).await;
            let view = self.view();
            let cluster = view.cluster().filter(|cluster| cluster.id == swarm);
            let cluster = cluster.ok_or_else(Refusal::no_swarm)?;
            let (chain, not_after) = self.sign(&lead, cluster, id, csr)?;
            match self.submit(actor.clone(), intent(chain, not_after)).await {
                Err(refusal) if refusal.reason == Reason::Unavailable && left > 0 => {}
                answer => return answer.map(|_| ()),
            }
        }
    }

    fn sign(
        &self,
        lead: &Lead,
        cluster: &Cluster,
        id: NodeId,
        csr: &[u8],
    ) -> Result<(String, i64), Refusal> {
        if csr.is_empty() {
            return Err(Refusal::invalid("no CSR present in the request"));
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::identity::Identity;
    use crate::ca::root::der_of_pem;
    use crate::domain::node::{IssuanceState, Node};
    use crate::manager::fixture::Fixture;

    const FROM: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

    fn token_of(manager: &Manager) -> String {
        Manager::join_tokens(&manager.view()).worker
    }

    async fn admit(manager: &Manager, token: &str) -> Result<NodeId, Refusal> {
        manager.admit(FROM, token, Fixture::request(), Availability::Active).await
    }

    #[tokio::test]
    async fn a_renewal_ends_what_forced_it() {
        let fixture = Fixture::leading().await;
        let manager = &fixture.manager;
        let id = admit(manager, &token_of(manager)).await.expect("admitted");
        let view = manager.view();
        let mut node = Node::clone(view.node(id).expect("just made"));
        assert_eq!(node.certificate.state, IssuanceState::Issued);
        node.certificate.state = IssuanceState::Rotate;
        let forced = manager.store().write(move |_, _| Ok(vec![node.into()])).await;
        assert!(forced.is_ok());

        let request = Fixture::request();
        manager.renew(id, request.clone()).await.expect("signed");
        let view = manager.view();
        let certificate = &view.node(id).expect("known").certificate;
        assert_eq!(certificate.state, IssuanceState::Issued, "or it would renew for ever");
        assert_eq!(certificate.csr, request);
        let der = der_of_pem(&certificate.chain).expect("a chain");
        let identity = Identity::of_certificate(&der).expect("a member");
        assert_eq!((identity.node, identity.role), (id, NodeRole::Worker));
        assert_eq!(identity.not_after, certificate.not_after);
    }

    #[tokio::test]
    async fn a_node_that_is_not_known_is_not_signed() {
        let fixture = Fixture::leading().await;
        let stranger = NodeId::derive([9; 17]);
        let refused = fixture.manager.renew(stranger, Fixture::request()).await;
        assert_eq!(refused.err().map(|refusal| refusal.reason), Some(Reason::NotFound));
    }

    #[tokio::test]
    async fn the_one_time_token_admits_one_host_as_the_managers_own_node() {
        let fixture = Fixture::leading().await;
        let manager = &fixture.manager;
        let token = manager.make_one_time_token().expect("there is a swarm");
        let bad = manager.admit(FROM, &token, b"nonsense".to_vec(), Availability::Active).await;
        assert_eq!(bad.err().map(|refusal| refusal.reason), Some(Reason::Invalid));
        let own = manager.view().cluster().map(|cluster| cluster.manager);
        let first = admit(manager, &token).await;
        assert_eq!(first.ok(), own, "what failed did not use it up");
        assert!(admit(manager, &token).await.is_err(), "once");
        assert_eq!(manager.view().nodes().len(), 1);

        let stale = manager.make_one_time_token().expect("there is a swarm");
        let token = manager.make_one_time_token().expect("there is a swarm");
        assert!(admit(manager, &stale).await.is_err(), "replaced by the next");
        manager.leave_swarm(Actor::Client(Default::default())).await.expect("it led one");
        fixture.init().await;
        assert!(admit(manager, &token).await.is_err(), "it went with its swarm");
    }
}
