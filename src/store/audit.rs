//! The audit as it is stored: records in the order of their numbers, those of one batch sealed in one
//! row, each naming the hash of the one before.
//!
//! The head of the store seals where the chain begins and ends, so that neither end can be cut off.
//! Old records are dropped from its beginning, whole rows at a time; the hash of the last one that
//! was dropped stays, and the chain can be checked from there.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::{Store, WriteError, log, write};
use crate::domain::audit::Record;
use crate::seal::envelope::OpenError;
use crate::seal::hex;
use crate::seal::keyring::Keyring;

/// Bytes that most records are shorter than.
const USUAL_LEN: usize = 512;
/// Bytes of a hash.
const HASH_LEN: usize = 32;
/// Bytes of a chain as the head seals it.
pub(super) const CHAIN_LEN: usize = 2 * (8 + HASH_LEN);

/// Both ends of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// Number of the first record that is kept; one more than the last when there is none.
    pub first: u64,
    /// Hash of the record before it; zeros when there never was one.
    pub anchor: [u8; HASH_LEN],
    /// Number of the last record.
    pub last: u64,
    /// Its hash, or the anchor when there is none.
    pub hash: [u8; HASH_LEN],
}

impl Default for Chain {
    fn default() -> Chain {
        Chain { first: 1, anchor: [0; HASH_LEN], last: 0, hash: [0; HASH_LEN] }
    }
}

impl Chain {
    /// How many records are kept.
    pub fn len(&self) -> u64 {
        (self.last + 1).saturating_sub(self.first)
    }

    /// True when no record is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(CHAIN_LEN);
        bytes.extend_from_slice(&self.first.to_be_bytes());
        bytes.extend_from_slice(&self.anchor);
        bytes.extend_from_slice(&self.last.to_be_bytes());
        bytes.extend_from_slice(&self.hash);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Chain> {
        let (first, rest) = bytes.split_first_chunk::<8>()?;
        let (anchor, rest) = rest.split_first_chunk::<HASH_LEN>()?;
        let (last, rest) = rest.split_first_chunk::<8>()?;
        let (hash, rest) = rest.split_first_chunk::<HASH_LEN>()?;
        let (first, last) = (u64::from_be_bytes(*first), u64::from_be_bytes(*last));
        rest.is_empty().then_some(Chain { first, anchor: *anchor, last, hash: *hash })
    }

    /// Adds a record behind the last one: numbers it and gives it the hash of that. Answers its line.
    pub(super) fn push(&mut self, mut record: Record) -> Vec<u8> {
        self.last += 1;
        record.seq = self.last;
        record.prev = hex::text(&self.hash);
        let mut line = Vec::with_capacity(USUAL_LEN);
        serde_json::to_writer(&mut line, &record).expect("a record is a map of texts and numbers");
        self.hash = Sha256::digest(&line).into();
        line
    }
}

/// Records as they were written together: a line each, the last one ended too.
#[derive(Debug, Clone)]
pub struct Lines {
    /// Number of the first.
    pub first: u64,
    /// Number of the last.
    pub last: u64,
    /// The text.
    pub text: Arc<str>,
}

/// A row of the table.
#[derive(Debug, Clone)]
pub struct AuditRow {
    /// Number of its first record.
    pub first: u64,
    /// Its records, sealed.
    pub sealed: Vec<u8>,
}

/// The audit cannot be read, or is not as it was written.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The database fails.
    #[error("reading the audit")]
    Read(#[source] log::LogError),
    /// A row was changed.
    #[error("the records from {first} on cannot be opened")]
    Damaged {
        /// Number of the first.
        first: u64,
        /// Why.
        #[source]
        source: OpenError,
    },
    /// A record is missing, moved, or of another chain.
    #[error("the chain is broken before record {0}")]
    Broken(u64),
    /// The end of the chain is not the one that the store sealed.
    #[error("the last records are missing: there are {found} and should be {expected}")]
    Short {
        /// Number of the last that is there.
        found: u64,
        /// Number of the last there was.
        expected: u64,
    },
}

impl AuditRow {
    pub(super) fn open(&self, keyring: &Keyring) -> Result<Lines, AuditError> {
        let first = self.first;
        let opened = keyring.open_audit(first, &self.sealed);
        let damaged = |source| AuditError::Damaged { first, source };
        let plain = opened.map_err(damaged)?;
        // A door: records are for whoever may read the audit, and hold no values.
        let text = std::str::from_utf8(plain.expose()).map_err(|_| damaged(OpenError::Format))?;
        let last = (first + text.lines().count() as u64).saturating_sub(1);
        Ok(Lines { first, last, text: text.into() })
    }
}

/// Follows a chain, line by line.
struct Walk {
    next: u64,
    hash: [u8; HASH_LEN],
}

impl Walk {
    fn lines(&mut self, lines: &Lines) -> Result<(), AuditError> {
        let broken = AuditError::Broken(self.next);
        if lines.first != self.next {
            return Err(broken);
        }
        for line in lines.text.lines() {
            let record: Record =
                serde_json::from_str(line).map_err(|_| AuditError::Broken(self.next))?;
            if record.seq != self.next || record.prev != hex::text(&self.hash) {
                return Err(AuditError::Broken(self.next));
            }
            self.hash = Sha256::digest(line).into();
            self.next += 1;
        }
        if self.next == lines.last + 1 { Ok(()) } else { Err(AuditError::Broken(self.next)) }
    }
}

/// Rows that are read at once: enough that the way to the database's thread does not count, and that
/// some of them are new wherever the reading begins.
const ROWS_AT_ONCE: u32 = 256;
const _: () = assert!(ROWS_AT_ONCE as usize > 2 * super::rows::AUDIT_STEP);

impl Store {
    /// Both ends of the audit's chain, as of the last commit.
    pub fn audit_chain(&self) -> Chain {
        *self.inner.audit.borrow()
    }

    /// Tells that records were written, for who then reads them.
    pub fn subscribe_audit(&self) -> watch::Receiver<Chain> {
        self.inner.audit.subscribe()
    }

    /// Records from this number on, as many as lie together; none when there are no more.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn audit_from(&self, seq: u64) -> Result<Vec<Lines>, AuditError> {
        let from = self.inner.rows.read().expect("no writer of the rows panics").audit_row(seq);
        let rows = self.inner.database.audit(from, ROWS_AT_ONCE).await.map_err(AuditError::Read)?;
        // Those that end before it: each but the last one ends where the next begins.
        let next = rows.iter().skip(1).map(|row| row.first);
        let before = next.take_while(|first| *first <= seq).count();
        let read = rows[before.min(rows.len())..].iter().map(|row| row.open(&self.inner.keyring));
        let lines = read.collect::<Result<Vec<Lines>, AuditError>>()?;
        Ok(lines.into_iter().filter(|lines| lines.last >= seq).collect())
    }

    /// Checks every record and the whole chain, as far as it was written when asked.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn verify_audit(&self) -> Result<Chain, AuditError> {
        loop {
            let chain = self.audit_chain();
            let walked = self.walk(chain).await;
            // What was dropped meanwhile is missed by nobody.
            if walked.is_ok() || self.audit_chain().first == chain.first {
                return walked.map(|()| chain);
            }
        }
    }

    async fn walk(&self, chain: Chain) -> Result<(), AuditError> {
        let mut walk = Walk { next: chain.first, hash: chain.anchor };
        while walk.next <= chain.last {
            let read = self.audit_from(walk.next).await?;
            if read.is_empty() {
                return Err(AuditError::Short { found: walk.next - 1, expected: chain.last });
            }
            for lines in &read {
                walk.lines(lines)?;
                if walk.next == chain.last + 1 && walk.hash != chain.hash {
                    return Err(AuditError::Broken(chain.last));
                }
            }
        }
        Ok(())
    }

    /// Writes records that go with no change.
    ///
    /// # Errors
    /// The store fails.
    pub async fn note(&self, notes: Vec<write::Told>) -> Result<(), WriteError> {
        write::submit_notes(&self.inner.queue, notes).await
    }

    /// Drops the oldest records until about this many are left.
    ///
    /// # Errors
    /// They cannot be read, or the store fails.
    pub async fn trim_audit(&self, keep: u64) -> Result<(), TrimError> {
        let chain = self.audit_chain();
        if chain.len() <= keep {
            return Ok(());
        }
        // Where a row begins, what is before it can be dropped; its first record knows the hash.
        let from = chain.last + 1 - keep;
        let Some(kept) = self.audit_from(from).await?.into_iter().next() else { return Ok(()) };
        let line = kept.text.lines().next().unwrap_or_default();
        let record: Record =
            serde_json::from_str(line).map_err(|_| AuditError::Broken(kept.first))?;
        let anchor = *hex::parse(&record.prev).ok_or(AuditError::Broken(kept.first))?;
        write::submit_trim(&self.inner.queue, kept.first, anchor).await?;
        Ok(())
    }
}

/// Old records could not be dropped.
#[derive(Debug, thiserror::Error)]
pub enum TrimError {
    /// They cannot be read.
    #[error("the audit")]
    Audit(#[from] AuditError),
    /// The store fails.
    #[error("the store")]
    Write(#[from] WriteError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::Outcome;
    use crate::domain::time::Timestamp;

    fn record(verb: &str) -> Record {
        Record {
            seq: 0,
            prev: String::new(),
            at: Timestamp::ZERO,
            actor: "uid:0".into(),
            source: String::new(),
            request: String::new(),
            verb: verb.into(),
            kind: String::new(),
            id: String::new(),
            name: String::new(),
            version: 0,
            outcome: Outcome::Done,
            detail: String::new(),
            value: String::new(),
        }
    }

    /// A chain of three records, and its lines.
    fn three() -> (Chain, Vec<String>) {
        let mut chain = Chain::default();
        let verbs = ["secret create", "secret update", "secret remove"];
        let lines = verbs.map(|verb| chain.push(record(verb)));
        (chain, lines.map(|line| String::from_utf8(line).expect("JSON is text")).into())
    }

    fn walk(lines: &[String]) -> Result<[u8; HASH_LEN], String> {
        let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let last = lines.len() as u64;
        let mut walk = Walk { next: 1, hash: [0; HASH_LEN] };
        let walked = walk.lines(&Lines { first: 1, last, text: text.into() });
        walked.map(|()| walk.hash).map_err(|error| error.to_string())
    }

    #[test]
    fn a_chain_shows_what_was_done_to_it() {
        let (chain, lines) = three();
        assert_eq!((chain.first, chain.last, chain.len()), (1, 3, 3));
        assert_eq!(walk(&lines), Ok(chain.hash));
        let broken = |lines: &[String], before: u64| {
            let expected = format!("the chain is broken before record {before}");
            assert_eq!(walk(lines).err().as_deref(), Some(&*expected));
        };
        let [one, two, three] = &lines[..] else { panic!("three lines") };
        broken(&[two.clone(), one.clone(), three.clone()], 1);
        broken(&[one.clone(), three.clone()], 2);
        broken(&[one.clone(), two.replace("uid:0", "uid:1"), three.clone()], 3);
        broken(&[one.clone(), two.clone(), "{}".into()], 3);
        // The last one shows only by its hash, which the head of the store has.
        let changed = [one.clone(), two.clone(), three.replace("uid:0", "uid:1")];
        assert_ne!(walk(&changed), Ok(chain.hash));
    }

    #[test]
    fn a_chain_is_read_as_it_was_written() {
        let (chain, _) = three();
        assert_eq!(Chain::decode(&chain.encode()), Some(chain));
        assert_eq!(Chain::decode(&chain.encode()[1..]), None);
        assert_eq!(hex::parse(&hex::text(&chain.hash)).as_deref(), Some(&chain.hash));
        assert_eq!(hex::parse::<HASH_LEN>("zz"), None);
    }
}
