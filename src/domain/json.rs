//! Helpers for the Engine API's JSON conventions, shared by all specs.

use serde::{Deserialize, Deserializer, Serializer, de};

/// Marks the text of a decoding error that the Engine reports without its `invalid JSON: ` prefix,
/// such as an unknown enumeration value. Serde errors carry only text, so the mark travels in it;
/// the HTTP door strips it.
pub const PLAIN_MARK: char = '\u{1}';

/// True for the value that the Engine leaves out of its answers (`omitempty`).
pub fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Byte strings as standard base64, as the Engine writes them.
pub mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::{Deserialize, Deserializer, Serializer, de};

    /// Writes the bytes as padded standard base64.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    /// Reads padded standard base64; line breaks inside are allowed.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        super::decode_base64(&text).map_err(de::Error::custom)
    }
}

/// Decodes padded standard base64, passing over line breaks.
///
/// # Errors
/// The Engine's text for anything else, with the offset of the first byte that does not fit.
pub fn decode_base64(text: &str) -> Result<Vec<u8>, String> {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    let (error, text) = match engine.decode(text) {
        Ok(bytes) => return Ok(bytes),
        Err(_) if text.contains(['\n', '\r']) => {
            let stripped = text.replace(['\n', '\r'], "");
            match engine.decode(&stripped) {
                Ok(bytes) => return Ok(bytes),
                Err(error) => (error, std::borrow::Cow::Owned(stripped)),
            }
        }
        Err(error) => (error, std::borrow::Cow::Borrowed(text)),
    };
    let at = match error {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => {
            at
        }
        base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => {
            text.len() / 4 * 4
        }
    };
    Err(format!("illegal base64 data at input byte {at}"))
}

/// Declares an enumeration of the Engine API: its variants, their texts, and the text with which an
/// unknown value is refused (`{}` stands for the value). With `any case`, requests may write the texts
/// in any case. With `default`, a field that is left out or empty stands for that variant, and is
/// written as such.
macro_rules! engine_enum {
    (
        $(#[$doc:meta])* $name:ident, unknown $unknown:literal,
        $($rest:tt)+
    ) => {
        engine_enum! { @fold [|text: &str| text.to_owned()] $(#[$doc])* $name, unknown $unknown, $($rest)+ }
    };
    (
        $(#[$doc:meta])* $name:ident in any case, unknown $unknown:literal,
        $($rest:tt)+
    ) => {
        engine_enum! { @fold [str::to_lowercase] $(#[$doc])* $name, unknown $unknown, $($rest)+ }
    };
    (
        @fold [$fold:expr] $(#[$doc:meta])* $name:ident, unknown $unknown:literal, default $default:ident,
        $($rest:tt)+
    ) => {
        engine_enum! { @fold [$fold] $(#[$doc])* $name, unknown $unknown, $($rest)+ }

        impl Default for $name {
            fn default() -> Self {
                $name::$default
            }
        }
    };
    (
        @fold [$fold:expr] $(#[$doc:meta])* $name:ident, unknown $unknown:literal,
        $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
        pub enum $name {
            $($(#[$vdoc])* #[schema(rename = $text)] $variant,)+
        }

        impl $name {
            /// The Engine's text for this value.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The value that this text names.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }

            /// The value that a request means by this text.
            pub fn read(text: &str) -> Option<Self> {
                let fold: fn(&str) -> String = $fold;
                Self::parse(&fold(text))
            }

            /// How the Engine refuses a text that names no value.
            pub fn unknown(text: &str) -> String {
                format!($unknown, text)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                Self::read(&text).ok_or_else(|| {
                    serde::de::Error::custom(format!(
                        "{}{}", $crate::domain::json::PLAIN_MARK, Self::unknown(&text)
                    ))
                })
            }
        }
    };
}
pub(crate) use engine_enum;

/// Reads an optional enumeration, taking the empty text as absent.
pub fn empty_as_none<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let text = Option::<std::borrow::Cow<str>>::deserialize(deserializer)?;
    match text {
        None => Ok(None),
        Some(text) if text.is_empty() => Ok(None),
        Some(text) => T::deserialize(de::value::CowStrDeserializer::new(text)).map(Some),
    }
}

/// Reads an enumeration, taking absent and empty for its default.
pub fn empty_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    empty_as_none(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::decode_base64;

    #[test]
    fn base64_is_strict_but_for_line_breaks() {
        assert_eq!(decode_base64("YWJj"), Ok(b"abc".to_vec()));
        assert_eq!(decode_base64("YW\nJj\r\n"), Ok(b"abc".to_vec()));
        assert_eq!(decode_base64("YQ"), Err("illegal base64 data at input byte 0".into()));
        assert_eq!(decode_base64("!!!!"), Err("illegal base64 data at input byte 0".into()));
        assert_eq!(decode_base64("-_8="), Err("illegal base64 data at input byte 0".into()));
    }
}
