//! A purser of a test's own: the real binary, in directories of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;

use super::eventually;
use super::http::Client;

/// A running purser. Killed, and its directory removed, when dropped.
pub struct Purser {
    dir: PathBuf,
    args: Vec<String>,
    /// The network namespace it runs in, if not that of the tests.
    netns: Option<PathBuf>,
    child: Option<Child>,
    starts: u32,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A directory that no other test has, short enough for a socket's path.
pub fn scratch_dir(name: &str) -> PathBuf {
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = Path::new("/tmp").join(format!("purser-{}-{number}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory in /tmp");
    dir
}

impl Purser {
    /// Starts `purser serve` without an engine, outside of a swarm.
    pub fn serve(name: &str) -> Purser {
        Purser::with_args(name, &["--engine", "none"])
    }

    /// Starts `purser serve` without an engine, with a swarm whose door is on the loopback.
    pub fn swarm(name: &str) -> Purser {
        let purser = Purser::serve(name);
        purser.init("127.0.0.1:0");
        purser
    }

    /// Starts `purser serve` with these options besides those for its directories.
    pub fn with_args(name: &str, args: &[&str]) -> Purser {
        Purser::at(None, name, args)
    }

    /// The same in a network namespace: on another host, as far as the network is concerned.
    pub fn in_netns(netns: &Path, name: &str, args: &[&str]) -> Purser {
        Purser::at(Some(netns.to_owned()), name, args)
    }

    fn at(netns: Option<PathBuf>, name: &str, args: &[&str]) -> Purser {
        let dir = scratch_dir(name);
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let mut purser = Purser { dir, args, netns, child: None, starts: 0 };
        let made = purser.command("key").arg("make").args(purser.dirs()).output();
        let made = made.expect("the binary runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        purser.start();
        purser
    }

    fn command(&self, name: &str) -> Command {
        let binary = env!("CARGO_BIN_EXE_purser");
        let mut command = match &self.netns {
            None => Command::new(binary),
            Some(netns) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", netns.display())).arg(binary);
                command
            }
        };
        command.arg(name).env_clear();
        command
    }

    /// The options that name this purser's directories.
    pub fn dirs(&self) -> Vec<String> {
        let path = |name: &str| self.dir.join(name).display().to_string();
        let options = [
            ("--data-dir", path("data")),
            ("--socket", path("p.sock")),
            ("--unlock-key-file", path("unlock.key")),
        ];
        options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }

    /// Starts it again, after it was killed or stopped, and waits until it answers.
    pub fn start(&mut self) {
        self.spawn();
        self.until_answers("/readyz");
    }

    /// Starts it again and waits until it answers, ready or not: it may be locked.
    pub fn start_locked(&mut self) {
        self.spawn();
        self.until_answers("/livez");
    }

    fn until_answers(&mut self, path: &str) {
        let client = self.client();
        let child = self.child.as_mut().expect("it was just started");
        let log = self.dir.join("log");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        eventually("purser answers", Duration::from_secs(30), || {
            if let Ok(Some(status)) = child.try_wait() {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                panic!("purser ended with {status}: {log}");
            }
            let ready = client.raw(request.as_bytes());
            ready.ok().filter(|answer| answer.status == 200)
        });
    }

    /// Starts it, which it refuses; answers what it says.
    pub fn fails_to_start(&mut self) -> String {
        let said = self.log().len();
        self.spawn();
        let mut child = self.child.take().expect("it was just started");
        let status = eventually("purser ends", Duration::from_secs(20), || {
            child.try_wait().expect("a child of ours")
        });
        assert!(!status.success(), "it starts");
        self.log()[said..].to_owned()
    }

    /// Options of its next start, besides those for its directories.
    pub fn set_args(&mut self, args: &[&str]) {
        self.args = args.iter().map(|arg| (*arg).to_owned()).collect();
    }

    /// Starts it without waiting.
    pub fn spawn(&mut self) {
        self.starts += 1;
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join("log"))
            .expect("a log file");
        let mut command = self.command("serve");
        command.args(self.dirs()).args(&self.args).env("PURSER_LOG", "info,purser=debug");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("the binary runs"));
    }

    /// Makes a swarm whose door listens on this address. Port 0 is replaced by a free one.
    pub fn init(&self, addr: &str) -> String {
        let addr = match addr.strip_suffix(":0") {
            Some(host) => {
                let probe = std::net::TcpListener::bind((host, 0)).expect("a free port");
                probe.local_addr().expect("its address").to_string()
            }
            None => addr.to_owned(),
        };
        let answer =
            self.client().post("/swarm/init", &json!({"ListenAddr": addr, "AdvertiseAddr": addr}));
        assert_eq!(answer.status, 200, "{}", answer.text());
        addr
    }

    pub fn client(&self) -> Client {
        Client::new(&self.socket())
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("p.sock")
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Everything it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// True while it answers at all.
    pub fn answers(&self) -> bool {
        let ping = self.client().raw(b"GET /_ping HTTP/1.0\r\nHost: x\r\n\r\n");
        ping.is_ok_and(|answer| answer.status == 200)
    }

    /// Kills it at once, with no chance to tidy up.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let asked = Command::new("kill").arg(child.id().to_string()).status();
        assert!(asked.is_ok_and(|status| status.success()));
        let status = eventually("purser stops", Duration::from_secs(20), || {
            child.try_wait().expect("a child of ours")
        });
        assert!(status.success(), "{status}: {}", self.log());
    }
}

impl Drop for Purser {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(8_000);
            let from = log.char_indices().map(|(at, _)| at).find(|at| *at >= from).unwrap_or(0);
            eprintln!("--- end of purser's log\n{}", &log[from..]);
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
