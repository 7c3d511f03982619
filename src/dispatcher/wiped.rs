//! The stream of assignments as a response body: what tonic would make of it, but that no plain byte
//! of a secret stays behind in a buffer that lives as long as the connection.
//!
//! ```text
//!   one message:  head ── padding ── the message itself ─┤├─ padding
//!                 └────────── one buffer, given away ────┘└─ another
//! ```
//!
//! tonic encodes into a buffer that it keeps for its next message, which may come days later. Here
//! each message has a buffer of its own, which is freed, and thereby wiped, once it is on its way.
//! HTTP/2 copies the first bytes of what it sends behind the frame's head, into a buffer that it
//! keeps; the padding sees to it that those are none of a secret. It is a field that nobody knows,
//! which protobuf has every reader skip.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, Response, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Frame;
use prost::Message as _;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::feed::Feed;
use crate::wire;
use crate::wire::proto::{AssignmentsMessage, AssignmentsRequest};

/// Bytes of a request; it holds the id of a session.
const REQUEST_LEN_MAX: usize = 4096;
/// A gRPC message's head: whether it is compressed, and its length.
const HEAD_LEN: usize = 5;
/// More than HTTP/2 copies of one frame.
const PADDING_LEN: usize = 1024;
/// Number of the padding's field, from the range that no protocol uses, with its wire type.
const PADDING_TAG: u32 = 19_999 << 3 | 2;

/// Reads the one message of a request, with who sent it.
///
/// # Errors
/// It is no such message.
pub(super) async fn read(
    request: Request<Body>,
) -> Result<tonic::Request<AssignmentsRequest>, Status> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, REQUEST_LEN_MAX).collect().await;
    let bytes = body.map_err(|_| Status::invalid_argument("no whole message"))?.to_bytes();
    let invalid = || Status::invalid_argument("not one plain message");
    let (head, message) = bytes.split_first_chunk::<HEAD_LEN>().ok_or_else(invalid)?;
    let [0, length @ ..] = *head else { return Err(invalid()) };
    if usize::try_from(u32::from_be_bytes(length)) != Ok(message.len()) {
        return Err(invalid());
    }
    let message = AssignmentsRequest::decode(message).map_err(|_| invalid())?;
    Ok(tonic::Request::from_parts(
        MetadataMap::from_headers(parts.headers),
        parts.extensions,
        message,
    ))
}

/// The response that carries a stream, or the reason why there is none.
pub(super) fn answer(feed: Result<Feed<AssignmentsMessage>, Status>) -> Response<Body> {
    match feed {
        Ok(feed) => {
            let stream = Wiped { feed: Some(feed), rest: None };
            let mut response = Response::new(Body::new(stream));
            let kind = HeaderValue::from_static("application/grpc");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(status) => status.into_http(),
    }
}

struct Wiped {
    /// Where messages come from, until it has ended.
    feed: Option<Feed<AssignmentsMessage>>,
    /// The second part of the message that is being sent.
    rest: Option<Bytes>,
}

impl hyper::body::Body for Wiped {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(rest) = self.rest.take() {
            return Poll::Ready(Some(Ok(Frame::data(rest))));
        }
        let Some(feed) = &mut self.feed else { return Poll::Ready(None) };
        let status = match ready!(feed.as_mut().poll_next(cx)) {
            Some(Ok(message)) => {
                let (first, rest) = frames(&message);
                self.rest = rest;
                return Poll::Ready(Some(Ok(Frame::data(first))));
            }
            Some(Err(status)) => status,
            None => Status::ok(""),
        };
        self.feed = None;
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

/// The bytes of a message, in two parts if it has a payload in it.
fn frames(message: &AssignmentsMessage) -> (Bytes, Option<Bytes>) {
    let padding = if wire::session::has_payload(message) { padding() } else { Vec::new() };
    let length = message.encoded_len() + 2 * padding.len();
    let head = u32::try_from(length).expect("messages are bounded far below").to_be_bytes();
    // All of its room at once: growing would leave copies behind.
    let mut first = Vec::with_capacity(HEAD_LEN + length - padding.len());
    first.push(0);
    first.extend_from_slice(&head);
    first.extend_from_slice(&padding);
    message.encode(&mut first).expect("there is room for it");
    (first.into(), (!padding.is_empty()).then(|| padding.into()))
}

fn padding() -> Vec<u8> {
    let mut field = Vec::with_capacity(PADDING_LEN + 8);
    prost::encoding::encode_varint(PADDING_TAG.into(), &mut field);
    prost::encoding::encode_varint(PADDING_LEN as u64, &mut field);
    field.resize(field.len() + PADDING_LEN, 0);
    field
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::proto::Secret;

    fn message(secret: Option<&[u8]>) -> AssignmentsMessage {
        let spec = |data: &[u8]| crate::wire::proto::SecretSpec {
            data: data.to_vec(),
            ..Default::default()
        };
        let changes = secret.map(|data| {
            let secret = Secret { id: "s".into(), spec: Some(spec(data)), ..Default::default() };
            wire::session::update_secret(secret)
        });
        wire::session::complete(1, changes.into_iter().collect())
    }

    #[test]
    fn a_padded_message_reads_as_it_was() {
        for data in [None, Some(&b"This is a secret"[..]), Some(&[7; 100_000])] {
            let whole = message(data);
            let (first, rest) = frames(&whole);
            assert_eq!(rest.is_some(), data.is_some());
            let bytes = [&first[..], rest.as_deref().unwrap_or_default()].concat();
            assert_eq!(bytes[..HEAD_LEN], [&[0][..], &len(&bytes)].concat());
            let read = AssignmentsMessage::decode(&bytes[HEAD_LEN..]).expect("a message");
            assert!(read == whole);
            if let Some(data) = data {
                let start = &first[..PADDING_LEN];
                assert!(!start.windows(data.len().min(8)).any(|part| data.starts_with(part)));
            }
        }
    }

    fn len(bytes: &[u8]) -> [u8; 4] {
        u32::try_from(bytes.len() - HEAD_LEN).expect("a small message").to_be_bytes()
    }
}
