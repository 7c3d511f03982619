//! The two managers: starting them on the same disk, initialising their swarms, stopping them.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::client::{Client, Request};

/// The real manager's node, a name which no test uses.
const NODE: &str = "bench-real";
const PURSER_ADDRESS: &str = "127.0.0.1:23770";
const START_TIME_MAX: Duration = Duration::from_secs(20);
/// A manager which has just been initialised still sets up its networks.
const SETTLE_TIME: Duration = Duration::from_secs(2);

pub struct Server {
    pub name: &'static str,
    pub socket: PathBuf,
    pid: Option<u32>,
    /// Stops what was started, also when a measurement fails.
    _running: Option<Running>,
}

impl Server {
    pub fn start_real() -> Result<Self> {
        engine("down")?; // what an interrupted run has left
        let running = Running::Engine;
        let address = engine("up")?;
        let home = scratch().join(NODE);
        let socket = home.join("docker.sock");
        init_swarm(&socket, &format!("{}:2377", address.trim()))?;
        let pid = fs::read_to_string(home.join("docker.pid"))?.trim().parse()?;
        Ok(Server { name: "real manager", socket, pid: Some(pid), _running: Some(running) })
    }

    pub fn start_purser() -> Result<Self> {
        let home = scratch().join("purser");
        if home.exists() {
            fs::remove_dir_all(&home)?;
        }
        fs::create_dir_all(&home)?;
        let key = home.join("unlock-key");
        write_unlock_key(&key)?;
        let socket = home.join("purser.sock");
        let log = File::create(home.join("log"))?;
        // Through setpriv, so that it ends with this program however that ends.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_purser")])
            .args(["serve", "--engine", "none", "--data-dir"])
            .arg(home.join("data"))
            .arg("--socket")
            .arg(&socket)
            .arg("--unlock-key-file")
            .arg(&key)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting purser")?;
        let pid = child.id();
        let mut running = Running::Purser { child, home };
        running.wait_until_ready(&socket)?;
        init_swarm(&socket, PURSER_ADDRESS)?;
        Ok(Server { name: "purser", socket, pid: Some(pid), _running: Some(running) })
    }

    /// A manager which somebody else runs, and whose swarm is initialised.
    pub fn running(socket: PathBuf, pid: Option<u32>) -> Self {
        Server { name: "server", socket, pid, _running: None }
    }

    pub fn resident_bytes(&self) -> Option<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib * 1024.0)
    }
}

enum Running {
    Engine,
    Purser { child: Child, home: PathBuf },
}

impl Running {
    fn wait_until_ready(&mut self, socket: &Path) -> Result<()> {
        let Running::Purser { child, home } = self else {
            return Ok(());
        };
        let ping = Request::new("GET", "/_ping", "", "", 200);
        let deadline = Instant::now() + START_TIME_MAX;
        while Client::connect(socket, 1).and_then(|mut client| client.fetch(&ping)).is_err() {
            let log = || fs::read_to_string(home.join("log")).unwrap_or_default();
            if let Some(status) = child.try_wait()? {
                bail!("purser has ended ({status}):\n{}", log());
            }
            ensure!(Instant::now() < deadline, "purser does not answer:\n{}", log());
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing is left to be done about a failure here but to say so.
        let stopped = match self {
            Running::Engine => engine("down").map(|_| ()),
            Running::Purser { child, home } => stop(child, home),
        };
        if let Err(error) = stopped {
            eprintln!("load: stopping a server: {error:#}");
        }
    }
}

fn stop(child: &mut Child, home: &Path) -> Result<()> {
    child.kill()?;
    child.wait()?;
    Ok(fs::remove_dir_all(home)?)
}

/// Where both keep their data: the project's own disk, never a tmpfs such as /tmp may be.
fn scratch() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("load")
}

/// Runs `tools/engine` for the real manager's node and returns what it prints.
fn engine(command: &str) -> Result<String> {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/engine");
    let output = Command::new(&tool)
        .args([command, NODE])
        .arg(scratch())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("running {}", tool.display()))?;
    ensure!(output.status.success(), "tools/engine {command} has failed");
    Ok(String::from_utf8(output.stdout)?)
}

fn init_swarm(socket: &Path, address: &str) -> Result<()> {
    let body = format!(r#"{{"ListenAddr":"{address}","AdvertiseAddr":"{address}"}}"#);
    let init = Request::new("POST", "/v1.41/swarm/init", &body, "", 200);
    Client::connect(socket, 1)?.fetch(&init).context("swarm init")?;
    thread::sleep(SETTLE_TIME);
    Ok(())
}

fn write_unlock_key(path: &Path) -> Result<()> {
    let mut key = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(writeln!(file, "{digits}")?)
}
