//! A client of a running purser, for the commands that ask it something.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};

/// Sends a request to the socket and returns the body of the answer.
pub(super) fn request(
    socket: &Path,
    time: Option<Duration>,
    method: &str,
    path: &str,
    body: &str,
) -> anyhow::Result<String> {
    let mut text = String::new();
    open(socket, time, method, path, body)?.read_to_string(&mut text).context("no answer")?;
    Ok(text)
}

/// Sends a request to the socket; the body of the answer comes out as it is sent.
pub(super) fn open(
    socket: &Path,
    time: Option<Duration>,
    method: &str,
    path: &str,
    body: &str,
) -> anyhow::Result<Box<dyn Read>> {
    let mut stream = UnixStream::connect(socket)
        .with_context(|| format!("nobody answers on {}", socket.display()))?;
    stream.set_read_timeout(time)?;
    // Of this version of HTTP, no answer comes in chunks.
    let text = format!(
        "{method} {path} HTTP/1.0\r\nHost: purser\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).context("no answer")? == 0 {
            bail!("the answer ends in its head");
        }
    }
    let status: u16 = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    if (200..300).contains(&status) {
        return Ok(Box::new(reader));
    }
    let mut body = String::new();
    reader.read_to_string(&mut body).context("no answer")?;
    let message = serde_json::from_str::<serde_json::Value>(&body).ok();
    let message = message.as_ref().and_then(|value| value.get("message")?.as_str());
    bail!("{}", message.unwrap_or(body.trim()));
}
