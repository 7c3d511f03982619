//! The container part of a task.

use super::common::pairs;
use super::proto;
use super::proto::container_spec as twin;
use super::time::duration;
use super::{mount, privileges, reference};
use crate::domain::container::{ContainerSpec, DnsConfig, HealthConfig, Isolation, Ulimit};
use crate::domain::service::RegistryAuth;

/// The message of a container. Two of its fields stand elsewhere in the API: the limit of processes
/// (0 is none) with the resources, and the registry's credentials beside the spec.
pub fn container(
    spec: &ContainerSpec,
    pids_limit: i64,
    registry_auth: &RegistryAuth,
) -> proto::ContainerSpec {
    proto::ContainerSpec {
        image: spec.image.clone(),
        labels: pairs(&spec.labels),
        command: spec.command.clone(),
        args: spec.args.clone(),
        env: spec.env.clone(),
        dir: spec.dir.clone(),
        user: spec.user.clone(),
        mounts: spec.mounts.iter().map(mount::mount).collect(),
        stop_grace_period: spec.stop_grace_period.map(duration),
        pull_options: pull_options(registry_auth),
        groups: spec.groups.clone(),
        secrets: spec.secrets.iter().filter_map(reference::secret).collect(),
        tty: spec.tty,
        hostname: spec.hostname.clone(),
        dns_config: spec.dns_config.as_ref().map(dns_config),
        healthcheck: spec.healthcheck.as_ref().map(healthcheck),
        hosts: spec.hosts.clone(),
        open_stdin: spec.open_stdin,
        read_only: spec.read_only,
        stop_signal: spec.stop_signal.clone(),
        configs: spec.configs.iter().filter_map(reference::config).collect(),
        privileges: spec.privileges.as_ref().map(privileges::privileges),
        init: spec.init,
        isolation: isolation(spec.isolation).into(),
        pids_limit,
        sysctls: pairs(&spec.sysctls),
        capability_add: spec.capability_add.clone(),
        capability_drop: spec.capability_drop.clone(),
        ulimits: spec.ulimits.iter().map(ulimit).collect(),
        oom_score_adj: spec.oom_score_adj,
    }
}

fn pull_options(registry_auth: &RegistryAuth) -> Option<twin::PullOptions> {
    let RegistryAuth(auth) = registry_auth;
    (!auth.is_empty()).then(|| twin::PullOptions { registry_auth: auth.clone() })
}

fn dns_config(config: &DnsConfig) -> twin::DnsConfig {
    twin::DnsConfig {
        nameservers: config.nameservers.iter().map(ToString::to_string).collect(),
        search: config.search.clone(),
        options: config.options.clone(),
    }
}

/// The message of a health check. Its spans are always there: a zero means the default.
fn healthcheck(config: &HealthConfig) -> proto::HealthConfig {
    proto::HealthConfig {
        test: config.test.clone(),
        interval: Some(duration(config.interval)),
        timeout: Some(duration(config.timeout)),
        retries: i32::try_from(config.retries).unwrap_or(i32::MAX),
        start_period: Some(duration(config.start_period)),
        start_interval: Some(duration(config.start_interval)),
    }
}

fn isolation(isolation: Isolation) -> twin::Isolation {
    match isolation {
        Isolation::Default => twin::Isolation::Default,
        Isolation::Process => twin::Isolation::Process,
        Isolation::HyperV => twin::Isolation::Hyperv,
    }
}

fn ulimit(ulimit: &Ulimit) -> twin::Ulimit {
    twin::Ulimit { name: ulimit.name.clone(), soft: ulimit.soft, hard: ulimit.hard }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::proto::config_reference::Target as ConfigTarget;
    use super::proto::secret_reference::Target as SecretTarget;
    use super::*;
    use crate::wire::fixture;

    fn message() -> proto::ContainerSpec {
        container(&fixture::container(), 77, &RegistryAuth("auth".into()))
    }

    fn sorted(map: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, String> {
        map.into_iter().collect()
    }

    #[test]
    fn every_plain_field_survives() {
        let (spec, message) = (fixture::container(), message());
        assert_eq!(message.image, spec.image);
        assert_eq!(sorted(message.labels), spec.labels);
        assert_eq!(message.command, spec.command);
        assert_eq!(message.args, spec.args);
        assert_eq!(message.env, spec.env);
        assert_eq!(message.dir, spec.dir);
        assert_eq!(message.user, spec.user);
        assert_eq!(message.groups, spec.groups);
        assert!(message.tty && message.open_stdin && message.read_only);
        assert_eq!(message.hostname, spec.hostname);
        assert_eq!(message.hosts, spec.hosts);
        assert_eq!(message.stop_signal, spec.stop_signal);
        assert_eq!(message.init, Some(false), "false is not absent");
        assert_eq!(message.isolation, 2);
        assert_eq!(message.pids_limit, 77);
        assert_eq!(sorted(message.sysctls), spec.sysctls);
        assert_eq!(message.capability_add, spec.capability_add);
        assert_eq!(message.capability_drop, spec.capability_drop);
        assert_eq!(message.oom_score_adj, spec.oom_score_adj);
    }

    #[test]
    fn every_nested_field_survives() {
        let message = message();
        assert_eq!(message.stop_grace_period.map(|span| (span.seconds, span.nanos)), Some((1, 5)));
        assert_eq!(message.pull_options.map(|pull| pull.registry_auth), Some("auth".into()));
        let dns = message.dns_config.expect("sent");
        assert_eq!(dns.nameservers, ["10.0.0.2", "fd00::2"]);
        assert_eq!((dns.search, dns.options), (vec!["lan".into()], vec!["ndots:2".into()]));
        let health = message.healthcheck.expect("sent");
        assert_eq!(health.test, ["CMD", "true"]);
        let spans = [health.interval, health.timeout, health.start_period, health.start_interval];
        assert_eq!(spans.map(|span| span.expect("always there").seconds), [1, 2, 3, 4]);
        assert_eq!(health.retries, 5);
        let ulimit = &message.ulimits[0];
        assert_eq!((&*ulimit.name, ulimit.soft, ulimit.hard), ("nofile", 1, 2));
    }

    #[test]
    fn every_reference_survives() {
        let message = message();
        let secret = &message.secrets[0];
        assert_eq!((&*secret.secret_id, &*secret.secret_name), ("secret-id", "password"));
        let Some(SecretTarget::File(file)) = &secret.target else { panic!("a file") };
        assert_eq!((&*file.name, &*file.uid, &*file.gid, file.mode), ("pw", "1", "2", 0o400));
        let [file, runtime] = &message.configs[..] else { panic!("two configs") };
        assert_eq!((&*file.config_id, &*file.config_name), ("config-id", "settings"));
        let Some(ConfigTarget::File(target)) = &file.target else { panic!("a file") };
        assert_eq!((&*target.name, target.mode), ("/etc/settings", 0o444));
        assert!(matches!(runtime.target, Some(ConfigTarget::Runtime(_))));
    }

    #[test]
    fn every_mount_option_survives() {
        let message = message();
        let [bind, volume, tmpfs] = &message.mounts[..] else { panic!("three mounts") };
        assert_eq!((bind.r#type, &*bind.source, &*bind.target), (0, "/srv", "/data"));
        assert_eq!((bind.readonly, bind.consistency), (true, 2));
        let options = bind.bind_options.as_ref().expect("sent");
        assert_eq!(options.propagation, 4);
        assert!(options.nonrecursive && options.createmountpoint);
        assert!(options.readonlynonrecursive && options.readonlyforcerecursive);
        assert_eq!(volume.r#type, 1);
        let options = volume.volume_options.as_ref().expect("sent");
        assert!(options.nocopy);
        assert_eq!(options.labels.get("a").map(String::as_str), Some("b"));
        assert_eq!(options.subpath, "sub");
        let driver = options.driver_config.as_ref().expect("sent");
        assert_eq!((&*driver.name, &*driver.options["o"]), ("local", "bind"));
        assert_eq!(tmpfs.r#type, 2);
        let options = tmpfs.tmpfs_options.as_ref().expect("sent");
        assert_eq!((options.size_bytes, options.mode), (4096, 0o1777));
        assert_eq!(options.options, r#"[["noexec"]]"#);
    }

    #[test]
    fn every_security_option_survives() {
        let privileges = message().privileges.expect("sent");
        let source = privileges.credential_spec.and_then(|spec| spec.source);
        let config = proto::privileges::credential_spec::Source::Config("config-id".into());
        assert!(source == Some(config));
        let context = privileges.selinux_context.expect("sent");
        assert!(context.disable);
        let labels = [context.user, context.role, context.r#type, context.level];
        assert_eq!(labels, ["user", "role", "type", "level"]);
        let seccomp = privileges.seccomp.expect("sent");
        assert_eq!((seccomp.mode, seccomp.profile), (2, b"{}".to_vec()));
        assert_eq!(privileges.apparmor.map(|options| options.mode), Some(1));
        assert!(privileges.no_new_privileges);
    }

    #[test]
    fn what_was_omitted_stays_absent() {
        let message = container(&ContainerSpec::default(), 0, &RegistryAuth::default());
        assert!(message == proto::ContainerSpec::default());
    }
}
