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
                Key::Service(_)
                | Key::Secret(_)
                | Key::Config(_)
                | Key::Network(_)
                | Key::Revision(_) => {}
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatcher::fixture::Visit;
    use crate::domain::meta::Version;
    use crate::domain::time::Timestamp;

    fn changed(key: Key) -> Changed {
        Changed { key, version: Version::default(), at: Timestamp::ZERO, old: None, new: None }
    }

    #[tokio::test]
    async fn a_removal_is_noticed_whatever_else_is_in_the_commit() {
        let visit = Visit::new().await;
        let manager = visit.manager();
        let view = manager.view();
        let cluster = view.cluster().expect("it leads").id;
        let mut other = visit.hub.bell(NodeId::derive([9; 17]));
        other.mark_unchanged();
        let changes = vec![changed(Key::Cluster(cluster)), changed(Key::Node(visit.node))];
        visit.hub.note(&manager, &Commit { changes, view });
        assert!(visit.session.ended.is_cancelled());
        assert!(other.has_changed().expect("the hub lives"), "the cluster is everybody's");
    }

    #[tokio::test]
    async fn only_the_nodes_that_a_commit_touches_are_woken() {
        let visit = Visit::new().await;
        let manager = visit.manager();
        let (mut own, mut other) =
            (visit.hub.bell(visit.node), visit.hub.bell(NodeId::derive([9; 17])));
        own.mark_unchanged();
        other.mark_unchanged();
        let view = manager.view();
        let node = view.node(visit.node).cloned().map(Object::Node);
        let touched = Changed { new: node, ..changed(Key::Node(visit.node)) };
        visit.hub.note(&manager, &Commit { changes: vec![touched], view });
        assert!(own.has_changed().expect("the hub lives"));
        assert!(!other.has_changed().expect("the hub lives"));
        assert!(!visit.session.ended.is_cancelled());
    }
}
