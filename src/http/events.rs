//! `/events`: what changed, as a stream; merged with the engine's own.
//!
//! Events are derived from commits. The newest are kept in memory for clients that ask for what
//! happened a while ago; a client that does not read loses events rather than holding up others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Request, Response, header};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use super::context::{Access, Api, ApiVersion};
use super::error::{ErrorResponse, Failure};
use super::query::Query;
use crate::domain::change::{Changed, Kind, Object};
use crate::domain::filter::Filters;
use crate::domain::node::Node;
use crate::domain::revision::{Revisions, number_of};
use crate::domain::service::{ModeKind, Service};
use crate::domain::time::Timestamp;
use crate::manager::{Manager, Right, Verb};

/// Events that are kept for replay.
const BUFFER_MAX: usize = 256;
/// Lines that wait for a slow client.
const QUEUE_MAX: usize = 256;

/// One event.
#[derive(Debug, Clone, Serialize)]
struct Event {
    #[serde(rename = "Type")]
    kind: &'static str,
    #[serde(rename = "Action")]
    action: &'static str,
    #[serde(rename = "Actor")]
    actor: EventActor,
    scope: &'static str,
    time: i64,
    #[serde(rename = "timeNano")]
    time_nano: i64,
    /// What it is about, for who may see that.
    #[serde(skip)]
    object: Object,
}

#[derive(Debug, Clone, Serialize)]
struct EventActor {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Attributes")]
    attributes: BTreeMap<&'static str, String>,
}

/// The newest events, and those to come; clones share them.
#[derive(Clone)]
pub(crate) struct Events {
    buffer: Arc<Mutex<VecDeque<Arc<Event>>>>,
    sender: broadcast::Sender<Arc<Event>>,
}

impl Events {
    /// Starts deriving events from commits.
    pub(crate) fn start(manager: &Manager, stop: CancellationToken) -> Events {
        let events = Events {
            buffer: Arc::new(Mutex::new(VecDeque::with_capacity(BUFFER_MAX))),
            sender: broadcast::Sender::new(BUFFER_MAX),
        };
        let deriving = events.clone();
        let (_, mut commits) = manager.store().subscribe();
        tokio::spawn(async move {
            loop {
                let commit = tokio::select! {
                    () = stop.cancelled() => return,
                    commit = commits.recv() => commit,
                };
                match commit {
                    Ok(commit) => {
                        commit.changes.iter().for_each(|changed| deriving.derive(changed));
                    }
                    Err(RecvError::Lagged(missed)) => {
                        tracing::warn!(missed, "events were lost: too many changes at once");
                    }
                    Err(RecvError::Closed) => return,
                }
            }
        });
        events
    }

    fn derive(&self, changed: &Changed) {
        let Some(event) = event_of(changed) else { return };
        let event = Arc::new(event);
        let mut buffer = self.buffer.lock().expect("an event is never left half put");
        if buffer.len() == BUFFER_MAX {
            buffer.pop_front();
        }
        buffer.push_back(event.clone());
        // Nobody listening is fine.
        let _ = self.sender.send(event);
    }

    /// What is kept, and what comes after it.
    fn subscribe(&self) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let buffer = self.buffer.lock().expect("an event is never left half put");
        (buffer.iter().cloned().collect(), self.sender.subscribe())
    }
}

/// The event of a change. Tasks and the cluster make none.
fn event_of(changed: &Changed) -> Option<Event> {
    let action = match (&changed.old, &changed.new) {
        // Users removed it before; or it gave out an address, which is nobody's news.
        (Some(Object::Network(old)), None) if old.is_removed => return None,
        (Some(Object::Network(old)), Some(Object::Network(new))) => match new.is_removed {
            _ if old.is_same_but_for_addresses(new) => return None,
            true => "remove",
            false => "update",
        },
        (None, Some(Object::Network(new))) if new.spec.is_predefined() => return None,
        (Some(Object::Node(old)), Some(Object::Node(new)))
            if old.attachments != new.attachments =>
        {
            return None;
        }
        (None, _) => "create",
        (_, None) => "remove",
        _ => "update",
    };
    let kind = match changed.key.kind() {
        kind @ (Kind::Secret | Kind::Config | Kind::Service | Kind::Node | Kind::Network) => {
            kind.word()
        }
        _ => return None,
    };
    let mut attributes = BTreeMap::new();
    let newest = changed.new.as_ref().or(changed.old.as_ref())?;
    attributes.insert("name", newest.name().to_owned());
    match (&changed.old, &changed.new) {
        (Some(Object::Service(old)), Some(Object::Service(new))) => {
            service_attributes(old, new, &mut attributes);
        }
        (Some(Object::Node(old)), Some(Object::Node(new))) => {
            node_attributes(old, new, &mut attributes);
        }
        (Some(Object::Secret(old)), Some(Object::Secret(new))) => {
            value_attributes(&old.revisions, &new.revisions, &mut attributes);
        }
        (Some(Object::Config(old)), Some(Object::Config(new))) => {
            value_attributes(&old.revisions, &new.revisions, &mut attributes);
        }
        _ => {}
    }
    let nanos = i64::try_from(changed.at.unix_nanos()).unwrap_or(0);
    Some(Event {
        kind,
        action,
        actor: EventActor { id: changed.key.id().to_owned(), attributes },
        scope: "swarm",
        time: changed.at.unix_seconds(),
        time_nano: nanos,
        object: newest.clone(),
    })
}

type Attributes = BTreeMap<&'static str, String>;

fn service_attributes(old: &Service, new: &Service, attributes: &mut Attributes) {
    let image = |service: &Service| {
        service.spec.container().map(|container| container.image.clone()).unwrap_or_default()
    };
    if image(old) != image(new) {
        attributes.insert("image.old", image(old));
        attributes.insert("image.new", image(new));
    }
    if let (ModeKind::Replicated(before), ModeKind::Replicated(after)) =
        (old.spec.mode.kind(), new.spec.mode.kind())
        && before != after
    {
        attributes.insert("replicas.old", before.to_string());
        attributes.insert("replicas.new", after.to_string());
    }
    if old.revisions != new.revisions {
        let ids: BTreeSet<&String> = old.revisions.keys().chain(new.revisions.keys()).collect();
        // By the ids of what they are values of.
        let texts: Vec<String> = ids
            .into_iter()
            .map(|id| (id, number_of(&old.revisions, id), number_of(&new.revisions, id)))
            .filter(|(_, before, after)| before != after)
            .map(|(id, _, after)| format!("{id}={after}"))
            .collect();
        attributes.insert("versions", texts.join(","));
    }
    let state = |service: &Service| service.update_status.as_ref().map(|status| status.state);
    if state(old) != state(new) {
        if let Some(state) = state(old) {
            attributes.insert("updatestate.old", state.to_string());
        }
        if let Some(state) = state(new) {
            attributes.insert("updatestate.new", state.to_string());
        }
    }
}

/// The number of the value that a secret or config has now, when that is another one.
fn value_attributes(old: &Revisions, new: &Revisions, attributes: &mut Attributes) {
    if old.current != new.current {
        attributes.insert("version", new.current.to_string());
    }
}

fn node_attributes(old: &Node, new: &Node, attributes: &mut Attributes) {
    if old.spec.availability != new.spec.availability {
        attributes.insert("availability.old", old.spec.availability.to_string());
        attributes.insert("availability.new", new.spec.availability.to_string());
    }
    if old.spec.role != new.spec.role {
        attributes.insert("role.old", old.spec.role.to_string());
        attributes.insert("role.new", new.spec.role.to_string());
    }
    if old.status.state != new.status.state {
        attributes.insert("state.old", old.status.state.to_string());
        attributes.insert("state.new", new.status.state.to_string());
    }
}

/// Which events a client wants.
struct Wish {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    filters: Filters,
}

/// Filters whose values name an object.
const NAMED: &[&str] = &[
    "secret",
    "config",
    "service",
    "node",
    "network",
    "container",
    "volume",
    "image",
    "daemon",
    "plugin",
];

impl Wish {
    fn read(query: &Query) -> Result<Wish, Failure> {
        let since = moment(query, "since")?;
        let until = moment(query, "until")?;
        if let (Some(from), Some(to)) = (since, until)
            && to < from
        {
            return Err(Failure::invalid(format!(
                "`since` time ({}) cannot be after `until` time ({})",
                query.text("since"),
                query.text("until")
            )));
        }
        Ok(Wish { since, until, filters: Filters::parse(Some(query.text("filters")))? })
    }

    fn wants(&self, event: &Event) -> bool {
        let filters = &self.filters;
        let name = event.actor.attributes.get("name").map_or("", String::as_str);
        filters.passes("type", |value| value == event.kind)
            && filters.passes("event", |value| value == event.action)
            && filters.passes("scope", |value| value == event.scope)
            && filters.passes_attributes("label", &event.actor.attributes)
            && NAMED.iter().all(|key| {
                filters.passes(key, |value| {
                    event.actor.id.starts_with(value) || name.starts_with(value)
                })
            })
    }

    fn is_before(&self, event: &Event) -> bool {
        let at = Timestamp::from_unix_nanos(i128::from(event.time_nano));
        self.since.is_some_and(|since| at < since)
    }

    fn is_after(&self, event: &Event) -> bool {
        let at = Timestamp::from_unix_nanos(i128::from(event.time_nano));
        self.until.is_some_and(|until| at > until)
    }
}

fn moment(query: &Query, key: &str) -> Result<Option<Timestamp>, Failure> {
    query.moment(key).map_err(|why| Failure::invalid(format!("invalid value for '{key}': {why}")))
}

/// Stream events
#[utoipa::path(get, path = "/events", tag = "System", operation_id = "SystemEvents",
    params(("since" = Option<String>, Query, description = "Unix seconds: replay from then on"),
        ("until" = Option<String>, Query, description = "Unix seconds: end then"),
        ("filters" = Option<String>, Query, description = "JSON map of `type`, `event`, `scope`, `label`, and names of objects by kind, to values")),
    responses((status = 200, description = "One JSON object a line, in the type that `Accept` names; else `application/json` below version 1.52",
            content((String = "application/jsonl"), (String = "application/x-ndjson"), (String = "application/json-seq"), (String = "application/json"))), (status = 400, body = ErrorResponse)))]
pub(super) async fn stream(
    State(api): State<Api>,
    access: Access,
    version: ApiVersion,
    query: Query,
    request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    let wish = Wish::read(&query)?;
    let form = Form::of(request.headers(), version);
    let (sender, receiver) = mpsc::channel(QUEUE_MAX);
    tokio::spawn(own_events(api.clone(), access.clone(), wish, form, sender.clone()));
    if api.engine.is_some() && may_use_engine(&access) {
        tokio::spawn(engine_events(api, access, request, form, sender));
    }
    let lines = tokio_stream::wrappers::ReceiverStream::new(receiver);
    use futures_util::StreamExt as _;
    let body = Body::from_stream(lines.map(Ok::<Bytes, std::convert::Infallible>));
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(form.media_type));
    Ok(response)
}

fn may_use_engine(access: &Access) -> bool {
    access.check_at_all(Verb::Use, Right::Engine).is_ok()
}

/// How the stream is written.
#[derive(Clone, Copy)]
struct Form {
    media_type: &'static str,
    /// What stands before each line.
    lead: &'static [u8],
}

/// The forms that a client can ask for.
const FORMS: &[Form] = &[
    Form { media_type: "application/jsonl", lead: b"" },
    Form { media_type: "application/x-ndjson", lead: b"" },
    Form { media_type: "application/json-seq", lead: b"\x1e" },
];

impl Form {
    /// The first that `Accept` names and that there is, else what the version has.
    fn of(headers: &HeaderMap, version: ApiVersion) -> Form {
        let accepted =
            headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut names = accepted.flat_map(|text| text.split(','));
        let asked = names.find_map(|name| {
            let name = name.split(';').next().unwrap_or("").trim();
            FORMS.iter().find(|form| form.media_type.eq_ignore_ascii_case(name))
        });
        let usual = if version >= ApiVersion::v1(52) {
            FORMS[0]
        } else {
            Form { media_type: "application/json", lead: b"" }
        };
        asked.copied().unwrap_or(usual)
    }

    fn event(self, event: &Event) -> Bytes {
        let mut text = self.lead.to_vec();
        serde_json::to_writer(&mut text, event).expect("events are maps of texts and numbers");
        text.push(b'\n');
        text.into()
    }

    fn lines(self, lines: Vec<u8>) -> Bytes {
        if self.lead.is_empty() {
            return lines.into();
        }
        let led =
            lines.split_inclusive(|byte| *byte == b'\n').map(|line| [self.lead, line].concat());
        led.collect::<Vec<_>>().concat().into()
    }
}

async fn own_events(api: Api, access: Access, wish: Wish, form: Form, sender: mpsc::Sender<Bytes>) {
    let sees = |event: &Event| access.sees(|| event.object.clone());
    let (kept, mut live) = api.events.subscribe();
    if wish.since.is_some() || wish.until.is_some() {
        for event in kept {
            let wanted = !wish.is_before(&event) && !wish.is_after(&event) && wish.wants(&event);
            let wanted = wanted && sees(&event);
            if wanted && sender.send(form.event(&event)).await.is_err() {
                return;
            }
        }
    }
    let until = wish.until.map(|until| until.after(api.manager.clock().now()));
    let end = async {
        match until {
            Some(wait) => tokio::time::sleep(wait).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(end);
    loop {
        let event = tokio::select! {
            () = &mut end => return,
            () = api.stop.cancelled() => return,
            () = sender.closed() => return,
            event = live.recv() => event,
        };
        match event {
            Ok(event) if wish.wants(&event) && sees(&event) => {
                // A client that does not read loses events.
                let _ = sender.try_send(form.event(&event));
            }
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// Passes the engine's own events on, whole lines at a time. An engine that goes away ends only its
/// own part.
async fn engine_events(
    api: Api,
    access: Access,
    request: Request<Body>,
    form: Form,
    sender: mpsc::Sender<Bytes>,
) {
    let (mut parts, _) = request.into_parts();
    parts.headers = HeaderMap::new();
    let request = Request::from_parts(parts, Body::empty());
    let Ok(response) = super::passthrough::pass(&api, request).await else { return };
    if !response.status().is_success() {
        return;
    }
    let mut body = response.into_body();
    let mut pending = Vec::new();
    loop {
        let frame = tokio::select! {
            () = api.stop.cancelled() => return,
            () = sender.closed() => return,
            frame = body.frame() => frame,
        };
        let Some(Ok(frame)) = frame else { return };
        let Ok(data) = frame.into_data() else { continue };
        pending.extend_from_slice(&data);
        if let Some(end) = pending.iter().rposition(|byte| *byte == b'\n') {
            let rest = pending.split_off(end + 1);
            let lines = std::mem::replace(&mut pending, rest);
            if !may_use_engine(&access) || sender.send(form.lines(lines)).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_the_engine_gets_the_lead_of_the_form() {
        let lines = || b"{}\n{\"a\":1}\n".to_vec();
        let text = |form: Form| String::from_utf8_lossy(&form.lines(lines())).into_owned();
        assert_eq!(text(FORMS[0]), "{}\n{\"a\":1}\n");
        assert_eq!(text(FORMS[2]), "\u{1e}{}\n\u{1e}{\"a\":1}\n");
    }
}
