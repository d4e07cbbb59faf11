//! Waiting for something to become true, with a deadline and a reason when it does not.
//!
//! This is the only place of the kit that sleeps.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;

/// How long [`eventually`] rests between two attempts: short, because every test waits half of it for
/// nothing; not shorter, because attempts are requests to what is being tested.
const INTERVAL: Duration = Duration::from_millis(25);

/// What one attempt may return: `bool`, `Option<T>` or `anyhow::Result<T>`.
pub trait Attempt {
    /// What a successful attempt yields.
    type Value;

    /// The value, or why there is none yet.
    ///
    /// # Errors
    ///
    /// The reason why this attempt did not succeed.
    fn outcome(self) -> Result<Self::Value, String>;
}

impl Attempt for bool {
    type Value = ();

    fn outcome(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("not yet".to_owned()) }
    }
}

impl<T> Attempt for Option<T> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing yet".to_owned())
    }
}

impl<T> Attempt for Result<T> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.map_err(|error| format!("{error:#}"))
    }
}

/// Tries until an attempt succeeds, and fails with the last attempt's reason when `deadline` has
/// passed. An attempt that hangs counts as one that failed.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use std::time::Duration;
/// use modulet_testkit::wait::eventually;
///
/// let file = tempfile::NamedTempFile::new()?;
/// let size = eventually("the file to be there", Duration::from_secs(5), async || {
///     let data = tokio::fs::metadata(file.path()).await?;
///     anyhow::Ok(data.len())
/// })
/// .await?;
/// assert_eq!(size, 0);
/// # anyhow::Ok(())
/// # })?;
/// # anyhow::Ok(())
/// ```
///
/// The closure cannot change what it borrows: with `AsyncFnMut`, which could, the future would not be
/// [`Send`] and nothing that waits could be spawned.
pub async fn eventually<A: Attempt, F: Future<Output = A>>(
    what: &str,
    deadline: Duration,
    mut attempt: impl FnMut() -> F,
) -> Result<A::Value> {
    let start = Instant::now();
    let mut reason = "no attempt has ended".to_owned();
    loop {
        match tokio::time::timeout_at(start + deadline, attempt()).await {
            Ok(attempt) => match attempt.outcome() {
                Ok(value) => return Ok(value),
                Err(why) => reason = why,
            },
            Err(_) => bail!("{what}: not within {deadline:?}; last: {reason}"),
        }
        if start.elapsed() + INTERVAL > deadline {
            bail!("{what}: not within {deadline:?}; last: {reason}");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
