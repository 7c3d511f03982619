//! The load generator: one blocking thread with one request in flight on each connection.
//!
//! It shares the machine's cores with the server it measures, so it is made to cost next to
//! nothing. A request is rendered once and only its name or id changes, an answer is read no
//! further than to its length, and the connections take turns: while the thread waits for the one
//! whose turn it is, the answers of the others gather, and it takes several without going to sleep.
//! Against a real manager this loop and sixteen threads drew 2,900 creations a second and a tokio
//! loop 2,400, at 12, 25 and 25 µs of processor time for each.

use std::io::{Read as _, Write as _};
use std::ops::{AddAssign, Range};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Longer than a manager's own limit for a request (20 s).
const READ_TIME_MAX: Duration = Duration::from_secs(30);
/// Holds all answers but lists, for which it doubles as often as they need.
const BUFFER_BYTES: usize = 64 * 1024;

/// How much was done in how much time.
#[derive(Clone, Copy, Default)]
pub struct Work {
    pub count: usize,
    pub time: Duration,
}

impl Work {
    pub fn per_second(self) -> f64 {
        1.0 / self.seconds_each()
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of requests are exact")]
    pub fn seconds_each(self) -> f64 {
        self.time.as_secs_f64() / self.count as f64
    }
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Work) {
        self.count += other.count;
        self.time += other.time;
    }
}

/// A request's bytes, with a slot for the part in which one differs from the next.
pub struct Request {
    bytes: Vec<u8>,
    slot: Range<usize>,
    expected: u16,
}

impl Request {
    /// The slot is where `placeholder` first stands; an empty one makes all requests alike.
    pub fn new(method: &str, path: &str, body: &str, placeholder: &str, expected: u16) -> Self {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: load\r\n");
        if !body.is_empty() {
            text += "Content-Type: application/json\r\n";
            text += &["Content-Length: ", &body.len().to_string(), "\r\n"].concat();
        }
        text += "\r\n";
        text += body;
        let start = text.find(placeholder).expect("the placeholder is part of path or body");
        Request { bytes: text.into_bytes(), slot: start..start + placeholder.len(), expected }
    }

    fn fill(&mut self, text: &str) -> &[u8] {
        self.bytes[self.slot.clone()].copy_from_slice(text.as_bytes());
        &self.bytes
    }
}

pub struct Client {
    connections: Vec<UnixStream>,
    buffer: Vec<u8>,
}

impl Client {
    pub fn connect(socket: &Path, connections: usize) -> Result<Self> {
        let open = || {
            let stream = UnixStream::connect(socket)?;
            stream.set_read_timeout(Some(READ_TIME_MAX))?;
            Ok(stream)
        };
        let connections: std::io::Result<_> = (0..connections).map(|_| open()).collect();
        Ok(Client {
            connections: connections
                .with_context(|| format!("connecting to {}", socket.display()))?,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// Sends the request once for each of `texts` until they or the time run out; `take` gets the
    /// body of every answer, in the order of `texts`. Any status but the expected one is an error.
    pub fn drive(
        &mut self,
        request: &mut Request,
        texts: &[String],
        time_max: Duration,
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<Work> {
        let width = self.connections.len().min(texts.len());
        let start = Instant::now();
        for (connection, text) in self.connections.iter_mut().zip(texts) {
            connection.write_all(request.fill(text))?;
        }
        let mut sent = width;
        let mut received = 0;
        while received < sent {
            let turn = received % width;
            take(self.receive(turn, request.expected)?)?;
            received += 1;
            if sent < texts.len() && start.elapsed() < time_max {
                self.connections[turn].write_all(request.fill(&texts[sent]))?;
                sent += 1;
            }
        }
        Ok(Work { count: received, time: start.elapsed() })
    }

    /// Sends one request and returns the whole body; for all that is not measured.
    pub fn fetch(&mut self, request: &Request) -> Result<Vec<u8>> {
        self.connections[0].write_all(&request.bytes)?;
        let body = self.receive(0, request.expected)?.to_vec();
        let head = Head::parse(&self.buffer)?.expect("receive has read the head");
        match head.length {
            Length::Bytes(_) => Ok(body),
            Length::Chunked => unchunk(&body),
        }
    }

    /// Reads one answer and returns its body as it came, chunked or not.
    fn receive(&mut self, turn: usize, expected: u16) -> Result<&[u8]> {
        let mut filled = 0;
        let mut head = None;
        loop {
            if filled == self.buffer.len() {
                self.buffer.resize(2 * filled, 0);
            }
            let count =
                self.connections[turn].read(&mut self.buffer[filled..]).context("no answer")?;
            ensure!(count > 0, "the server has closed the connection");
            filled += count;
            if head.is_none() {
                head = Head::parse(&self.buffer[..filled])?;
            }
            let Some(head) = &head else { continue };
            if !head.is_all(&self.buffer[head.bytes..filled]) {
                continue;
            }
            let body = &self.buffer[head.bytes..filled];
            if head.status != expected {
                bail!(
                    "status {} in place of {expected}: {}",
                    head.status,
                    String::from_utf8_lossy(body).trim()
                );
            }
            return Ok(body);
        }
    }
}

/// What one has to know of an answer's head to find its end.
struct Head {
    status: u16,
    bytes: usize,
    length: Length,
}

enum Length {
    Bytes(usize),
    Chunked,
}

impl Head {
    /// `None` while the head is not complete.
    fn parse(answer: &[u8]) -> Result<Option<Head>> {
        let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(None);
        };
        let text = std::str::from_utf8(&answer[..end]).context("a head that is no text")?;
        let status = text.get(9..12).and_then(|status| status.parse().ok());
        let mut length = Length::Bytes(0);
        for line in text.split("\r\n").skip(1) {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = Length::Bytes(value.trim().parse().context("a length that is no number")?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                length = Length::Chunked;
            }
        }
        let status = status.with_context(|| format!("not HTTP: {text}"))?;
        Ok(Some(Head { status, bytes: end + 4, length }))
    }

    /// Whether this is the whole body. JSON holds no bare line break between two of its bytes, so
    /// that the last chunk's mark can stand only at the end.
    fn is_all(&self, body: &[u8]) -> bool {
        match self.length {
            Length::Bytes(bytes) => body.len() >= bytes,
            Length::Chunked => body == b"0\r\n\r\n" || body.ends_with(b"\r\n0\r\n\r\n"),
        }
    }
}

fn unchunk(mut body: &[u8]) -> Result<Vec<u8>> {
    let mut whole = Vec::with_capacity(body.len());
    loop {
        let line = body
            .windows(2)
            .position(|window| window == b"\r\n")
            .context("a chunk without a size")?;
        let size = usize::from_str_radix(std::str::from_utf8(&body[..line])?.trim(), 16)?;
        if size == 0 {
            return Ok(whole);
        }
        let chunk = body.get(line + 2..line + 2 + size).context("a chunk cut short")?;
        whole.extend_from_slice(chunk);
        body = body.get(line + 4 + size..).context("a chunk without an end")?;
    }
}
