//! What a command prints. It stands for whatever keeps keys: a KMS, a TPM, a password manager.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::{UnlockError, UnlockKey, file};

/// How long a command may take. One that asks something far away may have to wait for it.
const TIME_MAX: Duration = Duration::from_secs(60);
/// Bytes that are read at most; a key is far shorter.
const OUTPUT_MAX: u64 = 256;

/// The key that a command prints on its standard output: 64 hexadecimal digits, or 32 bytes.
pub(super) fn key(words: &[String]) -> Result<UnlockKey, UnlockError> {
    let failed = |why: String| UnlockError::Command { command: words.join(" "), why };
    let (program, arguments) = words.split_first().ok_or_else(|| failed("is empty".into()))?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("cannot be run: {error}")))?;
    let output = child.stdout.take().ok_or_else(|| failed("has no output".into()))?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Zeroizing::new(Vec::with_capacity(256));
        let read = output.take(OUTPUT_MAX).read_to_end(&mut bytes).map(|_| bytes);
        // Who waited may have given up.
        let _ = sender.send(read);
    });
    let Ok(read) = receiver.recv_timeout(TIME_MAX) else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(failed(format!("printed no key within {} seconds", TIME_MAX.as_secs())));
    };
    let bytes = read.map_err(|error| failed(format!("cannot be read: {error}")))?;
    let status = child.wait().map_err(|error| failed(format!("cannot be awaited: {error}")))?;
    if !status.success() {
        return Err(failed(format!("ended with {status}")));
    }
    file::from_output(&bytes).ok_or_else(|| {
        failed("printed something else than 64 hexadecimal digits or 32 bytes".into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str) -> Result<UnlockKey, String> {
        key(&["sh".into(), "-c".into(), script.into()]).map_err(|error| error.to_string())
    }

    #[test]
    fn a_command_prints_a_key_or_says_why_not() {
        let digits = "07".repeat(32);
        let expected = UnlockKey::from_bytes([7; 32]);
        assert!(run(&format!("echo {digits}")).is_ok_and(|key| key.is(&expected)));
        assert!(run("head -c 32 /dev/zero | tr '\\0' '\\7'").is_ok_and(|key| key.is(&expected)));
        for (script, why) in [
            ("echo secret", "printed something else"),
            ("exit 3", "ended with exit status: 3"),
            (&format!("echo {digits}; exit 1"), "ended with"),
            ("head -c 100000 /dev/zero", "ended with"),
        ] {
            let error = run(script).err().unwrap_or_default();
            assert!(error.contains(why), "{script}: {error}");
            assert!(!error.contains("secret\n"), "what it printed stays unsaid");
        }
        assert!(key(&["/no/such/program".into()]).is_err());
    }
}
