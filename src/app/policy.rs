//! The policy's file: read at the start, whenever it changes, and when a signal (SIGHUP) asks for it. A
//! policy is taken whole or not at all; with one that has a fault, the one before goes on.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use super::core::Cores;
use crate::http::Hangups;
use crate::manager::Policy;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Reads the policy, or says once that there is none.
pub(super) fn read(path: Option<&Path>) -> anyhow::Result<Policy> {
    let Some(path) = path else {
        tracing::info!(
            "there is no access policy: whoever reaches the API commands the swarm, as with Docker; \
             --policy names one"
        );
        return Ok(Policy::default());
    };
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the access policy {}", path.display()))?;
    Policy::parse(&text).with_context(|| format!("the access policy {}", path.display()))
}

/// How a file looks from outside: a file that was replaced, however quickly, looks otherwise.
pub(super) type Look = Option<(SystemTime, u64, u64)>;

/// How it looks now.
pub(super) fn look(path: &Path) -> Look {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

/// Follows the file, which looked like `known` before it was read, until `stop`.
pub(super) async fn follow(path: &Path, mut known: Look, cores: &Cores, stop: CancellationToken) {
    let mut hangups = Hangups::listen();
    loop {
        let is_asked = tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => false,
            () = hangups.next() => true,
        };
        let now = look(path);
        if now == known && !is_asked {
            continue;
        }
        known = now;
        match read(Some(path)) {
            Ok(policy) => {
                cores.set_policy(policy);
                tracing::info!(path = %path.display(), "the access policy was read again");
            }
            Err(error) => tracing::error!(
                error = format!("{error:#}"),
                "the new access policy cannot be used; the one before goes on"
            ),
        }
    }
}
