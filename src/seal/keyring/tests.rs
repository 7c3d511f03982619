//! The keyring, tried.

use super::*;

/// The same bytes each time, for a key and for each nonce behind it.
struct Counting;
impl Entropy for Counting {
    fn fill(&self, _: Stream, out: &mut [u8]) {
        let (key, nonces) = out.split_at_mut(out.len().min(KEY_LEN));
        for part in std::iter::once(key).chain(nonces.chunks_mut(NONCE_LEN)) {
            part.iter_mut().zip(7u8..).for_each(|(byte, value)| *byte = value);
        }
    }
}

/// Other bytes each time.
struct Stepping(std::sync::atomic::AtomicU8);
impl Entropy for Stepping {
    fn fill(&self, _: Stream, out: &mut [u8]) {
        out.fill(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    }
}

fn stepping() -> Stepping {
    Stepping(1.into())
}

fn lock(byte: u8) -> UnlockKey {
    UnlockKey::from_bytes([byte; 32])
}

fn ring() -> (Keyring, Vec<KeyRow>) {
    Keyring::make("store", lock(3), 1_780_000_000, &Counting)
}

/// The rows after a change of them.
fn changed(mut rows: Vec<KeyRow>, change: &KeyChange) -> Vec<KeyRow> {
    rows.retain(|row| !change.removes.contains(&row.id));
    rows.retain(|row| change.puts.iter().all(|put| put.id != row.id));
    rows.extend(change.puts.iter().cloned());
    rows
}

fn opened(ring: &Keyring, sealed: &SealedData) -> Result<Vec<u8>, OpenError> {
    let opened = ring.open_payload(PAYLOAD, &sealed.bytes, &sealed.key);
    opened.map(|plain| plain.expose().to_vec())
}

const VALUE: Value<'_> =
    Value { purpose: Purpose::Object, kind: 5, id: "0123456789abcdefghijklmno", version: 9 };
const PAYLOAD: Value<'_> = Value { purpose: Purpose::Payload, version: 1, ..VALUE };

#[test]
fn what_is_sealed_opens_only_as_what_it_is() {
    let (ring, _) = ring();
    let sealed = ring.seal(VALUE, b"plain", &mut Nonces::draw(&Counting));
    let payload = ring.seal_payload(VALUE, b"plain", &Counting);
    assert_eq!(ring.open_value(VALUE, &sealed).map(|s| s.expose().to_vec()), Ok(b"plain".into()));
    let others = [
        Value { purpose: Purpose::Head, ..VALUE },
        Value { kind: 4, ..VALUE },
        Value { id: "other", ..VALUE },
        Value { version: 10, ..VALUE },
    ];
    for other in others {
        assert_eq!(ring.open_value(other, &sealed).err(), Some(OpenError::NotAuthentic));
        let opened = ring.open_payload(other, &payload.bytes, &payload.key);
        assert_eq!(opened.err(), Some(OpenError::NotAuthentic));
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let (ring, _) = ring();
    let sealed = ring.seal(VALUE, b"plain", &mut Nonces::draw(&Counting));
    let payload = ring.seal_payload(PAYLOAD, b"plain", &Counting);
    assert!(opened(&ring, &payload).is_ok());
    for bit in 0..sealed.len() * 8 {
        let mut changed = sealed.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(ring.open_value(VALUE, &changed).is_err(), "bit {bit}");
    }
    for len in 0..sealed.len() {
        assert!(ring.open_value(VALUE, &sealed[..len]).is_err(), "length {len}");
    }
    for bit in 0..payload.key.len() * 8 {
        let mut changed = payload.clone();
        changed.key[bit / 8] ^= 1 << (bit % 8);
        assert!(opened(&ring, &changed).is_err(), "bit {bit} of the key");
    }
}

#[test]
fn a_payload_opens_with_its_own_key_only() {
    let (ring, _) = ring();
    let entropy = stepping();
    let [one, other] = [b"one", b"two"].map(|plain| ring.seal_payload(PAYLOAD, plain, &entropy));
    assert_eq!(opened(&ring, &one), Ok(b"one".to_vec()));
    let mixed = SealedData { key: other.key, bytes: one.bytes };
    assert_eq!(opened(&ring, &mixed), Err(OpenError::WrongKey(KeyId::DATA)));
}

#[test]
fn a_ring_opens_only_with_its_lock_key_and_for_its_store() {
    let (_, rows) = ring();
    assert!(Keyring::open("store", lock(3), &rows).is_ok());
    assert!(Keyring::open("store", lock(4), &rows).is_err());
    assert!(Keyring::open("other", lock(3), &rows).is_err());
    let mut swapped = rows.clone();
    let [one, other, ..] = &mut swapped[..] else { panic!("three keys") };
    std::mem::swap(&mut one.sealed, &mut other.sealed);
    assert!(Keyring::open("store", lock(3), &swapped).is_err());
    let mut older = rows.clone();
    older[0].made_at -= 1;
    assert!(Keyring::open("store", lock(3), &older).is_err(), "its age is authentic");
    for missing in 0..rows.len() {
        let mut rows = rows.clone();
        rows.remove(missing);
        assert!(Keyring::open("store", lock(3), &rows).is_err());
    }
}

#[test]
fn a_rotation_seals_with_new_keys_and_opens_what_was_before() {
    let entropy = stepping();
    let (ring, rows) = Keyring::make("store", lock(3), 100, &entropy);
    let object = ring.seal(VALUE, b"object", &mut Nonces::draw(&entropy));
    let records = ring.seal_audit(1, b"records", &mut Nonces::draw(&entropy));
    let payload = ring.seal_payload(PAYLOAD, b"payload", &entropy);
    assert!(!ring.is_rotating());
    let change = ring.rotate(200, &entropy);
    let rows = changed(rows, &change);
    assert_eq!(rows.len(), 7);
    // As it is, and as it would be after a crash at this point.
    let reopened = Keyring::open("store", lock(3), &rows).expect("the rows of a ring");
    for ring in [&ring, &reopened] {
        assert!(ring.is_rotating());
        assert!(ring.open_value(VALUE, &object).is_ok());
        assert_eq!(opened(ring, &payload), Ok(b"payload".to_vec()));
        let id = Keyring::key_of(&ring.seal(VALUE, b"", &mut Nonces::draw(&entropy)))
            .expect("an envelope");
        assert!(!ring.is_old(id));
        let old = [&object, &payload.key].map(|sealed| Keyring::key_of(sealed).expect("envelopes"));
        assert!(old.iter().all(|id| ring.is_old(*id)));
        let active: Vec<u64> =
            ring.list().iter().filter(|key| key.is_active).map(|key| key.made_at).collect();
        assert_eq!(active, [100, 200, 200, 200], "all but the fingerprint key are new");
    }

    let key = ring.rewrap(PAYLOAD, &payload.key, &entropy).expect("its key opens");
    let change = ring.drop_old();
    assert_eq!(change.removes, [KeyId(1), KeyId(3)]);
    let rows = changed(rows, &change);
    let reopened = Keyring::open("store", lock(3), &rows).expect("the rows of a ring");
    for ring in [&ring, &reopened] {
        assert!(!ring.is_rotating());
        assert!(ring.open_audit(1, &records).is_ok() && ring.open_audit(2, &records).is_err());
        assert_eq!(opened(ring, &payload), Err(OpenError::UnknownKey(KeyId(1))));
        let rewrapped = SealedData { key: key.clone(), ..payload.clone() };
        assert_eq!(opened(ring, &rewrapped), Ok(b"payload".to_vec()));
        assert_eq!(ring.open_value(VALUE, &object).err(), Some(OpenError::UnknownKey(KeyId(3))));
    }
}

#[test]
fn a_change_that_did_not_become_durable_is_taken_back() {
    let entropy = stepping();
    let (ring, _) = Keyring::make("store", lock(3), 100, &entropy);
    let before = ring.list();
    let change = ring.rotate(200, &entropy);
    assert_ne!(ring.list(), before);
    ring.undo(change);
    assert_eq!(ring.list(), before);
}

#[test]
fn a_ring_that_users_lock_opens_with_their_key_only() {
    let entropy = stepping();
    let (ring, rows) = Keyring::make("store", lock(3), 100, &entropy);
    let payload = ring.seal_payload(PAYLOAD, b"payload", &entropy);
    assert!(!Keyring::is_autolocked(&rows) && ring.autolock_key().is_none());
    let change = ring.relock(UnlockKey::autolock([9; 32]), &entropy);
    let rows = changed(rows, &change);
    assert!(Keyring::is_autolocked(&rows) && ring.autolock_key().is_some());
    let locked = Keyring::open("store", lock(3), &rows).err();
    assert!(matches!(locked, Some(KeyringError::Locked)));
    assert!(Keyring::open("store", UnlockKey::autolock([8; 32]), &rows).is_err());
    let ring = Keyring::open("store", UnlockKey::autolock([9; 32]), &rows).expect("its key");
    assert_eq!(opened(&ring, &payload), Ok(b"payload".to_vec()));
    // And back to the key of the operator.
    let rows = changed(rows, &ring.relock(lock(3), &entropy));
    assert!(Keyring::open("store", lock(3), &rows).is_ok());
    assert!(Keyring::open("store", UnlockKey::autolock([9; 32]), &rows).is_err());
}

/// Sealed by the first release. These bytes open for ever.
#[test]
fn the_first_releases_envelopes_open_for_ever() {
    let (ring, rows) = ring();
    assert_eq!(hex(&ring.seal(VALUE, b"plain", &mut Nonces::draw(&Counting))), VECTOR_VALUE);
    assert_eq!(hex(&rows[0].sealed), VECTOR_RING_KEY);
    assert_eq!(hex(&rows[2].sealed), VECTOR_EPOCH_KEY);
    let opened_value = ring.open_value(VALUE, &unhex(VECTOR_VALUE));
    assert_eq!(opened_value.map(|s| s.expose().to_vec()), Ok(b"plain".to_vec()));
    let payload = SealedData { bytes: unhex(VECTOR_PAYLOAD), key: unhex(VECTOR_DATA_KEY) };
    assert_eq!(opened(&ring, &payload), Ok(b"plain".to_vec()));
    let made = ring.seal_payload(PAYLOAD, b"plain", &Counting);
    assert_eq!((hex(&made.bytes), hex(&made.key)), (VECTOR_PAYLOAD.into(), VECTOR_DATA_KEY.into()));
}

const VECTOR_VALUE: &str = "010000000312bd0e4253633707320db6f0a3f2dc8685ba896cbe89f8dc31fc692a57620fa50708090a0b0c0d0e0f101112131415161718191a1b1c1d1e5d0421b03f3c17b17b930d487b240eebf907cfe14e";
const VECTOR_RING_KEY: &str = "01000000008240453900298ae20453d6281cc5d0fde3d79c295ea27568ba8070b5729e1ea80708090a0b0c0d0e0f101112131415161718191a1b1c1d1e58e50d511e218f46c2863bc8b7ce523b707f05bb4cd3dece8a439331a73fa3fe78cddf6453e2875e8cb0c843d31d297c";
const VECTOR_EPOCH_KEY: &str = "0100000001e97d2815c5b42ee641f63fee793ea74abd41ec7bacb5d56a633d6cbf46fbb4690708090a0b0c0d0e0f101112131415161718191a1b1c1d1e2a6049d35a9d735458d7e2a969900a7e4b3871b37b15e52b73c7f7a5f706d4885a91620ea64bdcebc90ded2d1795fd59";
const VECTOR_PAYLOAD: &str = "01fffffffea8dadbfd98ff61d04ae023f446620e226a7963dc3228fee92267ba23d9a4e57d0708090a0b0c0d0e0f101112131415161718191a1b1c1d1e5d0421b03f62c4d05a17f227c3e7fa8f4fba905951";
const VECTOR_DATA_KEY: &str = "0100000001e97d2815c5b42ee641f63fee793ea74abd41ec7bacb5d56a633d6cbf46fbb4690708090a0b0c0d0e0f101112131415161718191a1b1c1d1e2a6049d35a9d735458d7e2a969900a7e4b3871b37b15e52b73c7f7a5f706d48843ac3405e6bfa9bf0c9b21c25daddfb4";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal"))
        .collect()
}

#[test]
fn nonces_go_on_from_a_beginning_that_is_drawn() {
    let mut nonces = Nonces::draw(&Counting);
    let next: Vec<_> = (0..300).map(|_| nonces.next()).collect();
    assert_eq!(next.iter().collect::<std::collections::BTreeSet<_>>().len(), 300);
    assert!(next.iter().all(|nonce| nonce[..16] == next[0][..16]));
    assert_ne!(Nonces::draw(&Stepping(1.into())).next(), next[0]);
}
