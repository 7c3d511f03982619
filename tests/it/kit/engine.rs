//! Stock engines, each a node of its own in a network namespace of its own. `tools/engine` does the
//! work; it needs root, and says what else is missing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::docker::{Said, docker};
use super::eventually;
use super::purser::Purser;

/// A running engine, stopped and cleaned up when dropped.
pub struct Engine {
    name: String,
    dir: PathBuf,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Engine {
    /// Starts an engine with the image `redis:alpine`, under a name that no other test uses.
    #[track_caller]
    pub fn up(name: &str) -> Engine {
        Engine::configured(name, None)
    }

    /// The same with a configuration file of its own.
    #[track_caller]
    pub fn configured(name: &str, config: Option<&Value>) -> Engine {
        let dir = super::purser::scratch_dir("e");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{name}-{}-{number}", std::process::id());
        let engine = Engine { name, dir };
        match config {
            None => engine.tool("up", &[]),
            Some(config) => {
                let file = engine.dir.join("daemon.json");
                std::fs::create_dir_all(&engine.dir).expect("a directory");
                std::fs::write(&file, config.to_string()).expect("a file");
                engine.tool("up", &[&file.display().to_string()])
            }
        };
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

    /// Makes an image of packages of Debian's. Nothing of them is set up: what they would do to
    /// the host at their installation, a command of the image has to do.
    #[track_caller]
    pub fn debian_image(&self, tag: &str, packages: &[&str]) {
        self.tool("image", &[&[tag], packages].concat());
    }

    /// Its address on the bridge that all engines are attached to.
    #[track_caller]
    pub fn addr(&self) -> String {
        let addr = std::fs::read_to_string(self.state_dir().join("addr")).expect("it was started");
        addr.trim().to_owned()
    }

    /// An address of the host that the engine can reach and no other test uses. Managers need one
    /// each: the port at which engines find each other is the same for all.
    #[track_caller]
    pub fn host(&self) -> String {
        self.addr().replacen("10.99.0.", "10.99.1.", 1)
    }

    /// The network namespace it runs in.
    pub fn netns(&self) -> PathBuf {
        Path::new("/run/netns").join(format!("purser-{}", self.name))
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

    /// The process id of its dockerd.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        let text = std::fs::read_to_string(self.state_dir().join("docker.pid"));
        text.ok().and_then(|text| text.trim().parse().ok()).expect("the engine runs")
    }

    /// Its running containers: full ids with the time of their start, sorted.
    #[track_caller]
    pub fn containers(&self) -> Vec<String> {
        let ids = self.docker("ps -q --no-trunc").ok();
        if ids.is_empty() {
            return Vec::new();
        }
        let format = "inspect --format '{{.Id}} {{.State.StartedAt}} {{.State.Running}}'";
        let said = self.docker(&format!("{format} {}", ids.replace('\n', " ")));
        let mut lines: Vec<String> = said.out.lines().map(str::to_owned).collect();
        lines.sort();
        lines
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

/// How long anything that starts or stops containers may take, on a machine with other work.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A swarm: a purser whose local engine is the first of the engines; the others have joined.
pub struct Site {
    pub purser: Purser,
    pub engines: Vec<Engine>,
    /// Address and port of the nodes' door.
    pub door: String,
}

/// A task that runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Running {
    pub task: String,
    pub node: String,
    pub container: String,
}

impl Site {
    /// Starts engines of these names, and a purser that has them all as its nodes.
    #[track_caller]
    pub fn up(names: &[&str]) -> Site {
        let engines: Vec<Engine> = std::thread::scope(|scope| {
            let starting: Vec<_> =
                names.iter().map(|name| scope.spawn(|| Engine::up(name))).collect();
            let started = starting.into_iter().map(std::thread::ScopedJoinHandle::join);
            started.map(|engine| engine.expect("the engine starts")).collect()
        });
        Site::of(names[0], engines)
    }

    /// A purser that has these engines as its nodes; the first is that of its own host.
    #[track_caller]
    pub fn of(name: &str, engines: Vec<Engine>) -> Site {
        let local = format!("unix://{}", engines[0].socket().display());
        let purser = Purser::with_args(name, &["--engine", &local]);
        let door = purser.init(&format!("{}:0", engines[0].host()));
        Site::join_all(purser, engines, door)
    }

    /// The same with one address, and one set of ports, for purser and the first engine.
    #[track_caller]
    pub fn beside(name: &str, engines: Vec<Engine>) -> Site {
        let local = format!("unix://{}", engines[0].socket().display());
        let purser = Purser::in_netns(&engines[0].netns(), name, &["--engine", &local]);
        let door = purser.init(&format!("{}:2377", engines[0].addr()));
        Site::join_all(purser, engines, door)
    }

    #[track_caller]
    fn join_all(purser: Purser, engines: Vec<Engine>, door: String) -> Site {
        let site = Site { purser, engines, door };
        let token = site.docker("swarm join-token -q worker").ok();
        std::thread::scope(|scope| {
            for engine in &site.engines[1..] {
                scope.spawn(|| engine.join(&token, &site.door));
            }
        });
        for engine in &site.engines {
            site.await_node(engine, "ready");
        }
        site
    }

    /// One engine more, which joins.
    #[track_caller]
    pub fn grow(&mut self, name: &str) {
        let engine = Engine::up(name);
        engine.join(&self.docker("swarm join-token -q worker").ok(), &self.door);
        self.await_node(&engine, "ready");
        self.engines.push(engine);
    }

    /// Runs docker against purser.
    #[track_caller]
    pub fn docker(&self, args: &str) -> Said {
        docker(&self.purser.socket(), args)
    }

    /// Runs docker in the one container of a service's task.
    #[track_caller]
    pub fn exec(&self, task: &Running, args: &str) -> Said {
        let engine = self.engine_of(task);
        engine.docker(&format!("exec {} {args}", task.container))
    }

    /// The engine that a task runs on.
    #[track_caller]
    pub fn engine_of(&self, task: &Running) -> &Engine {
        let found = self.engines.iter().find(|engine| self.node(engine)["ID"] == *task.node);
        found.expect("a task runs on one of the engines")
    }

    /// What purser says of the node that an engine is.
    #[track_caller]
    pub fn node(&self, engine: &Engine) -> Value {
        let nodes = self.purser.client().get("/nodes").json();
        let mut nodes = nodes.as_array().cloned().unwrap_or_default();
        // An engine that joined anew is a new node; the newest counts.
        nodes.sort_by_key(|node| node["CreatedAt"].as_str().unwrap_or_default().to_owned());
        let named = |node: &Value| node["Description"]["Hostname"] == engine.name();
        nodes.into_iter().rfind(named).unwrap_or(Value::Null)
    }

    /// The id of the node that an engine is.
    #[track_caller]
    pub fn node_id(&self, engine: &Engine) -> String {
        self.node(engine)["ID"].as_str().expect("the engine is a node").to_owned()
    }

    /// Waits until a node is in a state.
    #[track_caller]
    pub fn await_node(&self, engine: &Engine, state: &str) {
        eventually(&format!("{} is {state}", engine.name()), PATIENCE, || {
            (self.node(engine)["Status"]["State"] == state).then_some(())
        });
    }

    /// The tasks of a service that run and should.
    pub fn running(&self, service: &str) -> Vec<Running> {
        let client = self.purser.client();
        let service = client.get(&format!("/services/{service}")).json()["ID"].clone();
        let tasks = client.get("/tasks").json();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut running: Vec<Running> = tasks
            .as_array()
            .into_iter()
            .flatten()
            .filter(|task| task["ServiceID"] == service)
            .filter(|task| task["DesiredState"] == "running")
            .filter(|task| task["Status"]["State"] == "running")
            .map(|task| Running {
                task: text(&task["ID"]),
                node: text(&task["NodeID"]),
                container: text(&task["Status"]["ContainerStatus"]["ContainerID"]),
            })
            .collect();
        running.sort();
        running
    }

    /// Waits until exactly this many tasks of a service run.
    #[track_caller]
    pub fn await_running(&self, service: &str, count: usize) -> Vec<Running> {
        self.await_tasks(service, &format!("{count} run"), |tasks| tasks.len() == count)
    }

    /// Waits until the tasks of a service that run are as they should be.
    #[track_caller]
    pub fn await_tasks(
        &self,
        service: &str,
        what: &str,
        fits: impl Fn(&[Running]) -> bool,
    ) -> Vec<Running> {
        eventually(&format!("{service}: {what}"), PATIENCE, || {
            Some(self.running(service)).filter(|tasks| fits(tasks))
        })
    }
}
