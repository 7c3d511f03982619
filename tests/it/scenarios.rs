//! Scenarios: scripts of commands over the planners, each with its output kept beside it.
//!
//! ```text
//!   a line ──▶ intents ──▶ planners until content ──▶ agents report ──┐
//!                              ▲                                      │
//!                              └────────── until nothing moves ◀──────┘
//! ```
//!
//! A line holds commands separated by `;`, which are decided together before the planners look. The
//! clock moves only by `advance`, from one moment to the next at which a planner or an agent has
//! something to do. After every line a checker looks over the view; what it finds stands in the
//! output behind `!!`, and makes the test fail.
//!
//! The scripts and outputs are in `tests/scenarios/`, what runs them in the modules here.
//! `UPDATE_SCENARIOS=1 cargo test --test it scenarios` rewrites the outputs.

mod agent;
mod check;
mod check_network;
mod check_task;
mod command;
mod crash_loop;
mod forecast;
mod grants;
mod heal;
mod networks;
mod random;
mod rolled_back;
mod show;
mod spec;
mod world;

use std::fmt::Write as _;
use std::path::PathBuf;

use world::World;

macro_rules! scenarios {
    ($($name:ident)*) => {
        const ALL: &[&str] = &[$(stringify!($name)),*];
        $(#[test] fn $name() { compare(stringify!($name)); })*
    };
}

scenarios! {
    attachments
    attempts
    constraints
    drain
    explanations
    failing_node
    forced_update
    generic_resources
    given_up
    global_job
    global_nodes
    global_policies
    global_update
    health
    history
    host_ports
    job
    job_attempts
    job_manager_restart
    job_nodes
    job_removed
    job_rerun
    label_only_update
    manager_restart
    many_tasks
    max_replicas
    misplaced
    networks_full
    networks_given
    networks_moved
    networks_namesake
    networks_removed
    networks_virtual
    node_down
    node_removed
    orphaned
    orphaned_restart
    pause
    plugins
    removal
    resources
    restart_policies
    rollback
    rollback_by_failure
    rollback_fails
    rotate
    rotate_choose
    rotate_own_way
    rotate_policies
    rotate_returns
    rotate_together
    scale
    scale_during_update
    spread
    spread_preferences
    staging
    start_first
    start_first_failing
    start_first_restart
    stuck_node
    update
    update_continue
    update_of_ended
    update_order
    update_over_update
    update_paused
}

#[test]
fn every_script_is_run() {
    let mut found: Vec<String> = std::fs::read_dir(folder())
        .expect("the folder of scripts")
        .filter_map(|entry| entry.expect("an entry").file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".txt").map(str::to_owned))
        .collect();
    found.sort();
    assert_eq!(found, ALL);
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

/// Runs a script and compares its output with the one kept.
fn compare(name: &str) {
    let script = folder().join(format!("{name}.txt"));
    let script = std::fs::read_to_string(script).expect("a script");
    let (actual, complaints) = run(&script);
    let kept = folder().join(format!("{name}.out"));
    if std::env::var_os("UPDATE_SCENARIOS").is_some() {
        std::fs::write(&kept, &actual).expect("an output that can be written");
    }
    let expected = std::fs::read_to_string(&kept).unwrap_or_default();
    assert!(actual == expected, "{name} came out differently:\n{}", difference(&expected, &actual));
    assert!(complaints.is_empty(), "{name}: {}", complaints.join("\n"));
}

/// Runs a script; answers its output and what the checker found.
fn run(script: &str) -> (String, Vec<String>) {
    let mut world = World::new(0);
    let mut output = String::new();
    let mut complaints = Vec::new();
    for line in script.lines() {
        let _ = writeln!(
            output,
            "{}",
            if line.is_empty() { String::new() } else { format!("> {line}") }
        );
        output.push_str(&world.line(line));
        for complaint in std::mem::take(&mut world.complaints) {
            let _ = writeln!(output, "!! {complaint}");
            complaints.push(format!("after `{line}`: {complaint}"));
        }
    }
    (output, complaints)
}

/// The lines that differ, with what they stand between.
fn difference(expected: &str, actual: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (expected.lines().collect(), actual.lines().collect());
    let same = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    let tail = tail.min(old.len().min(new.len()) - same);
    let part = |sign: char, lines: &[&str]| {
        lines[same..lines.len() - tail].iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{sign} {line}");
            text
        })
    };
    let before = old[same.saturating_sub(3)..same].join("\n  ");
    format!("  {before}\n{}{}", part('-', &old), part('+', &new))
}
