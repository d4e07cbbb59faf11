//! What was published and is not acknowledged yet, and what that tells when the connection ends.
//!
//! Protocol fact: a broker that takes no packet of some size (mosquitto's `max_packet_size`, the quotas of hosted
//! brokers) does not say so in MQTT 3.1.1: it closes the connection, on all bases. So a command that was under way at
//! two losses is a suspect, and so is all that is as large.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use crate::domain::{Backoff, BaseId, Command, Later};

/// A loss that comes later than this after a command was handed over has another cause.
const BLAMED_FOR: Duration = Duration::from_secs(30);
/// Two losses that are further apart have nothing to do with each other.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);
/// As many losses are a proof.
const PROOF: u32 = 2;
/// No broker's limit is smaller, in bytes: a smaller command that was lost says nothing about others.
const SMALLEST_LIMIT: usize = 4096;
/// So long nothing is sent that is as large as what the broker does not take; twice as long each time that it is tried
/// again in vain.
const LARGE_WAITS: Backoff = Backoff { initial: Duration::from_secs(600), max: Duration::from_secs(3600) };
/// The same for one command that is no larger than others that arrive.
const SMALL_WAITS: Backoff = Backoff { initial: Duration::from_secs(60), max: Duration::from_secs(600) };
/// Suspects that are remembered; the oldest is forgotten for a new one.
const SUSPECTS: usize = 256;

/// Tells a command from others, and from itself with another content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Published {
    /// Bytes of its payload; first, so that the largest is the greatest.
    bytes: usize,
    base: BaseId,
    command: &'static str,
}

impl Published {
    /// A command with that many bytes.
    pub(super) fn new(base: &BaseId, command: &Command, bytes: usize) -> Self {
        Self { bytes, base: base.clone(), command: command.name() }
    }
}

/// A command that is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// The broker does not take as much.
    #[error(
        "the command has {bytes} bytes, and the broker closes the connection at one of {limit}: it seems to take no packet as large (max_packet_size, message_size_limit), and nothing as large is sent for some minutes"
    )]
    TooLargeForBroker {
        /// Its size.
        bytes: usize,
        /// The smallest that the broker did not take.
        limit: usize,
    },
    /// It was lost with the connection each time.
    #[error(
        "the command has {bytes} bytes, and the connection to the broker was lost each time that it was sent: it waits for some minutes"
    )]
    LosesTheConnection {
        /// Its size.
        bytes: usize,
    },
}

#[derive(Clone, Copy, Debug)]
struct Suspect {
    losses: u32,
    last: Instant,
    /// It is not sent before then.
    until: Option<Instant>,
}

/// The size that a loss was put down to, and when it was.
type Loss = Option<(usize, Instant)>;

/// A size that the broker does not take.
#[derive(Clone, Copy, Debug)]
struct Limit {
    bytes: usize,
    until: Instant,
    /// How often it was found.
    found: u32,
}

/// The commands under way on the present connection, and what earlier connections were lost with.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Handed to the client, in order; not written to the connection as far as is known.
    handed: VecDeque<(Published, Instant)>,
    /// Written, by packet id.
    written: BTreeMap<u16, (Published, Instant)>,
    suspects: BTreeMap<Published, Suspect>,
    /// The size that the last loss was put down to.
    lost: Loss,
    limit: Option<Limit>,
    /// What both were before the last loss.
    before: Option<(Option<Limit>, Loss)>,
    /// The largest that the broker took lately.
    taken: Option<(usize, Instant)>,
}

impl Outbox {
    /// Whether the command may be sent now.
    pub(super) fn admits(&self, what: &Published, now: Instant) -> Result<(), Refusal> {
        let bytes = what.bytes;
        if let Some(limit) = self.limit.filter(|limit| bytes >= limit.bytes && now < limit.until) {
            return Err(Refusal::TooLargeForBroker { bytes, limit: limit.bytes });
        }
        let until = self.suspects.get(what).and_then(|suspect| suspect.until);
        if until.is_some_and(|until| now < until) { Err(Refusal::LosesTheConnection { bytes }) } else { Ok(()) }
    }

    /// It is handed to the client.
    pub(super) fn handed(&mut self, what: Published, now: Instant) {
        self.handed.push_back((what, now));
    }

    /// The client wrote the next one, with this packet id.
    pub(super) fn written(&mut self, packet: u16) {
        if let Some(next) = self.handed.pop_front() {
            self.written.insert(packet, next);
        }
    }

    /// The broker took it.
    pub(super) fn acknowledged(&mut self, packet: u16, now: Instant) {
        let Some((what, _)) = self.written.remove(&packet) else { return };
        let taken = self.taken(now);
        if what.bytes >= taken {
            self.taken = Some((what.bytes, now));
        }
        if self.limit.is_some_and(|limit| what.bytes >= limit.bytes) {
            self.limit = None;
        }
        self.lost = self.lost.filter(|(bytes, _)| *bytes > what.bytes);
        self.suspects.remove(&what);
    }

    /// The size of the largest that the broker took lately.
    fn taken(&self, now: Instant) -> usize {
        let lately = self.taken.filter(|(_, at)| now.saturating_duration_since(*at) <= REMEMBERED_FOR);
        lately.map_or(0, |(bytes, _)| bytes)
    }

    /// The connection is lost: nothing of it is under way any more. `closed`: the other side ended it, as it does at
    /// what it does not take; it did not just fall silent.
    pub(super) fn lost(&mut self, closed: bool, now: Instant) {
        self.before = Some((self.limit, self.lost));
        let under_way = self.handed.drain(..).chain(std::mem::take(&mut self.written).into_values());
        // Questions are not blamed: without them nothing is known of a base.
        let blamed = under_way.filter(|(what, at)| {
            let question = [Command::QueryModules.name(), Command::QueryHealth.name()].contains(&what.command);
            closed && !question && now.saturating_duration_since(*at) <= BLAMED_FOR
        });
        let Some((what, _)) = blamed.max() else {
            self.lost = None;
            return;
        };
        let before = self.lost.take().filter(|(_, at)| now.saturating_duration_since(*at) <= REMEMBERED_FOR);
        if what.bytes >= SMALLEST_LIMIT && what.bytes > self.taken(now) {
            self.blame_size(what.bytes, before.map(|(bytes, _)| bytes), now);
        }
        self.suspect(what, now);
    }

    fn blame_size(&mut self, bytes: usize, before: Option<usize>, now: Instant) {
        self.lost = Some((bytes, now));
        // Once found, one more loss shows that it still holds.
        let holds = |limit: &Limit| bytes >= limit.bytes && now <= limit.until.later(LARGE_WAITS.max);
        let known = self.limit.filter(holds);
        let found = known.map_or(1, |limit| limit.found.saturating_add(1));
        let smallest = known.map(|limit| limit.bytes).or(before.map(|before| before.min(bytes)));
        if let Some(bytes) = smallest {
            self.limit = Some(Limit { bytes, until: now.later(LARGE_WAITS.delay(found)), found });
        }
    }

    fn suspect(&mut self, what: Published, now: Instant) {
        let long_ago =
            |suspect: &Suspect| now.saturating_duration_since(suspect.until.unwrap_or(suspect.last)) > REMEMBERED_FOR;
        self.suspects.retain(|_, suspect| !long_ago(suspect));
        if self.suspects.len() >= SUSPECTS
            && let Some(oldest) = self.suspects.iter().min_by_key(|(_, s)| s.last).map(|(what, _)| what.clone())
        {
            self.suspects.remove(&oldest);
        }
        let suspect = self.suspects.entry(what).or_insert(Suspect { losses: 0, last: now, until: None });
        suspect.losses = suspect.losses.saturating_add(1);
        suspect.last = now;
        if suspect.losses >= PROOF {
            suspect.until = Some(now.later(SMALL_WAITS.delay(suspect.losses + 1 - PROOF)));
        }
    }

    /// The broker could not be reached at all after the last loss: it was away, and no size is to blame.
    pub(super) fn broker_was_away(&mut self) {
        if let Some(before) = self.before.take() {
            (self.limit, self.lost) = before;
        }
    }
}
