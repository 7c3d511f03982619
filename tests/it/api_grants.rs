//! Grants whose files would be in each other's way, templates that no node could expand, and drivers'
//! options: refused when a service or secret is made, not in every task.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::api_table::{check, idle_spec, make_service, post, version};
use super::kit::http::Client;
use super::kit::purser::Purser;

/// A purser with the secrets `a` and `b` and the config `c`; answers how each is granted.
fn granting(name: &str) -> (Purser, impl Fn(&str, &str) -> Value) {
    let purser = Purser::swarm(name);
    let client = purser.client();
    let make = |kind: &str, name: &str| {
        let made = client.post(&format!("/{kind}/create"), &json!({"Name": name, "Data": "YQ=="}));
        made.json()["ID"].clone()
    };
    let ids = [make("secrets", "a"), make("secrets", "b"), make("configs", "c")];
    let grant = move |name: &str, target: &str| {
        let at = ["a", "b", "c"].iter().position(|known| *known == name).expect("one of them");
        let file = json!({"Name": target, "UID": "0", "GID": "0", "Mode": 292});
        let kind = if name == "c" { "Config" } else { "Secret" };
        let mut grant = json!({"File": file});
        grant[format!("{kind}ID")] = ids[at].clone();
        grant[format!("{kind}Name")] = name.into();
        grant
    };
    (purser, grant)
}

fn container(parts: &Value) -> Value {
    let mut spec = idle_spec("web");
    for (key, value) in parts.as_object().expect("parts of a container") {
        spec["TaskTemplate"]["ContainerSpec"][key] = value.clone();
    }
    spec
}

const STORE: &str = "rpc error: code = InvalidArgument desc = ";

#[test]
fn no_two_files_end_at_one_path() {
    let (purser, grant) = granting("paths");
    let client = purser.client();
    let secrets = |one: &str, other: &str| json!({"Secrets": [grant("a", one), grant("b", other)]});
    let mixed = |secret: &str, config: &str| json!({"Secrets": [grant("a", secret)], "Configs": [grant("c", config)]});
    let mount = |secret: &str, target: &str| {
        let mount = json!({"Type": "tmpfs", "Target": target});
        json!({"Secrets": [grant("a", secret)], "Mounts": [mount]})
    };
    let mounts = |targets: [&str; 2]| {
        let mount = |target| json!({"Type": "tmpfs", "Target": target});
        json!({"Mounts": targets.map(mount)})
    };
    let both = "secret references 'a' and 'b' have a conflicting target: ";
    let cases = [
        (secrets("x", "x"), format!("{both}'x'")),
        (secrets("x", "/run/secrets/x"), format!("{both}'/run/secrets/x'")),
        (secrets("/e/./f", "/e/f"), format!("{both}'/e/f'")),
        (secrets("d/../x", "x/"), format!("{both}'/run/secrets/x'")),
        (mixed("/k", "k"), "secret 'a' and config 'c' have a conflicting target: '/k'".into()),
        (
            mount("x", "/run/secrets/x/"),
            "secret 'a' and a mount have a conflicting target: '/run/secrets/x'".into(),
        ),
        (mounts(["/m", "/m/"]), "ContainerSpec: duplicate mount point: /m/".into()),
        (
            mounts(["/m/{{.Service.Name}}", "/m/web"]),
            "ContainerSpec: duplicate mount point: /m/web".into(),
        ),
        (
            secrets("x", "../../etc/passwd"),
            "secret reference 'b' has a target that leaves /run/secrets: '../../etc/passwd'; an \
             absolute path can be anywhere"
                .into(),
        ),
    ];
    let created = cases.iter().map(|(parts, text)| {
        post("/services/create", &container(parts)).fails(400, format!("{STORE}{text}"))
    });
    check(&client, created.collect());
    let fine = [
        secrets("x", "y"),
        secrets("x", "/etc/passwd"),
        mixed("x", "x"),
        mount("x", "/run/secrets"),
        mounts(["/m", "/m/n"]),
    ];
    for parts in fine {
        make_service(&client, &container(&parts));
        assert_eq!(client.delete("/services/web").status, 200, "{parts}");
    }
    make_service(&client, &container(&json!({})));
    let path = format!("/services/web/update?{}", version(&client, "/services/web"));
    let updated = cases
        .iter()
        .map(|(parts, text)| post(&*path, &container(parts)).fails(400, format!("{STORE}{text}")));
    check(&client, updated.collect());
}

fn accepts(client: &Client, spec: &Value) -> Result<(), String> {
    let made = client.post("/services/create", spec);
    match made.status {
        201 => {
            assert_eq!(client.delete("/services/web").status, 200);
            Ok(())
        }
        400 => Err(made.message()),
        _ => panic!("{spec}: {}", made.text()),
    }
}

/// Whether a service with this template in its environment may be made.
pub fn expands(client: &Client, text: &str) -> Result<(), String> {
    let mut spec = container(&json!({"Env": [format!("A={text}")]}));
    spec["Labels"] = json!({"a": "v"});
    accepts(client, &spec)
}

#[test]
fn every_text_that_a_node_expands_is_tried() {
    let purser = Purser::swarm("templates");
    let client = purser.client();
    let volume = |options: Value| json!({"Mounts": [{"Type": "volume", "Target": "/m", "VolumeOptions": options}]});
    for text in ["{{if}}", "{{.Nope}}", "{{nope}}"] {
        let places = [
            (json!({"Env": [format!("A={text}")]}), "env"),
            (json!({"Hostname": text}), "hostname"),
            (json!({"Mounts": [{"Source": text, "Target": "/m"}]}), "mount source"),
            (json!({"Mounts": [{"Source": "/s", "Target": text}]}), "mount target"),
            (volume(json!({"Labels": {"l": text}})), "volume labels"),
            (volume(json!({"DriverConfig": {"Options": {"o": text}}})), "volume driver options"),
        ];
        for (parts, place) in places {
            let said = accepts(&client, &container(&parts)).expect_err(place);
            assert!(said.contains(&format!(": expanding {place} \"")), "{place}: {said}");
        }
    }
    // The name of a variable is left alone.
    assert_eq!(accepts(&client, &container(&json!({"Env": ["{{if}}", "{{x=1"]}))), Ok(()));
    // What goes wrong in one slot only.
    let mut spec = container(&json!({"Env": ["A={{slice \"abc\" (len .Task.Slot)}}"]}));
    assert_eq!(accepts(&client, &spec), Ok(()));
    spec = container(&json!({"Mounts": [
        {"Type": "tmpfs", "Target": "/m/{{.Task.Slot}}"}, {"Type": "tmpfs", "Target": "/m/7"}]}));
    spec["Mode"]["Replicated"]["Replicas"] = 6.into();
    assert_eq!(accepts(&client, &spec), Ok(()));
    spec["Mode"]["Replicated"]["Replicas"] = 7.into();
    assert!(accepts(&client, &spec).is_err_and(|said| said.contains("duplicate mount point")));
}

#[test]
fn a_broken_template_is_no_payload() {
    let purser = Purser::swarm("payloads");
    let client = purser.client();
    let body = |driver: &str, text: &str| json!({"Name": "t", "Data": STANDARD.encode(text), "Templating": {"Name": driver}});
    for kind in ["secrets", "configs"] {
        let create = |body: &Value| client.post(&format!("/{kind}/create"), body);
        let refused = create(&body("golang", "fine\nhunter2 {{if}}"));
        assert_eq!(refused.message(), format!("{STORE}the template is broken in line 2"));
        let refused = create(&body("jinja", "x"));
        let text = "template driver \"jinja\" is not known; there is \"golang\"";
        assert_eq!((refused.status, refused.message()), (400, format!("{STORE}{text}")));
        let good = body("golang", r#"{{env "A"}}{{secret "x"}}{{config "y"}}{{.Node.Hostname}}"#);
        assert_eq!(create(&good).status, 201, "{kind}");
        let path = format!("/{kind}/t/update?{}", version(&client, &format!("/{kind}/t")));
        let refused = client.post(&path, &body("golang", "{{.Node.Hostname"));
        assert_eq!(refused.message(), format!("{STORE}the template is broken in line 1"));
        let dry = client.post(&format!("{path}&dryRun=true"), &body("golang", "{{end}}"));
        assert_eq!(dry.status, 400, "{kind}: a dry run");
        assert_eq!(client.post(&path, &body("golang", "{{.Task.ID}}")).status, 200, "{kind}");
    }
}

#[test]
fn options_of_a_driver_count_or_are_refused_by_name() {
    let purser = Purser::swarm("options");
    let client = purser.client();
    let secret = |driver: &str, options: Value| json!({"Name": "s", "Driver": {"Name": driver, "Options": options}});
    let create = |body: &Value| client.post("/secrets/create", body);
    let refused = create(&secret("generate", json!({"lenght": "8"})));
    let text = "the driver generate has no option \"lenght\"; there are purser.length and \
                purser.rotate-every";
    assert_eq!((refused.status, refused.message()), (400, format!("{STORE}{text}")));
    for option in ["length", "purser.length"] {
        let refused = create(&secret("generate", json!({option: "3"})));
        assert!(refused.message().contains("3"), "{}", refused.message());
        assert_eq!(create(&secret("generate", json!({option: "9"}))).status, 201, "{option}");
        assert_eq!(client.delete("/secrets/s").status, 204);
    }
    let refused = create(&secret("exec", json!({"command": "none-such"})));
    assert!(refused.message().contains("none-such"), "{}", refused.message());
}
