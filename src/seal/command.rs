//! What a command prints: the door to whatever keeps keys and secrets elsewhere.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use zeroize::Zeroizing;

/// What a command prints on its standard output, up to so many bytes. What it prints beyond them is not
/// read, so that it fails.
///
/// # Errors
/// It cannot be run, takes longer than it may, or does not end well. The text goes on after the command's
/// name, and holds nothing of what it printed.
pub fn output(
    command: &mut Command,
    time_max: Duration,
    bytes_max: u64,
) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot be run: {error}"))?;
    let output = child.stdout.take().ok_or("has no output")?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Zeroizing::new(Vec::with_capacity(256));
        let read = output.take(bytes_max).read_to_end(&mut bytes).map(|_| bytes);
        // Who waited may have given up.
        let _ = sender.send(read);
    });
    let Ok(read) = receiver.recv_timeout(time_max) else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("did not end within {} seconds", time_max.as_secs()));
    };
    let bytes = read.map_err(|error| format!("cannot be read: {error}"))?;
    let status = child.wait().map_err(|error| format!("cannot be awaited: {error}"))?;
    if status.success() { Ok(bytes) } else { Err(format!("ended with {status}")) }
}
