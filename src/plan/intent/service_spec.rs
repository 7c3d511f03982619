//! Checks of a service's spec, in the Engine's order: what does not convert, then name, resources,
//! restart policy, placement, references, container, mode, update, endpoint; what must exist comes
//! last, with the view at hand.

use super::{expansion, grants, service_network};
use crate::domain::constraint::Constraint;
use crate::domain::container::{ConfigReference, ContainerSpec, HealthConfig, MountType};
use crate::domain::endpoint::{EndpointSpec, PortConfig, PublishMode, ResolutionMode};
use crate::domain::id::ServiceId;
use crate::domain::image;
use crate::domain::name::check_service_name;
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::secret::SecretReference;
use crate::domain::service::{
    ModeKind, ResourceRequirements, RestartPolicy, Runtime, ServiceSpec, TaskSpec, UpdateConfig,
};
use crate::domain::view::View;

/// The least processor time that may be asked for: a thousandth of a core.
const NANO_CPUS_MIN: i64 = 1_000_000;
/// The least memory that may be asked for: 4 MiB.
const MEMORY_MIN: i64 = 4 * 1024 * 1024;
/// The most replicas of one service, and completions of one job: ten times what a large cluster runs in all. Each is a row, so
/// a slip of the finger must not fill the disk.
const REPLICAS_MAX: u64 = 100_000;
/// The shortest span of a health check: 1 ms.
const HEALTH_SPAN_MIN: i64 = 1_000_000;
/// The highest number of a port.
const PORT_MAX: u32 = u16::MAX as u32;

/// Checks a spec by itself.
///
/// # Errors
/// The first fault, in the Engine's words; 501 for what is not built yet.
pub fn check(own: ServiceId, spec: &ServiceSpec) -> Result<(), Refusal> {
    let template = &*spec.task_template;
    let container = check_conversions(spec)?;
    check_service_name(&spec.name)?;
    check_resources(template.resources.as_ref())?;
    check_restart(template.restart_policy.as_ref())?;
    check_placement(template)?;
    let grants = grants::check(container)?;
    check_credential(container)?;
    expansion::check(own, spec, container, &grants)?;
    check_container(container)?;
    check_mode(spec)?;
    check_update(spec.update_config.as_ref())?;
    check_endpoint(spec.endpoint_spec.as_ref())
}

/// Checks that what the spec of a service references exists, and that its ports are free.
///
/// # Errors
/// Names what does not, or is not.
pub fn check_references(view: &View, own: ServiceId, spec: &ServiceSpec) -> Result<(), Refusal> {
    service_network::check(view, own, spec)?;
    let Some(container) = spec.container() else { return Ok(()) };
    let no_secret = |grant: &&SecretReference| {
        let secret = grant.secret_id.parse().ok().and_then(|id| view.secret(id));
        secret.is_none_or(|secret| secret.spec.name != grant.secret_name)
    };
    let secrets = container.secrets.iter().filter(no_secret);
    check_missing("secret", secrets.map(|grant| grant.secret_name.as_str()).collect())?;
    let no_config = |grant: &&ConfigReference| {
        let config = grant.config_id.parse().ok().and_then(|id| view.config(id));
        config.is_none_or(|config| config.spec.name != grant.config_name)
    };
    let configs = container.configs.iter().filter(no_config);
    check_missing("config", configs.map(|grant| grant.config_name.as_str()).collect())
}

fn check_missing(word: &str, missing: Vec<&str>) -> Result<(), Refusal> {
    match missing[..] {
        [] => Ok(()),
        [name] => Err(Refusal::invalid(format!("{word} not found: {name}"))),
        _ => Err(Refusal::invalid(format!("{word}s not found: {}", missing.join(", ")))),
    }
}

fn plain(message: impl Into<String>) -> Refusal {
    Refusal::front(Reason::Invalid, message)
}

fn check_conversions(spec: &ServiceSpec) -> Result<&ContainerSpec, Refusal> {
    let template = &*spec.task_template;
    match template.runtime {
        None | Some(Runtime::Container) => {}
        Some(Runtime::Plugin) => {
            let message = "runtime type \"plugin\" only supported in experimental";
            return Err(Refusal::front(Reason::Unknown, message));
        }
        Some(Runtime::Attachment) => return Err(plain("unsupported runtime")),
    }
    let Some(container) = template.container_spec.as_ref() else {
        return Err(plain("mismatched Runtime and *Spec fields"));
    };
    if let Some(credential) = container.privileges.as_ref().and_then(|p| p.credential_spec.as_ref())
    {
        let sources = [&credential.config, &credential.file, &credential.registry];
        if sources.iter().filter(|source| !source.is_empty()).count() != 1 {
            return Err(plain(
                "invalid CredentialSpec: must either provide \"file\", \"registry\", or \
                 \"config\" for credential spec",
            ));
        }
    }
    if container.mounts.iter().any(|mount| mount.kind == MountType::Cluster) {
        return Err(Refusal::front(
            Reason::Unsupported,
            "cluster volumes are not supported: use a mount of type volume, bind or tmpfs",
        ));
    }
    for reference in &container.configs {
        match (&reference.file, &reference.runtime) {
            (None, None) => {
                return Err(plain("invalid Config: either File or Runtime should be set"));
            }
            (Some(_), Some(_)) => {
                return Err(plain("invalid Config: cannot specify both File and Runtime"));
            }
            _ => {}
        }
    }
    if let Some(resources) = &template.resources {
        let has_limit = resources.limits.as_ref().is_some_and(|limits| limits.memory_bytes != 0);
        if resources.swap_bytes.is_some_and(|swap| swap != 0) && !has_limit {
            return Err(plain("memory swap provided, but no memory-limit was set"));
        }
    }
    let mode = &spec.mode;
    let modes = usize::from(mode.replicated.is_some())
        + usize::from(mode.global.is_some())
        + usize::from(mode.replicated_job.is_some())
        + usize::from(mode.global_job.is_some());
    if modes > 1 {
        return Err(plain("must specify only one service mode"));
    }
    Ok(container)
}

fn check_resources(resources: Option<&ResourceRequirements>) -> Result<(), Refusal> {
    let Some(resources) = resources else { return Ok(()) };
    let limits = resources.limits.as_ref().map(|r| (r.nano_cpus, r.memory_bytes));
    let reservations = resources.reservations.as_ref().map(|r| (r.nano_cpus, r.memory_bytes));
    for (nano_cpus, memory_bytes) in [limits, reservations].into_iter().flatten() {
        if nano_cpus != 0 && nano_cpus < NANO_CPUS_MIN {
            let cpus = go_float(nano_cpus);
            let message = format!("invalid cpu value {cpus}: Must be at least 0.001");
            return Err(Refusal::invalid(message));
        }
        if memory_bytes != 0 && memory_bytes < MEMORY_MIN {
            let message = format!("invalid memory value {memory_bytes}: Must be at least 4MiB");
            return Err(Refusal::invalid(message));
        }
    }
    Ok(())
}

/// Billionths as the Engine prints a number of cores: `1e-07`, `0.0005`.
fn go_float(nano: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "values below a million are exact")]
    let cores = nano as f64 / 1e9;
    if cores.abs() >= 1e-4 {
        return cores.to_string();
    }
    let text = format!("{cores:e}");
    match text.split_once("e-") {
        Some((mantissa, exponent)) => format!("{mantissa}e-{exponent:0>2}"),
        None => text,
    }
}

fn check_restart(policy: Option<&RestartPolicy>) -> Result<(), Refusal> {
    let Some(policy) = policy else { return Ok(()) };
    if policy.delay.is_some_and(|delay| delay < 0) {
        return Err(Refusal::invalid("TaskSpec: restart-delay cannot be negative"));
    }
    if policy.window.is_some_and(|window| window < 0) {
        return Err(Refusal::invalid("TaskSpec: restart-window cannot be negative"));
    }
    Ok(())
}

fn check_placement(template: &TaskSpec) -> Result<(), Refusal> {
    let constraints = template.placement.as_ref().map_or(&[][..], |p| &p.constraints);
    for constraint in constraints {
        Constraint::parse(constraint).map_err(|text| Refusal::store(Reason::Unknown, text))?;
    }
    Ok(())
}

/// A credential spec that is a config needs that config granted to the runtime.
fn check_credential(container: &ContainerSpec) -> Result<(), Refusal> {
    let privileges = container.privileges.as_ref();
    let Some(credential) = privileges.and_then(|p| p.credential_spec.as_ref()) else {
        return Ok(());
    };
    let wanted = &credential.config;
    let granted = |c: &ConfigReference| c.runtime.is_some() && c.config_id == *wanted;
    if wanted.is_empty() || container.configs.iter().any(granted) {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "CredentialSpec references config '{wanted}', but that config isn't in config references \
         with RuntimeTarget"
    )))
}

fn check_container(container: &ContainerSpec) -> Result<(), Refusal> {
    if container.image.is_empty() {
        return Err(Refusal::invalid("ContainerSpec: image reference must be provided"));
    }
    if !image::is_reference(&container.image) {
        let image = &container.image;
        let message = format!("ContainerSpec: {image:?} is not a valid repository/tag");
        return Err(Refusal::invalid(message));
    }
    container.healthcheck.as_ref().map_or(Ok(()), check_health)
}

fn check_health(health: &HealthConfig) -> Result<(), Refusal> {
    let spans = [
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ];
    for (name, span) in spans {
        if span != 0 && span < HEALTH_SPAN_MIN {
            return Err(Refusal::invalid(format!(
                "ContainerSpec: {name} in HealthConfig cannot be less than 1ms"
            )));
        }
    }
    if health.retries < 0 {
        return Err(Refusal::invalid("ContainerSpec: Retries in HealthConfig cannot be negative"));
    }
    Ok(())
}

fn check_mode(spec: &ServiceSpec) -> Result<(), Refusal> {
    let too_many =
        |number: Option<u64>| number.is_some_and(|number| i64::try_from(number).is_err());
    if spec.mode.replicated.as_ref().is_some_and(|mode| too_many(mode.replicas)) {
        return Err(Refusal::invalid("Number of replicas must be non-negative"));
    }
    let replicas = spec.mode.replicated.as_ref().and_then(|mode| mode.replicas);
    if replicas.is_some_and(|replicas| replicas > REPLICAS_MAX) {
        return Err(Refusal::invalid(format!("Number of replicas must be at most {REPLICAS_MAX}")));
    }
    if let Some(job) = &spec.mode.replicated_job {
        if too_many(job.max_concurrent) {
            return Err(Refusal::invalid("Maximum concurrent jobs must not be negative"));
        }
        if too_many(job.total_completions) {
            return Err(Refusal::invalid("Total completed jobs must not be negative"));
        }
    }
    let kind = spec.mode.kind();
    if matches!(kind, ModeKind::ReplicatedJob { total, .. } if total > REPLICAS_MAX) {
        let message = format!("Total completed jobs must be at most {REPLICAS_MAX}");
        return Err(Refusal::invalid(message));
    }
    if kind.is_job() && spec.update_config.is_some() {
        return Err(Refusal::invalid("Jobs may not have an update config"));
    }
    Ok(())
}

fn check_update(config: Option<&UpdateConfig>) -> Result<(), Refusal> {
    let Some(config) = config else { return Ok(()) };
    if config.delay < 0 {
        return Err(Refusal::invalid("TaskSpec: update-delay cannot be negative"));
    }
    if config.monitor < 0 {
        return Err(Refusal::invalid("TaskSpec: update-monitor cannot be negative"));
    }
    if !(0.0..=1.0).contains(&config.max_failure_ratio) {
        return Err(Refusal::invalid(
            "TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1",
        ));
    }
    Ok(())
}

fn check_endpoint(endpoint: Option<&EndpointSpec>) -> Result<(), Refusal> {
    let Some(endpoint) = endpoint else { return Ok(()) };
    let in_ingress = |port: &&PortConfig| port.publish_mode == PublishMode::Ingress;
    let by_turns = endpoint.mode == ResolutionMode::DnsRoundRobin;
    if by_turns && endpoint.ports.iter().any(|port| in_ingress(&port)) {
        return Err(Refusal::invalid(
            "EndpointSpec: port published with ingress mode can't be used with dnsrr mode",
        ));
    }
    for number in endpoint.ports.iter().flat_map(|port| [port.target_port, port.published_port]) {
        if number > PORT_MAX {
            let message = format!("EndpointSpec: {number} is not a port: at most {PORT_MAX}");
            return Err(Refusal::invalid(message));
        }
    }
    let mut published = std::collections::BTreeSet::new();
    for port in endpoint.ports.iter().filter(|port| port.published_port != 0) {
        if !published.insert((port.published_port, port.protocol)) {
            return Err(Refusal::invalid("EndpointSpec: duplicate published ports provided"));
        }
    }
    Ok(())
}
