//! What a request would change: the answer to one that is only tried.

use serde::Serialize;
use utoipa::ToSchema;

use super::id::ServiceId;
use super::service::UpdateOrder;
use super::time::Nanoseconds;

/// What a request would change.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Forecast {
    /// The objects that it writes, but for tasks.
    pub changes: Vec<ObjectForecast>,
    /// The services whose tasks are replaced, started or stopped for it, and those that would be but wait.
    pub services: Vec<ServiceForecast>,
}

impl Forecast {
    /// Waves that are listed at most.
    pub const WAVES_MAX: usize = 1_000;
}

/// What becomes of an object.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct ObjectForecast {
    /// Its kind, in the word of the API.
    #[schema(example = "secret")]
    pub kind: &'static str,
    /// Its id; of one that would be made, that of this trial only.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name; the swarm has none.
    pub name: String,
    /// `create`, `update` or `remove`.
    #[schema(example = "update")]
    pub action: &'static str,
    /// The version that is the current one then, of a secret or config that gets another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The versions of it that are dropped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<u64>,
}

/// What becomes of a service's tasks.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceForecast {
    /// Its id.
    #[serde(rename = "ID")]
    #[schema(value_type = String)]
    pub id: ServiceId,
    /// Its name.
    pub name: String,
    /// Tasks that others take the place of.
    pub replaced: u64,
    /// Tasks that are started besides.
    pub started: u64,
    /// Tasks that are stopped for good.
    pub stopped: u64,
    /// How many are replaced at a time; the first [`Forecast::WAVES_MAX`] waves.
    pub waves: Vec<u64>,
    /// How long after a wave the next one follows, in nanoseconds.
    pub delay: Nanoseconds,
    /// Which of the old and the new task comes first: `stop-first` or `start-first`.
    #[schema(value_type = String, example = "stop-first")]
    pub order: UpdateOrder,
    /// Why it does not take a new value: it is `manual`, `pinned`, a `job` or `paused`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "manual")]
    pub waits: Option<Wait>,
}

impl Default for ServiceForecast {
    fn default() -> Self {
        ServiceForecast {
            id: ServiceId::derive([0; 17]),
            name: String::new(),
            replaced: 0,
            started: 0,
            stopped: 0,
            waves: Vec::new(),
            delay: 0,
            order: UpdateOrder::StopFirst,
            waits: None,
        }
    }
}

/// Why a service does not take a new value by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Wait {
    /// Its label says that it waits.
    Manual,
    /// A label keeps it to one version.
    Pinned,
    /// It is a job, and would run again.
    Job,
    /// Its last rollout stopped, and waits for a person.
    Paused,
}
