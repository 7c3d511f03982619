//! How a refusal looks to a client: the one place where statuses and texts of the HTTP API are
//! chosen.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::audit::cut;
use crate::domain::refusal::{Layer, Reason, Refusal};

/// A request that failed.
#[derive(Debug)]
pub(super) struct Failure(pub Refusal);

/// Body of every error.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorResponse {
    /// What is wrong, in the Engine's words.
    #[schema(example = "secret x not found")]
    pub message: String,
}

/// Most bytes of a message: what is repeated of a request is no longer than a person reads.
const MESSAGE_LEN_MAX: usize = 8192;

/// Why a request failed, for the audit.
#[derive(Debug, Clone)]
pub(super) struct Why {
    pub message: String,
    pub is_denied: bool,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure(refusal)
    }
}

impl Failure {
    /// A parameter or body that cannot be read.
    pub(super) fn invalid(message: impl Into<String>) -> Failure {
        Failure(Refusal::front(Reason::Invalid, message))
    }

    /// What is not built yet.
    pub(super) fn unsupported(message: impl Into<String>) -> Failure {
        Failure(Refusal::front(Reason::Unsupported, message))
    }

    /// No such route.
    pub(super) fn no_route() -> Failure {
        Failure(Refusal::front(Reason::NotFound, "page not found"))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response<Body> {
        let Refusal { reason, layer, message } = self.0;
        let message = match layer {
            Layer::Front => message,
            Layer::Store => format!("rpc error: code = {} desc = {message}", code(reason)),
        };
        let message = cut(message, MESSAGE_LEN_MAX);
        let mut response = json(status(reason), &ErrorResponse { message: message.clone() });
        response.extensions_mut().insert(Why { message, is_denied: reason == Reason::Forbidden });
        response
    }
}

/// The answer to a client that has to wait before it asks again, in seconds.
pub(super) fn too_many(message: &str, wait: u32) -> Response<Body> {
    let body = ErrorResponse { message: message.to_owned() };
    let mut response = json(StatusCode::TOO_MANY_REQUESTS, &body);
    response.headers_mut().insert(header::RETRY_AFTER, wait.into());
    response
}

/// A JSON answer: one line, ended.
pub(super) fn json<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Response<Body> {
    let mut text = Vec::with_capacity(256);
    serde_json::to_writer(&mut text, value).expect("answers are maps of texts and numbers");
    text.push(b'\n');
    json_text(status, text)
}

/// A JSON answer that was written already.
pub(super) fn json_text(status: StatusCode, text: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// A list as JSON, written into one buffer of about the right size.
pub(super) fn json_list<T: Serialize>(
    items: impl ExactSizeIterator<Item = T>,
    item_len: usize,
) -> Response<Body> {
    list_text(items, item_len, |text, item| {
        serde_json::to_writer(text, &item).expect("answers are maps of texts and numbers");
    })
}

/// The same with each item written by `write`.
pub(super) fn list_text<T>(
    items: impl ExactSizeIterator<Item = T>,
    item_len: usize,
    write: impl Fn(&mut Vec<u8>, T),
) -> Response<Body> {
    let mut text = Vec::with_capacity(items.len() * item_len + 3);
    text.push(b'[');
    for (at, item) in items.enumerate() {
        if at > 0 {
            text.push(b',');
        }
        write(&mut text, item);
    }
    text.extend_from_slice(b"]\n");
    json_text(StatusCode::OK, text)
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn status(reason: Reason) -> StatusCode {
    match reason {
        Reason::Invalid | Reason::Precondition => StatusCode::BAD_REQUEST,
        Reason::NotFound => StatusCode::NOT_FOUND,
        Reason::Taken | Reason::Conflict => StatusCode::CONFLICT,
        Reason::Forbidden => StatusCode::FORBIDDEN,
        Reason::Unauthenticated => StatusCode::UNAUTHORIZED,
        Reason::Unsupported => StatusCode::NOT_IMPLEMENTED,
        Reason::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Reason::Exhausted | Reason::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The name that stands in the prefix of what the Engine's store says.
fn code(reason: Reason) -> &'static str {
    match reason {
        Reason::Invalid => "InvalidArgument",
        Reason::Precondition | Reason::Conflict => "FailedPrecondition",
        Reason::NotFound => "NotFound",
        Reason::Taken => "AlreadyExists",
        Reason::Forbidden => "PermissionDenied",
        Reason::Unauthenticated => "Unauthenticated",
        Reason::Unsupported => "Unimplemented",
        Reason::Unavailable => "Unavailable",
        Reason::Exhausted => "ResourceExhausted",
        Reason::Unknown => "Unknown",
    }
}
