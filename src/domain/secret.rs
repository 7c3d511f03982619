//! Secrets: a name, labels, and a payload that is never part of any of these types.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use utoipa::ToSchema;

use super::container::Driver;
use super::id::SecretId;
use super::json::is_zero;
use super::meta::Meta;
use super::revision::Revisions;
use super::time::Timestamp;

/// The largest secret payload, in bytes.
pub const SECRET_LEN_MAX: usize = 511_999;

/// A stored secret without its payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Secret {
    /// Its id.
    pub id: SecretId,
    /// Version and times.
    pub meta: Meta,
    /// What its user gave.
    pub spec: SecretSpec,
    /// A keyed hash of the current payload, for comparing without opening it. Never leaves the store.
    pub fingerprint: Fingerprint,
    /// The values that it has had.
    #[serde(default, skip_serializing_if = "Revisions::is_first")]
    pub revisions: Revisions,
    /// How the API shows it, once it was asked for.
    #[serde(skip)]
    pub shown: Shown,
}

impl Secret {
    /// When its newest value was made.
    pub fn newest_value_at(&self) -> Timestamp {
        self.revisions.known.last().map_or(self.meta.created_at, |known| known.made_at)
    }
}

/// The text in which an object is shown, kept beside it: a list of thousands is then copied and not
/// written anew. An object that changes is another one, whose text is not written yet.
#[derive(Debug, Default)]
pub struct Shown(std::sync::OnceLock<Box<[u8]>>);

impl Shown {
    /// The text, written the first time.
    pub fn text(&self, write: impl FnOnce() -> Vec<u8>) -> &[u8] {
        self.0.get_or_init(|| write().into_boxed_slice())
    }
}

impl Clone for Shown {
    fn clone(&self) -> Self {
        Shown::default()
    }
}

impl PartialEq for Shown {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// What a user gives of a secret, but for the payload.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct SecretSpec {
    /// Name, unique ignoring case.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Driver that supplies the payload.
    #[serde(skip_serializing_if = "is_zero")]
    pub driver: Option<Driver>,
    /// Template engine that renders the payload when a task starts.
    #[serde(skip_serializing_if = "is_zero")]
    pub templating: Option<Driver>,
}

/// A keyed hash of a payload. Two payloads of one store are equal when their fingerprints are;
/// without the store's key nothing can be learnt from it. Compare with [`Fingerprint::matches`].
#[derive(Clone, Copy)]
pub struct Fingerprint(pub [u8; 32]);

/// Stored as base64: a third of the length of a list of numbers.
impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = [0; 44];
        let len = STANDARD.encode_slice(self.0, &mut text).map_err(ser::Error::custom)?;
        serializer.serialize_str(std::str::from_utf8(&text[..len]).map_err(ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let bytes = STANDARD.decode(&*text).map_err(de::Error::custom)?;
        bytes.try_into().map(Fingerprint).map_err(|_| de::Error::custom("not 32 bytes"))
    }
}

impl Fingerprint {
    /// The hash as text, as it is stored.
    pub fn text(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// Compares in constant time.
    pub fn matches(&self, other: &Fingerprint) -> bool {
        use subtle::ConstantTimeEq as _;
        self.0.ct_eq(&other.0).into()
    }
}

impl PartialEq for Fingerprint {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other)
    }
}

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fingerprint(…)")
    }
}

/// A secret granted to a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct SecretReference {
    /// The file it becomes.
    pub file: Option<FileTarget>,
    /// Full id of the secret.
    #[serde(rename = "SecretID")]
    pub secret_id: String,
    /// Its name, which must be that of the id.
    pub secret_name: String,
}

/// The file that a secret or config becomes in the container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct FileTarget {
    /// Absolute path, or one below `/run/secrets` (secrets) or `/` (configs).
    #[serde(rename = "Name")]
    pub name: String,
    /// Numeric user id of the file, as text; `0` when empty.
    #[serde(rename = "UID")]
    pub uid: String,
    /// Numeric group id of the file, as text; `0` when empty.
    #[serde(rename = "GID")]
    pub gid: String,
    /// File mode as a decimal number: 0444 is `292`.
    #[serde(rename = "Mode")]
    pub mode: u32,
}
