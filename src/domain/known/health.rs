//! What is known of a base's JVM, and when to ask for it again.
//!
//! Protocol fact: a base that has only just started answers the health question without its JVM's
//! figures, and some never name them. So the question is repeated, with growing pauses.
//!
//! Modules are classes, and classes fill the JVM's metaspace: after installs it is asked again how much is left.

use std::time::{Duration, Instant};

use crate::domain::{Backoff, times::Later};

/// Between health questions about the JVM that stay open or are answered in part: 10 s, 20 s … 5 min.
const QUESTIONS: Backoff = Backoff { initial: Duration::from_secs(10), max: Duration::from_secs(300) };

/// A JVM that is new again and again (a base that asks for its baseline in a loop) is asked this often at most.
const AT_MOST_EVERY: Duration = Duration::from_secs(5);

/// Installs that ended are followed by one question in this time,
const AFTER_INSTALLS_EVERY: Duration = Duration::from_secs(10);
/// and metaspace that is nearly used up, or a question that stays open, by one in this.
const WATCH_EVERY: Duration = Duration::from_secs(300);

/// Above this share of its limit metaspace is low, in percent.
const LOW_ABOVE: u64 = 95;
/// Below this share it is low no more.
const ENOUGH_BELOW: u64 = 85;
/// Above this share it is asked for without an install.
const WATCHED_ABOVE: u64 = 75;

/// The metaspace of a JVM that has a limit for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metaspace {
    /// Bytes that are used.
    pub used: u64,
    /// The limit, in bytes.
    pub max: u64,
}

impl Metaspace {
    /// Whether there is too little left for modules. What was low stays so until there is clearly more.
    pub fn is_low(self, before: bool) -> bool {
        if before { !self.is_below(ENOUGH_BELOW) } else { self.is_above(LOW_ABOVE) }
    }

    fn is_above(self, percent: u64) -> bool {
        u128::from(self.used).saturating_mul(100) > u128::from(self.max).saturating_mul(percent.into())
    }

    fn is_below(self, percent: u64) -> bool {
        u128::from(self.used).saturating_mul(100) < u128::from(self.max).saturating_mul(percent.into())
    }
}

/// What is known of a base's JVM.
#[derive(Clone, Debug)]
pub(in crate::domain) struct JvmKnowledge {
    complete: bool,
    /// There was another JVM before: an answer to a question from its time is about that one.
    renewed: bool,
    /// Questions since the JVM was new.
    asked: u32,
    last_asked: Option<Instant>,
    ask_at: Instant,
    /// What it said last of its metaspace, and when; none where there is no limit.
    metaspace: Option<(Metaspace, Instant)>,
    /// When the last install ended that no answer knows of.
    install_ended: Option<Instant>,
}

impl JvmKnowledge {
    /// Nothing is known.
    pub(in crate::domain) fn new(now: Instant) -> Self {
        Self {
            complete: false,
            renewed: false,
            asked: 0,
            last_asked: None,
            ask_at: now,
            metaspace: None,
            install_ended: None,
        }
    }

    /// What was known was about another JVM.
    pub(in crate::domain) fn is_new(&mut self, now: Instant) {
        let ask_at = self.last_asked.map_or(now, |asked| asked.later(AT_MOST_EVERY).max(now));
        *self = Self { renewed: true, last_asked: self.last_asked, ..Self::new(ask_at) };
    }

    /// A health question went out, whatever for.
    pub(in crate::domain) fn asked(&mut self, now: Instant) {
        self.asked = self.asked.saturating_add(1);
        self.last_asked = Some(now);
        self.ask_at = now.later(QUESTIONS.delay(self.asked));
    }

    /// Health came; `complete`: it names the JVM. What was known of this JVM stays known.
    pub(in crate::domain) fn answered(&mut self, complete: bool) {
        self.complete |= complete && (self.asked > 0 || !self.renewed);
        if self.last_asked >= self.install_ended {
            self.install_ended = None;
        }
    }

    /// It said how much metaspace it uses, or that it has no limit.
    pub(in crate::domain) fn measured(&mut self, metaspace: Option<Metaspace>, now: Instant) {
        self.metaspace = metaspace.map(|m| (m, now));
    }

    /// An install has ended, well or not: both load classes.
    pub(in crate::domain) fn install_ended(&mut self, now: Instant) {
        self.install_ended = Some(now);
    }

    pub(in crate::domain) fn is_complete(&self) -> bool {
        self.complete
    }

    /// When to ask, where anything is left to know.
    pub(in crate::domain) fn ask_at(&self) -> Option<Instant> {
        if !self.complete {
            return Some(self.ask_at);
        }
        let (metaspace, measured) = self.metaspace?;
        let after_install = self.install_ended.map(|ended| match self.last_asked {
            Some(asked) if asked >= ended => asked.later(WATCH_EVERY),
            Some(asked) => ended.max(asked.later(AFTER_INSTALLS_EVERY)),
            None => ended,
        });
        let watched = metaspace.is_above(WATCHED_ABOVE);
        let watch = watched.then(|| self.last_asked.map_or(measured, |asked| asked.max(measured)).later(WATCH_EVERY));
        after_install.into_iter().chain(watch).min()
    }
}
