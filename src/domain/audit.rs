//! The audit: what was asked for, by whom, and how it came out.
//!
//! Records are lines of JSON. Each names the hash of the line before it, so that none can be taken
//! out, changed or moved without all that follow it showing that; the store keeps the hash of the
//! last one sealed. They hold no value of a secret or config, only its keyed hash.

use serde::{Deserialize, Serialize};

use super::actor::Actor;
use super::change::{Changed, Key, Object};
use super::json::is_zero;
use super::secret::Fingerprint;
use super::time::Timestamp;

/// What is noted of a request before it is decided.
#[derive(Debug, Clone)]
pub struct Note {
    /// Who asks.
    pub actor: Actor,
    /// For what, in the words of its intent.
    pub verb: &'static str,
    /// The object that it is about, if it is about one.
    pub object: Option<Key>,
    /// Its name, when the request gives it one.
    pub name: String,
    /// Keyed hash of the value that came with it.
    pub value: Option<Fingerprint>,
    /// What else there is to say.
    pub detail: String,
    /// True for what is no news unless it changes something.
    pub only_if_changed: bool,
}

impl Note {
    /// A note about nothing in particular.
    pub fn new(actor: Actor, verb: &'static str) -> Note {
        Note {
            actor,
            verb,
            object: None,
            name: String::new(),
            value: None,
            detail: String::new(),
            only_if_changed: false,
        }
    }

    /// The same about an object.
    pub fn about(mut self, key: Key) -> Note {
        self.object = Some(key);
        self
    }

    /// The same with more to say.
    pub fn with(mut self, detail: impl Into<String>) -> Note {
        self.detail = detail.into();
        self
    }
}

/// What is told of the values of a secret or config that a write changed: which version is the current one
/// now, and which were dropped. Nothing when none of that is so.
pub fn values_told(changed: &[Changed]) -> String {
    let mut told = Vec::new();
    for item in changed {
        let [old, new] = [&item.old, &item.new].map(|object| match object {
            Some(Object::Secret(secret)) => Some(&secret.revisions),
            Some(Object::Config(config)) => Some(&config.revisions),
            _ => None,
        });
        let (Some(old), Some(new)) = (old, new) else { continue };
        if old.current != new.current {
            told.push(format!("version {}", new.current));
        }
        told.extend(old.without(new).iter().map(|number| format!("version {number} dropped")));
    }
    told.join(", ")
}

/// What is told of services whose rollouts began, turned back, stopped or ended by a write of the manager's.
pub fn rollouts_told(changed: &[Changed]) -> impl Iterator<Item = Note> {
    changed.iter().filter_map(|item| {
        let (Some(Object::Service(old)), Some(Object::Service(new))) = (&item.old, &item.new)
        else {
            return None;
        };
        let status = new.update_status.as_ref()?;
        let before = old.update_status.as_ref().map(|status| status.state);
        let note = Note::new(Actor::Manager, "service rollout").about(item.key);
        let told = format!("{}: {}", status.state, status.message);
        (before != Some(status.state)).then(|| note.with(told))
    })
}

/// How a request came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was granted, and there was nothing to do.
    Unchanged,
    /// It was refused: it does not fit the state of things, or is wrong in itself.
    Refused,
    /// Who asked may not ask for it.
    Denied,
    /// It could not be carried out.
    Failed,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its number; the first of a store is 1.
    pub seq: u64,
    /// SHA-256 of the line before, in hexadecimal digits; zeros before the first.
    pub prev: String,
    /// When it was decided.
    pub at: Timestamp,
    /// Who asked.
    pub actor: String,
    /// Where the request came from.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub source: String,
    /// Which request, as in the log.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub request: String,
    /// For what.
    pub verb: String,
    /// Kind of the object.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub kind: String,
    /// Its id.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub id: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub name: String,
    /// Index of the write that did it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub version: u64,
    /// How it came out.
    pub outcome: Outcome,
    /// Why it was not done, or what else there is to say.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub detail: String,
    /// Keyed hash of the value that came with it, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub value: String,
}

/// Most bytes of a text in a record: more than any name that an object can have, and enough to say why
/// something was refused. Who may do nothing can have as many recorded as the limits of the API let it.
const TEXT_LEN_MAX: usize = 512;

/// A text within a bound, cut where a character begins.
pub fn cut(text: String, len_max: usize) -> String {
    if text.len() <= len_max {
        return text;
    }
    let mark = "…";
    let end = text.floor_char_boundary(len_max.saturating_sub(mark.len()));
    text[..end].to_owned() + mark
}

impl Record {
    /// The same with each text within its bound.
    pub fn bounded(self) -> Record {
        let cut = |text| cut(text, TEXT_LEN_MAX);
        Record {
            actor: cut(self.actor),
            source: cut(self.source),
            name: cut(self.name),
            detail: cut(self.detail),
            ..self
        }
    }

    /// True for a record about this object, by its id, the beginning of it, or its name.
    pub fn is_about(&self, object: &str) -> bool {
        !object.is_empty() && (self.name == object || self.id.starts_with(object))
    }
}
