//! Configs: what secrets are, but for data that anybody who may ask may read. Their data are part of
//! none of these types either: they lie in sealed rows of their own, and are read when asked for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::container::Driver;
use super::id::ConfigId;
use super::json::is_zero;
use super::meta::Meta;
use super::revision::Revisions;
use super::secret::Fingerprint;

/// The largest data of a config, in bytes.
pub const CONFIG_LEN_MAX: usize = 1_023_999;

/// A stored config without its data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Its id.
    pub id: ConfigId,
    /// Version and times.
    pub meta: Meta,
    /// What its user gave.
    pub spec: ConfigSpec,
    /// A keyed hash of the current data, for comparing without opening them. Never leaves the store.
    pub fingerprint: Fingerprint,
    /// The data that it has had.
    #[serde(default, skip_serializing_if = "Revisions::is_first")]
    pub revisions: Revisions,
}

/// What a user gives of a config, but for the data.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct ConfigSpec {
    /// Name, unique ignoring case.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Template engine that renders the data when a task starts.
    #[serde(skip_serializing_if = "is_zero")]
    pub templating: Option<Driver>,
}
