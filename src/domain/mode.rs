//! Modes of services: how many tasks, where, and whether they run on or to completion.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::json::is_zero;

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
    ReplicatedJob,
    /// A global job.
    GlobalJob,
}

impl ServiceMode {
    /// Which mode is meant, with defaults applied.
    pub fn kind(&self) -> ModeKind {
        if self.global.is_some() {
            ModeKind::Global
        } else if self.replicated_job.is_some() {
            ModeKind::ReplicatedJob
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
            ModeKind::ReplicatedJob => "replicated-job",
            ModeKind::GlobalJob => "global-job",
        }
    }
}
