//! Logs: text on a terminal, JSON lines otherwise, on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Starts logging.
///
/// # Errors
/// The directives cannot be parsed.
pub(super) fn start(directives: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(directives)
        .map_err(|error| anyhow::anyhow!("--log {directives}: {error}"))?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        logs.with_target(false).init();
    } else {
        logs.json().flatten_event(true).with_current_span(true).with_span_list(false).init();
    }
    Ok(())
}
