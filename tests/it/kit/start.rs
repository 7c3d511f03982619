//! Starts that may well be refused.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::eventually;

/// What a purser is started with.
#[derive(Debug, Clone)]
pub struct Places {
    pub data: PathBuf,
    pub socket: PathBuf,
    pub key: PathBuf,
}

/// A purser that was started: it serves, or it has ended and said why. Killed when dropped.
pub struct Started {
    child: Child,
    log: PathBuf,
    /// Exit code, if it has ended.
    pub code: Option<i32>,
}

impl Places {
    /// Usual places below a directory.
    pub fn below(dir: &Path) -> Places {
        Places { data: dir.join("data"), socket: dir.join("p.sock"), key: dir.join("unlock.key") }
    }

    /// Makes the unlock key.
    #[track_caller]
    pub fn make_key(&self) {
        let made = self.command("key").arg("make").args(self.options()).output();
        assert!(made.as_ref().is_ok_and(|made| made.status.success()), "{made:?}");
    }

    /// Starts `purser serve` without an engine, until it is ready or has ended.
    #[track_caller]
    pub fn start(&self) -> Started {
        let log = self.socket.with_extension("log");
        let file = std::fs::File::create(&log).expect("a log file");
        let mut command = self.command("serve");
        command.args(self.options()).args(["--engine", "none"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let child = command.spawn().expect("the binary runs");
        let mut started = Started { child, log, code: None };
        eventually("purser is ready, or has ended", Duration::from_secs(60), || {
            if let Ok(Some(status)) = started.child.try_wait() {
                started.code = Some(status.code().unwrap_or(-1));
                return Some(());
            }
            started.text().contains("\"message\":\"ready\"").then_some(())
        });
        started
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_purser"));
        command.arg(name).env_clear();
        command
    }

    fn options(&self) -> [&std::ffi::OsStr; 6] {
        let name = std::ffi::OsStr::new;
        [
            name("--data-dir"),
            self.data.as_os_str(),
            name("--socket"),
            self.socket.as_os_str(),
            name("--unlock-key-file"),
            self.key.as_os_str(),
        ]
    }
}

impl Started {
    /// What it has said so far.
    pub fn text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The reason for which it ended by itself.
    #[track_caller]
    pub fn refusal(&self) -> String {
        assert_eq!(self.code, Some(1), "it should not have started: {}", self.text());
        self.text()
    }

    /// Checks that it serves.
    #[track_caller]
    pub fn check_serves(&self) {
        assert_eq!(self.code, None, "it should have started: {}", self.text());
    }

    /// Kills it at once.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.end();
    }
}
