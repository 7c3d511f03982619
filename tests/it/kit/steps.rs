//! Crashes at every step of something durable: a process is killed as it is about to make the n-th
//! system call that changes a file, for n from 1 until it gets through.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Every system call that changes what a restart finds.
const CALLS: &str = "pwrite64,write,fsync,fdatasync,ftruncate,rename,renameat,renameat2,link,linkat,\
     unlink,unlinkat,mkdir,mkdirat,rmdir";

fn options(calls: &str, step: usize) -> [String; 2] {
    [format!("trace={calls}"), format!("inject={calls}:signal=KILL:when={step}")]
}

/// The calls that a server makes for its store alone: it writes to sockets too.
pub const STORE_CALLS: &str = "pwrite64,fsync,fdatasync,ftruncate,unlink,unlinkat";

/// A command that is killed before its n-th step.
pub fn command(binary: &str, step: usize) -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null"]);
    for option in options(CALLS, step) {
        command.arg("-e").arg(option);
    }
    command.arg(binary);
    command
}

/// Kills a process that runs before its n-th step from now on, counted for each of its threads.
/// Returns once it watches.
pub fn kill_at(pid: u32, step: usize) -> Watch {
    let mut command = Command::new("strace");
    command.args(["-f", "-o", "/dev/null", "-p", &pid.to_string()]);
    for option in options(STORE_CALLS, step) {
        command.arg("-e").arg(option);
    }
    let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("strace is installed");
    let mut said = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("attached") {
        line.clear();
        let read = said.read_line(&mut line).expect("text");
        assert!(read > 0, "strace watches nothing");
    }
    Watch(child)
}

/// Watches until it is dropped.
pub struct Watch(Child);

impl Drop for Watch {
    fn drop(&mut self) {
        // Not killed, which would take the watched process along in the middle of a call.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        for _ in 0..200 {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // It waits for a process that was killed and that nobody has waited for yet.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
