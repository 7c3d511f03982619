//! `/services/{id}/logs` and `/tasks/{id}/logs`: lines of tasks, as a stream.
//!
//! A line goes out as soon as it comes in. A client that reads slowly slows the nodes that publish
//! to it, and nobody else.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Response, header};
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::client::Client;
use super::context::{Access, Api, ApiVersion, Wanted};
use super::error::{ErrorResponse, Failure};
use super::query::Query;
use crate::domain::change::Object;
use crate::domain::log::{Line, Options, Source, Subject};
use crate::domain::refusal::{Reason, Refusal};
use crate::domain::service::TaskSpec;
use crate::domain::view::View;
use crate::manager::{Reader, Verb};

/// The version from which frames have a type of their own.
const MULTIPLEXED_SINCE: ApiVersion = ApiVersion::v1(42);

/// What of a detail is written as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Logs of a service
#[utoipa::path(get, path = "/services/{id}/logs", tag = "Service", operation_id = "ServiceLogs",
    params(("id" = String, Path, description = "Id, name, or prefix of the id"),
        ("stdout" = Option<bool>, Query, description = "What tasks write to their standard output"),
        ("stderr" = Option<bool>, Query, description = "What they write to their standard error"),
        ("follow" = Option<bool>, Query, description = "Lines to come as well"),
        ("since" = Option<String>, Query, description = "Unix seconds: none from before"),
        ("tail" = Option<String>, Query, description = "At most so many of each task's past, or `all`"),
        ("timestamps" = Option<bool>, Query, description = "The time before each line"),
        ("details" = Option<bool>, Query, description = "Where it comes from before each line")),
    responses(
        (status = 200, description = "Frames of a header and a line each, or the bytes as they are for tasks with a TTY", content((String = "application/vnd.docker.multiplexed-stream"), (String = "application/vnd.docker.raw-stream"))),
        (status = 400, body = ErrorResponse), (status = 404, body = ErrorResponse), (status = 500, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn of_service(
    State(api): State<Api>,
    access: Access,
    version: ApiVersion,
    Wanted(wanted): Wanted,
    query: Query,
    client: Client,
) -> Result<Response<Body>, Failure> {
    answer(&api, &access, version, &query, client, |view| {
        let service = view.find_service(&wanted)?;
        access.check(Verb::Logs, || Object::Service(service.clone()))?;
        Ok((Object::Service(service.clone()), has_tty(&service.spec.task_template)))
    })
}

/// Logs of a task
#[utoipa::path(get, path = "/tasks/{id}/logs", tag = "Task", operation_id = "TaskLogs",
    params(("id" = String, Path, description = "Id, full name, or prefix of the id"),
        ("stdout" = Option<bool>, Query, description = "What it writes to its standard output"),
        ("stderr" = Option<bool>, Query, description = "What it writes to its standard error"),
        ("follow" = Option<bool>, Query, description = "Lines to come as well"),
        ("since" = Option<String>, Query, description = "Unix seconds: none from before"),
        ("tail" = Option<String>, Query, description = "At most so many of its past, or `all`"),
        ("timestamps" = Option<bool>, Query, description = "The time before each line"),
        ("details" = Option<bool>, Query, description = "Where it comes from before each line")),
    responses(
        (status = 200, description = "Frames of a header and a line each, or the bytes as they are for a task with a TTY", content((String = "application/vnd.docker.multiplexed-stream"), (String = "application/vnd.docker.raw-stream"))),
        (status = 400, body = ErrorResponse), (status = 404, body = ErrorResponse), (status = 500, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
pub(super) async fn of_task(
    State(api): State<Api>,
    access: Access,
    version: ApiVersion,
    Wanted(wanted): Wanted,
    query: Query,
    client: Client,
) -> Result<Response<Body>, Failure> {
    answer(&api, &access, version, &query, client, |view| {
        let task = view.find_task(&wanted)?;
        access.check(Verb::Logs, || Object::Task(task.clone()))?;
        Ok((Object::Task(task.clone()), has_tty(&task.spec)))
    })
}

fn has_tty(spec: &TaskSpec) -> bool {
    spec.container_spec.as_ref().is_some_and(|container| container.tty)
}

fn answer(
    api: &Api,
    access: &Access,
    version: ApiVersion,
    query: &Query,
    client: Client,
    find: impl FnOnce(&View) -> Result<(Object, bool), Refusal>,
) -> Result<Response<Body>, Failure> {
    let options = read(query)?;
    let view = api.manager.view();
    view.require_cluster()?;
    let (object, has_tty) = find(&view)?;
    let subject = match &object {
        Object::Task(task) => Subject::Task(task.id),
        Object::Service(service) => Subject::Service(service.id),
        _ => return Err(Failure::no_route()),
    };
    let options = Options { tail: tail(query.text("tail"))?, ..options };
    let form = Form {
        is_raw: has_tty,
        timestamps: query.loose_bool("timestamps"),
        details: query.loose_bool("details"),
    };
    let reader = api.manager.subscribe_logs(subject, options)?;
    let gone = Box::pin(client.gone());
    let (api, access) = (api.clone(), access.clone());
    let flow = Flow { api, access, object, form, reader: Some(reader), gone };
    let chunks = futures_util::stream::unfold(flow, |mut flow| async {
        let chunk = flow.next().await?;
        Some((Ok::<Bytes, Infallible>(chunk), flow))
    });
    let mut response = Response::new(Body::from_stream(chunks));
    let media_type = HeaderValue::from_static(form.media_type(version));
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    Ok(response)
}

/// What can be read before it is known what the lines are about.
fn read(query: &Query) -> Result<Options, Failure> {
    let (stdout, stderr) = (query.loose_bool("stdout"), query.loose_bool("stderr"));
    if !stdout && !stderr {
        return Err(Failure::invalid("must specify at least one of 'stdout' or 'stderr'"));
    }
    let since = query.moment("since");
    let since =
        since.map_err(|why| Failure::invalid(format!("invalid value for \"since\": {why}")))?;
    Ok(Options { stdout, stderr, follow: query.loose_bool("follow"), since, tail: None })
}

fn tail(text: &str) -> Result<Option<u64>, Refusal> {
    let refusal = |message| Refusal::front(Reason::Unknown, message);
    if text.is_empty() || text == "all" {
        return Ok(None);
    }
    let lines = text.parse::<i64>();
    let lines = lines
        .map_err(|_| refusal("tail value must be a positive integer or \"all\""))?
        .try_into()
        .map_err(|_| refusal("negative tail values not supported"))?;
    Ok(Some(lines))
}

/// What goes to the client.
struct Flow {
    api: Api,
    access: Access,
    /// What the lines are of.
    object: Object,
    form: Form,
    /// `None` once all has been said.
    reader: Option<Reader>,
    /// Done when nobody reads any more.
    gone: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Flow {
    /// False once the policy has changed so that the client may not read on. What is gone meanwhile
    /// counts as it was last.
    fn may_still_read(&mut self) -> bool {
        let now = self.api.manager.view().object(self.object.key());
        self.object = now.unwrap_or_else(|| self.object.clone());
        self.access.check(Verb::Logs, || self.object.clone()).is_ok()
    }

    async fn next(&mut self) -> Option<Bytes> {
        let reader = self.reader.as_mut()?;
        let lines = tokio::select! {
            () = self.api.stop.cancelled() => return None,
            () = &mut self.gone => return None,
            lines = reader.next() => lines,
        };
        if !self.may_still_read() {
            return None;
        }
        if let Some(lines) = lines {
            let mut chunk = Vec::new();
            lines.iter().for_each(|line| self.form.write(line, &mut chunk));
            return Some(chunk.into());
        }
        // Clients stop reading at an error, so that it comes when all others are through. When all
        // streams end, the nodes are not to blame.
        let missing = self.reader.take().map(|reader| reader.missing().to_vec());
        let missing = missing.filter(|nodes| !nodes.is_empty() && !self.api.stop.is_cancelled())?;
        let why: Vec<String> =
            missing.iter().map(|node| format!("node {node} is not available")).collect();
        let text = format!("Error grabbing logs: incomplete log stream: {}\n", why.join(", "));
        let mut chunk = Vec::new();
        self.form.frame(SYSTEM_ERROR, text.as_bytes(), &mut chunk);
        Some(chunk.into())
    }
}

/// The number of a frame that comes from no task.
const SYSTEM_ERROR: u8 = 3;

/// How lines are written.
#[derive(Clone, Copy)]
struct Form {
    /// Without frames, as a terminal has it.
    is_raw: bool,
    timestamps: bool,
    details: bool,
}

impl Form {
    fn media_type(self, version: ApiVersion) -> &'static str {
        if !self.is_raw && version >= MULTIPLEXED_SINCE {
            "application/vnd.docker.multiplexed-stream"
        } else {
            "application/vnd.docker.raw-stream"
        }
    }

    fn write(self, line: &Line, chunk: &mut Vec<u8>) {
        let mut payload = Vec::with_capacity(line.data.len() + 192);
        if self.timestamps {
            payload.extend_from_slice(line.at.full_text().as_bytes());
            payload.push(b' ');
        }
        if self.details {
            payload.extend_from_slice(details(line).as_bytes());
            payload.push(b' ');
        }
        payload.extend_from_slice(&line.data);
        let stream = match line.source {
            Source::Stdout => 1,
            Source::Stderr => 2,
        };
        self.frame(stream, &payload, chunk);
    }

    fn frame(self, stream: u8, payload: &[u8], chunk: &mut Vec<u8>) {
        if !self.is_raw {
            let len = u32::try_from(payload.len()).expect("messages of nodes are far smaller");
            chunk.extend_from_slice(&[stream, 0, 0, 0]);
            chunk.extend_from_slice(&len.to_be_bytes());
        }
        chunk.extend_from_slice(payload);
    }
}

/// Where a line comes from, and what its log driver adds, by key.
fn details(line: &Line) -> String {
    let mut pairs: BTreeMap<&str, &str> =
        line.attrs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    // Whatever a driver says of them, these are known.
    pairs.insert("com.docker.swarm.node.id", line.node.as_str());
    pairs.insert("com.docker.swarm.service.id", line.service.as_str());
    pairs.insert("com.docker.swarm.task.id", line.task.as_str());
    let pairs = pairs.into_iter().map(|(key, value)| format!("{}={}", escape(key), escape(value)));
    pairs.collect::<Vec<_>>().join(",")
}

/// Escapes as the values of a query are: a blank becomes a plus.
fn escape(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string().replace("%20", "+")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{NodeId, ServiceId, TaskId};
    use crate::domain::time::Timestamp;

    fn line(source: Source, data: &str) -> Line {
        Line {
            service: ServiceId::derive([1; 17]),
            node: NodeId::derive([2; 17]),
            task: TaskId::derive([3; 17]),
            at: Timestamp::from_unix_nanos(1_795_224_583_700_000_000),
            source,
            data: data.into(),
            attrs: Vec::new(),
        }
    }

    fn written(form: Form, line: &Line) -> Vec<u8> {
        let mut chunk = Vec::new();
        form.write(line, &mut chunk);
        chunk
    }

    const BARE: Form = Form { is_raw: false, timestamps: false, details: false };

    #[test]
    fn a_frame_has_its_stream_and_length() {
        let frame = written(BARE, &line(Source::Stdout, "out2\n"));
        assert_eq!(frame, b"\x01\0\0\0\0\0\0\x05out2\n");
        let frame = written(BARE, &line(Source::Stderr, &"e".repeat(258)));
        assert_eq!(frame[..8], *b"\x02\0\0\0\0\0\x01\x02");
        let raw = Form { is_raw: true, ..BARE };
        assert_eq!(written(raw, &line(Source::Stdout, "out2\r\n")), b"out2\r\n");
    }

    #[test]
    fn a_time_has_nine_digits_and_stands_before_the_details() {
        let form = Form { is_raw: true, timestamps: true, details: true };
        let mut line = line(Source::Stdout, "x\n");
        line.attrs = vec![("z".into(), "a b,=&~*ü".into()), ("a".into(), String::new())];
        let text = String::from_utf8(written(form, &line)).expect("it is text");
        let own = format!(
            "com.docker.swarm.node.id={},com.docker.swarm.service.id={},\
             com.docker.swarm.task.id={}",
            line.node, line.service, line.task
        );
        let expected =
            format!("2026-11-21T01:29:43.700000000Z a=,{own},z=a+b%2C%3D%26~%2A%C3%BC x\n");
        assert_eq!(text, expected);
    }

    #[test]
    fn no_driver_can_say_where_a_line_comes_from() {
        let mut line = line(Source::Stdout, "");
        line.attrs = vec![("com.docker.swarm.task.id".into(), "forged".into())];
        assert!(!details(&line).contains("forged"));
    }

    #[test]
    fn a_tail_is_a_number_or_all() {
        let text = |tail: Result<Option<u64>, Refusal>| tail.map_err(|refusal| refusal.message);
        for all in ["", "all"] {
            assert_eq!(text(tail(all)), Ok(None));
        }
        assert_eq!(text(tail("0")), Ok(Some(0)));
        assert_eq!(text(tail("17")), Ok(Some(17)));
        for bad in ["x", "ALL", "1.5", "99999999999999999999", " 1"] {
            let wrong = "tail value must be a positive integer or \"all\"".to_owned();
            assert_eq!(text(tail(bad)), Err(wrong), "{bad}");
        }
        let negative = Err("negative tail values not supported".to_owned());
        assert_eq!(text(tail("-1")), negative);
    }
}
