//! `/purser/audit`: what was asked for, by whom, and how it came out. Of purser's own.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use serde::Serialize;
use tokio::sync::mpsc;
use utoipa::ToSchema;

use super::context::{Access, Api};
use super::error::{ErrorResponse, Failure, json};
use super::keys::refuse_locked;
use super::query::Query;
use crate::domain::audit::Record;
use crate::domain::refusal::{Reason, Refusal};
use crate::manager::{AuditError, AuditLines, Right, Verb};
use crate::seal::hex;

/// Pieces of a stream that wait for a slow client.
const QUEUE_MAX: usize = 16;

/// Both ends of the audit's chain, as far as it was found whole.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = AuditChain)]
pub(super) struct ChainAnswer {
    /// How many records there are.
    records: u64,
    /// Number of the first.
    first: u64,
    /// Number of the last.
    last: u64,
    /// SHA-256 of the last, in hexadecimal digits. Whoever notes it down can tell later that what
    /// came before it is still the same.
    hash: String,
}

/// Read the audit
#[utoipa::path(get, path = "/purser/audit", tag = "Purser", operation_id = "AuditRead",
    params(("from" = Option<u64>, Query, description = "Number of the first record"),
        ("tail" = Option<u64>, Query, description = "No more than the last so many that there are"),
        ("object" = Option<String>, Query, description = "Only records about this object: its name, its id or the beginning of it"),
        ("actor" = Option<String>, Query, description = "Only records of this actor, as in `uid:0`"),
        ("follow" = Option<bool>, Query, description = "Records to come as well")),
    responses((status = 200, description = "One JSON object a line; each has the hash of the line before", content((String = "application/x-ndjson"))),
        (status = 400, body = ErrorResponse), (status = 403, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn read(
    State(api): State<Api>,
    access: Access,
    query: Query,
) -> Result<Response<Body>, Failure> {
    let wish = Wish::read(&query)?;
    access.check_at_all(Verb::Read, Right::Audit)?;
    refuse_locked(&api)?;
    let (sender, receiver) = mpsc::channel(QUEUE_MAX);
    tokio::spawn(send(api, access, wish, sender));
    let pieces = tokio_stream::wrappers::ReceiverStream::new(receiver);
    use futures_util::StreamExt as _;
    let mut response = Response::new(Body::from_stream(pieces.map(Ok::<Bytes, Infallible>)));
    let lines = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, lines);
    Ok(response)
}

/// Check the audit's chain
#[utoipa::path(get, path = "/purser/audit/verify", tag = "Purser", operation_id = "AuditVerify",
    responses((status = 200, body = ChainAnswer), (status = 403, body = ErrorResponse), (status = 500, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn verify(
    State(api): State<Api>,
    access: Access,
) -> Result<Response<Body>, Failure> {
    access.check_at_all(Verb::Read, Right::Audit)?;
    refuse_locked(&api)?;
    let chain = api.manager.store().verify_audit().await.map_err(failure)?;
    let records = chain.len();
    let answer =
        ChainAnswer { records, first: chain.first, last: chain.last, hash: hex::text(&chain.hash) };
    Ok(json(StatusCode::OK, &answer))
}

fn failure(error: AuditError) -> Refusal {
    tracing::error!(error = &error as &dyn std::error::Error, "the audit is not whole");
    Refusal::front(Reason::Unknown, format!("the audit is not whole: {error}"))
}

/// Which records are asked for.
struct Wish {
    from: u64,
    tail: Option<u64>,
    object: String,
    actor: String,
    follow: bool,
}

impl Wish {
    fn read(query: &Query) -> Result<Wish, Failure> {
        let number = |key: &str| match query.text(key) {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| Failure::invalid(format!("invalid value for {key}: {text}"))),
        };
        Ok(Wish {
            from: number("from")?.unwrap_or(1),
            tail: number("tail")?,
            object: query.text("object").to_owned(),
            actor: query.text("actor").to_owned(),
            follow: query.loose_bool("follow"),
        })
    }

    /// Those of these lines that are asked for.
    fn pick(&self, lines: &AuditLines, from: u64) -> Vec<u8> {
        let mut picked = Vec::new();
        for (seq, line) in (lines.first..).zip(lines.text.lines()) {
            if seq >= from && self.wants(line) {
                picked.extend_from_slice(line.as_bytes());
                picked.push(b'\n');
            }
        }
        picked
    }

    fn wants(&self, line: &str) -> bool {
        if self.object.is_empty() && self.actor.is_empty() {
            return true;
        }
        serde_json::from_str(line).is_ok_and(|record: Record| {
            (self.object.is_empty() || record.is_about(&self.object))
                && (self.actor.is_empty() || record.actor == self.actor)
        })
    }
}

async fn send(api: Api, access: Access, wish: Wish, sender: mpsc::Sender<Bytes>) {
    let store = api.manager.store();
    let mut live = store.subscribe_audit();
    let last = store.audit_chain().last;
    let mut next = wish.from;
    if let Some(tail) = wish.tail {
        next = next.max((last + 1).saturating_sub(tail));
    }
    loop {
        let read = match store.audit_from(next).await {
            Ok(read) => read,
            Err(error) => {
                failure(error);
                return;
            }
        };
        if access.check_at_all(Verb::Read, Right::Audit).is_err() {
            return;
        }
        for lines in &read {
            let picked = wish.pick(lines, next);
            if !picked.is_empty() && sender.send(picked.into()).await.is_err() {
                return;
            }
            next = lines.last + 1;
        }
        if !read.is_empty() {
            continue;
        }
        if !wish.follow {
            return;
        }
        // What was written is read like all before it: so nothing is missed, however much it is.
        tokio::select! {
            () = api.stop.cancelled() => return,
            () = sender.closed() => return,
            _ = live.changed() => {}
        }
    }
}
