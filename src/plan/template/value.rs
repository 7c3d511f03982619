//! Values that templates work on.

use std::collections::BTreeMap;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// Nothing: the value of an assignment or of a missing argument.
    Nothing,
    Bool(bool),
    Whole(i64),
    Real(f64),
    Text(String),
    /// Labels.
    Map(BTreeMap<String, String>),
    /// A value with named fields, and the name of its type.
    Object(&'static str, Vec<(&'static str, Value)>),
}

impl Value {
    pub(super) fn object(
        kind: &'static str,
        fields: impl IntoIterator<Item = (&'static str, Value)>,
    ) -> Value {
        Value::Object(kind, fields.into_iter().collect())
    }

    /// The name of its type.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Nothing => "nil",
            Value::Bool(_) => "bool",
            Value::Whole(_) => "int",
            Value::Real(_) => "float64",
            Value::Text(_) => "string",
            Value::Map(_) => "map[string]string",
            Value::Object(kind, _) => kind,
        }
    }

    /// Whether a branch on it is taken.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Value::Nothing => false,
            Value::Bool(is_true) => *is_true,
            Value::Whole(number) => *number != 0,
            Value::Real(number) => *number != 0.0,
            Value::Text(text) => !text.is_empty(),
            Value::Map(map) => !map.is_empty(),
            Value::Object(..) => true,
        }
    }

    /// As an action writes it.
    pub(super) fn print(&self) -> String {
        match self {
            Value::Nothing => "<no value>".into(),
            Value::Bool(is_true) => is_true.to_string(),
            Value::Whole(number) => number.to_string(),
            Value::Real(number) => number.to_string(),
            Value::Text(text) => text.clone(),
            Value::Map(map) => {
                let pairs: Vec<String> =
                    map.iter().map(|(key, value)| format!("{key}:{value}")).collect();
                format!("map[{}]", pairs.join(" "))
            }
            Value::Object(_, fields) => {
                let fields: Vec<String> = fields.iter().map(|(_, field)| field.print()).collect();
                format!("{{{}}}", fields.join(" "))
            }
        }
    }

    /// A field of it, or an entry.
    pub(super) fn field(&self, name: &str) -> Result<Value, String> {
        match self {
            Value::Object(_, fields) => {
                let found = fields.iter().find(|(field, _)| *field == name);
                found.map(|(_, value)| value.clone()).ok_or_else(|| self.no_field(name))
            }
            Value::Map(map) => match map.get(name) {
                Some(value) => Ok(Value::Text(value.clone())),
                None => Err(format!("map has no entry for key {name:?}")),
            },
            Value::Nothing => Err(format!("nil data; no entry for key {name:?}")),
            _ => Err(self.no_field(name)),
        }
    }

    fn no_field(&self, name: &str) -> String {
        format!("can't evaluate field {name} in type {}", self.kind())
    }
}
