//! The container part of a task's spec, in the Engine API's shape. purser passes it to the node
//! whole; only images, mounts, health checks and references are looked at on the way.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::json::{base64_bytes, empty_as_default, empty_as_none, engine_enum, is_zero};
use super::secret::SecretReference;
use super::time::Nanoseconds;

/// How a container is made from an image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerSpec {
    /// Image reference; required.
    #[serde(skip_serializing_if = "is_zero")]
    pub image: String,
    /// Labels of the container.
    #[serde(skip_serializing_if = "is_zero")]
    pub labels: BTreeMap<String, String>,
    /// Replaces the image's entrypoint.
    #[serde(skip_serializing_if = "is_zero")]
    pub command: Vec<String>,
    /// Replaces the image's command.
    #[serde(skip_serializing_if = "is_zero")]
    pub args: Vec<String>,
    /// Host name inside the container; may hold a template.
    #[serde(skip_serializing_if = "is_zero")]
    pub hostname: String,
    /// Environment as `NAME=value`; values may hold templates.
    #[serde(skip_serializing_if = "is_zero")]
    pub env: Vec<String>,
    /// Working directory.
    #[serde(skip_serializing_if = "is_zero")]
    pub dir: String,
    /// User (and group) to run as.
    #[serde(skip_serializing_if = "is_zero")]
    pub user: String,
    /// Further groups of the process.
    #[serde(skip_serializing_if = "is_zero")]
    pub groups: Vec<String>,
    /// Security options.
    #[serde(skip_serializing_if = "is_zero")]
    pub privileges: Option<Privileges>,
    /// Run an init process as PID 1; absent leaves it to the engine's own setting.
    #[serde(skip_serializing_if = "is_zero")]
    pub init: Option<bool>,
    /// Signal that asks the process to stop.
    #[serde(skip_serializing_if = "is_zero")]
    pub stop_signal: String,
    /// Allocate a terminal.
    #[serde(rename = "TTY", skip_serializing_if = "is_zero")]
    pub tty: bool,
    /// Keep standard input open.
    #[serde(skip_serializing_if = "is_zero")]
    pub open_stdin: bool,
    /// Mount the root file system read-only.
    #[serde(skip_serializing_if = "is_zero")]
    pub read_only: bool,
    /// Mounts, with distinct targets.
    #[serde(skip_serializing_if = "is_zero")]
    pub mounts: Vec<Mount>,
    /// How long to wait after the stop signal before killing; 10 s when absent.
    #[serde(skip_serializing_if = "is_zero")]
    pub stop_grace_period: Option<Nanoseconds>,
    /// Health check; overrides the image's.
    #[serde(skip_serializing_if = "is_zero")]
    pub healthcheck: Option<HealthConfig>,
    /// Further lines for the hosts file.
    #[serde(skip_serializing_if = "is_zero")]
    pub hosts: Vec<String>,
    /// Resolver settings.
    #[serde(rename = "DNSConfig", skip_serializing_if = "is_zero")]
    pub dns_config: Option<DnsConfig>,
    /// Secrets granted to the container.
    #[serde(skip_serializing_if = "is_zero")]
    pub secrets: Vec<SecretReference>,
    /// Configs granted to the container.
    #[serde(skip_serializing_if = "is_zero")]
    pub configs: Vec<ConfigReference>,
    /// Isolation technology; matters on Windows only, always written.
    #[serde(deserialize_with = "empty_as_default")]
    pub isolation: Isolation,
    /// Kernel parameters of the container's namespaces.
    #[serde(skip_serializing_if = "is_zero")]
    pub sysctls: BTreeMap<String, String>,
    /// Capabilities to add.
    #[serde(skip_serializing_if = "is_zero")]
    pub capability_add: Vec<String>,
    /// Capabilities to drop.
    #[serde(skip_serializing_if = "is_zero")]
    pub capability_drop: Vec<String>,
    /// Resource limits of the process.
    #[serde(skip_serializing_if = "is_zero")]
    pub ulimits: Vec<Ulimit>,
    /// Adjustment of the out-of-memory score, −1000 to 1000.
    #[serde(skip_serializing_if = "is_zero")]
    pub oom_score_adj: i64,
}

engine_enum! {
    /// Isolation technology of a container.
    Isolation in any case, unknown "invalid isolation: {:?}", default Default,
    /// The engine's default.
    Default = "default",
    /// Process isolation (Windows).
    Process = "process",
    /// Hyper-V isolation (Windows).
    HyperV = "hyperv",
}

/// Security options of a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Privileges {
    /// Credential spec for managed service accounts (Windows).
    pub credential_spec: Option<CredentialSpec>,
    /// SELinux labels.
    #[serde(rename = "SELinuxContext")]
    pub selinux_context: Option<SeLinuxContext>,
    /// Seccomp profile.
    #[serde(skip_serializing_if = "is_zero")]
    pub seccomp: Option<SeccompOpts>,
    /// AppArmor profile.
    #[serde(skip_serializing_if = "is_zero")]
    pub app_armor: Option<AppArmorOpts>,
    /// Forbid gaining privileges through set-uid programs.
    pub no_new_privileges: bool,
}

/// Where a credential spec comes from; exactly one is set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct CredentialSpec {
    /// Id of a config with a runtime target.
    pub config: String,
    /// File on the node.
    pub file: String,
    /// Registry value on the node.
    pub registry: String,
}

/// SELinux labels.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct SeLinuxContext {
    /// Turn SELinux off for the container.
    pub disable: bool,
    /// User label.
    pub user: String,
    /// Role label.
    pub role: String,
    /// Type label.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Level label.
    pub level: String,
}

engine_enum! {
    /// How a container is confined by seccomp.
    SeccompMode, unknown "invalid SeccompMode: {:?}", default Default,
    /// The engine's default profile.
    Default = "default",
    /// No profile.
    Unconfined = "unconfined",
    /// The profile given.
    Custom = "custom",
}

/// Seccomp profile.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct SeccompOpts {
    /// Which profile; the default one when absent, and written as such.
    #[serde(deserialize_with = "empty_as_default")]
    pub mode: SeccompMode,
    /// The profile itself for mode `custom`, base64.
    #[serde(skip_serializing_if = "is_zero", with = "base64_bytes")]
    #[schema(value_type = String, format = Byte, default = "")]
    pub profile: Vec<u8>,
}

engine_enum! {
    /// How a container is confined by AppArmor.
    AppArmorMode, unknown "invalid AppArmorMode: {:?}", default Default,
    /// The engine's default profile.
    Default = "default",
    /// No profile.
    Disabled = "disabled",
}

/// AppArmor profile.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct AppArmorOpts {
    /// Which profile; the default one when absent, and written as such.
    #[serde(deserialize_with = "empty_as_default")]
    pub mode: AppArmorMode,
}

engine_enum! {
    /// What is mounted.
    MountType in any case, unknown "invalid MountType: {:?}", default Bind,
    /// A path of the host.
    Bind = "bind",
    /// A named volume.
    Volume = "volume",
    /// A file system in memory.
    Tmpfs = "tmpfs",
    /// A named pipe (Windows).
    Npipe = "npipe",
    /// A cluster volume.
    Cluster = "cluster",
}

/// One mount of a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Mount {
    /// What is mounted; a bind when absent, and written as such.
    #[serde(rename = "Type", deserialize_with = "empty_as_default")]
    pub kind: MountType,
    /// Host path or volume name; may hold a template.
    #[serde(skip_serializing_if = "is_zero")]
    pub source: String,
    /// Path in the container; may hold a template.
    #[serde(skip_serializing_if = "is_zero")]
    pub target: String,
    /// Mount read-only.
    #[serde(skip_serializing_if = "is_zero")]
    pub read_only: bool,
    /// Consistency wish (`default`, `consistent`, `cached`, `delegated`).
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "empty_as_none")]
    pub consistency: Option<MountConsistency>,
    /// Options of a bind; absent when they ask for nothing.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "asking")]
    pub bind_options: Option<BindOptions>,
    /// Options of a volume.
    #[serde(skip_serializing_if = "is_zero")]
    pub volume_options: Option<VolumeOptions>,
    /// Options of a file system in memory.
    #[serde(skip_serializing_if = "is_zero")]
    pub tmpfs_options: Option<TmpfsOptions>,
}

engine_enum! {
    /// Consistency wish of a mount.
    MountConsistency in any case, unknown "invalid MountConsistency: {:?}",
    /// The engine's default.
    Default = "default",
    /// Full consistency.
    Consistent = "consistent",
    /// The host's view leads.
    Cached = "cached",
    /// The container's view leads.
    Delegated = "delegated",
}

engine_enum! {
    /// How mounts propagate into and out of a bind.
    Propagation in any case, unknown "invalid MountPropagation: {:?}",
    /// Recursively private.
    RPrivate = "rprivate",
    /// Private.
    Private = "private",
    /// Recursively shared.
    RShared = "rshared",
    /// Shared.
    Shared = "shared",
    /// Recursively slave.
    RSlave = "rslave",
    /// Slave.
    Slave = "slave",
}

/// Options of a bind mount.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct BindOptions {
    /// Propagation; `rprivate` when absent, and written as such.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "empty_as_none")]
    pub propagation: Option<Propagation>,
    /// Leave out mounts below the source.
    #[serde(skip_serializing_if = "is_zero")]
    pub non_recursive: bool,
    /// Make the source when it is missing.
    #[serde(skip_serializing_if = "is_zero")]
    pub create_mountpoint: bool,
    /// Read-only does not reach mounts below.
    #[serde(skip_serializing_if = "is_zero")]
    pub read_only_non_recursive: bool,
    /// Fail if read-only cannot reach mounts below.
    #[serde(skip_serializing_if = "is_zero")]
    pub read_only_force_recursive: bool,
}

/// Options that ask for nothing are none; those that ask for something say which propagation.
fn asking<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BindOptions>, D::Error> {
    let sent = Option::<BindOptions>::deserialize(deserializer)?;
    let asking = sent.filter(|options| !is_zero(options));
    Ok(asking.map(|options| BindOptions {
        propagation: options.propagation.or(Some(Propagation::RPrivate)),
        ..options
    }))
}

/// Options of a volume mount.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeOptions {
    /// Do not copy the image's content into a new volume.
    #[serde(skip_serializing_if = "is_zero")]
    pub no_copy: bool,
    /// Labels of a volume that is made.
    #[serde(skip_serializing_if = "is_zero")]
    pub labels: BTreeMap<String, String>,
    /// Path inside the volume.
    #[serde(skip_serializing_if = "is_zero")]
    pub subpath: String,
    /// Volume driver.
    #[serde(skip_serializing_if = "is_zero")]
    pub driver_config: Option<Driver>,
}

/// Options of a file system in memory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct TmpfsOptions {
    /// Size in bytes; unlimited when zero.
    #[serde(skip_serializing_if = "is_zero")]
    pub size_bytes: i64,
    /// File mode of its root.
    #[serde(skip_serializing_if = "is_zero")]
    pub mode: u32,
    /// Further mount options, each a flag or a key and a value.
    #[serde(skip_serializing_if = "is_zero")]
    pub options: Vec<Vec<String>>,
}

/// A named driver with options.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Driver {
    /// Name of the driver.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    /// Options, as the driver defines them.
    #[serde(skip_serializing_if = "is_zero")]
    pub options: BTreeMap<String, String>,
}

/// Health check of a container. Spans are 0 (the default applies) or at least 1 ms.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthConfig {
    /// The test: `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", …]`; empty inherits the image's.
    #[serde(skip_serializing_if = "is_zero")]
    pub test: Vec<String>,
    /// Between two tests.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: Nanoseconds,
    /// After which a test counts as failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: Nanoseconds,
    /// Grace after the start in which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: Nanoseconds,
    /// Between two tests during the grace.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: Nanoseconds,
    /// Failures in a row until unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// Resolver settings of a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct DnsConfig {
    /// Name servers.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(value_type = Vec<String>)]
    pub nameservers: Vec<std::net::IpAddr>,
    /// Search domains.
    #[serde(skip_serializing_if = "is_zero")]
    pub search: Vec<String>,
    /// Resolver options.
    #[serde(skip_serializing_if = "is_zero")]
    pub options: Vec<String>,
}

/// A config granted to a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct ConfigReference {
    /// The file it becomes.
    #[serde(skip_serializing_if = "is_zero")]
    pub file: Option<super::secret::FileTarget>,
    /// Set for a config that the runtime reads instead of a file.
    #[serde(skip_serializing_if = "is_zero")]
    pub runtime: Option<RuntimeTarget>,
    /// Full id of the config.
    #[serde(rename = "ConfigID")]
    pub config_id: String,
    /// Its name.
    pub config_name: String,
}

/// Marks a config that is for the runtime.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RuntimeTarget {}

/// One resource limit of the process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ulimit {
    /// Name, as in `nofile`.
    pub name: String,
    /// Hard limit.
    pub hard: i64,
    /// Soft limit.
    pub soft: i64,
}
