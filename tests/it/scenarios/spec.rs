//! Settings of services and nodes as scripts write them: `key=value`.

use std::sync::Arc;

use purser::domain::container::{ContainerSpec, Driver, HealthConfig, Mount, VolumeOptions};
use purser::domain::endpoint::{EndpointSpec, NetworkAttachmentConfig, PortConfig, PublishMode};
use purser::domain::network::{IpamConfig, NetworkSpec, OVERLAY, VNI_OPTION};
use purser::domain::service::{
    DiscreteGenericResource, GenericResource, NamedGenericResource, PlacementPreference, Platform,
    Replicated, Resources, ServiceSpec, SpreadOver, TaskSpec, UpdateConfig,
};
use purser::domain::time::Nanoseconds;

/// The spec of a service that says nothing yet.
pub fn plain(name: &str) -> ServiceSpec {
    let container = ContainerSpec { image: "app:1".into(), ..Default::default() };
    let template = TaskSpec { container_spec: Some(container), ..Default::default() };
    ServiceSpec { name: name.into(), task_template: Arc::new(template), ..Default::default() }
}

/// Changes one setting of a service; the others stay, as with the command line.
pub fn set(spec: &mut ServiceSpec, setting: &str) -> Result<(), String> {
    let (key, value) = setting.split_once('=').ok_or(format!("{setting} is no setting"))?;
    if let Some(label) = key.strip_prefix("label.") {
        spec.labels.insert(label.into(), value.into());
        return Ok(());
    }
    if set_update(spec, key, value)? || set_network(spec, key, value)? {
        return Ok(());
    }
    let template = Arc::make_mut(&mut spec.task_template);
    let container = template.container_spec.get_or_insert_default();
    let placement = template.placement.get_or_insert_default();
    let restart = template.restart_policy.get_or_insert_default();
    match key {
        "replicas" => spec.mode.replicated = Some(Replicated { replicas: Some(number(value)?) }),
        "completions" | "concurrent" => {
            let job = spec.mode.replicated_job.get_or_insert_default();
            let chosen = match key {
                "completions" => &mut job.total_completions,
                _ => &mut job.max_concurrent,
            };
            *chosen = Some(number(value)?);
        }
        "image" => container.image = value.into(),
        "health" => {
            let test = vec!["CMD-SHELL".into(), value.into()];
            container.healthcheck = Some(HealthConfig { test, ..Default::default() });
        }
        "grace" => container.stop_grace_period = Some(span(value)?),
        "force" => template.force_update = number(value)?,
        "constraint" => {
            placement.constraints =
                value.split(',').filter(|text| !text.is_empty()).map(str::to_owned).collect();
        }
        "spread" => {
            let spread = |label: &str| PlacementPreference {
                spread: Some(SpreadOver { spread_descriptor: label.into() }),
            };
            placement.preferences = value.split(',').map(spread).collect();
        }
        "max-per-node" => placement.max_replicas = number(value)?,
        "platform" => {
            placement.platforms = vec![Platform { architecture: value.into(), os: "linux".into() }];
        }
        "restart" => restart.condition = word(value)?,
        "delay" => restart.delay = Some(span(value)?),
        "attempts" => restart.max_attempts = number(value)?,
        "window" => restart.window = Some(span(value)?),
        "generic" => {
            let resources = template.resources.get_or_insert_default();
            let reservations = resources.reservations.get_or_insert_default();
            reservations.generic_resources = generic(value)?;
        }
        "cpus" | "memory" => {
            let resources = template.resources.get_or_insert_default();
            set_resource(resources.reservations.get_or_insert_default(), key, value)?;
        }
        "log" => template.log_driver = Some(driver(value)),
        "volume" => {
            let options =
                VolumeOptions { driver_config: Some(driver(value)), ..Default::default() };
            let volume_options = Some(options);
            let target = format!("/{value}");
            container.mounts.push(Mount { target, volume_options, ..Default::default() });
        }
        "port" => {
            let port = PortConfig {
                target_port: 80,
                published_port: u32::try_from(number(value)?).map_err(|error| error.to_string())?,
                publish_mode: PublishMode::Host,
                ..Default::default()
            };
            spec.endpoint_spec = Some(EndpointSpec { ports: vec![port], ..Default::default() });
        }
        _ => return Err(format!("{key} is no setting")),
    }
    Ok(())
}

/// A setting of the networks of a service, and of how it is reached on them.
fn set_network(spec: &mut ServiceSpec, key: &str, value: &str) -> Result<bool, String> {
    match key {
        "networks" => {
            let target = |name: &str| NetworkAttachmentConfig {
                target: name.into(),
                ..NetworkAttachmentConfig::default()
            };
            let names = value.split(',').filter(|name| !name.is_empty());
            let template = Arc::make_mut(&mut spec.task_template);
            template.networks = names.map(target).collect();
        }
        "publish" => {
            let published_port =
                u32::try_from(number(value)?).map_err(|error| error.to_string())?;
            let port = PortConfig { target_port: 80, published_port, ..Default::default() };
            spec.endpoint_spec = Some(EndpointSpec { ports: vec![port], ..Default::default() });
        }
        "endpoint" => spec.endpoint_spec.get_or_insert_default().mode = word(value)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// The spec of a network: `subnet=` starts another subnet, to which what follows belongs.
pub fn network(name: &str, settings: &[&str]) -> Result<NetworkSpec, String> {
    let mut spec =
        NetworkSpec { name: name.into(), driver: OVERLAY.into(), ..NetworkSpec::default() };
    for setting in settings {
        let (key, value) = setting.split_once('=').ok_or(format!("{setting} is no setting"))?;
        let subnets = &mut spec.ipam.config;
        if key == "subnet" {
            subnets.push(IpamConfig { subnet: value.into(), ..IpamConfig::default() });
            continue;
        }
        match (key, subnets.last_mut()) {
            ("range", Some(subnet)) => subnet.ip_range = value.into(),
            ("gateway", Some(subnet)) => subnet.gateway = value.into(),
            ("aux", Some(subnet)) => {
                subnet.auxiliary_addresses.insert(value.into(), value.into());
            }
            ("ingress", _) => spec.ingress = true,
            ("attachable", _) => spec.attachable = true,
            ("vni", _) => {
                spec.options.insert(VNI_OPTION.into(), value.into());
            }
            _ => return Err(format!("{key} is no setting")),
        }
    }
    Ok(spec)
}

/// A setting of the rollout, or of that of a rollback: `rollback.order=start-first`.
fn set_update(spec: &mut ServiceSpec, key: &str, value: &str) -> Result<bool, String> {
    let (chosen, key) = match key.strip_prefix("rollback.") {
        Some(key) => (&mut spec.rollback_config, key),
        None => (&mut spec.update_config, key),
    };
    let default = UpdateConfig { parallelism: 1, ..Default::default() };
    let mut config = chosen.clone().unwrap_or(default);
    match key {
        "parallelism" => config.parallelism = number(value)?,
        "update-delay" => config.delay = span(value)?,
        "monitor" => config.monitor = span(value)?,
        "failure" => config.failure_action = word(value)?,
        "order" => config.order = word(value)?,
        "ratio" => {
            config.max_failure_ratio = value.parse().map_err(|_| format!("{value} is no ratio"))?;
        }
        _ => return Ok(false),
    }
    *chosen = Some(config);
    Ok(true)
}

/// Cores, or memory in MiB.
pub fn set_resource(resources: &mut Resources, key: &str, value: &str) -> Result<(), String> {
    let amount = i64::try_from(number(value)?).map_err(|error| error.to_string())?;
    match key {
        "cpus" => resources.nano_cpus = amount * 1_000_000_000,
        _ => resources.memory_bytes = amount * 1024 * 1024,
    }
    Ok(())
}

fn driver(name: &str) -> Driver {
    Driver { name: name.into(), ..Default::default() }
}

/// Generic resources: `ssd:2` is two pieces, `gpu:a+b` two named ones.
pub fn generic(value: &str) -> Result<Vec<GenericResource>, String> {
    let (kind, pieces) = value.split_once(':').ok_or(format!("{value} is no resource"))?;
    if let Ok(value) = pieces.parse() {
        let discrete = DiscreteGenericResource { kind: kind.into(), value };
        let discrete_resource_spec = Some(discrete);
        return Ok(vec![GenericResource { discrete_resource_spec, ..Default::default() }]);
    }
    let named = |piece: &str| {
        let named = NamedGenericResource { kind: kind.into(), value: piece.into() };
        GenericResource { named_resource_spec: Some(named), ..Default::default() }
    };
    Ok(pieces.split('+').map(named).collect())
}

pub fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

/// `500ms`, `10s`, `5m`, `24h`.
pub fn span(text: &str) -> Result<Nanoseconds, String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match &text[at..] {
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err(format!("{text} is no span")),
    };
    Ok(text[..at].parse::<Nanoseconds>().map_err(|error| error.to_string())? * unit)
}

pub fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}
