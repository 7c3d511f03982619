//! A disk without room: what cannot be written is refused and said, nothing is lost, and all goes on
//! once there is room.

use std::path::PathBuf;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::kit::engine::PATIENCE;
use crate::kit::eventually;
use crate::kit::purser::Purser;

/// A small file system in memory over a directory; unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    fn over(dir: PathBuf, size: &str) -> Disk {
        let options = format!("size={size},mode=0700");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(&dir));
        Disk(dir)
    }

    fn grow(&self, size: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,size={size}")]).arg(&self.0));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run(Command::new("umount").arg("-l").arg(&self.0));
    }
}

fn run(command: &mut Command) {
    let done = command.output().expect("it is installed");
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn a_full_disk_is_said_and_loses_nothing() {
    let mut purser = Purser::serve("full");
    purser.stop();
    let disk = Disk::over(purser.data_dir(), "8m");
    purser.start();
    purser.init("127.0.0.1:0");
    let client = purser.client();
    let value = STANDARD.encode(vec![b'x'; 400_000]);
    let create = |number: u32| {
        client.post("/secrets/create", &json!({"Name": format!("s{number}"), "Data": value})).status
    };
    let made = (0..100).take_while(|number| create(*number) == 201).count();
    assert!((5..30).contains(&made), "{made}");
    let ready = client.get("/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.message().contains("disk is full"), "{}", ready.message());
    assert!(client.get("/metrics").text().contains("\npurser_store_failing 1\n"));
    for number in 200..220 {
        create(number);
    }
    let log = purser.log();
    assert_eq!(log.matches("the store cannot write").count(), 1, "it is logged once");
    assert!(log.contains("disk is full"), "with the cause");
    let listed = || client.get("/secrets").json().as_array().map_or(0, Vec::len);
    assert_eq!(listed(), made, "what was answered is there, and nothing else");
    disk.grow("64m");
    eventually("it writes again", PATIENCE, || (create(300) == 201).then_some(()));
    assert_eq!(client.get("/readyz").status, 200);
    assert_eq!(purser.log().matches("the store writes again").count(), 1);
    let before = listed();
    purser.kill();
    purser.start();
    assert_eq!(listed(), before);
}
