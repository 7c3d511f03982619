//! Deciding: each write on top of the one before, and what a batch of them leaves behind, sealed.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, RwLock};

use super::audit::{AuditRow, Chain};
use super::codec;
use super::log::{Batch, Row};
use super::rows::{Payload, Place, Rows};
use super::write::{Applied, Decision, WriteError};
use crate::domain::audit::Record;
use crate::domain::change::{Change, Changed, Key, Object, SealedData};
use crate::domain::id::Entropy;
use crate::domain::meta::{Stamp, Version};
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::time::Clock;
use crate::domain::view::View;
use crate::seal::envelope::{Nonces, OpenError};
use crate::seal::keyring::{KeyChange, KeyId, KeyRow, Keyring};

/// Payloads are written once with their object and never changed, so all have one version. A secret's
/// next value lies with an object of its own.
pub(crate) const PAYLOAD_VERSION: u64 = 1;

/// What a write leaves of payloads, by their objects: the last that it says of each. `None`: nothing.
type Payloads = BTreeMap<Key, Option<SealedData>>;

/// The payload that came with an object, for the last of its changes within a write: one before that may
/// be of an object that the write removes again.
fn payload_of(item: &Changed, later: &[Changed], payloads: &mut Payloads) -> Option<SealedData> {
    let sealed = payloads.get(&item.key)?;
    if sealed.is_none() || later.iter().any(|later| later.key == item.key) {
        return None;
    }
    payloads.remove(&item.key).flatten()
}

/// Decides writes and gathers what they change.
pub(super) struct Decider {
    /// As all writes decided so far leave it.
    pub view: View,
    /// The same of the rows.
    pub rows: Arc<RwLock<Rows>>,
    pub keyring: Arc<Keyring>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    /// Both ends of the audit.
    pub chain: Chain,
    /// What was decided since the last [`Decider::take`].
    pub draft: Draft,
    /// What seals the batch that grows, once it has anything.
    pub nonces: Option<Nonces>,
}

/// What a batch leaves behind: of an object that several of its writes touch, the last.
#[derive(Default)]
pub(super) struct Draft {
    /// Every change, in the order of their versions.
    pub changed: Vec<Changed>,
    puts: BTreeMap<i64, Row>,
    removes: Vec<i64>,
    /// Sealed bytes that were put.
    bytes: usize,
    /// Where each touched object lay before, in the order of the touches.
    before: Vec<(Key, Option<Place>)>,
    /// Lines of records, the number of the first, and the chain before them.
    audit: Option<(Vec<u8>, Chain)>,
    /// Records before this one are dropped; 0 for none.
    audit_from: u64,
    /// Changes of the ring, in their order.
    pub(super) key_changes: Vec<KeyChange>,
}

impl Draft {
    /// True when there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.puts.is_empty()
            && self.removes.is_empty()
            && self.key_changes.is_empty()
            && self.audit.is_none()
            && self.audit_from == 0
    }

    /// About how many bytes there are to write.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn put(&mut self, row: Row) {
        self.bytes += row.sealed.len();
        self.puts.insert(row.row, row);
    }

    /// Puts a payload behind the object that lies in `row`, which has to be put with what is answered.
    fn put_payload(&mut self, row: i64, key: Key, sealed: SealedData) -> Payload {
        self.put(Row::new(Rows::payload_row(row), key, PAYLOAD_VERSION, sealed.bytes));
        Payload { version: PAYLOAD_VERSION, key: sealed.key.into() }
    }
}

impl Decider {
    /// Decides one write. A decision that panics is refused, and nothing of it stays.
    pub(super) fn decide(&mut self, decide: Decision) -> Result<Applied, WriteError> {
        let version = Version { index: self.view.version().index + 1 };
        let stamp = Stamp { version, now: self.clock.now() };
        let decided = catch_unwind(AssertUnwindSafe(|| decide(&self.view, stamp)));
        let mut changes = decided.unwrap_or_else(|_| {
            // The panic itself has been printed; the write is the one thing that is lost.
            Err(Refusal::front(Reason::Unknown, "internal error: the request could not be decided"))
        })?;
        if changes.is_empty() {
            return Ok(self.nothing());
        }
        self.renew_keys(&mut changes)?;
        let changed = self.view.apply(&changes, stamp);
        let mut payloads = Payloads::new();
        for change in changes {
            match change {
                Change::PutPayload(key, sealed) => payloads.insert(key, Some(sealed)),
                Change::DropPayload(key) => payloads.insert(key, None),
                Change::Put(_) | Change::Remove(_) => None,
            };
        }
        for (at, item) in changed.iter().enumerate() {
            let payload = payload_of(item, &changed[at + 1..], &mut payloads);
            self.place(item, payload);
        }
        for (key, payload) in payloads {
            match payload {
                Some(sealed) => self.place_payload(key, sealed),
                None => self.drop_payload(key),
            }
        }
        self.draft.changed.extend(changed.iter().cloned());
        Ok(Applied { version, changed, resealed: 0 })
    }

    /// A payload that was sealed before a rotation, and comes after it, gets its key sealed anew.
    fn renew_keys(&self, changes: &mut [Change]) -> Result<(), WriteError> {
        for change in changes {
            let Change::PutPayload(key, sealed) = change else { continue };
            if Keyring::key_of(&sealed.key).is_ok_and(|id| !self.keyring.is_old(id)) {
                continue;
            }
            let value = codec::payload_value(key, PAYLOAD_VERSION);
            let renewed = self.keyring.rewrap(value, &sealed.key, &*self.entropy);
            sealed.key = renewed.map_err(|_| {
                Refusal::front(Reason::Unknown, "the keys were rotated meanwhile; try again")
            })?;
        }
        Ok(())
    }

    /// Seals an object as a write leaves it, with the payload that came with it, or takes out one that
    /// the write removes.
    fn place(&mut self, item: &Changed, payload: Option<SealedData>) {
        let rows = self.rows.clone();
        let mut rows = rows.write().expect("no writer of the rows panics");
        let key = item.key;
        let before = rows.place(&key);
        if let Some(object) = &item.new {
            let row = before.as_ref().map_or_else(|| rows.next_row(), |place| place.row);
            let payload = match payload {
                Some(sealed) => Some(self.draft.put_payload(row, key, sealed)),
                None => before.and_then(|place| place.payload),
            };
            self.put_object(&mut rows, object, row, item.version.index, payload);
            return;
        }
        if let Some(place) = &before {
            for row in [place.row, Rows::payload_row(place.row)] {
                self.draft.puts.remove(&row);
                self.draft.removes.push(row);
            }
        }
        self.draft.before.push((key, before));
        rows.set(&self.keyring, key, None);
    }

    /// Puts a payload behind its object, which is there already.
    fn place_payload(&mut self, key: Key, sealed: SealedData) {
        let rows = self.rows.clone();
        let mut rows = rows.write().expect("no writer of the rows panics");
        // The write may have removed the object again.
        let (Some(place), Some(object)) = (rows.place(&key), self.view.object(key)) else { return };
        let payload = self.draft.put_payload(place.row, key, sealed);
        self.put_object(&mut rows, &object, place.row, place.version, Some(payload));
    }

    /// Takes the payload of an object away, and its key.
    fn drop_payload(&mut self, key: Key) {
        let rows = self.rows.clone();
        let mut rows = rows.write().expect("no writer of the rows panics");
        let (Some(place), Some(object)) = (rows.place(&key), self.view.object(key)) else { return };
        self.put_object(&mut rows, &object, place.row, place.version, None);
        let row = Rows::payload_row(place.row);
        self.draft.puts.remove(&row);
        self.draft.removes.push(row);
    }

    /// Seals an object into its row, with the key of its payload beside it.
    fn put_object(
        &mut self,
        rows: &mut Rows,
        object: &Object,
        row: i64,
        version: u64,
        payload: Option<Payload>,
    ) {
        let Decider { keyring, entropy, draft, nonces, .. } = self;
        let nonces = nonces.get_or_insert_with(|| Nonces::draw(&**entropy));
        let key = object.key();
        let value = codec::object_value(&key, version);
        let sealed = keyring.seal(value, &codec::encode(object), nonces);
        let mut put = Row::new(row, key, version, sealed);
        put.data_key = payload.as_ref().map(|payload| payload.key.clone());
        let epoch = KeyId(put.key_id);
        draft.before.push((key, rows.place(&key)));
        draft.put(put);
        rows.set(keyring, key, Some(Place { row, version, epoch, payload }));
    }

    /// Writes an index that changes no object, for what becomes durable beside objects.
    pub(super) fn count_up(&mut self) {
        let version = Version { index: self.view.version().index + 1 };
        self.view.load_version(version);
    }

    /// Changes the ring. What is sealed from now on is sealed as the change says.
    pub(super) fn change_keys(&mut self, change: impl FnOnce(&Keyring) -> KeyChange) {
        self.count_up();
        self.draft.key_changes.push(change(&self.keyring));
    }

    /// Seals some of what needs keys from before a rotation with the newest ones; no payload is
    /// touched. Answers how many objects that were.
    ///
    /// # Errors
    /// The key of a payload does not open.
    pub(super) fn reseal(&mut self, count_max: usize) -> Result<usize, OpenError> {
        let rows = self.rows.clone();
        let mut rows = rows.write().expect("no writer of the rows panics");
        let old = rows.old(&self.keyring, count_max);
        for key in &old {
            let (Some(place), Some(object)) = (rows.place(key), self.view.object(*key)) else {
                continue;
            };
            let rewrap = |payload: Payload| {
                let value = codec::payload_value(key, payload.version);
                let key = self.keyring.rewrap(value, &payload.key, &*self.entropy)?;
                Ok(Payload { key: key.into(), ..payload })
            };
            let payload = place.payload.map(rewrap).transpose()?;
            self.put_object(&mut rows, &object, place.row, place.version, payload);
        }
        if !old.is_empty() {
            self.count_up();
        }
        Ok(old.len())
    }

    /// Puts a record behind the last one.
    pub(super) fn record(&mut self, record: Record) {
        let before = self.chain;
        let line = self.chain.push(record.bounded());
        let (lines, _) = self.draft.audit.get_or_insert_with(|| (Vec::new(), before));
        self.draft.bytes += line.len() + 1;
        lines.extend_from_slice(&line);
        lines.push(b'\n');
    }

    /// Drops the records before this one, which names the anchor as the hash of the one before it.
    pub(super) fn trim_audit(&mut self, from: u64, anchor: [u8; 32]) {
        let before = self.chain;
        if from <= before.first || from > before.last {
            return;
        }
        self.count_up();
        self.draft.audit.get_or_insert_with(|| (Vec::new(), before));
        self.chain.first = from;
        self.chain.anchor = anchor;
        self.draft.audit_from = from;
    }

    /// Ends a draft: what is decided from now on belongs to the next one.
    pub(super) fn take(&mut self) -> Draft {
        std::mem::take(&mut self.draft)
    }

    /// The batch of a draft that was just taken.
    pub(super) fn batch(&mut self, draft: &mut Draft) -> Batch {
        let mut nonces = self.nonces.take().unwrap_or_else(|| Nonces::draw(&*self.entropy));
        let version = self.view.version().index;
        let digest = self.rows.read().expect("no writer of the rows panics").digest();
        let mut key_puts: BTreeMap<KeyId, KeyRow> = BTreeMap::new();
        let mut key_removes = Vec::new();
        for change in &draft.key_changes {
            key_puts.extend(change.puts.iter().map(|row| (row.id, row.clone())));
            key_puts.retain(|id, _| !change.removes.contains(id));
            key_removes.extend_from_slice(&change.removes);
        }
        let lines = draft.audit.as_ref().filter(|(lines, _)| !lines.is_empty());
        if let Some((lines, before)) = lines {
            let first = before.last + 1;
            let sealed = self.keyring.seal_audit(first, lines, &mut nonces);
            let mut rows = self.rows.write().expect("no writer of the rows panics");
            let row = rows.next_row();
            rows.note_audit(first, row);
            draft.puts.insert(row, Row::of_audit(row, AuditRow { first, sealed }));
        }
        if draft.audit_from > 0 {
            let mut rows = self.rows.write().expect("no writer of the rows panics");
            rows.trim_audit(draft.audit_from);
        }
        let head = codec::head(&digest, &self.chain);
        Batch {
            version,
            audit_from: draft.audit_from,
            key_puts: key_puts.into_values().collect(),
            key_removes,
            puts: std::mem::take(&mut draft.puts).into_values().collect(),
            removes: std::mem::take(&mut draft.removes),
            head: self.keyring.seal(codec::head_value(version), &head, &mut nonces),
        }
    }

    /// Forgets drafts, the newest first, and goes back to the view before them.
    pub(super) fn undo(&mut self, drafts: impl IntoIterator<Item = Draft>, view: View) {
        let mut rows = self.rows.write().expect("no writer of the rows panics");
        for draft in drafts {
            for (key, place) in draft.before.into_iter().rev() {
                rows.set(&self.keyring, key, place);
            }
            if let Some((_, chain)) = draft.audit {
                self.chain = chain;
            }
            for change in draft.key_changes.into_iter().rev() {
                self.keyring.undo(change);
            }
        }
        // What was drawn is not kept until another write comes.
        self.nonces = None;
        self.view = view;
    }
}
