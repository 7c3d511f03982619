//! `docker service logs` against simulated engines.

use purser::wire::proto::LogMessage;

use crate::kit::agent::cluster::{Cluster, service};
use crate::kit::docker::docker;

#[test]
fn the_docker_command_shows_lines_with_their_task_and_node() {
    let cluster = Cluster::new("cli-logs");
    let socket = cluster.purser.socket();
    let agent = cluster.engine();
    cluster.until_node(agent.node_id(), "ready");
    let mut spec = service("web", 1, &[]);
    spec["TaskTemplate"]["Placement"] = serde_json::json!({"Constraints": ["node.role==worker"]});
    let service = cluster.service(&spec);
    let task = cluster.until_running("web", 1).remove(0);
    let cases = [
        ("service logs web".to_owned(), format!("web.1.{}@simulated    | hello", &task[..12])),
        ("service logs --raw -t web".into(), "1970-01-01T00:00:07.000000005Z hello".into()),
        (format!("service logs --no-resolve --no-trunc {task}"), String::new()),
    ];
    let mut count = 1;
    for (args, expected) in cases {
        let said = std::thread::scope(|scope| {
            let asking = scope.spawn(|| docker(&socket, &args));
            let publishing = agent.publish(&agent.asked(count).id);
            publishing.send(publishing.line(&service, &task, 7, "hello\n"));
            publishing.close().expect("it is thanked");
            asking.join().expect("docker ends")
        });
        count += 2;
        assert!(agent.asked(count - 1).close);
        let out = said.ok();
        assert!(out.ends_with("hello") && (expected.is_empty() || out == expected), "{out}");
    }
    assert_eq!(docker(&socket, "service logs nope").refused(), "no such task or service: nope");
    let tail = docker(&socket, "service logs --tail x web").refused();
    assert_eq!(tail, "tail value must be a positive integer or \"all\"");
    // An engine that says something which it may not, and is not listened to any more.
    let said = std::thread::scope(|scope| {
        let asking = scope.spawn(|| docker(&socket, "service logs web"));
        let publishing = agent.publish(&agent.asked(count).id);
        publishing.send(publishing.line(&service, &task, 7, "hello\n"));
        let unknown = LogMessage { stream: 0, ..publishing.line(&service, &task, 7, "x\n") };
        publishing.send(unknown);
        let _ = publishing.answer();
        asking.join().expect("docker ends")
    });
    assert_eq!(said.code, 1, "{said:?}");
    let end = format!("incomplete log stream: node {} is not available", agent.node_id());
    assert!(said.out.ends_with("hello") && said.err.ends_with(&end), "{said:?}");
}
