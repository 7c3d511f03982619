//! The access policy: who may do what, through the API, by whatever way.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::docker::docker_in;
use crate::kit::http::Client;
use crate::kit::scratch::Scratch;
use crate::kit::tls::{CLIENT, Guarded, LATER, Pair};

/// What the table below is judged by.
const POLICY: &str = r#"
[roles.operator]
allow = [{ verbs = ["*"], kinds = ["*"] }]

[roles.deployer]
allow = [
    { verbs = ["read"], kinds = ["service", "task", "node", "network"] },
    { verbs = ["read", "create", "update", "remove", "logs"], kinds = ["service"], names = ["web-*"] },
    { verbs = ["read", "grant"], kinds = ["secret", "config"], names = ["dev-*"] },
    { verbs = ["grant"], kinds = ["secret"], labels = { team = "web" } },
    { verbs = ["read", "create", "update"], kinds = ["secret"], names = ["made-*"] },
    { verbs = ["use"], kinds = ["command"], names = ["web-*"] },
]

[roles.auditor]
allow = [{ verbs = ["read"], kinds = ["audit", "keys"] }]

[[bind]]
role = "operator"
who = ["uid:0"]

[[bind]]
role = "deployer"
who = ["cert:ann"]

[[bind]]
role = "auditor"
who = ["cert:carl"]
"#;

/// A purser with the policy, and what the table is about.
struct World {
    guarded: Guarded,
    /// Whoever has the socket: root, and so the operator.
    root: Client,
    ann: Pair,
    carl: Pair,
    bob: Pair,
    /// Where the policy lies.
    dir: Scratch,
}

impl World {
    fn new(name: &str) -> World {
        let dir = Scratch::new("policy");
        let path = dir.join("policy.toml");
        std::fs::write(&path, POLICY).expect("a file");
        let args = ["--engine", "none", "--policy", path.to_str().expect("text")];
        let guarded = Guarded::with_args(name, &args);
        guarded.purser.init("127.0.0.1:0");
        let root = guarded.purser.client();
        let person = |name: &str| guarded.authority.issue(name, &CLIENT, LATER);
        let (ann, carl, bob) = (person("ann"), person("carl"), person("bob"));
        World { guarded, root, ann, carl, bob, dir }
    }

    /// What somebody is answered: the status and the text.
    fn ask(&self, who: &Pair, method: &str, path: &str, body: Option<&Value>) -> (u16, String) {
        let mut command = Command::new("curl");
        command.args(["-sS", "-m", "60", "-X", method, "-w", "\n%{http_code}", "--cacert"]);
        command.arg(&self.guarded.authority.file);
        command.arg("--cert").arg(&who.cert).arg("--key").arg(&who.key);
        if let Some(body) = body {
            command.args(["-H", "Content-Type: application/json", "-d", &body.to_string()]);
        }
        let said = command.arg(format!("https://{}{path}", self.guarded.addr)).output();
        let said = String::from_utf8(said.expect("curl is installed").stdout).expect("text");
        let (text, status) = said.rsplit_once('\n').expect("a status");
        (status.parse().expect("a number"), text.to_owned())
    }

    /// What root makes.
    fn make(&self, path: &str, body: &Value) -> String {
        let made = self.root.post(path, body);
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()["ID"].as_str().expect("an id").to_owned()
    }

    fn secret(&self, name: &str, labels: &Value) -> String {
        let body = json!({"Name": name, "Labels": labels, "Data": "eA=="});
        self.make("/secrets/create", &body)
    }

    fn version(&self, path: &str) -> u64 {
        self.root.get(path).json()["Version"]["Index"].as_u64().expect("a version")
    }
}

/// An object by its id and name.
type Named<'a> = (&'a str, &'a str);

/// A service with these references to secrets and configs.
fn service(name: &str, image: &str, secrets: &[Named<'_>], configs: &[Named<'_>]) -> Value {
    let file = |at: usize| json!({"Name": format!("f{at}"), "UID": "0", "GID": "0", "Mode": 292});
    let secrets: Vec<Value> = secrets
        .iter()
        .enumerate()
        .map(|(at, (id, name))| json!({"SecretID": id, "SecretName": name, "File": file(at)}))
        .collect();
    let configs: Vec<Value> = configs
        .iter()
        .enumerate()
        .map(|(at, (id, name))| json!({"ConfigID": id, "ConfigName": name, "File": file(at + 50)}))
        .collect();
    let container = json!({"Image": image, "Secrets": secrets, "Configs": configs});
    json!({"Name": name, "TaskTemplate": {"ContainerSpec": container},
        "Mode": {"Replicated": {"Replicas": 0}}})
}

const DENIED: &str = "access denied: cert:ann may not";

#[test]
fn each_may_do_what_a_rule_allows_and_nothing_else() {
    let world = World::new("policy-table");
    let secret = world.secret("prod-db", &json!({}));
    let dev = world.secret("dev-db", &json!({}));
    let config = world.make("/configs/create", &json!({"Name": "prod-conf", "Data": "eA=="}));
    let api = world.make("/services/create", &service("api", "a:1", &[], &[]));
    let swarm = world.version("/swarm");
    let node = world.root.get("/nodes").json()[0]["ID"].as_str().expect("an id").to_owned();
    let node_version = world.version(&format!("/nodes/{node}"));
    let service_version = world.version(&format!("/services/{api}"));
    let some = |body: Value| Some(body);
    let mine = service("web-1", "a:1", &[], &[]);
    let other = service("db", "a:1", &[], &[]);
    // Who asks for what, and what each is answered: ann (deployer), carl (auditor), bob (nobody).
    let table: Vec<(&str, String, Option<Value>, [u16; 3])> = vec![
        ("GET", "/_ping".into(), None, [200, 200, 200]),
        ("GET", "/version".into(), None, [200, 200, 200]),
        ("GET", "/secrets".into(), None, [200, 200, 200]),
        ("GET", format!("/secrets/{dev}"), None, [200, 403, 403]),
        ("GET", format!("/secrets/{secret}"), None, [403, 403, 403]),
        ("GET", format!("/configs/{config}"), None, [403, 403, 403]),
        ("GET", format!("/secrets/{secret}/versions"), None, [403, 403, 403]),
        ("GET", format!("/secrets/{dev}/consumers"), None, [200, 403, 403]),
        ("GET", format!("/configs/{config}/consumers"), None, [403, 403, 403]),
        ("GET", format!("/secrets/{secret}/rotation"), None, [403, 403, 403]),
        ("POST", format!("/secrets/{dev}/rollback?version=1"), None, [403, 403, 403]),
        ("POST", format!("/secrets/{dev}/rollback?version=1&dryRun=true"), None, [403, 403, 403]),
        ("POST", format!("/secrets/{dev}/rotate?version=1"), None, [403, 403, 403]),
        ("POST", format!("/secrets/{dev}/prune"), None, [403, 403, 403]),
        ("POST", format!("/configs/{config}/prune?dryRun=1"), None, [403, 403, 403]),
        ("GET", format!("/services/{api}"), None, [200, 403, 403]),
        ("GET", format!("/services/{api}/logs?stdout=1"), None, [403, 403, 403]),
        ("GET", format!("/nodes/{node}"), None, [200, 403, 403]),
        ("GET", "/swarm".into(), None, [403, 403, 403]),
        ("GET", "/swarm/unlockkey".into(), None, [403, 200, 403]),
        ("GET", "/purser/keys".into(), None, [403, 200, 403]),
        ("GET", "/purser/audit/verify".into(), None, [403, 200, 403]),
        ("POST", "/purser/keys/rotate".into(), None, [403, 403, 403]),
        (
            "POST",
            "/secrets/create".into(),
            some(json!({"Name": "dev-2", "Data": "eA=="})),
            [403; 3],
        ),
        (
            "POST",
            "/configs/create".into(),
            some(json!({"Name": "dev-2", "Data": "eA=="})),
            [403; 3],
        ),
        ("DELETE", format!("/secrets/{dev}"), None, [403, 403, 403]),
        ("POST", "/services/create".into(), some(mine), [201, 403, 403]),
        ("POST", "/services/create".into(), some(other), [403, 403, 403]),
        ("DELETE", format!("/services/{api}"), None, [403, 403, 403]),
        (
            "POST",
            format!("/services/{api}/update?version={service_version}"),
            some(service("api", "a:2", &[], &[])),
            [403, 403, 403],
        ),
        (
            "POST",
            "/networks/create".into(),
            some(json!({"Name": "n", "Driver": "overlay"})),
            [403; 3],
        ),
        (
            "POST",
            format!("/nodes/{node}/update?version={node_version}"),
            some(json!({"Role": "manager", "Availability": "drain"})),
            [403, 403, 403],
        ),
        ("POST", format!("/swarm/update?version={swarm}"), some(json!({})), [403, 403, 403]),
        ("POST", "/swarm/leave?force=1".into(), None, [403, 403, 403]),
    ];
    for (method, path, body, expected) in table {
        for (who, expected) in [&world.ann, &world.carl, &world.bob].into_iter().zip(expected) {
            let (status, text) = world.ask(who, method, &path, body.as_ref());
            assert_eq!(status, expected, "{method} {path} by {:?}: {text}", who.cert.file_stem());
            if status == 403 {
                assert!(text.contains("access denied: cert:"), "{method} {path}: {text}");
            }
        }
    }
    // Lists show what may be seen.
    let names = |who: &Pair, path: &str| -> Vec<String> {
        let (_, text) = world.ask(who, "GET", path, None);
        let list: Value = serde_json::from_str(&text).expect("a list");
        let name = |item: &Value| item["Spec"]["Name"].as_str().unwrap_or_default().to_owned();
        list.as_array().expect("a list").iter().map(name).collect()
    };
    assert_eq!(names(&world.ann, "/secrets"), ["dev-db"]);
    assert_eq!(names(&world.ann, "/configs"), Vec::<String>::new());
    assert_eq!(names(&world.bob, "/services"), Vec::<String>::new());
    assert_eq!(names(&world.ann, "/services").len(), 2);
    assert_eq!(world.root.get("/secrets").json().as_array().map(Vec::len), Some(2));
    // What was denied is told.
    let told = world.root.get("/purser/audit?actor=cert:bob").text();
    assert!(
        told.contains("\"denied\"") && told.contains(&format!("may not read secret {secret}")),
        "{told}"
    );
    assert!(!told.contains("prod-db"), "names of what may not be seen are told to nobody: {told}");
}

/// Who may use a command may have it print whatever it prints for any labels; nobody else has it run.
#[test]
fn a_command_takes_a_right_of_its_own() {
    let world = World::new("policy-command");
    let exec = |name: &str, command: &str| json!({"Name": name, "Labels": {"purser.command": command}, "Driver": {"Name": "exec"}});
    let create = |body: &Value| world.ask(&world.ann, "POST", "/secrets/create", Some(body));
    let (status, text) = create(&exec("made-1", "vault"));
    assert_eq!(status, 403, "{text}");
    assert!(text.contains("may not use command vault"), "{text}");
    // Granted, it is looked for: none is configured here.
    let (status, text) = create(&exec("made-1", "web-keys"));
    assert!(status == 400 && text.contains("no command"), "{text}");
    let generated = json!({"Name": "made-2", "Driver": {"Name": "generate"}});
    assert_eq!(create(&generated).0, 201, "no command makes this");
    let version = world.version("/secrets/made-2");
    let rotate = format!("/secrets/made-2/rotate?version={version}");
    assert_eq!(world.ask(&world.ann, "POST", &rotate, None).0, 200);
    // A forecast shows only what may be seen.
    let dev = world.secret("dev-db", &json!({}));
    world.make("/services/create", &service("api", "a:1", &[(&dev, "dev-db")], &[]));
    let version = world.version("/secrets/made-2");
    let body = json!({"Name": "made-2", "Labels": {"a": "b"}});
    let path = format!("/secrets/made-2/update?version={version}&dryRun=true");
    let (status, text) = world.ask(&world.ann, "POST", &path, Some(&body));
    assert!(status == 202 && text.contains("made-2"), "{text}");
    let swarm = "/swarm/leave?force=true&dryRun=true";
    assert_eq!(world.ask(&world.ann, "POST", swarm, None).0, 403);
}

#[test]
fn who_may_not_grant_a_secret_reaches_it_by_no_way() {
    let world = World::new("policy-grant");
    let prod = world.secret("prod-db", &json!({}));
    let dev = world.secret("dev-db", &json!({}));
    let team = world.secret("shared", &json!({"team": "web"}));
    let config = world.make("/configs/create", &json!({"Name": "prod-conf", "Data": "eA=="}));
    let template = world.make(
        "/configs/create",
        &json!({"Name": "dev-template", "Templating": {"Name": "golang"},
            "Data": "e3sgc2VjcmV0ICJwcm9kLWRiIiB9fQ=="}),
    );
    let names = [("prod-db", &prod), ("dev-db", &dev), ("shared", &team)];
    let [prod_ref, dev_ref, team_ref] = names.map(|(name, id)| (id.as_str(), name));
    let config_ref = (config.as_str(), "prod-conf");
    let template_ref = (template.as_str(), "dev-template");
    let ann =
        |method: &str, path: &str, body: Option<&Value>| world.ask(&world.ann, method, path, body);
    let create = |spec: &Value| ann("POST", "/services/create", Some(spec));
    let denied = |(status, text): (u16, String), what: &str| {
        assert_eq!(status, 403, "{text}");
        assert!(text.contains(&format!("{DENIED} grant {what}")), "{text}");
    };
    // What it may not see is named by its id.
    let (of_prod, of_config) = (format!("secret {prod}"), format!("config {config}"));
    // By a new service, also under a name that it does not have.
    denied(create(&service("web-a", "a:1", &[prod_ref], &[])), &of_prod);
    denied(create(&service("web-a", "a:1", &[dev_ref, prod_ref], &[])), &of_prod);
    let disguised = (prod.as_str(), "dev-db");
    denied(create(&service("web-a", "a:1", &[disguised], &[])), &of_prod);
    denied(create(&service("web-a", "a:1", &[], &[config_ref])), &of_config);
    // A template reads only what its service was granted, so that a reference is needed again.
    denied(create(&service("web-a", "a:1", &[prod_ref], &[template_ref])), &of_prod);
    let (status, text) = create(&service("web-a", "a:1", &[dev_ref, team_ref], &[template_ref]));
    assert_eq!(status, 201, "{text}");

    // By a change.
    let path = |name: &str, more: &str| {
        let version = world.version(&format!("/services/{name}"));
        format!("/services/{name}/update?version={version}{more}")
    };
    let update = |name: &str, more: &str, spec: &Value| ann("POST", &path(name, more), Some(spec));
    denied(update("web-a", "", &service("web-a", "a:1", &[prod_ref], &[])), &of_prod);

    // By one that has it already: another image would read it.
    world.make("/services/create", &service("web-b", "a:1", &[prod_ref], &[]));
    denied(update("web-b", "", &service("web-b", "thief:1", &[prod_ref], &[])), &of_prod);
    let mut scaled = service("web-b", "a:1", &[prod_ref], &[]);
    scaled["Mode"]["Replicated"]["Replicas"] = 1.into();
    assert_eq!(update("web-b", "", &scaled).0, 200, "what runs stays as it is");
    let mut forced = scaled.clone();
    forced["TaskTemplate"]["ForceUpdate"] = 1.into();
    denied(update("web-b", "", &forced), &of_prod);

    // By going back to a spec that had it.
    let spec = service("web-b", "a:2", &[], &[]);
    let changed = world.root.post(&path("web-b", ""), &spec);
    assert_eq!(changed.status, 200, "{}", changed.text());
    denied(update("web-b", "&rollback=previous", &spec), &of_prod);

    // By giving it another name or label: that takes the right to change it.
    let relabel = json!({"Name": "prod-db", "Labels": {"team": "web"}});
    let secret_version = world.version(&format!("/secrets/{prod}"));
    let (status, _) =
        ann("POST", &format!("/secrets/{prod}/update?version={secret_version}"), Some(&relabel));
    assert_eq!(status, 403);

    // By the engine of the host, which sees all its containers.
    for (method, path) in [
        ("POST", "/containers/x/exec"),
        ("GET", "/containers/x/archive?path=/run/secrets/x"),
        ("GET", "/containers/json"),
        ("POST", "/build"),
    ] {
        let (status, text) = ann(method, path, None);
        assert_eq!(status, 403, "{method} {path}: {text}");
        assert!(text.contains("may not use the engine"), "{text}");
    }
}

/// Where nothing can be read, everything could still be lost.
#[test]
fn a_locked_swarm_is_given_up_by_who_may_leave_it() {
    let mut world = World::new("policy-locked");
    world.secret("kept", &json!({}));
    let path = format!("/swarm/update?version={}", world.version("/swarm"));
    let wish = json!({"EncryptionConfig": {"AutoLockManagers": true}});
    assert_eq!(world.root.post(&path, &wish).status, 200);
    let key = world.root.get("/swarm/unlockkey").json()["UnlockKey"].clone();
    world.guarded.purser.kill();
    world.guarded.purser.start_locked();
    let (status, text) = world.ask(&world.ann, "POST", "/swarm/leave?force=1", None);
    assert_eq!(status, 403, "{text}");
    assert!(text.contains(&format!("{DENIED} remove the swarm")), "{text}");
    let root = world.guarded.purser.client();
    assert_eq!(root.post("/swarm/unlock", &json!({"UnlockKey": key})).status, 200);
    assert_eq!(root.get("/secrets").json().as_array().map(Vec::len), Some(1));
    // Who shows the key is told every time.
    assert_eq!(root.get("/swarm/unlockkey").json()["UnlockKey"], key);
    let shown = root.get("/purser/audit").text().matches("unlock key show").count();
    assert_eq!(shown, 2);
    // Who may, may; the audit that begins then says who it was.
    world.guarded.purser.kill();
    world.guarded.purser.start_locked();
    let root = world.guarded.purser.client();
    assert_eq!(root.request("POST", "/swarm/leave?force=1", &[], b"").status, 200);
    let told = root.get("/purser/audit").text();
    assert!(told.contains("swarm leave") && told.contains("uid:0"), "{told}");
}

/// Tasks that reach into their host have what the engine there has.
#[test]
fn who_may_not_use_the_engine_reaches_into_no_host() {
    let world = World::new("policy-host");
    let with = |change: &dyn Fn(&mut Value)| {
        let mut spec = service("web-h", "a:1", &[], &[]);
        change(&mut spec["TaskTemplate"]);
        spec
    };
    let mount = |mount: Value| {
        move |template: &mut Value| template["ContainerSpec"]["Mounts"] = json!([mount])
    };
    let reaching = [
        with(&mount(json!({"Type": "bind", "Source": "/", "Target": "/host"}))),
        with(&mount(json!({"Type": "volume", "Source": "v", "Target": "/host", "VolumeOptions":
            {"DriverConfig": {"Name": "local", "Options": {"o": "bind", "device": "/"}}}}))),
        with(&|template| template["ContainerSpec"]["CapabilityAdd"] = json!(["CAP_SYS_ADMIN"])),
        with(&|template| {
            template["ContainerSpec"]["Privileges"] = json!({"Seccomp": {"Mode": "unconfined"}});
        }),
        with(&|template| template["Networks"] = json!([{"Target": "host"}])),
    ];
    for spec in &reaching {
        let (status, text) = world.ask(&world.ann, "POST", "/services/create", Some(spec));
        assert_eq!(status, 403, "{text}");
        assert!(text.contains(&format!("{DENIED} use the engine")), "{text}");
    }
    let plain = with(&mount(json!({"Type": "volume", "Source": "v", "Target": "/data"})));
    let (status, text) = world.ask(&world.ann, "POST", "/services/create", Some(&plain));
    assert_eq!(status, 201, "{text}");
    for spec in &reaching {
        let path = format!("/services/web-h/update?version={}", world.version("/services/web-h"));
        let (status, text) = world.ask(&world.ann, "POST", &path, Some(spec));
        assert_eq!(status, 403, "{text}");
        let made = world.root.post(&path, spec);
        assert_eq!(made.status, 200, "who may, may: {}", made.text());
    }
}

/// A stack, with the docker command, by who may not grant what it names.
#[test]
fn a_stack_takes_the_same_rights() {
    let world = World::new("policy-stack");
    world.secret("prod-db", &json!({}));
    let file = world.guarded.dir.join("stack.yaml");
    let stack = "services:\n  a:\n    image: a:1\n    secrets: [prod-db]\nsecrets:\n  prod-db:\n    \
        external: true\nnetworks:\n  default:\n    name: ingress\n    external: true\n";
    std::fs::write(&file, stack).expect("a file");
    let args = world.guarded.docker_args(&world.ann);
    let command = format!("{args} stack deploy -d -c {} web-s", file.display());
    assert_ne!(docker_in(&world.dir, &command, b"").code, 0);
    let made = world.root.get("/services").json();
    assert_eq!(made.as_array().map(Vec::len), Some(0), "{made}");
}

#[test]
fn what_is_denied_is_told_in_short_and_shows_no_settings() {
    let world = World::new("policy-hostile");
    let name = "n".repeat(100_000);
    let body = json!({"Name": name, "Data": "YQ=="});
    for _ in 0..3 {
        let (status, text) = world.ask(&world.bob, "POST", "/secrets/create", Some(&body));
        assert!(status == 403 || status == 400, "{status}");
        assert!(text.len() < 10_000, "{} bytes", text.len());
    }
    let audit = world.root.get("/purser/audit?actor=cert:bob").text();
    assert!(audit.lines().count() >= 3 && audit.len() < 6_000, "{} bytes", audit.len());
    let (status, info) = world.ask(&world.bob, "GET", "/info", None);
    let info: Value = serde_json::from_str(&info).expect("JSON");
    assert_eq!((status, &info["Swarm"]["LocalNodeState"]), (200, &json!("active")));
    assert_eq!(info["Swarm"]["Cluster"], Value::Null, "its spec holds drivers' options");
    assert!(world.root.get("/info").json()["Swarm"]["Cluster"]["Spec"].is_object());
}

#[test]
fn a_hangup_has_the_policy_read_again_and_ends_nothing() {
    let world = World::new("policy-hangup");
    let pid = i32::try_from(world.guarded.purser.pid()).expect("a process id");
    let count = || world.guarded.purser.log().matches("the access policy was read again").count();
    let before = count();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGHUP)
        .expect("it runs");
    crate::kit::eventually("it is read again", Duration::from_secs(20), || {
        (count() > before).then_some(())
    });
    assert_eq!(world.root.get("/readyz").status, 200);
}

#[test]
fn a_policy_is_taken_whole_or_not_at_all() {
    let world = World::new("policy-reload");
    let log = || world.guarded.purser.log();
    let policy = world.dir.join("policy.toml");
    let sees = |who: &Pair| world.ask(who, "GET", "/swarm", None).0 == 200;
    assert!(!sees(&world.bob));
    let wider = format!("{POLICY}\n[[bind]]\nrole = \"operator\"\nwho = [\"cert:bob\"]\n");
    std::fs::write(&policy, &wider).expect("a file");
    crate::kit::eventually("it is read again", Duration::from_secs(20), || {
        sees(&world.bob).then_some(())
    });
    std::fs::write(&policy, "[roles.x]\nallow = [{ verbs = [\"see\"] }]\n").expect("a file");
    crate::kit::eventually("its fault is said", Duration::from_secs(20), || {
        log().contains("the new access policy cannot be used").then_some(())
    });
    assert!(sees(&world.bob), "the one before goes on");
    std::fs::write(&policy, POLICY).expect("a file");
    crate::kit::eventually("it is read again", Duration::from_secs(20), || {
        (!sees(&world.bob)).then_some(())
    });
}

#[test]
fn a_stream_ends_with_the_right_to_it() {
    let world = World::new("policy-streams");
    let policy = world.dir.join("policy.toml");
    let follow = |who: &Pair, name: &str, path: &str| {
        let file = world.dir.join(name);
        let mut command = Command::new("curl");
        command.args(["-sSN", "-m", "60", "-o"]).arg(&file).arg("--cacert");
        command.arg(&world.guarded.authority.file);
        command.arg("--cert").arg(&who.cert).arg("--key").arg(&who.key);
        let child = command.arg(format!("https://{}{path}", world.guarded.addr)).spawn();
        (child.expect("curl is installed"), file)
    };
    let said = |file: &std::path::Path| std::fs::read_to_string(file).unwrap_or_default();
    let (mut events, seen) = follow(&world.ann, "events", "/events");
    let (mut audit, told) = follow(&world.carl, "audit", "/purser/audit?follow=1");
    let mut number = 0;
    crate::kit::eventually("both see what is made", Duration::from_secs(20), || {
        number += 1;
        world.secret(&format!("dev-{number}"), &json!({}));
        let both = said(&seen).contains("dev-") && said(&told).contains("dev-");
        both.then_some(())
    });
    let (roles, _) = POLICY.split_once("[[bind]]").expect("it binds");
    let nobody = format!("{roles}[[bind]]\nrole = \"operator\"\nwho = [\"uid:0\"]\n");
    std::fs::write(&policy, nobody).expect("a file");
    crate::kit::eventually("it is read again", Duration::from_secs(20), || {
        (world.ask(&world.carl, "GET", "/purser/keys", None).0 == 403).then_some(())
    });
    world.secret("dev-later", &json!({}));
    crate::kit::eventually("the audit ends", Duration::from_secs(20), || {
        audit.try_wait().expect("a child of ours")
    });
    assert!(!said(&told).contains("dev-later"), "{}", said(&told));
    assert!(!said(&seen).contains("dev-later"), "{}", said(&seen));
    events.kill().and_then(|()| events.wait()).expect("it still listens");
}
