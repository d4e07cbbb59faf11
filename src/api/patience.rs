//! How long a watch that fails waits before it tries again.

use std::time::{Duration, Instant};

use crate::domain::{Backoff, Later};

/// Where nothing answers. Not longer: all that time is deafness after an outage of the API server.
const SILENT: Backoff = Backoff { initial: Duration::from_millis(250), max: Duration::from_secs(4) };
/// Where the API server answers that it will not, or cannot.
const REFUSED: Backoff = Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(30) };
/// A watch works that has shown something and has not failed for so long since: where each list is followed by a
/// refusal, nothing works.
const HOLDS: Duration = Duration::from_secs(10);
/// Where there is nothing to show it works after so long without a failure: no pause and try together take longer
/// (30 s, and what `client.rs` says).
const QUIET: Duration = Duration::from_secs(90);

/// What a try failed of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// There was no answer, or it broke off.
    Silent,
    /// The answer was an error.
    Refused,
}

/// Failures in a row. The library begins its pauses anew whenever it tries to list, so it never comes to long ones.
#[derive(Debug, Default)]
pub(super) struct Patience {
    failures: u32,
    last: Option<Instant>,
    /// When the first came after that.
    came: Option<Instant>,
}

impl Patience {
    /// It failed. Returns how long to wait.
    pub(super) fn failed(&mut self, failure: Failure, now: Instant) -> Duration {
        if self.works_from().is_some_and(|at| at <= now) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        (self.last, self.came) = (Some(now), None);
        match failure {
            Failure::Silent => SILENT,
            Failure::Refused => REFUSED,
        }
        .delay(self.failures)
    }

    /// Something came: no mark that comes before each try, but an object, or the end of a list.
    pub(super) fn came(&mut self, now: Instant) {
        self.came.get_or_insert(now);
    }

    /// When it counts as working again, if it does not fail before. None: it does.
    pub(super) fn works_from(&self) -> Option<Instant> {
        let last = self.last?;
        Some(self.came.map_or(last.later(QUIET), |came| came.later(HOLDS)))
    }

    /// It works.
    pub(super) fn works(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often it is tried in this time; before each try fails, `first` happens.
    fn tries(within: Duration, failure: Failure, mut first: impl FnMut(&mut Patience, Instant)) -> usize {
        let (start, mut patience, mut tries) = (Instant::now(), Patience::default(), 0);
        let mut now = start;
        while now < start + within {
            first(&mut patience, now);
            now += patience.failed(failure, now);
            tries += 1;
        }
        tries
    }

    #[test]
    fn what_is_refused_is_tried_ever_more_seldom() {
        let hour = Duration::from_secs(3600);
        assert_eq!(tries(Duration::from_secs(20), Failure::Refused, |_, _| {}), 5);
        assert_eq!(tries(hour, Failure::Refused, |_, _| {}), 5 + 119);
        assert_eq!(tries(hour, Failure::Silent, |_, _| {}), 4 + 900);
    }

    #[test]
    fn a_list_that_comes_before_each_refusal_does_not_make_it_more_often() {
        let hour = Duration::from_secs(3600);
        assert_eq!(tries(hour, Failure::Refused, Patience::came), 5 + 119);
        assert_eq!(tries(hour, Failure::Silent, Patience::came), 4 + 900);
    }

    #[test]
    fn an_outage_that_is_over_is_forgotten() {
        let (mut now, mut patience) = (Instant::now(), Patience::default());
        for _ in 0..20 {
            now += patience.failed(Failure::Refused, now);
        }
        assert_eq!(patience.failed(Failure::Refused, now), Duration::from_secs(30));
        let came = now + Duration::from_secs(40);
        patience.came(came);
        patience.came(came + Duration::from_secs(5));
        assert_eq!(patience.works_from(), Some(came + HOLDS));
        assert_eq!(patience.failed(Failure::Silent, came + HOLDS), Duration::from_millis(250));
        patience.works();
        assert_eq!((patience.works_from(), patience.failures), (None, 0));
    }

    #[test]
    fn where_nothing_ever_comes_it_is_forgotten_too() {
        let (now, mut patience) = (Instant::now(), Patience::default());
        for _ in 0..20 {
            patience.failed(Failure::Silent, now);
        }
        let early = now + QUIET / 2;
        assert_eq!(patience.failed(Failure::Silent, early), Duration::from_secs(4));
        assert_eq!(patience.failed(Failure::Silent, early + QUIET), Duration::from_millis(250));
    }

    #[test]
    fn it_counts_to_the_end_of_time() {
        let mut patience = Patience { failures: u32::MAX, last: Some(Instant::now()), came: None };
        assert_eq!(patience.failed(Failure::Refused, Instant::now()), Duration::from_secs(30));
    }
}
