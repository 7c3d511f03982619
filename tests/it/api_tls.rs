//! The API over TCP with TLS: who gets in, with which files, and what they hold up.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::kit::eventually;
use crate::kit::purser::Purser;
use crate::kit::tls::{Authority, CLIENT, Guarded, LATER, LONG_AGO, Pair, SERVER, options};

/// Longer than a handshake may take, and than renewed files take to be noticed.
const PATIENCE: Duration = Duration::from_secs(30);

/// curl for a client with this certificate, or none.
fn curl(guarded: &Guarded, pair: Option<&Pair>, more: &[&str], path: &str) -> Command {
    let mut command = Command::new("curl");
    command.args(["-sS", "-N", "-m", "60", "--cacert"]).arg(&guarded.authority.file);
    if let Some(pair) = pair {
        command.arg("--cert").arg(&pair.cert).arg("--key").arg(&pair.key);
    }
    command.args(more).arg(format!("https://{}{path}", guarded.addr));
    command
}

/// The body of the answer to a `GET`; none for who is not let in.
fn get(guarded: &Guarded, pair: Option<&Pair>, more: &[&str]) -> Option<String> {
    let said = curl(guarded, pair, more, "/_ping").output().expect("curl is installed");
    said.status.success().then(|| String::from_utf8_lossy(&said.stdout).into_owned())
}

/// How a server's certificate looks to who connects, in any form that is another for another one.
fn shown(guarded: &Guarded, pair: &Pair) -> String {
    let more = ["-o", "/dev/null", "-w", "%{certs}"];
    get(guarded, Some(pair), &more).expect("who may connect gets in")
}

#[test]
fn only_clients_of_the_authority_get_in_with_either_version_of_tls() {
    let guarded = Guarded::serve("tls-who");
    let others = Authority::new(&guarded.dir, "others");
    let ann = guarded.authority.issue("ann", &CLIENT, LATER);
    let refused = [
        None,
        Some(others.issue("mallory", &CLIENT, LATER)),
        Some(guarded.authority.issue("yesterday", &CLIENT, LONG_AGO)),
        Some(guarded.authority.issue("misused", &SERVER, LATER)),
    ];
    for versions in [["--tlsv1.2", "--tls-max", "1.2"], ["--tlsv1.3", "--tls-max", "1.3"]] {
        assert_eq!(get(&guarded, Some(&ann), &versions).as_deref(), Some("OK"), "{versions:?}");
        for pair in &refused {
            assert_eq!(get(&guarded, pair.as_ref(), &versions), None, "{versions:?} {pair:?}");
        }
    }
    let agreed = get(&guarded, Some(&ann), &["--http2", "-w", " %{http_version}"]);
    assert_eq!(agreed.as_deref(), Some("OK 1.1"));
    let old = ["--tlsv1.0", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0"];
    assert_eq!(get(&guarded, Some(&ann), &old), None);
    let log = guarded.purser.log();
    assert!(log.contains("\"client\":\"ann\""), "{log}");
    for name in ["mallory", "yesterday", "misused"] {
        assert!(!log.contains(name), "{name}: {log}");
    }
}

#[test]
fn what_is_logged_of_a_request_names_the_client() {
    let guarded = Guarded::with_args("tls-name", &["--engine", "unix:///nonexistent.sock"]);
    let ann = guarded.authority.issue("ann", &CLIENT, LATER);
    let said = curl(&guarded, Some(&ann), &[], "/containers/json").output();
    assert!(said.expect("curl is installed").status.success());
    let log = guarded.purser.log();
    let line = log.lines().find(|line| line.contains("a request could not be passed on"));
    let line = line.expect("there is no engine to pass it on to");
    assert!(line.contains("\"client\":\"cert:ann\""), "{line}");
}

#[test]
fn who_speaks_no_tls_is_told_so_at_once() {
    let guarded = Guarded::serve("tls-plain");
    let mut stream = TcpStream::connect(&guarded.addr).expect("it listens");
    // Less than a handshake may take: it is not waited for.
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a time");
    stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n").expect("it is open");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the end comes");
    assert_eq!((answer.len(), answer.first()), (7, Some(&0x15)), "not an alert: {answer:?}");
}

#[test]
fn who_is_slow_holds_up_nobody_and_is_given_up() {
    let guarded = Guarded::serve("tls-slow");
    let ann = guarded.authority.issue("ann", &CLIENT, LATER);
    let silent = |count: usize| -> Vec<TcpStream> {
        (0..count).map(|_| TcpStream::connect(&guarded.addr).expect("it listens")).collect()
    };
    let mut few = silent(100);
    let quick = ["-m", "5"];
    assert_eq!(get(&guarded, Some(&ann), &quick).as_deref(), Some("OK"));
    // More than there may be at once: the next wait, and this host's own socket does not.
    let more = silent(300);
    assert_eq!(guarded.purser.client().get("/_ping").status, 200);
    eventually("the slow are given up", PATIENCE, || get(&guarded, Some(&ann), &quick));
    let first = few.first_mut().expect("a connection");
    first.set_read_timeout(Some(PATIENCE)).expect("a time");
    assert_eq!(first.read(&mut [0; 1]).ok(), Some(0));
    drop(more);
}

/// A stream of events over TLS; ended when dropped.
struct Events(Child, BufReader<std::process::ChildStdout>);

impl Events {
    fn open(guarded: &Guarded, pair: &Pair) -> Events {
        let mut command = curl(guarded, Some(pair), &[], "/events?since=0");
        let mut child = command.stdout(Stdio::piped()).spawn().expect("curl is installed");
        let stdout = child.stdout.take().expect("it was piped");
        Events(child, BufReader::new(stdout))
    }

    /// Waits for the next event; curl ends, and with it the stream, when there is none.
    fn next(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).expect("a line");
        line
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn make_secret(purser: &Purser, name: &str) {
    let spec = serde_json::json!({"Name": name, "Data": "eA=="});
    assert_eq!(purser.client().post("/secrets/create", &spec).status, 201);
}

#[test]
fn renewed_files_are_taken_and_broken_ones_are_not() {
    let guarded = Guarded::serve("tls-renew");
    guarded.purser.init("127.0.0.1:0");
    let ann = guarded.authority.issue("ann", &CLIENT, LATER);
    make_secret(&guarded.purser, "before");
    let mut events = Events::open(&guarded, &ann);
    let mut until = |name: &str| loop {
        let line = events.next();
        assert!(!line.is_empty(), "the stream ended before {name}");
        if line.contains(name) {
            return;
        }
    };
    until("before");

    let first = shown(&guarded, &ann);
    assert!(first.contains("BEGIN CERTIFICATE"), "{first}");
    let broken = "cannot be used; it goes on with the old ones";
    let count = || guarded.purser.log().matches(broken).count();
    // A certificate without its key, then no certificate at all.
    let key = std::fs::read(&guarded.server.key).expect("a file");
    guarded.authority.issue("server", &SERVER, LATER);
    std::fs::write(&guarded.server.key, key).expect("a file");
    eventually("the log names what does not fit", PATIENCE, || (count() == 1).then_some(()));
    std::fs::write(&guarded.server.cert, "no certificate").expect("a file");
    eventually("the log names what is none", PATIENCE, || (count() == 2).then_some(()));
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(count(), 2, "it is said once");
    assert_eq!(shown(&guarded, &ann), first);

    guarded.authority.issue("server", &SERVER, LATER);
    let second = eventually("the new certificate is shown", PATIENCE, || {
        Some(shown(&guarded, &ann)).filter(|shown| *shown != first)
    });
    // Another authority of clients: who came in before stays, and does not come in again.
    let others = Authority::new(&guarded.dir, "others");
    let bob = others.issue("bob", &CLIENT, LATER);
    assert_eq!(get(&guarded, Some(&bob), &[]), None);
    let text = std::fs::read(&guarded.authority.file).expect("a file");
    std::fs::copy(&others.file, &guarded.authority.file).expect("a file");
    let own = guarded.dir.join("own.pem");
    std::fs::write(&own, text).expect("a file");
    let own = ["--cacert", own.to_str().expect("a path")];
    eventually("the new authority counts", PATIENCE, || get(&guarded, Some(&bob), &own));
    assert_eq!(get(&guarded, Some(&ann), &own), None);
    assert_eq!(second.matches("BEGIN CERTIFICATE").count(), 1, "{second}");
    make_secret(&guarded.purser, "after");
    until("after");
}

/// What `purser serve` with these options refuses to start with.
#[track_caller]
fn refusal(purser: &Purser, args: &[String]) -> String {
    let said = Command::new("timeout")
        .args(["30", env!("CARGO_BIN_EXE_purser"), "serve", "--engine", "none"])
        .args(purser.dirs())
        .args(args)
        .env_clear()
        .output()
        .expect("the binary runs");
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    String::from_utf8_lossy(&said.stderr).into_owned()
}

#[test]
fn files_that_cannot_be_used_stop_the_start() {
    let guarded = Guarded::serve("tls-files");
    let mut purser = Purser::serve("tls-refused");
    purser.kill();
    let check = |args: &[String], expected: &str| {
        let said = refusal(&purser, args);
        assert!(said.contains(expected), "{expected}: {said}");
    };
    let addr = |addr: &str| vec!["--api-addr".to_owned(), addr.to_owned()];
    let all = options(&guarded.server, &guarded.authority);
    let with = |args: &[String]| [&addr("127.0.0.1:0")[..], args].concat();

    check(&addr("0.0.0.0:0"), "0.0.0.0:0 can be reached from other hosts, and without TLS");
    check(&all, "say where with --api-addr");
    for (at, missing) in [(0, "--api-tls-cert"), (2, "--api-tls-key"), (4, "--api-tls-ca")] {
        let part = [&all[..at], &all[at + 2..]].concat();
        check(&with(&part), &format!("together; {missing} is missing"));
    }
    let change = |at: usize, path: &Path| {
        let mut args = all.clone();
        args[at] = path.display().to_string();
        with(&args)
    };
    let file = |name: &str, text: &str, mode: u32| {
        let path = guarded.dir.join(name);
        std::fs::write(&path, text).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
        path
    };
    let junk = file("junk.pem", "junk", 0o600);
    let long = file("long.pem", &"x".repeat((1 << 20) + 1), 0o600);
    let key = std::fs::read_to_string(&guarded.server.key).expect("a file");
    let open = file("open-key.pem", &key, 0o640);
    let other = guarded.authority.issue("other", &SERVER, LATER);
    check(&change(1, &guarded.dir.join("nowhere.pem")), "nowhere.pem: No such file");
    check(&change(1, &junk), "junk.pem does not hold certificates");
    check(&change(1, &long), "long.pem is too long");
    check(&change(1, &other.cert), "other.pem cannot be used as the server's certificate");
    check(&change(3, &open), "open-key.pem has mode 0640");
    check(&change(3, &junk), "junk.pem does not hold a private key");
    check(&change(5, &junk), "junk.pem does not hold certificates");
    let text = std::fs::read_to_string(&guarded.server.key).expect("a file");
    let inner = text.lines().nth(1).expect("a line of the key");
    assert!(!refusal(&purser, &change(1, &guarded.server.key)).contains(inner));
}

#[test]
fn a_file_of_options_says_it_as_well() {
    let guarded = Guarded::serve("tls-toml");
    let ann = guarded.authority.issue("ann", &CLIENT, LATER);
    let config = guarded.dir.join("purser.toml");
    let probe = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = probe.local_addr().expect("its address").to_string();
    drop(probe);
    let text = format!(
        "api-addr = '{addr}'\napi-tls-cert = '{}'\napi-tls-key = '{}'\napi-tls-ca = '{}'\n",
        guarded.server.cert.display(),
        guarded.server.key.display(),
        guarded.authority.file.display()
    );
    std::fs::write(&config, text).expect("a file");
    let path = config.display().to_string();
    let purser = Purser::with_args("tls-from-toml", &["--engine", "none", "--config", &path]);
    let other = Guarded { purser, addr, ..guarded };
    assert_eq!(get(&other, Some(&ann), &[]).as_deref(), Some("OK"));
    assert_eq!(get(&other, None, &[]), None);
}
