//! Placement constraints: `key == value` and `key != value` over a node.

use std::net::IpAddr;

use super::node::{Node, NodeRole};

/// One parsed constraint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    key: String,
    equal: bool,
    value: String,
}

impl Constraint {
    /// Parses the text of a constraint.
    ///
    /// # Errors
    /// The text that the Engine API answers: no operator, or a key or value that is not allowed.
    pub fn parse(text: &str) -> Result<Constraint, String> {
        let operator = ["==", "!="].into_iter().find_map(|op| Some((op, text.find(op)?)));
        let Some((operator, at)) = operator else {
            return Err("constraint expected one operator from ==, !=".into());
        };
        let (key, value) = (text[..at].trim(), text[at + operator.len()..].trim());
        if !is_key(key) {
            return Err(format!("key '{key}' is invalid"));
        }
        if !is_value(value) {
            return Err(format!("value '{value}' is invalid"));
        }
        Ok(Constraint { key: key.into(), equal: operator == "==", value: value.into() })
    }

    /// True when the node satisfies the constraint. A key that names nothing satisfies nothing.
    pub fn matches(&self, node: &Node) -> bool {
        let description = node.description.as_ref();
        let key = self.key.to_ascii_lowercase();
        let role = if node.manager.is_some() { NodeRole::Manager } else { NodeRole::Worker };
        match key.as_str() {
            "node.id" => self.compare(node.id.as_str()),
            "node.hostname" => self.compare(node.hostname()),
            "node.role" => self.compare(role.as_str()),
            "node.ip" => self.compare_address(&node.status.addr),
            "node.platform.os" => self.compare(description.map_or("", |d| &d.platform.os)),
            "node.platform.arch" => {
                self.compare(description.map_or("", |d| &d.platform.architecture))
            }
            _ => label(node, &self.key).is_some_and(|value| self.compare(value)),
        }
    }

    fn compare(&self, actual: &str) -> bool {
        self.value.eq_ignore_ascii_case(actual) == self.equal
    }

    fn compare_address(&self, actual: &str) -> bool {
        let Ok(actual) = actual.parse::<IpAddr>() else { return false };
        let (network, prefix) = match self.value.split_once('/') {
            Some((network, prefix)) => match prefix.parse::<u32>() {
                Ok(prefix) => (network, Some(prefix)),
                Err(_) => return false,
            },
            None => (self.value.as_str(), None),
        };
        let Ok(network) = network.parse::<IpAddr>() else { return false };
        match within(actual, network, prefix) {
            Some(inside) => inside == self.equal,
            None => false,
        }
    }
}

/// Whether an address lies in a network; `None` for a prefix that is too long.
fn within(actual: IpAddr, network: IpAddr, prefix: Option<u32>) -> Option<bool> {
    let (actual, network, bits) = match (actual, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (u128::from(a.to_bits()), u128::from(n.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(n)) => (a.to_bits(), n.to_bits(), 128),
        _ => return Some(false),
    };
    let prefix = prefix.unwrap_or(bits);
    let shift = bits.checked_sub(prefix)?;
    let high = |address: u128| address.checked_shr(shift).unwrap_or(0);
    Some(high(actual) == high(network))
}

fn is_key(key: &str) -> bool {
    let mut bytes = key.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first
        && key.len() > 1
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn is_value(value: &str) -> bool {
    !value.is_empty()
        && value.chars().all(|c| {
            c.is_ascii_alphanumeric() || c.is_ascii_whitespace() || ":-_.*()?+[]\\^$|/".contains(c)
        })
}

/// The value that a node has of the label that a key names, as in `node.labels.zone` or
/// `engine.labels.disk`; empty when it lacks the label, and `None` when the key names none.
pub fn label<'n>(node: &'n Node, key: &str) -> Option<&'n str> {
    // Label keys keep their case; only what is in front of them is folded.
    let name = |start: &str| {
        let (head, name) = key.split_at_checked(start.len())?;
        head.eq_ignore_ascii_case(start).then_some(name)
    };
    if let Some(name) = name("node.labels.") {
        return Some(node.spec.labels.get(name).map_or("", String::as_str));
    }
    let labels = node.description.as_ref().map(|description| &description.engine.labels);
    name("engine.labels.").map(|name| labels.and_then(|l| l.get(name)).map_or("", String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_parse_as_the_engine_parses_them() {
        for good in ["node.role==manager", "node.labels.a-b != x y", " node.ip == 10.0.0.0/8 "] {
            assert!(Constraint::parse(good).is_ok(), "{good}");
        }
        let cases = [
            ("node.role=manager", "constraint expected one operator from ==, !="),
            ("1node==a", "key '1node' is invalid"),
            ("node.role==~~", "value '~~' is invalid"),
            ("node.role==", "value '' is invalid"),
        ];
        for (text, message) in cases {
            assert_eq!(Constraint::parse(text), Err(message.into()), "{text}");
        }
    }

    #[test]
    fn addresses_match_whole_or_by_prefix() {
        let inside = |address: &str, network: &str, prefix| {
            within(address.parse().expect("address"), network.parse().expect("network"), prefix)
        };
        assert_eq!(inside("10.1.2.3", "10.0.0.0", Some(8)), Some(true));
        assert_eq!(inside("11.1.2.3", "10.0.0.0", Some(8)), Some(false));
        assert_eq!(inside("10.1.2.3", "10.1.2.3", None), Some(true));
        assert_eq!(inside("10.1.2.3", "0.0.0.0", Some(0)), Some(true));
        assert_eq!(inside("10.1.2.3", "10.0.0.0", Some(33)), None);
        assert_eq!(inside("fd00::1", "fd00::", Some(8)), Some(true));
        assert_eq!(inside("fd00::1", "10.0.0.0", Some(8)), Some(false));
    }
}
