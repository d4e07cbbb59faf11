//! Times and limits.

use std::time::Duration;

use super::Backoff;

/// Times and limits of the core.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Silence after which a base is asked for a sign of life.
    pub ask_after: Duration,
    /// Silence after which a base is called unreachable.
    pub unreachable_after: Duration,
    /// The same while all its workers are busy with our own commands.
    pub busy_for: Duration,
    /// Absence after which the Node is deleted.
    pub dead_after: Duration,
    /// Absence after which a base is not asked any more and its memory goes, where it did not say itself that it goes.
    pub forget_after: Duration,
    /// A base's list is asked for at least this often.
    pub list_every: Duration,
    /// Commands in flight on one base. A real base has five workers: one stays free for questions.
    pub commands_in_flight: usize,
    /// A module that starts for longer does not keep its place among the commands in flight.
    pub hangs_after: Duration,
    /// A command that the base says it is at work on is waited for this long.
    pub works_for: Duration,
    /// A module that has served for this long starts with a clean record, as a kubelet's container does.
    pub good_after: Duration,
    /// Bytes of a baseline at most. What does not fit is installed one by one after it.
    pub baseline_bytes: usize,
    /// How long a superseded Pod stays visible.
    pub superseded_ttl: Duration,
    /// How long a claim outlives its last Pod, so that a Pod's replacement finds it unbroken.
    pub claim_settles: Duration,
    /// Between tries of an install or uninstall that failed.
    pub backoff: Backoff,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ask_after: Duration::from_secs(12),
            unreachable_after: Duration::from_secs(28),
            busy_for: Duration::from_secs(120),
            dead_after: Duration::from_secs(300),
            forget_after: Duration::from_secs(24 * 3600),
            list_every: Duration::from_secs(20),
            commands_in_flight: 4,
            hangs_after: Duration::from_secs(600),
            works_for: Duration::from_secs(900),
            good_after: Duration::from_secs(600),
            baseline_bytes: 256 * 1024,
            superseded_ttl: Duration::from_secs(60),
            claim_settles: Duration::from_secs(2),
            backoff: Backoff::KUBELET,
        }
    }
}
