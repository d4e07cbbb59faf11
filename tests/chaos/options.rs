//! What is tried, for how long.

use std::{env, str::FromStr, time::Duration};

use anyhow::{Result, anyhow};

/// A run.
#[derive(Debug)]
pub(crate) struct Options {
    /// Of it all that is random is made.
    pub(crate) seed: u64,
    /// For so long things go wrong, without the time to heal.
    pub(crate) length: Duration,
    /// After so much of it, it is to heal.
    pub(crate) round: Duration,
}

impl Options {
    /// As `make chaos` says it.
    pub(crate) fn from_environment() -> Result<Self> {
        let minutes: u64 = variable("MODULET_CHAOS_MINUTES")?.unwrap_or(10);
        let seed = variable("MODULET_CHAOS_SEED")?.unwrap_or_else(|| fastrand::u64(..1_000_000));
        Ok(Self { seed, length: Duration::from_secs(60 * minutes), round: Duration::from_secs(45) })
    }
}

fn variable<T: FromStr>(name: &str) -> Result<Option<T>> {
    let text = env::var(name).unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| anyhow!("{name}={text} is no number"))
}
