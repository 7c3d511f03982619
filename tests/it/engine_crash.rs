//! purser is killed again and again over an engine that works: containers never notice.

use crate::kit::docker::docker_with;
use crate::kit::engine::Site;
use crate::kit::load::{Random, Writer};
use crate::store_crash::round;

const KILLS: usize = 12;

#[test]
fn containers_do_not_notice_that_their_manager_is_killed() {
    let mut site = Site::up(&["crash", "crash"]);
    docker_with(&site.purser.socket(), "secret create s -", b"This is a secret").ok();
    site.docker("service create -d --name web --replicas 4 --secret s redis:alpine").ok();
    let tasks = site.await_running("web", 4);
    let before: Vec<_> = site.engines.iter().map(crate::kit::engine::Engine::containers).collect();
    assert_eq!(before.iter().map(Vec::len).sum::<usize>(), 4);

    let mut random = Random::new();
    // What the clients write is planned all the way, and for no node.
    let nowhere = Some("node.labels.none == such");
    let mut writers: Vec<Writer> = (0..3).map(|number| Writer::new(number, nowhere)).collect();
    for _ in 0..KILLS {
        round(&mut site.purser, &mut writers, &mut random);
    }
    for engine in &site.engines {
        site.await_node(engine, "ready");
    }
    assert_eq!(site.await_running("web", 4), tasks);
    let after: Vec<_> = site.engines.iter().map(crate::kit::engine::Engine::containers).collect();
    assert_eq!(after, before);
    for task in &tasks {
        assert_eq!(site.exec(task, "cat /run/secrets/s").ok(), "This is a secret");
    }
}
