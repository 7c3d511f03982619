//! The hub: wakes the streams of the nodes that a commit touches, and no others.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::domain::change::{Changed, Key, Object};
use crate::domain::id::NodeId;
use crate::manager::{Commit, Manager};

/// Wakes streams. A wake-up carries no information: a stream looks at the view.
#[derive(Clone)]
pub(super) struct Hub {
    bells: Arc<Mutex<HashMap<NodeId, watch::Sender<()>>>>,
}

impl Hub {
    /// Starts listening to commits, until `ended`.
    pub(super) fn start(manager: &Manager, ended: CancellationToken) -> Hub {
        let hub = Hub { bells: Arc::new(Mutex::new(HashMap::new())) };
        let (listening, manager) = (hub.clone(), manager.clone());
        let (_, mut commits) = manager.store().subscribe();
        tokio::spawn(async move {
            loop {
                let commit = tokio::select! {
                    () = ended.cancelled() => return,
                    commit = commits.recv() => commit,
                };
                match commit {
                    Ok(commit) => listening.note(&manager, &commit),
                    Err(RecvError::Lagged(_)) => listening.ring_all(),
                    Err(RecvError::Closed) => return,
                }
            }
        });
        hub
    }

    /// A bell that rings when something changes for the node.
    pub(super) fn bell(&self, node: NodeId) -> watch::Receiver<()> {
        let mut bells = self.lock();
        bells.entry(node).or_insert_with(|| watch::Sender::new(())).subscribe()
    }

    fn note(&self, manager: &Manager, commit: &Commit) {
        let mut touched = BTreeSet::new();
        let mut all = false;
        for changed in &commit.changes {
            match changed.key {
                Key::Cluster(_) => all = true,
                Key::Node(node) => {
                    touched.insert(node);
                    if changed.new.is_none() {
                        // Removed: its streams end now, and it is not let in again.
                        manager.sessions().forget(node);
                    }
                }
                Key::Task(_) => touched.extend(nodes_of_task(changed)),
                Key::Service(_) | Key::Secret(_) => {}
            }
        }
        if all {
            return self.ring_all();
        }
        let mut bells = self.lock();
        for node in touched {
            if let Some(bell) = bells.get(&node)
                && bell.send(()).is_err()
            {
                // Nobody listens any more.
                bells.remove(&node);
            }
        }
    }

    fn ring_all(&self) {
        self.lock().retain(|_, bell| bell.send(()).is_ok());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<NodeId, watch::Sender<()>>> {
        self.bells.lock().expect("nothing panics while it holds the bells")
    }
}

fn nodes_of_task(changed: &Changed) -> impl Iterator<Item = NodeId> + '_ {
    [&changed.old, &changed.new].into_iter().flatten().filter_map(|object| match object {
        Object::Task(task) => task.node_id,
        _ => None,
    })
}
