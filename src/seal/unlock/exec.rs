//! What a command prints. It stands for whatever keeps keys: a KMS, a TPM, a password manager.

use std::process::Command;
use std::time::Duration;

use super::{UnlockError, UnlockKey, file};
use crate::seal::command;

/// How long a command may take. One that asks something far away may have to wait for it.
const TIME_MAX: Duration = Duration::from_secs(60);
/// Bytes that are read at most; a key is far shorter.
const OUTPUT_MAX: usize = 256;

/// The key that a command prints on its standard output: 64 hexadecimal digits, or 32 bytes.
pub(super) fn key(words: &[String]) -> Result<UnlockKey, UnlockError> {
    let failed = |why: String| UnlockError::Command { command: words.join(" "), why };
    let (program, arguments) = words.split_first().ok_or_else(|| failed("is empty".into()))?;
    let mut command = Command::new(program);
    let printed = command::output(command.args(arguments), TIME_MAX, OUTPUT_MAX);
    file::from_output(&printed.map_err(failed)?).ok_or_else(|| {
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
            ("head -c 100000 /dev/zero", "printed more than"),
        ] {
            let error = run(script).err().unwrap_or_default();
            assert!(error.contains(why), "{script}: {error}");
            assert!(!error.contains("secret\n"), "what it printed stays unsaid");
        }
        assert!(key(&["/no/such/program".into()]).is_err());
    }
}
