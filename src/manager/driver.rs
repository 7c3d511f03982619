//! The driver: wakes with what changed and has the planners settle it, each step a write.
//!
//! Being woken carries no information beyond which keys to look at again: the planners look at the
//! view. A driver that fell behind, or that has just started, looks at everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio_util::sync::CancellationToken;

use crate::domain::change::Key;
use crate::domain::id::Entropy;
use crate::domain::meta::Version;
use crate::domain::time::{Clock, Timestamp};
use crate::plan::settle::{Dirty, ROUNDS_MAX, STAGES, Stage, step};
use crate::plan::{Context, Planned};
use crate::store::{Commit, Store, WriteError};

/// How long to wait after a write failed, or after the planners were not content in the bounded
/// number of rounds.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) struct Driver {
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
}

/// What the driver remembers between two wake-ups.
struct Memory {
    dirty: Dirty,
    /// What asked to be looked at again, by when.
    again: BTreeMap<Timestamp, BTreeSet<Key>>,
    /// Its own writes, whose commits bring no news.
    own: BTreeSet<Version>,
}

impl Driver {
    pub(super) async fn run(self, stop: CancellationToken) {
        let (_, mut commits) = self.store.subscribe();
        let mut memory =
            Memory { dirty: Dirty::all(), again: BTreeMap::new(), own: BTreeSet::new() };
        loop {
            let content = self.settle(&mut memory).await;
            let wait = if content { memory.next_wake(self.clock.now()) } else { PAUSE };
            tokio::select! {
                () = stop.cancelled() => return,
                commit = commits.recv() => match commit {
                    Ok(commit) => memory.note(&commit),
                    Err(RecvError::Lagged(_)) => memory.forget(),
                    Err(RecvError::Closed) => return,
                },
                () = tokio::time::sleep(wait) => {}
            }
            memory.drain(&mut commits);
            memory.take_due(self.clock.now());
        }
    }

    /// Runs the planners in their order until none changes anything. False when they were not
    /// content within the bound, or the store failed; what is dirty then stays so.
    async fn settle(&self, memory: &mut Memory) -> bool {
        if memory.dirty.is_empty() {
            return true;
        }
        for _ in 0..ROUNDS_MAX {
            let mut changed = false;
            for stage in STAGES {
                match self.step(stage, memory).await {
                    Ok(did) => changed |= did,
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(?stage, error, "a planning step could not be written");
                        return false;
                    }
                }
            }
            if !changed {
                memory.dirty = Dirty::default();
                return true;
            }
        }
        tracing::warn!(rounds = ROUNDS_MAX, "planning is not content yet");
        false
    }

    /// One planner: planned on a snapshot, and written. If another write came between, it is
    /// planned anew inside of the write.
    async fn step(&self, stage: Stage, memory: &mut Memory) -> Result<bool, WriteError> {
        let view = self.store.view();
        let ctx = Context { now: self.clock.now(), entropy: &*self.entropy };
        let planned = step(stage, &view, &memory.dirty, ctx);
        if planned.changes.is_empty() {
            memory.remember(planned.again);
            return Ok(false);
        }
        let again = Arc::new(Mutex::new(Vec::new()));
        let applied = self.store.write({
            let (again, dirty, entropy) =
                (again.clone(), memory.dirty.clone(), self.entropy.clone());
            let planned_for = view.version();
            drop(view);
            move |view, stamp| {
                let Planned { changes, again: asked } = if view.version() == planned_for {
                    planned
                } else {
                    step(stage, view, &dirty, Context { now: stamp.now, entropy: &*entropy })
                };
                *again.lock().expect("a list of wake-ups is never left half made") = asked;
                Ok(changes)
            }
        });
        let applied = applied.await?;
        let asked = std::mem::take(&mut *again.lock().expect("as above"));
        memory.remember(asked);
        if applied.changed.is_empty() {
            return Ok(false);
        }
        memory.own.insert(applied.version);
        for changed in &applied.changed {
            memory.dirty.add(changed);
        }
        Ok(true)
    }
}

impl Memory {
    fn note(&mut self, commit: &Commit) {
        for changed in &commit.changes {
            if !self.own.contains(&changed.version) {
                self.dirty.add(changed);
            }
        }
        let newest = commit.view.version();
        self.own.retain(|version| *version > newest);
    }

    /// Too much was missed to know what changed.
    fn forget(&mut self) {
        self.dirty = Dirty::all();
        self.own.clear();
    }

    fn drain(&mut self, commits: &mut Receiver<Arc<Commit>>) {
        loop {
            match commits.try_recv() {
                Ok(commit) => self.note(&commit),
                Err(TryRecvError::Lagged(_)) => self.forget(),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn remember(&mut self, again: Vec<(Timestamp, Key)>) {
        for (moment, key) in again {
            self.again.entry(moment).or_default().insert(key);
        }
    }

    fn take_due(&mut self, now: Timestamp) {
        while let Some(entry) = self.again.first_entry() {
            if *entry.key() > now {
                return;
            }
            for key in entry.remove() {
                self.dirty.add_key(key);
            }
        }
    }

    fn next_wake(&self, now: Timestamp) -> Duration {
        // With nothing to wait for, any long time does: a commit ends it.
        let forever = Duration::from_secs(3600);
        self.again.first_key_value().map_or(forever, |(moment, _)| moment.after(now).min(forever))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::change::{Changed, Object};
    use crate::domain::id::{NodeId, ServiceId};
    use crate::domain::view::View;

    fn at(second: i128) -> Timestamp {
        Timestamp::from_unix_nanos(second * 1_000_000_000)
    }

    fn memory() -> Memory {
        Memory { dirty: Dirty::default(), again: BTreeMap::new(), own: BTreeSet::new() }
    }

    /// A commit in which these writes each removed a node.
    fn commit(versions: &[u64]) -> Commit {
        let changed = |version: &u64| Changed {
            key: Key::Node(NodeId::derive([1; 17])),
            version: Version { index: *version },
            at: at(0),
            old: None::<Object>,
            new: None,
        };
        let mut view = View::default();
        let newest = versions.iter().max().copied().unwrap_or(0);
        view.load_version(Version { index: newest });
        Commit { changes: versions.iter().map(changed).collect(), view }
    }

    #[test]
    fn its_own_writes_bring_no_news() {
        let mut memory = memory();
        memory.own.extend([Version { index: 7 }, Version { index: 9 }]);
        memory.note(&commit(&[7]));
        assert!(memory.dirty.is_empty());
        assert_eq!(memory.own.len(), 1, "what was heard of is forgotten");
        memory.note(&commit(&[8, 9]));
        assert!(!memory.dirty.is_empty(), "the other write of the batch does");
        assert!(memory.own.is_empty());
    }

    #[test]
    fn what_asked_to_be_looked_at_again_is_at_its_time() {
        let mut memory = memory();
        let key = |number| Key::Service(ServiceId::derive([number; 17]));
        memory.remember(vec![(at(20), key(1)), (at(10), key(2)), (at(20), key(3))]);
        assert_eq!(memory.next_wake(at(4)), Duration::from_secs(6));
        memory.take_due(at(9));
        assert!(memory.dirty.is_empty());
        memory.take_due(at(10));
        assert!(!memory.dirty.is_empty());
        assert_eq!(memory.again.len(), 1, "the others have their own time");
        assert_eq!(memory.next_wake(at(30)), Duration::ZERO, "overdue");
        memory.take_due(at(30));
        assert_eq!(memory.next_wake(at(30)), Duration::from_secs(3600), "nothing to wait for");
    }

    #[test]
    fn who_missed_commits_looks_at_everything() {
        let mut memory = memory();
        memory.own.insert(Version { index: 3 });
        memory.forget();
        assert_eq!(memory.dirty, Dirty::all());
        assert!(memory.own.is_empty());
    }
}
