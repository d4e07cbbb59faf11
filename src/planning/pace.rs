//! A bucket: so many at once, and then one in a time.

use std::time::{Duration, Instant};

use crate::domain::Later;

/// How often something may happen. Somebody who causes it at each message causes it once in `every`, not once for each
/// message.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    burst: u32,
    every: Duration,
    used: u32,
    since: Option<Instant>,
}

impl Pace {
    /// A full bucket: `burst` at once, and then one in `every`.
    pub const fn new(burst: u32, every: Duration) -> Self {
        Self { burst, every, used: 0, since: None }
    }

    /// When the next one may be: `now`, or later.
    pub fn next(&self, now: Instant) -> Instant {
        let Some(since) = self.since else { return now };
        let missing = self.used.saturating_sub(self.burst.saturating_sub(1));
        since.later(self.every.saturating_mul(missing)).max(now)
    }

    /// Takes one if there may be one now.
    pub fn try_take(&mut self, now: Instant) -> bool {
        let may = self.next(now) <= now;
        if may {
            self.take(now);
        }
        may
    }

    /// Whether it is as if none had ever been taken.
    pub fn is_full(&self, now: Instant) -> bool {
        self.since.is_none_or(|since| since.later(self.every.saturating_mul(self.used)) <= now)
    }

    /// One is taken.
    pub fn take(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let passed = now.saturating_duration_since(since).as_millis().checked_div(self.every.as_millis());
        let refilled = passed.and_then(|n| u32::try_from(n).ok()).unwrap_or(u32::MAX);
        if refilled >= self.used {
            (self.used, self.since) = (0, Some(now));
        } else if refilled > 0 {
            self.used = self.used.saturating_sub(refilled);
            self.since = Some(since.later(self.every.saturating_mul(refilled)));
        }
        self.used = self.used.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes as often as may be for an hour, tried each 100 ms.
    fn writes_in(seconds: u64) -> usize {
        let (start, mut pace, mut writes) = (Instant::now(), Pace::new(20, Duration::from_secs(5)), 0);
        for tick in 0..seconds * 10 {
            let now = start + Duration::from_millis(100 * tick);
            if pace.next(now) <= now {
                pace.take(now);
                writes += 1;
            }
        }
        writes
    }

    #[test]
    fn a_burst_is_free_and_noise_is_one_write_in_five_seconds() {
        assert_eq!(writes_in(2), 20);
        assert_eq!(writes_in(3600), 20 + 719);
    }

    #[test]
    fn what_is_quiet_for_a_time_has_its_burst_again() {
        let (now, mut pace) = (Instant::now(), Pace::new(20, Duration::from_secs(5)));
        (0..20).for_each(|_| pace.take(now));
        assert!(pace.next(now) > now);
        let later = now + Duration::from_secs(200);
        assert!(!pace.is_full(now + Duration::from_secs(99)) && pace.is_full(later));
        for _ in 0..20 {
            assert_eq!(pace.next(later), later);
            pace.take(later);
        }
        assert!(pace.next(later) > later);
    }
}
