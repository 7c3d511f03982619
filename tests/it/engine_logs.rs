//! Logs of services as the docker command shows them, from stock engines.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::kit::engine::{PATIENCE, Site};
use crate::kit::eventually;

/// Two lines on standard output, one on standard error, and then whatever the test puts into a file
/// `/tmp/say-…`.
const TALK: &str = "echo one; echo oops >&2; echo two; \
    while true; do for f in /tmp/say-*; do [ -e $f ] && cat $f && rm $f; done; sleep 0.2; done";

/// `docker service logs -f` while it runs.
struct Following {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Following {
    fn start(site: &Site, what: &str) -> Following {
        let mut child = Command::new("docker")
            .args(["service", "logs", "-f", what])
            .env("DOCKER_HOST", format!("unix://{}", site.purser.socket().display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the docker command is installed");
        let mut out = child.stdout.take().expect("it was piped");
        let said = Arc::new(Mutex::new(String::new()));
        let noted = said.clone();
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(len @ 1..) = out.read(&mut part) {
                let text = String::from_utf8_lossy(&part[..len]);
                noted.lock().expect("nobody panics").push_str(&text);
            }
        });
        Following { child, said }
    }

    #[track_caller]
    fn until(&self, text: &str) {
        eventually(&format!("{text:?} is seen"), PATIENCE, || {
            self.said.lock().expect("nobody panics").contains(text).then_some(())
        });
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines without the names in front of them, sorted.
fn words(text: &str) -> Vec<&str> {
    let mut words: Vec<&str> =
        text.lines().map(|line| line.rsplit_once("| ").map_or(line, |(_, word)| word)).collect();
    words.sort_unstable();
    words
}

#[test]
fn service_logs_come_from_all_engines() {
    let site = Site::up(&["a", "b"]);
    let create = format!("service create -d --name web --mode global redis:alpine sh -c '{TALK}'");
    site.docker(&create).ok();
    let tasks = site.await_running("web", 2);
    let said = eventually("all have spoken", PATIENCE, || {
        let said = site.docker("service logs web");
        assert_eq!(said.code, 0, "{said:?}");
        (said.out.lines().count() == 4 && said.err.lines().count() == 2).then_some(said)
    });
    assert_eq!(words(&said.out), ["one", "one", "two", "two"]);
    assert_eq!(words(&said.err), ["oops", "oops"]);
    for (engine, task) in site.engines.iter().zip([0, 1]) {
        assert!(said.out.contains(&format!("@{}", engine.name())), "{}", said.out);
        assert!(said.out.contains(&tasks[task].task[..12]), "{}", said.out);
    }
    let tail = site.docker("service logs --tail 1 web");
    let count = tail.out.lines().count() + tail.err.lines().count();
    assert_eq!((tail.code, count), (0, 2), "the newest of each task: {tail:?}");
    let stamped = site.docker("service logs --timestamps --raw web").ok();
    for line in stamped.lines() {
        let (time, word) = line.split_once(' ').expect("a time and a word");
        assert!(time.len() == 30 && time.ends_with('Z'), "{line}");
        assert!(["one", "two"].contains(&word), "{line}");
    }
    let since = site.docker("service logs --since 2100-01-01T00:00:00Z web");
    assert_eq!((since.code, since.out.as_str()), (0, ""), "{since:?}");
    let of_one = site.docker(&format!("service logs {}", tasks[0].task));
    assert_eq!((of_one.code, words(&of_one.out)), (0, vec!["one", "two"]), "{of_one:?}");

    let following = Following::start(&site, "web");
    following.until("two");
    for (task, text) in tasks.iter().zip(["first", "second"]) {
        site.exec(task, &format!("sh -c 'echo {text} > /tmp/x; mv /tmp/x /tmp/say-{text}'")).ok();
        following.until(text);
    }
    drop(following);
    // A node that is down is named, and the others have their say.
    site.engines[1].kill();
    site.await_node(&site.engines[1], "down");
    let said = site.docker("service logs web");
    assert_eq!(said.code, 1, "{said:?}");
    let words = words(&said.out);
    assert!(words.len() == 3 && words.contains(&"one") && words.contains(&"two"), "{words:?}");
    assert!(said.err.contains("Error grabbing logs: incomplete log stream: node "), "{said:?}");
    site.docker("service rm web").ok();
    let gone = site.docker("service logs web");
    assert_eq!((gone.code, gone.err.as_str()), (1, "no such task or service: web"));
}

#[test]
fn a_terminal_is_shown_raw() {
    let site = Site::up(&["tty"]);
    site.docker("service create -d --name term --tty redis:alpine sh -c 'echo hello; sleep 1000'")
        .ok();
    let task = site.await_running("term", 1).remove(0);
    let raw = |what: &str| site.docker(&format!("service logs --raw {what}"));
    eventually("it has spoken", PATIENCE, || (raw("term").out.trim() == "hello").then_some(()));
    assert_eq!(raw(&task.task).ok().trim(), "hello");
    let said = site.docker("service logs term");
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("--raw"), "{}", said.err);
}
