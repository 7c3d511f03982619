//! Sealing: how anything readable becomes a row that nobody can read, and back.
//!
//! ```text
//!   unlock-key file ──▶ UnlockKey ──opens──▶ Keyring (keys by id)
//!                                               │ seal / open
//!                   plain bytes ◀───────────────┴───────────────▶ envelope
//! ```
//!
//! Three layers. [`cipher`] holds the raw primitives and is reachable only from here. [`envelope`]
//! is what everything else uses: it cannot be made without saying what is sealed and for whom
//! ([`envelope::Subject`]), and every envelope names its key and commits to it. [`keyring`] keeps
//! the keys, addressed by id, so that key bytes stay inside this room. [`secret`] is the type that
//! plain secret bytes travel in.
//!
//! Left to others: where rows lie (`store`), and certificates (`ca`), whose private keys are just
//! one more payload here.

pub mod secret;

pub mod age;
mod cipher;
pub mod command;
pub mod envelope;
pub mod hex;
pub mod keyring;
pub mod unlock;
