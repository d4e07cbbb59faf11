//! Logs: structured, with levels, as text or JSON.

use std::{fmt::Debug, io::IsTerminal, panic::PanicHookInfo};

use anyhow::Context;
use tracing::{error, field::Field};
use tracing_subscriber::{
    EnvFilter,
    field::MakeExt,
    fmt::{
        FormatFields,
        format::{self, Writer},
    },
};

use crate::domain::printable;

/// Characters of a field of a line of text.
const FIELD_MAX: usize = 4096;
/// The Kubernetes client reports each failed request, also those that are reported here and tried again, and quotes
/// whole answers that it cannot read. The TLS library warns of alerts that mean nothing: a JVM ends each connection with
/// one, so each heartbeat.
const QUIET: &str = "kube_client=error,kube_client::client::builder=off,kube_runtime=error,rustls=error";

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
    let filter = EnvFilter::try_new(format!("{QUIET},{filter}"))
        .with_context(|| format!("cannot use the log filter {filter:?}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => {
            let ansi = std::io::stderr().is_terminal();
            builder.with_ansi(ansi).with_target(false).fmt_fields(fields()).init();
        }
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    std::panic::set_hook(Box::new(tell_panic));
    Ok(())
}

/// One line, as all else that is logged.
fn tell_panic(panic: &PanicHookInfo<'_>) {
    error!(at = panic.location().map(tracing::field::display), why = panic.payload_as_str(), "panic");
}

/// Fields of lines of text: what bases and authors of Pods say is among them, and nothing in it may act on a terminal or
/// look like a line of its own.
fn fields() -> impl for<'w> FormatFields<'w> + Send + Sync + 'static {
    let write = |writer: &mut Writer<'_>, field: &Field, value: &dyn Debug| {
        let text = format!("{value:?}");
        let text = printable(&text, FIELD_MAX);
        match field.name() {
            "message" => writer.write_str(&text),
            name => write!(writer, "{name}={text}"),
        }
    };
    format::debug_fn(write).delimited(" ")
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing::{info, info_span, warn};

    use super::*;

    #[derive(Clone, Default)]
    struct Terminal(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Terminal {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What a terminal gets of what is logged meanwhile.
    fn shown(log: impl FnOnce()) -> String {
        let terminal = Terminal::default();
        let writer = terminal.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .fmt_fields(fields())
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(terminal.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_line_is_as_ever() {
        let text = shown(|| info!(base = %"base-1", name = "app", count = 3, some = ?Some("x"), "base registered"));
        assert_eq!(text, " INFO base registered base=base-1 name=\"app\" count=3 some=Some(\"x\")\n");
    }

    #[test]
    fn whatever_a_stranger_says_acts_on_no_terminal_and_makes_no_line_of_its_own() {
        let evil = "a\u{1b}[2J\u{1b}]0;t\u{7}\r\n2026-01-01 ERROR forged\u{9b}31m\u{202e}\u{0}\u{8}\u{7f}\u{2028}b";
        let text = shown(|| {
            let span = info_span!("span", of = %evil);
            let _inside = span.enter();
            warn!(display = %evil, debug = ?evil, text = evil, error = %io::Error::other(evil), "message {evil}");
        });
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        let line = text.trim_end_matches('\n');
        assert!(!line.chars().any(char::is_control), "{text:?}");
        assert!(!line.contains(['\u{202e}', '\u{2028}']), "{text:?}");
        for word in ["display=a", "debug=\"a", "text=\"a", "error=a", "message a", "of=a"] {
            assert!(line.contains(word), "{word}: {text:?}");
        }
    }

    #[test]
    fn a_panic_is_one_line_that_says_where() {
        let text = shown(|| {
            let hook = std::panic::take_hook();
            std::panic::set_hook(Box::new(tell_panic));
            let end = std::panic::catch_unwind(|| panic!("oh\nno"));
            std::panic::set_hook(hook);
            assert!(end.is_err());
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("ERROR panic at=src/telemetry.rs:") && text.contains(r#"why="oh\nno""#), "{text}");
    }

    #[test]
    fn a_field_that_is_too_long_is_cut() {
        let text = shown(|| info!(error = %"x".repeat(1 << 20), "oh"));
        assert!(text.len() < FIELD_MAX + 100 && text.ends_with("…\n"), "{} bytes", text.len());
    }

    #[test]
    fn what_the_libraries_repeat_is_left_out_and_can_be_asked_for() {
        for filter in ["info", "debug", "info,kube_runtime=trace"] {
            assert!(EnvFilter::try_new(format!("{QUIET},{filter}")).is_ok(), "{filter}");
        }
        let filter = EnvFilter::try_new(format!("{QUIET},debug,kube_runtime=trace")).unwrap().to_string();
        assert!(filter.contains("kube_runtime=trace") && !filter.contains("kube_runtime=error"), "{filter}");
    }
}
