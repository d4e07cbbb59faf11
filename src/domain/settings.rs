//! Times and limits.

use std::time::Duration;

use super::{Backoff, metaspace::MetaspaceRules};

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
    /// How long a superseded Pod stays visible.
    pub superseded_ttl: Duration,
    /// How long a claim outlives its last Pod, so that a Pod's replacement finds it unbroken.
    pub claim_settles: Duration,
    /// Between tries of an install or uninstall that failed.
    pub backoff: Backoff,
    /// What is said and done about metaspace.
    pub metaspace: MetaspaceRules,
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
            superseded_ttl: Duration::from_secs(60),
            claim_settles: Duration::from_secs(2),
            backoff: Backoff::KUBELET,
            metaspace: MetaspaceRules::default(),
        }
    }
}
