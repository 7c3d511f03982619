//! The certificate authority: who is a member, and in which role.
//!
//! One self-signed root per cluster. Every member's certificate says which cluster (`O`), which
//! role (`OU`) and which node (`CN`) it is; nothing else identifies a node. A host becomes a member
//! by presenting a join token, whose first part is the digest of the root (so that the host knows
//! whom it talks to) and whose second part is a secret (so that we know it was invited).
//!
//! Left to others: where the signing key rests (it is a payload of the store, sealed), who may be
//! signed when (`manager`), and the protocol that carries it (`dispatcher`).

pub mod identity;
pub mod issue;
pub mod root;
pub mod tls;
pub mod token;
