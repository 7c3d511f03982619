//! `cargo bench`: purser beside a real swarm manager, on the same machine in the same run.
//!
//! The real manager is the dockerd which `tools/engine` starts in a namespace of its own. Both keep
//! their data below `target/tmp`, both are asked the same bytes by the same generator, and every
//! row is measured in turns (one server works, the other idles, then the other way about), so that
//! whatever else the machine does falls on both.
//!
//! ```text
//! cargo bench --bench load                                  both, and the budgets
//! cargo bench --bench load -- --only real                   one of them: real or purser
//! cargo bench --bench load -- --socket PATH [--pid PID]     any manager which already runs
//! ```
//!
//! It needs root and Docker (`tools/engine setup`). A missed budget is only shown, unless
//! `PURSER_BENCH_ENFORCE=1` makes it the exit status. After an interrupted run the next one cleans
//! up, and so does `tools/engine sweep target/tmp/load`.

#![expect(clippy::disallowed_methods, reason = "a load runner measures real time")]

mod client;
mod server;
mod table;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use client::{Client, Request, Work};
use server::Server;
use table::{Budget, Row, Unit};

/// Turns each server gets in a row.
const ROUNDS: usize = 5;
/// The longest a turn may take, which keeps a row under ten seconds a server.
const TURN_TIME_MAX: Duration = Duration::from_secs(2);
/// Between two turns, for the server just measured to finish what it does in the background.
const SETTLE_TIME: Duration = Duration::from_millis(200);

const CONNECTIONS: usize = 16;
const SECRET_BYTES: usize = 1024;
/// Secrets held when they are inspected and listed.
const SECRETS: usize = 10_000;
const CREATE_SINGLE_PER_TURN: usize = 200;
const CREATE_PER_TURN: usize = 5_000;
/// Creations at the beginning of a turn that do not count: a server that has been idle takes a while
/// to wake up, and what is measured is how it works.
const CREATE_LEAD: usize = 1_000;
const INSPECT_PER_TURN: usize = 20_000;
const LIST_PER_TURN: usize = 4;
const DELETE_PER_TURN: usize = SECRETS / ROUNDS;
/// Created and deleted again before anything counts.
const WARM_UP: usize = 500;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    // Without --bench this is `cargo test --all-targets`, or a runner asking for a list of tests.
    if !args.iter().any(|arg| arg == "--bench") {
        return ExitCode::SUCCESS;
    }
    let enforce = env::var("PURSER_BENCH_ENFORCE").is_ok_and(|value| value == "1");
    match run(&args) {
        Ok(missed) if missed > 0 && enforce => {
            eprintln!("{missed} of the budgets missed");
            ExitCode::FAILURE
        }
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and prints; returns how many budgets were missed.
fn run(args: &[String]) -> Result<usize> {
    let mut subjects = subjects(args)?;
    let rows = measure(&mut subjects)?;
    let names: Vec<&str> = subjects.iter().map(|subject| subject.server.name).collect();
    print!("{}", table::render(&names, &rows));
    Ok(rows.iter().filter(|row| row.met() == Some(false)).count())
}

fn subjects(args: &[String]) -> Result<Vec<Subject>> {
    let option = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1).cloned()
    };
    let servers = if let Some(socket) = option("--socket") {
        let pid = option("--pid").map(|pid| pid.parse()).transpose().context("--pid")?;
        vec![Server::running(PathBuf::from(socket), pid)]
    } else {
        match option("--only").as_deref() {
            None => vec![Server::start_real()?, Server::start_purser()?],
            Some("real") => vec![Server::start_real()?],
            Some("purser") => vec![Server::start_purser()?],
            Some(other) => bail!("--only takes real or purser, not {other}"),
        }
    };
    servers.into_iter().map(Subject::new).collect()
}

fn measure(subjects: &mut [Subject]) -> Result<Vec<Row>> {
    let idle = memory(subjects);
    for subject in &mut *subjects {
        subject.warm_up().with_context(|| format!("warming up {}", subject.server.name))?;
    }
    let create_single = in_turns(subjects, "create, 1 connection", Subject::create_single)?;
    let create = in_turns(subjects, "create, 16 connections", Subject::create)?;
    for subject in &mut *subjects {
        subject.fill()?;
    }
    let inspect = in_turns(subjects, "inspect", Subject::inspect)?;
    let list = in_turns(subjects, "list", Subject::list)?;
    let loaded = memory(subjects);
    let delete = in_turns(subjects, "delete", Subject::delete)?;

    let row = |what, unit, values, budget| Row { what, unit, values, budget };
    let rate = |works: Vec<Work>| works.iter().map(|work| Some(work.per_second())).collect();
    let time = |works: Vec<Work>| works.iter().map(|work| Some(work.seconds_each())).collect();
    Ok(vec![
        row(
            "create 1 KiB, 1 connection",
            Unit::PerSecond,
            rate(create_single),
            Some(Budget::AtLeast(1.5)),
        ),
        row(
            "create 1 KiB, 16 connections",
            Unit::PerSecond,
            rate(create),
            Some(Budget::AtLeast(10.0)),
        ),
        row(
            "inspect by id, 16 connections",
            Unit::PerSecond,
            rate(inspect),
            Some(Budget::AtLeast(5.0)),
        ),
        row("list of 10,000", Unit::Seconds, time(list), Some(Budget::AtMostOneIn(10.0))),
        row("delete, 16 connections", Unit::PerSecond, rate(delete), None),
        row("resident memory, no secrets", Unit::Bytes, idle, None),
        row("resident memory, 10,000 secrets", Unit::Bytes, loaded, None),
    ])
}

/// Gives every server [`ROUNDS`] turns, a different one beginning each round, and adds up what
/// each has done.
fn in_turns(
    subjects: &mut [Subject],
    what: &str,
    mut turn: impl FnMut(&mut Subject) -> Result<Work>,
) -> Result<Vec<Work>> {
    eprintln!("load: {what}");
    let mut works = vec![Work::default(); subjects.len()];
    for round in 0..ROUNDS {
        for place in 0..subjects.len() {
            let index = (round + place) % subjects.len();
            let subject = &mut subjects[index];
            thread::sleep(SETTLE_TIME);
            works[index] +=
                turn(subject).with_context(|| format!("{what} on {}", subject.server.name))?;
        }
    }
    Ok(works)
}

fn memory(subjects: &[Subject]) -> Vec<Option<f64>> {
    subjects.iter().map(|subject| subject.server.resident_bytes()).collect()
}

/// A server, the connections to it, and what it has been asked so far.
struct Subject {
    single: Client,
    many: Client,
    create: Request,
    inspect: Request,
    list: Request,
    delete: Request,
    /// Tells this run's names from those of any other.
    run: String,
    names_used: usize,
    /// The secrets which exist now.
    ids: Vec<String>,
    /// Dropped, and so stopped, after its connections.
    server: Server,
}

impl Subject {
    fn new(server: Server) -> Result<Self> {
        // Stands where each request has a name or an id of this length.
        const ID: &str = "0000000000000000000000000";
        let started =
            SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
        let run = format!("{:x}", started.as_millis());
        let name = name(&run, 0);
        let data = STANDARD.encode([b'x'; SECRET_BYTES]);
        let body = format!(r#"{{"Name":"{name}","Labels":{{}},"Data":"{data}"}}"#);
        let secret = format!("/v1.41/secrets/{ID}");
        Ok(Subject {
            single: Client::connect(&server.socket, 1)?,
            many: Client::connect(&server.socket, CONNECTIONS)?,
            create: Request::new("POST", "/v1.41/secrets/create", &body, &name, 201),
            inspect: Request::new("GET", &secret, "", ID, 200),
            list: Request::new("GET", "/v1.41/secrets", "", "", 200),
            delete: Request::new("DELETE", &secret, "", ID, 204),
            run,
            names_used: 0,
            ids: Vec::with_capacity(SECRETS + WARM_UP),
            server,
        })
    }

    fn warm_up(&mut self) -> Result<()> {
        self.create_some(WARM_UP, CONNECTIONS)?;
        self.inspect()?;
        self.list()?;
        while !self.ids.is_empty() {
            self.delete()?;
        }
        Ok(())
    }

    fn create_single(&mut self) -> Result<Work> {
        self.create_some(CREATE_SINGLE_PER_TURN, 1)
    }

    /// Creates, and deletes again what it has created: every turn finds the store as the first did.
    fn create(&mut self) -> Result<Work> {
        let before = self.ids.len();
        self.create_some(CREATE_LEAD, CONNECTIONS)?;
        let work = self.create_some(CREATE_PER_TURN, CONNECTIONS)?;
        while self.ids.len() > before {
            self.delete_some(self.ids.len() - before)?;
        }
        Ok(work)
    }

    fn create_some(&mut self, count: usize, connections: usize) -> Result<Work> {
        let names: Vec<String> = (0..count).map(|n| name(&self.run, self.names_used + n)).collect();
        let client = if connections == 1 { &mut self.single } else { &mut self.many };
        let work = client.drive(&mut self.create, &names, TURN_TIME_MAX, |body| {
            self.ids.push(created_id(body)?);
            Ok(())
        })?;
        self.names_used += work.count;
        Ok(work)
    }

    /// Creates what is missing, and sees to it that the list is complete.
    fn fill(&mut self) -> Result<()> {
        while self.ids.len() < SECRETS {
            self.create_some((SECRETS - self.ids.len()).min(CREATE_PER_TURN), CONNECTIONS)?;
        }
        let body = self.single.fetch(&self.list)?;
        let secrets: Vec<Value> =
            serde_json::from_slice(&body).context("the list is no JSON array")?;
        let ours = secrets.iter().filter(|secret| {
            let name = secret["Spec"]["Name"].as_str();
            name.is_some_and(|name| name.contains(&self.run))
        });
        ensure!(ours.count() == SECRETS, "the list does not have all that was created");
        Ok(())
    }

    /// Inspects in an order far from that of creation, which no cache of recent writes helps.
    fn inspect(&mut self) -> Result<Work> {
        const STRIDE: usize = 7_919; // a prime, so that every secret has its turn
        let ids: Vec<String> =
            (0..INSPECT_PER_TURN).map(|n| self.ids[n * STRIDE % self.ids.len()].clone()).collect();
        self.many.drive(&mut self.inspect, &ids, TURN_TIME_MAX, |_| Ok(()))
    }

    fn list(&mut self) -> Result<Work> {
        let lists = vec![String::new(); LIST_PER_TURN];
        self.single.drive(&mut self.list, &lists, TURN_TIME_MAX, |_| Ok(()))
    }

    fn delete(&mut self) -> Result<Work> {
        self.delete_some(DELETE_PER_TURN)
    }

    fn delete_some(&mut self, count: usize) -> Result<Work> {
        let ids = &self.ids[self.ids.len().saturating_sub(count)..];
        let work = self.many.drive(&mut self.delete, ids, TURN_TIME_MAX, |_| Ok(()))?;
        let first = self.ids.len() - ids.len();
        self.ids.drain(first..first + work.count);
        Ok(work)
    }
}

fn name(run: &str, number: usize) -> String {
    format!("load-{run}-{number:08}")
}

/// Reads `{"ID":"…"}` without the cost of a JSON parser.
fn created_id(body: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(body)?;
    let id = text.split_once(r#""ID":""#).and_then(|(_, rest)| rest.split_once('"'));
    let (id, _) = id.with_context(|| format!("no id in {text}"))?;
    Ok(id.to_owned())
}
