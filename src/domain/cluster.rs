//! The cluster object: settings, trust and tokens.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::container::Driver;
use super::id::{ClusterId, NodeId};
use super::json::is_zero;
use super::meta::Meta;
use super::network_keys::NetworkKeys;
use super::time::Nanoseconds;

/// The name that the one cluster always has.
pub const CLUSTER_NAME: &str = "default";
/// Dead tasks kept for each slot when the settings say nothing.
pub const TASK_HISTORY_DEFAULT: i64 = 5;
/// Heartbeat period when the settings say nothing: 5 s.
pub const HEARTBEAT_PERIOD_DEFAULT: Nanoseconds = 5_000_000_000;
/// The shortest heartbeat period that nodes are given: 1 s. At zero an engine beats without a pause,
/// and settings in the wrong unit come close to zero.
pub const HEARTBEAT_PERIOD_MIN: Nanoseconds = 1_000_000_000;
/// Life of a node certificate when the settings say nothing: 90 days.
pub const NODE_CERT_EXPIRY_DEFAULT: Nanoseconds = 90 * 24 * 3600 * 1_000_000_000;
/// The shortest life of a node certificate that is accepted: 1 hour.
pub const NODE_CERT_EXPIRY_MIN: Nanoseconds = 3600 * 1_000_000_000;
/// The longest that a node may renew its certificate after it has ended, in seconds: 90 days.
pub const EXPIRED_GRACE_MAX: i64 = 90 * 24 * 3600;
/// Where overlay networks get their addresses when `init` says nothing.
pub const ADDRESS_POOL_DEFAULT: &str = "10.0.0.0/8";
/// Prefix length of an overlay network's subnet when `init` says nothing.
pub const SUBNET_SIZE_DEFAULT: u32 = 24;
/// UDP port of overlay traffic when `init` says nothing.
pub const DATA_PATH_PORT_DEFAULT: u32 = 4789;

/// The stored cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its id, the organisation in every certificate.
    pub id: ClusterId,
    /// Version and times.
    pub meta: Meta,
    /// Settings.
    pub spec: ClusterSpec,
    /// Root certificates that nodes trust, PEM with LF line ends. The token digest is over exactly
    /// these bytes. The signing key is a payload of its own, sealed.
    pub root_ca: String,
    /// The root that is to take the place of this one, while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_rotation: Option<RootRotation>,
    /// The root, signed by the one before it, PEM: who trusts that one still believes this manager.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cross_signed: String,
    /// Subject and public key of the root, for the API.
    pub tls_info: super::node::TlsInfo,
    /// The secret parts of the join tokens.
    pub join_secrets: JoinSecrets,
    /// The node that this manager is.
    pub manager: NodeId,
    /// Address and port where the nodes' door listens.
    pub listen_addr: String,
    /// Address and port that nodes are told.
    pub advertise_addr: String,
    /// Pools of overlay networks.
    pub default_addr_pool: Vec<String>,
    /// Prefix length of an overlay network's subnet.
    pub subnet_size: u32,
    /// UDP port of overlay traffic.
    pub data_path_port: u32,
    /// What engines guard overlay networks with; absent in a store of a release without networks.
    #[serde(default)]
    pub network_keys: Option<NetworkKeys>,
    /// Keys of autolock that were asked for.
    #[serde(default)]
    pub autolock: Autolock,
    /// Nodes that were removed and may not come back, with the end of their certificates' life as
    /// seconds since 1970; after it the entry is of no use.
    #[serde(default)]
    pub barred: BTreeMap<NodeId, i64>,
}

/// A root certificate on its way. All that is issued from the beginning on is signed with its key; it
/// takes the place of the one before once every node has such a certificate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RootRotation {
    /// The new root, PEM.
    pub root_ca: String,
    /// The same, signed by the root before it, PEM.
    pub cross_signed: String,
    /// What the API says of the new root.
    pub tls_info: super::node::TlsInfo,
}

/// How far it is with the key that only users know. A new one takes effect once a user has seen it:
/// a key that nobody knows must not lock anybody out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Autolock {
    /// Counts the keys that were asked for.
    pub wanted: u64,
    /// The last that is in effect.
    pub shown: u64,
    /// The one that was asked for last, from the moment that a user is going to be shown it until it is
    /// in effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered: Option<OfferedKey>,
}

/// A key of autolock as users note it down. It is not printed.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct OfferedKey(pub Zeroizing<String>);

impl fmt::Debug for OfferedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OfferedKey(…)")
    }
}

impl Autolock {
    /// True when a key was asked for that is not in effect.
    pub fn is_due(&self) -> bool {
        self.wanted != self.shown
    }
}

/// The secret parts of the join tokens: 25 base-36 characters each.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct JoinSecrets {
    /// For workers.
    pub worker: String,
    /// For managers.
    pub manager: String,
}

impl fmt::Debug for JoinSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinSecrets(…)")
    }
}

/// Settings of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct ClusterSpec {
    /// Always `default`.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// How tasks are kept.
    pub orchestration: OrchestrationConfig,
    /// Replication; stored and shown, of no effect while there is one manager.
    pub raft: RaftConfig,
    /// How nodes are watched.
    pub dispatcher: DispatcherConfig,
    /// Certificates.
    #[serde(rename = "CAConfig")]
    pub ca_config: CaConfig,
    /// What tasks get that say nothing.
    pub task_defaults: TaskDefaults,
    /// Locking of managers.
    pub encryption_config: EncryptionConfig,
}

impl Default for ClusterSpec {
    fn default() -> Self {
        ClusterSpec {
            name: CLUSTER_NAME.into(),
            labels: BTreeMap::new(),
            orchestration: OrchestrationConfig {
                task_history_retention_limit: Some(TASK_HISTORY_DEFAULT),
            },
            raft: RaftConfig {
                snapshot_interval: 10_000,
                keep_old_snapshots: Some(0),
                log_entries_for_slow_followers: 500,
                election_tick: 10,
                heartbeat_tick: 1,
            },
            dispatcher: DispatcherConfig { heartbeat_period: HEARTBEAT_PERIOD_DEFAULT },
            ca_config: CaConfig {
                node_cert_expiry: NODE_CERT_EXPIRY_DEFAULT,
                ..Default::default()
            },
            task_defaults: TaskDefaults::default(),
            encryption_config: EncryptionConfig::default(),
        }
    }
}

/// How tasks are kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct OrchestrationConfig {
    /// Dead tasks kept for each slot.
    #[serde(skip_serializing_if = "is_zero")]
    pub task_history_retention_limit: Option<i64>,
}

/// Replication settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct RaftConfig {
    /// Log entries between snapshots.
    #[serde(skip_serializing_if = "is_zero")]
    pub snapshot_interval: u64,
    /// Snapshots kept besides the newest.
    #[serde(skip_serializing_if = "is_zero")]
    pub keep_old_snapshots: Option<u64>,
    /// Log entries kept for slow followers.
    #[serde(skip_serializing_if = "is_zero")]
    pub log_entries_for_slow_followers: u64,
    /// Ticks until an election.
    pub election_tick: i64,
    /// Ticks between heartbeats.
    pub heartbeat_tick: i64,
}

/// How nodes are watched.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct DispatcherConfig {
    /// Between two heartbeats of a node.
    #[serde(skip_serializing_if = "is_zero")]
    pub heartbeat_period: Nanoseconds,
}

/// Certificates.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct CaConfig {
    /// Life of a node certificate.
    #[serde(skip_serializing_if = "is_zero")]
    pub node_cert_expiry: Nanoseconds,
    /// Certificate authorities outside; not supported.
    #[serde(rename = "ExternalCAs", skip_serializing_if = "is_zero")]
    pub external_cas: Vec<ExternalCa>,
    /// Signing certificate, on input only.
    #[serde(rename = "SigningCACert", skip_serializing_if = "is_zero")]
    pub signing_ca_cert: String,
    /// Signing key, on input only.
    #[serde(rename = "SigningCAKey", skip_serializing_if = "is_zero")]
    pub signing_ca_key: String,
    /// Raised to have the root certificate replaced.
    #[serde(skip_serializing_if = "is_zero")]
    pub force_rotate: u64,
}

/// A certificate authority outside.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExternalCa {
    /// Protocol; `cfssl`.
    pub protocol: String,
    /// Where it is.
    #[serde(rename = "URL")]
    pub url: String,
    /// Options.
    #[serde(skip_serializing_if = "is_zero")]
    pub options: BTreeMap<String, String>,
    /// Its certificate.
    #[serde(rename = "CACert")]
    pub ca_cert: String,
}

/// What tasks get that say nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct TaskDefaults {
    /// Where their output goes.
    #[serde(skip_serializing_if = "is_zero")]
    pub log_driver: Option<Driver>,
}

/// Locking of managers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct EncryptionConfig {
    /// Managers start locked.
    pub auto_lock_managers: bool,
}

/// Join tokens as the API shows them.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub struct JoinTokens {
    /// For workers.
    pub worker: String,
    /// For managers.
    pub manager: String,
}

impl ClusterSpec {
    /// The same settings with the default in place of every zero, as `init` stores them.
    pub fn with_defaults(mut self) -> ClusterSpec {
        let default = ClusterSpec::default();
        fn fill<T: Default + PartialEq>(value: &mut T, default: T) {
            if is_zero(value) {
                *value = default;
            }
        }
        fill(&mut self.name, default.name);
        fill(&mut self.orchestration, default.orchestration);
        fill(&mut self.raft.snapshot_interval, default.raft.snapshot_interval);
        fill(&mut self.raft.keep_old_snapshots, default.raft.keep_old_snapshots);
        let slow = default.raft.log_entries_for_slow_followers;
        fill(&mut self.raft.log_entries_for_slow_followers, slow);
        fill(&mut self.raft.election_tick, default.raft.election_tick);
        fill(&mut self.raft.heartbeat_tick, default.raft.heartbeat_tick);
        fill(&mut self.dispatcher, default.dispatcher);
        fill(&mut self.ca_config.node_cert_expiry, default.ca_config.node_cert_expiry);
        self
    }

    /// Dead tasks kept for each slot, with the default applied.
    pub fn task_history_limit(&self) -> usize {
        let limit = self.orchestration.task_history_retention_limit.unwrap_or(TASK_HISTORY_DEFAULT);
        usize::try_from(limit).unwrap_or(usize::MAX)
    }

    /// Heartbeat period, with the default applied.
    pub fn heartbeat_period(&self) -> Nanoseconds {
        match self.dispatcher.heartbeat_period {
            0 => HEARTBEAT_PERIOD_DEFAULT,
            period => period.max(HEARTBEAT_PERIOD_MIN),
        }
    }

    /// Life of a node certificate, with the default applied.
    pub fn node_cert_expiry(&self) -> Nanoseconds {
        match self.ca_config.node_cert_expiry {
            0 => NODE_CERT_EXPIRY_DEFAULT,
            expiry => expiry,
        }
    }
}
