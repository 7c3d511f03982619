//! Between objects and the bytes that are sealed.

use super::audit::Chain;
use super::rows::DIGEST_LEN;
use crate::domain::change::{Key, Kind, Object};
use crate::seal::envelope::Purpose;
use crate::seal::keyring::Value;

/// What an object row seals, in words the seal understands.
pub(super) fn object_value(key: &Key, version: u64) -> Value<'_> {
    Value { purpose: Purpose::Object, kind: key.kind() as u8, id: key.id(), version }
}

/// What a payload row seals.
pub(super) fn payload_value(key: &Key, version: u64) -> Value<'_> {
    Value { purpose: Purpose::Payload, kind: key.kind() as u8, id: key.id(), version }
}

/// What the head of the store seals.
pub(super) fn head_value(version: u64) -> Value<'static> {
    Value { purpose: Purpose::Head, kind: 0, id: "", version }
}

/// The content of the head: the digest over all rows, and both ends of the audit.
pub(super) fn head(digest: &[u8; DIGEST_LEN], chain: &Chain) -> Vec<u8> {
    [&digest[..], &chain.encode()].concat()
}

/// The digest and the chain that a head has.
pub(super) fn split_head(head: &[u8]) -> Option<([u8; DIGEST_LEN], Chain)> {
    let (digest, chain) = head.split_first_chunk::<DIGEST_LEN>()?;
    Some((*digest, Chain::decode(chain)?))
}

/// Bytes that most objects are shorter than: a buffer that has to grow is copied, and the one before
/// wiped.
const USUAL_LEN: usize = 1024;

/// An object as bytes.
pub(super) fn encode(object: &Object) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(USUAL_LEN);
    let encoded = match object {
        Object::Cluster(object) => serde_json::to_writer(&mut bytes, &**object),
        Object::Node(object) => serde_json::to_writer(&mut bytes, &**object),
        Object::Service(object) => serde_json::to_writer(&mut bytes, &**object),
        Object::Task(object) => serde_json::to_writer(&mut bytes, &**object),
        Object::Secret(object) => serde_json::to_writer(&mut bytes, &**object),
        Object::Config(object) => serde_json::to_writer(&mut bytes, &**object),
        Object::Network(object) => serde_json::to_writer(&mut bytes, &**object),
        Object::Revision(object) => serde_json::to_writer(&mut bytes, &**object),
    };
    encoded.expect("objects are maps of texts and numbers, which always encode");
    bytes
}

/// An object from its bytes.
pub(super) fn decode(kind: Kind, bytes: &[u8]) -> Result<Object, serde_json::Error> {
    Ok(match kind {
        Kind::Cluster => Object::Cluster(serde_json::from_slice(bytes)?),
        Kind::Node => Object::Node(serde_json::from_slice(bytes)?),
        Kind::Service => Object::Service(serde_json::from_slice(bytes)?),
        Kind::Task => Object::Task(serde_json::from_slice(bytes)?),
        Kind::Secret => Object::Secret(serde_json::from_slice(bytes)?),
        Kind::Config => Object::Config(serde_json::from_slice(bytes)?),
        Kind::Network => Object::Network(serde_json::from_slice(bytes)?),
        Kind::Revision => Object::Revision(serde_json::from_slice(bytes)?),
    })
}
