//! What every stored object carries: its version and its times.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::json::is_zero;
use super::time::Timestamp;

/// The cluster-wide index of the write that last touched an object. Written as `{"Index":18}`, and
/// as `{}` when zero. Comparable for equality; gaps are normal.
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

/// Version and times of an object. The store stamps them; no planner sets them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The write that last touched the object.
    pub version: Version,
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
        Meta { version: stamp.version, created_at: stamp.now, updated_at: stamp.now }
    }

    /// The meta of the same object after this write.
    pub fn touched(self, stamp: Stamp) -> Meta {
        Meta { version: stamp.version, updated_at: stamp.now, ..self }
    }
}
