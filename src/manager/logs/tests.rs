//! Subscriptions without doors.

use super::*;
use crate::domain::change::Change;
use crate::domain::id::{ServiceId, Stream, TaskId};
use crate::domain::log::Source;
use crate::domain::meta::{Stamp, Version};
use crate::domain::node::{Availability, Node, NodeRole, NodeSpec, NodeState, NodeStatus};
use crate::domain::task::{Task, TaskStatus};
use crate::domain::task_state::TaskState;
use crate::domain::time::Timestamp;

const SERVICE: ServiceId = ServiceId::LOWEST;
const ALL: Options = Options { stdout: true, stderr: true, follow: false, since: None, tail: None };
const FOLLOW: Options = Options { follow: true, ..ALL };

fn node_id(number: u8) -> NodeId {
    NodeId::derive([number; 17])
}

fn node(number: u8) -> Change {
    Node {
        id: node_id(number),
        meta: Default::default(),
        spec: NodeSpec {
            name: String::new(),
            labels: Default::default(),
            role: NodeRole::Worker,
            availability: Availability::Active,
        },
        description: None,
        status: NodeStatus { state: NodeState::Ready, message: String::new(), addr: String::new() },
        down_since: None,
        manager: None,
        certificate: Default::default(),
        attachments: Vec::new(),
    }
    .into()
}

/// A task of the service on a node.
fn task(number: u8, node: u8) -> Change {
    Task {
        revisions: Default::default(),
        id: TaskId::derive([number; 17]),
        meta: Default::default(),
        spec: Default::default(),
        service_id: Some(SERVICE),
        service_name: "web".into(),
        service_labels: Default::default(),
        spec_version: Version::default(),
        slot: 1,
        node_id: Some(node_id(node)),
        status: TaskStatus::made(Timestamp::ZERO),
        desired_state: TaskState::Running,
        endpoint_spec: None,
        endpoint: None,
        networks: Vec::new(),
        registry_auth: Default::default(),
        not_before: Timestamp::ZERO,
        ran_at: None,
        generic_resources: Default::default(),
        restarts: Default::default(),
        job_iteration: None,
    }
    .into()
}

fn apply(view: &mut View, changes: &[Change]) {
    view.apply(changes, Stamp { version: Version::default(), now: Timestamp::ZERO });
}

fn view(changes: &[Change]) -> View {
    let mut view = View::default();
    apply(&mut view, changes);
    view
}

fn line(node: u8, seconds: i64) -> Line {
    Line {
        service: SERVICE,
        node: node_id(node),
        task: TaskId::derive([node; 17]),
        at: Timestamp::from_unix_nanos(i128::from(seconds) * 1_000_000_000),
        source: Source::Stdout,
        data: b"x\n".to_vec(),
        attrs: Vec::new(),
    }
}

struct Counting(std::sync::atomic::AtomicU8);

impl Entropy for Counting {
    fn fill(&self, _: Stream, out: &mut [u8]) {
        out.fill(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    }
}

fn logs() -> Logs {
    Logs::new(Arc::new(Counting(std::sync::atomic::AtomicU8::new(1))))
}

fn subscribe(logs: &Logs, view: &View, options: Options) -> Reader {
    let reader = logs.subscribe(|| view.clone(), Subject::Service(SERVICE), options);
    reader.expect("not too many")
}

/// The one subscription that a node is told of.
fn told(listening: &mut Listening) -> Option<(String, Options)> {
    let wanted = listening.wanted();
    assert!(wanted.len() <= 1);
    wanted.into_iter().next().map(|(id, (_, options))| (id.to_string(), options))
}

fn publish(logs: &Logs, node: u8, listening: &mut Listening) -> Publication {
    let (id, _) = told(listening).expect("it is asked");
    logs.publish(node_id(node), &id).expect("it was asked")
}

#[tokio::test]
async fn it_ends_when_all_nodes_have_said_their_last_word() {
    let logs = logs();
    let view = view(&[node(1), node(2), task(1, 1), task(2, 2)]);
    let (mut one, mut two) = (logs.listen(node_id(1)), logs.listen(node_id(2)));
    let mut reader = subscribe(&logs, &view, ALL);
    let (first, second) = (publish(&logs, 1, &mut one), publish(&logs, 2, &mut two));
    first.send(vec![line(1, 1)]).await.expect("it is wanted");
    first.close();
    second.send(vec![line(2, 1), line(2, 2)]).await.expect("it is wanted");
    second.close();
    let mut count = 0;
    while let Some(lines) = reader.next().await {
        count += lines.len();
    }
    assert_eq!(count, 3, "what came before the end is not lost");
    assert!(reader.missing().is_empty());
    assert!(told(&mut one).is_none());
}

#[tokio::test]
async fn nodes_that_do_not_listen_or_break_off_are_named() {
    let logs = logs();
    let view = view(&[node(1), node(2), task(1, 1), task(2, 2), task(3, 3)]);
    let mut one = logs.listen(node_id(1));
    let mut reader = subscribe(&logs, &view, ALL);
    let publication = publish(&logs, 1, &mut one);
    publication.send(vec![line(1, 1)]).await.expect("it is wanted");
    drop(publication);
    assert_eq!(reader.next().await.map(|lines| lines.len()), Some(1));
    assert!(reader.next().await.is_none());
    // The third node is not of the cluster any more.
    assert_eq!(reader.missing(), [node_id(1), node_id(2)]);
}

#[tokio::test]
async fn a_node_that_leaves_ends_its_part_and_a_subject_without_nodes_everything() {
    let logs = logs();
    let only = view(&[node(1), task(1, 1)]);
    let mut one = logs.listen(node_id(1));
    let mut reader = subscribe(&logs, &only, ALL);
    let publication = publish(&logs, 1, &mut one);
    drop(one);
    publication.ended().await;
    assert!(reader.next().await.is_none());
    assert_eq!(reader.missing(), [node_id(1)]);
    let mut reader = subscribe(&logs, &view(&[]), ALL);
    assert!(reader.next().await.is_none());
    assert!(reader.missing().is_empty());
}

#[tokio::test]
async fn a_node_that_comes_back_is_asked_for_the_rest() {
    let logs = logs();
    let view = view(&[node(1), task(1, 1)]);
    let reader = subscribe(&logs, &view, FOLLOW);
    let mut one = logs.listen(node_id(1));
    let publication = publish(&logs, 1, &mut one);
    publication.send(vec![line(1, 9), line(1, 7)]).await.expect("it is wanted");
    drop(one);
    let mut again = logs.listen(node_id(1));
    let (_, options) = told(&mut again).expect("it is asked again");
    let since = Timestamp::from_unix_nanos(9_000_000_001);
    assert_eq!(options, Options { since: Some(since), ..FOLLOW });
    assert_eq!(publication.send(vec![line(1, 10)]).await, Err(UnknownSubscription));
    let newer = publish(&logs, 1, &mut again);
    drop(publication);
    newer.send(vec![line(1, 10)]).await.expect("the end of the old one is not its own");
    drop(reader);
    newer.ended().await;
    assert!(told(&mut again).is_none());
}

#[tokio::test]
async fn nodes_of_later_tasks_are_asked_and_the_last_task_is_the_end() {
    let logs = logs();
    let mut cluster = view(&[node(1), node(2), task(1, 1)]);
    let mut two = logs.listen(node_id(2));
    let mut reader = subscribe(&logs, &cluster, FOLLOW);
    assert!(told(&mut two).is_none());
    apply(&mut cluster, &[task(2, 2)]);
    logs.note(&cluster, |_| true);
    assert!(two.changed().await && told(&mut two).is_some());
    let gone = [1, 2].map(|number| Change::Remove(Key::Task(TaskId::derive([number; 17]))));
    apply(&mut cluster, &gone);
    logs.note(&cluster, |_| true);
    assert!(reader.next().await.is_none());
    assert!(two.changed().await && told(&mut two).is_none());
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_its_publications() {
    let logs = logs();
    let view = view(&[node(1), task(1, 1)]);
    let mut one = logs.listen(node_id(1));
    let mut reader = subscribe(&logs, &view, FOLLOW);
    let publication = publish(&logs, 1, &mut one);
    for _ in 0..QUEUE_MAX {
        publication.send(vec![line(1, 1)]).await.expect("it is wanted");
    }
    let mut waits = std::pin::pin!(publication.send(vec![line(1, 2)]));
    let wait = std::time::Duration::from_millis(50);
    assert!(tokio::time::timeout(wait, waits.as_mut()).await.is_err(), "it is full");
    assert_eq!(reader.next().await.map(|lines| lines.len()), Some(QUEUE_MAX));
    assert_eq!(waits.await, Ok(()), "nothing is lost");
}

#[tokio::test]
async fn only_nodes_that_were_asked_may_publish() {
    let logs = logs();
    let view = view(&[node(1), node(2), task(1, 1)]);
    let (mut one, _two) = (logs.listen(node_id(1)), logs.listen(node_id(2)));
    let _reader = subscribe(&logs, &view, ALL);
    let (id, _) = told(&mut one).expect("it is asked");
    for (node, id) in [(2, id.as_str()), (1, &"0".repeat(25)), (1, "x")] {
        let refused = logs.publish(node_id(node), id).err();
        assert_eq!(refused, Some(UnknownSubscription), "{node} {id}");
    }
    assert!(logs.publish(node_id(1), &id).is_ok());
}

#[tokio::test]
async fn there_are_only_so_many() {
    let logs = logs();
    let view = view(&[node(1), task(1, 1)]);
    let _one = logs.listen(node_id(1));
    let mut readers: Vec<Reader> =
        (0..SUBSCRIPTIONS_MAX).map(|_| subscribe(&logs, &view, ALL)).collect();
    let again = || logs.subscribe(|| view.clone(), Subject::Service(SERVICE), ALL);
    let refused = again().err().map(|refusal| refusal.reason);
    assert_eq!(refused, Some(Reason::Unavailable));
    readers.pop();
    assert!(again().is_ok());
}
