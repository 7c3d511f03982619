//! `docker node`, against a purser without an engine: its one node is the manager itself.

use crate::kit::docker::docker;
use crate::kit::purser::Purser;

#[test]
fn node_ls_marks_this_node_as_leader() {
    let purser = Purser::swarm("node-ls");
    let socket = purser.socket();
    let id = docker(&socket, "info -f {{.Swarm.NodeID}}").ok();
    let table = docker(&socket, "node ls").ok();
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("ID "), "{table}");
    assert!(lines[1].starts_with(&format!("{id} *")), "{table}");
    assert!(lines[1].contains("Leader"), "{table}");
    let row = "{{.Self}} {{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}}";
    let host = docker(&socket, "info -f {{.Name}}").ok();
    assert!(!host.is_empty());
    assert_eq!(
        docker(&socket, &format!("node ls --format '{row}'")).ok(),
        format!("true {host} Down Active Leader")
    );
    assert_eq!(docker(&socket, "node ls -q --filter role=manager").ok(), id);
    assert_eq!(docker(&socket, "node ls -q --filter role=worker").ok(), "");
    assert_eq!(docker(&socket, "node ls -q --filter membership=accepted").ok(), id);
    assert_eq!(docker(&socket, "node ls --filter role=zz").refused(), "Invalid role filter: 'zz'");
    assert_eq!(docker(&socket, "node ls --filter zz=1").refused(), "invalid filter 'zz'");
}

#[test]
fn node_inspect_understands_self() {
    let purser = Purser::swarm("node-self");
    let socket = purser.socket();
    let id = docker(&socket, "info -f {{.Swarm.NodeID}}").ok();
    assert_eq!(docker(&socket, "node inspect -f {{.ID}} self").ok(), id);
    let pretty = docker(&socket, "node inspect --pretty self").ok();
    assert!(pretty.contains(&id) && pretty.contains("Raft Status:\t\tReachable"), "{pretty}");
    assert!(pretty.contains("No engine is attached to this manager"), "{pretty}");
    let said = docker(&socket, "node inspect nope");
    assert_eq!(said.out, "[]");
    assert_eq!(said.refused(), "node nope not found");
}

#[test]
fn node_ps_without_tasks_is_an_empty_table() {
    let purser = Purser::swarm("node-ps");
    let socket = purser.socket();
    assert_eq!(docker(&socket, "node ps -q self").ok(), "");
    assert_eq!(docker(&socket, "node ps -q").ok(), "");
    let said = docker(&socket, "node ps nope");
    assert_eq!(said.code, 1);
    assert!(said.err.contains("node nope not found"), "{}", said.err);
}

#[test]
fn node_update_changes_labels_and_availability() {
    let purser = Purser::swarm("node-update");
    let socket = purser.socket();
    let id = docker(&socket, "info -f {{.Swarm.NodeID}}").ok();
    let shown = || {
        let format = "'{{.Spec.Availability}} {{.Spec.Role}} {{.Spec.Labels}}'";
        docker(&socket, &format!("node inspect -f {format} self")).ok()
    };
    assert_eq!(
        docker(&socket, &format!("node update --label-add a=1 --label-add b {id}")).ok(),
        id
    );
    assert_eq!(shown(), "active manager map[a:1 b:]");
    assert_eq!(docker(&socket, &format!("node update --label-rm b --label-add a=2 {id}")).ok(), id);
    assert_eq!(shown(), "active manager map[a:2]");
    assert_eq!(docker(&socket, "node ls -q --filter node.label=a=2").ok(), id);
    assert_eq!(docker(&socket, "node ls -q --filter node.label=a=1").ok(), "");
    for availability in ["drain", "pause", "active"] {
        docker(&socket, &format!("node update --availability {availability} {id}")).ok();
        assert_eq!(shown(), format!("{availability} manager map[a:2]"));
    }
    let refusal = docker(&socket, &format!("node update --availability zz {id}")).refused();
    assert_eq!(refusal, "invalid Availability: \"zz\"");
    // The client resolves `self` only where it reads.
    assert_eq!(
        docker(&socket, "node update --label-add x=y self").refused(),
        "node self not found"
    );
}

#[test]
fn node_of_the_last_manager_is_neither_demoted_nor_removed() {
    let purser = Purser::swarm("node-last");
    let socket = purser.socket();
    let id = docker(&socket, "info -f {{.Swarm.NodeID}}").ok();
    let promoted = docker(&socket, &format!("node promote {id}")).ok();
    assert_eq!(promoted, format!("Node {id} is already a manager."));
    assert_eq!(
        docker(&socket, &format!("node demote {id}")).refused(),
        "rpc error: code = FailedPrecondition desc = attempting to demote the last manager of the \
         swarm"
    );
    for args in ["", "--force "] {
        let refusal = docker(&socket, &format!("node rm {args}{id}")).refused();
        assert_eq!(
            refusal,
            format!(
                "rpc error: code = FailedPrecondition desc = node {id} is a cluster manager and is \
                 a member of the raft cluster. It must be demoted to worker before removal"
            )
        );
    }
    assert_eq!(docker(&socket, "node rm nope").refused(), "node nope not found");
}
