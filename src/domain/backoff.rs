//! How long to wait before the next try.

use std::time::Duration;

/// Exponential back-off, as a kubelet's for containers that crash: 10 s, 20 s … 5 min.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Delay after the first failure.
    pub initial: Duration,
    /// No delay is longer.
    pub max: Duration,
}

impl Backoff {
    /// A kubelet's figures for containers (`MaxContainerBackOff` is 5 min).
    pub const KUBELET: Self = Self { initial: Duration::from_secs(10), max: Duration::from_secs(300) };

    /// For writes to the API server that failed: short, because nothing starts or stops by them.
    pub const WRITE: Self = Self { initial: Duration::from_millis(250), max: Duration::from_secs(15) };

    /// Delay after the `failures`-th failure in a row (1 = the first).
    pub fn delay(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        self.initial.saturating_mul(1 << doublings).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_from_ten_seconds_to_five_minutes() {
        let delays: Vec<u64> = (1..=8).map(|n| Backoff::KUBELET.delay(n).as_secs()).collect();
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(Backoff::KUBELET.delay(u32::MAX).as_secs(), 300);
    }
}
