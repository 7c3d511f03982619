//! Configuration: flags, then `PURSER_*` in the environment, then a TOML file, then defaults, in
//! this order of strength, become the structs that the rooms declare.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::domain::revision::REVISIONS_KEPT;
use crate::{http, store};

/// Where the host's engine is looked for when nothing is said.
pub const ENGINE_SOCKET: &str = "/var/run/docker.sock";

/// The credential with the unlock key, if the service manager has one.
const CREDENTIAL: &str = "credential:purser-unlock-key";

/// Options that `serve` and `up` have in common. Each can be a flag, a `PURSER_*` variable, or a key
/// of the file.
#[derive(Debug, Clone, Default, clap::Args, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Options {
    /// Where the sealed store lies [root: /var/lib/purser; others: $XDG_DATA_HOME/purser]
    #[arg(long, env = "PURSER_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Unix socket of the API [root: /run/purser/purser.sock; others: $XDG_RUNTIME_DIR/purser.sock]
    #[arg(long, env = "PURSER_SOCKET", value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// The engine of this host: unix://PATH, auto (/var/run/docker.sock if it exists), or none
    #[arg(long, env = "PURSER_ENGINE", value_name = "ADDRESS")]
    pub engine: Option<String>,
    /// Serve the API over TCP as well: with the three --api-tls options at any address, as in
    /// 0.0.0.0:2376; without TLS at one of the loopback, as in 127.0.0.1:2375
    #[arg(long, env = "PURSER_API_ADDR", value_name = "ADDR:PORT")]
    pub api_addr: Option<SocketAddr>,
    /// Certificate of the API over TCP, PEM, with those between it and its authority. A renewed
    /// file is taken without a restart, as are those of the next two
    #[arg(long, env = "PURSER_API_TLS_CERT", value_name = "PATH")]
    pub api_tls_cert: Option<PathBuf>,
    /// Key of that certificate, PEM, mode 0600
    #[arg(long, env = "PURSER_API_TLS_KEY", value_name = "PATH")]
    pub api_tls_key: Option<PathBuf>,
    /// Authority of clients, PEM: over TLS, only who has a certificate of it is let in
    #[arg(long, env = "PURSER_API_TLS_CA", value_name = "PATH")]
    pub api_tls_ca: Option<PathBuf>,
    /// File with the key that unlocks the store: 64 hexadecimal digits, mode 0600, not in the data
    /// directory [root: /etc/purser/unlock.key; others: $XDG_CONFIG_HOME/purser/unlock.key]
    #[arg(long, env = "PURSER_UNLOCK_KEY_FILE", value_name = "PATH")]
    pub unlock_key_file: Option<PathBuf>,
    /// Where the key that unlocks the store comes from, in the order of preference: credential:NAME
    /// (of the service manager), file:PATH, passphrase:FD, prompt, exec:COMMAND; can be given several
    /// times [default: credential:purser-unlock-key and the file of --unlock-key-file]
    #[arg(long, env = "PURSER_UNLOCK", value_name = "PROVIDER", value_delimiter = ',')]
    pub unlock: Vec<String>,
    /// Access policy, TOML: which clients may do what; without one, all may do everything. It is read
    /// again when it changes
    #[arg(long, env = "PURSER_POLICY", value_name = "PATH")]
    pub policy: Option<PathBuf>,
    /// Days after which the keys of the store are rotated; 0 for never [default: 90]
    #[arg(long, env = "PURSER_KEY_ROTATION_DAYS", value_name = "DAYS")]
    pub key_rotation_days: Option<u64>,
    /// Records of the audit that are kept at most [default: 1000000]
    #[arg(long, env = "PURSER_AUDIT_KEEP", value_name = "RECORDS")]
    pub audit_keep: Option<u64>,
    /// Append the audit's records to this file as well, a line of JSON each
    #[arg(long, env = "PURSER_AUDIT_FILE", value_name = "PATH")]
    pub audit_file: Option<PathBuf>,
    /// Write the audit's records to the log as well, and so to the journal
    #[arg(long, env = "PURSER_AUDIT_LOG", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub audit_log: Option<bool>,
    /// Hours for which a node may renew its certificate after that has ended, and do nothing else; 0
    /// for none, 2160 at most [default: 168]
    #[arg(long, env = "PURSER_EXPIRED_GRACE_HOURS", value_name = "HOURS")]
    pub expired_grace_hours: Option<u64>,
    /// What is done where Swarm's API could do more: `extended`, or `strict` to refuse new values of
    /// secrets and configs under the same name, in Swarm's words [default: extended]
    #[arg(long, env = "PURSER_COMPAT", value_name = "HOW")]
    pub compat: Option<Compat>,
    /// Versions of a secret or config that nothing uses and that are kept all the same, the newest of them
    /// [default: 10]
    #[arg(long, env = "PURSER_KEEP_VERSIONS", value_name = "N")]
    pub keep_versions: Option<usize>,
    /// Days after which a version that nothing uses is dropped, even one of those; 0 for never [default: 0]
    #[arg(long, env = "PURSER_KEEP_VERSIONS_DAYS", value_name = "DAYS")]
    pub keep_versions_days: Option<u64>,
    /// A command that supplies values of secrets with the driver `exec`; may be given several times. What it
    /// prints is the value
    #[arg(long, env = "PURSER_SECRET_COMMAND", value_name = "NAME=COMMAND")]
    #[serde(default)]
    pub secret_command: Vec<String>,
    /// Configuration file, TOML, with these options as keys [root: /etc/purser/purser.toml if it
    /// exists]
    #[arg(long, env = "PURSER_CONFIG", value_name = "PATH")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// What is logged: error, warn, info, debug, or directives such as purser::dispatcher=debug
    #[arg(long, env = "PURSER_LOG", value_name = "LEVEL")]
    pub log: Option<String>,
    /// Worker threads [default: one for each core but one, which the database keeps busy]
    #[arg(long, env = "PURSER_THREADS", value_name = "N")]
    pub threads: Option<usize>,
}

/// Everything the program needs to know, each room's part of it.
#[derive(Debug, Clone)]
pub struct Config {
    /// The store.
    pub store: store::Config,
    /// The clients' door.
    pub http: http::Config,
    /// The engine's socket; `None` for no engine.
    pub engine: Option<PathBuf>,
    /// The file of the unlock key, where one is made.
    pub unlock_key_file: PathBuf,
    /// Where the unlock key comes from, in the words of `--unlock`.
    pub unlock: Vec<String>,
    /// The access policy's file.
    pub policy: Option<PathBuf>,
    /// What is done with keys and audit as time goes by.
    pub upkeep: Upkeep,
    /// What is done where Swarm's API could do more.
    pub compat: Compat,
    /// The commands that supply secrets, by name.
    pub secret_commands: BTreeMap<String, Vec<String>>,
    /// What is logged.
    pub log: String,
    /// Worker threads.
    pub threads: Option<usize>,
}

/// What is done with keys, audit and certificates as time goes by.
#[derive(Debug, Clone)]
pub struct Upkeep {
    /// Days until keys are rotated; `None` for never.
    pub key_life_days: Option<u64>,
    /// Records of the audit that are kept at most.
    pub audit_keep: u64,
    /// Where records are appended as well.
    pub audit_file: Option<PathBuf>,
    /// Records go to the log as well.
    pub audit_log: bool,
    /// How long a node may renew its certificate after that has ended.
    pub expired_grace: Duration,
    /// Versions that nothing uses and that are kept, the newest of them.
    pub keep_versions: usize,
    /// Days after which one of these is dropped as well; `None` for never.
    pub keep_versions_days: Option<u64>,
}

/// What is done where Swarm's API could do more than Swarm does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compat {
    /// More.
    #[default]
    Extended,
    /// What Swarm does.
    Strict,
}

/// Days until keys are rotated, when nothing is said.
const KEY_LIFE_DAYS: u64 = 90;
/// Hours for which an ended certificate can be renewed when nothing is said: a host that slept over a
/// long weekend finds its way back.
const EXPIRED_GRACE_HOURS: u64 = 168;
/// Records that are kept when nothing is said: about 400 MiB, and years of a cluster that people work
/// with.
const AUDIT_KEEP: u64 = 1_000_000;

/// The options do not make a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration file {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is no TOML, or has a key that is not known.
    #[error("configuration file {path}")]
    Parse {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// The engine's address.
    #[error("--engine takes unix://PATH, auto or none, not {0}")]
    Engine(String),
    /// One or two of the three files of TLS.
    #[error(
        "TLS of the API needs --api-tls-cert, --api-tls-key and --api-tls-ca together; {0} is missing"
    )]
    PartOfTls(&'static str),
    /// TLS for an address that is not given.
    #[error("TLS of the API needs an address: say where with --api-addr")]
    TlsWithoutAddr,
    /// What supplies secrets.
    #[error("--secret-command takes NAME=COMMAND, each name once, not {0}")]
    SecretCommand(String),
    /// There is no home to put things in.
    #[error("{0} is not set; say where with {1}")]
    NoHome(&'static str, &'static str),
}

impl Options {
    /// The configuration that these options, the file and the defaults make.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let is_root = nix::unistd::Uid::effective().is_root();
        let options = self.over_file(is_root)?;
        let data_dir = match options.data_dir {
            Some(dir) => dir,
            None => default_path(is_root, "/var/lib/purser", Place::Data, "purser", "--data-dir")?,
        };
        let socket = match options.socket {
            Some(path) => path,
            None => {
                let root = "/run/purser/purser.sock";
                default_path(is_root, root, Place::Runtime, "purser.sock", "--socket")?
            }
        };
        let unlock_key_file = match options.unlock_key_file {
            Some(path) => path,
            None => {
                let (root, own) = ("/etc/purser/unlock.key", "purser/unlock.key");
                default_path(is_root, root, Place::Config, own, "--unlock-key-file")?
            }
        };
        let api_tls = tls_files(options.api_tls_cert, options.api_tls_key, options.api_tls_ca)?;
        if api_tls.is_some() && options.api_addr.is_none() {
            return Err(ConfigError::TlsWithoutAddr);
        }
        Ok(Config {
            store: store::Config { data_dir },
            http: http::Config { socket, api_addr: options.api_addr, api_tls },
            engine: engine_socket(options.engine.as_deref().unwrap_or("auto"))?,
            unlock: match options.unlock.is_empty() {
                true => default_providers(&unlock_key_file),
                false => options.unlock,
            },
            unlock_key_file,
            policy: options.policy,
            compat: options.compat.unwrap_or_default(),
            secret_commands: secret_commands(&options.secret_command)?,
            upkeep: Upkeep {
                key_life_days: Some(options.key_rotation_days.unwrap_or(KEY_LIFE_DAYS))
                    .filter(|days| *days > 0),
                audit_keep: options.audit_keep.unwrap_or(AUDIT_KEEP).max(1),
                audit_file: options.audit_file,
                audit_log: options.audit_log.unwrap_or(false),
                expired_grace: Duration::from_secs(
                    3600 * options.expired_grace_hours.unwrap_or(EXPIRED_GRACE_HOURS).min(2160),
                ),
                keep_versions: options.keep_versions.unwrap_or(REVISIONS_KEPT),
                keep_versions_days: options.keep_versions_days.filter(|days| *days > 0),
            },
            log: options.log.unwrap_or_else(|| "info".to_owned()),
            threads: options.threads.filter(|threads| *threads > 0),
        })
    }

    /// These options, with those of the file where they say nothing.
    fn over_file(self, is_root: bool) -> Result<Options, ConfigError> {
        let path = match &self.config {
            Some(path) => path.clone(),
            None => {
                let path = PathBuf::from("/etc/purser/purser.toml");
                if !is_root || !path.exists() {
                    return Ok(self);
                }
                path
            }
        };
        let read = |source| ConfigError::Read { path: path.clone(), source };
        let text = std::fs::read_to_string(&path).map_err(read)?;
        let file: Options = toml::from_str(&text).map_err(|source| ConfigError::Parse {
            path: path.clone(),
            source: Box::new(source),
        })?;
        Ok(Options {
            data_dir: self.data_dir.or(file.data_dir),
            socket: self.socket.or(file.socket),
            engine: self.engine.or(file.engine),
            api_addr: self.api_addr.or(file.api_addr),
            api_tls_cert: self.api_tls_cert.or(file.api_tls_cert),
            api_tls_key: self.api_tls_key.or(file.api_tls_key),
            api_tls_ca: self.api_tls_ca.or(file.api_tls_ca),
            unlock_key_file: self.unlock_key_file.or(file.unlock_key_file),
            unlock: if self.unlock.is_empty() { file.unlock } else { self.unlock },
            policy: self.policy.or(file.policy),
            key_rotation_days: self.key_rotation_days.or(file.key_rotation_days),
            audit_keep: self.audit_keep.or(file.audit_keep),
            audit_file: self.audit_file.or(file.audit_file),
            audit_log: self.audit_log.or(file.audit_log),
            expired_grace_hours: self.expired_grace_hours.or(file.expired_grace_hours),
            compat: self.compat.or(file.compat),
            keep_versions: self.keep_versions.or(file.keep_versions),
            keep_versions_days: self.keep_versions_days.or(file.keep_versions_days),
            secret_command: match self.secret_command.is_empty() {
                true => file.secret_command,
                false => self.secret_command,
            },
            config: self.config,
            log: self.log.or(file.log),
            threads: self.threads.or(file.threads),
        })
    }
}

fn secret_commands(options: &[String]) -> Result<BTreeMap<String, Vec<String>>, ConfigError> {
    let read = |text: &String| {
        let (name, command) = text.split_once('=')?;
        let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        (!name.is_empty() && !words.is_empty()).then(|| (name.to_owned(), words))
    };
    let mut commands = BTreeMap::new();
    for text in options {
        let refused = || ConfigError::SecretCommand(text.clone());
        let (name, words) = read(text).ok_or_else(refused)?;
        if commands.insert(name, words).is_some() {
            return Err(refused());
        }
    }
    Ok(commands)
}

/// The credential that a service manager may give, and the file.
fn default_providers(unlock_key_file: &Path) -> Vec<String> {
    vec![CREDENTIAL.to_owned(), format!("file:{}", unlock_key_file.display())]
}

/// A directory of the XDG convention.
#[derive(Debug, Clone, Copy)]
enum Place {
    Data,
    Runtime,
    Config,
}

fn default_path(
    is_root: bool,
    root: &str,
    place: Place,
    own: &str,
    flag: &'static str,
) -> Result<PathBuf, ConfigError> {
    if is_root {
        return Ok(root.into());
    }
    let (variable, below_home) = match place {
        Place::Data => ("XDG_DATA_HOME", Some(".local/share")),
        Place::Runtime => ("XDG_RUNTIME_DIR", None),
        Place::Config => ("XDG_CONFIG_HOME", Some(".config")),
    };
    if let Some(dir) = std::env::var_os(variable).filter(|dir| Path::new(dir).is_absolute()) {
        return Ok(Path::new(&dir).join(own));
    }
    match (below_home, std::env::var_os("HOME")) {
        (Some(below), Some(home)) => Ok(Path::new(&home).join(below).join(own)),
        _ => Err(ConfigError::NoHome(variable, flag)),
    }
}

/// All three files of TLS, or none of them.
fn tls_files(
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    ca: Option<PathBuf>,
) -> Result<Option<http::TlsFiles>, ConfigError> {
    match (cert, key, ca) {
        (None, None, None) => Ok(None),
        (Some(cert), Some(key), Some(ca)) => Ok(Some(http::TlsFiles { cert, key, ca })),
        (None, ..) => Err(ConfigError::PartOfTls("--api-tls-cert")),
        (_, None, _) => Err(ConfigError::PartOfTls("--api-tls-key")),
        (.., None) => Err(ConfigError::PartOfTls("--api-tls-ca")),
    }
}

fn engine_socket(address: &str) -> Result<Option<PathBuf>, ConfigError> {
    match address {
        "none" => Ok(None),
        "auto" => {
            let path = PathBuf::from(ENGINE_SOCKET);
            Ok(path.exists().then_some(path))
        }
        address => match address.strip_prefix("unix://").filter(|path| path.starts_with('/')) {
            Some(path) => Ok(Some(path.into())),
            None => Err(ConfigError::Engine(address.to_owned())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_a_unix_socket_or_none() {
        assert_eq!(engine_socket("none").ok(), Some(None));
        assert_eq!(engine_socket("unix:///x").ok(), Some(Some("/x".into())));
        for bad in ["unix://x", "tcp://127.0.0.1:2375", "/x", ""] {
            assert!(engine_socket(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn commands_have_a_name_and_words() {
        let read = |text: &str| secret_commands(&[text.to_owned()]).ok();
        let words = vec!["/bin/vault-get".to_owned(), "a=b".to_owned()];
        assert_eq!(read("vault=/bin/vault-get  a=b"), Some([("vault".into(), words)].into()));
        for bad in ["", "vault", "vault=", "vault= ", "=/bin/true"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_flag_is_stronger_than_the_file_and_unknown_keys_are_refused() {
        let file: Options = toml::from_str("engine = 'none'\ndata-dir = '/a'").expect("options");
        assert_eq!(file.data_dir, Some("/a".into()));
        assert!(toml::from_str::<Options>("enigne = 'none'").is_err());
    }
}
