//! Recording: what the audit tells of each proposal, in the draft of what it tells of.

use super::{Applied, Told, WriteError};
use crate::domain::actor::Actor;
use crate::domain::audit::{Note, Outcome, Record, rollouts_told, values_told};
use crate::domain::meta::Version;
use crate::domain::refusal::Reason;
use crate::domain::time::Timestamp;
use crate::store::draft::Decider;

impl Decider {
    /// The name of what a note is about: as it says, or as it is now.
    pub(super) fn name_of(&self, note: &Note) -> String {
        if !note.name.is_empty() {
            return note.name.clone();
        }
        let object = note.object.and_then(|key| self.view.object(key));
        object.map(|object| object.name().to_owned()).unwrap_or_default()
    }

    /// Puts the record of a request that was decided.
    pub(super) fn conclude(
        &mut self,
        note: Note,
        name: String,
        before: Version,
        applied: &Result<Applied, WriteError>,
    ) {
        let is_changed = self.view.version() != before;
        let (outcome, version, why) = match applied {
            Ok(applied) if is_changed => (Outcome::Done, applied.version.index, String::new()),
            Ok(_) if note.only_if_changed => return,
            Ok(_) => (Outcome::Unchanged, 0, String::new()),
            Err(WriteError::Refused(refusal)) if refusal.reason == Reason::Forbidden => {
                (Outcome::Denied, 0, refusal.message.clone())
            }
            Err(error) => (Outcome::Refused, 0, error.to_string()),
        };
        if !is_changed {
            self.count_up();
        }
        let values =
            || applied.as_ref().map(|applied| values_told(&applied.changed)).unwrap_or_default();
        let detail = [why, note.detail.clone()].into_iter().find(|told| !told.is_empty());
        let detail = detail.unwrap_or_else(values);
        let record = record(&note, self.clock.now(), outcome);
        self.record(Record { name, version, detail, ..record });
    }

    /// Puts the records of what the manager changed by itself and people want to read of.
    pub(super) fn tell_rollouts(&mut self, applied: &Applied) {
        for note in rollouts_told(&applied.changed) {
            let name = self.name_of(&note);
            let record = record(&note, self.clock.now(), Outcome::Done);
            self.record(Record { name, version: applied.version.index, ..record });
        }
    }

    pub(super) fn tell(&mut self, notes: Vec<Told>) -> Applied {
        self.count_up();
        for Told { note, outcome } in notes {
            let name = self.name_of(&note);
            let record = record(&note, self.clock.now(), outcome);
            self.record(Record { name, ..record });
        }
        self.nothing()
    }
}

/// The record of a note, before it is known what it is called and where in the chain it stands.
fn record(note: &Note, at: Timestamp, outcome: Outcome) -> Record {
    let request = match &note.actor {
        Actor::Client(caller) if caller.request() != 0 => format!("{:012x}", caller.request()),
        _ => String::new(),
    };
    let object = note.object.as_ref();
    Record {
        seq: 0,
        prev: String::new(),
        at,
        actor: note.actor.to_string(),
        source: note.actor.source(),
        request,
        verb: note.verb.to_owned(),
        kind: object.map(|key| key.kind().word().to_owned()).unwrap_or_default(),
        id: object.map(|key| key.id().to_owned()).unwrap_or_default(),
        name: String::new(),
        version: 0,
        outcome,
        detail: note.detail.clone(),
        value: note.value.map(|value| value.text()).unwrap_or_default(),
    }
}
