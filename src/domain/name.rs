//! Names: which are well formed, and when two of them are the same.

use std::borrow::Borrow;
use std::sync::Arc;

use super::refusal::Refusal;

/// The longest name of a secret or config, in bytes.
pub const PAYLOAD_NAME_LEN_MAX: usize = 64;
/// The longest name of a service, in bytes.
pub const SERVICE_NAME_LEN_MAX: usize = 63;

/// A name as it is indexed: two names are the same when their keys are. Clones are cheap, since an
/// index that changes copies its neighbours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameKey(Arc<str>);

impl NameKey {
    /// The key of a name.
    pub fn new(name: &str) -> NameKey {
        NameKey(NameKey::fold(name).into())
    }

    /// The text that a name's key holds: the name in lower case.
    pub fn fold(name: &str) -> String {
        name.to_lowercase()
    }
}

impl Borrow<str> for NameKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Checks the name of a secret or config.
///
/// # Errors
/// Absent, longer than 64 bytes, or with characters that are not allowed.
pub fn check_payload_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::invalid("name must be provided"));
    }
    let bytes = name.as_bytes();
    let ends_well =
        bytes[0].is_ascii_alphanumeric() && bytes[bytes.len() - 1].is_ascii_alphanumeric();
    let inner_well =
        bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if bytes.len() > PAYLOAD_NAME_LEN_MAX || !ends_well || !inner_well {
        return Err(Refusal::invalid(
            "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end \
             character must be [a-zA-Z0-9]",
        ));
    }
    Ok(())
}

/// Checks the name of a service: a DNS label that may hold underscores.
///
/// # Errors
/// Longer than 63 bytes, or not such a label.
pub fn check_service_name(name: &str) -> Result<(), Refusal> {
    let bytes = name.as_bytes();
    let well_formed = bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if !well_formed {
        return Err(Refusal::invalid("name must be valid as a DNS name component"));
    }
    if bytes.len() > SERVICE_NAME_LEN_MAX {
        return Err(Refusal::invalid("name must be 63 characters or fewer"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_names_follow_the_engines_rule() {
        for good in ["a", "0", "a..b", "a--b_c.d", "db-pass", &"x".repeat(64)] {
            assert!(check_payload_name(good).is_ok(), "{good}");
        }
        for bad in ["-a", "a-", ".a", "a_", "a b", "a/b", "ä", "a\n", &"x".repeat(65)] {
            assert!(check_payload_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn service_names_are_dns_labels() {
        for good in ["web", "a_b-c", "0a", &"x".repeat(63)] {
            assert!(check_service_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a.b", "-a", "a-", "a b", "ä", &"x".repeat(64)] {
            assert!(check_service_name(bad).is_err(), "{bad:?}");
        }
    }
}
