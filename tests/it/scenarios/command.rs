//! The commands of scripts. Most are the intents that a client or a node would send.
//!
//! ```text
//!   node n1 label.zone=a cpus=2 memory=512 availability=drain arch=arm64
//!   service web replicas=3 image=app:1 …    global log …    update web …    scale web 5
//!   job sum completions=20 concurrent=4 …    global-job scan …
//!   rollback web
//!   remove web      fail web.2      complete web.2
//!   late web.2      what was told to stop there had completed before
//!   down n1   up n1   hang n1   remove-node n1   label n1 zone=b
//!   drain n1  pause n1  activate n1  promote n1  mutter n1
//!   secret s1   config c1   rotate s1   remove-secret s1   remove-config c1
//!   choose s1     choose s1 2     prune s1 keep=0   (values, as rotate makes them)
//!   network back subnet=10.1.0.0/28 range=… gateway=… aux=… ingress=yes attachable=yes
//!   remove-network back   attach n1 back address=10.1.0.5   detach n1
//!   history 2   restart-manager   leap 48h   advance 5s   watch web   show tasks [web]
//! ```

use purser::domain::cluster::OrchestrationConfig;
use purser::domain::id::{NetworkId, NodeId, ServiceId, TaskId};
use purser::domain::intent::{AttachmentWish, AuthFrom, Intent, SwarmUpdate, TaskReport};
use purser::domain::node::{Availability, NodeDescription, NodeRole, NodeSpec, PluginDescription};
use purser::domain::service::{Global, Platform, ReplicatedJob, Resources, ServiceSpec};
use purser::domain::task::Task;
use purser::domain::task_state::{Mover, TaskState};

use super::agent::{self, Agent};
use super::check::is_stopping;
use super::spec;
use super::world::World;

/// What a command prints, or why it is not done.
type Printed = Result<String, String>;

impl World {
    pub fn command(&mut self, command: &str) -> Printed {
        let words: Vec<&str> = command.split_whitespace().collect();
        let (verb, rest) = words.split_first().ok_or("no command")?;
        let name = rest.first().copied();
        let named = || name.ok_or_else(|| format!("{verb} what?"));
        let settings = rest.get(1..).unwrap_or_default();
        match *verb {
            "node" => self.join(named()?, settings),
            "service" | "global" | "job" | "global-job" => self.create(verb, named()?, settings),
            "update" => self.update(named()?, settings),
            "rollback" => self.roll_back(named()?),
            "scale" => self.update(named()?, &[&format!("replicas={}", settings.join(""))]),
            "remove" => {
                let id = self.service(named()?)?;
                self.client(Intent::RemoveService { id })
            }
            "network" => self.make_network(named()?, settings),
            "remove-network" => {
                let id = self.view.find_network(named()?).map_err(|refusal| refusal.message)?.id;
                self.client(Intent::RemoveNetwork { id })
            }
            "attach" => self.attach(named()?, settings),
            "detach" => self.detach(named()?),
            "fail" => {
                self.end(named()?, Task::is_live, TaskState::Failed, "task: non-zero exit (1)")
            }
            "complete" => self.end(named()?, Task::is_live, TaskState::Complete, ""),
            "late" => self.end(named()?, is_stopping, TaskState::Complete, ""),
            "up" | "down" | "hang" => self.session(verb, named()?),
            "drain" => self.edit_node(named()?, |spec| spec.availability = Availability::Drain),
            "pause" => self.edit_node(named()?, |spec| spec.availability = Availability::Pause),
            "activate" => self.edit_node(named()?, |spec| spec.availability = Availability::Active),
            "promote" => self.edit_node(named()?, |spec| spec.role = NodeRole::Manager),
            "mutter" => self.mutter(named()?),
            "secret" => {
                let intent = self.make_secret(named()?);
                self.client(intent)
            }
            "config" => {
                let intent = self.make_config(named()?);
                self.client(intent)
            }
            "rotate" => self.rotate(named()?).and_then(|intent| self.client(intent)),
            "choose" => self.choose(named()?, settings).and_then(|intent| self.client(intent)),
            "prune" => self.prune(named()?, settings).and_then(|intent| self.client(intent)),
            "remove-secret" => self.remove_secret(named()?).and_then(|intent| self.client(intent)),
            "remove-config" => self.remove_config(named()?).and_then(|intent| self.client(intent)),
            "label" => self.edit_node(named()?, |spec| {
                spec.labels.extend(settings.iter().filter_map(|label| pair(label)));
            }),
            "remove-node" => {
                let id = self.agent(named()?)?.id;
                self.submit(Mover::Reaper, Intent::RemoveNode { id, force: true })?;
                self.agents.remove(named()?);
                Ok(String::new())
            }
            "history" => self.set_history(spec::number(named()?)?),
            "restart-manager" => {
                self.restart_manager();
                Ok(String::new())
            }
            "advance" => {
                self.advance(spec::span(named()?)?);
                Ok(String::new())
            }
            "leap" => {
                self.leap(self.now.plus(spec::span(named()?)?));
                Ok(String::new())
            }
            "watch" => {
                let id = self.service(named()?)?;
                self.lowest.insert(id, usize::MAX);
                Ok(String::new())
            }
            "show" => self.show(named()?, settings.first().copied()),
            other => Err(format!("{other} is no command")),
        }
    }

    fn client(&mut self, intent: Intent) -> Printed {
        self.submit(Mover::Orchestrator, intent).map(|_| String::new())
    }

    fn service(&self, name: &str) -> Result<ServiceId, String> {
        self.view.service_named(name).map(|service| service.id).ok_or(format!("no service {name}"))
    }

    fn agent(&self, name: &str) -> Result<&Agent, String> {
        self.agents.get(name).ok_or(format!("no node {name}"))
    }

    fn join(&mut self, name: &str, settings: &[&str]) -> Printed {
        if self.agents.contains_key(name) {
            return Err(format!("there is a node {name}"));
        }
        let mut availability = Availability::Active;
        let mut platform = Platform { architecture: "x86_64".into(), os: "linux".into() };
        let mut resources = Resources {
            nano_cpus: 4_000_000_000,
            memory_bytes: 8 << 30,
            generic_resources: Vec::new(),
        };
        let (mut labels, mut plugins) = (Vec::new(), Vec::new());
        for setting in settings {
            let (key, value) = setting.split_once('=').ok_or("no setting")?;
            match key {
                "availability" => availability = spec::word(value)?,
                "arch" => platform.architecture = value.into(),
                "cpus" | "memory" => spec::set_resource(&mut resources, key, value)?,
                "plugin" => plugins.extend(value.split_once(':').map(|(kind, name)| {
                    PluginDescription { kind: kind.into(), name: name.into() }
                })),
                "generic" => resources.generic_resources.extend(spec::generic(value)?),
                key => labels.extend(
                    key.strip_prefix("label.").map(|key| (key.to_owned(), value.to_owned())),
                ),
            }
        }
        let id = NodeId::make(&self.entropy);
        let mut description =
            NodeDescription { hostname: name.into(), platform, resources, ..Default::default() };
        description.engine.plugins = plugins;
        let addr = format!("10.0.0.{}", self.names.len() + 1);
        let agent = Agent { id, is_up: true, hangs: false, description, addr };
        self.names.insert(id, name.into());
        let (csr, chain) = (Vec::new(), String::new());
        self.client(Intent::AdmitNode { id, csr, chain, not_after: i64::MAX, availability })?;
        self.client(agent.register())?;
        self.agents.insert(name.into(), agent);
        self.edit_node(name, |spec| spec.labels.extend(labels))
    }

    fn make_network(&mut self, name: &str, settings: &[&str]) -> Printed {
        let id = NetworkId::make(&self.entropy);
        let spec = spec::network(name, settings)?;
        self.client(Intent::CreateNetwork { id, spec })
    }

    /// A node attaches a container of its own to a network.
    fn attach(&mut self, name: &str, settings: &[&str]) -> Printed {
        let (network, settings) = settings.split_first().ok_or("attach it to what?")?;
        let mut address = None;
        for setting in settings {
            let text = setting.strip_prefix("address=").ok_or("no setting")?;
            address = Some(text.parse().map_err(|_| "no address")?);
        }
        let (id, node) = (TaskId::make(&self.entropy), self.agent(name)?.id);
        let network = (*network).to_owned();
        let wish = AttachmentWish { network, address, container_id: "c0ffee".into() };
        self.submit(Mover::Agent, Intent::AttachNetwork { id, node, wish })?;
        Ok(String::new())
    }

    /// The containers of a node that are attached to networks leave them.
    fn detach(&mut self, name: &str) -> Printed {
        let node = self.agent(name)?.id;
        let own: Vec<_> = self.view.attachments_of_node(node).map(|task| task.id).collect();
        for id in own {
            self.submit(Mover::Agent, Intent::DetachNetwork { id, node })?;
        }
        Ok(String::new())
    }

    fn create(&mut self, verb: &str, name: &str, settings: &[&str]) -> Printed {
        let mut spec = spec::plain(name);
        match verb {
            "global" => spec.mode.global = Some(Global {}),
            "job" => spec.mode.replicated_job = Some(ReplicatedJob::default()),
            "global-job" => spec.mode.global_job = Some(Global {}),
            _ => {}
        }
        let spec = self.with_settings(spec, settings)?;
        let id = ServiceId::make(&self.entropy);
        self.client(Intent::CreateService { id, spec, registry_auth: None })
    }

    fn update(&mut self, name: &str, settings: &[&str]) -> Printed {
        let service = self.view.service_named(name).ok_or(format!("no service {name}"))?;
        let spec = self.with_settings(service.spec.clone(), settings)?;
        let (id, version) = (service.id, service.meta.version);
        let auth_from = AuthFrom::Spec;
        self.client(Intent::UpdateService { id, version, spec, registry_auth: None, auth_from })
    }

    fn roll_back(&mut self, name: &str) -> Printed {
        let service = self.view.service_named(name).ok_or(format!("no service {name}"))?;
        let (id, version, spec) = (service.id, service.meta.version, service.spec.clone());
        let auth_from = AuthFrom::Spec;
        self.client(Intent::RollBackService { id, version, spec, registry_auth: None, auth_from })
    }

    fn with_settings(
        &self,
        mut spec: ServiceSpec,
        settings: &[&str],
    ) -> Result<ServiceSpec, String> {
        for setting in settings {
            if !self.grant(&mut spec, setting)? {
                spec::set(&mut spec, setting)?;
            }
        }
        Ok(spec)
    }

    /// An agent says what it may not: states that its tasks have left, and the end of tasks that are
    /// on other nodes. None of it counts.
    fn mutter(&mut self, name: &str) -> Printed {
        let agent = self.agent(name)?.id;
        let placed = self.view.tasks().filter(|task| task.status.state >= TaskState::Assigned);
        let reports = placed.filter_map(|task| {
            let is_own = task.node_id == Some(agent);
            let state = if is_own { TaskState::Accepted } else { TaskState::Failed };
            let is_old = !is_own || task.status.state > state;
            let report = agent::report(task, state, "muttered", self.now);
            is_old.then_some(TaskReport { node: agent, ..report })
        });
        let reports = reports.collect();
        if self.submit(Mover::Agent, Intent::ReportTasks { reports })? {
            self.complaints.push(format!("{name} is believed what it may not say"));
        }
        Ok(String::new())
    }

    /// A task of a slot ends by itself.
    fn end(
        &mut self,
        name: &str,
        is_meant: impl Fn(&Task) -> bool,
        state: TaskState,
        err: &str,
    ) -> Printed {
        let task = self
            .view
            .tasks()
            .find(|task| is_meant(task) && self.task_name(task) == name)
            .filter(|task| task.status.state >= TaskState::Assigned)
            .ok_or(format!("no task runs as {name}"))?;
        let heard = self.agents.values().any(|agent| Some(agent.id) == task.node_id && agent.is_up);
        if !heard {
            return Err("nobody hears of it".into());
        }
        let reports = vec![agent::report(task, state, err, self.now)];
        self.submit(Mover::Agent, Intent::ReportTasks { reports }).map(|_| String::new())
    }

    fn session(&mut self, verb: &str, name: &str) -> Printed {
        let agent = self.agents.get_mut(name).ok_or(format!("no node {name}"))?;
        (agent.is_up, agent.hangs) = (verb != "down", verb == "hang");
        let intent = match agent.is_up {
            true => agent.register(),
            false => Intent::LoseNodes { nodes: vec![(agent.id, "heartbeat failure".into())] },
        };
        self.client(intent)
    }

    fn edit_node(&mut self, name: &str, edit: impl FnOnce(&mut NodeSpec)) -> Printed {
        let node = self.view.node(self.agent(name)?.id).ok_or("gone")?;
        let mut spec = node.spec.clone();
        edit(&mut spec);
        let (id, version) = (node.id, node.meta.version);
        self.client(Intent::UpdateNode { id, version, spec })
    }

    fn set_history(&mut self, limit: u64) -> Printed {
        let cluster = self.view.cluster().ok_or("no cluster")?;
        let mut spec = cluster.spec.clone();
        let limit = i64::try_from(limit).ok();
        spec.orchestration = OrchestrationConfig { task_history_retention_limit: limit };
        let version = cluster.meta.version;
        let update = SwarmUpdate {
            version,
            spec,
            worker_secret: None,
            manager_secret: None,
            rotate_unlock_key: false,
            new_root: None,
        };
        self.client(Intent::UpdateSwarm(Box::new(update)))
    }
}

fn pair(label: &str) -> Option<(String, String)> {
    label.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()))
}
