//! Services: create, update, roll back, remove.

use super::{revision, service_network, service_spec};
use crate::domain::change::{Change, Key};
use crate::domain::id::ServiceId;
use crate::domain::intent::AuthFrom;
use crate::domain::meta::Version;
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::revision::Numbers;
use crate::domain::service::{
    JobStatus, RegistryAuth, Service, ServiceSpec, UpdateState, UpdateStatus,
};
use crate::domain::view::View;
use crate::plan::Context;

/// Registry credentials of an update.
pub(super) struct Auth {
    /// As sent with the request.
    pub sent: Option<RegistryAuth>,
    /// Where they come from otherwise.
    pub from: AuthFrom,
}

pub(super) fn create(
    view: &View,
    id: ServiceId,
    spec: ServiceSpec,
    registry_auth: Option<RegistryAuth>,
    ctx: Context<'_>,
) -> Result<Vec<Change>, Refusal> {
    view.require_cluster()?;
    let spec = service_network::resolve(view, spec)?;
    service_spec::check(id, &spec)?;
    service_spec::check_references(view, id, &spec)?;
    if let Some(other) = view.service_named(&spec.name) {
        return Err(Refusal::store(
            Reason::Taken,
            format!(
                "name conflicts with an existing object: service {} already exists",
                other.spec.name
            ),
        ));
    }
    let revisions = revision::resolve(view, &spec)?;
    let service = Service {
        id,
        meta: Default::default(),
        job_status: spec.mode.kind().is_job().then(|| run(Version::default(), ctx)),
        spec,
        revisions,
        previous_revisions: Numbers::new(),
        rollout_at: None,
        spec_version: Version::default(),
        previous_spec: None,
        update_status: None,
        registry_auth: registry_auth.unwrap_or_default(),
        previous_registry_auth: RegistryAuth::default(),
        endpoint: None,
    };
    Ok(vec![service.into()])
}

pub(super) fn update(
    view: &View,
    id: ServiceId,
    version: Version,
    spec: ServiceSpec,
    auth: Auth,
    ctx: Context<'_>,
) -> Result<Vec<Change>, Refusal> {
    let (service, spec) = find_for(view, id, spec)?;
    service.meta.check_known(version)?;
    // What it took a moment ago and has not begun with is rolled out with this.
    let previous_revisions = match service.gathers(ctx.now) {
        true => &service.previous_revisions,
        false => &service.revisions,
    };
    let updated = Service {
        meta: service.meta.edited(),
        revisions: revision::after_update(view, service, &spec)?,
        previous_revisions: previous_revisions.clone(),
        rollout_at: None,
        spec,
        spec_version: Version::default(),
        previous_spec: Some(service.spec.clone()),
        update_status: None,
        job_status: next_run(service, ctx),
        registry_auth: auth.resolve(service)?,
        previous_registry_auth: service.registry_auth.clone(),
        ..service.clone()
    };
    Ok(vec![updated.into()])
}

/// The spec and the one before change places, and their credentials with them. Those that were sent
/// belong to the spec that was sent, which is only checked.
pub(super) fn roll_back(
    view: &View,
    id: ServiceId,
    version: Version,
    spec: ServiceSpec,
    auth: Auth,
    ctx: Context<'_>,
) -> Result<Vec<Change>, Refusal> {
    let (service, _) = find_for(view, id, spec)?;
    auth.resolve(service)?;
    let Some(previous) = &service.previous_spec else {
        let message = format!("service {id} does not have a previous spec");
        return Err(Refusal::store(Reason::Precondition, message));
    };
    service.meta.check_known(version)?;
    service_spec::check_references(view, id, previous)?;
    revision::check_kept(view, &service.previous_revisions, previous)?;
    // What is no job is rolled out, which ends it; a job runs again, as after every update.
    let (state, text) = match service.job_status {
        None => (UpdateState::RollbackStarted, "manually requested rollback"),
        Some(_) => (UpdateState::RollbackCompleted, "rollback completed"),
    };
    let completed_at = (state == UpdateState::RollbackCompleted).then_some(ctx.now);
    let status =
        UpdateStatus { state, started_at: Some(ctx.now), completed_at, message: text.into() };
    let rolled_back = Service {
        meta: service.meta.edited(),
        revisions: service.previous_revisions.clone(),
        previous_revisions: service.revisions.clone(),
        rollout_at: None,
        spec: previous.clone(),
        spec_version: Version::default(),
        previous_spec: Some(service.spec.clone()),
        update_status: Some(status),
        job_status: next_run(service, ctx),
        registry_auth: service.previous_registry_auth.clone(),
        previous_registry_auth: service.registry_auth.clone(),
        ..service.clone()
    };
    Ok(vec![rolled_back.into()])
}

/// The run of a job after the present one.
fn next_run(service: &Service, ctx: Context<'_>) -> Option<JobStatus> {
    let index = service.job_status.as_ref()?.job_iteration.index + 1;
    Some(run(Version { index }, ctx))
}

fn run(job_iteration: Version, ctx: Context<'_>) -> JobStatus {
    JobStatus { job_iteration, last_execution: ctx.now }
}

/// The service that a spec may be given to, and the spec with its networks found.
fn find_for(
    view: &View,
    id: ServiceId,
    spec: ServiceSpec,
) -> Result<(&Service, ServiceSpec), Refusal> {
    let service = find(view, id)?;
    let spec = service_network::resolve(view, spec)?;
    if spec.name != service.spec.name {
        // An absent name is a changed one; a malformed one is refused as such first.
        if !spec.name.is_empty() {
            service_spec::check(id, &spec)?;
        }
        return Err(Refusal::store(Reason::Unsupported, "renaming services is not supported"));
    }
    service_spec::check(id, &spec)?;
    service_spec::check_references(view, id, &spec)?;
    if spec.mode.name() != service.spec.mode.name() {
        return Err(Refusal::store(Reason::Unsupported, "service mode change is not allowed"));
    }
    Ok((service, spec))
}

impl Auth {
    /// The credentials that the new spec gets.
    fn resolve(self, service: &Service) -> Result<RegistryAuth, Refusal> {
        match (self.sent, self.from) {
            (Some(sent), _) => Ok(sent),
            (None, AuthFrom::Spec) => Ok(service.registry_auth.clone()),
            (None, AuthFrom::PreviousSpec) if service.previous_spec.is_none() => {
                Err(Refusal::front(Reason::Unknown, "service does not have a previous spec"))
            }
            (None, AuthFrom::PreviousSpec) => Ok(service.previous_registry_auth.clone()),
        }
    }
}

pub(super) fn remove(view: &View, id: ServiceId) -> Result<Vec<Change>, Refusal> {
    find(view, id)?;
    Ok(vec![Change::Remove(Key::Service(id))])
}

fn find(view: &View, id: ServiceId) -> Result<&Service, Refusal> {
    view.require_cluster()?;
    let found = view.service(id).map(|service| &**service);
    found.ok_or_else(|| Refusal::not_found("service", id.as_str()))
}
