//! Directories of a test's own, gone when it ends, also when it fails.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory, removed with all that is in it when dropped.
pub struct Scratch {
    dir: PathBuf,
    mounts: Vec<PathBuf>,
}

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        Scratch { dir: super::purser::scratch_dir(name), mounts: Vec::new() }
    }

    /// Makes a directory in it that is a file system of its own, with room for this many KiB.
    #[track_caller]
    pub fn mount(&mut self, name: &str, kib: u64) -> PathBuf {
        let path = self.dir.join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        let options = format!("size={kib}k,mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&path)
            .status();
        assert!(mounted.is_ok_and(|status| status.success()), "mounting needs root");
        self.mounts.push(path.clone());
        path
    }
}

impl Deref for Scratch {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for path in &self.mounts {
            let _ = Command::new("umount").arg("-l").arg(path).status();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
