//! `purser doctor`: what of the promises in THREATS.md this host fulfils.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::client;
use super::endpoint::Endpoint;
use crate::config::{Config, Options};

/// Options of `doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    options: Box<Options>,
}

/// How long purser may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// What was found, from fine to broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Grade {
    Fine,
    /// It cannot be told from here.
    Unknown,
    /// A promise holds less far than it could.
    Weak,
    /// A promise does not hold.
    Broken,
}

/// One line of the report.
struct Finding(Grade, String);

fn fine(text: impl Into<String>) -> Finding {
    Finding(Grade::Fine, text.into())
}

fn weak(text: impl Into<String>) -> Finding {
    Finding(Grade::Weak, text.into())
}

fn broken(text: impl Into<String>) -> Finding {
    Finding(Grade::Broken, text.into())
}

fn unknown(text: impl Into<String>) -> Finding {
    Finding(Grade::Unknown, text.into())
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = args.options.resolve()?;
    let mut findings = vec![
        swap(&std::fs::read_to_string("/proc/swaps").unwrap_or_default()),
        mode("the data directory", &config.store.data_dir, 0o700),
        socket_mode(&config.http.socket),
        key(&config),
        api(&config),
        policy(&config),
        clock(),
    ];
    findings.extend(running(&config));
    for Finding(grade, text) in &findings {
        let word = match grade {
            Grade::Fine => "fine",
            Grade::Unknown => "unknown",
            Grade::Weak => "weak",
            Grade::Broken => "BROKEN",
        };
        println!("{word:<9}{text}");
    }
    let worst = findings.iter().map(|Finding(grade, _)| *grade).max();
    Ok(if worst == Some(Grade::Broken) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The table of swaps has a line for its head, and one for each.
fn swap(swaps: &str) -> Finding {
    match swaps.lines().count() {
        0 => unknown("swap: /proc/swaps cannot be read"),
        1 => fine(
            "swap is off: secrets in memory, purser's and those of containers here, stay there",
        ),
        _ => weak(
            "swap is on: purser locks its memory where it may, but secrets of containers lie in a \
             tmpfs that can be swapped out; encrypt the swap or turn it off",
        ),
    }
}

fn mode(what: &str, path: &Path, wanted: u32) -> Finding {
    let shown = path.display();
    match std::fs::metadata(path).map(|metadata| metadata.mode() & 0o777) {
        Err(error) => unknown(format!("{what} {shown}: {error}")),
        Ok(mode) if mode & !wanted == 0 => fine(format!("{what} {shown} is for its owner only")),
        Ok(mode) => {
            broken(format!("{what} {shown} has mode {mode:04o} and should have {wanted:04o}"))
        }
    }
}

fn socket_mode(path: &Path) -> Finding {
    let shown = path.display();
    match std::fs::metadata(path).map(|metadata| (metadata.mode() & 0o777, metadata.gid())) {
        Err(error) => unknown(format!("the socket {shown}: {error}")),
        Ok((mode, gid)) if mode & 0o007 == 0 => fine(format!(
            "the socket {shown} is for its owner and group {gid}: all of them command the swarm"
        )),
        Ok((mode, _)) => {
            broken(format!("the socket {shown} has mode {mode:04o}: it is for anybody"))
        }
    }
}

/// A key beside the data protects no copy that holds both.
fn key(config: &Config) -> Finding {
    let file = format!("file:{}", config.unlock_key_file.display());
    let providers = config.unlock.join(", ");
    if !config.unlock.contains(&file) || !config.unlock_key_file.exists() {
        return fine(format!("the unlock key comes from {providers}"));
    }
    let device = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.dev()).ok();
    let mode = mode("the unlock key", &config.unlock_key_file, 0o600);
    if mode.0 == Grade::Broken {
        return mode;
    }
    match device(&config.unlock_key_file) == device(&config.store.data_dir) {
        true => weak(format!(
            "the unlock key {} lies on the same file system as the data: an image of the disk holds \
             both",
            config.unlock_key_file.display()
        )),
        false => fine("the unlock key lies on another file system than the data"),
    }
}

fn api(config: &Config) -> Finding {
    match (&config.http.api_addr, &config.http.api_tls) {
        (None, _) => fine("the API is served on the unix socket only"),
        (Some(addr), Some(_)) => fine(format!("the API at {addr} asks for client certificates")),
        (Some(addr), None) => weak(format!(
            "the API at {addr} asks for nothing: every user of this host commands the swarm"
        )),
    }
}

fn policy(config: &Config) -> Finding {
    match &config.policy {
        Some(path) => fine(format!("the access policy is {}", path.display())),
        None => weak("there is no access policy: whoever reaches the API may do everything"),
    }
}

fn clock() -> Finding {
    match Path::new("/run/systemd/timesync/synchronized").exists() {
        true => fine("the clock is synchronised"),
        false => unknown("the clock: no systemd-timesyncd says that it is synchronised"),
    }
}

/// What a running purser says.
fn running(config: &Config) -> Vec<Finding> {
    let purser = Endpoint::Unix(config.http.socket.clone());
    let ask = |path: &str| -> anyhow::Result<Value> {
        let text = client::request(&purser, Some(ANSWER_TIME), "GET", path, "")?;
        Ok(serde_json::from_str(&text)?)
    };
    let info = match ask("/info") {
        Ok(info) => info,
        Err(error) => return vec![unknown(format!("purser does not run: {error:#}"))],
    };
    let mut findings = Vec::new();
    findings.push(match info["Swarm"]["LocalNodeState"].as_str() {
        Some("locked") => return vec![weak("purser is locked; nothing more can be told")],
        Some("active") => fine("purser leads a swarm"),
        _ => fine("purser runs, and leads no swarm"),
    });
    findings.push(match ask("/purser/audit/verify") {
        Ok(chain) => fine(format!("the audit is whole: {} records", chain["Records"])),
        Err(error) => broken(format!("{error:#}")),
    });
    if let Ok(keys) = ask("/purser/keys") {
        let old = keys.as_array().into_iter().flatten().filter(|key| {
            key["Active"] == false && (key["Use"] == "ring" || key["Use"] == "epoch")
        });
        findings.push(match old.count() {
            0 => fine("no key from before a rotation is left"),
            _ => weak("keys from before a rotation are left; it goes on, or see the log"),
        });
    }
    if let Ok(swarm) = ask("/swarm") {
        let is_locking = swarm["Spec"]["EncryptionConfig"]["AutoLockManagers"] == true;
        findings.push(match is_locking {
            true => fine("autolock is on: a copy of this host's disk opens nothing"),
            false => fine("autolock is off: the store opens by itself at a start"),
        });
    }
    if let Ok(nodes) = ask("/nodes") {
        for node in nodes.as_array().into_iter().flatten() {
            let message = node["Status"]["Message"].as_str().unwrap_or_default();
            let name = node["Description"]["Hostname"].as_str().unwrap_or("a node");
            if message.contains("clock") {
                findings.push(weak(format!("{name}: {message}")));
            }
        }
        findings.push(unknown(
            "other nodes: whether their swap is off cannot be told from here; secrets of containers \
             lie in a tmpfs there",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_is_seen_in_its_table() {
        let head = "Filename Type Size Used Priority\n";
        assert_eq!(swap("").0, Grade::Unknown);
        assert_eq!(swap(head).0, Grade::Fine);
        assert_eq!(swap(&format!("{head}/dev/sda2 partition 1 0 -2\n")).0, Grade::Weak);
    }

    #[test]
    fn modes_are_judged_by_what_they_allow() {
        use std::os::unix::fs::PermissionsExt as _;
        let path = std::env::temp_dir().join(format!("purser-doctor-{}", std::process::id()));
        std::fs::write(&path, "").expect("a file");
        for (mode_of_file, grade) in [
            (0o600, Grade::Fine),
            (0o400, Grade::Fine),
            (0o640, Grade::Broken),
            (0o604, Grade::Broken),
        ] {
            let permissions = std::fs::Permissions::from_mode(mode_of_file);
            std::fs::set_permissions(&path, permissions).expect("our own");
            assert_eq!(mode("x", &path, 0o600).0, grade, "{mode_of_file:o}");
        }
        std::fs::remove_file(&path).expect("our own");
        assert_eq!(mode("x", &path, 0o600).0, Grade::Unknown);
    }
}
