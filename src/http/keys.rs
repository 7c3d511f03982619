//! `/purser/keys`: the keys of the store, and their rotation. Of purser's own.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::context::{Access, Api, Asker};
use super::error::{ErrorResponse, Failure, empty, json};
use crate::domain::audit::Note;
use crate::domain::refusal::Refusal;
use crate::domain::time::Timestamp;
use crate::manager::{Right, Verb};
use crate::seal::keyring::KeyInfo;

/// A key of the store, as far as it is shown.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = StoreKey)]
pub(super) struct KeyAnswer {
    /// Its id.
    #[serde(rename = "ID")]
    id: u32,
    /// `ring` seals keys, `epoch` objects, `audit` records; `fingerprint` makes keyed hashes.
    #[serde(rename = "Use")]
    usage: &'static str,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    made_at: Timestamp,
    /// Seals what is written now; the others of its use only open.
    active: bool,
    /// How many objects need it: those it sealed, or whose payload's key it sealed.
    objects: usize,
}

impl KeyAnswer {
    fn new(key: KeyInfo, objects: usize) -> KeyAnswer {
        KeyAnswer {
            id: key.id.0,
            usage: key.usage.word(),
            made_at: Timestamp::from_unix_nanos(i128::from(key.made_at) * 1_000_000_000),
            active: key.is_active,
            objects,
        }
    }
}

/// List the keys of the store
#[utoipa::path(get, path = "/purser/keys", tag = "Purser", operation_id = "KeyList",
    responses((status = 200, body = Vec<KeyAnswer>), (status = 403, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn list(
    State(api): State<Api>,
    access: Access,
) -> Result<Response<Body>, Failure> {
    access.check_at_all(Verb::Read, Right::Keys)?;
    refuse_locked(&api)?;
    let keys = api.manager.store().keys();
    let answers: Vec<KeyAnswer> =
        keys.into_iter().map(|(key, objects)| KeyAnswer::new(key, objects)).collect();
    Ok(json(StatusCode::OK, &answers))
}

/// Make new keys, and seal what is there with them
#[utoipa::path(post, path = "/purser/keys/rotate", tag = "Purser", operation_id = "KeyRotate",
    responses((status = 200), (status = 403, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn rotate(
    State(api): State<Api>,
    access: Access,
    Asker(actor): Asker,
) -> Result<Response<Body>, Failure> {
    access.check_at_all(Verb::Update, Right::Keys)?;
    refuse_locked(&api)?;
    let rotated = api.manager.store().rotate_keys(Note::new(actor, "keys rotate")).await;
    rotated.map_err(Refusal::from)?;
    Ok(empty(StatusCode::OK))
}

pub(super) fn refuse_locked(api: &Api) -> Result<(), Failure> {
    match api.manager.view().is_locked() {
        true => Err(Refusal::locked().into()),
        false => Ok(()),
    }
}
