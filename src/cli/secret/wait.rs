//! `wait`: until everybody who uses a secret runs the version that it should.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::ask::{Ask, Consumer, Standing, current, part};
use super::{IN_THE_WAY, TIME_IS_UP};
use crate::domain::time::parse_span;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Options of `wait`.
#[derive(Debug, clap::Args)]
pub(super) struct Wait {
    /// Name of the secret
    name: String,
    /// The longest wait, as in 90s or 10m
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = span)]
    timeout: Duration,
}

fn span(text: &str) -> anyhow::Result<Duration> {
    let nanos = parse_span(text).and_then(|nanos| u64::try_from(nanos).ok());
    nanos.map(Duration::from_nanos).ok_or_else(|| anyhow!("no time as in 90s or 10m"))
}

/// How far a service is.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    /// All its tasks run what they should.
    Done,
    /// It is on the way.
    UnderWay(String),
    /// It will not go on by itself.
    Stuck(String),
}

impl Wait {
    pub(super) fn run(&self, ask: &Ask<'_>) -> anyhow::Result<ExitCode> {
        let secret = ask.secret(&self.name)?;
        let began = Instant::now();
        loop {
            let newest = current(&ask.versions(&secret.id)?);
            let (mut under_way, mut stuck) = (Vec::new(), Vec::new());
            for consumer in ask.consumers(&secret.id)? {
                let standing = ask.standing(&consumer.service_id)?;
                match progress(&consumer, &standing, newest) {
                    Progress::Done => {}
                    Progress::UnderWay(why) => under_way.push((why, consumer)),
                    Progress::Stuck(why) => stuck.push(why),
                }
            }
            if !stuck.is_empty() {
                return end(ask, newest, IN_THE_WAY, &stuck);
            }
            if under_way.is_empty() {
                return end(ask, newest, 0, &[]);
            }
            if began.elapsed() >= self.timeout {
                let mut told = Vec::new();
                for (why, consumer) in under_way {
                    told.push(why);
                    told.extend(waiting_tasks(ask, &consumer)?);
                }
                return end(ask, newest, TIME_IS_UP, &told);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

fn end(ask: &Ask<'_>, newest: u64, code: u8, told: &[String]) -> anyhow::Result<ExitCode> {
    let answer = json!({"Done": code == 0, "Version": newest, "InTheWay": told});
    ask.print(&answer, || match code {
        0 => format!(
            "every service that uses it runs the version that it should; current is {newest}"
        ),
        _ => told.join("\n"),
    })?;
    Ok(ExitCode::from(code))
}

/// Where a service stands that uses a secret, whose current version is `newest`.
fn progress(consumer: &Consumer, standing: &Standing, newest: u64) -> Progress {
    let name = &consumer.service_name;
    let Some(wanted) = consumer.wanted else {
        return match consumer.tasks.len() {
            0 => Progress::Done,
            count => Progress::UnderWay(format!("{name}: {count} tasks have yet to stop")),
        };
    };
    let Standing { status, replicas } = standing;
    let state = status.state.as_str();
    let told = || format!("{state}: {}", status.message);
    let behind = consumer.tasks.iter().filter(|task| task.version != wanted).count();
    let follows = consumer.follows.as_deref() == Some("automatic");
    if state.ends_with("paused") && follows && (behind > 0 || wanted != newest) {
        return Progress::Stuck(format!("{name}: {}", told()));
    }
    let running = consumer.tasks.iter().filter(|task| task.state == "running").count();
    let all = consumer.tasks.len();
    // What has failed and is not tried again is none of them.
    let meant = replicas.map_or(all, |replicas| usize::try_from(replicas).unwrap_or(usize::MAX));
    if behind > 0 || running < all.max(meant) {
        let what = format!("{behind} of {all} tasks have another version than {wanted}");
        let count = all.max(meant);
        return Progress::UnderWay(format!("{name}: {what}, {running} of {count} run"));
    }
    if matches!(state, "updating" | "rollback_started") {
        return Progress::UnderWay(format!("{name}: {}", told()));
    }
    if follows && wanted != newest {
        let why = if state.is_empty() { "it went back".to_owned() } else { told() };
        return Progress::Stuck(format!("{name}: has version {wanted} and not {newest}: {why}"));
    }
    Progress::Done
}

/// What the tasks of a service wait for, as they say themselves.
fn waiting_tasks(ask: &Ask<'_>, consumer: &Consumer) -> anyhow::Result<Vec<String>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Task {
        status: Status,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Status {
        message: String,
        #[serde(default)]
        err: String,
    }
    let mut told = Vec::new();
    for task in consumer.tasks.iter().filter(|task| task.state != "running").take(5) {
        let found: Option<Task> = ask.find(&format!("/tasks/{}", part(&task.id)))?;
        let Some(Task { status: Status { message, err } }) = found else { continue };
        let err = if err.is_empty() { String::new() } else { format!(": {err}") };
        told.push(format!("  task {}: {}: {message}{err}", task.id, task.state));
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::secret::ask::{Holder, UpdateStatus};

    fn consumer(follows: &str, wanted: u64, tasks: &[(u64, &str)]) -> Consumer {
        let holder = |(version, state): &(u64, &str)| {
            let (id, node_id, state) = ("t".to_owned(), None, (*state).to_owned());
            Holder { id, node_id, version: *version, state }
        };
        Consumer {
            service_id: "s".into(),
            service_name: "web".into(),
            wanted: Some(wanted),
            follows: Some(follows.into()),
            tasks: tasks.iter().map(holder).collect(),
        }
    }

    fn judged(consumer: &Consumer, state: &str) -> &'static str {
        let status = UpdateStatus { state: state.into(), message: "why".into() };
        let replicas = (consumer.follows.as_deref() != Some("job")).then_some(1);
        match progress(consumer, &Standing { status, replicas }, 2) {
            Progress::Done => "done",
            Progress::UnderWay(_) => "under way",
            Progress::Stuck(_) => "stuck",
        }
    }

    #[test]
    fn a_service_is_done_on_the_way_or_stuck() {
        let cases = [
            ("automatic", 2, &[(2, "running")][..], "completed", "done"),
            ("automatic", 2, &[], "completed", "under way"),
            ("job", 2, &[], "", "done"),
            ("automatic", 2, &[(2, "running")], "updating", "under way"),
            ("automatic", 2, &[(1, "running")], "", "under way"),
            ("automatic", 2, &[(2, "pending")], "updating", "under way"),
            ("automatic", 2, &[(2, "running"), (1, "running")], "paused", "stuck"),
            ("automatic", 1, &[(1, "running")], "rollback_started", "under way"),
            ("automatic", 1, &[(1, "running")], "rollback_completed", "stuck"),
            ("manual", 1, &[(1, "running")], "", "done"),
            ("pinned", 1, &[(1, "running")], "completed", "done"),
            ("pinned", 1, &[(1, "running")], "paused", "done"),
        ];
        for (follows, wanted, tasks, state, expected) in cases {
            let consumer = consumer(follows, wanted, tasks);
            assert_eq!(judged(&consumer, state), expected, "{consumer:?} {state}");
        }
    }
}
