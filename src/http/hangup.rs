//! The signal with which operators ask a program to read its files again.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The hang-ups (SIGHUP) of this process from now on. Whoever follows a file has its own.
pub(crate) struct Hangups(Option<Signal>);

impl Hangups {
    /// Listens. Where the system does not let it, there are none.
    pub(crate) fn listen() -> Hangups {
        let listening = signal(SignalKind::hangup());
        if let Err(error) = &listening {
            tracing::warn!(%error, "SIGHUP is not listened for");
        }
        Hangups(listening.ok())
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        let came = match &mut self.0 {
            Some(signal) => signal.recv().await,
            None => None,
        };
        if came.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
