//! Which rights an intent takes.
//!
//! Whoever may change a service so that other containers run has what its secrets and configs hold.
//! So every reference of the new template takes the right to grant what it names, also one that was
//! there before; only what leaves the template as it is, such as scaling, takes none. A rollback runs
//! what the spec before says, and takes the rights for that.
//!
//! Tasks that reach into their host have what the engine there has: they take the right to use it.

use super::policy::{Kind, Labels, Policy, Target, Verb};
use crate::domain::actor::Caller;
use crate::domain::change::Object;
use crate::domain::container::{AppArmorMode, Driver, Mount, MountType, Privileges, SeccompMode};
use crate::domain::intent::Intent;
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::revision::{Owner, choose_alike};
use crate::domain::service::{ServiceSpec, TaskSpec};
use crate::domain::supply::{Source, Supply};
use crate::domain::view::View;

/// Checks that a client has every right that its intent takes.
///
/// # Errors
/// It lacks one; the text says which.
pub fn check(
    policy: &Policy,
    caller: &Caller,
    intent: &Intent,
    view: &View,
) -> Result<(), Refusal> {
    if policy.is_open() {
        return Ok(());
    }
    let asking = Asking { policy, caller };
    let node = |id| view.node(id).map(|node| Object::Node(node.clone()));
    match intent {
        Intent::CreateSecret { spec, .. } => {
            asking.may(Verb::Create, Kind::Secret, &spec.name, &spec.labels)?;
            asking.may_run_command(spec.driver.as_ref(), &spec.labels)
        }
        Intent::UpdateSecret { id, spec, value, .. } => {
            let Some(secret) = view.secret(*id) else { return Ok(()) };
            asking.may_of(Verb::Update, Some(Object::Secret(secret.clone())))?;
            asking.may(Verb::Update, Kind::Secret, &spec.name, &spec.labels)?;
            // What it is to print depends on labels.
            let is_supplied = value.as_ref().is_some_and(|value| value.is_supplied);
            if is_supplied || spec.labels != secret.spec.labels {
                asking.may_run_command(secret.spec.driver.as_ref(), &spec.labels)?;
            }
            Ok(())
        }
        Intent::RemoveSecret { id } => {
            asking.may_of(Verb::Remove, view.secret(*id).cloned().map(Object::Secret))
        }
        Intent::ChooseRevision { owner, .. } => {
            asking.may_of(Verb::Update, view.object(owner.key()))
        }
        Intent::PruneRevisions { owner, .. } => {
            asking.may_of(Verb::Remove, view.object(owner.key()))
        }
        Intent::CreateConfig { spec, .. } => {
            asking.may(Verb::Create, Kind::Config, &spec.name, &spec.labels)
        }
        Intent::UpdateConfig { id, spec, .. } => {
            asking.may_of(Verb::Update, view.config(*id).cloned().map(Object::Config))?;
            asking.may(Verb::Update, Kind::Config, &spec.name, &spec.labels)
        }
        Intent::RemoveConfig { id } => {
            asking.may_of(Verb::Remove, view.config(*id).cloned().map(Object::Config))
        }
        Intent::CreateService { spec, .. } => {
            asking.may(Verb::Create, Kind::Service, &spec.name, &spec.labels)?;
            asking.may_run(view, spec)
        }
        Intent::UpdateService { id, spec, .. } => {
            let Some(service) = view.service(*id) else { return Ok(()) };
            asking.may_of(Verb::Update, Some(Object::Service(service.clone())))?;
            asking.may(Verb::Update, Kind::Service, &spec.name, &spec.labels)?;
            if spec.task_template == service.spec.task_template
                && spec.networks == service.spec.networks
                && choose_alike(spec, &service.spec)
            {
                return Ok(());
            }
            asking.may_run(view, spec)
        }
        Intent::RollBackService { id, spec, .. } => {
            let Some(service) = view.service(*id) else { return Ok(()) };
            asking.may_of(Verb::Update, Some(Object::Service(service.clone())))?;
            for spec in service.previous_spec.iter().chain([spec]) {
                asking.may(Verb::Update, Kind::Service, &spec.name, &spec.labels)?;
                asking.may_run(view, spec)?;
            }
            Ok(())
        }
        Intent::RemoveService { id } => {
            asking.may_of(Verb::Remove, view.service(*id).cloned().map(Object::Service))
        }
        Intent::CreateNetwork { spec, .. } => {
            asking.may(Verb::Create, Kind::Network, &spec.name, &spec.labels)
        }
        Intent::RemoveNetwork { id } => {
            asking.may_of(Verb::Remove, view.network(*id).cloned().map(Object::Network))
        }
        Intent::UpdateNode { id, spec, .. } => {
            asking.may_of(Verb::Update, node(*id))?;
            // Of what is not there nothing is said.
            let Some(node) = view.node(*id) else { return Ok(()) };
            asking.may(Verb::Update, Kind::Node, Object::Node(node.clone()).name(), &spec.labels)
        }
        Intent::RemoveNode { id, .. } => asking.may_of(Verb::Remove, node(*id)),
        Intent::InitSwarm(_) => asking.may_at_all(Verb::Create, Kind::Swarm),
        Intent::UpdateSwarm(_) => asking.may_at_all(Verb::Update, Kind::Swarm),
        Intent::LeaveSwarm => asking.may_at_all(Verb::Remove, Kind::Swarm),
        Intent::OfferUnlockKey(_) | Intent::TakeUnlockKey(_) => {
            asking.may_at_all(Verb::Read, Kind::Keys)
        }
        Intent::AdmitNode { .. }
        | Intent::RenewCertificate { .. }
        | Intent::RegisterNode { .. }
        | Intent::LoseNodes { .. }
        | Intent::NoteClock { .. }
        | Intent::ForgetSessions
        | Intent::FinishRootRotation
        | Intent::RotateNetworkKeys
        | Intent::ProvideNetworks
        | Intent::ReportTasks { .. }
        | Intent::AttachNetwork { .. }
        | Intent::DetachNetwork { .. } => Ok(()),
    }
}

/// A client and what it may do.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// Who asks.
    pub caller: &'a Caller,
}

impl Asking<'_> {
    /// True when it may do this.
    pub fn is_allowed(&self, verb: Verb, target: Target<'_>) -> bool {
        self.policy.allows(self.caller, verb, target)
    }

    /// Checks that it may do this to an object.
    ///
    /// # Errors
    /// It may not. Of what is not there nothing is said.
    pub fn may_of(&self, verb: Verb, object: Option<Object>) -> Result<(), Refusal> {
        let Some(object) = object else { return Ok(()) };
        let target = target(&object);
        if self.is_allowed(verb, target) {
            return Ok(());
        }
        if self.is_allowed(Verb::Read, target) {
            return Err(self.denied(verb, target));
        }
        // Asked for by a part of its id, it would be told by its name to who may not see it.
        let key = object.key();
        Err(self.denied(verb, Target { name: key.id(), ..target }))
    }

    /// Checks that it may do this to what has no name.
    ///
    /// # Errors
    /// It may not.
    pub fn may_at_all(&self, verb: Verb, kind: Kind) -> Result<(), Refusal> {
        let target = Target::of(kind);
        if self.is_allowed(verb, target) { Ok(()) } else { Err(self.denied(verb, target)) }
    }

    fn may(&self, verb: Verb, kind: Kind, name: &str, labels: &Labels) -> Result<(), Refusal> {
        let target = Target { kind, name, labels: Some(labels) };
        if self.is_allowed(verb, target) { Ok(()) } else { Err(self.denied(verb, target)) }
    }

    /// Checks that it may have the command run that supplies a secret, if one does.
    fn may_run_command(&self, driver: Option<&Driver>, labels: &Labels) -> Result<(), Refusal> {
        match Supply::by(driver, labels) {
            Ok(Some(Supply { source: Source::Exec { command }, .. })) => {
                let target = Target { kind: Kind::Command, name: &command, labels: None };
                match self.is_allowed(Verb::Use, target) {
                    true => Ok(()),
                    false => Err(self.denied(Verb::Use, target)),
                }
            }
            // What is wrong with it is said by the decision.
            _ => Ok(()),
        }
    }

    /// Checks that it may have tasks run as a spec says: that it may grant what is granted there, and use the
    /// engine if tasks would reach into the host, where the secrets of all others are.
    fn may_run(&self, view: &View, spec: &ServiceSpec) -> Result<(), Refusal> {
        if reaches_host(view, spec) {
            self.may_at_all(Verb::Use, Kind::Engine).map_err(|refusal| Refusal {
                message: format!(
                    "{}, which a service takes that reaches into the host: by a bind mount, a \
                     volume with options of its driver, an added capability, a security profile \
                     of its own or the host's network",
                    refusal.message
                ),
                ..refusal
            })?;
        }
        self.may_grant_all(view, &spec.task_template)
    }

    /// Checks that it may grant whatever a template refers to, by what the ids name now: the names
    /// beside them are the client's own. What is not there is refused by others.
    fn may_grant_all(&self, view: &View, template: &TaskSpec) -> Result<(), Refusal> {
        let Some(container) = &template.container_spec else { return Ok(()) };
        for reference in &container.secrets {
            let secret = reference.secret_id.parse().ok().and_then(|id| view.secret(id));
            self.may_of(Verb::Grant, secret.cloned().map(Object::Secret))?;
        }
        for reference in &container.configs {
            let config = reference.config_id.parse().ok().and_then(|id| view.config(id));
            self.may_of(Verb::Grant, config.cloned().map(Object::Config))?;
        }
        Ok(())
    }

    /// The refusal of what a client may not do.
    pub fn denied(&self, verb: Verb, target: Target<'_>) -> Refusal {
        let who = self.caller.identity();
        let (verb, kind, name) = (verb.word(), target.kind.word(), target.name);
        let text = format!("access denied: {who} may not {verb} {kind} {name}");
        Refusal::front(Reason::Forbidden, text.trim_end())
    }
}

/// True for a spec whose tasks are not kept apart from the host that they run on.
fn reaches_host(view: &View, spec: &ServiceSpec) -> bool {
    let template = &spec.task_template;
    let is_host = |network: &str| {
        network == "host"
            || view.resolve_network(network).is_ok_and(|found| found.spec.name == "host")
    };
    if template.networks.iter().chain(&spec.networks).any(|network| is_host(&network.target)) {
        return true;
    }
    let Some(container) = &template.container_spec else { return false };
    let is_open = |mount: &Mount| match mount.kind {
        MountType::Tmpfs => false,
        MountType::Volume => {
            let options = mount.volume_options.as_ref();
            options.and_then(|options| options.driver_config.as_ref()).is_some()
        }
        _ => true,
    };
    let is_loose = |privileges: &Privileges| {
        let (seccomp, app_armor) = (&privileges.seccomp, &privileges.app_armor);
        seccomp.as_ref().is_some_and(|seccomp| seccomp.mode != SeccompMode::Default)
            || app_armor.as_ref().is_some_and(|app_armor| app_armor.mode != AppArmorMode::Default)
            || privileges.selinux_context.is_some()
    };
    container.mounts.iter().any(is_open)
        || !container.capability_add.is_empty()
        || container.privileges.as_ref().is_some_and(is_loose)
}

/// An object as rules see it.
pub fn target(object: &Object) -> Target<'_> {
    let (kind, labels) = match object {
        Object::Secret(secret) => (Kind::Secret, Some(&secret.spec.labels)),
        Object::Config(config) => (Kind::Config, Some(&config.spec.labels)),
        Object::Service(service) => (Kind::Service, Some(&service.spec.labels)),
        Object::Network(network) => (Kind::Network, Some(&network.spec.labels)),
        Object::Node(node) => (Kind::Node, Some(&node.spec.labels)),
        Object::Task(task) => {
            let labels = Some(&task.service_labels);
            return Target { kind: Kind::Task, name: &task.service_name, labels };
        }
        Object::Revision(revision) => match revision.owner {
            Owner::Secret(_) => (Kind::Secret, None),
            Owner::Config(_) => (Kind::Config, None),
        },
        Object::Cluster(_) => (Kind::Swarm, None),
    };
    Target { kind, name: object.name(), labels }
}
