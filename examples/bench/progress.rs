//! What is told while it runs: on the standard error, so that the standard output has the table alone.

use std::{sync::OnceLock, time::Instant};

/// One line, with the seconds since the first.
pub(crate) fn say(text: &str) {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed().as_secs_f64();
    eprintln!("{elapsed:7.1} s  {text}");
}
