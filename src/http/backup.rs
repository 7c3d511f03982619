//! `/purser/backup`: a copy of everything, for whoever holds the recovery key. Of purser's own.

use std::path::Path;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Request, Response, header};
use bytes::Bytes;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::context::{Access, Api, Asker};
use super::decode;
use super::error::{ErrorResponse, Failure};
use super::keys::refuse_locked;
use crate::manager::{Right, Verb};
use crate::seal::age::Recipient;

/// The shortest passphrase that is taken, in characters.
const PASSPHRASE_MIN: usize = 12;
/// Bytes that are sent at once.
const PIECE_LEN: usize = 64 * 1024;

/// Whom a backup is for: one of the two.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct BackupRequest {
    /// A recipient of the age format, `age1…`.
    recipient: String,
    /// A passphrase of 12 characters at least.
    passphrase: String,
}

/// Make a backup
#[utoipa::path(post, path = "/purser/backup", tag = "Purser", operation_id = "BackupMake",
    request_body = BackupRequest,
    responses((status = 200, description = "One file in the age format", content((String = "application/octet-stream"))),
        (status = 400, body = ErrorResponse), (status = 403, body = ErrorResponse), (status = 500, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn make(
    State(api): State<Api>,
    access: Access,
    Asker(actor): Asker,
    request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    let BackupRequest { recipient, passphrase } = decode::body(request).await?;
    let passphrase = Zeroizing::new(passphrase);
    access.check_at_all(Verb::Create, Right::Backup)?;
    refuse_locked(&api)?;
    let recipient = match (recipient.is_empty(), passphrase.chars().count()) {
        (false, 0) => Recipient::parse(&recipient).map_err(|e| Failure::invalid(e.to_string()))?,
        (true, PASSPHRASE_MIN..) => Recipient::Passphrase(passphrase),
        _ => {
            return Err(Failure::invalid(
                "a backup is for a recipient, or for a passphrase of 12 characters at least",
            ));
        }
    };
    let file = api.manager.backup(actor, recipient, Path::new(&api.data_dir)).await?;
    let pieces = futures_util::stream::try_unfold(tokio::fs::File::from_std(file), next);
    let mut response = Response::new(Body::from_stream(pieces));
    let bytes = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, bytes);
    Ok(response)
}

async fn next(
    mut file: tokio::fs::File,
) -> Result<Option<(Bytes, tokio::fs::File)>, std::io::Error> {
    let mut piece = Vec::with_capacity(PIECE_LEN);
    let read = (&mut file).take(PIECE_LEN as u64).read_to_end(&mut piece).await?;
    Ok((read > 0).then(|| (piece.into(), file)))
}
