//! The only arithmetic of times in the core: it cannot panic, whatever a Pod or an option says.

use std::time::{Duration, Instant};

/// Nothing is waited for any longer: "never", in words that a clock can still add to.
pub const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A moment after another one.
pub trait Later {
    /// The moment that is `by` later; one that is further away than [`FAR`] is [`FAR`] away.
    #[must_use]
    fn later(self, by: Duration) -> Self;
}

impl Later for Instant {
    fn later(self, by: Duration) -> Self {
        self.checked_add(by.min(FAR)).unwrap_or(self)
    }
}

/// One of so many equal parts of a time.
pub(super) fn part(of: Duration, parts: u32) -> Duration {
    of.checked_div(parts).unwrap_or(of)
}

/// How long something has lasted, in steps that grow: a text with it changes a few times an hour and not each second.
/// None while it is not worth a word.
pub(super) fn so_far(lasted: Duration) -> Option<&'static str> {
    const STEPS: [(u64, &str); 9] = [
        (30, "for more than half a minute"),
        (60, "for more than a minute"),
        (120, "for more than 2 minutes"),
        (300, "for more than 5 minutes"),
        (600, "for more than 10 minutes"),
        (1800, "for more than half an hour"),
        (3600, "for more than an hour"),
        (6 * 3600, "for more than 6 hours"),
        (24 * 3600, "for more than a day"),
    ];
    let reached = STEPS.iter().rfind(|(from, _)| lasted >= Duration::from_secs(*from));
    reached.map(|(_, words)| *words)
}
