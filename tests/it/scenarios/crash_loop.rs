//! What fails at once is remade less and less often.

use std::collections::BTreeSet;

use super::world::World;

/// How many tasks a service had within an hour.
fn made_within_an_hour(settings: &str) -> usize {
    let mut world = World::new(0);
    let mut run = |command: &str| world.command(command).expect("it is done");
    run("node n1");
    run(&format!("service web replicas=1 {settings}"));
    let mut seen = BTreeSet::new();
    for _ in 0..3600 {
        world.command("advance 1s").expect("it is done");
        seen.extend(world.view.tasks().map(|task| task.id));
    }
    seen.len()
}

#[test]
fn no_task_is_remade_more_than_a_few_hundred_times_an_hour() {
    for settings in ["image=crash:1 delay=0s", "image=crash:1 delay=1s", "image=absent:1 delay=0s"]
    {
        let made = made_within_an_hour(settings);
        assert!((200..300).contains(&made), "{settings}: {made}");
    }
    let made = made_within_an_hour("image=crash:1 delay=30s");
    assert!((100..125).contains(&made), "the policy's own delay counts: {made}");
}
