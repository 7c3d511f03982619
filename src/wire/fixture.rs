//! Objects with every field set, for the tests of this room. They are written out in full, so that
//! a field that is added to the domain asks for its place here.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::config::{Config, ConfigSpec};
use crate::domain::container::*;
use crate::domain::endpoint::*;
use crate::domain::id::{ConfigId, NetworkId, NodeId, SecretId, ServiceId, TaskId};
use crate::domain::meta::{Meta, Version};
use crate::domain::network::*;
use crate::domain::node::*;
use crate::domain::secret::{FileTarget, Fingerprint, Secret, SecretReference, SecretSpec};
use crate::domain::service::*;
use crate::domain::task::{ContainerStatus, Restarts, Task, TaskStatus};
use crate::domain::task_state::TaskState;
use crate::domain::time::Timestamp;
use crate::domain::view::View;

const NANOS: i64 = 1_000_000_000;

pub fn node_id() -> NodeId {
    NodeId::derive([1; 17])
}

pub fn at(seconds: i128) -> Timestamp {
    Timestamp::from_unix_nanos(seconds * i128::from(NANOS))
}

pub fn meta() -> Meta {
    Meta {
        version: Version { index: 9 },
        edited_in: Version { index: 9 },
        created_at: at(1),
        updated_at: at(2),
    }
}

pub fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("a".into(), "b".into())])
}

pub fn driver() -> Driver {
    Driver { name: "local".into(), options: BTreeMap::from([("o".into(), "bind".into())]) }
}

fn strings<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(String::from).to_vec()
}

pub fn container() -> ContainerSpec {
    ContainerSpec {
        image: "alpine:3".into(),
        labels: labels(),
        command: strings(["sh", "-c"]),
        args: strings(["sleep 1"]),
        hostname: "host".into(),
        env: strings(["A=1"]),
        dir: "/work".into(),
        user: "1000".into(),
        groups: strings(["audio"]),
        privileges: Some(privileges()),
        init: Some(false),
        stop_signal: "SIGINT".into(),
        tty: true,
        open_stdin: true,
        read_only: true,
        mounts: mounts(),
        stop_grace_period: Some(NANOS + 5),
        healthcheck: Some(HealthConfig {
            test: strings(["CMD", "true"]),
            interval: NANOS,
            timeout: 2 * NANOS,
            start_period: 3 * NANOS,
            start_interval: 4 * NANOS,
            retries: 5,
        }),
        hosts: strings(["10.0.0.9 other"]),
        dns_config: Some(DnsConfig {
            nameservers: vec![[10, 0, 0, 2].into(), "fd00::2".parse().expect("an address")],
            search: strings(["lan"]),
            options: strings(["ndots:2"]),
        }),
        secrets: vec![SecretReference {
            file: Some(file("pw", 0o400)),
            secret_id: "secret-id".into(),
            secret_name: "password".into(),
        }],
        configs: configs(),
        isolation: Isolation::HyperV,
        sysctls: BTreeMap::from([("net.core.somaxconn".into(), "1024".into())]),
        capability_add: strings(["CAP_NET_RAW"]),
        capability_drop: strings(["CAP_CHOWN"]),
        ulimits: vec![Ulimit { name: "nofile".into(), hard: 2, soft: 1 }],
        oom_score_adj: -5,
    }
}

fn file(name: &str, mode: u32) -> FileTarget {
    FileTarget { name: name.into(), uid: "1".into(), gid: "2".into(), mode }
}

fn configs() -> Vec<ConfigReference> {
    let reference = |file, runtime| ConfigReference {
        file,
        runtime,
        config_id: "config-id".into(),
        config_name: "settings".into(),
    };
    vec![
        reference(Some(file("/etc/settings", 0o444)), None),
        reference(None, Some(RuntimeTarget {})),
    ]
}

fn privileges() -> Privileges {
    Privileges {
        credential_spec: Some(CredentialSpec {
            config: "config-id".into(),
            file: String::new(),
            registry: String::new(),
        }),
        selinux_context: Some(SeLinuxContext {
            disable: true,
            user: "user".into(),
            role: "role".into(),
            kind: "type".into(),
            level: "level".into(),
        }),
        seccomp: Some(SeccompOpts { mode: SeccompMode::Custom, profile: b"{}".to_vec() }),
        app_armor: Some(AppArmorOpts { mode: AppArmorMode::Disabled }),
        no_new_privileges: true,
    }
}

fn mounts() -> Vec<Mount> {
    let mount = |kind, source: &str| Mount {
        kind,
        source: source.into(),
        target: "/data".into(),
        read_only: true,
        consistency: Some(MountConsistency::Cached),
        bind_options: None,
        volume_options: None,
        tmpfs_options: None,
    };
    let bind = BindOptions {
        propagation: Some(Propagation::RSlave),
        non_recursive: true,
        create_mountpoint: true,
        read_only_non_recursive: true,
        read_only_force_recursive: true,
    };
    let volume = VolumeOptions {
        no_copy: true,
        labels: labels(),
        subpath: "sub".into(),
        driver_config: Some(driver()),
    };
    let tmpfs = TmpfsOptions { size_bytes: 4096, mode: 0o1777, options: vec![strings(["noexec"])] };
    vec![
        Mount { bind_options: Some(bind), ..mount(MountType::Bind, "/srv") },
        Mount { volume_options: Some(volume), ..mount(MountType::Volume, "vol") },
        Mount { tmpfs_options: Some(tmpfs), ..mount(MountType::Tmpfs, "") },
    ]
}

pub fn task_spec() -> TaskSpec {
    TaskSpec {
        container_spec: Some(container()),
        resources: Some(ResourceRequirements {
            limits: Some(Limit { nano_cpus: 1, memory_bytes: 2, pids: 77 }),
            reservations: Some(resources()),
            swap_bytes: Some(0),
            memory_swappiness: Some(60),
        }),
        restart_policy: Some(RestartPolicy {
            condition: RestartCondition::OnFailure,
            delay: Some(NANOS),
            max_attempts: 3,
            window: Some(2 * NANOS),
        }),
        placement: Some(Placement {
            constraints: strings(["node.role==worker"]),
            preferences: vec![PlacementPreference {
                spread: Some(SpreadOver { spread_descriptor: "node.labels.zone".into() }),
            }],
            max_replicas: 4,
            platforms: vec![platform()],
        }),
        networks: vec![NetworkAttachmentConfig {
            target: network().id.to_string(),
            aliases: strings(["alias"]),
            driver_opts: labels(),
        }],
        log_driver: Some(driver()),
        force_update: 6,
        runtime: Some(Runtime::Container),
        network_attachment_spec: None,
    }
}

pub fn platform() -> Platform {
    Platform { architecture: "x86_64".into(), os: "linux".into() }
}

pub fn resources() -> Resources {
    let gpus = DiscreteGenericResource { kind: "GPU".into(), value: 2 };
    Resources {
        nano_cpus: 3,
        memory_bytes: 4,
        generic_resources: vec![GenericResource {
            named_resource_spec: None,
            discrete_resource_spec: Some(gpus),
        }],
    }
}

pub fn port() -> PortConfig {
    PortConfig {
        name: "web".into(),
        protocol: Protocol::Udp,
        target_port: 53,
        published_port: 5353,
        publish_mode: PublishMode::Host,
    }
}

pub fn task() -> Task {
    Task {
        revisions: Default::default(),
        id: TaskId::derive([3; 17]),
        meta: meta(),
        spec: Arc::new(task_spec()),
        service_id: Some(ServiceId::derive([4; 17])),
        service_name: "web".into(),
        service_labels: labels(),
        spec_version: Version { index: 8 },
        slot: 2,
        node_id: Some(node_id()),
        ran_at: None,
        status: TaskStatus {
            timestamp: at(3),
            applied_at: at(4),
            state: TaskState::Assigned,
            message: "scheduler assigned task to node".into(),
            err: "none yet".into(),
            container: Some(ContainerStatus {
                container_id: "c0ffee".into(),
                pid: 42,
                exit_code: 137,
            }),
            ports: vec![port()],
        },
        desired_state: TaskState::Running,
        endpoint_spec: Some(EndpointSpec {
            mode: ResolutionMode::DnsRoundRobin,
            ports: vec![port()],
        }),
        endpoint: None,
        networks: vec![place("10.0.1.4/24")],
        generic_resources: vec![GenericResource {
            named_resource_spec: Some(NamedGenericResource {
                kind: "gpu".into(),
                value: "gpu-1".into(),
            }),
            discrete_resource_spec: None,
        }],
        registry_auth: RegistryAuth("auth".into()),
        not_before: Timestamp::ZERO,
        restarts: Restarts { count: 1, ..Restarts::default() },
        job_iteration: None,
    }
}

pub fn secret() -> Secret {
    Secret {
        revisions: Default::default(),
        id: SecretId::derive([5; 17]),
        meta: meta(),
        spec: SecretSpec {
            name: "password".into(),
            labels: labels(),
            driver: Some(driver()),
            templating: Some(Driver { name: "golang".into(), options: BTreeMap::new() }),
        },
        fingerprint: Fingerprint([7; 32]),
        shown: Default::default(),
    }
}

pub fn config() -> Config {
    Config {
        revisions: Default::default(),
        id: ConfigId::derive([6; 17]),
        meta: meta(),
        spec: ConfigSpec {
            name: "settings".into(),
            labels: labels(),
            templating: Some(Driver { name: "golang".into(), options: BTreeMap::new() }),
        },
        fingerprint: Fingerprint([8; 32]),
    }
}

/// The manager's own node: the one that is most in danger of being called a manager on the wire.
pub fn node() -> Node {
    Node {
        id: node_id(),
        meta: meta(),
        spec: NodeSpec {
            name: "first".into(),
            labels: labels(),
            role: NodeRole::Manager,
            availability: Availability::Drain,
        },
        description: Some(description()),
        status: NodeStatus {
            state: NodeState::Ready,
            message: "fine".into(),
            addr: "10.0.0.1".into(),
        },
        down_since: None,
        manager: Some(ManagerStatus {
            leader: true,
            reachability: Reachability::Reachable,
            addr: "10.0.0.1:2377".into(),
        }),
        certificate: Certificate {
            csr: b"request".to_vec(),
            state: IssuanceState::Issued,
            chain: "chain".into(),
            not_after: 0,
        },
        attachments: vec![place("10.0.1.5/24")],
    }
}

/// An overlay with every field set.
pub fn network() -> Network {
    let four = IpamConfig {
        subnet: "10.0.1.0/24".into(),
        ip_range: "10.0.1.128/25".into(),
        gateway: "10.0.1.1".into(),
        auxiliary_addresses: BTreeMap::from([("printer".into(), "10.0.1.200".into())]),
    };
    let six = IpamConfig { subnet: "fd00::/64".into(), ..IpamConfig::default() };
    Network {
        id: NetworkId::derive([9; 17]),
        meta: meta(),
        spec: NetworkSpec {
            name: "back".into(),
            labels: labels(),
            driver: OVERLAY.into(),
            options: BTreeMap::from([("encrypted".into(), String::new())]),
            ipam: Ipam {
                driver: "default".into(),
                options: BTreeMap::new(),
                config: vec![six.clone()],
            },
            enable_ipv6: true,
            internal: true,
            attachable: true,
            ingress: false,
        },
        vnis: vec![4097],
        subnets: vec![four, six],
        last_given: "10.0.1.5".parse().ok(),
        is_removed: false,
    }
}

fn place(address: &str) -> Attachment {
    Attachment { network: network().id, address: address.parse().ok() }
}

/// A view that has the network.
pub fn view() -> View {
    let mut view = View::default();
    view.load(&network().into());
    view
}

pub fn description() -> NodeDescription {
    NodeDescription {
        hostname: "worker-1".into(),
        platform: platform(),
        resources: resources(),
        engine: EngineDescription {
            engine_version: "29.7.2".into(),
            labels: labels(),
            plugins: vec![
                PluginDescription { kind: "Volume".into(), name: "local".into() },
                PluginDescription { kind: "Log".into(), name: "json-file".into() },
            ],
        },
        tls_info: TlsInfo {
            trust_root: "root".into(),
            cert_issuer_subject: vec![1],
            cert_issuer_public_key: vec![2],
        },
    }
}
