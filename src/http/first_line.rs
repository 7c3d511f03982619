//! The first line of a connection, as people at a shell type it: `curl -g` sends
//! `?filters={"name":["web"]}` with its quotes as they are. The Engine takes that; hyper answers it
//! with a bare 400. So what hyper takes offence at is percent-encoded before it sees it.
//!
//! Only the first request of a connection is looked at: programs, which keep connections, encode.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much of a line is waited for; hyper refuses a longer one anyway.
const LINE_LEN_MAX: usize = 64 * 1024;

/// A stream whose first line is mended.
pub(super) struct FirstLine<S> {
    stream: S,
    /// What was read and not yet given on.
    held: Vec<u8>,
    /// How much of it was given on.
    given: usize,
    /// True from the end of the first line on.
    is_mended: bool,
}

impl<S> FirstLine<S> {
    pub(super) fn new(stream: S) -> FirstLine<S> {
        FirstLine { stream, held: Vec::new(), given: 0, is_mended: false }
    }
}

impl<S: AsyncRead + Unpin> FirstLine<S> {
    /// Reads until the first line is whole, or is none.
    fn poll_line(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_mended {
            let mut bytes = [0; 4096];
            let mut buf = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buf))?;
            let read = buf.filled();
            self.held.extend_from_slice(read);
            let is_over = read.is_empty() || self.held.len() > LINE_LEN_MAX;
            if read.contains(&b'\n') || is_over {
                mend(&mut self.held);
                self.is_mended = true;
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Percent-encodes the bytes of the first line that hyper takes offence at.
fn mend(bytes: &mut Vec<u8>) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    if !bytes[..end].iter().any(|byte| code(*byte).is_some()) {
        return;
    }
    let mut mended = Vec::with_capacity(bytes.len() + 64);
    for byte in &bytes[..end] {
        match code(*byte) {
            Some(code) => mended.extend_from_slice(code),
            None => mended.push(*byte),
        }
    }
    mended.extend_from_slice(&bytes[end..]);
    *bytes = mended;
}

fn code(byte: u8) -> Option<&'static [u8]> {
    match byte {
        b'"' => Some(b"%22"),
        b'<' => Some(b"%3C"),
        b'>' => Some(b"%3E"),
        _ => None,
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstLine<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_line(context))?;
        if self.given == self.held.len() {
            self.held = Vec::new();
            self.given = 0;
            return Pin::new(&mut self.stream).poll_read(context, buf);
        }
        let rest = &self.held[self.given..];
        let len = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..len]);
        self.given += len;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstLine<S> {
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn check(sent: &[&str], expected: &str) {
        let (mut client, server) = tokio::io::duplex(8);
        let sent: Vec<String> = sent.iter().map(|part| (*part).to_owned()).collect();
        let sending = tokio::spawn(async move {
            for part in sent {
                client.write_all(part.as_bytes()).await.expect("the other side reads");
            }
        });
        let mut read = String::new();
        FirstLine::new(server).read_to_string(&mut read).await.expect("it ends");
        sending.await.expect("it does not panic");
        assert_eq!(read, expected);
    }

    #[tokio::test]
    async fn only_the_first_line_is_mended() {
        check(&["GET /?a={\"b\"", ":<1>} HTTP/1.1\r\nX: \"<>\"\r\n\r\n\"body\""], {
            "GET /?a={%22b%22:%3C1%3E} HTTP/1.1\r\nX: \"<>\"\r\n\r\n\"body\""
        })
        .await;
        check(&["GET /plain HTTP/1.1\r\n\r\n\"\n\""], "GET /plain HTTP/1.1\r\n\r\n\"\n\"").await;
    }

    #[tokio::test]
    async fn what_is_no_line_is_given_on() {
        check(&["no \"end\""], "no %22end%22").await;
        check(&[], "").await;
    }
}
