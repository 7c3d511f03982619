//! Fields of a service that came with a version of the API: a client that asks for an older one does
//! not know them, so they are dropped.

use std::borrow::Cow;
use std::sync::Arc;

use super::context::ApiVersion;
use crate::domain::service::ServiceSpec;

/// How to drop what a version brought.
type Drop = fn(&mut ServiceSpec);

/// Versions, and how to drop below each what it brought.
const GATES: &[(ApiVersion, Drop)] = &[
    (ApiVersion::v1(41), drop_of_1_41),
    (ApiVersion::v1(44), drop_of_1_44),
    (ApiVersion::v1(46), drop_of_1_46),
    (ApiVersion::v1(52), drop_of_1_52),
];

/// The version from which networks stand in the task template only.
const NETWORKS_IN_TEMPLATE: ApiVersion = ApiVersion::v1(44);

/// Drops what the version asked for does not have.
pub(super) fn drop_newer(spec: &mut ServiceSpec, asked: ApiVersion) {
    for (_, drop) in GATES.iter().filter(|(since, _)| asked < *since) {
        drop(spec);
    }
    if asked >= NETWORKS_IN_TEMPLATE || !spec.task_template.networks.is_empty() {
        spec.networks.clear();
    }
}

/// The spec as a client of this version is shown it.
pub(super) fn shown(spec: &ServiceSpec, asked: ApiVersion) -> Cow<'_, ServiceSpec> {
    if asked < NETWORKS_IN_TEMPLATE || spec.networks.is_empty() {
        return Cow::Borrowed(spec);
    }
    Cow::Owned(ServiceSpec { networks: Vec::new(), ..spec.clone() })
}

fn drop_of_1_41(spec: &mut ServiceSpec) {
    spec.mode.replicated_job = None;
    spec.mode.global_job = None;
    let template = Arc::make_mut(&mut spec.task_template);
    if let Some(limits) = template.resources.as_mut().and_then(|r| r.limits.as_mut()) {
        limits.pids = 0;
    }
    if let Some(container) = &mut template.container_spec {
        container.capability_add.clear();
        container.capability_drop.clear();
        container.ulimits.clear();
    }
}

fn drop_of_1_44(spec: &mut ServiceSpec) {
    let template = Arc::make_mut(&mut spec.task_template);
    let Some(container) = &mut template.container_spec else { return };
    if let Some(privileges) = &mut container.privileges {
        privileges.seccomp = None;
        privileges.app_armor = None;
        privileges.no_new_privileges = false;
    }
    if let Some(health) = &mut container.healthcheck {
        health.start_interval = 0;
    }
}

fn drop_of_1_46(spec: &mut ServiceSpec) {
    let template = Arc::make_mut(&mut spec.task_template);
    let Some(container) = &mut template.container_spec else { return };
    container.oom_score_adj = 0;
    for options in container.mounts.iter_mut().filter_map(|mount| mount.tmpfs_options.as_mut()) {
        options.options.clear();
    }
}

fn drop_of_1_52(spec: &mut ServiceSpec) {
    if let Some(resources) = &mut Arc::make_mut(&mut spec.task_template).resources {
        resources.swap_bytes = None;
        resources.memory_swappiness = None;
    }
}
