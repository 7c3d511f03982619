//! What is denied at this door: counted, and told to the audit, so far as one address does not fill it.

use hyper::HeaderMap;
use tonic::Code;

use super::peer::Peer;
use crate::domain::actor::Actor;
use crate::domain::audit::{Note, Outcome};
use crate::manager::{Manager, Told};

/// The call whose denials are told where they are decided.
const JOIN: &str = "/docker.swarmkit.v1.NodeCA/IssueNodeCertificate";

/// What there is to tell of the answer to a call, if it is one that a well-behaved node does not get.
pub(super) fn of_answer(path: &str, headers: &HeaderMap) -> Option<(Outcome, String)> {
    let code =
        headers.get("grpc-status").map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()));
    let outcome = match code {
        Code::PermissionDenied | Code::Unauthenticated => Outcome::Denied,
        Code::InvalidArgument | Code::OutOfRange if path != JOIN => Outcome::Refused,
        _ => return None,
    };
    let message = headers.get("grpc-message").and_then(|text| text.to_str().ok()).unwrap_or("");
    let message = percent_encoding::percent_decode_str(message).decode_utf8_lossy();
    Some((outcome, format!("{path}: {message}")))
}

/// Tells of something that was denied to a peer.
pub(super) async fn tell(manager: &Manager, peer: &Peer, outcome: Outcome, detail: String) {
    if !manager.count_denial(peer.addr.ip()) {
        return;
    }
    let actor = match &peer.identity {
        Some(identity) => Actor::Node(identity.node),
        None => Actor::Joiner(peer.addr),
    };
    let note = Note::new(actor, "node call").with(format!("from {}: {detail}", peer.addr));
    if let Err(error) = manager.tell(vec![Told { note, outcome }]).await {
        tracing::warn!(%error, "the audit does not tell of what was denied to a node");
    }
}
