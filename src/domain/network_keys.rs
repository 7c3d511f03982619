//! The keys with which engines guard what they tell each other of overlay networks (gossip), and
//! the traffic of networks that are encrypted.
//!
//! Every node has all of them, so they do not guard nodes from each other. Changing one at a time
//! leaves two that engines before and after the change have in common.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::id::{Entropy, Stream};
use super::time::{Nanoseconds, Timestamp};

/// Keys of each use. An engine sends with the second oldest: the oldest is still there for those
/// that have not heard of the change, the newest already for those that have.
pub const KEYS_OF_A_USE: usize = 3;

/// How long a key is the newest: 12 h.
pub const KEY_LIFE: Nanoseconds = 12 * 3600 * 1_000_000_000;

/// Bytes of a key, for AES-128.
const KEY_LEN: usize = 16;

/// One key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkKey {
    /// The key itself.
    pub bytes: [u8; KEY_LEN],
    /// Grows with every key of the cluster, whatever its use; engines go by it.
    pub lamport_time: u64,
}

/// Says nothing of the key.
impl fmt::Debug for NetworkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NetworkKey({})", self.lamport_time)
    }
}

/// All keys, those of each use from the oldest to the newest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkKeys {
    /// For what engines tell each other.
    pub gossip: Vec<NetworkKey>,
    /// For the traffic of encrypted networks.
    pub ipsec: Vec<NetworkKey>,
    /// When the newest were made.
    pub made_at: Timestamp,
}

impl NetworkKeys {
    /// The first keys of a swarm.
    pub fn make(entropy: &dyn Entropy, now: Timestamp) -> NetworkKeys {
        let mut start = [0; 2];
        entropy.fill(Stream::Key, &mut start);
        let mut keys = NetworkKeys { gossip: Vec::new(), ipsec: Vec::new(), made_at: now };
        let mut lamport_time = u64::from(u16::from_be_bytes(start));
        for _ in 0..KEYS_OF_A_USE {
            for of_use in [&mut keys.gossip, &mut keys.ipsec] {
                lamport_time += 1;
                of_use.push(NetworkKey::make(entropy, lamport_time));
            }
        }
        keys
    }

    /// The next keys: the oldest of each use gone, a new one added.
    pub fn rotated(&self, entropy: &dyn Entropy, now: Timestamp) -> NetworkKeys {
        let mut keys = NetworkKeys { made_at: now, ..self.clone() };
        let all = keys.gossip.iter().chain(&keys.ipsec);
        let mut lamport_time = all.map(|key| key.lamport_time).max().unwrap_or(0);
        for of_use in [&mut keys.gossip, &mut keys.ipsec] {
            lamport_time += 1;
            of_use.push(NetworkKey::make(entropy, lamport_time));
            let over = of_use.len().saturating_sub(KEYS_OF_A_USE);
            of_use.drain(..over);
        }
        keys
    }

    /// When the next rotation is due.
    pub fn due(&self) -> Timestamp {
        self.made_at.plus(KEY_LIFE)
    }
}

impl NetworkKey {
    fn make(entropy: &dyn Entropy, lamport_time: u64) -> NetworkKey {
        let mut bytes = [0; KEY_LEN];
        entropy.fill(Stream::Key, &mut bytes);
        NetworkKey { bytes, lamport_time }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;

    /// Other bytes every time.
    struct Counting(AtomicU8);
    impl Entropy for Counting {
        fn fill(&self, _: Stream, out: &mut [u8]) {
            out.fill(self.0.fetch_add(1, Ordering::Relaxed));
        }
    }

    fn times(keys: &[NetworkKey]) -> Vec<u64> {
        keys.iter().map(|key| key.lamport_time).collect()
    }

    #[test]
    fn a_rotation_takes_one_and_adds_one_of_each_use() {
        let entropy = Counting(AtomicU8::new(0));
        let mut keys = NetworkKeys::make(&entropy, Timestamp::ZERO);
        assert_eq!((times(&keys.gossip), times(&keys.ipsec)), (vec![1, 3, 5], vec![2, 4, 6]));
        for _ in 0..5 {
            let before = keys.clone();
            keys = before.rotated(&entropy, before.due());
            for (old, new) in [(&before.gossip, &keys.gossip), (&before.ipsec, &keys.ipsec)] {
                assert_eq!(new.len(), KEYS_OF_A_USE);
                assert_eq!(old[1..], new[..2], "the others stay");
                assert!(new.is_sorted_by_key(|key| key.lamport_time));
            }
            let all = times(&keys.gossip).into_iter().chain(times(&keys.ipsec));
            assert_eq!(all.collect::<BTreeSet<_>>().len(), 2 * KEYS_OF_A_USE, "no time twice");
            assert_eq!(keys.made_at.after(before.made_at).as_nanos(), KEY_LIFE as u128);
        }
    }

    #[test]
    fn a_key_is_not_printed() {
        let keys = NetworkKeys::make(&Counting(AtomicU8::new(200)), Timestamp::ZERO);
        let bytes = format!("{:?}", keys.gossip[0].bytes);
        assert!(!format!("{keys:?}").contains(&bytes[1..bytes.len() - 1]));
    }
}
