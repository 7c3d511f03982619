//! `purser up`: the daemon, a swarm, and the engine of this host, with one command.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::json;

use super::serve::{block_on, prepare, until_stopped, with_advice};
use crate::app::{App, SystemEntropy};
use crate::config::{Config, Options};
use crate::seal::unlock::{Chain, Salt, UnlockError, UnlockKey};

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
    let (config, chain) = prepare(args.options)?;
    make_first_key(&config, &chain)?;
    block_on(&config, async {
        let app = App::start(&config, chain).await.map_err(with_advice)?;
        let view = app.manager().view();
        if view.cluster().is_none() && !view.is_locked() {
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

/// Makes the unlock key on the first start of a store for which no provider has one.
fn make_first_key(config: &Config, chain: &Chain) -> anyhow::Result<()> {
    let has_store = config.store.data_dir.join("purser.db").exists();
    let is_file = format!("file:{}", config.unlock_key_file.display());
    if has_store || !config.unlock.contains(&is_file) {
        return Ok(());
    }
    match chain.first(&Salt([0; 16])) {
        Err(UnlockError::None(_)) => {}
        found => return found.map(|_| ()).map_err(anyhow::Error::new),
    }
    let path = &config.unlock_key_file;
    UnlockKey::make(path, &config.store.data_dir, &SystemEntropy)?;
    eprintln!(
        "purser: made the unlock key {}: it protects copies of {} (backups, disks, images), and not \
         against who can read both; keep a copy of it elsewhere, for without it the store is lost",
        path.display(),
        config.store.data_dir.display()
    );
    Ok(())
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
