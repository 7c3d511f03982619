//! Modes of services: how many tasks, where, and whether they run on or to completion.
//!
//! A service whose tasks run to completion is a job. Each update of it begins another run, in which
//! everything is done again.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::json::is_zero;
use super::meta::Version;
use super::time::Timestamp;

/// How many tasks and where. At most one is set; none means replicated with one task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct ServiceMode {
    /// A number of tasks, anywhere.
    #[serde(skip_serializing_if = "is_zero")]
    pub replicated: Option<Replicated>,
    /// One task on every node.
    #[serde(skip_serializing_if = "is_zero")]
    pub global: Option<Global>,
    /// A number of tasks that run to completion.
    #[serde(skip_serializing_if = "is_zero")]
    pub replicated_job: Option<ReplicatedJob>,
    /// One task on every node, run to completion.
    #[serde(skip_serializing_if = "is_zero")]
    pub global_job: Option<Global>,
}

/// A number of tasks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Replicated {
    /// How many; 1 when absent.
    #[serde(skip_serializing_if = "is_zero")]
    pub replicas: Option<u64>,
}

/// One task on every node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Global {}

/// A number of tasks that run to completion.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct ReplicatedJob {
    /// How many at once; 1 when absent.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_concurrent: Option<u64>,
    /// How many in all; `MaxConcurrent` when absent.
    #[serde(skip_serializing_if = "is_zero")]
    pub total_completions: Option<u64>,
}

/// The kind of a service's mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModeKind {
    /// Replicated with this many tasks.
    Replicated(u64),
    /// One task on every node.
    Global,
    /// A replicated job.
    ReplicatedJob {
        /// How many tasks at once.
        max_concurrent: u64,
        /// How many complete in all.
        total: u64,
    },
    /// A global job.
    GlobalJob,
}

impl ModeKind {
    /// True when there is one task for each node; otherwise tasks are told apart by number.
    pub fn is_by_node(self) -> bool {
        matches!(self, ModeKind::Global | ModeKind::GlobalJob)
    }

    /// True for tasks that run to completion.
    pub fn is_job(self) -> bool {
        matches!(self, ModeKind::ReplicatedJob { .. } | ModeKind::GlobalJob)
    }
}

impl ServiceMode {
    /// Which mode is meant, with defaults applied.
    pub fn kind(&self) -> ModeKind {
        if self.global.is_some() {
            ModeKind::Global
        } else if let Some(job) = &self.replicated_job {
            let max_concurrent = job.max_concurrent.unwrap_or(1);
            let total = job.total_completions.unwrap_or(max_concurrent);
            ModeKind::ReplicatedJob { max_concurrent, total }
        } else if self.global_job.is_some() {
            ModeKind::GlobalJob
        } else {
            let wish = self.replicated.as_ref().and_then(|replicated| replicated.replicas);
            ModeKind::Replicated(wish.unwrap_or(1))
        }
    }

    /// The Engine's name of the mode, as its filter writes it.
    pub fn name(&self) -> &'static str {
        match self.kind() {
            ModeKind::Replicated(_) => "replicated",
            ModeKind::Global => "global",
            ModeKind::ReplicatedJob { .. } => "replicated-job",
            ModeKind::GlobalJob => "global-job",
        }
    }
}

/// The present run of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct JobStatus {
    /// Which run, from 0; one more with every update.
    pub job_iteration: Version,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub last_execution: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_that_says_little_means_one() {
        let kind = |text: &str| serde_json::from_str::<ServiceMode>(text).expect("a mode").kind();
        let job = |max_concurrent, total| ModeKind::ReplicatedJob { max_concurrent, total };
        for (text, expected) in [
            ("{}", ModeKind::Replicated(1)),
            (r#"{"Replicated":{"Replicas":0}}"#, ModeKind::Replicated(0)),
            (r#"{"Global":{}}"#, ModeKind::Global),
            (r#"{"GlobalJob":{}}"#, ModeKind::GlobalJob),
            (r#"{"ReplicatedJob":{}}"#, job(1, 1)),
            (r#"{"ReplicatedJob":{"MaxConcurrent":3}}"#, job(3, 3)),
            (r#"{"ReplicatedJob":{"TotalCompletions":3}}"#, job(1, 3)),
            (r#"{"ReplicatedJob":{"MaxConcurrent":0,"TotalCompletions":3}}"#, job(0, 3)),
        ] {
            assert_eq!(kind(text), expected, "{text}");
        }
    }

    #[test]
    fn the_first_run_of_a_job_has_an_empty_index() {
        let run = JobStatus {
            job_iteration: Version::default(),
            last_execution: Timestamp::from_unix_nanos(1_500_000_000),
        };
        let text = serde_json::to_string(&run).expect("JSON");
        assert_eq!(text, r#"{"JobIteration":{},"LastExecution":"1970-01-01T00:00:01.5Z"}"#);
    }
}
