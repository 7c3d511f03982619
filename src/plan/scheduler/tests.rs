//! How many nodes a task asks for a place. What comes out of it is in `tests/scenarios`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::domain::id::{Entropy, Id, NodeId, Stream};
use crate::domain::meta::{Meta, Version};
use crate::domain::node::{Availability, NodeRole, NodeSpec, NodeState, NodeStatus};
use crate::domain::service::{Placement, PlacementPreference, SpreadOver, TaskSpec};
use crate::domain::task::TaskStatus;

/// Nodes of the cluster, each with a task of some service.
const NODES: u64 = 500;

struct NoEntropy;
impl Entropy for NoEntropy {
    fn fill(&self, _: Stream, _: &mut [u8]) {}
}

const CTX: Context<'static> = Context { now: Timestamp::ZERO, entropy: &NoEntropy };

fn id<K>(number: u64) -> Id<K> {
    let mut bytes = [0; 17];
    bytes[9..].copy_from_slice(&number.to_be_bytes());
    Id::derive(bytes)
}

fn node(number: u64, state: NodeState) -> Node {
    let labels = BTreeMap::from([("half".to_owned(), (number % 2).to_string())]);
    let (name, addr, message) = Default::default();
    let (role, availability) = (NodeRole::Worker, Availability::Active);
    Node {
        id: id(number),
        meta: Meta::default(),
        spec: NodeSpec { name, labels, role, availability },
        description: None,
        status: NodeStatus { state, message, addr },
        down_since: None,
        manager: None,
        certificate: Default::default(),
        attachments: Vec::new(),
    }
}

fn task(number: u64, service: u64, node: Option<NodeId>, spec: TaskSpec) -> Task {
    let mut status = TaskStatus::made(Timestamp::ZERO);
    status.state = if node.is_some() { TaskState::Running } else { TaskState::Pending };
    Task {
        revisions: Default::default(),
        id: id::<crate::domain::id::TaskKind>(number),
        meta: Meta::default(),
        spec: Arc::new(spec),
        service_id: Some(id(service)),
        service_name: String::new(),
        service_labels: BTreeMap::new(),
        spec_version: Version::default(),
        slot: number,
        node_id: node,
        status,
        ran_at: None,
        desired_state: TaskState::Running,
        endpoint_spec: None,
        endpoint: None,
        networks: Vec::new(),
        job_iteration: None,
        generic_resources: Vec::new(),
        registry_auth: Default::default(),
        not_before: Timestamp::ZERO,
        restarts: Default::default(),
    }
}

/// A cluster in which some nodes are down, and so many tasks of a service wait.
fn cluster(down: u64, waiting: u64, spec: &TaskSpec) -> View {
    let mut view = View::default();
    for number in 0..NODES {
        let state = if number < down { NodeState::Down } else { NodeState::Ready };
        view.load(&node(number, state).into());
        let other = task(number, 1, Some(id(number)), TaskSpec::default());
        view.load(&other.into());
    }
    for number in NODES..NODES + waiting {
        view.load(&task(number, 2, None, spec.clone()).into());
    }
    view
}

/// How many nodes are asked, and how many tasks get one.
fn asked(view: &View) -> (usize, usize) {
    let mut loads = Loads::new(view);
    let changes = place(&mut loads, view.waiting_tasks().collect(), CTX);
    let placed = changes.iter().filter(|change| match change {
        Change::Put(crate::domain::change::Object::Task(task)) => task.node_id.is_some(),
        _ => false,
    });
    (loads.asked(), placed.count())
}

fn placed_by(constraint: Option<&str>, spread: Option<&str>) -> TaskSpec {
    let spread = spread.map(|label| PlacementPreference {
        spread: Some(SpreadOver { spread_descriptor: label.into() }),
    });
    let placement = Placement {
        constraints: constraint.map(str::to_owned).into_iter().collect(),
        preferences: spread.into_iter().collect(),
        ..Default::default()
    };
    TaskSpec { placement: Some(placement), ..Default::default() }
}

#[test]
fn a_task_asks_no_more_nodes_than_refuse_it() {
    let plain = TaskSpec::default();
    assert_eq!(asked(&cluster(0, 1, &plain)), (1, 1));
    assert_eq!(asked(&cluster(0, 20, &plain)), (20, 20));
    assert_eq!(asked(&cluster(400, 20, &plain)), (20, 20), "those that are down come last");
    assert_eq!(asked(&cluster(0, 2 * NODES, &plain)), (500, 1000));
    let (nodes, placed) = asked(&cluster(0, 20, &placed_by(Some("node.labels.half==1"), None)));
    assert!(nodes <= 41 && placed == 20, "every other refuses: {nodes}");
    assert_eq!(asked(&cluster(0, 20, &placed_by(None, Some("node.labels.half")))), (20, 20));
    let nowhere = placed_by(Some("node.labels.half==2"), None);
    assert_eq!(asked(&cluster(0, 20, &nowhere)), (500, 0), "each says why, once");
}

#[test]
fn the_order_of_nodes_follows_their_tasks() {
    let mut view = cluster(1, 0, &TaskSpec::default());
    let order = |view: &View| -> Vec<(bool, usize, NodeId)> {
        let order: Vec<_> = view.nodes_by_burden().iter().copied().collect();
        let counted = view.nodes().map(|node| {
            let tasks = view.tasks_of_node(node.id).filter(|task| task.burdens().is_some());
            (!node.takes_tasks(), tasks.count(), node.id)
        });
        let mut counted: Vec<_> = counted.collect();
        counted.sort_unstable();
        assert_eq!(order, counted);
        order
    };
    assert_eq!(order(&view)[499], (true, 1, id(0)));
    let write = |view: &mut View, change: Change| {
        let (version, now) = (Version { index: 1 }, Timestamp::ZERO);
        view.apply(&[change], crate::domain::meta::Stamp { version, now });
    };
    let mut ended = task(7, 1, Some(id(7)), TaskSpec::default());
    ended.status.state = TaskState::Failed;
    write(&mut view, ended.into());
    assert_eq!(order(&view)[0], (false, 0, id(7)));
    write(
        &mut view,
        Change::Remove(crate::domain::change::Key::Task(id::<crate::domain::id::TaskKind>(7))),
    );
    write(&mut view, task(900, 1, Some(id(7)), TaskSpec::default()).into());
    write(&mut view, task(901, 1, Some(id(7)), TaskSpec::default()).into());
    write(&mut view, node(0, NodeState::Ready).into());
    assert_eq!(order(&view)[499], (false, 2, id(7)));
    write(&mut view, Change::Remove(crate::domain::change::Key::Node(id(7))));
    assert_eq!(order(&view).len(), 499);
    write(&mut view, node(7, NodeState::Ready).into());
    assert_eq!(order(&view)[499], (false, 2, id(7)), "its tasks were kept in mind");
}
