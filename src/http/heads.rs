//! The heads of requests, as programs and people send them, made into what hyper takes.
//!
//! - `curl -g` sends `?filters={"name":["web"]}` with its quotes as they are: they are percent-encoded.
//! - dockerode repeats the body of a request in its query, which makes a target of up to a megabyte; a
//!   target may have 64 KiB here. The longest parameters are left out, the body has them.
//!
//! ```text
//!   head ──▶ body by its length ──▶ head …     what is in doubt, or may become another protocol,
//!        └─▶ body in chunks ──────▶ head …     goes on as it is until the connection ends
//! ```
//!
//! What a request is, is hyper's to say: here only its first line is changed, and bytes are counted to
//! find the next one.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The longest head: dockerode's of the largest spec that the Engine takes whole.
pub(super) const HEAD_LEN_MAX: usize = 1024 * 1024;
/// The longest target that is left as it is: what a URI may have here, less a margin for what is encoded.
const TARGET_LEN_MAX: usize = 48 * 1024;
/// Heads longer than [`TARGET_LEN_MAX`] that are gathered at once; one more is left to hyper, which
/// refuses it.
const LARGE_MAX: usize = 32;
static LARGE: AtomicUsize = AtomicUsize::new(0);
/// How much is read at once.
const READ_LEN: usize = 16 * 1024;

/// A stream whose heads are mended.
pub(super) struct Heads<S> {
    stream: S,
    mender: Mender,
    /// What was mended and not yet given on.
    held: Vec<u8>,
    /// How much of it was given on.
    given: usize,
}

impl<S> Heads<S> {
    pub(super) fn new(stream: S) -> Heads<S> {
        Heads { stream, mender: Mender::new(), held: Vec::new(), given: 0 }
    }
}

impl<S: AsyncRead + Unpin> Heads<S> {
    /// Reads until there is something to give on, or nothing more comes.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.held.clear();
        self.given = 0;
        while self.held.is_empty() {
            let mut bytes = [0; READ_LEN];
            let mut buf = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buf))?;
            if buf.filled().is_empty() {
                self.mender.end(&mut self.held);
                break;
            }
            self.mender.feed(buf.filled(), &mut self.held);
        }
        Poll::Ready(Ok(()))
    }
}

/// Where in a connection one is.
enum State {
    /// In a head.
    Head,
    /// In a body, of which this much is left.
    Body(u64),
    /// In the line that says how long a chunk is.
    Chunk,
    /// In a chunk, of which this much is left, the end of its line included.
    Data(u64),
    /// In the lines behind the last chunk.
    Trailer,
    /// Anywhere: nothing is changed any more.
    Raw,
}

/// Finds the heads in what a client sends, and mends them.
struct Mender {
    state: State,
    /// The head, or the line, up to here.
    gathered: Vec<u8>,
    /// It is one of the large ones.
    is_large: bool,
}

impl Mender {
    fn new() -> Mender {
        Mender { state: State::Head, gathered: Vec::new(), is_large: false }
    }

    /// Takes what was sent, and gives on what is whole.
    fn feed(&mut self, mut sent: &[u8], out: &mut Vec<u8>) {
        while !sent.is_empty() {
            let taken = match self.state {
                State::Raw => {
                    out.extend_from_slice(sent);
                    sent.len()
                }
                State::Body(left) => self.pass(left, sent, out, State::Body),
                State::Data(left) => self.pass(left, sent, out, State::Data),
                State::Head => self.gather_head(sent, out),
                State::Chunk | State::Trailer => self.gather_line(sent, out),
            };
            sent = &sent[taken..];
        }
    }

    /// Gives on what was gathered; nothing more comes.
    fn end(&mut self, out: &mut Vec<u8>) {
        if matches!(self.state, State::Head) {
            mend(&mut self.gathered);
        }
        out.append(&mut self.gathered);
        self.forget();
    }

    fn pass(
        &mut self,
        left: u64,
        sent: &[u8],
        out: &mut Vec<u8>,
        state: fn(u64) -> State,
    ) -> usize {
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(sent.len());
        out.extend_from_slice(&sent[..taken]);
        let left = left - taken as u64;
        self.state = match (left, state(left)) {
            (0, State::Data(_)) => State::Chunk,
            (0, _) => State::Head,
            (_, state) => state,
        };
        taken
    }

    fn gather_head(&mut self, sent: &[u8], out: &mut Vec<u8>) -> usize {
        let before = self.gathered.len();
        self.gathered.extend_from_slice(sent);
        // The end may have begun before.
        let Some(end) = head_end(&self.gathered, before.saturating_sub(3)) else {
            if self.gathered.len() > HEAD_LEN_MAX || !self.may_be_large() {
                self.go_raw(out);
            }
            return sent.len();
        };
        let taken = end - before;
        self.gathered.truncate(end);
        self.state = after(&self.gathered);
        mend(&mut self.gathered);
        out.append(&mut self.gathered);
        self.forget();
        taken
    }

    /// False when the head is a large one and there are too many of them.
    fn may_be_large(&mut self) -> bool {
        if !self.is_large && self.gathered.len() > TARGET_LEN_MAX {
            if LARGE.fetch_add(1, Ordering::Relaxed) >= LARGE_MAX {
                LARGE.fetch_sub(1, Ordering::Relaxed);
                return false;
            }
            self.is_large = true;
        }
        true
    }

    fn go_raw(&mut self, out: &mut Vec<u8>) {
        mend(&mut self.gathered);
        out.append(&mut self.gathered);
        self.forget();
        self.state = State::Raw;
    }

    /// Forgets what was gathered, and that it was large.
    fn forget(&mut self) {
        self.gathered = Vec::new();
        if std::mem::take(&mut self.is_large) {
            LARGE.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A line of a body in chunks.
    fn gather_line(&mut self, sent: &[u8], out: &mut Vec<u8>) -> usize {
        let end = sent.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let taken = end.unwrap_or(sent.len());
        self.gathered.extend_from_slice(&sent[..taken]);
        out.extend_from_slice(&sent[..taken]);
        if end.is_some() {
            let line = std::mem::take(&mut self.gathered);
            let line = line.trim_ascii();
            self.state = match (&self.state, chunk_len(line)) {
                (State::Trailer, _) if line.is_empty() => State::Head,
                (State::Trailer, _) | (State::Chunk, Some(0)) => State::Trailer,
                // With the end of the line behind it.
                (State::Chunk, Some(len)) if len < u64::MAX - 2 => State::Data(len + 2),
                _ => State::Raw,
            };
        } else if self.gathered.len() > READ_LEN {
            self.gathered = Vec::new();
            self.state = State::Raw;
        }
        taken
    }
}

impl Drop for Mender {
    fn drop(&mut self) {
        self.forget();
    }
}

/// Where a head ends: behind its first empty line, looked for from here on.
fn head_end(bytes: &[u8], from: usize) -> Option<usize> {
    let lines = bytes[from..].iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    lines.map(|(at, _)| from + at).find_map(|at| match &bytes[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// What follows a head.
fn after(head: &[u8]) -> State {
    let (mut length, mut is_chunked) = (0, false);
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (line[..colon].to_ascii_lowercase(), line[colon + 1..].trim_ascii());
        match &name[..] {
            b"upgrade" => return State::Raw,
            b"transfer-encoding" if value.eq_ignore_ascii_case(b"chunked") => is_chunked = true,
            b"transfer-encoding" => return State::Raw,
            b"content-length" => {
                let text = std::str::from_utf8(value).ok();
                let Some(parsed) = text.and_then(|text| text.parse().ok()) else {
                    return State::Raw;
                };
                length = parsed;
            }
            _ => {}
        }
    }
    match (is_chunked, length) {
        (true, _) => State::Chunk,
        (false, 0) => State::Head,
        (false, length) => State::Body(length),
    }
}

/// How long the chunk is that a line begins.
fn chunk_len(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii();
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Mends the first line of a head.
fn mend(head: &mut Vec<u8>) {
    let end = head.iter().position(|byte| *byte == b'\n').unwrap_or(head.len());
    if !head[..end].iter().any(|byte| code(*byte).is_some()) && end <= TARGET_LEN_MAX {
        return;
    }
    let mut line = Vec::with_capacity(end + 64);
    for byte in &head[..end] {
        match code(*byte) {
            Some(code) => line.extend_from_slice(code),
            None => line.push(*byte),
        }
    }
    if line.len() > TARGET_LEN_MAX {
        line = shortened(&line);
    }
    line.extend_from_slice(&head[end..]);
    *head = line;
}

fn code(byte: u8) -> Option<&'static [u8]> {
    match byte {
        b'"' => Some(b"%22"),
        b'<' => Some(b"%3C"),
        b'>' => Some(b"%3E"),
        _ => None,
    }
}

/// A line without the longest parameters of its query, so that the others fit.
fn shortened(line: &[u8]) -> Vec<u8> {
    let Some(start) = line.iter().position(|byte| *byte == b'?') else { return line.to_vec() };
    let rest = &line[start + 1..];
    let query_len = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
    let (query, behind) = rest.split_at(query_len);
    let parameters: Vec<&[u8]> = query.split(|byte| *byte == b'&').collect();
    let mut by_len: Vec<usize> = (0..parameters.len()).collect();
    by_len.sort_by_key(|at| parameters[*at].len());
    let mut room = TARGET_LEN_MAX.saturating_sub(start + 1 + behind.len());
    let mut is_kept = vec![false; parameters.len()];
    for at in by_len {
        let Some(left) = room.checked_sub(parameters[at].len() + 1) else { break };
        room = left;
        is_kept[at] = true;
    }
    let kept = parameters.iter().zip(is_kept).filter(|(_, is_kept)| *is_kept);
    let kept: Vec<&[u8]> = kept.map(|(parameter, _)| *parameter).collect();
    [&line[..=start], &kept.join(&b'&'), behind].concat()
}

impl<S: AsyncRead + Unpin> AsyncRead for Heads<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.given == self.held.len() {
            if matches!(self.mender.state, State::Raw) {
                self.held = Vec::new();
                self.given = 0;
                return Pin::new(&mut self.stream).poll_read(context, buf);
            }
            ready!(self.poll_more(context))?;
        }
        let rest = &self.held[self.given..];
        let len = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..len]);
        self.given += len;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heads<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is given on of what is sent, in parts of any size.
    fn check(sent: &str, expected: &str) {
        for size in [1, 2, 3, 7, 64, 1 << 20] {
            let (mut mender, mut out) = (Mender::new(), Vec::new());
            sent.as_bytes().chunks(size).for_each(|part| mender.feed(part, &mut out));
            mender.end(&mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected, "in parts of {size}");
        }
    }

    #[test]
    fn the_first_line_of_every_request_is_mended_and_nothing_else() {
        let get = |target: &str| format!("GET {target} HTTP/1.1\r\nX: \"<>\"\r\n\r\n");
        let (raw, mended) = (get("/?a={\"b\":<1>}"), get("/?a={%22b%22:%3C1%3E}"));
        check(&raw, &mended);
        check(&raw.repeat(3), &mended.repeat(3));
        let post = "POST / HTTP/1.1\r\ncontent-LENGTH: 9\r\n\r\n\"b\"\r\n\r\n\"\"";
        check(&format!("{post}{raw}"), &format!("{post}{mended}"));
        let chunked = "POST / HTTP/1.1\nTransfer-Encoding: chunked\n\n5;x=\"\r\n\"b\"\r\n\r\n\
                       A\r\n0\r\n\r\nGET \"\r\n0\r\nA: \"\r\n\r\n";
        check(&format!("{chunked}{raw}"), &format!("{chunked}{mended}"));
    }

    #[test]
    fn what_becomes_another_protocol_or_is_in_doubt_is_left_alone() {
        for head in [
            "POST / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: tcp\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        ] {
            let text = format!("{head}GET /\" HTTP/1.1\r\n\r\n");
            check(&text, &text);
        }
        check("no \"end\"", "no %22end%22");
        check("", "");
    }

    #[test]
    fn the_longest_parameters_of_a_long_line_are_left_out() {
        let long = "x".repeat(300_000);
        let sent = format!("POST /u?version=7&TaskTemplate={long}&a={long}&b=1 HTTP/1.1\r\n\r\n");
        check(&sent, "POST /u?version=7&b=1 HTTP/1.1\r\n\r\n");
        let endless = format!("GET /{}", "y".repeat(2 * HEAD_LEN_MAX));
        check(&endless, &endless);
        assert_eq!(LARGE.load(Ordering::Relaxed), 0, "none of them is large any more");
    }
}
