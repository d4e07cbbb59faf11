//! Who leads, decided from one Lease. Nothing here reads a clock or speaks to anybody.
//!
//! Expiry is judged by our own clock, from when we last saw the Lease change: the clocks of two machines are never
//! compared. Every write carries the version that it was decided on, so of two that try one comes out.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;

use super::lease::{Hand, Wanted, version};
use crate::{
    domain::Backoff,
    lead::{Lead, Moment},
};

/// A leader renews this often.
const RENEW_EVERY: Duration = Duration::from_millis(2500);
/// After a failure it is tried again after this; a leader has to hurry.
const AGAIN: Backoff = Backoff { initial: Duration::from_millis(500), max: Duration::from_millis(2500) };
/// A Lease that says it lasts longer than this was not written by one of us, and is not waited for longer.
const LONGEST: Duration = Duration::from_secs(60);
/// A leader that has had no broker for this long would rather that another led, who has it.
const WITHOUT_BROKER: Duration = Duration::from_secs(3);

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Nothing before then, unless something changes.
    Wait(Moment),
    /// Read the Lease.
    Look,
    /// Create it.
    Create(Box<Lease>),
    /// Replace it, if it still is the version that it is made of.
    Replace(Box<Lease>),
    /// Replace it, by which we give it up: nothing may be done any more before it is sent, since its answer can be lost.
    GiveUp(Box<Lease>),
    /// It is another's: this one's; nobody's yet if that is empty.
    Lost(String),
}

/// Why we lead from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gain {
    /// Nobody led.
    Free,
    /// The one before us gave it back.
    HandedOver,
    /// It was that of the process before us in this very Pod.
    Inherited,
    /// This one did not renew it.
    Expired(String),
}

impl Gain {
    /// For people.
    pub(super) fn why(&self) -> &'static str {
        match self {
            Self::Free => "nobody did",
            Self::HandedOver => "the one before gave it up",
            Self::Inherited => "the process before in this Pod did",
            Self::Expired(_) => "the one before did not renew",
        }
    }
}

/// What is known of the Lease.
#[derive(Debug)]
enum Known {
    Nothing,
    /// It is not there; whether we saw it before.
    Absent {
        deleted: bool,
    },
    Is(Box<Lease>),
}

/// One replica's view.
#[derive(Debug)]
pub(super) struct Election {
    pub(super) hand: Hand,
    known: Known,
    /// Since when the Lease is as it is, as far as we could see.
    unchanged_since: Moment,
    leads: bool,
    /// When the last write that was taken began.
    renewed: Moment,
    failures: u32,
    not_before: Moment,
    /// Since when there has been no broker.
    without_broker: Option<Moment>,
}

impl Election {
    pub(super) fn new(hand: Hand, now: Moment) -> Self {
        Self {
            hand,
            known: Known::Nothing,
            unchanged_since: now,
            leads: false,
            renewed: now,
            failures: 0,
            not_before: now,
            without_broker: None,
        }
    }

    /// The broker is there, or not.
    pub(super) fn broker(&mut self, is_there: bool, now: Moment) {
        self.without_broker = if is_there { None } else { self.without_broker.or(Some(now)) };
    }

    /// The Lease is like this, or not there. What is older than what we know says nothing.
    pub(super) fn observed(&mut self, lease: Option<Lease>, now: Moment) {
        let next = match (lease, &self.known) {
            (None, known) => Known::Absent { deleted: matches!(known, Known::Is(_) | Known::Absent { deleted: true }) },
            (Some(next), Known::Is(known))
                if next.metadata.uid == known.metadata.uid && version(&next) < version(known) =>
            {
                return;
            }
            (Some(next), _) => Known::Is(Box::new(next)),
        };
        let renewed = |known: &Known| match known {
            Known::Is(lease) => (1, lease.spec.clone()),
            Known::Absent { .. } => (2, None),
            Known::Nothing => (3, None),
        };
        if renewed(&self.known) != renewed(&next) {
            self.unchanged_since = now;
        }
        self.known = next;
    }

    /// What to do now; `wall` is what the Lease says of it to people.
    pub(super) fn next(&self, now: Moment, wall: Timestamp) -> Step {
        if now < self.not_before {
            return Step::Wait(self.not_before);
        }
        match &self.known {
            Known::Nothing => Step::Look,
            // The leader, if there is one, makes it anew.
            Known::Absent { deleted: true } if !self.leads && now < self.unchanged_since.later(Lead::LASTS) => {
                Step::Wait(self.unchanged_since.later(Lead::LASTS))
            }
            Known::Absent { .. } => Step::Create(self.hand.write(None, self.held(now), wall)),
            Known::Is(lease) if self.leads => self.keep(lease, now, wall),
            Known::Is(lease) => self.stand_by(lease, now, wall),
        }
    }

    fn keep(&self, lease: &Lease, now: Moment, wall: Timestamp) -> Step {
        let holder = Hand::holder(lease);
        if holder != self.hand.me {
            return Step::Lost(holder.to_owned());
        }
        let held = self.held(now);
        if held == (Wanted::Held { has_broker: false }) && Hand::claimed(lease).is_some_and(|by| by != self.hand.me) {
            return Step::GiveUp(self.hand.write(Some(lease), Wanted::Released, wall));
        }
        let due = self.renewed.later(RENEW_EVERY);
        let says_otherwise = Hand::says_it_has_broker(lease) != (held == Wanted::Held { has_broker: true });
        if now >= due || says_otherwise {
            return Step::Replace(self.hand.write(Some(lease), held, wall));
        }
        let tells = self.without_broker.map(|since| since.later(WITHOUT_BROKER)).filter(|at| *at > now);
        Step::Wait(tells.map_or(due, |at| at.min(due)))
    }

    fn stand_by(&self, lease: &Lease, now: Moment, wall: Timestamp) -> Step {
        let expires = self.expires(lease);
        let yields = !Hand::says_it_has_broker(lease);
        let holder = Hand::holder(lease);
        // Who gave it up for want of the broker did so for one who has it.
        let free = self.hand.is_predecessor(holder) || holder.is_empty() && !(yields && self.without_broker.is_some());
        if free || now >= expires {
            return Step::Replace(self.hand.write(Some(lease), self.held(now), wall));
        }
        if yields && self.without_broker.is_none() && Hand::claimed(lease).is_none() {
            return Step::Replace(self.hand.write(Some(lease), Wanted::Claimed, wall));
        }
        Step::Wait(expires)
    }

    fn held(&self, now: Moment) -> Wanted {
        let lost = self.without_broker.is_some_and(|since| now >= since.later(WITHOUT_BROKER));
        Wanted::Held { has_broker: !lost }
    }

    /// Gives it back; none if it is not ours.
    pub(super) fn release(&self, wall: Timestamp) -> Option<Box<Lease>> {
        match &self.known {
            Known::Is(lease) if self.holds() => Some(self.hand.write(Some(lease), Wanted::Released, wall)),
            _ => None,
        }
    }

    /// The API server took what we wrote. Says why we lead, if we did not before.
    pub(super) fn taken(&mut self, lease: Lease, begun: Moment, now: Moment) -> Option<Gain> {
        let ours = Hand::holder(&lease) == self.hand.me;
        let gain = (ours && !self.leads).then(|| self.gain());
        (self.failures, self.not_before) = (0, now);
        if ours {
            (self.leads, self.renewed) = (true, begun);
        }
        self.observed(Some(lease), now);
        gain
    }

    /// Whether we lead, and what we wrote last says so.
    pub(super) fn holds(&self) -> bool {
        self.leads && matches!(&self.known, Known::Is(lease) if Hand::holder(lease) == self.hand.me)
    }

    /// It is not what we thought: look again.
    pub(super) fn outdated(&mut self) {
        self.known = Known::Nothing;
    }

    /// The API server could not be asked. Of what others did meanwhile nothing is known: who did not renew while nobody
    /// could has as long again.
    pub(super) fn failed(&mut self, now: Moment) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.later(AGAIN.delay(self.failures));
        if !self.leads {
            self.known = Known::Nothing;
        }
    }

    fn expires(&self, lease: &Lease) -> Moment {
        let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
        let said = seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
        self.unchanged_since.later(said.unwrap_or(Lead::LASTS).clamp(Lead::LASTS, LONGEST))
    }

    fn gain(&self) -> Gain {
        match &self.known {
            Known::Is(lease) if Hand::holder(lease).is_empty() => Gain::HandedOver,
            Known::Is(lease) if self.hand.is_predecessor(Hand::holder(lease)) => Gain::Inherited,
            Known::Is(lease) => Gain::Expired(Hand::holder(lease).to_owned()),
            Known::Nothing | Known::Absent { .. } => Gain::Free,
        }
    }
}
