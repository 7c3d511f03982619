//! What the operating system lets others see of the process.

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::time::Duration;

use crate::kit::eventually;
use crate::kit::purser::Purser;
use crate::kit::scratch::Scratch;

fn limit<'t>(limits: &'t str, name: &str) -> Vec<&'t str> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel says");
    line.split_whitespace().collect()
}

#[test]
fn no_core_is_written_and_memory_is_locked() {
    let purser = Purser::serve("proc");
    let proc = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", purser.pid()));
    let limits = proc("limits").expect("it runs");
    assert_eq!(limit(&limits, "Max core file size")[..2], ["0", "0"]);
    let status = proc("status").expect("it runs");
    let locked = limit(&status, "VmLck:")[0].parse::<u64>().expect("a number");
    assert!(locked > 1024, "locked: {locked} KiB of {:?}", limit(&status, "VmRSS:"));
}

#[test]
fn other_processes_of_the_same_user_cannot_look_in() {
    // As a user without rights: root may look into anything.
    let dir = Scratch::new("user");
    let binary = dir.join("purser");
    std::fs::copy(env!("CARGO_BIN_EXE_purser"), &binary).expect("a copy");
    std::os::unix::fs::chown(&*dir, Some(65534), Some(65534)).expect("this needs root");
    let path = |name: &str| dir.join(name).display().to_string();
    let purser = |command: &[&str]| {
        let mut purser = Command::new("setpriv");
        purser.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary);
        purser.args(command).args(["--data-dir", &path("data"), "--socket", &path("s")]);
        purser.args(["--unlock-key-file", &path("key")]).env_clear();
        purser
    };
    let made = purser(&["key", "make"]).output().expect("setpriv is there");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut child = purser(&["serve", "--engine", "none"])
        .stderr(std::fs::File::create(dir.join("log")).expect("a file"))
        .spawn()
        .expect("setpriv is there");
    let socket = dir.join("s");
    eventually("it serves", Duration::from_secs(20), || socket.exists().then_some(()));
    let owner = |name: &str| {
        std::fs::metadata(format!("/proc/{}/{name}", child.id())).expect("it runs").uid()
    };
    let owners = ["mem", "environ", "maps"].map(owner);
    child.kill().expect("it runs");
    child.wait().expect("it was killed");
    // The kernel gives these files to root when a process is not to be looked into.
    assert_eq!(owners, [0; 3]);
    let log = std::fs::read_to_string(dir.join("log")).expect("its log");
    assert!(!log.contains("core file"), "{log}");
}
