//! Drivers: where the value of a secret comes from when no client sends it. `generate` draws one that nobody
//! sees; `exec` takes what a command prints that the operator named beforehand. What they need to know stands
//! in labels of the secret, or in options of the driver.

use std::collections::BTreeMap;

use super::container::Driver;
use super::secret::SecretSpec;
use super::time::{Nanoseconds, parse_span};

/// How long a generated value is when nothing is said.
const LENGTH_DEFAULT: usize = 32;
/// The shortest and the longest.
const LENGTHS: std::ops::RangeInclusive<usize> = 8..=1024;
/// The shortest time between two values.
const EVERY_MIN: Nanoseconds = 60_000_000_000;

/// What the names of labels begin with.
const PREFIX: &str = "purser.";
/// How many characters a generated value has.
const LENGTH_LABEL: &str = "purser.length";
/// How old a value may become.
const EVERY_LABEL: &str = "purser.rotate-every";
/// Which command supplies it.
const COMMAND_LABEL: &str = "purser.command";

/// Labels of a secret.
type Labels = BTreeMap<String, String>;

/// How a secret is supplied with values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supply {
    /// From where.
    pub source: Source,
    /// How old a value may become before the next one is made; any age when absent.
    pub every: Option<Nanoseconds>,
}

/// Where values come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// They are drawn.
    Generate {
        /// So many letters and digits.
        length: usize,
    },
    /// A command prints them.
    Exec {
        /// Its name in the configuration.
        command: String,
    },
}

impl Supply {
    /// How a secret with this spec is supplied; `None` without a driver, and with one that is not known.
    ///
    /// # Errors
    /// A label says nothing that can be done.
    pub fn of(spec: &SecretSpec) -> Result<Option<Supply>, String> {
        Supply::by(spec.driver.as_ref(), &spec.labels)
    }

    /// The same by a driver and labels.
    ///
    /// # Errors
    /// As [`Supply::of`].
    pub fn by(driver: Option<&Driver>, labels: &Labels) -> Result<Option<Supply>, String> {
        let Some(driver) = driver else { return Ok(None) };
        if !matches!(&*driver.name, "generate" | "exec") {
            return Ok(None);
        }
        check_options(driver)?;
        // An option counts as the label of its name does, with or without what they begin with.
        let label = |name: &str| {
            let options = &driver.options;
            let option = || options.get(name).or_else(|| options.get(name.strip_prefix(PREFIX)?));
            labels.get(name).or_else(option).map(String::as_str)
        };
        let source = match &*driver.name {
            "generate" => Source::Generate { length: length(label(LENGTH_LABEL))? },
            _ => Source::Exec { command: command(label(COMMAND_LABEL), labels)? },
        };
        let every = label(EVERY_LABEL).map(every).transpose()?;
        Ok(Some(Supply { source, every }))
    }
}

/// Refuses an option that says nothing to a driver.
fn check_options(driver: &Driver) -> Result<(), String> {
    let known = match &*driver.name {
        "generate" => [LENGTH_LABEL, EVERY_LABEL],
        _ => [COMMAND_LABEL, EVERY_LABEL],
    };
    let is_known = |option: &String| {
        known.iter().any(|name| name == option || name.strip_prefix(PREFIX) == Some(option))
    };
    match driver.options.keys().find(|option| !is_known(option)) {
        None => Ok(()),
        Some(option) => {
            let (name, [one, other]) = (&driver.name, known);
            Err(format!("the driver {name} has no option {option:?}; there are {one} and {other}"))
        }
    }
}

fn command(name: Option<&str>, labels: &Labels) -> Result<String, String> {
    let name = name.filter(|name| !name.is_empty()).ok_or_else(|| {
        format!(
            "the driver exec needs the label {COMMAND_LABEL}, with the name of a configured command"
        )
    })?;
    let mut seen = BTreeMap::new();
    for label in labels.keys() {
        if let Some(other) = seen.insert(variable(label), label) {
            return Err(format!("labels {other:?} and {label:?} would be the same to a command"));
        }
    }
    Ok(name.to_owned())
}

/// The variable in which a command finds a label: in capital letters, with `_` for all that no variable's name
/// can have.
pub fn variable(label: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let name: String = label.chars().map(plain).collect();
    format!("PURSER_LABEL_{name}")
}

fn length(text: Option<&str>) -> Result<usize, String> {
    let Some(text) = text else { return Ok(LENGTH_DEFAULT) };
    let length = text.parse().ok().filter(|length| LENGTHS.contains(length));
    let [least, most] = [LENGTHS.start(), LENGTHS.end()];
    length.ok_or_else(|| {
        format!("label {LENGTH_LABEL}: {text:?} is no number of characters from {least} to {most}")
    })
}

fn every(text: &str) -> Result<Nanoseconds, String> {
    let every = parse_span(text).filter(|every| *every >= EVERY_MIN);
    every.ok_or_else(|| {
        format!(
            "label {EVERY_LABEL}: {text:?} is no time of a minute or more, as in 30d, 12h or 90m"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supply(driver: &str, labels: &[(&str, &str)]) -> Result<Option<Supply>, String> {
        let labels = labels.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect();
        let driver = Driver { name: driver.into(), options: Default::default() };
        let name = "a".to_owned();
        Supply::of(&SecretSpec { name, labels, driver: Some(driver), templating: None })
    }

    #[test]
    fn labels_say_how_a_secret_is_supplied() {
        let plain = Supply { source: Source::Generate { length: 32 }, every: None };
        assert_eq!(supply("generate", &[]), Ok(Some(plain)));
        let day = Some(86_400_000_000_000);
        let long = Supply { source: Source::Generate { length: 64 }, every: day };
        let labels = [("purser.length", "64"), ("purser.rotate-every", "1d")];
        assert_eq!(supply("generate", &labels), Ok(Some(long)));
        let command = "vault".to_owned();
        let exec = Supply { source: Source::Exec { command }, every: None };
        assert_eq!(supply("exec", &[("purser.command", "vault")]), Ok(Some(exec)));
        assert_eq!(supply("vault", &[("purser.length", "x")]), Ok(None), "none of ours");
        let refused = supply("exec", &[]).expect_err("which one");
        assert!(refused.contains("purser.command"), "{refused}");
        let alike = [("purser.command", "vault"), ("a.b", "1"), ("a_b", "2")];
        assert!(supply("exec", &alike).is_err_and(|refused| refused.contains("the same")));
        for (label, text) in [
            ("purser.length", "7"),
            ("purser.length", "1025"),
            ("purser.length", "-1"),
            ("purser.rotate-every", "59s"),
            ("purser.rotate-every", "soon"),
        ] {
            let refused = supply("generate", &[(label, text)]).expect_err(text);
            assert!(refused.contains(label), "{refused}");
        }
    }
}
