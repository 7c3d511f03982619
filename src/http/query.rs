//! Query parameters, by the Engine's rules: form encoding, the first of several counts, unknown
//! ones are ignored, and two ways to read a boolean.

use std::borrow::Cow;
use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::error::Failure;
use crate::domain::filter::Filters;
use crate::domain::meta::Version;
use crate::domain::time::Timestamp;

/// The query of a request.
#[derive(Debug, Clone, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Query, Infallible> {
        Ok(Query::parse(parts.uri.query().unwrap_or("")))
    }
}

impl Query {
    pub(super) fn parse(text: &str) -> Query {
        let pairs = form_urlencoded::parse(text.as_bytes());
        Query(pairs.map(|(key, value)| (key.into_owned(), value.into_owned())).collect())
    }

    /// The parameter's value; empty when absent.
    pub(super) fn text(&self, key: &str) -> &str {
        self.0.iter().find(|(known, _)| known == key).map_or("", |(_, value)| value)
    }

    /// True unless absent, empty, `0`, `no`, `false` or `none`.
    pub(super) fn loose_bool(&self, key: &str) -> bool {
        let value = self.text(key).trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// A boolean in one of its usual spellings; false when absent.
    ///
    /// # Errors
    /// Any other text.
    pub(super) fn strict_bool(&self, key: &str) -> Result<bool, Failure> {
        match self.text(key) {
            "" | "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
            other => Err(Failure::invalid(format!("invalid value for {key}: {other}"))),
        }
    }

    /// A moment in Unix seconds with an optional fraction; `None` when absent.
    ///
    /// # Errors
    /// Any other text; what is returned says so.
    pub(super) fn moment(&self, key: &str) -> Result<Option<Timestamp>, String> {
        let text = self.text(key);
        if text.is_empty() {
            return Ok(None);
        }
        let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
        let seconds = seconds.parse::<i64>().ok();
        let digits_only = fraction.bytes().all(|b| b.is_ascii_digit()) && fraction.len() <= 9;
        let nanos = digits_only.then(|| format!("{fraction:0<9}").parse::<i128>().ok()).flatten();
        match (seconds, nanos) {
            (Some(seconds), Some(nanos)) => {
                Ok(Some(Timestamp::from_unix_nanos(i128::from(seconds) * 1_000_000_000 + nanos)))
            }
            _ => Err(format!("invalid timestamp {text:?}: not a number of seconds")),
        }
    }

    /// The `filters` parameter, with only these keys in it.
    ///
    /// # Errors
    /// It cannot be read, or has another key.
    pub(super) fn filters(&self, keys: &[&str]) -> Result<Filters, Failure> {
        let filters = Filters::parse(Some(self.text("filters")))?;
        filters.allow(keys)?;
        Ok(filters)
    }

    /// The `version` parameter of an update; `None` when it is not a number.
    pub(super) fn version(&self) -> Option<Version> {
        let text = self.text("version");
        let digits_only = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits_only.then(|| text.parse().ok()).flatten().map(|index| Version { index })
    }

    /// A whole number, as many as a signed one of 64 bits holds; `None` when absent.
    ///
    /// # Errors
    /// Any other text.
    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, Failure> {
        let text = self.text(key);
        if text.is_empty() {
            return Ok(None);
        }
        let number: Option<u64> = text.parse().ok();
        let number = number
            .filter(|number| i64::try_from(*number).is_ok())
            .filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        let refused =
            || Failure::invalid(format!("invalid value for {key}: {text:?} is no number"));
        number.map(Some).ok_or_else(refused)
    }

    /// How the Engine refuses a version that is not a number.
    pub(super) fn bad_version(&self, kind: &str) -> Failure {
        let text = self.text("version");
        let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let why: Cow<'_, str> =
            if is_number { "value out of range".into() } else { "invalid syntax".into() };
        Failure::invalid(format!(
            "invalid {kind} version '{text}': strconv.ParseUint: parsing {text:?}: {why}"
        ))
    }
}
