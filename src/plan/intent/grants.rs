//! The files that secrets and configs become in a container: each has a path that no other has.

use std::collections::BTreeMap;

use crate::domain::container::{ConfigReference, ContainerSpec};
use crate::domain::refusal::Refusal;
use crate::domain::secret::{FileTarget, SecretReference};

/// What a path leads to: a kind, a name, and the path as it was given.
#[derive(Debug, Clone, Copy)]
struct Holder<'s> {
    word: &'static str,
    name: &'s str,
    given: &'s str,
}

/// The paths of a container that secrets and configs have.
#[derive(Debug, Default)]
pub(super) struct Grants<'s> {
    paths: BTreeMap<String, Holder<'s>>,
}

/// Checks that each grant has a file of its own.
///
/// # Errors
/// Names what is malformed, or both grants that end at one path.
pub(super) fn check(container: &ContainerSpec) -> Result<Grants<'_>, Refusal> {
    let mut grants = Grants::default();
    for SecretReference { file, secret_id, secret_name } in &container.secrets {
        if secret_id.is_empty() || secret_name.is_empty() {
            return Err(Refusal::invalid("malformed secret reference"));
        }
        let Some(file) = file else {
            return Err(Refusal::invalid("malformed secret reference, no target provided"));
        };
        grants.add("secret", secret_name, file)?;
    }
    for ConfigReference { file, config_id, config_name, .. } in &container.configs {
        if config_id.is_empty() || config_name.is_empty() {
            return Err(Refusal::invalid("malformed config reference"));
        }
        // One for the runtime has no file.
        if let Some(file) = file {
            grants.add("config", config_name, file)?;
        }
    }
    Ok(grants)
}

impl<'s> Grants<'s> {
    fn add(
        &mut self,
        word: &'static str,
        name: &'s str,
        file: &'s FileTarget,
    ) -> Result<(), Refusal> {
        let given = file.name.as_str();
        if given.is_empty() {
            return Err(Refusal::invalid(format!(
                "malformed file {word} reference, invalid target file name provided"
            )));
        }
        let path = resolve(word, given).ok_or_else(|| {
            Refusal::invalid(format!(
                "{word} reference '{name}' has a target that leaves {}: '{given}'; an absolute path \
                 can be anywhere",
                base(word)
            ))
        })?;
        let holder = Holder { word, name, given };
        let Some(other) = self.paths.insert(path.clone(), holder) else { return Ok(()) };
        let target = if other.given == given { given } else { &path };
        Err(Refusal::invalid(match other.word == word {
            true => format!(
                "{word} references '{}' and '{name}' have a conflicting target: '{target}'",
                other.name
            ),
            false => conflict(other, &format!("{word} '{name}'"), target),
        }))
    }

    /// Refuses a mount at the path of a grant.
    pub(super) fn check_mount(&self, path: &str) -> Result<(), Refusal> {
        match self.paths.get(path) {
            None => Ok(()),
            Some(holder) => Err(Refusal::invalid(conflict(*holder, "a mount", path))),
        }
    }
}

fn conflict(Holder { word, name, .. }: Holder<'_>, other: &str, path: &str) -> String {
    format!("{word} '{name}' and {other} have a conflicting target: '{path}'")
}

/// Where a relative path begins.
fn base(word: &str) -> &'static str {
    if word == "secret" { "/run/secrets" } else { "/" }
}

/// Where a file ends up. `None` for a relative path that leads out of its directory, or to it.
fn resolve(word: &str, given: &str) -> Option<String> {
    if given.starts_with('/') {
        return Some(clean(given));
    }
    let base = base(word);
    let path = clean(&format!("{base}/{given}"));
    // Above the root there is nothing to get to.
    let is_below = base == "/" && path != "/" || path.strip_prefix(base)?.len() > 1;
    is_below.then_some(path)
}

/// An absolute path without `.`, `..`, and slashes that mean nothing.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_stays_where_it_begins() {
        for (word, given, expected) in [
            ("secret", "x", Some("/run/secrets/x")),
            ("secret", "./a//b/", Some("/run/secrets/a/b")),
            ("secret", "/etc/./x", Some("/etc/x")),
            ("secret", "/../x", Some("/x")),
            ("secret", "a/../b", Some("/run/secrets/b")),
            ("secret", "../x", None),
            ("secret", "../secrets2", None),
            ("secret", "../../etc/passwd", None),
            ("secret", ".", None),
            ("config", "x", Some("/x")),
            ("config", "../x", Some("/x")),
            ("config", ".", None),
        ] {
            assert_eq!(resolve(word, given).as_deref(), expected, "{word} {given}");
        }
    }
}
