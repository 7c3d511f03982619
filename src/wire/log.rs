//! Logs: what a node is asked for, and the lines that it sends.

use super::proto;
use super::time::{timestamp, timestamp_from};
use crate::domain::id::NodeId;
use crate::domain::log::{Line, Options, Source, Subject};
use crate::domain::time::Timestamp;

/// Pairs that a log driver may add to a line; more are left out. Drivers add those labels and
/// variables of the container that its service names.
const ATTRS_MAX: usize = 64;

/// A line cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LineError {
    /// It does not say where it comes from.
    #[error("a log message without a context")]
    NoContext,
    /// It names a stream that there is none of.
    #[error("a log message of an unknown stream")]
    NoStream,
    /// It claims to come from elsewhere.
    #[error("a log message of another node")]
    OtherNode,
}

/// The tasks whose lines are wanted.
pub fn selector(subject: Subject) -> proto::LogSelector {
    let (service_ids, task_ids) = match subject {
        Subject::Service(id) => (vec![id.to_string()], Vec::new()),
        Subject::Task(id) => (Vec::new(), vec![id.to_string()]),
    };
    proto::LogSelector { service_ids, node_ids: Vec::new(), task_ids }
}

/// The lines that are wanted.
pub fn options(options: &Options) -> proto::LogSubscriptionOptions {
    let streams = match (options.stdout, options.stderr) {
        (true, false) => vec![proto::LogStream::Stdout.into()],
        (false, true) => vec![proto::LogStream::Stderr.into()],
        // None named are both.
        _ => Vec::new(),
    };
    // 0 is everything and -1 nothing, so that n lines are -(n + 1).
    let tail = options.tail.map_or(0, |lines| -1 - i64::try_from(lines).unwrap_or(i64::MAX));
    let since = options.since.map(timestamp);
    proto::LogSubscriptionOptions { streams, follow: options.follow, tail, since }
}

/// A line that a node sent.
///
/// # Errors
/// It does not say where it comes from, or claims to come from elsewhere.
pub fn line_from(message: proto::LogMessage, caller: NodeId) -> Result<Line, LineError> {
    let source = match message.stream() {
        proto::LogStream::Stdout => Source::Stdout,
        proto::LogStream::Stderr => Source::Stderr,
        proto::LogStream::Unknown => return Err(LineError::NoStream),
    };
    let context = message.context.ok_or(LineError::NoContext)?;
    if context.node_id != caller.as_str() {
        return Err(LineError::OtherNode);
    }
    let attrs = message.attrs.into_iter().take(ATTRS_MAX);
    Ok(Line {
        service: context.service_id.parse().map_err(|_| LineError::NoContext)?,
        node: caller,
        task: context.task_id.parse().map_err(|_| LineError::NoContext)?,
        at: message.timestamp.map_or(Timestamp::ZERO, timestamp_from),
        source,
        data: message.data,
        attrs: attrs.map(|attr| (attr.key, attr.value)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{ServiceId, TaskId};

    #[test]
    fn a_tail_is_counted_below_zero() {
        let tail = |lines| options(&Options { tail: lines, ..Options::default() }).tail;
        let cases = [
            (None, 0),
            (Some(0), -1),
            (Some(1), -2),
            (Some(9), -10),
            (Some(9_223_372_036_854_775_807), i64::MIN),
            (Some(u64::MAX), i64::MIN),
        ];
        for (lines, told) in cases {
            assert_eq!(tail(lines), told, "{lines:?}");
        }
    }

    #[test]
    fn both_streams_are_none_named() {
        let named =
            |stdout, stderr| options(&Options { stdout, stderr, ..Options::default() }).streams;
        assert_eq!(named(true, true), [0; 0]);
        assert_eq!(named(true, false), [1]);
        assert_eq!(named(false, true), [2]);
        let since = Timestamp::from_unix_nanos(1_500_000_001);
        let told = options(&Options { since: Some(since), follow: true, ..Options::default() });
        assert_eq!(told.since, Some(prost_types::Timestamp { seconds: 1, nanos: 500_000_001 }));
        assert!(told.follow);
    }

    #[test]
    fn a_selector_names_one_service_or_task() {
        let (service, task) = (ServiceId::derive([1; 17]), TaskId::derive([2; 17]));
        let told = selector(Subject::Service(service));
        assert_eq!((told.service_ids, told.task_ids), (vec![service.to_string()], Vec::new()));
        let told = selector(Subject::Task(task));
        assert_eq!((told.service_ids, told.task_ids), (Vec::new(), vec![task.to_string()]));
    }

    #[test]
    fn a_line_says_where_it_comes_from() {
        let node = NodeId::derive([3; 17]);
        let message = || proto::LogMessage {
            context: Some(proto::LogContext {
                service_id: ServiceId::derive([1; 17]).to_string(),
                node_id: node.to_string(),
                task_id: TaskId::derive([2; 17]).to_string(),
            }),
            timestamp: None,
            stream: 2,
            data: b"x\n".to_vec(),
            attrs: vec![proto::LogAttr { key: "k".into(), value: "v".into() }; 100],
        };
        let line = line_from(message(), node).expect("a line");
        assert!(line.source == Source::Stderr && line.data == b"x\n");
        assert_eq!(line.attrs.len(), ATTRS_MAX);
        let other = line_from(message(), NodeId::derive([4; 17])).err();
        assert_eq!(other, Some(LineError::OtherNode));
        let bare = proto::LogMessage { context: None, ..message() };
        assert_eq!(line_from(bare, node).err(), Some(LineError::NoContext));
        for stream in [0, 3, -1] {
            let unknown = proto::LogMessage { stream, ..message() };
            assert_eq!(line_from(unknown, node).err(), Some(LineError::NoStream), "{stream}");
        }
    }
}
