//! HTTP over a unix socket, byte by byte where a test wants it so.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

/// A client of one socket. Each request has a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header, whose name may be in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The `message` of an error.
    pub fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }
}

impl Client {
    pub fn new(socket: &Path) -> Client {
        Client { socket: socket.to_owned() }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], b"")
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.request("DELETE", path, &[], b"")
    }

    /// Posts JSON.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        let headers = [("Content-Type", "application/json")];
        self.request("POST", path, &headers, body.to_string().as_bytes())
    }

    /// Sends a request with exactly these headers besides `Host`, `Connection` and
    /// `Content-Length`.
    #[track_caller]
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(body);
        self.raw(&bytes).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Sends bytes as they are and reads the answer to its end.
    ///
    /// # Errors
    /// The connection fails, or what comes back is no HTTP answer.
    pub fn raw(&self, bytes: &[u8]) -> std::io::Result<Answer> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        // A server that refuses early may close before it has read all; its answer still counts.
        let written = stream.write_all(bytes);
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        if answer.is_empty() {
            written?;
            read?;
        }
        parse(&answer)
    }
}

/// An answer that comes bit by bit. Dropped, its client is gone.
pub struct Flow {
    stream: UnixStream,
    bytes: Vec<u8>,
    /// True once it has ended.
    pub has_ended: bool,
}

impl Client {
    /// Asks for something whose answer may have no end.
    #[track_caller]
    pub fn open(&self, path: &str) -> Flow {
        let mut stream = UnixStream::connect(&self.socket).expect("purser listens");
        stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a time");
        let text = format!("GET {path} HTTP/1.1\r\nHost: docker\r\n\r\n");
        stream.write_all(text.as_bytes()).expect("purser reads");
        Flow { stream, bytes: Vec::new(), has_ended: false }
    }
}

impl Flow {
    /// Reads until what has come has something in it, for at most half a minute.
    #[track_caller]
    pub fn until<T>(&mut self, what: &str, check: impl Fn(&Answer) -> Option<T>) -> T {
        super::eventually(what, Duration::from_secs(30), || {
            self.read();
            check(&parse(&self.bytes).ok()?)
        })
    }

    /// Reads to the end.
    #[track_caller]
    pub fn end(mut self) -> Answer {
        super::eventually("the answer ends", Duration::from_secs(30), || {
            self.read();
            self.has_ended.then_some(())
        });
        parse(&self.bytes).expect("an answer")
    }

    /// Reads what there is.
    pub fn read(&mut self) {
        let mut part = vec![0; 1 << 16];
        while let Ok(len) = self.stream.read(&mut part) {
            self.bytes.extend_from_slice(&part[..len]);
            self.has_ended |= len == 0 || self.bytes.ends_with(b"\r\n0\r\n\r\n");
            if self.has_ended {
                return;
            }
        }
    }
}

fn parse(bytes: &[u8]) -> std::io::Result<Answer> {
    let invalid = || std::io::Error::other("not an HTTP answer");
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(invalid)?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut answer =
        Answer { status: status.ok_or_else(invalid)?, headers, body: bytes[end + 4..].to_vec() };
    if answer.header("Transfer-Encoding") == Some("chunked") {
        answer.body = unchunk(&answer.body);
    }
    Ok(answer)
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") {
        let digits = String::from_utf8_lossy(&bytes[..end]);
        let len = usize::from_str_radix(digits.trim(), 16).unwrap_or(0);
        if len == 0 || bytes.len() < end + 2 + len {
            break;
        }
        body.extend_from_slice(&bytes[end + 2..end + 2 + len]);
        bytes = bytes.get(end + 2 + len + 2..).unwrap_or(&[]);
    }
    body
}
