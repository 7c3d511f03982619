//! Secrets as they arrive in containers of a stock engine.

use sha2::Digest as _;

use crate::kit::docker::docker_with;
use crate::kit::engine::Site;

#[test]
fn a_secret_is_a_file_as_its_grant_says() {
    let site = Site::up(&["file"]);
    // An engine keeps one file for a secret however often it is granted, so these are three.
    for name in ["s", "key", "x"] {
        let create = format!("secret create {name} -");
        docker_with(&site.purser.socket(), &create, b"This is a secret").ok();
    }
    site.docker(
        "service create -d --name web --secret s \
         --secret source=key,target=/srv/key,uid=1000,gid=2000,mode=0440 \
         --secret source=x,target=sub/dir/x,mode=0400 redis:alpine",
    )
    .ok();
    let task = site.await_running("web", 1).remove(0);
    let files = "ls -ln /run/secrets/s /srv/key /run/secrets/sub/dir/x";
    let listed = site.exec(&task, files).ok();
    let listed: Vec<String> = listed
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            [words[0], words[2], words[3], words[4], words[8]].join(" ")
        })
        .collect();
    let expected = [
        "-r--r--r-- 0 0 16 /run/secrets/s",
        "-r-------- 0 0 16 /run/secrets/sub/dir/x",
        "-r--r----- 1000 2000 16 /srv/key",
    ];
    assert_eq!(listed, expected);
    for path in ["/run/secrets/s", "/srv/key", "/run/secrets/sub/dir/x"] {
        assert_eq!(site.exec(&task, &format!("cat {path}")).ok(), "This is a secret");
        let mounts = site.exec(&task, &format!("grep {path} /proc/mounts")).ok();
        assert!(mounts.starts_with("tmpfs ") && mounts.contains(" ro,"), "{mounts}");
    }
}

#[test]
fn the_largest_secret_arrives_byte_for_byte() {
    let site = Site::up(&["large"]);
    let socket = site.purser.socket();
    // Every byte value, zero and line ends included.
    let bytes: Vec<u8> =
        (0..512_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    let refused = docker_with(&socket, "secret create large -", &bytes);
    assert_eq!(refused.code, 1);
    assert_eq!(
        refused.err,
        "Error response from daemon: rpc error: code = InvalidArgument desc = secret data must be \
         larger than 0 and less than 512000 bytes"
    );
    let bytes = &bytes[..511_999];
    docker_with(&socket, "secret create large -", bytes).ok();
    site.docker("service create -d --name web --secret large redis:alpine").ok();
    let task = site.await_running("web", 1).remove(0);
    let sum = site.exec(&task, "sha256sum /run/secrets/large").ok();
    let expected: String =
        sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(sum.split_whitespace().next(), Some(expected.as_str()));
}

#[test]
fn a_secret_taken_away_is_gone_from_the_engine() {
    let site = Site::up(&["gone"]);
    let canary = crate::kit::search::canary(48);
    docker_with(&site.purser.socket(), "secret create s -", canary.as_bytes()).ok();
    docker_with(&site.purser.socket(), "secret create t -", b"another").ok();
    site.docker("service create -d --name web --secret s redis:alpine").ok();
    let before = site.await_running("web", 1).remove(0);
    assert_eq!(site.exec(&before, "cat /run/secrets/s").ok(), canary);
    let refused = site.docker("secret rm s");
    assert_eq!(refused.code, 1);
    assert_eq!(
        refused.err,
        "Error response from daemon: rpc error: code = InvalidArgument desc = secret 's' is in use \
         by the following service: web"
    );
    let update = "service update -d --secret-rm s --secret-add source=t,target=s web";
    site.docker(update).ok();
    let after = site
        .await_tasks("web", "the new task runs", |tasks| tasks.len() == 1 && tasks[0] != before)
        .remove(0);
    assert_eq!(site.exec(&after, "cat /run/secrets/s").ok(), "another");
    site.docker("secret rm s").ok();
    let id = site.node_id(&site.engines[0]);
    let withdrawn = |line: &&str| line.contains("secret withdrawn from node") && line.contains(&id);
    crate::kit::eventually("the secret is withdrawn", crate::kit::engine::PATIENCE, || {
        site.purser.log().lines().find(withdrawn).map(|_| ())
    });
    // The image of the old container does not have it either.
    let committed = site.docker(&format!("commit {} old", before.container));
    if committed.code == 0 {
        let said = site.docker("run --rm old cat /run/secrets/s");
        assert!(!said.out.contains(&canary) && !said.err.contains(&canary), "{said:?}");
    }
}

#[test]
fn templates_are_filled_in_for_each_task() {
    let site = Site::up(&["template"]);
    site.docker(
        "service create -d --name web --replicas 2 --hostname {{.Service.Name}}-{{.Task.Slot}} \
         --env SLOT={{.Task.Slot}} --env NODE={{.Node.Hostname}} --env TASK={{.Task.ID}} \
         --env TEXT={{.Service.Labels.motto}} --label motto=ahoy redis:alpine",
    )
    .ok();
    let tasks = site.await_running("web", 2);
    let mut slots: Vec<String> = Vec::new();
    for task in &tasks {
        let env = site.exec(task, "env").ok();
        let value = |name: &str| {
            let found = env.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            found.unwrap_or_else(|| panic!("no {name} in {env}")).to_owned()
        };
        assert_eq!(value("NODE"), site.engines[0].name());
        assert_eq!(value("TASK"), task.task);
        assert_eq!(value("TEXT"), "ahoy");
        assert_eq!(site.exec(task, "hostname").ok(), format!("web-{}", value("SLOT")));
        slots.push(value("SLOT"));
    }
    slots.sort();
    assert_eq!(slots, ["1", "2"]);
}

#[test]
fn a_config_is_a_file_until_its_grant_is_taken_away() {
    let site = Site::up(&["config"]);
    let socket = site.purser.socket();
    for (name, data) in [("app.conf", "listen 80"), ("tmpl", "{{.Service.Name}} {{secret \"s\"}}")]
    {
        let template = if name == "tmpl" { "--template-driver golang" } else { "" };
        docker_with(&socket, &format!("config create {template} {name} -"), data.as_bytes()).ok();
    }
    docker_with(&socket, "secret create s -", b"open sesame").ok();
    site.docker(
        "service create -d --name web --secret s --config app.conf \
         --config source=tmpl,target=/srv/tmpl,uid=1000,gid=2000,mode=0440 redis:alpine",
    )
    .ok();
    let task = site.await_running("web", 1).remove(0);
    assert_eq!(site.exec(&task, "cat /app.conf").ok(), "listen 80");
    assert_eq!(site.exec(&task, "cat /srv/tmpl").ok(), "web open sesame");
    let stat = "stat -c '%a %u %g' /app.conf /srv/tmpl";
    assert_eq!(site.exec(&task, stat).ok(), "444 0 0\n440 1000 2000");
    site.docker("service update -d --config-rm app.conf web").ok();
    let next =
        crate::kit::eventually("a new task runs", std::time::Duration::from_secs(60), || {
            site.await_running("web", 1).into_iter().find(|next| next.task != task.task)
        });
    assert_ne!(site.exec(&next, "cat /app.conf").code, 0);
    assert_eq!(site.docker("config rm app.conf").ok(), "app.conf");
}
