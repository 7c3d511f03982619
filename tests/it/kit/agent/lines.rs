//! What a simulated engine publishes of logs.

use purser::wire::proto;
use purser::wire::proto::{LogMessage, PublishLogsMessage, SubscriptionMessage};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use super::{Agent, RUNTIME, wait};

/// A stream of lines. Dropped, it ends.
pub struct Publishing {
    pub id: String,
    node: String,
    sender: mpsc::Sender<PublishLogsMessage>,
    answer: JoinHandle<Result<(), Status>>,
}

impl Agent {
    /// Waits until it is asked for logs the `count`th time, or told that it no longer is.
    #[track_caller]
    pub fn asked(&self, count: usize) -> SubscriptionMessage {
        let what = format!("it is asked for logs, message {count}");
        self.until(&what, |seen| seen.subscriptions.get(count - 1).cloned())
    }

    /// Begins to publish.
    pub fn publish(&self, id: &str) -> Publishing {
        let (sender, receiver) = mpsc::channel(1);
        let mut client = self.logs();
        let answer = RUNTIME.spawn(async move {
            let messages = tokio_stream::wrappers::ReceiverStream::new(receiver);
            client.publish_logs(messages).await.map(|_| ())
        });
        let node = self.node_id().to_owned();
        Publishing { id: id.to_owned(), node, sender, answer }
    }
}

impl Publishing {
    /// A line on standard output at this second.
    pub fn line(&self, service: &str, task: &str, second: i64, text: &str) -> LogMessage {
        let context = proto::LogContext {
            service_id: service.to_owned(),
            node_id: self.node.clone(),
            task_id: task.to_owned(),
        };
        LogMessage {
            context: Some(context),
            timestamp: Some(prost_types::Timestamp { seconds: second, nanos: 5 }),
            stream: proto::LogStream::Stdout.into(),
            data: text.as_bytes().to_vec(),
            attrs: Vec::new(),
        }
    }

    /// Sends a line; nothing comes of it when the stream is over.
    pub fn send(&self, line: LogMessage) {
        let _ = wait(self.sender.send(self.message(vec![line])));
    }

    /// Sends a message of its own making.
    pub fn send_message(&self, message: PublishLogsMessage) {
        let _ = wait(self.sender.send(message));
    }

    /// Sends lines until there is no more room for them, and says how many there was room for.
    pub fn fill(&self, line: &LogMessage, count_max: usize) -> usize {
        let time = std::time::Duration::from_secs(1);
        for count in 0..count_max {
            let sent = self.sender.send(self.message(vec![line.clone()]));
            if wait(async { tokio::time::timeout(time, sent).await }).is_err() {
                return count;
            }
        }
        count_max
    }

    /// Says its last word, and what was answered.
    pub fn close(self) -> Result<(), Status> {
        let last = PublishLogsMessage { close: true, ..self.message(Vec::new()) };
        let _ = wait(self.sender.send(last));
        self.answer()
    }

    /// What was answered to a stream that the manager ended.
    pub fn answer(self) -> Result<(), Status> {
        wait(self.answer).map_err(|_| Status::new(Code::Internal, "it panicked"))?
    }

    fn message(&self, messages: Vec<LogMessage>) -> PublishLogsMessage {
        PublishLogsMessage { subscription_id: self.id.clone(), messages, close: false }
    }
}
