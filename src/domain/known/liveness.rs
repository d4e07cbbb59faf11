//! Whether a base can be reached, judged by what it said and not by heartbeats alone.
//!
//! Protocol fact: real bases stop beating for good after a broker outage yet answer every
//! question, so any message is a sign of life and a silent base is asked before it is given up.
//!
//! Silence is judged only over a link that has proven alive after the question: a broker that hangs
//! makes all bases silent at once, and what they said meanwhile arrives in no particular order.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::domain::{
    Link, Settings,
    times::{FAR, Later, part},
};

/// A base has this long to answer a health question, and the broker to acknowledge it. With a shorter
/// [`Settings::ask_after`] it has a quarter of that.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// A base that is lost is asked at most this far apart.
const ASKS_LOST_EVERY: Duration = Duration::from_secs(300);

/// What is known about a base's reachability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Reachability {
    /// Not heard since the controller started, which is not long ago.
    Unknown,
    /// Heard lately.
    Online,
    /// Asked, and silent for too long.
    Unreachable,
    /// Said itself that it goes away.
    Stopped,
    /// Unreachable or stopped for so long that its Node is to be deleted. It is asked on, see
    /// [`Liveness::is_forgotten`]: a base that comes back may never beat again.
    Dead,
}

/// The questions that a base has not answered.
#[derive(Clone, Copy, Debug)]
struct Asked {
    first: Instant,
    last: Instant,
}

/// What a base's silence means.
#[derive(Clone, Debug)]
pub struct Liveness {
    heard: bool,
    /// Silence is counted from here: the last message, the start, or when the link was there again.
    silent_since: Instant,
    asked: Option<Asked>,
    lost_since: Option<Instant>,
    stopped: bool,
    /// Since when we ourselves have no connection to the broker.
    deaf_since: Option<Instant>,
    /// The link's last sign of life that was looked at.
    proven: Option<Instant>,
}

impl Liveness {
    /// A base that is known from its Node or from a first message to come.
    pub fn new(now: Instant) -> Self {
        Self {
            heard: false,
            silent_since: now,
            asked: None,
            lost_since: None,
            stopped: false,
            deaf_since: None,
            proven: None,
        }
    }

    /// The base sent something. One that said that it goes away may still answer what was under way: it is back
    /// when it [beats](Self::beat).
    pub fn heard(&mut self, now: Instant) {
        if self.stopped {
            return;
        }
        self.heard = true;
        self.silent_since = now;
        self.asked = None;
        self.lost_since = None;
    }

    /// The base said by itself that it is there: a heartbeat, or the question for its baseline.
    pub fn beat(&mut self, now: Instant) {
        self.stopped = false;
        self.heard(now);
    }

    /// The base said that it goes away.
    pub fn said_goodbye(&mut self, now: Instant) {
        let since = self.lost_since.filter(|_| self.stopped);
        self.beat(now);
        self.stopped = true;
        self.lost_since = Some(since.unwrap_or(now));
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
                *lost = lost.later(now.saturating_duration_since(since));
            }
        }
    }

    /// Whether we ourselves have no connection to the broker.
    pub fn is_deaf(&self) -> bool {
        self.deaf_since.is_some()
    }

    /// It said that it goes away, and has not come back by its own word.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// It was heard, nothing that it was asked is open, and the link to it is there: another message changes nothing but
    /// when it is to be asked.
    pub fn is_at_rest(&self) -> bool {
        let open = self.asked.is_some() || self.lost_since.is_some() || self.stopped || self.deaf_since.is_some();
        self.heard && !open
    }

    /// Whether the base is away, whether asked in vain or by its own word.
    pub fn is_lost(&self) -> bool {
        self.lost_since.is_some()
    }

    /// Takes note of the link, and of a silence that has lasted too long. `busy`: all workers of the
    /// base are occupied by our own commands, so it may be unable to answer for a while.
    pub fn tick(&mut self, settings: &Settings, busy: bool, link: &Link, now: Instant) {
        match link.proven {
            None => self.deaf(now),
            Some(_) => self.listening(now),
        }
        if self.lost_since.is_none() && self.has_hung(settings, link) {
            // What the bases said meanwhile is still to come, and our questions are only now on their way.
            self.silent_since = now;
            self.asked = None;
        }
        if self.is_overdue(settings, busy, link, now) && !link.suspected {
            self.lost_since = Some(now);
        }
        self.proven = link.proven;
    }

    /// The base was asked, the link has proven alive since for longer than an answer takes, and the silence has
    /// lasted for longer than is waited for.
    pub fn is_overdue(&self, settings: &Settings, busy: bool, link: &Link, now: Instant) -> bool {
        let (Some(asked), Some(proven)) = (self.asked, link.proven) else { return false };
        self.deaf_since.is_none()
            && self.lost_since.is_none()
            && now >= self.gives_up(settings, busy)
            && proven >= asked.first.later(answers_within(settings))
            && now.saturating_duration_since(proven) <= stalls_after(settings)
            && !self.has_hung(settings, link)
    }

    /// It was asked long enough ago to have answered.
    pub fn is_unanswered(&self, settings: &Settings, now: Instant) -> bool {
        self.asked.is_some_and(|asked| now >= asked.first.later(answers_within(settings)))
    }

    /// Nothing arrived for longer than the broker takes to acknowledge our questions; now something did.
    fn has_hung(&self, settings: &Settings, link: &Link) -> bool {
        let (Some(asked), Some(proven)) = (self.asked, link.proven) else { return false };
        let before = self.proven.map_or(asked.first, |before| before.max(asked.first));
        proven.saturating_duration_since(before) > stalls_after(settings)
    }

    /// The health question has been sent.
    pub fn asked(&mut self, now: Instant) {
        let first = self.asked.map_or(now, |asked| asked.first);
        self.asked = Some(Asked { first, last: now });
    }

    /// What was to be asked never went out: its silence is no answer.
    pub fn not_asked(&mut self) {
        if self.lost_since.is_none() {
            self.asked = None;
        }
    }

    /// When the base is to be asked for a sign of life. One that is lost is asked ever more rarely; one that said
    /// that it goes away, or that is forgotten, never.
    pub fn ask_at(&self, settings: &Settings) -> Option<Instant> {
        if self.deaf_since.is_some() || self.stopped {
            return None;
        }
        let Some(asked) = self.asked else { return Some(self.silent_since.later(settings.ask_after)) };
        let Some(lost) = self.lost_since else { return Some(asked.last.later(part(settings.ask_after, 2))) };
        let pause = settings.ask_after.saturating_mul(2).max(part(asked.last.saturating_duration_since(lost), 8));
        let at = asked.last.later(pause.min(ASKS_LOST_EVERY.max(settings.ask_after)));
        (at < self.is_forgotten_at(settings)?).then_some(at)
    }

    /// What is known at `now`.
    pub fn at(&self, settings: &Settings, now: Instant) -> Reachability {
        match self.lost_since {
            Some(lost) if self.deaf_since.is_none() && now >= lost.later(settings.dead_after) => Reachability::Dead,
            Some(_) if self.stopped => Reachability::Stopped,
            Some(_) => Reachability::Unreachable,
            None if self.heard => Reachability::Online,
            None => Reachability::Unknown,
        }
    }

    /// It was asked in vain for so long after its death that it is not asked any more: what is remembered of it
    /// can go once its Node has gone. One that said that it goes away is forgotten with its Node.
    pub fn is_forgotten(&self, settings: &Settings, now: Instant) -> bool {
        self.deaf_since.is_none() && self.is_forgotten_at(settings).is_some_and(|at| now >= at)
    }

    fn is_forgotten_at(&self, settings: &Settings) -> Option<Instant> {
        let after = if self.stopped { Duration::ZERO } else { settings.forget_after };
        self.lost_since.map(|lost| lost.later(settings.dead_after.max(after)))
    }

    /// When time alone changes the answer.
    pub fn changes_at(&self, settings: &Settings, busy: bool, now: Instant) -> Option<Instant> {
        if self.deaf_since.is_some() {
            return None;
        }
        let Some(lost) = self.lost_since else {
            let answered = self.asked.map_or(now, |asked| asked.first.later(answers_within(settings)));
            return Some(self.gives_up(settings, busy).max(answered));
        };
        let dead = lost.later(settings.dead_after);
        if dead > now { Some(dead) } else { self.is_forgotten_at(settings) }
    }

    /// How long the base has been silent.
    pub fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.silent_since)
    }

    fn gives_up(&self, settings: &Settings, busy: bool) -> Instant {
        let patience = if busy { settings.busy_for } else { settings.unreachable_after };
        self.silent_since.later(patience)
    }
}

fn answers_within(settings: &Settings) -> Duration {
    ANSWERS_WITHIN.min(part(settings.ask_after, 4))
}

/// Our questions are acknowledged by the broker, so on a link that lives something arrives this often.
fn stalls_after(settings: &Settings) -> Duration {
    part(settings.ask_after, 2).saturating_add(ANSWERS_WITHIN).min(FAR)
}
