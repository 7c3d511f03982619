//! Which daemon the docker command talks to: by its flags, its environment, and the contexts of its
//! configuration, in docker's order.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::endpoint::{Endpoint, TlsFiles};
use crate::seal::hex;

/// The name of the context that is none.
const DEFAULT: &str = "default";

/// The global flags of the docker command, which it hands on to its plugins.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Flags {
    /// Location of client config files
    #[arg(long, global = true, value_name = "DIR")]
    config: Option<PathBuf>,
    /// Name of the context to use to connect to the daemon
    #[arg(short, long, global = true)]
    context: Option<String>,
    /// Daemon socket to connect to
    #[arg(short = 'H', long, global = true)]
    host: Option<String>,
    /// Use TLS; the daemon is verified in any case
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tls: Option<bool>,
    /// Enable debug mode; of no use here
    #[arg(short = 'D', long, hide = true)]
    debug: bool,
    /// Set the logging level; of no use here
    #[arg(short = 'l', long, hide = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Use TLS and verify the remote
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tlsverify: Option<bool>,
    /// Trust certs signed only by this CA
    #[arg(long, global = true, value_name = "FILE")]
    tlscacert: Option<PathBuf>,
    /// Path to TLS certificate file
    #[arg(long, global = true, value_name = "FILE")]
    tlscert: Option<PathBuf>,
    /// Path to TLS key file
    #[arg(long, global = true, value_name = "FILE")]
    tlskey: Option<PathBuf>,
}

/// What is asked of the environment, so that a test can answer.
type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Flags {
    /// The daemon that docker would talk to.
    ///
    /// # Errors
    /// Both a host and a context are given, there is no such context, or it cannot be reached from here.
    pub(super) fn endpoint(&self) -> anyhow::Result<Endpoint> {
        let chosen = self.chosen()?;
        chosen.map_or_else(|| Endpoint::parse("unix:///var/run/docker.sock", None), Ok)
    }

    /// The same, if flags, the environment or a context choose one; `None` for the one that docker talks to
    /// when nothing is said.
    ///
    /// # Errors
    /// As [`Flags::endpoint`].
    pub(super) fn chosen(&self) -> anyhow::Result<Option<Endpoint>> {
        self.resolve(&|name| std::env::var(name).ok().filter(|text| !text.is_empty()))
    }

    fn resolve(&self, env: Env<'_>) -> anyhow::Result<Option<Endpoint>> {
        if self.host.is_some() && self.context.is_some() {
            bail!("conflicting options: cannot specify both --host and --context");
        }
        let config = self.config.clone().or_else(|| env("DOCKER_CONFIG").map(PathBuf::from));
        let config =
            config.unwrap_or_else(|| Path::new(&env("HOME").unwrap_or_default()).join(".docker"));
        let host = self.host.clone().or_else(|| match self.context {
            Some(_) => None,
            None => env("DOCKER_HOST"),
        });
        let context = || {
            let named = self.context.clone().or_else(|| env("DOCKER_CONTEXT"));
            named.map_or_else(|| current_context(&config), |name| Ok(Some(name)))
        };
        let context = if host.is_some() { None } else { context()? };
        match context.filter(|name| name != DEFAULT) {
            Some(name) => of_context(&config, &name).map(Some),
            None => {
                let host = host.or_else(|| env("DOCKER_HOST"));
                let tls = self.tls_files(&config, env);
                host.map(|host| Endpoint::parse(&host, tls.as_ref())).transpose()
            }
        }
    }

    /// The files of TLS, if that is wished for.
    fn tls_files(&self, config: &Path, env: Env<'_>) -> Option<TlsFiles> {
        let verify = self.tlsverify.unwrap_or_else(|| env("DOCKER_TLS_VERIFY").is_some());
        if !verify && !self.tls.unwrap_or_else(|| env("DOCKER_TLS").is_some()) {
            return None;
        }
        let dir = env("DOCKER_CERT_PATH").map_or_else(|| config.to_owned(), PathBuf::from);
        let file =
            |flag: &Option<PathBuf>, name: &str| flag.clone().unwrap_or_else(|| dir.join(name));
        Some(TlsFiles {
            ca: file(&self.tlscacert, "ca.pem"),
            own: Some((file(&self.tlscert, "cert.pem"), file(&self.tlskey, "key.pem"))),
        })
    }
}

/// The context that `docker context use` chose.
fn current_context(config: &Path) -> anyhow::Result<Option<String>> {
    let path = config.join("config.json");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let config: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    Ok(config["currentContext"].as_str().filter(|name| !name.is_empty()).map(str::to_owned))
}

/// The daemon of a context, from the files that docker keeps of it.
fn of_context(config: &Path, name: &str) -> anyhow::Result<Endpoint> {
    let id = hex::text(&Sha256::digest(name.as_bytes()));
    let path = config.join("contexts/meta").join(&id).join("meta.json");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("context {name:?}: {}", path.display()))?;
    let meta: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let endpoint = &meta["Endpoints"]["docker"];
    let host = endpoint["Host"].as_str();
    let host = host.with_context(|| format!("context {name:?} has no docker endpoint"))?;
    if endpoint["SkipTLSVerify"] == true {
        bail!("context {name:?} does not verify its daemon, and purser sends values to none such");
    }
    let dir = config.join("contexts/tls").join(&id).join("docker");
    let own = (dir.join("cert.pem"), dir.join("key.pem"));
    let own = Some(own).filter(|(cert, _)| cert.exists());
    let tls = dir.is_dir().then(|| TlsFiles { ca: dir.join("ca.pem"), own });
    Endpoint::parse(host, tls.as_ref()).with_context(|| format!("context {name:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whom docker would talk to, with these flags, this environment, and a context `there` that is in use or
    /// not.
    fn resolved(flags: Flags, env: &[(&str, &str)], is_in_use: bool) -> Result<String, String> {
        let dir = std::env::temp_dir().join(format!("purser-context-{}", std::process::id()));
        let id = hex::text(&Sha256::digest(b"there"));
        let meta = dir.join("contexts/meta").join(id);
        std::fs::create_dir_all(&meta).expect("a directory");
        let text = r#"{"Name":"there","Endpoints":{"docker":{"Host":"unix:///there.sock"}}}"#;
        std::fs::write(meta.join("meta.json"), text).expect("a file");
        let used = if is_in_use { "there" } else { "" };
        let config = format!(r#"{{"auths":{{}},"currentContext":"{used}"}}"#);
        std::fs::write(dir.join("config.json"), config).expect("a file");
        let flags = Flags { config: Some(dir.clone()), ..flags };
        let env = |name: &str| {
            let found = env.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let endpoint = flags.resolve(&env).map(|endpoint| match endpoint {
            Some(endpoint) => endpoint.to_string(),
            None => "/var/run/docker.sock".to_owned(),
        });
        std::fs::remove_dir_all(dir).expect("it was there");
        endpoint.map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn the_daemon_is_the_one_that_docker_would_talk_to() {
        let there = || Some("there".to_owned());
        let own = || Some("unix:///own.sock".to_owned());
        let plain = || Flags::default();
        let cases = [
            (plain(), &[][..], false, "/var/run/docker.sock"),
            (plain(), &[], true, "/there.sock"),
            (plain(), &[("DOCKER_HOST", "unix:///env.sock")], true, "/env.sock"),
            (plain(), &[("DOCKER_CONTEXT", "there")], false, "/there.sock"),
            (plain(), &[("DOCKER_CONTEXT", "default")], true, "/var/run/docker.sock"),
            (
                Flags { context: there(), ..plain() },
                &[("DOCKER_HOST", "unix:///x")],
                false,
                "/there.sock",
            ),
            (Flags { host: own(), ..plain() }, &[("DOCKER_HOST", "unix:///x")], true, "/own.sock"),
        ];
        for (flags, env, is_in_use, expected) in cases {
            let told = format!("{flags:?} {env:?} {is_in_use}");
            assert_eq!(resolved(flags, env, is_in_use).as_deref(), Ok(expected), "{told}");
        }
        let both = Flags { host: own(), context: there(), ..plain() };
        assert!(resolved(both, &[], false).is_err_and(|error| error.contains("conflicting")));
        let nowhere = Flags { context: Some("nowhere".into()), ..plain() };
        assert!(resolved(nowhere, &[], false).is_err_and(|error| error.contains("nowhere")));
    }
}
