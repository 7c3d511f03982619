//! Object ids: 25 characters of `[0-9a-z]`, made from 17 random bytes.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Characters in an id.
pub const ID_LEN: usize = 25;

/// Random bytes drawn for one id; 136 bits, a little more than 25 base-36 digits can hold, so that
/// every digit is evenly spread.
pub const ID_ENTROPY_LEN: usize = 17;

/// So many numbers have five digits.
const FIVE_DIGITS: u64 = 36 * 36 * 36 * 36 * 36;

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// The id of one object. The parameter says which kind, so that a node's id cannot stand where a
/// task's is expected.
pub struct Id<K> {
    text: [u8; ID_LEN],
    kind: PhantomData<fn() -> K>,
}

/// Which random stream an id is drawn from. Streams are apart so that, in a seeded test, one more
/// task leaves all other ids unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Cluster ids.
    Cluster,
    /// Node ids.
    Node,
    /// Service ids.
    Service,
    /// Task ids.
    Task,
    /// Secret ids.
    Secret,
    /// Session ids of node agents.
    Session,
    /// Request ids, names of the day, heartbeat spread: whatever names nothing durable.
    Other,
    /// Keys, nonces and tokens.
    Key,
    /// Config ids.
    Config,
    /// Ids of subscriptions to logs.
    Subscription,
    /// Network ids.
    Network,
    /// Ids of revisions.
    Revision,
}

/// A source of random bytes. Production passes the system's, tests a seeded one.
pub trait Entropy: Send + Sync {
    /// Fills `out` with random bytes of the stream.
    fn fill(&self, stream: Stream, out: &mut [u8]);
}

/// A kind of object that ids name.
pub trait Named: 'static {
    /// The stream that ids of this kind are drawn from.
    const STREAM: Stream;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident, $id:ident, $stream:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $kind {}
        impl Named for $kind { const STREAM: Stream = Stream::$stream; }
        #[doc = concat!("The id of a ", stringify!($stream), ".")]
        pub type $id = Id<$kind>;
    )*};
}

kinds! {
    /// Marks cluster ids.
    ClusterKind, ClusterId, Cluster;
    /// Marks node ids.
    NodeKind, NodeId, Node;
    /// Marks service ids.
    ServiceKind, ServiceId, Service;
    /// Marks task ids.
    TaskKind, TaskId, Task;
    /// Marks secret ids.
    SecretKind, SecretId, Secret;
    /// Marks config ids.
    ConfigKind, ConfigId, Config;
    /// Marks agent session ids.
    SessionKind, SessionId, Session;
    /// Marks ids of subscriptions to logs.
    SubscriptionKind, SubscriptionId, Subscription;
    /// Marks network ids.
    NetworkKind, NetworkId, Network;
    /// Marks ids of revisions of secrets and configs.
    RevisionKind, RevisionId, Revision;
}

impl<K: Named> Id<K> {
    /// Draws a new id.
    pub fn make(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0; ID_ENTROPY_LEN];
        entropy.fill(K::STREAM, &mut bytes);
        Self::derive(bytes)
    }
}

impl<K> Id<K> {
    /// The id that these random bytes stand for: their value in base 36, its 25 lowest digits.
    pub fn derive(bytes: [u8; ID_ENTROPY_LEN]) -> Self {
        let mut text = [0; ID_LEN];
        base36(&bytes, &mut text);
        Self { text, kind: PhantomData }
    }

    /// An id that no other comes before.
    pub const LOWEST: Self = Self { text: [b'0'; ID_LEN], kind: PhantomData };

    /// The lowest id that can start with `prefix`; `None` when no id can.
    pub fn lowest_with(prefix: &str) -> Option<Self> {
        let mut lowest = Self::LOWEST;
        let fits = !prefix.is_empty()
            && prefix.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
        lowest.text.get_mut(..prefix.len()).filter(|_| fits)?.copy_from_slice(prefix.as_bytes());
        Some(lowest)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text).expect("an id is made of ASCII digits and letters only")
    }
}

/// Writes the lowest `out.len()` base-36 digits of the big-endian number `bytes`, left-padded with
/// zeros.
pub fn base36(bytes: &[u8], out: &mut [u8]) {
    // Four bytes at a time, the highest first.
    let mut number: Vec<u32> = bytes
        .rchunks(4)
        .rev()
        .map(|chunk| chunk.iter().fold(0, |sum, byte| (sum << 8) | u32::from(*byte)))
        .collect();
    // Five digits at a time, the lowest first: a limb holds them, and an id is a few times as many.
    for digits in out.rchunks_mut(5) {
        let mut rest = 0u64;
        for limb in &mut number {
            let value = (rest << 32) | u64::from(*limb);
            *limb = u32::try_from(value / FIVE_DIGITS).expect("a quotient of a step fits a limb");
            rest = value % FIVE_DIGITS;
        }
        for digit in digits.iter_mut().rev() {
            *digit = DIGITS[usize::try_from(rest % 36).expect("below 36")];
            rest /= 36;
        }
    }
}

/// The text is not 25 characters of `[0-9a-z]`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not an object id")]
pub struct NotAnId;

impl<K> FromStr for Id<K> {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let text: [u8; ID_LEN] = text.as_bytes().try_into().map_err(|_| NotAnId)?;
        if !text.iter().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase()) {
            return Err(NotAnId);
        }
        Ok(Self { text, kind: PhantomData })
    }
}

// Written out rather than derived: a derive would ask the same of the marker type.
impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Id<K> {}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}
impl<K> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}
impl<K> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
impl<K> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl<K> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
impl<'de, K> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(|_| de::Error::custom("not an object id"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_lowest_digits_of_their_bytes() {
        let zero = TaskId::derive([0; ID_ENTROPY_LEN]);
        assert_eq!(zero.as_str(), "0".repeat(ID_LEN));
        let mut bytes = [0; ID_ENTROPY_LEN];
        bytes[15..].copy_from_slice(&1332u16.to_be_bytes());
        assert_eq!(TaskId::derive(bytes).as_str(), format!("{}110", "0".repeat(22)));
    }

    #[test]
    fn only_25_lower_case_characters_are_an_id() {
        assert!("0123456789abcdefghijklmno".parse::<NodeId>().is_ok());
        for bad in ["", "short", "0123456789ABCDEFGHIJKLMNO", "0123456789abcdefghijklmnop"] {
            assert_eq!(bad.parse::<NodeId>(), Err(NotAnId), "{bad}");
        }
    }
}
