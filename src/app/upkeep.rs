//! What has to be done again and again for a store that is open: keys rotated by age, old records of
//! the audit and old versions of secrets dropped, and new records handed on.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::Upkeep;
use crate::manager::Manager;

/// How often it is looked what is due. By the clock on the wall, which a host that slept for weeks
/// finds far ahead of any timer.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// How long a file that cannot be written is left alone.
const FILE_PAUSE: Duration = Duration::from_secs(10);

/// More bytes than a record has.
const LINE_MAX: u64 = 64 * 1024;

const DAY_SECONDS: u64 = 24 * 3600;
const NANOS: i64 = 1_000_000_000;

/// Looks after keys and audit, until `stop`.
pub(super) async fn look_after(manager: Manager, upkeep: Upkeep, stop: CancellationToken) {
    let store = manager.store();
    loop {
        if let Err(error) = store.finish_rotation().await {
            tracing::error!(%error, "a rotation of the keys could not be finished");
        }
        let now = manager.clock().now().unix_seconds().cast_unsigned();
        if let Some(days) = upkeep.key_life_days {
            match store.rotate_if_older(days * DAY_SECONDS, now).await {
                Ok(false) => {}
                Ok(true) => tracing::info!("the keys of the store were rotated, as they were old"),
                Err(error) => tracing::error!(%error, "the keys of the store are old and stay"),
            }
        }
        if let Err(error) = store.trim_audit(upkeep.audit_keep).await {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "old records of the audit could not be dropped");
        }
        if let Some(days) = upkeep.keep_versions_days {
            let nanos = i64::try_from(days.saturating_mul(DAY_SECONDS))
                .map_or(i64::MAX, |s| s.saturating_mul(NANOS));
            if let Err(error) = manager.prune_old(nanos).await {
                tracing::warn!(%error, "old versions of secrets and configs could not be dropped");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Hands records on as they are written, to a file or to the log: those behind the last that the file
/// has, or behind `known` when that cannot be told.
pub(super) async fn hand_on(manager: Manager, upkeep: Upkeep, known: u64, stop: CancellationToken) {
    if upkeep.audit_file.is_none() && !upkeep.audit_log {
        return;
    }
    let store = manager.store();
    let mut live = store.subscribe_audit();
    // The file may lack what was written as the process stopped.
    let in_file = upkeep.audit_file.as_deref().and_then(last_in);
    let last = in_file.filter(|last| *last <= store.audit_chain().last).unwrap_or(known);
    let mut next = last + 1;
    loop {
        match store.audit_from(next).await {
            Ok(read) if !read.is_empty() => {
                for lines in read {
                    let new: String = (lines.first..)
                        .zip(lines.text.lines())
                        .filter(|(seq, _)| *seq >= next)
                        .flat_map(|(_, line)| [line, "\n"])
                        .collect();
                    if upkeep.audit_log {
                        new.lines().for_each(|record| tracing::info!(target: "audit", record));
                    }
                    if let Some(path) = &upkeep.audit_file {
                        tokio::select! {
                            () = stop.cancelled() => return,
                            () = write(path, &new) => {}
                        }
                    }
                    next = lines.last + 1;
                }
            }
            read => {
                if let Err(error) = read {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "records of the audit could not be handed on");
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = live.changed() => {}
                }
            }
        }
    }
}

/// The number of the last whole record in a file; `None` if there is none.
fn last_in(path: &Path) -> Option<u64> {
    let mut file = std::fs::File::open(path).ok()?;
    let from = file.metadata().ok()?.len().saturating_sub(LINE_MAX);
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).ok()?;
    let numbers = tail.split(|byte| *byte == b'\n').rev().filter_map(|line| {
        let record: serde_json::Value = serde_json::from_slice(line).ok()?;
        record.get("seq")?.as_u64()
    });
    numbers.into_iter().next()
}

/// Appends to a file, however long that takes. The file may be moved away at any time; another one is
/// made then.
async fn write(path: &Path, text: &str) {
    loop {
        let (to, bytes) = (path.to_owned(), text.to_owned());
        let written = tokio::task::spawn_blocking(move || append(&to, bytes.as_bytes())).await;
        let Err(error) = written.map_err(std::io::Error::other).flatten() else { return };
        tracing::error!(path = %path.display(), %error, "the audit's file cannot be written; trying again");
        tokio::time::sleep(FILE_PAUSE).await;
    }
}

fn append(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.read(true).append(true).create(true).mode(0o600).open(path)?;
    // A crash may have left half a record.
    if file.seek(SeekFrom::End(0))? > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    file.write_all(bytes)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_has_is_not_handed_on_again() {
        let path = std::env::temp_dir().join(format!("purser-audit-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        assert_eq!(last_in(&path), None);
        append(&path, b"").expect("a file");
        assert_eq!(last_in(&path), None, "nothing in it");
        append(&path, b"{\"seq\":7}\n{\"seq\":8}\n").expect("a file");
        assert_eq!(last_in(&path), Some(8));
        append(&path, b"{\"seq\":9,\"ver").expect("a file");
        assert_eq!(last_in(&path), Some(8), "the last was cut short");
        append(&path, b"{\"seq\":9}\n").expect("a file");
        assert_eq!(last_in(&path), Some(9), "on a line of its own");
        std::fs::remove_file(&path).expect("it is there");
    }
}
