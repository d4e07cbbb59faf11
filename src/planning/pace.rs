//! How often one object may be written.

use std::time::{Duration, Instant};

/// So many writes in a row are an object's story; what comes on top of them is somebody's noise.
const BURST: u32 = 20;
/// And then one in this time.
const EVERY: Duration = Duration::from_secs(5);

/// A bucket of writes. Somebody who changes something at each message costs the API server one write each
/// five seconds, not one for each message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    used: u32,
    since: Option<Instant>,
}

impl Pace {
    /// When the next one may go out: `now`, or later.
    pub fn next(&self, now: Instant) -> Instant {
        let Some(since) = self.since else { return now };
        let missing = self.used.saturating_sub(BURST - 1);
        since.checked_add(EVERY.saturating_mul(missing)).map_or(now, |at| at.max(now))
    }

    /// One goes out.
    pub fn take(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let refilled =
            u32::try_from(now.saturating_duration_since(since).as_secs() / EVERY.as_secs()).unwrap_or(u32::MAX);
        if refilled >= self.used {
            (self.used, self.since) = (0, Some(now));
        } else if refilled > 0 {
            self.used -= refilled;
            self.since = since.checked_add(EVERY.saturating_mul(refilled));
        }
        self.used = self.used.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes as often as may be for an hour, tried each 100 ms.
    fn writes_in(seconds: u64) -> usize {
        let (start, mut pace, mut writes) = (Instant::now(), Pace::default(), 0);
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
        let (now, mut pace) = (Instant::now(), Pace::default());
        (0..20).for_each(|_| pace.take(now));
        assert!(pace.next(now) > now);
        let later = now + Duration::from_secs(200);
        for _ in 0..20 {
            assert_eq!(pace.next(later), later);
            pace.take(later);
        }
        assert!(pace.next(later) > later);
    }
}
