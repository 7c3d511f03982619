//! Sessions: what a node is told of itself and its managers, its heartbeats, and how sessions end.

use std::time::Duration;

use purser::wire::proto;
use purser::wire::proto::SessionMessage;
use purser::wire::proto::dispatcher_client::DispatcherClient;
use serde_json::json;
use tonic::{Code, Status};

use crate::kit::agent::cluster::{Cluster, on_node, service};
use crate::kit::agent::{Agent, Habits, PATIENCE, Seen, wait};
use crate::kit::eventually;

/// Everything that an engine needs is in every message: it keeps only what the last one said.
fn check_whole(message: &SessionMessage, cluster: &Cluster, agent: &Agent) {
    assert_eq!(message.session_id, agent.id);
    let node = message.node.as_ref().expect("a node");
    assert_eq!(node.id, agent.node_id());
    let worker = proto::NodeRole::Worker;
    assert!(node.role() == worker);
    let spec = node.spec.as_ref().expect("a spec");
    assert!(spec.desired_role() == worker);
    assert_eq!(spec.membership, proto::node_spec::Membership::Accepted as i32);
    assert!(spec.annotations.is_some());
    let certificate = node.certificate.as_ref().expect("a certificate");
    assert!(certificate.role() == worker);
    assert_eq!(certificate.cn, agent.node_id());
    let state = certificate.status.as_ref().map(proto::IssuanceStatus::state);
    assert!(state == Some(proto::issuance_status::State::Issued));
    let managers = message.managers.iter().map(|manager| {
        assert!(manager.weight > 0);
        manager.peer.as_ref().expect("a peer")
    });
    let managers: Vec<_> = managers.map(|peer| (peer.node_id.clone(), peer.addr.clone())).collect();
    let nodes = cluster.client.get("/nodes").json();
    let nodes = nodes.as_array().expect("a list");
    let manager = nodes.iter().find(|node| node["Spec"]["Role"] == "manager");
    let id = manager.and_then(|node| node["ID"].as_str()).expect("the manager's node");
    assert_eq!(managers, [(id.to_owned(), cluster.addr.to_string())]);
    assert_eq!(message.root_ca, agent.member.root.as_bytes());
    for subsystem in ["networking:gossip", "networking:ipsec"] {
        let keys = message.network_bootstrap_keys.iter().filter(|key| key.subsystem == subsystem);
        let keys: Vec<_> = keys.collect();
        // An engine sends with the second key, and has no overlay networks without.
        assert_eq!(keys.len(), 3);
        assert!(keys.iter().all(|key| key.key.len() == 16));
        assert!(keys.is_sorted_by(|one, next| one.lamport_time < next.lamport_time));
    }
}

#[test]
fn every_session_message_is_whole() {
    let cluster = Cluster::new("whole");
    let agent = cluster.engine();
    check_whole(&agent.seen().messages[0], &cluster, &agent);
    cluster.until_node(agent.node_id(), "ready");
    cluster.update_node(agent.node_id(), |spec| spec["Labels"] = json!({"zone": "a"}));
    cluster.update_node(agent.node_id(), |spec| spec["Availability"] = json!("drain"));
    let told = |seen: &Seen| {
        let spec = seen.messages.last()?.node.as_ref()?.spec.as_ref()?;
        let labels = &spec.annotations.as_ref()?.labels;
        let drained = spec.availability == proto::node_spec::Availability::Drain as i32;
        (labels.get("zone").is_some_and(|zone| zone == "a") && drained).then_some(())
    };
    agent.until("it is told of its labels and availability", told);
    agent.member.renew().expect("signed");
    agent.until("and of its certificate", |seen| (seen.messages.len() >= 3).then_some(()));
    for message in &agent.seen().messages {
        check_whole(message, &cluster, &agent);
    }
    let node = cluster.node(agent.node_id());
    assert_eq!(node["Description"]["Hostname"], "simulated");
    assert_eq!(node["Description"]["Engine"]["EngineVersion"], "29.7.2");
    assert_eq!(node["Status"]["Addr"], "127.0.0.1");
}

#[test]
fn the_managers_own_engine_is_told_that_it_is_a_worker() {
    // An engine that reads MANAGER anywhere starts a raft member of its own. No node of the API may
    // be made one either.
    let cluster = Cluster::new("worker");
    let agent = cluster.engine();
    cluster.until_node(agent.node_id(), "ready");
    let node = cluster.node(agent.node_id());
    let mut spec = node["Spec"].clone();
    spec["Role"] = json!("manager");
    let path = format!("/nodes/{}/update?version={}", agent.node_id(), node["Version"]["Index"]);
    let refused = cluster.client.post(&path, &spec);
    assert_ne!(refused.status, 200);
    assert!(refused.message().contains("promoted"), "{}", refused.text());
}

#[test]
fn the_heartbeat_follows_the_settings_and_is_never_zero() {
    let cluster = Cluster::new("beat");
    let agent = cluster.member_without_beats();
    let period = agent.beat().expect("a period");
    let about = |period: Duration, seconds: f64| {
        let ratio = period.as_secs_f64() / seconds;
        assert!((0.9..=1.1).contains(&ratio), "{period:?} for {seconds} s");
    };
    about(period, 5.0);
    cluster.set_heartbeat(Duration::from_secs(2));
    about(agent.beat().expect("a period"), 2.0);
    cluster.set_heartbeat(Duration::from_nanos(1));
    let mut periods = Vec::new();
    for _ in 0..20 {
        let period = agent.beat().expect("a period");
        assert!(period >= Duration::from_secs(1), "{period:?} would be a busy loop");
        periods.push(period);
    }
    assert!(periods.iter().any(|period| *period != periods[0]), "nodes drift apart");
    std::thread::sleep(Duration::from_millis(1500));
    agent.beat().expect("a node that beats as it is told is not lost");
    cluster.set_heartbeat(Duration::from_nanos(i64::MAX.unsigned_abs()));
    agent.beat().expect("nor does the longest period harm");
    cluster.set_heartbeat(Duration::from_secs(5));
    about(agent.beat().expect("a period"), 5.0);
}

impl Cluster {
    /// An engine in a session that does nothing by itself.
    fn member_without_beats(&self) -> Agent {
        let habits = Habits { beats: false, listens: false, reports: false, ..Habits::default() };
        self.join().expect("admitted").open(&habits).expect("a session")
    }
}

/// The codes of heartbeat, assignments and report with this session id.
fn codes(agent: &Agent, id: &str) -> [Option<Code>; 3] {
    let mut client = agent.dispatcher();
    let session_id = id.to_owned();
    let code = |status: Result<(), Status>| status.err().map(|status| status.code());
    wait(async {
        let beat = proto::HeartbeatRequest { session_id: session_id.clone() };
        let assignments = proto::AssignmentsRequest { session_id: session_id.clone() };
        let report = proto::UpdateTaskStatusRequest { session_id, updates: Vec::new() };
        [
            code(client.heartbeat(beat).await.map(|_| ())),
            code(client.assignments(assignments).await.map(|_| ())),
            code(client.update_task_status(report).await.map(|_| ())),
        ]
    })
}

#[test]
fn calls_name_the_present_session() {
    let cluster = Cluster::new("ids");
    let (one, other) = (cluster.engine(), cluster.engine());
    for wrong in ["", "x", &"0".repeat(25), &other.id] {
        assert_eq!(codes(&one, wrong), [Some(Code::InvalidArgument); 3], "{wrong:?}");
    }
    assert_eq!(codes(&one, &one.id), [None; 3], "while its own is fine");
    // A member without any session.
    let member = cluster.join().expect("admitted");
    let status = wait(async {
        let mut client = DispatcherClient::new(member.dial().channel().await.expect("open"));
        client.heartbeat(proto::HeartbeatRequest { session_id: "0".repeat(25) }).await.map(|_| ())
    });
    assert_eq!(status.map_err(|status| status.code()), Err(Code::NotFound));
}

#[test]
fn a_new_session_ends_the_streams_of_the_old_one() {
    let cluster = Cluster::new("replace");
    let old = cluster.engine();
    old.until("assignments", |seen| seen.assignments.first().map(|_| ()));
    let new = old.member.start();
    assert_ne!(new.id, old.id, "nothing was offered for resumption");
    assert_aborted(&old);
    assert_eq!(codes(&old, &old.id), [Some(Code::InvalidArgument); 3]);

    let habits = Habits { session_id: new.id.clone(), ..Habits::default() };
    let resumed = new.member.open(&habits).expect("a session");
    assert_eq!(resumed.id, new.id, "resumed");
    assert_aborted(&new);
    resumed.until("a chain of its own", |seen| seen.assignments.first().map(|_| ()));
    for agent in [&old, &new] {
        eventually("their connections end too", PATIENCE, || agent.is_closed().then_some(()));
    }
    assert!(!resumed.is_closed());
    resumed.beat().expect("it lives");
    resumed.assert_no_faults();
}

/// All three streams end, and say so.
#[track_caller]
fn assert_aborted(agent: &Agent) {
    agent.until("all streams end", |seen| {
        let ends = [&seen.session_end, &seen.assignments_end, &seen.subscriptions_end];
        ends.iter().all(|end| end.is_some()).then(|| {
            for end in ends.into_iter().flatten() {
                assert_eq!(end.code(), Code::Aborted, "{end}");
            }
        })
    });
}

#[test]
fn a_session_has_one_stream_of_assignments() {
    let cluster = Cluster::new("onestream");
    let agent = cluster.engine();
    agent.until("assignments", |seen| seen.assignments.first().map(|_| ()));
    let mut client = agent.dispatcher();
    let second = wait(async {
        let request = proto::AssignmentsRequest { session_id: agent.id.clone() };
        client.assignments(request).await?.into_inner().message().await
    });
    let second = second.expect("a stream").expect("a message");
    assert_eq!((&*second.applies_to, second.r#type), ("", 0), "complete again");
    agent.until("the first one ends", |seen| {
        let end = seen.assignments_end.as_ref()?;
        assert_eq!(end.code(), Code::Aborted);
        Some(())
    });
    assert!(agent.seen().session_end.is_none(), "the session itself goes on");
}

#[test]
fn sessions_that_keep_failing_are_slowed_down() {
    let cluster = Cluster::new("storm");
    let member = cluster.join().expect("admitted");
    let habits = Habits::default();
    let agents: Vec<Agent> = (0..3).map(|_| member.open(&habits).expect("a session")).collect();
    let refused = member.open(&habits).err().map(|status| status.code());
    assert_eq!(refused, Some(Code::Unavailable));
    agents[2].beat().expect("the last one goes on");
    let other = cluster.engine();
    other.beat().expect("other nodes are not slowed down");
}

#[test]
fn a_removed_node_is_out_at_once_and_for_good() {
    let mut cluster = Cluster::new("removed");
    let (agent, other) = (cluster.engine(), cluster.engine());
    agent.until("assignments", |seen| seen.assignments.first().map(|_| ()));
    cluster.remove_node(agent.node_id());
    agent.until("its streams end", |seen| {
        let ends = [&seen.session_end, &seen.assignments_end, &seen.subscriptions_end];
        ends.iter().all(|end| end.is_some()).then_some(())
    });
    let denied = Some(Code::PermissionDenied);
    for round in ["at once", "after a restart"] {
        let agent = &agent;
        if round == "at once" {
            assert_eq!(codes(agent, &agent.id), [denied; 3], "on the connection that it has");
            let listen = proto::ListenSubscriptionsRequest {};
            let listened = wait(agent.logs().listen_subscriptions(listen)).map(|_| ());
            assert_eq!(listened.err().map(|status| status.code()), denied);
        }
        let opened = agent.member.open(&Habits::default()).err();
        assert_eq!(opened.map(|status| status.code()), denied, "{round}");
        let renewed = agent.member.renew().err();
        assert_eq!(renewed.map(|status| status.code()), denied, "{round}");
        if round == "at once" {
            other.beat().expect("others stay");
            cluster.purser.kill();
            cluster.purser.start();
        }
    }
    assert_eq!(cluster.node_count(), 2);
}

#[test]
fn leaving_ends_all_streams_and_the_same_address_can_be_used_again() {
    let cluster = Cluster::new("leave");
    let agent = cluster.engine();
    agent.until("assignments", |seen| seen.assignments.first().map(|_| ()));
    let (token, addr) = (cluster.token("Worker"), cluster.addr.to_string());
    for _ in 0..3 {
        assert_eq!(cluster.client.post("/swarm/leave?force=true", &json!({})).status, 200);
        cluster.purser.init(&addr);
    }
    agent.until("its streams end", |seen| {
        let ends = [&seen.session_end, &seen.assignments_end, &seen.subscriptions_end];
        ends.iter().all(|end| end.is_some()).then_some(())
    });
    let renewed = agent.member.renew().err();
    assert!(renewed.is_some(), "a certificate of the swarm before");
    let stale = crate::kit::agent::Member::join(cluster.addr, &token).err();
    assert_eq!(stale.map(|status| status.code()), Some(Code::DataLoss), "the root is another");
    let next = cluster.engine();
    next.until("assignments", |seen| seen.assignments.first().map(|_| ()));
    cluster.until_node(next.node_id(), "ready");
}

#[test]
fn a_manager_that_stops_says_goodbye() {
    let mut cluster = Cluster::new("stop");
    let agent = cluster.engine();
    agent.until("assignments", |seen| seen.assignments.first().map(|_| ()));
    cluster.purser.stop();
    assert_aborted(&agent);
}

#[test]
fn logs_are_listened_for_and_nothing_else_is_promised() {
    let cluster = Cluster::new("logs");
    let agent = cluster.engine();
    agent.until("assignments", |seen| seen.assignments.first().map(|_| ()));
    let code = |status: Result<(), Status>| status.err().map(|status| status.code());
    let publish = |id: &str| {
        let message =
            proto::PublishLogsMessage { subscription_id: id.into(), ..Default::default() };
        let mut logs = agent.logs();
        code(wait(async { logs.publish_logs(tokio_stream::iter([message])).await.map(|_| ()) }))
    };
    assert_eq!(publish(&"0".repeat(25)), Some(Code::NotFound));
    assert_eq!(publish(""), Some(Code::InvalidArgument));
    let mut client = agent.dispatcher();
    let session_id = agent.id.clone();
    let (tasks, volumes) = wait(async {
        let tasks = proto::TasksRequest { session_id: session_id.clone() };
        let volumes = proto::UpdateVolumeStatusRequest { session_id, updates: Vec::new() };
        let tasks = client.tasks(tasks).await.map(|_| ());
        (tasks, client.update_volume_status(volumes).await.map(|_| ()))
    });
    assert_eq!([code(tasks), code(volumes)], [Some(Code::Unimplemented); 2]);
    std::thread::sleep(Duration::from_millis(300));
    assert!(agent.seen().subscriptions_end.is_none(), "it is held open");
}

#[test]
fn after_a_crash_nodes_are_unknown_until_they_come_back_or_their_time_is_up() {
    let mut cluster = Cluster::new("crash");
    cluster.set_heartbeat(Duration::from_secs(1));
    let (back, gone) = (cluster.engine(), cluster.engine());
    for agent in [&back, &gone] {
        cluster.until_node(agent.node_id(), "ready");
    }
    cluster.service(&on_node(service("web", 1, &[]), gone.node_id()));
    cluster.until_running("web", 1);
    let (back_id, gone_id) = (back.node_id().to_owned(), gone.node_id().to_owned());
    let member = back.member.clone();
    drop((back, gone));
    cluster.purser.kill();
    cluster.purser.start();
    let started = tokio::time::Instant::now();
    for id in [&back_id, &gone_id] {
        assert_eq!(cluster.node_state(id), "unknown");
    }
    let back = member.start();
    cluster.until_node(&back_id, "ready");
    while started.elapsed() < Duration::from_secs(5) {
        assert_eq!(cluster.node_state(&gone_id), "unknown", "{:?}", started.elapsed());
        assert_eq!(cluster.tasks("web")[0]["DesiredState"], "running", "nothing is moved yet");
        std::thread::sleep(Duration::from_millis(200));
    }
    cluster.until_node(&gone_id, "down");
    let elapsed = started.elapsed();
    assert!(elapsed < Duration::from_secs(9), "six periods, not {elapsed:?}");
    assert_eq!(cluster.node_state(&back_id), "ready");
    back.assert_no_faults();
}

#[test]
fn a_node_that_is_not_heard_of_is_down_until_it_is() {
    let cluster = Cluster::new("down");
    cluster.set_heartbeat(Duration::from_secs(1));
    let agent = cluster.engine();
    cluster.until_node(agent.node_id(), "ready");
    let member = agent.member.clone();
    drop(agent);
    let since = tokio::time::Instant::now();
    cluster.until_node(&member.node_id, "down");
    let elapsed = since.elapsed();
    assert!(elapsed > Duration::from_millis(1800), "not before its beats are missed: {elapsed:?}");
    assert!(elapsed < Duration::from_secs(7), "three periods, not {elapsed:?}");
    assert_eq!(cluster.node(&member.node_id)["Status"]["Message"], "heartbeat failure");
    let agent = member.start();
    cluster.until_node(&member.node_id, "ready");
    assert!(cluster.node(&member.node_id)["Status"]["Message"].is_null());
    agent.beat().expect("it is back");
}

#[test]
fn a_host_that_goes_away_before_its_first_session_is_noticed() {
    let cluster = Cluster::new("vanish");
    cluster.set_heartbeat(Duration::from_secs(1));
    let member = cluster.join().expect("admitted");
    assert_eq!(cluster.node_state(&member.node_id), "unknown");
    cluster.until_node(&member.node_id, "down");
    let agent = member.start();
    cluster.until_node(agent.node_id(), "ready");
}

#[test]
fn a_changed_description_is_stored_and_an_unchanged_one_is_not_written() {
    let cluster = Cluster::new("describe");
    let agent = cluster.engine();
    cluster.until_node(agent.node_id(), "ready");
    let version = cluster.node(agent.node_id())["Version"]["Index"].clone();
    let habits = Habits { session_id: agent.id.clone(), ..Habits::default() };
    let again = agent.member.open(&habits).expect("a session");
    assert_eq!(cluster.node(agent.node_id())["Version"]["Index"], version);
    let habits = Habits { hostname: "renamed".into(), session_id: again.id.clone(), ..habits };
    let _renamed = agent.member.open(&habits).expect("a session");
    eventually("the new name is shown", PATIENCE, || {
        let node = cluster.node(agent.node_id());
        (node["Description"]["Hostname"] == "renamed").then_some(())
    });
}
