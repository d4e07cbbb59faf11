//! Whether a base can be reached, judged by what it said and not by heartbeats alone.
//!
//! Protocol fact: real bases stop beating for good after a broker outage yet answer every
//! question, so any message is a sign of life and a silent base is asked before it is given up.

use std::time::{Duration, Instant};

use super::Settings;

/// What is known about a base's reachability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reachability {
    /// Not heard since the controller started, which is not long ago.
    Unknown,
    /// Heard lately.
    Online,
    /// Asked, and silent for too long.
    Unreachable,
    /// Said itself that it goes away.
    Stopped,
    /// Unreachable or stopped for so long that its Node is to be deleted.
    Dead,
}

/// What a base's silence means.
#[derive(Clone, Debug)]
pub struct Liveness {
    heard: Option<Instant>,
    /// Silence is counted from here: the last message, the start, or our own reconnect.
    silent_since: Instant,
    asked: Option<Instant>,
    lost_since: Option<Instant>,
    stopped: bool,
    /// Since when we ourselves have no connection to the broker.
    deaf_since: Option<Instant>,
}

impl Liveness {
    /// A base that is known from its Node or from a first message to come.
    pub fn new(now: Instant) -> Self {
        Self { heard: None, silent_since: now, asked: None, lost_since: None, stopped: false, deaf_since: None }
    }

    /// The base sent something.
    pub fn heard(&mut self, now: Instant) {
        self.heard = Some(now);
        self.silent_since = now;
        self.asked = None;
        self.lost_since = None;
        self.stopped = false;
    }

    /// The base said that it goes away, or its last will did.
    pub fn said_goodbye(&mut self, now: Instant) {
        self.heard(now);
        self.stopped = true;
        self.lost_since = Some(now);
    }

    /// We lost the broker: nobody's silence counts from now on.
    pub fn deaf(&mut self, now: Instant) {
        self.deaf_since.get_or_insert(now);
    }

    /// We have the broker again: silence starts anew, absence goes on where it was.
    pub fn listening(&mut self, now: Instant) {
        if let Some(since) = self.deaf_since.take() {
            self.silent_since = now;
            self.asked = None;
            if let Some(lost) = &mut self.lost_since {
                *lost += now.saturating_duration_since(since);
            }
        }
    }

    /// Whether we ourselves have no connection to the broker.
    pub fn is_deaf(&self) -> bool {
        self.deaf_since.is_some()
    }

    /// Takes note of a silence that has lasted too long. `busy`: all workers of the base are
    /// occupied by our own commands, so it may be unable to answer for a while.
    pub fn tick(&mut self, settings: &Settings, busy: bool, now: Instant) {
        if self.deaf_since.is_none() && self.lost_since.is_none() && now >= self.gives_up(settings, busy) {
            self.lost_since = Some(now);
        }
    }

    /// The health question has been sent.
    pub fn asked(&mut self, now: Instant) {
        self.asked = Some(now);
    }

    /// When the base is to be asked for a sign of life.
    pub fn ask_at(&self, settings: &Settings) -> Option<Instant> {
        if self.deaf_since.is_some() {
            return None;
        }
        Some(match (self.asked, self.lost_since) {
            (None, _) => self.silent_since + settings.ask_after,
            (Some(asked), None) => asked + settings.ask_after / 2,
            (Some(asked), Some(_)) => asked + settings.ask_after * 2,
        })
    }

    /// What is known at `now`.
    pub fn at(&self, settings: &Settings, now: Instant) -> Reachability {
        match self.lost_since {
            Some(lost) if self.deaf_since.is_none() && now >= lost + settings.dead_after => Reachability::Dead,
            Some(_) if self.stopped => Reachability::Stopped,
            Some(_) => Reachability::Unreachable,
            None if self.heard.is_some() => Reachability::Online,
            None => Reachability::Unknown,
        }
    }

    /// When time alone changes the answer.
    pub fn changes_at(&self, settings: &Settings, busy: bool) -> Option<Instant> {
        if self.deaf_since.is_some() {
            return None;
        }
        Some(match self.lost_since {
            Some(lost) => lost + settings.dead_after,
            None => self.gives_up(settings, busy),
        })
    }

    /// How long the base has been silent.
    pub fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.silent_since)
    }

    fn gives_up(&self, settings: &Settings, busy: bool) -> Instant {
        let patience = if busy { settings.busy_for } else { settings.unreachable_after };
        self.silent_since + patience
    }
}
