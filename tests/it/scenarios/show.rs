//! What scripts print: names in place of ids, no moments, one order.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use purser::domain::constraint::label;
use purser::domain::id::NodeId;
use purser::domain::network::Attachment;
use purser::domain::service::ModeKind;
use purser::domain::task::Task;
use purser::domain::task_state::TaskState;

use super::check;
use super::world::World;

/// `web.2`, or `agent.n1` for a task that is made for a node, `own.n1` for an attachment there.
pub fn name_of_new(task: &Task, nodes: &BTreeMap<NodeId, String>) -> String {
    match task.node_id {
        Some(node) => {
            let of = task.service_id.map_or("own", |_| &task.service_name);
            format!("{of}.{}", nodes.get(&node).map_or("?", String::as_str))
        }
        None => format!("{}.{}", task.service_name, task.slot),
    }
}

impl World {
    pub fn task_name(&self, task: &Task) -> &str {
        self.aliases.get(&task.id).map_or("?", String::as_str)
    }

    /// `show tasks [service]`, `show running [service]`, `show services`, `show nodes`,
    /// `show lowest`, `show spread service`, `show branches service`,
    /// `show generic`.
    pub fn show(&self, what: &str, of: Option<&str>) -> Result<String, String> {
        Ok(match what {
            "tasks" => self.show_tasks(of, |_| true),
            "wanted" => self.show_tasks(of, Task::is_wanted),
            "services" => self.show_services(),
            "nodes" => self.show_nodes(),
            "spread" => self.show_spread(of),
            "generic" => self.show_generic(),
            "networks" => self.show_networks(),
            "addresses" => self.show_addresses(),
            "branches" => self.show_branches(of.ok_or("branches of what?")?)?,
            "lowest" => self.lowest.iter().fold(String::new(), |text, (service, lowest)| {
                let name = self.view.service(*service).map_or("?", |service| &service.spec.name);
                text + &format!("  {name}: never fewer than {lowest} running\n")
            }),
            other => return Err(format!("nothing is called {other}")),
        })
    }

    /// Tasks by slot, the newest first: desired and observed state, node, image, why it waits.
    fn show_tasks(&self, of: Option<&str>, filter: impl Fn(&Task) -> bool) -> String {
        let mut tasks: Vec<_> = self
            .view
            .tasks()
            .filter(|task| of.is_none_or(|of| task.service_name == of) && filter(task))
            .collect();
        tasks.sort_by_cached_key(|task| {
            let name = self.task_name(task).to_owned();
            (task.service_name.clone(), task.slot, name, std::cmp::Reverse(task.meta.created_at))
        });
        let mut text = String::new();
        for task in tasks {
            let name = self.task_name(task);
            let node = task.node_id.and_then(|id| self.names.get(&id)).map_or("-", String::as_str);
            let image = task.spec.container_spec.as_ref().map_or("", |container| &container.image);
            let (desired, state) = (task.desired_state, task.status.state);
            let err = if task.status.err.is_empty() {
                String::new()
            } else {
                format!("  {}", task.status.err)
            };
            let states = format!("{desired}/{state}{}", self.versions(task));
            let _ = writeln!(
                text,
                "{}",
                format!("  {name:<8} {node:<4} {image:<9} {states}{err}").trim_end()
            );
        }
        if text.is_empty() { "  none\n".into() } else { text }
    }

    /// The versions of secrets and configs that a task has, but for first ones: ` s1=2`.
    fn versions(&self, task: &Task) -> String {
        let name = |id: &str| {
            let secret = self.secrets.iter().find(|(_, known)| known.as_str() == id);
            let config = self.configs.iter().find(|(_, known)| known.as_str() == id);
            secret.map(|(name, _)| name).or(config.map(|(name, _)| name)).map_or("?", |name| name)
        };
        let mut all: Vec<String> =
            task.revisions.iter().map(|(id, number)| format!(" {}={number}", name(id))).collect();
        all.sort();
        all.concat()
    }

    fn show_services(&self) -> String {
        let mut lines: Vec<String> = self
            .view
            .services()
            .map(|service| {
                let tasks = self.view.tasks_of_service(service.id);
                let running = tasks.filter(|task| task.status.state == TaskState::Running).count();
                let done =
                    check::slots_of(&self.view, service, |task| service.is_done_by(task)).len();
                let wish = match service.spec.mode.kind() {
                    ModeKind::Replicated(replicas) => replicas.to_string(),
                    ModeKind::Global => "all".into(),
                    ModeKind::ReplicatedJob { max_concurrent, total } => {
                        format!("{max_concurrent} ({done}/{total} completed)")
                    }
                    ModeKind::GlobalJob => format!("all ({done} completed)"),
                };
                let status = service.update_status.as_ref().map_or(String::new(), |status| {
                    format!("  {}: {}", status.state, self.with_names(&status.message))
                });
                format!("  {:<8} {running}/{wish}{status}\n", service.spec.name)
            })
            .collect();
        lines.sort();
        lines.concat()
    }

    fn show_nodes(&self) -> String {
        self.view.nodes().fold(String::new(), |text, node| {
            let wanted = self.view.tasks_of_node(node.id).filter(|task| task.is_wanted()).count();
            let (state, availability) = (node.status.state, node.spec.availability);
            text + &format!(
                "  {:<4} {state} {availability}, {wanted} wanted\n",
                self.names[&node.id]
            )
        })
    }

    /// How many nodes have how many wanted tasks of a service.
    fn show_spread(&self, of: Option<&str>) -> String {
        let mut nodes: BTreeMap<usize, usize> = BTreeMap::new();
        for node in self.view.nodes() {
            let tasks = self
                .view
                .tasks_of_node(node.id)
                .filter(|task| task.is_wanted() && of.is_none_or(|of| task.service_name == of));
            *nodes.entry(tasks.count()).or_default() += 1;
        }
        nodes.into_iter().fold(String::new(), |text, (tasks, nodes)| {
            text + &format!("  {nodes} nodes with {tasks} tasks\n")
        })
    }

    /// The generic resources that wanted tasks have.
    fn show_generic(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        for task in self.view.tasks().filter(|task| task.is_wanted() && task.node_id.is_some()) {
            let node = task.node_id.and_then(|id| self.names.get(&id)).map_or("?", String::as_str);
            let has = task.generic_resources.iter().map(|resource| {
                let named = resource.named_resource_spec.as_ref();
                let named = named.map(|named| format!(" {}:{}", named.kind, named.value));
                let counted = resource.discrete_resource_spec.as_ref();
                let counted = counted.map(|counted| format!(" {}:{}", counted.kind, counted.value));
                named.or(counted).unwrap_or_default()
            });
            let has: String = has.collect();
            lines.push(format!("  {} on {node} has{has}\n", self.task_name(task)));
        }
        lines.sort();
        lines.concat()
    }

    /// Networks with their subnets and VXLAN numbers.
    fn show_networks(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        for network in self.view.networks() {
            let subnets: Vec<String> = network
                .subnets
                .iter()
                .map(|config| format!("{} via {}", config.subnet, config.gateway))
                .collect();
            let gone = if network.is_removed { " removed" } else { "" };
            let vnis = &network.vnis;
            lines.push(format!("  {} {} {vnis:?}{gone}\n", network.spec.name, subnets.join(" ")));
        }
        lines.sort();
        lines.concat()
    }

    /// Who has which addresses and ports.
    fn show_addresses(&self) -> String {
        let places = |places: &[Attachment]| -> String {
            let known = places.iter().filter_map(|place| {
                let network = self.view.network(place.network)?;
                Some(format!(" {}:{}", network.spec.name, place.address?))
            });
            known.collect()
        };
        let mut lines: Vec<String> = Vec::new();
        for service in self.view.services() {
            let Some(endpoint) = &service.endpoint else { continue };
            let ports: Vec<String> =
                endpoint.ports.iter().map(|port| format!(" {}", port.published_port)).collect();
            let name = &service.spec.name;
            lines.push(format!("  {name}{}{}\n", places(&endpoint.virtual_ips), ports.concat()));
        }
        for task in self.view.tasks().filter(|task| !task.status.state.is_terminal()) {
            let name = self.task_name(task);
            lines.push(format!("  {name}{}\n", places(&task.networks)));
        }
        for node in self.view.nodes() {
            lines.push(format!("  {}{}\n", self.names[&node.id], places(&node.attachments)));
        }
        lines.sort();
        lines.concat()
    }

    /// How many wanted tasks of a service the nodes have that agree in the labels it is spread over.
    fn show_branches(&self, of: &str) -> Result<String, String> {
        let service = self.view.service_named(of).ok_or(format!("no service {of}"))?;
        let placement = service.spec.task_template.placement.clone().unwrap_or_default();
        let labels: Vec<&str> = placement
            .preferences
            .iter()
            .filter_map(|preference| Some(preference.spread.as_ref()?.spread_descriptor.as_str()))
            .collect();
        let mut branches: BTreeMap<String, usize> = BTreeMap::new();
        for node in self.view.nodes() {
            let values: Vec<&str> =
                labels.iter().map(|key| label(node, key).unwrap_or("?")).collect();
            let tasks = self.view.tasks_of_node(node.id);
            let wanted = tasks.filter(|task| task.is_wanted() && task.service_name == of);
            *branches.entry(values.join("/")).or_default() += wanted.count();
        }
        Ok(branches
            .into_iter()
            .fold(String::new(), |text, (branch, tasks)| text + &format!("  {branch}: {tasks}\n")))
    }

    fn with_names(&self, text: &str) -> String {
        let words = text.split(' ').map(|word| {
            let alias = word.parse().ok().and_then(|id| self.aliases.get(&id));
            alias.map_or(word, String::as_str)
        });
        words.collect::<Vec<_>>().join(" ")
    }
}
