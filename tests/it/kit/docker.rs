//! The unmodified docker command.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// No command of a test takes longer, in seconds; one that waits for what never comes is ended.
const TIME_MAX: &str = "120";

/// What a command said.
#[derive(Debug, Clone)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs docker against a socket. The arguments are split at blanks; `'…'` keeps one together.
#[track_caller]
pub fn docker(socket: &Path, args: &str) -> Said {
    docker_with(socket, args, b"")
}

/// The same with something on standard input.
#[track_caller]
pub fn docker_with(socket: &Path, args: &str, input: &[u8]) -> Said {
    let host = format!("unix://{}", socket.display());
    run(&[("DOCKER_HOST", &host), ("DOCKER_CONFIG", "/nonexistent")], args, input)
}

/// Runs docker with its own files in a directory; the arguments say which host.
#[track_caller]
pub fn docker_in(config: &Path, args: &str, input: &[u8]) -> Said {
    run(&[("DOCKER_CONFIG", &config.display().to_string())], args, input)
}

#[track_caller]
fn run(variables: &[(&str, &str)], args: &str, input: &[u8]) -> Said {
    let mut command = Command::new("timeout");
    command
        .args([TIME_MAX, "docker"])
        .args(split(args))
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the docker command is installed");
    let mut stdin = child.stdin.take().expect("it was piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        use std::io::Write as _;
        // A command that does not read its input is fine.
        let _ = stdin.write_all(&input);
    });
    let Output { status, stdout, stderr } = child.wait_with_output().expect("docker ends");
    let _ = writer.join();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end().to_owned();
    Said { code: status.code().unwrap_or(-1), out: text(stdout), err: text(stderr) }
}

impl Said {
    /// True when it was done, and this is what it printed.
    pub fn is(&self, expected: &str) -> bool {
        self.code == 0 && self.out.trim_end() == expected
    }

    /// What it said, if it succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.err);
        self.out
    }

    /// What it complained of, if it failed as commands do that the server refuses.
    #[track_caller]
    pub fn refused(self) -> String {
        assert_eq!(self.code, 1, "{}\n{}", self.out, self.err);
        let text = self.err.strip_prefix("Error response from daemon: ").map(str::to_owned);
        text.unwrap_or(self.err)
    }
}

fn split(args: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in args.split('\'').enumerate() {
        if at % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}
