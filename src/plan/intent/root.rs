//! The root certificate: how a new one takes the place of the one before.
//!
//! ```text
//!   begin    all that is issued is signed with the new key, and carries the new root signed by the old
//!            one; every node is told to renew its certificate
//!   finish   once every node says that its certificate is of the new root, the new root is what nodes
//!            are given to trust, and what join tokens are made of
//! ```
//!
//! A node that is away is waited for, so that it finds its way back; one that will not come back has
//! to be removed.

use crate::domain::change::{Change, Key};
use crate::domain::cluster::Cluster;
use crate::domain::intent::NewRoot;
use crate::domain::node::{IssuanceState, Node, NodeDescription, TlsInfo};
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::view::View;

/// The refusal of a second rotation at once.
pub fn under_way() -> Refusal {
    Refusal::store(
        Reason::Precondition,
        "a rotation of the root certificate is under way; it ends once every node has a certificate \
         of the new root, or is removed",
    )
}

/// The writes with which a rotation begins.
pub(super) fn begin(view: &View, mut cluster: Cluster, new: NewRoot) -> Vec<Change> {
    // Trusted still is the old one, and issued is by the new one.
    let shown = TlsInfo { trust_root: cluster.root_ca.clone(), ..new.rotation.tls_info.clone() };
    let (manager, key) = (cluster.manager, Key::Cluster(cluster.id));
    cluster.root_rotation = Some(new.rotation);
    let mut changes = vec![cluster.into(), Change::PutPayload(key, new.signing_key)];
    for node in view.nodes() {
        let mut node = Node::clone(node);
        if node.certificate.csr.is_empty() {
            if node.id == manager {
                changes.push(with_tls_info(node, shown.clone()).into());
            }
            continue;
        }
        node.certificate.state = IssuanceState::Rotate;
        changes.push(node.into());
    }
    changes
}

/// The writes with which it ends, if every node is ready for that.
pub(super) fn finish(view: &View) -> Vec<Change> {
    let Some(cluster) = view.cluster().filter(|_| is_ready(view)) else { return Vec::new() };
    let mut cluster = Cluster::clone(cluster);
    let Some(rotation) = cluster.root_rotation.take() else { return Vec::new() };
    cluster.root_ca = rotation.root_ca;
    cluster.cross_signed = rotation.cross_signed;
    cluster.tls_info = rotation.tls_info;
    let own = view.node(cluster.manager).filter(|node| node.certificate.csr.is_empty());
    let own = own.map(|node| with_tls_info(Node::clone(node), cluster.tls_info.clone()).into());
    std::iter::once(cluster.into()).chain(own).collect()
}

/// True while a root is on its way and every node has a certificate that it signed.
pub fn is_ready(view: &View) -> bool {
    let rotation = view.cluster().and_then(|cluster| cluster.root_rotation.as_ref());
    let Some(rotation) = rotation else { return false };
    let key = &rotation.tls_info.cert_issuer_public_key;
    view.nodes().all(|node| {
        let known = node.description.as_ref().map(|known| &known.tls_info.cert_issuer_public_key);
        known == Some(key)
    })
}

/// The manager's own node, while no engine speaks for it.
fn with_tls_info(node: Node, tls_info: TlsInfo) -> Node {
    let description = node.description.clone().unwrap_or_default();
    Node { description: Some(NodeDescription { tls_info, ..description }), ..node }
}
