//! `docker secret`, against a purser without an engine.

use std::path::Path;

use crate::kit::docker::{docker, docker_with};
use crate::kit::purser::Purser;

/// Makes a secret and gives its id.
fn create(socket: &Path, args: &str, value: &str) -> String {
    docker_with(socket, &format!("secret create {args} -"), value.as_bytes()).ok()
}

fn is_id(text: &str) -> bool {
    text.len() == 25 && text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
}

#[test]
fn secret_create_prints_the_id_of_what_it_made() {
    let purser = Purser::swarm("secret-create");
    let socket = purser.socket();
    let id = create(&socket, "db-pass", "hunter2");
    assert!(is_id(&id), "{id}");
    assert_eq!(docker(&socket, "secret ls -q").ok(), id);
    assert_eq!(docker(&socket, "secret inspect -f {{.ID}} db-pass").ok(), id);
    assert_eq!(
        docker(&socket, &format!("secret inspect -f {{{{.Spec.Name}}}} {id}")).ok(),
        "db-pass"
    );
}

#[test]
fn secret_create_reads_a_file() {
    let purser = Purser::swarm("secret-file");
    let socket = purser.socket();
    let file = purser.dir().join("value");
    std::fs::write(&file, vec![b'x'; 511_999]).expect("a file");
    let path = file.display();
    assert!(is_id(&docker(&socket, &format!("secret create largest {path}")).ok()));
    std::fs::write(&file, vec![b'x'; 512_000]).expect("a file");
    assert_eq!(
        docker(&socket, &format!("secret create larger {path}")).refused(),
        "rpc error: code = InvalidArgument desc = secret data must be larger than 0 and less than \
         512000 bytes"
    );
    assert!(docker(&socket, "secret create empty /dev/null").refused().ends_with("data is empty"));
    assert_eq!(docker(&socket, "secret ls --format {{.Name}}").ok(), "largest");
}

#[test]
fn secret_create_refuses_names_that_are_taken_or_malformed() {
    let purser = Purser::swarm("secret-names");
    let socket = purser.socket();
    create(&socket, "db-pass", "hunter2");
    for name in ["db-pass", "DB-Pass"] {
        assert_eq!(
            docker_with(&socket, &format!("secret create {name} -"), b"x").refused(),
            format!("rpc error: code = AlreadyExists desc = secret {name} already exists")
        );
    }
    for name in ["'a b'", "a/b", ".a", "a-", "ä", &"a".repeat(65)] {
        let refusal = docker_with(&socket, &format!("secret create {name} -"), b"x").refused();
        assert!(refusal.contains("desc = invalid name, only 64 [a-zA-Z0-9-_.]"), "{refusal}");
    }
}

#[test]
fn secret_ls_shows_a_table_sorted_by_name() {
    let purser = Purser::swarm("secret-table");
    let socket = purser.socket();
    let zebra = create(&socket, "zebra", "z");
    let apple = create(&socket, "apple", "a");
    let table = docker(&socket, "secret ls").ok();
    let lines: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["ID", "NAME", "DRIVER", "CREATED", "UPDATED"]);
    assert_eq!(lines[1][..2], [apple.as_str(), "apple"]);
    assert_eq!(lines[2][..2], [zebra.as_str(), "zebra"]);
    assert_eq!(lines.len(), 3);
    // The times are close to now: neither in 1970 nor in the year 1.
    assert!(table.lines().skip(1).all(|line| line.contains("second")), "{table}");
}

#[test]
fn secret_ls_filters_by_name_id_and_label() {
    let purser = Purser::swarm("secret-filter");
    let socket = purser.socket();
    create(&socket, "-l env=prod -l team=web db-pass", "1");
    let user = create(&socket, "-l env=test db-user", "2");
    create(&socket, "other", "3");
    let listed = |filters: &str| {
        let names = docker(&socket, &format!("secret ls {filters} --format {{{{.Name}}}}")).ok();
        names.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(listed("--filter name=db"), ["db-pass", "db-user"]);
    assert_eq!(listed("--filter name=DB-P"), ["db-pass"]);
    assert_eq!(listed("--filter name=db-pass --filter name=other"), ["db-pass", "other"]);
    assert_eq!(listed(&format!("--filter id={}", &user[..12])), ["db-user"]);
    assert_eq!(listed("--filter label=env"), ["db-pass", "db-user"]);
    assert_eq!(listed("--filter label=env=prod"), ["db-pass"]);
    assert_eq!(listed("--filter label=env --filter label=team=web"), ["db-pass"]);
    assert_eq!(listed("--filter name=db --filter label=env=test"), ["db-user"]);
    assert_eq!(listed("--filter name=nope"), [""; 0]);
    assert_eq!(docker(&socket, "secret ls --filter bogus=1").refused(), "invalid filter 'bogus'");
}

#[test]
fn secret_ls_takes_a_format() {
    let purser = Purser::swarm("secret-format");
    let socket = purser.socket();
    let id = create(&socket, "-l env=prod db-pass", "1");
    let row =
        docker(&socket, "secret ls --format '{{.ID}}|{{.Name}}|{{.Labels}}|{{.Driver}}'").ok();
    assert_eq!(row, format!("{id}|db-pass|env=prod|"));
    let row = docker(&socket, "secret ls --format json").ok();
    assert!(row.contains(r#""Name":"db-pass""#) && row.contains(r#""Labels":"env=prod""#), "{row}");
}

#[test]
fn secret_inspect_never_shows_the_value() {
    let purser = Purser::swarm("secret-inspect");
    let socket = purser.socket();
    let id = create(&socket, "-l env=prod --template-driver golang db-pass", "hunter2");
    let shown = docker(&socket, "secret inspect db-pass").ok();
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown[0]["ID"], id.as_str());
    assert_eq!(
        shown[0]["Spec"],
        serde_json::json!({"Name": "db-pass", "Labels": {"env": "prod"},
            "Templating": {"Name": "golang"}})
    );
    assert_eq!(shown[0]["CreatedAt"], shown[0]["UpdatedAt"]);
    assert!(shown[0]["Version"]["Index"].as_u64() > Some(0));
    let pretty = docker(&socket, "secret inspect --pretty db-pass").ok();
    for line in ["Name:              db-pass", "Labels:", " - env=prod", "Created at:"] {
        assert!(pretty.contains(line), "{pretty}");
    }
    assert!(!pretty.contains("hunter2"));
}

#[test]
fn secret_inspect_prints_what_it_found_and_fails_for_the_rest() {
    let purser = Purser::swarm("secret-some");
    let socket = purser.socket();
    create(&socket, "one", "1");
    create(&socket, "two", "2");
    let said = docker(&socket, "secret inspect -f {{.Spec.Name}} one nope two");
    assert_eq!(said.out, "one\ntwo");
    assert_eq!(said.refused(), "secret nope not found");
}

#[test]
fn secret_is_found_by_a_prefix_of_its_id_if_that_is_unambiguous() {
    let purser = Purser::swarm("secret-prefix");
    let socket = purser.socket();
    let id = create(&socket, "one", "1");
    let by_prefix = docker(&socket, &format!("secret inspect -f {{{{.ID}}}} {}", &id[..20])).ok();
    assert_eq!(by_prefix, id);
    // More ids than there are first characters.
    for number in 0..40 {
        create(&socket, &format!("Secret{number}"), "x");
    }
    let ids = docker(&socket, "secret ls -q").ok();
    let mut firsts: Vec<&str> = ids.lines().map(|id| &id[..1]).collect();
    firsts.sort_unstable();
    let twice = firsts.windows(2).find(|two| two[0] == two[1]).expect("36 < 41")[0];
    let count = firsts.iter().filter(|first| **first == twice).count();
    assert_eq!(
        docker(&socket, &format!("secret rm {twice}")).refused(),
        format!("secret {twice} is ambiguous ({count} matches found)")
    );
}

#[test]
fn secret_rm_goes_on_after_one_that_is_not_there() {
    let purser = Purser::swarm("secret-rm");
    let socket = purser.socket();
    for name in ["one", "two", "three"] {
        create(&socket, name, "x");
    }
    let said = docker(&socket, "secret rm one nope two");
    assert_eq!(said.out, "one\ntwo");
    assert_eq!(said.refused(), "secret nope not found");
    assert_eq!(docker(&socket, "secret ls --format {{.Name}}").ok(), "three");
    assert_eq!(docker(&socket, "secret rm three").ok(), "three");
    assert_eq!(docker(&socket, "secret ls -q").ok(), "");
}

#[test]
fn secret_rm_names_the_services_that_use_it() {
    let purser = Purser::swarm("secret-used");
    let socket = purser.socket();
    create(&socket, "db-pass", "x");
    docker(&socket, "service create -d --no-resolve-image --name web --secret db-pass redis").ok();
    assert_eq!(
        docker(&socket, "secret rm db-pass").refused(),
        "rpc error: code = InvalidArgument desc = secret 'db-pass' is in use by the following \
         service: web"
    );
    let more =
        "service create -d --no-resolve-image --replicas 0 --name idle --secret db-pass redis";
    docker(&socket, more).ok();
    let refusal = docker(&socket, "secret rm db-pass").refused();
    let (text, names) = refusal.rsplit_once(": ").expect("a list of names");
    assert!(text.ends_with("secret 'db-pass' is in use by the following services"), "{text}");
    let mut names: Vec<&str> = names.split(", ").collect();
    names.sort_unstable();
    assert_eq!(names, ["idle", "web"]);
    docker(&socket, "service rm web idle").ok();
    assert_eq!(docker(&socket, "secret rm db-pass").ok(), "db-pass");
}
