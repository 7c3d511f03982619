//! Stock engines, each a node of its own in a network namespace of its own. `tools/engine` does the
//! work; it needs root, and says what else is missing.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::docker::{Said, docker};

/// Address of the host on the bridge that all engines are attached to.
pub const HOST: &str = "10.99.0.1";

/// A running engine, stopped and cleaned up when dropped.
pub struct Engine {
    name: String,
    dir: PathBuf,
}

impl Engine {
    /// Starts an engine with the image `redis:alpine`, under a name that no other test uses.
    #[track_caller]
    pub fn up(name: &str) -> Engine {
        let dir = super::purser::scratch_dir("e");
        let name = format!("{name}-{}", std::process::id());
        let engine = Engine { name, dir };
        engine.tool("up", &[]);
        engine.tool("image", &["redis:alpine"]);
        engine
    }

    #[track_caller]
    fn tool(&self, action: &str, more: &[&str]) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/engine");
        let said = Command::new(&path)
            .arg(action)
            .arg(&self.name)
            .arg(&self.dir)
            .args(more)
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (out, err) =
            (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
        assert!(said.status.success(), "tools/engine {action} {}: {out}{err}", self.name);
        out.trim().to_owned()
    }

    /// Runs docker against this engine itself.
    #[track_caller]
    pub fn docker(&self, args: &str) -> Said {
        docker(&self.socket(), args)
    }

    /// Has it join a swarm.
    #[track_caller]
    pub fn join(&self, token: &str, addr: &str) {
        self.docker(&format!("swarm join --token {token} {addr}")).ok();
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join(&self.name).join("docker.sock")
    }

    /// The directory with all of its state.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    /// Kills it and its containers: a node that dies.
    pub fn kill(&self) {
        self.tool("kill", &[]);
    }

    /// Starts it again after [`Engine::kill`], with its disk and its place in the swarm.
    pub fn revive(&self) {
        self.tool("up", &[]);
    }

    /// Cuts it off the network.
    pub fn cut(&self) {
        self.tool("cut", &[]);
    }

    /// Connects it again.
    pub fn heal(&self) {
        self.tool("heal", &[]);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/engine");
        let _ = Command::new(path).arg("down").arg(&self.name).arg(&self.dir).status();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
