//! The functions that templates may call.

use std::cmp::Ordering;

use super::value::Value;

/// Which functions there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Functions {
    /// Those of texts in a container's spec.
    OfSpecs,
    /// Those of payloads, which reach what the container is granted as well.
    OfPayloads,
}

/// Name, fewest and most arguments; `None`: any number.
const COMMON: &[(&str, usize, Option<usize>)] = &[
    ("and", 1, None),
    ("call", 1, None),
    ("eq", 1, None),
    ("ge", 2, Some(2)),
    ("gt", 2, Some(2)),
    ("html", 0, None),
    ("index", 1, None),
    ("join", 0, None),
    ("js", 0, None),
    ("le", 2, Some(2)),
    ("len", 1, Some(1)),
    ("lt", 2, Some(2)),
    ("ne", 2, Some(2)),
    ("not", 1, Some(1)),
    ("or", 1, None),
    ("print", 0, None),
    ("printf", 1, None),
    ("println", 0, None),
    ("slice", 1, None),
    ("urlquery", 0, None),
];

const OF_PAYLOADS: &[&str] = &["config", "env", "secret"];

impl Functions {
    /// True for a function that may be called.
    pub(super) fn has(self, name: &str) -> bool {
        COMMON.iter().any(|(common, ..)| *common == name)
            || self == Functions::OfPayloads && OF_PAYLOADS.contains(&name)
    }
}

/// Refuses a call with too few or too many arguments.
pub(super) fn check_count(name: &str, count: usize) -> Result<(), String> {
    let Some((_, min, max)) = COMMON.iter().find(|(common, ..)| *common == name) else {
        return Ok(());
    };
    let want = match max {
        _ if count >= *min && max.is_none_or(|max| count <= max) => return Ok(()),
        None => format!("at least {min}"),
        Some(max) => max.to_string(),
    };
    Err(format!("wrong number of args for {name}: want {want} got {count}"))
}

/// Refuses an argument of another type than a function takes.
pub(super) fn check_argument(name: &str, at: usize, value: &Value) -> Result<(), String> {
    let takes_text = name == "join" || name == "printf" && at == 0;
    match value {
        Value::Text(_) => Ok(()),
        other if takes_text => Err(format!("expected string; found {}", other.print())),
        _ => Ok(()),
    }
}

/// Calls a function; `and` and `or` come here with all that they had to look at.
pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let first = arguments.first().unwrap_or(&Value::Nothing);
    let failed = |text: String| format!("error calling {name}: {text}");
    let compared = || order(first, &arguments[1]).map_err(failed);
    Ok(match name {
        "and" | "or" => arguments.last().cloned().unwrap_or(Value::Nothing),
        "not" => Value::Bool(!first.is_true()),
        "eq" => Value::Bool(equals_any(first, &arguments[1..]).map_err(failed)?),
        "ne" => Value::Bool(!equals(first, &arguments[1]).map_err(failed)?),
        "lt" => Value::Bool(compared()?.is_lt()),
        "le" => Value::Bool(compared()?.is_le()),
        "gt" => Value::Bool(compared()?.is_gt()),
        "ge" => Value::Bool(compared()?.is_ge()),
        "len" => length(first).map_err(failed)?,
        "index" => index(first, &arguments[1..]).map_err(failed)?,
        "slice" => slice(first, &arguments[1..]).map_err(failed)?,
        "call" => return Err(failed(format!("non-function of type {}", first.kind()))),
        "join" => join(arguments).map_err(failed)?,
        "println" => Value::Text(printed(arguments, " ") + "\n"),
        "printf" => Value::Text(formatted(first, &arguments[1..])),
        "html" => Value::Text(escaped(&spaced(arguments), HTML)),
        "js" => Value::Text(escaped(&spaced(arguments), JS)),
        "urlquery" => Value::Text(url_query(&spaced(arguments))),
        _ => Value::Text(spaced(arguments)),
    })
}

fn printed(arguments: &[Value], between: &str) -> String {
    arguments.iter().map(Value::print).collect::<Vec<_>>().join(between)
}

/// As `print` writes them: with a blank between two of which neither is a text.
fn spaced(arguments: &[Value]) -> String {
    let mut text = String::new();
    for (at, argument) in arguments.iter().enumerate() {
        let is_text = |value: &Value| matches!(value, Value::Text(_));
        if at > 0 && !is_text(argument) && !is_text(&arguments[at - 1]) {
            text.push(' ');
        }
        text.push_str(&argument.print());
    }
    text
}

fn incompatible() -> String {
    "incompatible types for comparison".into()
}

fn equals_any(first: &Value, others: &[Value]) -> Result<bool, String> {
    if others.is_empty() {
        return Err("missing argument for comparison".into());
    }
    for other in others {
        if equals(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn equals(one: &Value, other: &Value) -> Result<bool, String> {
    match (one, other) {
        (Value::Map(_), _) | (_, Value::Map(_)) => {
            Err("non-comparable type map[string]string".into())
        }
        (Value::Object(kind, _), Value::Object(other_kind, _)) if kind == other_kind => {
            match contains_map(one) {
                true => Err(format!("non-comparable type {kind}")),
                false => Ok(one == other),
            }
        }
        _ if std::mem::discriminant(one) == std::mem::discriminant(other) => Ok(one == other),
        (Value::Nothing, _) | (_, Value::Nothing) => Ok(false),
        _ => Err(incompatible()),
    }
}

fn contains_map(value: &Value) -> bool {
    match value {
        Value::Map(_) => true,
        Value::Object(_, fields) => fields.iter().any(|(_, field)| contains_map(field)),
        _ => false,
    }
}

fn order(one: &Value, other: &Value) -> Result<Ordering, String> {
    match (one, other) {
        (Value::Whole(one), Value::Whole(other)) => Ok(one.cmp(other)),
        (Value::Real(one), Value::Real(other)) => Ok(one.total_cmp(other)),
        (Value::Text(one), Value::Text(other)) => Ok(one.cmp(other)),
        _ if std::mem::discriminant(one) == std::mem::discriminant(other) => {
            Err("invalid type for comparison".into())
        }
        _ => Err(incompatible()),
    }
}

fn length(value: &Value) -> Result<Value, String> {
    let length = match value {
        Value::Text(text) => text.len(),
        Value::Map(map) => map.len(),
        other => return Err(format!("len of type {}", other.kind())),
    };
    Ok(Value::Whole(i64::try_from(length).unwrap_or(i64::MAX)))
}

/// A number that names a place in a text of this length.
fn place(value: &Value, length: usize) -> Result<usize, String> {
    let Value::Whole(number) = value else {
        return Err(format!("cannot index slice/array with type {}", value.kind()));
    };
    let place = usize::try_from(*number).ok().filter(|place| *place <= length);
    place.ok_or_else(|| format!("index out of range: {number}"))
}

fn index(value: &Value, keys: &[Value]) -> Result<Value, String> {
    let mut found = value.clone();
    for key in keys {
        found = match (&found, key) {
            (Value::Text(text), key) => {
                let at = place(key, text.len())?;
                let byte = text.as_bytes().get(at);
                let byte = byte.ok_or_else(|| format!("index out of range: {at}"))?;
                Value::Whole(i64::from(*byte))
            }
            (Value::Map(map), Value::Text(key)) => {
                Value::Text(map.get(key).cloned().unwrap_or_default())
            }
            (Value::Map(_), key) => {
                return Err(format!("value has type {}; should be string", key.kind()));
            }
            (Value::Nothing, _) => return Err("index of untyped nil".into()),
            (other, _) => return Err(format!("can't index item of type {}", other.kind())),
        };
    }
    Ok(found)
}

fn slice(value: &Value, places: &[Value]) -> Result<Value, String> {
    if places.len() > 3 {
        return Err(format!("too many slice indexes: {}", places.len()));
    }
    let text = match value {
        Value::Text(_) if places.len() == 3 => return Err("cannot 3-index slice a string".into()),
        Value::Text(text) => text,
        Value::Nothing => return Err("slice of untyped nil".into()),
        other => return Err(format!("can't slice item of type {}", other.kind())),
    };
    let mut ends = [0, text.len()];
    for (end, given) in ends.iter_mut().zip(places) {
        *end = place(given, text.len())?;
    }
    let [from, to] = ends;
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    Ok(Value::Text(String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned()))
}

/// The first is what goes between the others.
fn join(arguments: &[Value]) -> Result<Value, String> {
    match arguments {
        [] => Err("runtime error: slice bounds out of range [1:0]".into()),
        [between, parts @ ..] => Ok(Value::Text(printed(parts, &between.print()))),
    }
}

/// Each verb takes the next argument; flags and widths are passed over.
fn formatted(format: &Value, arguments: &[Value]) -> String {
    let format = format.print();
    let mut arguments = arguments.iter();
    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        match characters.by_ref().find(|c| !c.is_ascii_digit() && !"+-# .".contains(*c)) {
            Some('%') => text.push('%'),
            None => text.push_str("%!(NOVERB)"),
            Some(verb) => match arguments.next() {
                None => text.push_str(&format!("%!{verb}(MISSING)")),
                Some(value) => text.push_str(&verbed(verb, value)),
            },
        }
    }
    text
}

fn verbed(verb: char, value: &Value) -> String {
    match (verb, value) {
        ('q', Value::Text(text)) => format!("{text:?}"),
        ('x', Value::Whole(number)) => format!("{number:x}"),
        ('X', Value::Whole(number)) => format!("{number:X}"),
        ('o', Value::Whole(number)) => format!("{number:o}"),
        ('b', Value::Whole(number)) => format!("{number:b}"),
        ('c', Value::Whole(number)) => {
            let character = u32::try_from(*number).ok().and_then(char::from_u32);
            character.unwrap_or(char::REPLACEMENT_CHARACTER).to_string()
        }
        ('f', Value::Real(number)) => format!("{number:.6}"),
        ('T', value) => value.kind().into(),
        _ => value.print(),
    }
}

const HTML: &[(char, &str)] =
    &[('"', "&#34;"), ('\'', "&#39;"), ('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;")];

const JS: &[(char, &str)] = &[
    ('\\', "\\\\"),
    ('\'', "\\'"),
    ('"', "\\\""),
    ('<', "\\u003C"),
    ('>', "\\u003E"),
    ('&', "\\u0026"),
    ('=', "\\u003D"),
];

fn escaped(text: &str, table: &[(char, &str)]) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match table.iter().find(|(plain, _)| *plain == character) {
            Some((_, written)) => escaped.push_str(written),
            None => escaped.push(character),
        }
    }
    escaped
}

fn url_query(text: &str) -> String {
    let mut query = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => query.push('+'),
            b'-' | b'_' | b'.' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                query.push(char::from(byte));
            }
            _ => query.push_str(&format!("%{byte:02X}")),
        }
    }
    query
}
