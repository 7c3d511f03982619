//! Revisions: the values that a secret or config has had under its one name and id, numbered from 1.
//! Users know them as its versions; [`super::meta::Version`] is the index of a write.
//!
//! The first value lies in a row beside its object, as it always did; each later one with an object of
//! its own, so that dropping a revision drops its key. What a task was started with it keeps: it holds
//! the numbers in [`super::task::Task::revisions`], and is given exactly these values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::change::Key;
use super::id::{ConfigId, RevisionId, SecretId};
use super::meta::Meta;
use super::secret::Fingerprint;
use super::service::{Service, ServiceSpec};
use super::time::{Nanoseconds, Timestamp};

/// How long a rollout of new values waits for more of them, and for an update of the service itself: a
/// deployment of several is one rollout.
pub const GATHER_TIME: Nanoseconds = 2_000_000_000;
/// Revisions that are kept besides those in use, unless the operator says otherwise.
pub const REVISIONS_KEPT: usize = 10;
/// Revisions that there may be, in use or not.
pub const REVISIONS_MAX: usize = 100;
/// The label with which a service keeps its revisions until what its tasks are made from changes.
const ROTATE_LABEL: &str = "purser.rotate";
/// What that label says then.
const ROTATE_MANUAL: &str = "manual";

/// Which revision of what is wanted, by ids of secrets and configs. What is not named is the first.
pub type Numbers = BTreeMap<String, u64>;

/// The object that a value after the first lies with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    /// Its id.
    pub id: RevisionId,
    /// Version and times.
    pub meta: Meta,
    /// What it is a value of.
    pub owner: Owner,
    /// Its number.
    pub number: u64,
}

/// Which of the values that nothing uses are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// So many of the newest.
    pub newest: usize,
    /// And all that were the current one within this time.
    pub unused_for: Nanoseconds,
}

impl Default for Keep {
    fn default() -> Self {
        Keep { newest: REVISIONS_KEPT, unused_for: 0 }
    }
}

/// What has values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owner {
    /// A secret.
    Secret(SecretId),
    /// A config.
    Config(ConfigId),
}

impl Owner {
    /// Its key.
    pub fn key(self) -> Key {
        match self {
            Owner::Secret(id) => Key::Secret(id),
            Owner::Config(id) => Key::Config(id),
        }
    }

    const SECRET_PINS: &str = "purser.secret.";
    const CONFIG_PINS: &str = "purser.config.";

    /// The label that has a service keep to one revision of it.
    pub fn pin_label(self, name: &str) -> String {
        let prefix = match self {
            Owner::Secret(_) => Owner::SECRET_PINS,
            Owner::Config(_) => Owner::CONFIG_PINS,
        };
        format!("{prefix}{name}")
    }
}

/// What is known of one value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// Its number.
    pub number: u64,
    /// A keyed hash of it.
    pub fingerprint: Fingerprint,
    /// When it was given.
    pub made_at: Timestamp,
    /// When another one became the current one in its place; absent while it is that, and when it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_at: Option<Timestamp>,
    /// What it lies with; absent for the first, which lies with the secret or config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lies_with: Option<RevisionId>,
}

/// The values of one secret or config.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Revisions {
    /// The one that is given to whoever asks for none.
    pub current: u64,
    /// All that are kept, by number; empty while there is only the first.
    pub known: Vec<Known>,
    /// The highest number that was ever given, also to one that is not kept any more.
    #[serde(default)]
    pub given: u64,
}

impl Default for Revisions {
    fn default() -> Self {
        Revisions { current: 1, known: Vec::new(), given: 1 }
    }
}

impl Revisions {
    /// True while there was never another than the first.
    pub fn is_first(&self) -> bool {
        self.known.is_empty()
    }

    /// Where the value of this number lies; `None` when it is not kept.
    pub fn place(&self, owner: Owner, number: u64) -> Option<Key> {
        if self.known.is_empty() {
            return (number == 1).then(|| owner.key());
        }
        let known = self.known.iter().find(|known| known.number == number)?;
        Some(known.lies_with.map_or_else(|| owner.key(), Key::Revision))
    }

    /// The one that was the current one before the present one.
    pub fn before_current(&self) -> Option<&Known> {
        let others = self.known.iter().filter(|known| known.number != self.current);
        others.max_by_key(|known| (known.left_at, known.number))
    }

    /// The numbers of these that others do not have.
    pub fn without(&self, others: &Revisions) -> Vec<u64> {
        let is_kept = |number| others.known.iter().any(|known| known.number == number);
        let numbers = self.known.iter().map(|known| known.number);
        numbers.filter(|number| !is_kept(*number)).collect()
    }

    /// Makes the value of this number the current one.
    pub fn choose(&mut self, number: u64, now: Timestamp) {
        for known in &mut self.known {
            if known.number == number {
                known.left_at = None;
            } else if known.number == self.current {
                known.left_at = Some(now);
            }
        }
        self.current = number;
    }

    /// Gives a number to the next one. None is given twice.
    pub fn give_number(&mut self) -> u64 {
        self.note_given();
        self.given += 1;
        self.given
    }

    /// Remembers the highest number, before what has it may be dropped.
    pub fn note_given(&mut self) {
        let newest = self.known.last().map_or(1, |known| known.number);
        self.given = self.given.max(newest);
    }
}

/// How a service comes to a new value of something that it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    /// By itself.
    Automatic,
    /// When what its tasks are made from changes, as its label says.
    Manual,
    /// At its next update: a job would run again.
    Job,
    /// When the label is moved that has it keep to one version.
    Pinned,
}

impl Follows {
    /// How this service does.
    pub fn of(service: &Service, owner: Owner, name: &str) -> Follows {
        match () {
            () if service.spec.labels.contains_key(&owner.pin_label(name)) => Follows::Pinned,
            () if service.job_status.is_some() => Follows::Job,
            () if is_manual(&service.spec) => Follows::Manual,
            () => Follows::Automatic,
        }
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Follows::Automatic => "automatic",
            Follows::Manual => "manual",
            Follows::Job => "job",
            Follows::Pinned => "pinned",
        }
    }
}

fn is_manual(spec: &ServiceSpec) -> bool {
    spec.labels.get(ROTATE_LABEL).is_some_and(|how| how == ROTATE_MANUAL)
}

/// True for two specs whose labels say the same of revisions.
pub fn choose_alike(one: &ServiceSpec, other: &ServiceSpec) -> bool {
    let chooses = |label: &str| {
        let pins = [Owner::SECRET_PINS, Owner::CONFIG_PINS];
        label == ROTATE_LABEL || pins.iter().any(|prefix| label.starts_with(prefix))
    };
    let [one, other] =
        [one, other].map(|spec| spec.labels.iter().filter(|(label, _)| chooses(label)));
    one.eq(other)
}

/// The revision of something that these numbers say.
pub fn number_of(numbers: &Numbers, id: &str) -> u64 {
    numbers.get(id).copied().unwrap_or(1)
}
