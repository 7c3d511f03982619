//! Deciding: each write on top of the one before, and what a batch of them leaves behind, sealed.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, RwLock};

use super::codec;
use super::log::{Batch, Row};
use super::rows::{Place, Rows};
use super::write::{Applied, Decision, WriteError};
use crate::domain::change::{Change, Changed, Key, SealedBytes};
use crate::domain::id::Entropy;
use crate::domain::meta::{Stamp, Version};
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::time::Clock;
use crate::domain::view::View;
use crate::seal::keyring::Keyring;

/// Payloads are written once with their object and never changed, so all have one version.
pub(crate) const PAYLOAD_VERSION: u64 = 1;

/// Decides writes and gathers what they change.
pub(super) struct Decider {
    /// As all writes decided so far leave it.
    pub view: View,
    /// The same of the rows.
    pub rows: Arc<RwLock<Rows>>,
    pub keyring: Arc<Keyring>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    /// What was decided since the last [`Decider::take`].
    pub draft: Draft,
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
}

impl Draft {
    /// True when there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.puts.is_empty() && self.removes.is_empty()
    }

    /// About how many bytes there are to write.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn put(&mut self, row: Row) {
        self.bytes += row.sealed.len();
        self.puts.insert(row.row, row);
    }
}

impl Decider {
    /// Decides one write. A decision that panics is refused, and nothing of it stays.
    pub(super) fn decide(&mut self, decide: Decision) -> Result<Applied, WriteError> {
        let version = Version { index: self.view.version().index + 1 };
        let stamp = Stamp { version, now: self.clock.now() };
        let decided = catch_unwind(AssertUnwindSafe(|| decide(&self.view, stamp)));
        let changes = decided.unwrap_or_else(|_| {
            // The panic itself has been printed; the write is the one thing that is lost.
            Err(Refusal::front(Reason::Unknown, "internal error: the request could not be decided"))
        })?;
        if changes.is_empty() {
            return Ok(Applied { version: self.view.version(), changed: Vec::new() });
        }
        let changed = self.view.apply(&changes, stamp);
        changed.iter().for_each(|item| self.place(item));
        for change in changes {
            if let Change::PutPayload(key, sealed) = change {
                self.place_payload(key, sealed);
            }
        }
        self.draft.changed.extend(changed.iter().cloned());
        Ok(Applied { version, changed })
    }

    /// Seals an object as a write leaves it, or takes out one that the write removes.
    fn place(&mut self, item: &Changed) {
        let Decider { rows, keyring, entropy, draft, .. } = self;
        let mut rows = rows.write().expect("no writer of the rows panics");
        let key = item.key;
        let before = rows.place(&key);
        draft.before.push((key, before));
        let Some(object) = &item.new else {
            if let Some(place) = before {
                for row in [place.row, Rows::payload_row(place.row)] {
                    draft.puts.remove(&row);
                    draft.removes.push(row);
                }
            }
            rows.set(keyring, key, None);
            return;
        };
        let row = before.map_or_else(|| rows.next_row(), |place| place.row);
        let payload = before.and_then(|place| place.payload);
        let version = item.version.index;
        let value = codec::object_value(&key, version);
        let sealed = keyring.seal(value, &codec::encode(object), &**entropy).0;
        draft.put(Row::new(row, key, version, sealed));
        rows.set(keyring, key, Some(Place { row, version, payload }));
    }

    /// Puts a payload behind its object, which is there already or of the same write.
    fn place_payload(&mut self, key: Key, sealed: SealedBytes) {
        let Decider { rows, keyring, draft, .. } = self;
        let mut rows = rows.write().expect("no writer of the rows panics");
        // The write may have removed the object again.
        let Some(place) = rows.place(&key) else { return };
        if place.payload.is_none() {
            draft.before.push((key, Some(place)));
            rows.set(keyring, key, Some(Place { payload: Some(PAYLOAD_VERSION), ..place }));
        }
        draft.put(Row::new(Rows::payload_row(place.row), key, PAYLOAD_VERSION, sealed.0));
    }

    /// Ends a draft: what is decided from now on belongs to the next one.
    pub(super) fn take(&mut self) -> Draft {
        std::mem::take(&mut self.draft)
    }

    /// The batch of a draft that was just taken.
    pub(super) fn batch(&self, draft: &mut Draft) -> Batch {
        let version = self.view.version().index;
        let digest = self.rows.read().expect("no writer of the rows panics").digest();
        Batch {
            version,
            puts: std::mem::take(&mut draft.puts).into_values().collect(),
            removes: std::mem::take(&mut draft.removes),
            head: self.keyring.seal(codec::head_value(version), &digest, &*self.entropy).0,
        }
    }

    /// Forgets drafts, the newest first, and goes back to the view before them.
    pub(super) fn undo(&mut self, drafts: impl IntoIterator<Item = Draft>, view: View) {
        let mut rows = self.rows.write().expect("no writer of the rows panics");
        for (key, place) in drafts.into_iter().flat_map(|draft| draft.before.into_iter().rev()) {
            rows.set(&self.keyring, key, place);
        }
        self.view = view;
    }
}
