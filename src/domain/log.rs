//! Logs of tasks, as clients ask for them and as nodes send them.

use super::id::{NodeId, ServiceId, TaskId};
use super::time::Timestamp;
use super::view::View;

/// What log lines are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// All tasks of a service.
    Service(ServiceId),
    /// One task.
    Task(TaskId),
}

impl Subject {
    /// The nodes that run its tasks or ran them, as far as they are still of the cluster: nobody
    /// could ask another.
    pub fn nodes(self, view: &View) -> Vec<NodeId> {
        let node = |node: Option<NodeId>| node.filter(|id| view.node(*id).is_some());
        match self {
            Subject::Service(id) => {
                view.tasks_of_service(id).filter_map(|task| node(task.node_id)).collect()
            }
            Subject::Task(id) => {
                view.task(id).and_then(|task| node(task.node_id)).into_iter().collect()
            }
        }
    }

    /// True while there is something that may still say a word: a service that was removed has
    /// tasks for a while.
    pub fn exists(self, view: &View) -> bool {
        match self {
            Subject::Service(id) => {
                view.service(id).is_some() || view.tasks_of_service(id).next().is_some()
            }
            Subject::Task(id) => view.task(id).is_some(),
        }
    }

    /// True when a line is about it.
    pub fn has(self, line: &Line) -> bool {
        match self {
            Subject::Service(id) => line.service == id,
            Subject::Task(id) => line.task == id,
        }
    }
}

/// Which lines a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// What tasks write to their standard output.
    pub stdout: bool,
    /// What they write to their standard error.
    pub stderr: bool,
    /// Those to come as well.
    pub follow: bool,
    /// None from before; absent for all.
    pub since: Option<Timestamp>,
    /// At most so many of each task's past; absent for all.
    pub tail: Option<u64>,
}

/// Where a task wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line. It may hold anything, secrets among it, so that none can be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Line {
    /// The service.
    pub service: ServiceId,
    /// The node.
    pub node: NodeId,
    /// The task.
    pub task: TaskId,
    /// When it was written, by the node's clock.
    pub at: Timestamp,
    /// Where.
    pub source: Source,
    /// The bytes with their line end.
    pub data: Vec<u8>,
    /// What the log driver adds, as pairs of key and value.
    pub attrs: Vec<(String, String)>,
}

impl Options {
    /// True when a line comes from where the client listens.
    pub fn wants(&self, line: &Line) -> bool {
        match line.source {
            Source::Stdout => self.stdout,
            Source::Stderr => self.stderr,
        }
    }

    /// The same once lines up to this moment have come: what is left.
    pub fn after(&self, seen: Timestamp) -> Options {
        Options { since: Some(seen.plus(1)), tail: None, ..*self }
    }
}
