//! Logs between clients and nodes: who is asked for what, what comes back, and how it ends.

use std::time::Duration;

use purser::wire::proto::{LogMessage, LogSubscriptionOptions, PublishLogsMessage};
use serde_json::json;
use tonic::Code;

use crate::kit::agent::Agent;
use crate::kit::agent::cluster::{Cluster, service};
use crate::kit::http::{Answer, Flow};

/// The frames of a stream: number and payload.
fn frames(mut body: &[u8]) -> Vec<(u8, String)> {
    let mut frames = Vec::new();
    while body.len() >= 8 {
        assert_eq!(body[1..4], [0; 3], "{body:?}");
        let len = u32::from_be_bytes(body[4..8].try_into().expect("four bytes"));
        let end = 8 + usize::try_from(len).expect("a short line");
        let Some(payload) = body.get(8..end) else { break };
        frames.push((body[0], String::from_utf8_lossy(payload).into_owned()));
        body = &body[end..];
    }
    frames
}

/// A swarm in which each of these engines runs one task of the service `web`.
struct Scene {
    cluster: Cluster,
    service: String,
}

impl Scene {
    fn new(name: &str, engines: usize) -> (Scene, Vec<(Agent, String)>) {
        let cluster = Cluster::new(name);
        let agents: Vec<Agent> = (0..engines).map(|_| cluster.engine()).collect();
        for agent in &agents {
            cluster.until_node(agent.node_id(), "ready");
        }
        let mut spec = service("web", 0, &[]);
        spec["Mode"] = json!({"Global": {}});
        spec["TaskTemplate"]["Placement"] = json!({"Constraints": ["node.role==worker"]});
        let service = cluster.service(&spec);
        let tasks = cluster.until_running("web", engines);
        let runs = agents.into_iter().map(|agent| {
            let on_it = |task: &&String| cluster.task(task)["NodeID"] == *agent.node_id();
            let task = tasks.iter().find(on_it).expect("one on each").clone();
            (agent, task)
        });
        let runs = runs.collect();
        (Scene { cluster, service }, runs)
    }

    /// Asks for logs; the headers have come.
    #[track_caller]
    fn ask(&self, path: &str) -> Flow {
        let mut flow = self.cluster.client.open(path);
        flow.until("the headers come at once", |answer| {
            assert_eq!(answer.status, 200, "{}", answer.text());
            Some(())
        });
        flow
    }
}

#[track_caller]
fn until_frames(flow: &mut Flow, count: usize) -> Vec<(u8, String)> {
    flow.until(&format!("{count} frames"), |answer| {
        Some(frames(&answer.body)).filter(|frames| frames.len() >= count)
    })
}

#[test]
fn lines_come_from_every_node_and_the_end_with_the_last() {
    let (scene, runs) = Scene::new("logs-all", 2);
    let [(one, first), (two, second)] = &runs[..] else { panic!("two engines") };
    let mut flow = scene.ask("/services/web/logs?stdout=1&stderr=1&timestamps=1");
    let mut lines = Vec::new();
    for (agent, task, text) in [(one, first, "of one\n"), (two, second, "of two\n")] {
        let asked = agent.asked(1);
        let selector = asked.selector.expect("an engine dies without");
        assert_eq!((selector.service_ids, asked.close), (vec![scene.service.clone()], false));
        assert!(selector.node_ids.is_empty() && selector.task_ids.is_empty());
        assert!(asked.options == Some(LogSubscriptionOptions::default()));
        let publishing = agent.publish(&asked.id);
        let mut line = publishing.line(&scene.service, task, 1_795_224_583, text);
        line.stream = 2;
        publishing.send(line);
        lines.push((2, format!("2026-11-21T01:29:43.000000005Z {text}")));
        assert_eq!(until_frames(&mut flow, lines.len()), lines);
        assert!(!flow.has_ended);
        publishing.close().expect("it is thanked");
    }
    let answer = flow.end();
    assert_eq!(frames(&answer.body), lines);
    let media_type = "application/vnd.docker.multiplexed-stream";
    assert_eq!(answer.header("Content-Type"), Some(media_type));
    assert!(one.asked(2).close, "an agent forgets what it was asked for");
}

#[test]
fn what_a_client_asks_for_reaches_the_nodes() {
    let (scene, runs) = Scene::new("logs-ask", 1);
    let [(agent, task)] = &runs[..] else { panic!("one engine") };
    let paths = [
        format!("/tasks/{task}/logs?stdout=1&tail=3&since=7.5"),
        "/v1.41/services/web/logs?stderr=1&follow=true&tail=0".into(),
    ];
    let mut count = 0;
    for (path, streams, tail) in [(&paths[0], 1, -4), (&paths[1], 2, -1)] {
        let flow = scene.ask(path);
        count += 1;
        let asked = agent.asked(count);
        let (selector, options) =
            (asked.selector.expect("a selector"), asked.options.expect("options"));
        let follow = path.contains("follow");
        assert_eq!((options.streams, options.tail, options.follow), (vec![streams], tail, follow));
        let since = (!follow).then_some(prost_types::Timestamp { seconds: 7, nanos: 500_000_000 });
        assert_eq!(options.since, since);
        if !follow {
            assert_eq!((selector.task_ids, selector.service_ids), (vec![task.clone()], Vec::new()));
        }
        drop(flow);
        count += 1;
        let closing = agent.asked(count);
        assert!(closing.close && closing.id == asked.id, "the client is gone");
        assert!(closing.selector.is_some() && closing.options.is_some(), "an engine would die");
    }
    let (tail, media_type) = ("/v1.41/tasks/", "application/vnd.docker.raw-stream");
    let mut flow = scene.ask(&format!("{tail}{task}/logs?stdout=1&follow=1"));
    let told = flow.until("headers", |answer: &Answer| {
        Some(answer.header("Content-Type").unwrap_or_default().to_owned())
    });
    assert_eq!(told, media_type, "an older version has no other word for it");
}

#[test]
fn details_say_where_a_line_comes_from() {
    let (scene, runs) = Scene::new("logs-details", 1);
    let [(agent, task)] = &runs[..] else { panic!("one engine") };
    let flow = scene.ask("/services/web/logs?stdout=1&details=1");
    let publishing = agent.publish(&agent.asked(1).id);
    publishing.send(publishing.line(&scene.service, task, 1, "x\n"));
    publishing.close().expect("it is thanked");
    let details = format!(
        "com.docker.swarm.node.id={},com.docker.swarm.service.id={},com.docker.swarm.task.id={task}",
        agent.node_id(),
        scene.service,
    );
    assert_eq!(frames(&flow.end().body), [(1, format!("{details} x\n"))]);
}

#[test]
fn who_follows_sees_later_tasks_until_the_service_is_gone() {
    let (scene, runs) = Scene::new("logs-follow", 1);
    let [(agent, task)] = &runs[..] else { panic!("one engine") };
    let mut flow = scene.ask("/services/web/logs?stdout=1&follow=1");
    let publishing = agent.publish(&agent.asked(1).id);
    publishing.send(publishing.line(&scene.service, task, 1, "early\n"));
    until_frames(&mut flow, 1);
    // The global service comes to a new node as well.
    let late = scene.cluster.engine();
    let asked = late.asked(1);
    assert!(asked.id == publishing.id && !asked.close);
    let other = late.publish(&asked.id);
    let tasks = scene.cluster.until_running("web", 2);
    let second = tasks.iter().find(|id| *id != task).expect("the new one");
    other.send(other.line(&scene.service, second, 2, "late\n"));
    let seen = until_frames(&mut flow, 2);
    assert_eq!(seen[1], (1, "late\n".into()));
    assert!(!flow.has_ended);
    scene.cluster.remove_service("web");
    assert_eq!(frames(&flow.end().body).len(), 2, "and no error");
    for publishing in [publishing, other] {
        let code = publishing.answer().err().map(|status| status.code());
        assert_eq!(code, Some(Code::NotFound));
    }
    agent.assert_no_faults();
}

#[test]
fn a_node_that_is_gone_is_named_at_the_end() {
    let (scene, mut runs) = Scene::new("logs-gone", 3);
    let (down, _) = runs.pop().expect("a third");
    let (gone, _) = runs.pop().expect("a second");
    let (agent, task) = &runs[0];
    let (down_id, gone_id) = (down.node_id().to_owned(), gone.node_id().to_owned());
    scene.cluster.set_heartbeat(Duration::from_secs(1));
    drop(down);
    scene.cluster.until_node(&down_id, "down");
    let mut flow = scene.ask("/services/web/logs?stdout=1");
    let publishing = agent.publish(&agent.asked(1).id);
    gone.asked(1);
    drop(gone);
    scene.cluster.until_node(&gone_id, "down");
    // The others go on.
    publishing.send(publishing.line(&scene.service, task, 1, "still here\n"));
    until_frames(&mut flow, 1);
    publishing.close().expect("it is thanked");
    let frames = frames(&flow.end().body);
    assert_eq!(frames[0], (1, "still here\n".into()));
    assert_eq!((frames.len(), frames[1].0), (2, 3));
    let text = &frames[1].1;
    assert!(text.starts_with("Error grabbing logs: incomplete log stream: node "), "{text}");
    for id in [down_id, gone_id] {
        assert!(text.contains(&format!("node {id} is not available")), "{text}");
    }
    assert!(text.ends_with('\n'));
}

#[test]
fn a_node_that_connects_again_goes_on_where_it_was() {
    let (scene, mut runs) = Scene::new("logs-again", 1);
    let (agent, task) = runs.pop().expect("one engine");
    let mut flow = scene.ask("/services/web/logs?stdout=1&follow=1&tail=1");
    let publishing = agent.publish(&agent.asked(1).id);
    publishing.send(publishing.line(&scene.service, &task, 9, "before\n"));
    until_frames(&mut flow, 1);
    let again = agent.member.start();
    let asked = again.asked(1);
    assert_eq!(asked.id, publishing.id);
    let options = asked.options.expect("options");
    let since = Some(prost_types::Timestamp { seconds: 9, nanos: 6 });
    assert_eq!((options.since, options.tail), (since, 0), "what came since");
    let anew = again.publish(&asked.id);
    anew.send(anew.line(&scene.service, &task, 10, "after\n"));
    assert_eq!(until_frames(&mut flow, 2)[1].1, "after\n");
}

#[test]
fn lines_are_taken_only_from_who_was_asked_for_them() {
    let (scene, runs) = Scene::new("logs-foreign", 2);
    let [(one, first), (other, second)] = &runs[..] else { panic!("two engines") };
    let flow = scene.ask(&format!("/tasks/{first}/logs?stdout=1&follow=1"));
    let id = one.asked(1).id;
    let code = |agent: &Agent, id: &str, change: &dyn Fn(&mut LogMessage)| {
        let publishing = agent.publish(id);
        let mut line = publishing.line(&scene.service, first, 1, "x\n");
        change(&mut line);
        publishing.send(line);
        publishing.answer().err().map(|status| status.code())
    };
    assert_eq!(code(other, &id, &|_| {}), Some(Code::NotFound), "it was not asked");
    for unknown in ["0".repeat(25), "x".into(), "0".repeat(1000)] {
        assert_eq!(code(one, &unknown, &|_| {}), Some(Code::NotFound), "{unknown}");
    }
    assert_eq!(code(one, "", &|_| {}), Some(Code::InvalidArgument));
    assert!(other.seen().subscriptions.is_empty());
    drop(flow);
    assert!(one.asked(2).close);
    // Each of these breaks the stream off, so that each is one of its own.
    let (node, task) = (other.node_id().to_owned(), second.clone());
    let context = |change: &dyn Fn(&mut purser::wire::proto::LogContext), line: &mut LogMessage| {
        change(line.context.as_mut().expect("it has one"));
    };
    type Change<'a> = &'a dyn Fn(&mut LogMessage);
    let wrong: [(Change<'_>, Code); 4] = [
        (&|line| context(&|c| c.node_id = node.clone(), line), Code::PermissionDenied),
        (&|line| context(&|c| c.task_id = task.clone(), line), Code::PermissionDenied),
        (&|line| line.context = None, Code::InvalidArgument),
        (&|line| line.stream = 0, Code::InvalidArgument),
    ];
    let mut count = 2;
    for (change, expected) in wrong {
        let flow = scene.ask(&format!("/tasks/{first}/logs?stdout=1"));
        count += 1;
        assert_eq!(code(one, &one.asked(count).id, change), Some(expected));
        count += 1;
        let frames = frames(&flow.end().body);
        assert!(frames.len() == 1 && frames[0].0 == 3, "{frames:?}");
        assert!(one.asked(count).close);
    }
}

#[test]
fn a_subscription_is_named_the_same_throughout_a_stream() {
    let (scene, runs) = Scene::new("logs-ids", 1);
    let [(agent, task)] = &runs[..] else { panic!("one engine") };
    let flow = scene.ask("/services/web/logs?stdout=1");
    let publishing = agent.publish(&agent.asked(1).id);
    publishing.send(publishing.line(&scene.service, task, 1, "x\n"));
    publishing.send_message(PublishLogsMessage {
        subscription_id: "0".repeat(25),
        messages: Vec::new(),
        close: true,
    });
    let code = publishing.answer().err().map(|status| status.code());
    assert_eq!(code, Some(Code::InvalidArgument));
    assert_eq!(frames(&flow.end().body).last().map(|frame| frame.0), Some(3));
}

#[test]
fn a_client_that_does_not_read_holds_up_lines_and_nothing_else() {
    let (scene, runs) = Scene::new("logs-slow", 1);
    let [(agent, task)] = &runs[..] else { panic!("one engine") };
    let mut slow = scene.ask("/services/web/logs?stdout=1&follow=1");
    let publishing = agent.publish(&agent.asked(1).id);
    let line = publishing.line(&scene.service, task, 1, &format!("{}\n", "x".repeat(16_000)));
    let most = 2_000;
    let sent = publishing.fill(&line, most);
    assert!(sent < most, "32 MB have gone somewhere");
    agent.beat().expect("heartbeats come through");
    let mut quick = scene.ask("/services/web/logs?stdout=1&follow=1");
    let other = agent.publish(&agent.asked(2).id);
    other.send(other.line(&scene.service, task, 2, "quick\n"));
    assert_eq!(until_frames(&mut quick, 1)[0].1, "quick\n");
    agent.report(task, purser::wire::proto::TaskState::Running).expect("so do reports");
    until_frames(&mut slow, sent);
}

#[test]
fn streams_end_when_purser_stops() {
    let (mut scene, runs) = Scene::new("logs-stop", 1);
    let flow = scene.ask("/services/web/logs?stdout=1&follow=1");
    runs[0].0.asked(1);
    scene.cluster.purser.stop();
    assert!(frames(&flow.end().body).is_empty());
}
