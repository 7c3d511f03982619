//! Templates in the environment, the host name and the mounts of a task. The node expands them; here
//! they are only tried, so that a mistake shows when the service is made and not in every task.

/// The values that a template may use, each behind a dot.
const VALUES: &[&str] = &[
    ".Service",
    ".Service.ID",
    ".Service.Name",
    ".Service.Labels",
    ".Node",
    ".Node.ID",
    ".Node.Hostname",
    ".Node.Platform",
    ".Node.Platform.Architecture",
    ".Node.Platform.OS",
    ".Task",
    ".Task.ID",
    ".Task.Name",
    ".Task.Slot",
];

/// Tries a text.
///
/// # Errors
/// An action is not closed, or names a value that is not there.
pub(super) fn check(text: &str) -> Result<(), String> {
    let mut rest = text;
    while let Some(at) = rest.find("{{") {
        let action = &rest[at + 2..];
        let Some(end) = action.find("}}") else {
            return Err("template: expansion:1: unclosed action".into());
        };
        check_action(&action[..end])?;
        rest = &action[end + 2..];
    }
    Ok(())
}

fn check_action(action: &str) -> Result<(), String> {
    let action = action.trim_matches(|c: char| c == '-' || c.is_whitespace());
    if action.is_empty() {
        return Err("template: expansion:1: missing value for command".into());
    }
    for word in words(action) {
        let is_value = word.starts_with('.') && word.len() > 1;
        let is_known = VALUES.contains(&word) || word.starts_with(".Service.Labels.");
        if is_value && !is_known {
            let field = word.rsplit('.').next().unwrap_or(word);
            return Err(format!(
                "template: expansion:1: executing \"expansion\" at <{word}>: can't evaluate field \
                 {field} in type template.Context"
            ));
        }
    }
    Ok(())
}

/// The words of an action, quoted texts left out.
fn words(action: &str) -> impl Iterator<Item = &str> {
    let quoted = action.split(['"', '`']).enumerate().filter(|(at, _)| at % 2 == 0);
    quoted
        .flat_map(|(_, plain)| plain.split(|c: char| c.is_whitespace() || "()|,=".contains(c)))
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn known_values_pass_and_others_are_named() {
        for good in [
            "plain",
            "A={{.Node.Hostname}}",
            "{{ .Service.Name }}-{{.Task.Slot}}",
            "{{index .Service.Labels \"a.b\"}}",
            "{{ if eq .Task.Slot 1 }}x{{ end }}",
            "{}}",
        ] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["{{.Nope}}", "{{", "{{.Node", "{{}}", "{{.Node.Nope}}"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
