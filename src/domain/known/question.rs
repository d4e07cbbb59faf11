//! The question for a base's list: whether one is open, and when the next is due.

use std::time::{Duration, Instant};

use super::operation::QUERY_TIMEOUT;
use crate::domain::times::Later;

/// Questions that a silent base leaves open are repeated at most this far apart.
const QUERY_BACKOFF_MAX: Duration = Duration::from_secs(20);

/// What was asked, and what is wanted to be asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Question {
    asked: Option<Instant>,
    /// How often in a row it stayed open.
    unanswered: u32,
    wanted: bool,
}

impl Question {
    /// One is under way.
    pub(super) fn is_open(&self) -> bool {
        self.asked.is_some()
    }

    /// One is to be asked as soon as none is open.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// When the open one is asked again.
    pub(super) fn repeats_at(&self) -> Option<Instant> {
        let pause = QUERY_TIMEOUT.saturating_mul(1 << self.unanswered.min(8)).min(QUERY_BACKOFF_MAX);
        self.asked.map(|asked| asked.later(pause))
    }

    /// Ask when the open one is answered, or at once.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    /// Ask at once, whatever is open.
    pub(super) fn want_now(&mut self) {
        *self = Self { asked: None, unanswered: 0, wanted: true };
    }

    /// The open one is void.
    pub(super) fn forget(&mut self) {
        self.asked = None;
    }

    /// It is asked. Says whether the one before stayed open.
    pub(super) fn sent(&mut self, now: Instant) -> bool {
        let open = self.asked.replace(now).is_some();
        self.unanswered = self.unanswered.saturating_add(u32::from(open));
        self.wanted = false;
        open
    }

    /// An answer came; when it was asked for, if it was.
    pub(super) fn answered(&mut self) -> Option<Instant> {
        self.unanswered = 0;
        self.asked.take()
    }
}
