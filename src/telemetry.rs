//! Logs: structured, with levels, as text or JSON.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging to standard error.
///
/// # Errors
/// The filter is not understood.
pub fn init(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    // The Kubernetes client reports each failed request, also those that are reported here and tried again.
    let filter = EnvFilter::try_new(format!("kube_client::client::builder=off,{filter}"))
        .with_context(|| format!("cannot use the log filter {filter:?}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
