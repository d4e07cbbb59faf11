//! Somebody else steers what we steer: who yields, and for how long.

use std::time::{Duration, Instant};

use crate::domain::{Backoff, Later};

/// So many changes are put back at once: a person's mistake.
const AT_ONCE: u32 = 3;
/// After these it is something that does not give up, such as a `HorizontalPodAutoscaler`.
const STANDS: Backoff = Backoff { initial: Duration::from_secs(30), max: Duration::from_secs(600) };
/// Quiet for so long: the next change is a first one again.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// How often others' changes of one object were put back.
#[derive(Debug, Default)]
pub(super) struct Contest {
    rounds: u32,
    last: Option<Instant>,
}

impl Contest {
    /// When the next change may be put back.
    pub(super) fn next(&mut self, now: Instant) -> Instant {
        let Some(last) = self.last else { return now };
        if now >= last.later(FORGOTTEN.max(self.stands_for().saturating_mul(2))) {
            *self = Self::default();
        }
        if self.rounds == 0 { now } else { last.later(self.stands_for()) }
    }

    /// A change is put back.
    pub(super) fn put_back(&mut self, now: Instant) {
        self.rounds = self.rounds.saturating_add(1);
        self.last = Some(now);
    }

    /// How long the next change stands; zero for as long as it looks like a mistake.
    pub(super) fn stands_for(&self) -> Duration {
        self.rounds.checked_sub(AT_ONCE).map_or(Duration::ZERO, |more| STANDS.delay(more.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Put back as soon as may be, while something changes it again every 15 s: the seconds between.
    fn fight(rounds: usize) -> Vec<u64> {
        let (mut contest, mut now) = (Contest::default(), Instant::now());
        let start = now;
        let mut at = Vec::new();
        for _ in 0..rounds {
            now = now.max(contest.next(now));
            contest.put_back(now);
            at.push((now - start).as_secs());
            now += Duration::from_secs(15);
        }
        at.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    #[test]
    fn what_does_not_give_up_is_put_back_ever_more_seldom() {
        assert_eq!(fight(10), [15, 15, 30, 60, 120, 240, 480, 600, 600]);
    }

    #[test]
    fn a_mistake_long_after_is_put_back_at_once() {
        let (mut contest, now) = (Contest::default(), Instant::now());
        for _ in 0..5 {
            contest.put_back(now);
        }
        let later = now + Duration::from_secs(600);
        assert_eq!(contest.next(later), later);
        assert_eq!(contest.stands_for(), Duration::ZERO);
    }
}
