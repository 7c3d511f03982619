//! What the operating system is told about a process that holds other people's secrets: no core
//! files, no looking in from outside, no swapping.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

/// Where the kernel says what this process may do, and what it swaps to.
const STATUS: &str = "/proc/self/status";
const UID_MAP: &str = "/proc/self/uid_map";
const SWAPS: &str = "/proc/swaps";

/// The capability to lock any amount of memory, as a bit of the effective set.
const CAP_IPC_LOCK: u64 = 1 << 14;

/// Hardens this process as far as the system lets it, and says where it does not.
pub(super) fn harden() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    // Whoever is not dumpable writes no core, and only root may read its memory or trace it.
    let closed = setrlimit(Resource::Core, none)
        .and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable));
    if let Err(error) = closed {
        tracing::warn!(%error, "a crash could write memory, with secrets in it, to a core file");
    }
    if may_lock() {
        // Pages are locked once they are used, so that stacks and reserves cost nothing.
        let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
        match mlockall(flags) {
            Ok(()) => return,
            Err(error) => tracing::debug!(%error, "memory is not locked"),
        }
    }
    if has_swap() {
        tracing::warn!(
            "this host swaps, and purser may not lock its memory: secrets and keys may be written \
             to the disk in clear; turn swap off, encrypt it, or grant CAP_IPC_LOCK"
        );
    }
}

/// Lets this process open as many files as it may at all: each connection takes up to two, and what a
/// service manager gives at first is far below what is served.
pub(super) fn open_more_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    if let Err(error) = raised {
        tracing::debug!(%error, "the number of open files stays as it is");
    }
}

/// True when no amount of memory is too much to be locked. With a limit, the allocation that hits
/// it would end the process. A capability counts only outside of user namespaces.
fn may_lock() -> bool {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let is_capable = || effective(&read(STATUS)) & CAP_IPC_LOCK != 0 && maps_all(&read(UID_MAP));
    getrlimit(Resource::Memlock).current.is_none() || is_capable()
}

/// True for the map of user ids that the host itself has: each stands for itself.
fn maps_all(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// The effective capabilities that a status of the kernel's tells of.
fn effective(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0)
}

/// True when there is anything to swap to: the first line is a heading.
fn has_swap() -> bool {
    std::fs::read_to_string(SWAPS).is_ok_and(|swaps| swaps.lines().count() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_kernels_words() {
        let status =
            |set: &str| format!("Name:\tpurser\nCapPrm:\tffff\nCapEff:\t{set}\nSeccomp:\t0\n");
        assert!(effective(&status("000001ffffffffff")) & CAP_IPC_LOCK != 0);
        assert!(effective(&status("0000000000004000")) & CAP_IPC_LOCK != 0);
        assert!(effective(&status("000001ffffffbfff")) & CAP_IPC_LOCK == 0);
        assert_eq!(effective("nothing of the kind"), 0);
    }

    #[test]
    fn a_user_namespace_is_told_by_its_map() {
        assert!(maps_all("         0          0 4294967295\n"));
        assert!(!maps_all("         0     100000      65536\n"));
        assert!(!maps_all(""));
    }
}
