//! `purser up`: the daemon, a swarm, and the engine of this host, with one command.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::json;

use super::serve::{block_on, prepare, until_stopped};
use crate::app::{self, App, SystemEntropy};
use crate::config::{Config, Options};
use crate::seal::unlock::{UnlockError, UnlockKey};

/// Options of `up`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    options: Options,
    /// Where nodes are listened for, when a swarm is made
    #[arg(
        long,
        env = "PURSER_LISTEN_ADDR",
        value_name = "ADDR[:PORT]",
        default_value = "0.0.0.0:2377"
    )]
    listen_addr: String,
    /// What nodes are told, when a swarm is made [default: the address of this host]
    #[arg(long, env = "PURSER_ADVERTISE_ADDR", value_name = "ADDR[:PORT]")]
    advertise_addr: Option<String>,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let config = prepare(args.options)?;
    let unlock = read_or_make_key(&config)?;
    block_on(&config, async {
        let app = App::start(&config, &unlock).await?;
        if app.manager().view().cluster().is_none() {
            let wish = json!({
                "ListenAddr": args.listen_addr,
                "AdvertiseAddr": args.advertise_addr.unwrap_or_default(),
            });
            // The same request that `docker swarm init` makes, through the same door.
            let socket = config.http.socket.clone();
            let made = tokio::task::spawn_blocking(move || {
                post(&socket, "/swarm/init", &wish.to_string())
            });
            if let Err(error) = made.await.context("the swarm was not made").flatten() {
                app.stop().await;
                return Err(error);
            }
        }
        println!("export DOCKER_HOST=unix://{}", config.http.socket.display());
        until_stopped(&config, app).await
    })
}

/// Reads the unlock key, or makes it on the first start of a store.
fn read_or_make_key(config: &Config) -> anyhow::Result<UnlockKey> {
    let has_store = config.store.data_dir.join("purser.db").exists();
    match app::read_unlock_key(config) {
        Err(error) if !has_store && is_missing(&error) => {}
        read => return read,
    }
    let path = &config.unlock_key_file;
    let key = UnlockKey::make(path, &config.store.data_dir, &SystemEntropy)?;
    eprintln!(
        "purser: made the unlock key {}: it protects copies of {} (backups, disks, images), and not \
         against who can read both; keep a copy of it elsewhere, for without it the store is lost",
        path.display(),
        config.store.data_dir.display()
    );
    Ok(key)
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<UnlockError>()
            .is_some_and(|error| matches!(error, UnlockError::Missing(_)))
    })
}

/// How long the swarm may take to be made, the engine's joining included.
const INIT_TIME: Duration = Duration::from_secs(60);

/// Sends a request to our own socket.
pub(super) fn post(socket: &Path, path: &str, body: &str) -> anyhow::Result<String> {
    request(
        socket,
        INIT_TIME,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: purser\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    )
}

/// Sends the text of a request and returns the body of the answer.
pub(super) fn request(socket: &Path, time: Duration, text: &str) -> anyhow::Result<String> {
    use std::io::Read as _;
    let mut stream = UnixStream::connect(socket)
        .with_context(|| format!("nobody answers on {}", socket.display()))?;
    stream.set_read_timeout(Some(time))?;
    stream.write_all(text.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("no answer")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("not an HTTP answer")?;
    let status = head.split(' ').nth(1).unwrap_or("");
    if status != "200" {
        let message = serde_json::from_str::<serde_json::Value>(body).ok();
        let message = message.as_ref().and_then(|value| value.get("message")?.as_str());
        bail!("{}", message.unwrap_or(body.trim()));
    }
    Ok(body.to_owned())
}
