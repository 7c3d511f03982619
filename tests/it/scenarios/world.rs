//! A cluster in one thread: the view, a clock that is moved by hand, seeded ids, and agents.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use purser::domain::change::{Change, Key, Object};
use purser::domain::cluster::{Cluster, ClusterSpec, JoinSecrets};
use purser::domain::id::{
    ClusterId, ConfigId, Entropy, NodeId, SecretId, ServiceId, Stream, TaskId,
};
use purser::domain::intent::Intent;
use purser::domain::meta::{Stamp, Version};
use purser::domain::task_state::{Mover, TaskState};
use purser::domain::time::{Nanoseconds, Timestamp};
use purser::domain::view::View;
use purser::plan::settle::{Dirty, ROUNDS_MAX, STAGES, Stage, step};
use purser::plan::{Context, intent};

use super::agent::{self, Agent};
use super::{check, check_network, check_task, show};

/// What the clock moves by at every write, so that no two objects are made at the same moment.
const TICK: Nanoseconds = 1_000;
/// Passes of the agents until a line must have settled.
const PASSES_MAX: usize = 64;

pub struct World {
    pub view: View,
    pub now: Timestamp,
    pub entropy: Seeded,
    /// By the name of their node.
    pub agents: BTreeMap<String, Agent>,
    /// What the checker found since the last line.
    pub complaints: Vec<String>,
    /// Names of nodes and tasks, those that are gone among them. Tasks are named when they are made.
    pub names: BTreeMap<NodeId, String>,
    pub aliases: BTreeMap<TaskId, String>,
    /// What the last request of a client or of the manager was decided on, and the changes it came to.
    pub asked: Option<(View, Vec<Change>)>,
    /// The fewest running tasks of services that are watched.
    pub lowest: BTreeMap<ServiceId, usize>,
    /// By name, also of those that are gone.
    pub secrets: BTreeMap<String, SecretId>,
    pub configs: BTreeMap<String, ConfigId>,
    dirty: Dirty,
    again: BTreeSet<(Timestamp, Key)>,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut world = World {
            view: View::default(),
            now: Timestamp::from_unix_nanos(1_800_000_000_000_000_000),
            entropy: Seeded { state: AtomicU64::new(seed), nodes: AtomicU64::new(0) },
            agents: BTreeMap::new(),
            complaints: Vec::new(),
            names: BTreeMap::new(),
            aliases: BTreeMap::new(),
            asked: None,
            lowest: BTreeMap::new(),
            secrets: BTreeMap::new(),
            configs: BTreeMap::new(),
            dirty: Dirty::default(),
            again: BTreeSet::new(),
        };
        let cluster = make_cluster(&world.entropy);
        world.write(Mover::Orchestrator, &[cluster.into()]);
        world
    }

    /// Runs the commands of one line and settles; answers what they print.
    pub fn line(&mut self, line: &str) -> String {
        let line = line.split('#').next().unwrap_or_default();
        let mut output = String::new();
        for command in line.split(';').map(str::trim).filter(|command| !command.is_empty()) {
            match self.command(command) {
                Ok(text) => output.push_str(&text),
                Err(why) => output.push_str(&format!("  refused: {why}\n")),
            }
        }
        self.settle();
        output
    }

    /// What one write does: the view changes, the version steps, planners have to look.
    pub fn write(&mut self, mover: Mover, changes: &[Change]) -> bool {
        if changes.is_empty() {
            return false;
        }
        self.now = self.now.plus(TICK);
        let version = Version { index: self.view.version().index + 1 };
        let changed = self.view.apply(changes, Stamp { version, now: self.now });
        for one in &changed {
            self.complaints.extend(check_task::fault(mover, one, &self.view));
            self.dirty.add(one);
            if let (None, Some(Object::Task(task))) = (&one.old, &one.new) {
                self.aliases.insert(task.id, show::name_of_new(task, &self.names));
            }
        }
        for (service, lowest) in &mut self.lowest {
            let tasks = self.view.tasks_of_service(*service);
            let running = tasks.filter(|task| task.status.state == TaskState::Running).count();
            *lowest = running.min(*lowest);
        }
        true
    }

    /// Decides an intent and writes what it changes.
    pub fn submit(&mut self, mover: Mover, intent: Intent) -> Result<bool, String> {
        let ctx = Context { now: self.now, entropy: &self.entropy };
        let before = self.view.clone();
        let changes = intent::decide(&self.view, intent, ctx).map_err(|refusal| refusal.message)?;
        let is_new = self.write(mover, &changes);
        if mover != Mover::Agent {
            self.asked = Some((before, changes));
        }
        Ok(is_new)
    }

    /// Planners and agents, until nothing moves at this moment.
    pub fn settle(&mut self) {
        for _ in 0..PASSES_MAX {
            self.plan();
            let reports = agent::reports(&self.view, &self.agents, self.now);
            if reports.is_empty() {
                self.complaints.extend(check::inspect(&self.view, self.now));
                self.complaints.extend(check_network::inspect(&self.view));
                return;
            }
            if self.submit(Mover::Agent, Intent::ReportTasks { reports }) != Ok(true) {
                self.complaints.push("what agents report changes nothing".into());
                return;
            }
        }
        self.complaints.push(format!("agents are not content after {PASSES_MAX} passes"));
    }

    fn plan(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut is_content = true;
            for stage in STAGES {
                let dirty = self.dirty.clone();
                let ctx = Context { now: self.now, entropy: &self.entropy };
                let planned = step(stage, &self.view, &dirty, ctx);
                self.again.extend(planned.again);
                is_content &= planned.changes.is_empty();
                self.write(mover(stage), &planned.changes);
            }
            if is_content {
                self.dirty = Dirty::default();
                return;
            }
        }
        self.complaints.push(format!("planners are not content after {ROUNDS_MAX} rounds"));
        self.dirty = Dirty::default();
    }

    /// Moves the clock, settling at every moment at which there is something to do.
    pub fn advance(&mut self, span: Nanoseconds) {
        let target = self.now.plus(span);
        self.settle();
        loop {
            let planner = self.again.first().map(|(moment, _)| *moment);
            let agent = agent::next_moment(&self.view, &self.agents, self.now);
            let Some(moment) = planner.into_iter().chain(agent).min().filter(|at| *at <= target)
            else {
                break;
            };
            self.leap(self.now.max(moment));
            self.settle();
        }
        self.now = self.now.max(target);
    }

    /// The clock stands at another moment; what was to be looked at until then is due.
    pub fn leap(&mut self, to: Timestamp) {
        self.now = to;
        while let Some((_, key)) = self.again.pop_first_until(self.now) {
            self.dirty.add_key(key);
        }
    }

    /// What a manager remembers of its work is lost; it looks at everything, and nodes come back.
    pub fn restart_manager(&mut self) {
        self.again.clear();
        self.dirty = Dirty::all();
        let _ = self.submit(Mover::Orchestrator, Intent::ForgetSessions);
        self.dirty = Dirty::all();
        self.plan();
        let at_work = self.agents.values().filter(|agent| agent.is_up && !agent.hangs);
        for agent in at_work.cloned().collect::<Vec<Agent>>() {
            let _ = self.submit(Mover::Orchestrator, agent.register());
        }
    }
}

fn mover(stage: Stage) -> Mover {
    match stage {
        Stage::Orchestrator => Mover::Orchestrator,
        Stage::Reaper => Mover::Reaper,
        Stage::Allocator => Mover::Allocator,
        Stage::Scheduler => Mover::Scheduler,
    }
}

trait PopUntil {
    fn pop_first_until(&mut self, now: Timestamp) -> Option<(Timestamp, Key)>;
}

impl PopUntil for BTreeSet<(Timestamp, Key)> {
    fn pop_first_until(&mut self, now: Timestamp) -> Option<(Timestamp, Key)> {
        let first = *self.first().filter(|(moment, _)| *moment <= now)?;
        self.remove(&first);
        Some(first)
    }
}

fn make_cluster(entropy: &Seeded) -> Cluster {
    Cluster {
        id: ClusterId::make(entropy),
        meta: Default::default(),
        spec: ClusterSpec::default(),
        root_ca: String::new(),
        tls_info: Default::default(),
        join_secrets: JoinSecrets { worker: String::new(), manager: String::new() },
        manager: NodeId::LOWEST,
        listen_addr: String::new(),
        advertise_addr: String::new(),
        default_addr_pool: Vec::new(),
        subnet_size: 24,
        data_path_port: 4789,
        network_keys: None,
        root_rotation: None,
        cross_signed: String::new(),
        autolock: Default::default(),
        barred: BTreeMap::new(),
    }
}

/// Ids from a seed. Those of nodes are counted, so that nodes stand in the order of their making.
pub struct Seeded {
    state: AtomicU64,
    nodes: AtomicU64,
}

impl Entropy for Seeded {
    fn fill(&self, stream: Stream, out: &mut [u8]) {
        if stream == Stream::Node {
            let number = self.nodes.fetch_add(1, Ordering::Relaxed) + 1;
            let at = out.len() - 8;
            out[at..].copy_from_slice(&number.to_be_bytes());
            return;
        }
        for chunk in out.chunks_mut(8) {
            let state = self.state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            chunk.copy_from_slice(&mix(state).to_be_bytes()[..chunk.len()]);
        }
    }
}

/// Makes a number of a sequence look like any other.
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
