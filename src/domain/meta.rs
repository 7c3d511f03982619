//! What every stored object carries: its version and its times.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::json::is_zero;
use super::refusal::Refusal;
use super::time::Timestamp;

/// The cluster-wide index of a write. Written as `{"Index":18}`, and
/// as `{}` when zero. Gaps are normal.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
)]
#[serde(rename_all = "PascalCase", default)]
pub struct Version {
    /// The index; one step a write.
    #[serde(skip_serializing_if = "is_zero")]
    pub index: u64,
}

/// Versions and times of an object. The store stamps them; a planner says no more than
/// [`Meta::edited`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredMeta")]
pub struct Meta {
    /// The write that last touched the object.
    pub version: Version,
    /// The last write that changed what clients may change of it; zero in a change that does.
    pub edited_in: Version,
    /// When the object was made.
    pub created_at: Timestamp,
    /// When it was last written, by whomever.
    pub updated_at: Timestamp,
}

/// What a write gives to all objects it touches.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    /// The index of this write.
    pub version: Version,
    /// The moment of this write.
    pub now: Timestamp,
}

impl Meta {
    /// The meta of an object that this write makes.
    pub fn made(stamp: Stamp) -> Meta {
        let version = stamp.version;
        Meta { version, edited_in: version, created_at: stamp.now, updated_at: stamp.now }
    }

    /// The meta of the same object after this write, which may have changed what clients may change.
    pub fn touched(self, stamp: Stamp, is_edit: bool) -> Meta {
        let edited_in = if is_edit { stamp.version } else { self.edited_in };
        Meta { version: stamp.version, edited_in, updated_at: stamp.now, ..self }
    }

    /// Marks a change of what clients may change: an update that knows only what was before is refused
    /// from then on.
    pub fn edited(self) -> Meta {
        Meta { edited_in: Version::default(), ..self }
    }

    /// Refuses an update by a client that does not know the last change of what it may change. What a
    /// manager wrote since then, as the state of a rollout, it need not know.
    ///
    /// # Errors
    /// The version is from before that change, or is none that the object has had.
    pub fn check_known(&self, known: Version) -> Result<(), Refusal> {
        match (self.edited_in..=self.version).contains(&known) {
            true => Ok(()),
            false => Err(Refusal::out_of_sequence()),
        }
    }
}

/// A meta as it lies in the store. Before there was `edited_in`, every write counted as one.
#[derive(Deserialize)]
struct StoredMeta {
    version: Version,
    #[serde(default)]
    edited_in: Option<Version>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<StoredMeta> for Meta {
    fn from(stored: StoredMeta) -> Meta {
        let StoredMeta { version, edited_in, created_at, updated_at } = stored;
        Meta { version, edited_in: edited_in.unwrap_or(version), created_at, updated_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written_in(index: u64) -> Stamp {
        Stamp { version: Version { index }, now: Timestamp::ZERO }
    }

    #[test]
    fn an_update_may_know_any_version_since_the_last_edit() {
        let meta = Meta::made(written_in(3)).touched(written_in(5), true);
        let meta = meta.touched(written_in(7), false).touched(written_in(9), false);
        let known = |index| meta.check_known(Version { index }).is_ok();
        assert_eq!((0..12).filter(|index| known(*index)).collect::<Vec<_>>(), [5, 6, 7, 8, 9]);
    }

    #[test]
    fn a_meta_from_before_edits_were_kept_apart_knows_its_last_write_only() {
        let time = "\"2026-01-02T03:04:05Z\"";
        let text =
            format!(r#"{{"version":{{"Index":7}},"created_at":{time},"updated_at":{time}}}"#);
        let meta: Meta = serde_json::from_str(&text).expect("JSON");
        assert_eq!(meta.edited_in, Version { index: 7 });
        let again: Meta = serde_json::from_str(
            &serde_json::to_string(&meta.touched(written_in(9), false)).expect("JSON"),
        )
        .expect("JSON");
        assert_eq!(again.edited_in, Version { index: 7 });
    }
}
