//! Request bodies, by the Engine's rules: keys in any case, null as absent, unknown keys ignored,
//! one value only.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::http::{HeaderMap, Request, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::error::Failure;
use crate::domain::json::PLAIN_MARK;
use crate::domain::refusal::{Reason, Refusal};

/// The largest body, in bytes: the largest config, in base64, several times over. A node's or a
/// service's spec is far below.
pub(super) const BODY_LEN_MAX: usize = 8 * 1024 * 1024;

/// A body up to here is taken apart where it was read.
const SMALL_LEN_MAX: usize = 64 * 1024;

/// Larger bodies that are taken apart at once; what that takes in memory is several times the body.
const LARGE_MAX: usize = 2;
static LARGE: Semaphore = Semaphore::const_new(LARGE_MAX);

/// How long a body may take: the largest over a slow line.
const BODY_TIME: Duration = Duration::from_secs(60);

/// The most values in one body; the largest spec that the Engine takes has some ten thousand.
const VALUES_MAX: usize = 200_000;

/// The largest object that the Engine takes, in bytes.
const OBJECT_LEN_MAX: usize = 4 * 1024 * 1024;

/// Reads and decodes the body of a request. No body is an empty object.
///
/// # Errors
/// It is too large, of another type, not JSON, or does not fit `T`.
pub(super) async fn body<T>(request: Request<Body>) -> Result<T, Failure>
where
    T: DeserializeOwned + Send + 'static,
{
    let (parts, body) = request.into_parts();
    let bytes = read(body).await?;
    apart(bytes, move |bytes| value(&parts.headers, bytes).and_then(from_value)).await
}

/// Takes a body apart: a large one on a thread that may be busy, since many nodes and clients wait for
/// the one that they are answered on.
///
/// # Errors
/// As `decode`.
pub(super) async fn apart<T: Send + 'static>(
    bytes: Bytes,
    decode: impl FnOnce(&[u8]) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    if bytes.len() <= SMALL_LEN_MAX {
        return decode(&bytes);
    }
    let turn = LARGE.acquire().await.expect("the semaphore is never closed");
    let decoded = tokio::task::spawn_blocking(move || decode(&bytes)).await;
    drop(turn);
    decoded.unwrap_or_else(|_| {
        let message = "internal error: the request body could not be decoded";
        Err(Failure(Refusal::front(Reason::Unknown, message)))
    })
}

/// Reads a body into memory.
///
/// # Errors
/// It is too large, takes too long, or the connection fails.
pub(super) async fn read(body: Body) -> Result<Bytes, Failure> {
    let too_large =
        || Failure::invalid(format!("the request body is larger than {BODY_LEN_MAX} bytes"));
    let known = body.size_hint().exact();
    if known.is_some_and(|len| len > BODY_LEN_MAX as u64) {
        return Err(too_large());
    }
    let reading = Limited::new(body, BODY_LEN_MAX).collect();
    match tokio::time::timeout(BODY_TIME, reading).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Failure::invalid("the request body could not be read")),
        Err(_) => Err(Failure::invalid(format!(
            "the request body did not come within {} s",
            BODY_TIME.as_secs()
        ))),
    }
}

/// Refuses a body of more values than any request has, before memory is taken for each of them: as text
/// a value takes two bytes, and in memory a hundred.
fn check_count(bytes: &[u8]) -> Result<(), Failure> {
    let (mut count, mut is_text, mut is_escaped) = (0_usize, false, false);
    for byte in bytes {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            b',' | b':' | b'[' | b'{' if !is_text => count += 1,
            _ => {}
        }
    }
    match count <= VALUES_MAX {
        true => Ok(()),
        false => {
            let message = format!("the request body has more than {VALUES_MAX} values");
            Err(Failure::invalid(message))
        }
    }
}

/// Parses a body as JSON of any shape.
///
/// # Errors
/// Another type, or not one JSON value.
pub(super) fn value(headers: &HeaderMap, bytes: &[u8]) -> Result<Value, Failure> {
    if bytes.is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    check_content_type(headers)?;
    check_count(bytes)?;
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    let first = match values.next() {
        Some(Ok(value)) => value,
        Some(Err(error)) => {
            return Err(Failure::invalid(format!("invalid JSON: {}", syntax_text(&error, bytes))));
        }
        None => return Err(Failure::invalid("invalid JSON: unexpected EOF")),
    };
    if bytes[values.byte_offset()..].iter().any(|byte| !byte.is_ascii_whitespace()) {
        return Err(Failure::invalid("unexpected content after JSON"));
    }
    Ok(first)
}

/// Decodes a JSON value by the Engine's rules.
///
/// # Errors
/// It does not fit `T`.
pub(super) fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    T::deserialize(Folded(value)).map_err(|error| {
        let text = error.to_string();
        match text.strip_prefix(PLAIN_MARK) {
            Some(plain) => Failure::invalid(plain),
            None => Failure::invalid(format!("invalid JSON: {}", without_value(&text))),
        }
    })
}

/// The text of an error without the value that it quotes, which may be a secret in the wrong place.
fn without_value(text: &str) -> String {
    let is_quoting = text.starts_with("invalid type: ") || text.starts_with("invalid value: ");
    match text.rsplit_once(", expected ").filter(|_| is_quoting) {
        Some((found, expected)) => {
            let kind = found.split(['"', '`']).next().unwrap_or_default();
            format!("{}, expected {expected}", kind.trim_end())
        }
        None => text.to_owned(),
    }
}

/// Refuses an object that the Engine would find too large.
///
/// # Errors
/// It is.
pub(super) fn check_object_len(len: usize) -> Result<(), Failure> {
    if len <= OBJECT_LEN_MAX {
        return Ok(());
    }
    let message = format!("grpc: received message larger than max ({len} vs. {OBJECT_LEN_MAX})");
    Err(Refusal::store(Reason::Exhausted, message).into())
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Failure> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Err(Failure::invalid("malformed Content-Type header (): mime: no media type"));
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    let kind = text.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/json" => Ok(()),
        "" => Err(Failure::invalid(format!(
            "malformed Content-Type header ({text}): mime: no media type"
        ))),
        _ => Err(Failure::invalid(format!(
            "unsupported Content-Type header ({text}): must be 'application/json'"
        ))),
    }
}

/// The Engine's words for text that is not JSON.
fn syntax_text(error: &serde_json::Error, bytes: &[u8]) -> String {
    if error.is_eof() {
        return "unexpected EOF".into();
    }
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let before: usize = lines.take(error.line().saturating_sub(1)).map(<[u8]>::len).sum();
    let at = (before + error.column()).saturating_sub(1).min(bytes.len().saturating_sub(1));
    literal_text(bytes, at).unwrap_or_else(|| {
        let text = String::from_utf8_lossy(&bytes[at..]);
        let found = text.chars().next().unwrap_or(' ');
        format!("invalid character {found:?} looking for beginning of value")
    })
}

/// A literal that begins well and goes on wrongly: `not` for `null`.
fn literal_text(bytes: &[u8], at: usize) -> Option<String> {
    let start = (0..=at).rev().take_while(|i| bytes[*i].is_ascii_alphabetic()).last()?;
    let word = &bytes[start..];
    let literal = ["null", "true", "false"].into_iter().find(|l| l.as_bytes()[0] == word[0])?;
    let (wrong, wished) = word.iter().zip(literal.bytes()).find(|(has, wish)| *has != wish)?;
    let (wrong, wished) = (char::from(*wrong), char::from(wished));
    Some(format!("invalid character {wrong:?} in literal {literal} (expecting {wished:?})"))
}

/// A JSON value that structs find their fields in whatever the case of its keys, and in which null
/// is the same as absent.
struct Folded(Value);

type Error = serde_json::Error;

impl Folded {
    fn or_zero(self, zero: Value) -> Value {
        if self.0.is_null() { zero } else { self.0 }
    }
}

macro_rules! with_zero {
    ($($method:ident => $zero:expr),* $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.or_zero($zero).$method(visitor)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Folded {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.0.deserialize_any(visitor)
    }

    with_zero! {
        deserialize_bool => Value::Bool(false),
        deserialize_i8 => 0.into(), deserialize_i16 => 0.into(), deserialize_i32 => 0.into(),
        deserialize_i64 => 0.into(), deserialize_i128 => 0.into(),
        deserialize_u8 => 0.into(), deserialize_u16 => 0.into(), deserialize_u32 => 0.into(),
        deserialize_u64 => 0.into(), deserialize_u128 => 0.into(),
        deserialize_f32 => 0.into(), deserialize_f64 => 0.into(),
        deserialize_char => "".into(), deserialize_str => "".into(),
        deserialize_string => "".into(), deserialize_bytes => "".into(),
        deserialize_byte_buf => "".into(), deserialize_identifier => "".into(),
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.or_zero(Value::Array(Vec::new())) {
            Value::Array(values) => {
                let values = values.into_iter().map(Folded);
                visitor.visit_seq(de::value::SeqDeserializer::new(values))
            }
            other => other.deserialize_seq(visitor),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.or_zero(Value::Object(serde_json::Map::new())) {
            Value::Object(map) => visitor.visit_map(Entries { rest: map.into_iter(), value: None }),
            other => other.deserialize_map(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.or_zero(Value::Object(serde_json::Map::new())) {
            Value::Object(map) => {
                // Of several keys that fold to one field, the last counts.
                let mut found: Vec<Option<Value>> = fields.iter().map(|_| None).collect();
                for (key, value) in map {
                    let at = fields.iter().position(|field| field.eq_ignore_ascii_case(&key));
                    if let Some(at) = at.filter(|_| !value.is_null()) {
                        found[at] = Some(value);
                    }
                }
                visitor.visit_map(Fields {
                    names: fields,
                    found: found.into_iter(),
                    at: 0,
                    value: None,
                })
            }
            // A list would do for its fields in turn, were it not refused here.
            Value::Array(_) => Err(de::Error::invalid_type(de::Unexpected::Seq, &visitor)),
            other => other.deserialize_struct(name, fields, visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! { unit unit_struct tuple tuple_struct enum ignored_any }
}

impl IntoDeserializer<'_, Error> for Folded {
    type Deserializer = Folded;
    fn into_deserializer(self) -> Folded {
        self
    }
}

/// The entries of a map, keys as they are.
struct Entries {
    rest: serde_json::map::IntoIter,
    value: Option<Value>,
}

impl<'de> de::MapAccess<'de> for Entries {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(Folded(Value::String(key))).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(Folded(self.value.take().unwrap_or_default()))
    }
}

/// The fields of a struct that were found, under the names that the struct knows.
struct Fields {
    names: &'static [&'static str],
    found: std::vec::IntoIter<Option<Value>>,
    at: usize,
    value: Option<Value>,
}

impl<'de> de::MapAccess<'de> for Fields {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        for found in self.found.by_ref() {
            self.at += 1;
            if found.is_some() {
                self.value = found;
                return seed.deserialize(StrDeserializer::new(self.names[self.at - 1])).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(Folded(self.value.take().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::service::{ModeKind, ServiceSpec};
    use axum::http::HeaderValue;

    fn decode<T: DeserializeOwned>(text: &str) -> Result<T, String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        value(&headers, text.as_bytes()).and_then(from_value).map_err(|failure| failure.0.message)
    }

    #[test]
    fn what_has_too_many_values_is_refused_before_they_are_made() {
        let many = |count: usize| format!("[{}0]", "0,".repeat(count));
        assert!(check_count(many(VALUES_MAX - 1).as_bytes()).is_ok());
        assert!(check_count(many(VALUES_MAX).as_bytes()).is_err());
        let text =
            format!(r#"{{"Data":"{}\"{}"}}"#, ",[".repeat(VALUES_MAX), ":".repeat(VALUES_MAX));
        assert!(check_count(text.as_bytes()).is_ok(), "what is text is no value");
    }

    #[test]
    fn keys_are_found_in_any_case_and_null_is_absent() {
        let spec: ServiceSpec = decode(
            r#"{"NAME":"x","name":"web","labels":null,"Mode":{"replicated":{"replicas":3}},
                "TaskTemplate":{"containerspec":{"IMAGE":"i","tty":true,"args":null,
                "Labels":{"Keep":"Case","n":null}}},"Unknown":1}"#,
        )
        .expect("a spec");
        assert_eq!(spec.name, "web", "the last of several keys counts");
        assert_eq!(spec.mode.kind(), ModeKind::Replicated(3));
        let container = spec.container().expect("a container");
        assert!(container.tty && container.image == "i" && container.args.is_empty());
        assert_eq!(container.labels["Keep"], "Case");
        assert_eq!(container.labels["n"], "");
    }

    #[test]
    fn what_is_not_one_json_value_is_refused_in_the_engines_words() {
        let cases = [
            (r#"{"Name":"#, "invalid JSON: unexpected EOF"),
            ("not json", "invalid JSON: invalid character 'o' in literal null (expecting 'u')"),
            ("{} {}", "unexpected content after JSON"),
            ("x", "invalid JSON: invalid character 'x' looking for beginning of value"),
        ];
        for (text, message) in cases {
            assert_eq!(decode::<ServiceSpec>(text).err().as_deref(), Some(message), "{text}");
        }
        for text in [
            r#"{"Name":1}"#,
            r#"{"Mode":{"Replicated":{"Replicas":-1}}}"#,
            r#"{"Mode":[]}"#,
            "[]",
            "1",
        ] {
            let message = decode::<ServiceSpec>(text).expect_err(text);
            assert!(message.starts_with("invalid JSON: "), "{message}");
        }
    }

    #[test]
    fn an_error_does_not_repeat_the_value() {
        let quoted = r#"invalid type: string "a \", expected b", expected struct SecretBody"#;
        assert_eq!(without_value(quoted), "invalid type: string, expected struct SecretBody");
        let number = "invalid value: integer `-1`, expected u64";
        assert_eq!(without_value(number), "invalid value: integer, expected u64");
        assert_eq!(without_value("missing field `x`"), "missing field `x`");
    }

    #[test]
    fn an_array_is_no_object() {
        let wrong = decode::<ServiceSpec>(r#"["name", {}]"#).expect_err("an array");
        assert!(wrong.contains("sequence"), "{wrong}");
    }

    #[test]
    fn enumerations_are_refused_in_their_own_words() {
        let message =
            decode::<ServiceSpec>(r#"{"TaskTemplate":{"RestartPolicy":{"Condition":"foo"}}}"#);
        assert_eq!(message.err().as_deref(), Some(r#"invalid RestartCondition: "foo""#));
        let empty = decode::<ServiceSpec>(r#"{"TaskTemplate":{"RestartPolicy":{"Condition":""}}}"#);
        assert!(empty.is_ok());
    }
}
