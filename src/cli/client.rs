//! A client of a running purser, for the commands that ask it something.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::endpoint::Endpoint;

/// An answer that is no success.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Refused {
    /// Its status.
    pub status: u16,
    /// What it says.
    pub message: String,
}

/// Sends a request and returns the body of the answer.
pub(super) fn request(
    to: &Endpoint,
    time: Option<Duration>,
    method: &str,
    path: &str,
    body: &str,
) -> anyhow::Result<String> {
    let mut text = String::new();
    open(to, time, method, path, body)?.read_to_string(&mut text).context("no answer")?;
    Ok(text)
}

/// Sends a request; the body of the answer comes out as it is sent.
///
/// # Errors
/// Nobody answers, or the answer is no success: a [`Refused`].
pub(super) fn open(
    to: &Endpoint,
    time: Option<Duration>,
    method: &str,
    path: &str,
    body: &str,
) -> anyhow::Result<Box<dyn Read>> {
    let mut stream = to.connect(time)?;
    // Of this version of HTTP, no answer comes in chunks.
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: purser\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    stream.flush()?;
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).context("no answer")? == 0 {
            bail!("the answer ends in its head");
        }
    }
    let status: u16 = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let mut reader = within(&head, reader);
    if (200..300).contains(&status) {
        return Ok(reader);
    }
    let mut body = String::new();
    reader.read_to_string(&mut body).context("no answer")?;
    let message = serde_json::from_str::<serde_json::Value>(&body).ok();
    let message = message.as_ref().and_then(|value| value.get("message")?.as_str());
    let message = message.unwrap_or(body.trim()).to_owned();
    Err(Refused { status, message }.into())
}

/// The body as far as the head says, so that nothing depends on how the connection ends.
fn within(head: &str, reader: impl Read + 'static) -> Box<dyn Read> {
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    match length {
        Some(length) => Box::new(reader.take(length)),
        None => Box::new(reader),
    }
}
