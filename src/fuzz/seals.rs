//! Envelopes, certificates and backups: what nobody may forge.

use std::io::{Read as _, Write as _};
use std::sync::OnceLock;

use super::bytes::Bytes;
use super::cluster::{Counting, now};
use crate::ca::identity::{self, Identity as Member};
use crate::ca::issue::Holder;
use crate::ca::root::Root;
use crate::ca::token;
use crate::domain::id::{ClusterId, NodeId};
use crate::domain::node::NodeRole;
use crate::manager::read_backup;
use crate::seal::age::{Identity, Recipient, Sealer};
use crate::seal::envelope::{Nonces, Purpose};
use crate::seal::keyring::{KeyId, KeyRow, Keyring, Value};
use crate::seal::unlock::UnlockKey;

const VALUE: Value<'static> = Value { purpose: Purpose::Object, kind: 3, id: "x", version: 7 };
/// Seconds since 1970.
const MADE_AT: u64 = 1_800_000_000;

/// Envelopes that were not sealed here, and ones of which a byte was changed.
pub fn envelope(data: &[u8]) {
    let entropy = Counting::default();
    let lock = || UnlockKey::from_bytes([7; 32]);
    let (ring, rows) = Keyring::make("store", lock(), MADE_AT, &entropy);
    let _ = Keyring::key_of(data);
    assert!(ring.open_value(VALUE, data).is_err(), "a forged object");
    assert!(ring.open_audit(1, data).is_err(), "forged records");
    assert!(ring.rewrap(VALUE, data, &entropy).is_err(), "a forged key");

    let mut data = Bytes(data);
    let (at, change, which) = (usize::from(data.number()), data.number(), data.number());
    let plain = data.0;
    let mut sealed = ring.seal(VALUE, plain, &mut Nonces::draw(&entropy));
    let opened = ring.open_value(VALUE, &sealed);
    assert!(opened.is_ok_and(|opened| opened.expose() == plain));
    let payload = ring.seal_payload(VALUE, plain, &entropy);
    let at = at % sealed.len();
    sealed[at] ^= change;
    assert_eq!(ring.open_value(VALUE, &sealed).is_ok(), change == 0, "a changed byte passes");
    assert!(ring.open_payload(VALUE, &payload.bytes, plain).is_err(), "a forged key of a payload");
    assert!(ring.open_payload(VALUE, plain, &payload.key).is_err(), "a forged payload");

    let mut rows = rows;
    let row = usize::from(which) % rows.len();
    rows[row] = KeyRow { usage: which, sealed: plain.to_vec(), ..rows[row].clone() };
    assert!(Keyring::open("store", lock(), &rows).is_err(), "a forged key of the ring");
    rows.push(KeyRow { id: KeyId(9), usage: change, made_at: MADE_AT, sealed: Vec::new() });
    assert!(Keyring::open("store", lock(), &rows).is_err(), "a key of the ring that is none");
}

/// Certificates, requests for them, roots and tokens.
pub fn certificate(data: &[u8]) {
    static ROOT: OnceLock<Root> = OnceLock::new();
    let root = ROOT.get_or_init(|| Root::make(now()).expect("randomness"));
    let mut data = Bytes(data);
    let kind = data.number() % 5;
    let text = String::from_utf8_lossy(data.0);
    match kind {
        0 => {
            if let Some(member) = Member::of_certificate(data.0) {
                assert_eq!(member.node.as_str().len(), 25);
            }
        }
        1 => {
            let holder =
                Holder { node: NodeId::LOWEST, role: NodeRole::Worker, cluster: ClusterId::LOWEST };
            let signed = root.sign_request(data.0, holder, now(), HOUR);
            if let Ok(chain) = signed {
                assert!(identity::not_after_of_chain(&chain) > 0, "what was signed can be read");
            }
        }
        2 => {
            identity::not_after_of_chain(&text);
        }
        3 => {
            let (pem, key) = text.split_once('\0').unwrap_or((&text, ""));
            if let Ok(own) = Root::supplied(pem, key, now()) {
                assert!(root.cross_sign(&own).is_ok(), "a root that was taken can be signed");
            }
        }
        _ => {
            let cluster = super::cluster::cluster();
            let role = token::role_of(&cluster, &text);
            let tokens = token::tokens(&cluster);
            let is_token = text == tokens.worker || text == tokens.manager;
            assert_eq!(role.is_some(), is_token);
        }
    }
}

/// An hour in nanoseconds.
const HOUR: i64 = 3_600_000_000_000;

/// A file that is restored from: as it is, and as what somebody who knows the recipient sealed.
pub fn restore(data: &[u8]) {
    let (secret, recipient) = Identity::make(&Counting::default());
    let identity = Identity::parse(&secret).expect("just made");
    assert!(read_backup(data, &identity).is_err(), "a backup that nobody sealed");
    let recipient = Recipient::parse(&recipient).expect("just made");
    let sealed = Sealer::begin(Vec::new(), &recipient, &Counting::default());
    let sealed = sealed.and_then(|mut sealer| {
        sealer.write_all(data)?;
        sealer.finish()
    });
    let sealed = sealed.expect("memory takes everything");
    if let Ok((header, mut copy)) = read_backup(&*sealed, &identity) {
        let _ = header.key();
        let mut rest = Vec::new();
        copy.read_to_end(&mut rest).expect("all of it is there");
        assert!(data.ends_with(&rest), "what follows the header is the copy");
    }
    let text = String::from_utf8_lossy(data);
    let _ = (Recipient::parse(&text).is_ok(), Identity::parse(&text).is_ok());
}
