//! Overlay networks on stock engines: tasks on different nodes reach each other, by address and by
//! name; what happens to them when nodes come, purser goes, and networks change.
//!
//! The kernel at hand may lack IPVS, so nothing here sends anything to a virtual address or through
//! the routing mesh: what is tested of these is that the engines were told, and told each other.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::api_table::filters;
use crate::kit::engine::{Engine, PATIENCE, Running, Site};
use crate::kit::eventually;

/// How long engines may take to tell each other of a task. They do so at once, and what one missed
/// it hears when they compare all they know, every 30 s. One that did not find the others at its
/// start tries again after 60 s, which would be too late.
const GOSSIP_TIME: Duration = Duration::from_secs(55);

/// A service with a task on each node, which its name leads to.
const RR: &str = "service create -d --mode global --endpoint-mode dnsrr --stop-grace-period 1s";

impl Site {
    /// Where a task is on a network.
    #[track_caller]
    fn address(&self, task: &Running, network: &str) -> Ipv4Addr {
        let shown = self.purser.client().get(&format!("/tasks/{}", task.task)).json();
        let places = shown["NetworksAttachments"].as_array().cloned().unwrap_or_default();
        let place = places.iter().find(|place| place["Network"]["Spec"]["Name"] == network);
        let address = place.map(|place| host(&place["Addresses"][0]));
        address.unwrap_or_else(|| panic!("not on {network}: {shown}"))
    }

    /// Where all tasks of a service are on a network.
    #[track_caller]
    fn addresses(&self, service: &str, network: &str) -> BTreeSet<Ipv4Addr> {
        self.running(service).iter().map(|task| self.address(task, network)).collect()
    }

    /// The virtual address that a service has on a network.
    #[track_caller]
    fn virtual_address(&self, service: &str, network: &str) -> Ipv4Addr {
        let client = self.purser.client();
        let network = client.get(&format!("/networks/{network}")).json()["Id"].clone();
        let endpoint = client.get(&format!("/services/{service}")).json()["Endpoint"].clone();
        let all = endpoint["VirtualIPs"].as_array().cloned().unwrap_or_default();
        let own = all.iter().find(|address| address["NetworkID"] == network);
        own.map(|address| host(&address["Addr"])).expect("the service has one there")
    }

    /// Waits until each of the tasks has an answer from each of the addresses.
    #[track_caller]
    fn await_reach(&self, tasks: &[Running], addresses: &BTreeSet<Ipv4Addr>) {
        for task in tasks {
            for to in addresses {
                eventually(&format!("{to} answers {task:?}"), GOSSIP_TIME, || {
                    (self.exec(task, &format!("ping -c 1 -W 1 {to}")).code == 0).then_some(())
                });
            }
        }
    }

    /// Waits until a name leads each of the tasks to exactly these addresses.
    #[track_caller]
    fn await_name(&self, tasks: &[Running], name: &str, expected: &BTreeSet<Ipv4Addr>) {
        for task in tasks {
            eventually(&format!("{name} is {expected:?}"), GOSSIP_TIME, || {
                let said = self.exec(task, &format!("nslookup {name}")).out;
                let lines = said.lines().filter_map(|line| line.strip_prefix("Address:"));
                let found: BTreeSet<_> =
                    lines.filter_map(|line| line.trim().parse().ok()).collect();
                (found == *expected).then_some(())
            });
        }
    }
}

/// The host of `10.0.1.2/24`.
fn host(cidr: &Value) -> Ipv4Addr {
    let text = cidr.as_str().unwrap_or_default();
    text.split('/').next().and_then(|host| host.parse().ok()).expect("an address")
}

/// What an engine itself knows of a network.
#[track_caller]
fn on_engine(engine: &Engine, network: &str) -> Value {
    let said = engine.docker(&format!("network inspect -v {network}")).ok();
    serde_json::from_str::<Value>(&said).expect("JSON")[0].clone()
}

/// The overlay networks that an engine has made.
#[track_caller]
fn overlays(engine: &Engine) -> String {
    let listed = engine.docker("network ls --filter driver=overlay --format {{.Name}}").ok();
    listed.replace('\n', " ")
}

#[test]
fn tasks_on_different_nodes_reach_each_other_by_address_and_by_name() {
    let mut site = Site::up(&["net-a", "net-b"]);
    site.docker("network create -d overlay n1").ok();
    site.docker(&format!("{RR} --name rr --network name=n1,alias=also redis:alpine")).ok();
    site.docker(
        "service create -d --name vip --replicas 2 --network name=n1,alias=too redis:alpine",
    )
    .ok();
    let tasks = site.await_running("rr", 2);
    site.await_running("vip", 2);
    site.await_reach(&tasks, &site.addresses("rr", "n1"));
    let virtual_address = BTreeSet::from([site.virtual_address("vip", "n1")]);
    let names = |site: &Site, tasks: &[Running]| {
        let own = site.addresses("rr", "n1");
        for name in ["rr", "tasks.rr", "also"] {
            site.await_name(tasks, name, &own);
        }
        site.await_name(tasks, "vip", &virtual_address);
        site.await_name(tasks, "too", &virtual_address);
        site.await_name(tasks, "tasks.vip", &site.addresses("vip", "n1"));
    };
    names(&site, &tasks);

    // One that joins later is met by the others, and meets them.
    site.grow("net-c");
    let grown = site.await_running("rr", 3);
    site.await_reach(&grown, &site.addresses("rr", "n1"));
    names(&site, &grown);
    assert!(tasks.iter().all(|task| grown.contains(task)));

    // purser shows of the network what its own engine knows.
    let shown = site.docker("network inspect -v n1").ok();
    let shown = &serde_json::from_str::<Value>(&shown).expect("JSON")[0];
    let local = on_engine(&site.engines[0], "n1");
    assert_eq!(shown["Peers"].as_array().map(Vec::len), Some(3), "{shown}");
    for key in ["Id", "Name", "IPAM", "Options", "Containers"] {
        assert_eq!(shown[key], local[key], "{key}");
    }
    assert_eq!(shown["Services"]["rr"]["Tasks"].as_array().map(Vec::len), Some(3), "{shown}");
    let vip = &shown["Services"]["vip"]["VIP"];
    assert_eq!(*vip, site.virtual_address("vip", "n1").to_string(), "{shown}");
    let listed = site.docker("network ls --format '{{.Name}} {{.Scope}}'").ok();
    assert_eq!(
        listed,
        "bridge local\ndocker_gwbridge local\nhost local\ningress swarm\nn1 swarm\nnone local"
    );
}

#[test]
fn engines_meet_at_the_one_on_the_managers_host() {
    let mut site = Site::beside("net-home", vec![Engine::up("net-home")]);
    site.docker("network create -d overlay n1").ok();
    site.docker(&format!("{RR} --name rr --network n1 redis:alpine")).ok();
    site.await_running("rr", 1);
    // The port is the engine's after a restart too, though nobody has a session yet.
    site.purser.stop();
    site.purser.start();
    site.await_node(&site.engines[0], "ready");
    site.grow("net-guest");
    let tasks = site.await_running("rr", 2);
    site.await_reach(&tasks, &site.addresses("rr", "n1"));
    site.await_name(&tasks, "rr", &site.addresses("rr", "n1"));
    let log = site.purser.log();
    assert!(!log.contains("introduced"), "it was the engine that they met at: {log}");
}

#[test]
fn nodes_that_were_away_are_met_again() {
    let site = Site::up(&["net-a", "net-b"]);
    site.docker("swarm update --dispatcher-heartbeat 1s").ok();
    site.docker("network create -d overlay n1").ok();
    site.docker(&format!("{RR} --name rr --network n1 redis:alpine")).ok();
    let [home, second] = &site.engines[..] else { panic!("two engines") };
    let id = site.node_id(second);
    let whole = |old: &[Running], when: &str| {
        let tasks = site.await_tasks("rr", when, |tasks| {
            // The task of the engine that was never away is still the same.
            tasks.len() == 2 && tasks.iter().filter(|task| !old.contains(task)).count() <= 1
        });
        site.await_reach(&tasks, &site.addresses("rr", "n1"));
        site.await_name(&tasks, "rr", &site.addresses("rr", "n1"));
        tasks
    };
    let first = site.await_running("rr", 2);
    let mut tasks = whole(&first, "at first");

    second.kill();
    site.await_node(second, "down");
    second.revive();
    site.await_node(second, "ready");
    eventually("the dead task is replaced", PATIENCE, || {
        (site.running("rr").iter().filter(|task| tasks.contains(task)).count() == 1).then_some(())
    });
    tasks = whole(&tasks, "after its death");

    second.cut();
    site.await_node(second, "down");
    second.heal();
    site.await_node(second, "ready");
    tasks = whole(&tasks, "after it was cut off");

    site.docker(&format!("node update --availability drain {id}")).ok();
    site.await_running("rr", 1);
    eventually("the network is gone from who does not need it", PATIENCE, || {
        (overlays(second) == "ingress").then_some(())
    });
    assert_eq!(overlays(home), "ingress n1");
    site.docker(&format!("node update --availability active {id}")).ok();
    whole(&tasks, "after it was drained");
}

/// All that was allocated, as purser and the engines show it.
fn allocated(site: &Site) -> Vec<Value> {
    let client = site.purser.client();
    let pick = |path: &str, keys: &[&str]| -> Value {
        let objects = client.get(path).json();
        let objects = objects.as_array().into_iter().flatten();
        objects
            .map(|object| keys.iter().map(|key| object[*key].clone()).collect::<Value>())
            .collect()
    };
    let mut found = vec![
        client.get(&filters("/networks", &json!({"scope": ["swarm"]}))).json(),
        pick("/services", &["ID", "Version", "Endpoint"]),
        pick("/tasks", &["ID", "NetworksAttachments"]),
    ];
    for engine in &site.engines {
        found.extend(["n1", "ingress"].map(|name| on_engine(engine, name)["Containers"].clone()));
    }
    found
}

#[test]
fn traffic_goes_on_while_purser_is_away() {
    let mut site = Site::up(&["net-a", "net-b"]);
    site.docker("network create -d overlay n1").ok();
    site.docker(&format!("{RR} --name rr --network n1 redis:alpine")).ok();
    site.docker("service create -d --name vip --network n1 --publish 80 redis:alpine").ok();
    let tasks = site.await_running("rr", 2);
    site.await_running("vip", 1);
    site.await_reach(&tasks, &site.addresses("rr", "n1"));
    let before = allocated(&site);
    assert!(before.iter().all(|value| *value != Value::Null), "{before:?}");
    let (from, to) = (&tasks[0], site.address(&tasks[1], "n1"));
    let socket = site.engine_of(from).socket();
    let ping = format!("exec {} ping -q -i 0.1 -c 200 {to}", from.container);
    let ping = std::thread::spawn(move || crate::kit::docker::docker(&socket, &ping));

    site.purser.stop();
    site.purser.start();
    for _ in 0..2 {
        for engine in &site.engines {
            site.await_node(engine, "ready");
        }
        site.purser.kill();
        site.purser.start();
    }
    for engine in &site.engines {
        site.await_node(engine, "ready");
    }
    let said = ping.join().expect("it ends").ok();
    assert!(said.contains("200 packets transmitted, 200 packets received"), "{said}");
    assert_eq!(site.await_running("rr", 2), tasks);
    assert_eq!(allocated(&site), before);

    // The swarm is whole: who comes now is met, and has an address of its own.
    let taken = &site.addresses("rr", "n1") | &site.addresses("vip", "n1");
    site.docker(&format!("{RR} --name late --network n1 redis:alpine")).ok();
    let late = site.await_running("late", 2);
    let new = site.addresses("late", "n1");
    assert!(new.is_disjoint(&taken) && !new.contains(&site.virtual_address("vip", "n1")));
    site.await_reach(&tasks, &new);
    site.await_name(&late, "rr", &site.addresses("rr", "n1"));
}

#[test]
fn a_service_goes_from_network_to_network_and_what_is_left_can_be_removed() {
    let site = Site::up(&["net-a", "net-b"]);
    let one = site.docker("network create -d overlay one").ok();
    let two = site.docker("network create -d overlay --attachable=false two").ok();
    let update = "--update-parallelism 0 --update-monitor 100ms";
    let rr = site.docker(&format!("{RR} {update} --name rr --network one redis:alpine")).ok();
    let first = site.await_running("rr", 2);
    let of_containers = |expected: &str| {
        eventually(&format!("both are on {expected}"), PATIENCE, || {
            let tasks = site.running("rr");
            let format =
                "inspect --format '{{range $n, $_ := .NetworkSettings.Networks}}{{$n}} {{end}}'";
            let fits = |task: &Running| {
                let said = site.engine_of(task).docker(&format!("{format} {}", task.container));
                said.out.trim() == expected
            };
            (tasks.len() == 2 && tasks.iter().all(fits)).then_some(tasks)
        })
    };
    assert_eq!(of_containers("one"), first);
    let refused = |network: &str| {
        format!(
            "rpc error: code = FailedPrecondition desc = network {network} is in use by service {rr}"
        )
    };
    let in_use = site.docker("network rm one").refused();
    assert!(in_use.contains(&refused(&one)), "{in_use}");

    // Somebody stays on both networks: engines that leave one and come back to it, all at the same
    // moment, may need 40 s to find each other there again, whoever manages them.
    site.docker(&format!("{RR} --name stays --network one --network two redis:alpine")).ok();
    site.await_running("stays", 2);
    site.docker("service update -d --network-add name=two,alias=second rr").ok();
    let both = of_containers("one two");
    site.await_reach(&both, &site.addresses("rr", "two"));
    site.await_reach(&both, &site.addresses("rr", "one"));
    site.await_name(&both, "second", &site.addresses("rr", "two"));

    site.docker("service update -d --network-rm one rr").ok();
    let moved = of_containers("two");
    site.await_reach(&moved, &site.addresses("rr", "two"));
    site.docker("service rm stays").ok();
    site.docker("network rm one").ok();
    for engine in &site.engines {
        eventually("one is gone from the engine", PATIENCE, || {
            (overlays(engine) == "ingress two").then_some(())
        });
    }
    let in_use = site.docker("network rm two").refused();
    assert!(in_use.contains(&refused(&two)), "{in_use}");

    // What is unused goes at once, of the swarm as of the host.
    site.docker("network create -d overlay three").ok();
    site.docker("network create local").ok();
    let pruned = site.docker("network prune --force").ok();
    assert_eq!(pruned, "Deleted Networks:\nlocal\nthree");

    site.docker("service rm rr").ok();
    site.docker("network rm two").ok();
    for engine in &site.engines {
        eventually("two is gone from the engine", PATIENCE, || {
            (overlays(engine) == "ingress").then_some(())
        });
        assert!(engine.containers().is_empty());
    }
    let left = site.docker("network ls --filter driver=overlay --format {{.Name}}").ok();
    assert_eq!(left, "ingress");
}

/// What a web server answers.
fn fetch(host: &str, port: u16) -> Option<String> {
    let addr: SocketAddr = format!("{host}:{port}").parse().expect("an address");
    let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn published_ports_are_known_everywhere_and_those_of_hosts_carry_traffic() {
    let site = Site::up(&["net-a", "net-b"]);
    let serve = "redis:alpine sh -c 'hostname >index.html; exec httpd -f -p 80'";
    let create = "service create -d --hostname {{.Node.Hostname}}";
    site.docker(&format!("{create} --name mesh --publish 8080:80 {serve}")).ok();
    let publish = "--publish mode=host,published=8081,target=80";
    site.docker(&format!("{create} --name hosts --mode global {publish} {serve}")).ok();

    let task = site.await_running("mesh", 1).remove(0);
    let listed = site.docker("service ls --format '{{.Name}} {{.Replicas}} {{.Ports}}'").ok();
    assert_eq!(listed, "hosts 2/2 \nmesh 1/1 *:8080->80/tcp");
    let (own, shared) = (site.address(&task, "ingress"), site.virtual_address("mesh", "ingress"));
    for engine in &site.engines {
        let told = eventually("the engine knows of the port", GOSSIP_TIME, || {
            let ingress = on_engine(engine, "ingress");
            // An engine without a task of it may still be making its part of the mesh.
            let is_made = ingress["Containers"]["ingress-sbox"]["Name"] == "ingress-endpoint";
            Some(ingress["Services"]["mesh"].clone()).filter(|told| is_made && told.is_object())
        });
        assert_eq!(told["Ports"], json!(["Target: 80, Publish: 8080"]), "{told}");
        assert_eq!(told["VIP"], shared.to_string(), "{told}");
        assert_eq!(told["Tasks"][0]["EndpointIP"], own.to_string(), "{told}");
    }
    assert!(site.exec(&task, "ip address show").ok().contains(&format!("inet {own}/24")));

    site.await_running("hosts", 2);
    for engine in &site.engines {
        let page = eventually("the port answers", PATIENCE, || fetch(&engine.addr(), 8081));
        assert!(page.starts_with("HTTP/1.") && page.trim_end().ends_with(engine.name()), "{page}");
        assert_eq!(fetch(&engine.addr(), 8082), None);
    }
    // The port is free again for the next.
    site.docker("service rm mesh").ok();
    site.docker(&format!("{create} --name next --publish 8080:80 {serve}")).ok();
    site.await_running("next", 1);
    for engine in &site.engines {
        eventually("the engine knows of the change", GOSSIP_TIME, || {
            let services = on_engine(engine, "ingress")["Services"].clone();
            (services["mesh"].is_null() && services["next"].is_object()).then_some(())
        });
    }
}
