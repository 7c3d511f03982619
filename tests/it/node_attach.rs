//! Containers that are no tasks of services: their engines attach them to networks of the swarm.

use purser::wire::proto;
use purser::wire::proto::resource_allocator_client::ResourceAllocatorClient;
use purser::wire::proto::{TaskState, task_spec};
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::kit::agent::cluster::{Cluster, service};
use crate::kit::agent::{Agent, Habits, PATIENCE, Seen, wait};
use crate::kit::eventually;

/// Id of a container.
const CONTAINER: &str = "c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ff";

/// Makes an overlay that containers may join, and gives its id.
fn attachable(cluster: &Cluster, name: &str) -> String {
    network(cluster, &json!({"Name": name, "Driver": "overlay", "Attachable": true}))
}

#[track_caller]
fn network(cluster: &Cluster, spec: &Value) -> String {
    let answer = cluster.client.post("/networks/create", spec);
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["Id"].as_str().expect("an id").to_owned()
}

/// Attaches a container, as the engine of its node does, and gives the id of the attachment.
fn attach(agent: &Agent, target: &str, addresses: &[&str]) -> Result<String, Status> {
    let addresses = addresses.iter().map(ToString::to_string).collect();
    let target = target.to_owned();
    let config = proto::NetworkAttachmentConfig { target, addresses, ..Default::default() };
    let container_id = CONTAINER.to_owned();
    let request = proto::AttachNetworkRequest { config: Some(config), container_id };
    let mut client = ResourceAllocatorClient::new(agent.channel.clone());
    wait(client.attach_network(request)).map(|answer| answer.into_inner().attachment_id)
}

fn detach(agent: &Agent, attachment: &str) -> Result<(), Status> {
    let request = proto::DetachNetworkRequest { attachment_id: attachment.to_owned() };
    let mut client = ResourceAllocatorClient::new(agent.channel.clone());
    wait(client.detach_network(request)).map(drop)
}

/// The attachments that clients see when they ask for them.
fn listed(cluster: &Cluster) -> Vec<Value> {
    let answer = cluster.client.get("/tasks?filters={\"runtime\":[\"attachment\"]}");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json().as_array().cloned().expect("a list")
}

#[track_caller]
fn until_none_is_listed(cluster: &Cluster) {
    eventually("no attachment is left", PATIENCE, || listed(cluster).is_empty().then_some(()));
}

/// True when the node of an engine has a place on a network, as its session says.
fn has_place(seen: &Seen, network: &str) -> bool {
    let node = seen.messages.last().and_then(|message| message.node.as_ref());
    let places = node.map_or(&[][..], |node| &node.attachments);
    places.iter().any(|place| place.network.as_ref().is_some_and(|known| known.id == network))
}

/// An engine in a session that reports only what the test reports.
fn silent_engine(cluster: &Cluster) -> Agent {
    let habits = Habits { reports: false, ..Habits::default() };
    cluster.join().expect("admitted").open(&habits).expect("a session")
}

#[test]
fn a_container_gets_an_address_and_gives_it_back() {
    let cluster = Cluster::new("attach");
    let (agent, other) = (cluster.engine(), cluster.engine());
    let back = attachable(&cluster, "back");
    for target in ["back", &back] {
        let id = attach(&agent, target, &[]).expect("it may be joined");
        // Answered as done: it is there for everyone at once.
        assert_eq!(cluster.task(&id)["Status"]["State"], "assigned", "{target}");
        let sent = agent.until("the attachment", |seen| {
            let sent = seen.model.tasks.get(&id).cloned()?;
            assert!(has_place(seen, &back), "an engine gives up what comes before that");
            Some(sent)
        });
        let spec = sent.spec.as_ref().expect("sent");
        let Some(task_spec::Runtime::Attachment(of)) = &spec.runtime else {
            panic!("of a container")
        };
        assert_eq!((&*of.container_id, &*spec.networks[0].target), (CONTAINER, &*back));
        assert_eq!((&*sent.service_id, &*sent.node_id), ("", agent.node_id()));
        assert!(sent.desired_state() == TaskState::Running);
        let [place] = &sent.networks[..] else { panic!("{} networks", sent.networks.len()) };
        assert!(place.network.as_ref().is_some_and(|network| network.driver_state.is_some()));
        assert!(place.addresses[0].starts_with("10.0.1.") && place.addresses[0].ends_with("/24"));
        cluster.until_task(&id, "running");
        detach(&agent, &id).expect("it is its own");
        agent.until("it is taken away", |seen| (!seen.model.tasks.contains_key(&id)).then_some(()));
        agent.until("the place goes with it", |seen| (!has_place(seen, &back)).then_some(()));
        assert_eq!(cluster.client.get(&format!("/tasks/{id}")).status, 404);
    }
    assert_eq!(other.seen().messages.len(), 1, "nobody else hears of it");
    assert_eq!(cluster.client.delete("/networks/back").status, 204);
    agent.assert_no_faults();
}

#[test]
fn clients_see_an_attachment_when_they_ask_for_it() {
    let cluster = Cluster::new("attach-seen");
    let agent = cluster.engine();
    attachable(&cluster, "back");
    let id = attach(&agent, "back", &["10.0.1.77"]).expect("it may be joined");
    cluster.until_task(&id, "running");
    let task = cluster.task(&id);
    assert_eq!(task.get("ServiceID"), None, "it is of none");
    assert_eq!(
        (&task["NodeID"], &task["DesiredState"]),
        (&json!(agent.node_id()), &json!("running"))
    );
    let spec = &task["Spec"];
    assert_eq!(spec["NetworkAttachmentSpec"], json!({"ContainerID": CONTAINER}));
    assert_eq!(spec["Runtime"], "attachment");
    assert_eq!(spec.get("ContainerSpec"), None);
    assert_eq!(task["NetworksAttachments"][0]["Addresses"], json!(["10.0.1.77/24"]));
    // The docker command looks for an image in all that it lists.
    assert_eq!(cluster.client.get("/tasks").json(), json!([]));
    assert_eq!(
        cluster.client.get("/tasks?filters={\"runtime\":[\"container\"]}").json(),
        json!([])
    );
    assert_eq!(listed(&cluster), [task]);
    let refused = cluster.client.delete("/networks/back");
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(refused.message().contains(&format!("is in use by task {id}")), "{}", refused.text());
}

#[test]
fn what_cannot_be_attached_is_refused_and_leaves_nothing() {
    let cluster = Cluster::new("attach-no");
    let (agent, other) = (cluster.engine(), cluster.engine());
    attachable(&cluster, "back");
    network(&cluster, &json!({"Name": "shut", "Driver": "overlay"}));
    let own = attach(&other, "back", &["10.0.1.9"]).expect("it may be joined");
    let refusal = |target: &str, addresses: &[&str]| {
        let status = attach(&agent, target, addresses).expect_err("it is refused");
        (status.code(), status.message().to_owned())
    };
    let is = |code, text: &str| (code, text.to_owned());
    assert_eq!(refusal("nowhere", &[]), is(Code::NotFound, "network nowhere not found"));
    assert_eq!(refusal("host", &[]), is(Code::NotFound, "network host not found"));
    for target in ["shut", "ingress"] {
        let text = format!("network {target} is not attachable");
        assert_eq!(refusal(target, &[]), (Code::PermissionDenied, text));
    }
    let text = "address 10.0.1.9 of network back is taken";
    assert_eq!(refusal("back", &["10.0.1.9"]), is(Code::FailedPrecondition, text));
    let text = "address 10.9.1.9 is in no subnet of network back";
    assert_eq!(refusal("back", &["10.9.1.9"]), is(Code::InvalidArgument, text));
    let text = "one IPv4 address may be asked for at most";
    assert_eq!(refusal("back", &["fd00::9"]), is(Code::InvalidArgument, text));
    let text = "a network is needed";
    assert_eq!(refusal("", &[]), is(Code::InvalidArgument, text));

    let refusal = |of: &str| detach(&agent, of).map_err(|status| status.code());
    assert_eq!(refusal(&own), Err(Code::PermissionDenied), "it is the other's");
    assert_eq!(refusal("nothing"), Err(Code::NotFound));
    assert_eq!(refusal(agent.node_id()), Err(Code::NotFound));
    cluster.service(&service("web", 1, &[]));
    let task = &cluster.until_running("web", 1)[0];
    assert_eq!(refusal(task), Err(Code::NotFound), "that is no attachment");

    // One address for a container and one for its node, after that only one for another node.
    let small = json!({"Name": "small", "Driver": "overlay", "Attachable": true, "IPAM": {
        "Config": [{"Subnet": "10.9.0.0/29", "AuxiliaryAddresses": {"a": "10.9.0.5", "b": "10.9.0.6"}}]}});
    network(&cluster, &small);
    attach(&agent, "small", &[]).expect("there is room");
    for agent in [&agent, &other] {
        let status = attach(agent, "small", &[]).expect_err("there is none left");
        let text = "no free address is left on network small";
        assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, text));
    }
    assert_eq!(listed(&cluster).len(), 2);
    let door = crate::kit::agent::door::Dial { credentials: None, ..agent.member.dial() };
    let channel = wait(door.channel()).expect("whoever comes may say what it wants");
    let request = proto::DetachNetworkRequest { attachment_id: own.clone() };
    let status = wait(ResourceAllocatorClient::new(channel).detach_network(request));
    assert_eq!(status.map(drop).map_err(|status| status.code()), Err(Code::PermissionDenied));
    cluster.until_task(&own, "running");
}

#[test]
fn an_attachment_that_ends_is_forgotten() {
    let cluster = Cluster::new("attach-ends");
    let agent = silent_engine(&cluster);
    let back = attachable(&cluster, "back");
    // An engine that was started again knows nothing of the containers that it had.
    for state in [TaskState::Failed, TaskState::Rejected, TaskState::Complete] {
        let id = attach(&agent, "back", &[]).expect("it may be joined");
        agent.until("the attachment", |seen| seen.model.tasks.contains_key(&id).then_some(()));
        agent.report(&id, state).expect("believed");
        until_none_is_listed(&cluster);
        agent.until("its end is known", |seen| (!seen.model.tasks.contains_key(&id)).then_some(()));
        agent.until("so is the place's", |seen| (!has_place(seen, &back)).then_some(()));
        // It leaves by and by; that is no news.
        agent.report(&id, TaskState::Complete).expect("a task that is gone is no error");
        assert_eq!(detach(&agent, &id).map_err(|status| status.code()), Err(Code::NotFound));
    }
    // With the node goes what it had.
    attach(&agent, "back", &[]).expect("it may be joined");
    assert_eq!(cluster.client.delete("/networks/back").status, 400);
    cluster.remove_node(agent.node_id());
    until_none_is_listed(&cluster);
    assert_eq!(cluster.client.delete("/networks/back").status, 204);
}

#[test]
fn a_container_stays_where_it_is() {
    let mut cluster = Cluster::new("attach-stays");
    let agent = cluster.engine();
    attachable(&cluster, "back");
    let id = attach(&agent, "back", &[]).expect("it may be joined");
    cluster.until_task(&id, "running");
    // No service asked for it, so a node that is drained keeps it and gets others.
    cluster.update_node(agent.node_id(), |spec| spec["Availability"] = json!("drain"));
    let second = attach(&agent, "back", &[]).expect("its user may");
    cluster.until_task(&second, "running");
    cluster.service(&service("web", 1, &[]));
    assert_eq!(cluster.task(&id)["DesiredState"], "running");

    let member = agent.member.clone();
    drop(agent);
    cluster.purser.kill();
    cluster.purser.start();
    let agent = member.start();
    let known = agent.until("what it has is told", |seen| {
        let known: Vec<String> = seen.model.tasks.keys().cloned().collect();
        (known.len() == 2).then_some(known)
    });
    assert!(known.contains(&id) && known.contains(&second), "{known:?}");
    for attachment in [&id, &second] {
        detach(&agent, attachment).expect("it is its own");
    }
    until_none_is_listed(&cluster);
    assert_eq!(cluster.client.delete("/networks/back").status, 204);
    agent.assert_no_faults();
}
