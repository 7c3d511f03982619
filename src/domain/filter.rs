//! The `filters` of list requests: which keys hold which values, and what a value matches.

use std::collections::BTreeMap;

use serde_json::Value;

use super::refusal::{Reason, Refusal};

/// Parsed filters: for each key the values in the order given, without repetition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Reads both encodings, `{"name":["a"]}` and `{"name":{"a":true}}`. Absent or empty text is no
    /// filter.
    ///
    /// # Errors
    /// Anything else: `invalid filter`.
    pub fn parse(text: Option<&str>) -> Result<Filters, Refusal> {
        let Some(text) = text.filter(|text| !text.is_empty() && text.trim() != "null") else {
            return Ok(Filters::default());
        };
        let invalid = || Refusal::front(Reason::Invalid, "invalid filter");
        let by_key: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|_| invalid())?;
        let mut filters = BTreeMap::new();
        for (key, values) in by_key {
            let mut texts = Vec::new();
            match values {
                Value::Array(values) => {
                    for value in values {
                        texts.push(value.as_str().ok_or_else(invalid)?.to_owned());
                    }
                }
                Value::Object(values) => {
                    // The value counts as given whatever is said of it.
                    for (value, on) in values {
                        if !on.is_boolean() {
                            return Err(invalid());
                        }
                        texts.push(value);
                    }
                }
                Value::Null => {}
                _ => return Err(invalid()),
            }
            let mut seen = std::collections::BTreeSet::new();
            texts.retain(|text| seen.insert(text.clone()));
            filters.insert(key, texts);
        }
        Ok(Filters(filters))
    }

    /// Checks that only these keys are there.
    ///
    /// # Errors
    /// Names the first other key.
    pub fn allow(&self, keys: &[&str]) -> Result<(), Refusal> {
        match self.0.keys().find(|key| !keys.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => Err(Refusal::front(Reason::Invalid, format!("invalid filter '{key}'"))),
        }
    }

    /// The values of a key; empty when the key is absent or has none.
    pub fn values(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// True when the key has no value, or one that `matches`.
    pub fn passes(&self, key: &str, matches: impl FnMut(&str) -> bool) -> bool {
        self.values(key).is_empty() || self.any(key, matches)
    }

    /// True when the key has a value that `matches`.
    pub fn any(&self, key: &str, mut matches: impl FnMut(&str) -> bool) -> bool {
        self.values(key).iter().any(|value| matches(value))
    }

    /// True when the attributes of an event have all that the filter's `key` asks for: `name` any
    /// value, `name=value` that value, an empty one included.
    pub fn passes_attributes(&self, key: &str, attributes: &BTreeMap<&str, String>) -> bool {
        self.values(key).iter().all(|entry| match entry.split_once('=') {
            Some((name, value)) => attributes.get(name).is_some_and(|known| known == value),
            None => attributes.contains_key(entry.as_str()),
        })
    }

    /// True when the labels have all that the filter's `key` asks for: `name` or `name=` any value,
    /// `name=value` that value.
    pub fn passes_labels(&self, key: &str, labels: &BTreeMap<String, String>) -> bool {
        // Several entries of one label collapse into one, an unspecified value winning.
        let mut wanted: BTreeMap<&str, &str> = BTreeMap::new();
        for entry in self.values(key) {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            wanted
                .entry(name)
                .and_modify(|known| {
                    if value.is_empty() {
                        *known = "";
                    }
                })
                .or_insert(value);
        }
        wanted.into_iter().all(|(name, value)| {
            labels.get(name).is_some_and(|label| value.is_empty() || label == value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_encodings_mean_the_same() {
        let array = Filters::parse(Some(r#"{"name":["a","b"]}"#));
        let map = Filters::parse(Some(r#"{"name":{"a":true,"b":false}}"#));
        assert_eq!(array, map);
        assert_eq!(Filters::parse(Some("")), Ok(Filters::default()));
        assert_eq!(Filters::parse(Some("null")), Ok(Filters::default()));
        assert_eq!(Filters::parse(None), Ok(Filters::default()));
        for bad in ["x", "[]", r#"{"name":"a"}"#, r#"{"name":[1]}"#, r#"{"name":{"a":1}}"#] {
            let refusal = Filters::parse(Some(bad)).expect_err(bad);
            assert_eq!(refusal.message, "invalid filter");
        }
    }

    #[test]
    fn labels_are_matched_by_key_or_by_key_and_value() {
        let labels = BTreeMap::from([("env".to_owned(), "a=b".to_owned())]);
        let passes = |text: &str| {
            Filters::parse(Some(text)).is_ok_and(|filters| filters.passes_labels("label", &labels))
        };
        assert!(passes(r#"{"label":["env"]}"#));
        assert!(passes(r#"{"label":["env="]}"#));
        assert!(passes(r#"{"label":["env=a=b"]}"#));
        assert!(passes(r#"{"label":["env=x","env="]}"#), "an unspecified value wins");
        assert!(!passes(r#"{"label":["env=x"]}"#));
        assert!(!passes(r#"{"label":["Env"]}"#));
        assert!(!passes(r#"{"label":["env","other"]}"#));
    }
}
