//! What has to be done again and again for a store that is open: keys rotated by age, old records of
//! the audit dropped, and new ones handed on.

use std::io::Write as _;
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

const DAY_SECONDS: u64 = 24 * 3600;

/// Looks after keys and audit, until `stop`.
pub(super) async fn look_after(manager: Manager, upkeep: Upkeep, stop: CancellationToken) {
    let store = manager.store();
    if let Err(error) = store.finish_rotation().await {
        tracing::error!(%error, "a rotation of the keys could not be finished");
    }
    loop {
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
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Hands records on as they are written, to a file or to the log.
pub(super) async fn hand_on(manager: Manager, upkeep: Upkeep, stop: CancellationToken) {
    if upkeep.audit_file.is_none() && !upkeep.audit_log {
        return;
    }
    let store = manager.store();
    let mut live = store.subscribe_audit();
    // What was written before the last stop was handed on then.
    let mut next = store.audit_chain().last + 1;
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
                    _ = live.recv() => {}
                }
            }
        }
    }
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
    let mut file = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_data()
}
