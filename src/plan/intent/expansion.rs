//! Templates of a service's spec, expanded on trial for the tasks that it would have, and the mounts
//! that come of it.

use std::collections::BTreeSet;

use super::grants::{Grants, clean};
use crate::domain::container::{ContainerSpec, Mount};
use crate::domain::id::ServiceId;
use crate::domain::refusal::Refusal;
use crate::domain::service::{ModeKind, ServiceSpec};
use crate::plan::template::{Template, Values};

/// Most steps that all trials of one spec may take together: some tens of milliseconds. Of a service
/// with so many slots that they do not suffice, the first are tried.
const STEPS_MAX: usize = 300_000;

/// A text of a spec: as it is, or a template.
enum Text<'s> {
    Plain(&'s str),
    Template(Template),
}

impl<'s> Text<'s> {
    fn parse(text: &'s str) -> Result<Text<'s>, String> {
        match text.contains("{{") {
            true => Template::parse(text).map(Text::Template),
            false => Ok(Text::Plain(text)),
        }
    }
}

/// What a text is of, for refusals.
struct Part<'s> {
    /// `env`, `hostname`, `mounts`.
    group: &'static str,
    /// `env`, `hostname`, `mount target` and so on.
    what: &'static str,
    /// As it stands in the spec.
    whole: &'s str,
    text: Text<'s>,
}

impl<'s> Part<'s> {
    fn new(
        group: &'static str,
        what: &'static str,
        whole: &'s str,
        text: &'s str,
    ) -> Result<Part<'s>, Refusal> {
        let refuse = |error: String| refused(group, what, whole, &error);
        Ok(Part { group, what, whole, text: Text::parse(text).map_err(refuse)? })
    }

    fn expand(&self, values: &Values<'_>, steps: &mut usize) -> Result<String, Refusal> {
        match &self.text {
            Text::Plain(text) => Ok((*text).to_owned()),
            Text::Template(template) => {
                let expanded = template.expand(values);
                let (text, taken) =
                    expanded.map_err(|error| refused(self.group, self.what, self.whole, &error))?;
                *steps += taken;
                Ok(text)
            }
        }
    }

    fn is_template(&self) -> bool {
        matches!(self.text, Text::Template(_))
    }
}

fn refused(group: &str, what: &str, whole: &str, error: &str) -> Refusal {
    Refusal::invalid(format!("expanding {group} failed: expanding {what} {whole:?}: {error}"))
}

/// Expands the templates of a spec for every task that it would have, and checks that no two mounts
/// come to one target.
///
/// # Errors
/// The first template that a node could not expand, and why; a target that two have.
pub(super) fn check(
    own: ServiceId,
    spec: &ServiceSpec,
    container: &ContainerSpec,
    grants: &Grants<'_>,
) -> Result<(), Refusal> {
    let parts = parts(container)?;
    let targets = container
        .mounts
        .iter()
        .map(|mount| Part::new("mounts", "mount target", &mount.target, &mount.target));
    let targets = targets.collect::<Result<Vec<_>, _>>()?;
    let is_fixed = !parts.iter().chain(&targets).any(Part::is_template);
    let mut values = Values {
        service_id: own.as_str(),
        service_name: &spec.name,
        service_labels: &spec.labels,
        slot: 0,
    };
    let mut steps = 0;
    for slot in slots(spec) {
        values.slot = slot;
        for part in &parts {
            part.expand(&values, &mut steps)?;
        }
        let mut taken = BTreeSet::new();
        for target in &targets {
            let path = target.expand(&values, &mut steps)?;
            // Only what is absolute is a path of Linux.
            let path = if path.starts_with('/') { clean(&path) } else { path };
            grants.check_mount(&path)?;
            if !taken.insert(path) {
                let message = format!("ContainerSpec: duplicate mount point: {}", target.whole);
                return Err(Refusal::invalid(message));
            }
        }
        if is_fixed || steps > STEPS_MAX {
            break;
        }
    }
    Ok(())
}

/// The slots that tasks would have; 0 for a service by nodes. One without any may be scaled later.
fn slots(spec: &ServiceSpec) -> impl Iterator<Item = u64> {
    match spec.mode.kind() {
        ModeKind::Global | ModeKind::GlobalJob => 0..=0,
        ModeKind::Replicated(count) | ModeKind::ReplicatedJob { total: count, .. } => {
            1..=count.max(1)
        }
    }
}

/// All texts that may be templates but the targets of mounts.
fn parts(container: &ContainerSpec) -> Result<Vec<Part<'_>>, Refusal> {
    let mut parts = Vec::new();
    for env in &container.env {
        // The name of a variable is left alone.
        let value = env.split_once('=').map_or("", |(_, value)| value);
        parts.push(Part::new("env", "env", env, value)?);
    }
    let hostname = &container.hostname;
    parts.push(Part::new("hostname", "hostname", hostname, hostname)?);
    for mount in &container.mounts {
        parts.extend(parts_of_mount(mount)?);
    }
    Ok(parts)
}

fn parts_of_mount(mount: &Mount) -> Result<Vec<Part<'_>>, Refusal> {
    let mut parts = vec![Part::new("mounts", "mount source", &mount.source, &mount.source)?];
    let Some(options) = &mount.volume_options else { return Ok(parts) };
    for value in options.labels.values() {
        parts.push(Part::new("mounts", "volume labels", value, value)?);
    }
    for value in options.driver_config.iter().flat_map(|driver| driver.options.values()) {
        parts.push(Part::new("mounts", "volume driver options", value, value)?);
    }
    Ok(parts)
}
