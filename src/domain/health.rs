//! What is known of a base's JVM, and when to ask for it again.
//!
//! Protocol fact: a base that has only just started answers the health question without its JVM's
//! figures, and some never name them. So the question is repeated, with growing pauses.

use std::time::{Duration, Instant};

use super::{Backoff, times::Later};

/// Between health questions about the JVM that stay open or are answered in part: 10 s, 20 s … 5 min.
const QUESTIONS: Backoff = Backoff { initial: Duration::from_secs(10), max: Duration::from_secs(300) };

/// A JVM that is new again and again (a base that asks for its baseline in a loop) is asked this often at most.
const AT_MOST_EVERY: Duration = Duration::from_secs(5);

/// What is known of a base's JVM.
#[derive(Clone, Debug)]
pub(super) struct JvmKnowledge {
    complete: bool,
    /// There was another JVM before: an answer to a question from its time is about that one.
    renewed: bool,
    /// Questions since the JVM was new.
    asked: u32,
    last_asked: Option<Instant>,
    ask_at: Instant,
}

impl JvmKnowledge {
    /// Nothing is known.
    pub(super) fn new(now: Instant) -> Self {
        Self { complete: false, renewed: false, asked: 0, last_asked: None, ask_at: now }
    }

    /// What was known was about another JVM.
    pub(super) fn is_new(&mut self, now: Instant) {
        let ask_at = self.last_asked.map_or(now, |asked| asked.later(AT_MOST_EVERY).max(now));
        *self = Self { complete: false, renewed: true, asked: 0, last_asked: self.last_asked, ask_at };
    }

    /// A health question went out, whatever for.
    pub(super) fn asked(&mut self, now: Instant) {
        self.asked = self.asked.saturating_add(1);
        self.last_asked = Some(now);
        self.ask_at = now.later(QUESTIONS.delay(self.asked));
    }

    /// Health came; `complete`: it names the JVM. What was known of this JVM stays known.
    pub(super) fn answered(&mut self, complete: bool) {
        self.complete |= complete && (self.asked > 0 || !self.renewed);
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// When to ask, where anything is left to know.
    pub(super) fn ask_at(&self) -> Option<Instant> {
        (!self.complete).then_some(self.ask_at)
    }
}
