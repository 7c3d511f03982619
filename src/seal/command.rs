//! What a command prints: the door to whatever keeps keys and secrets elsewhere.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use zeroize::Zeroizing;

/// How often it is looked whether a command has ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

type Printed = std::io::Result<Zeroizing<Vec<u8>>>;

/// What a command prints on its standard output, up to so many bytes: what it has printed once it has ended
/// itself. What it leaves behind in its process group is ended with it, as the command is when it takes longer
/// than it may.
///
/// # Errors
/// It cannot be run, takes too long, does not end well or prints more. The text goes on after the command's
/// name, and holds nothing of what it printed.
pub fn output(
    command: &mut Command,
    time_max: Duration,
    bytes_max: usize,
) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut child = command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot be run: {error}"))?;
    let output = child.stdout.take().ok_or("has no output")?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Zeroizing::new(Vec::with_capacity(256));
        // One more tells that there is more.
        let read = output.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map(|_| bytes);
        // Who waited may have given up.
        let _ = sender.send(read);
    });
    let ended = await_end(&mut child, &receiver, time_max);
    if let Ok(pid) = i32::try_from(child.id()) {
        // Nobody may be left, which is fine.
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let (status, printed) = match ended {
        Ok(ended) => ended,
        Err(why) => {
            let _ = child.wait();
            return Err(why);
        }
    };
    // Its output ends now, unless something has taken it out of the group.
    let printed = match printed {
        Some(printed) => printed,
        None => receiver.recv_timeout(Duration::from_secs(1)).map_err(|_| {
            "has ended and left something behind that holds its output open".to_owned()
        })?,
    };
    let bytes = printed.map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() > bytes_max {
        return Err(format!("printed more than {bytes_max} bytes"));
    }
    if status.success() { Ok(bytes) } else { Err(format!("ended with {status}")) }
}

/// Waits for the end of a command, and for what it printed if that ends before.
fn await_end(
    child: &mut Child,
    receiver: &Receiver<Printed>,
    time_max: Duration,
) -> Result<(ExitStatus, Option<Printed>), String> {
    let mut printed = None;
    let mut waited = Duration::ZERO;
    while waited < time_max {
        match printed {
            None => match receiver.recv_timeout(LOOK_EVERY) {
                Ok(read) => printed = Some(read),
                Err(RecvTimeoutError::Timeout) => waited += LOOK_EVERY,
                Err(RecvTimeoutError::Disconnected) => return Err("cannot be read".into()),
            },
            Some(_) => {
                std::thread::sleep(LOOK_EVERY);
                waited += LOOK_EVERY;
            }
        }
        let ended = child.try_wait().map_err(|error| format!("cannot be awaited: {error}"))?;
        if let Some(status) = ended {
            return Ok((status, printed));
        }
    }
    Err(format!("did not end within {} seconds", time_max.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str) -> Result<Vec<u8>, String> {
        let mut command = Command::new("sh");
        let printed = output(command.args(["-c", script]), Duration::from_secs(2), 100);
        printed.map(|bytes| bytes.to_vec())
    }

    #[test]
    fn a_command_that_goes_on_holds_up_nobody() {
        assert_eq!(run("printf x"), Ok(b"x".to_vec()));
        assert_eq!(run("sleep 300 & printf x"), Ok(b"x".to_vec()), "what it started is ended");
        assert_eq!(run("sleep 0.1; exec 1>&-"), Ok(Vec::new()));
        for (script, why) in [
            ("printf x; exec >&-; exec sleep 300", "did not end within 2 seconds"),
            ("trap '' TERM; sleep 300", "did not end within 2 seconds"),
            ("printf x; exit 7", "ended with exit status: 7"),
            ("head -c 101 /dev/zero", "printed more than 100 bytes"),
            ("setsid sleep 3 2>&- & sleep 0.2; printf x", "holds its output open"),
        ] {
            let error = run(script).expect_err(script);
            assert!(error.contains(why), "{script}: {error}");
        }
    }
}
