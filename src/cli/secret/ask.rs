//! Asking: the part of the API that these commands use, as far as they look at it.

use anyhow::Context as _;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Format;
use crate::cli::client::{self, Refused};
use crate::cli::endpoint::Endpoint;

/// A purser, and how its answers are printed.
pub(super) struct Ask<'a> {
    pub purser: &'a Endpoint,
    pub format: Format,
}

/// A secret.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Secret {
    #[serde(rename = "ID")]
    pub id: String,
    pub version: Index,
    pub spec: SecretSpec,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Index {
    pub index: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SecretSpec {
    pub name: String,
    #[serde(default)]
    pub labels: std::collections::BTreeMap<String, String>,
}

/// One version of a secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Version {
    pub version: u64,
    pub created_at: String,
    pub current: bool,
}

/// A service that uses a secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Consumer {
    #[serde(rename = "ServiceID")]
    pub service_id: String,
    pub service_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<String>,
    pub tasks: Vec<Holder>,
}

/// A task that was given a secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Holder {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(rename = "NodeID", default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<String>,
    pub version: u64,
    pub state: String,
}

/// Where a rollout of a service stands.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct UpdateStatus {
    pub state: String,
    pub message: String,
}

/// Where a service stands.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    pub status: UpdateStatus,
    pub replicas: Option<u64>,
}

/// How a secret comes to its values.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Rotation {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    pub newest_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// A try to make a value, which failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Failure {
    pub at: String,
    pub message: String,
}

/// Part of a path: a name as it may stand there.
pub(super) fn part(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

impl Ask<'_> {
    /// What a path answers.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let text = client::request(self.purser, None, "GET", path, "")?;
        serde_json::from_str(&text).with_context(|| format!("the answer to {path}"))
    }

    /// What a path answers, or nothing when there is no such thing.
    pub(super) fn find<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Option<T>> {
        match self.get(path) {
            Ok(found) => Ok(Some(found)),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The answer to a change.
    pub(super) fn post(&self, path: &str, body: &str) -> anyhow::Result<String> {
        client::request(self.purser, None, "POST", path, body)
    }

    pub(super) fn secret(&self, name: &str) -> anyhow::Result<Secret> {
        self.get(&format!("/secrets/{}", part(name)))
    }

    pub(super) fn versions(&self, id: &str) -> anyhow::Result<Vec<Version>> {
        self.get(&format!("/secrets/{}/versions", part(id)))
    }

    pub(super) fn consumers(&self, id: &str) -> anyhow::Result<Vec<Consumer>> {
        self.get(&format!("/secrets/{}/consumers", part(id)))
    }

    pub(super) fn rotation(&self, id: &str) -> anyhow::Result<Rotation> {
        self.get(&format!("/secrets/{}/rotation", part(id)))
    }

    /// Where the rollout of a service stands, and how many tasks a replicated one should have; nothing for one
    /// that is gone.
    pub(super) fn standing(&self, service: &str) -> anyhow::Result<Standing> {
        let found: Option<Value> = self.find(&format!("/services/{}", part(service)))?;
        let Some(service) = found else { return Ok(Standing::default()) };
        let status = service.get("UpdateStatus").cloned();
        let status = status.map(serde_json::from_value).transpose()?.unwrap_or_default();
        Ok(Standing {
            status,
            replicas: service["Spec"]["Mode"]["Replicated"]["Replicas"].as_u64(),
        })
    }

    /// Prints JSON where that is wished for, and else a text.
    pub(super) fn print<T: Serialize + ?Sized>(
        &self,
        value: &T,
        text: impl FnOnce() -> String,
    ) -> anyhow::Result<()> {
        match self.format {
            Format::Json => println!("{}", serde_json::to_string_pretty(value)?),
            Format::Text => println!("{}", text().trim_end()),
        }
        Ok(())
    }
}

/// The status of an answer that is no success.
pub(super) fn status(error: &anyhow::Error) -> Option<u16> {
    error.downcast_ref().map(|refused: &Refused| refused.status)
}

/// The number of the current version.
pub(super) fn current(versions: &[Version]) -> u64 {
    versions.iter().find(|version| version.current).map_or(1, |version| version.version)
}

/// Rows in columns, as wide as what is in them.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let cells: Vec<String> = cells.collect();
        cells.join("   ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}
