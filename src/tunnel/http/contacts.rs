//! Where each base is: the address that its newest heartbeat came from, and its port.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Mutex,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{
    domain::BaseId,
    tunnel::{AddressRanges, open},
};

/// Bases that are known at a time; those that were heard longest ago make room.
const CONTACTS: usize = 32 * 1024;
/// Bases beat every 12 s (protocol fact). A beat that comes earlier than this is of a JVM that started anew, or of a
/// second base with the same identity;
const EARLY: Duration = Duration::from_secs(10);
/// and before one that comes later, the JVM was away or we were.
const LATE: Duration = Duration::from_secs(14);
/// A base that was heard within this lives where it was heard, whoever else says so: it may have started just now, and
/// take no connections yet.
const LIVES: Duration = Duration::from_secs(5);
/// When two beats are missing it is gone, or has moved. Between the two it lives if its port is open,
const GONE: Duration = Duration::from_secs(28);
/// at which we look no more often than this.
const LOOKS_EVERY: Duration = Duration::from_secs(5);
/// Two ports that alternate are told of once in this time.
const TELLS_EVERY: Duration = Duration::from_secs(600);

/// What a beat was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beat {
    /// It did not come when it was due: the JVM may be another one.
    pub(super) out_of_turn: bool,
    /// The base had another port before, lately: two bases seem to have one identity.
    pub(super) alternates: Option<u16>,
}

/// A beat for another's address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the heartbeat came from {from} and says that the base is at {said}: neither is in the ranges of bases that may do so \
     (MODULET_BASE_ADDRESSES)"
)]
pub(super) struct Forged {
    from: IpAddr,
    said: IpAddr,
}

/// A beat, or a question for the baseline, for a base that lives elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{base} lives at {at}: nobody at {from} is taken for it while that port is open, or until it is silent for {gone} s. Two \
     bases have one identity, or somebody wants the other's commands",
    gone = GONE.as_secs()
)]
pub(super) struct Taken {
    base: BaseId,
    /// Where it lives.
    pub(super) at: SocketAddr,
    from: IpAddr,
    beat: Instant,
    /// It lives only if its port is open, which is to be looked at now.
    pub(super) look: bool,
}

#[derive(Clone, Copy, Debug)]
struct Contact {
    at: SocketAddr,
    beat: Instant,
    told: Option<Instant>,
    looked: Option<Instant>,
}

/// All of them, and who waits for a baseline.
#[derive(Debug, Default)]
pub(super) struct Contacts {
    ranges: AddressRanges,
    known: Mutex<HashMap<BaseId, Contact>>,
    waiting: Mutex<HashMap<BaseId, oneshot::Sender<Vec<u8>>>>,
}

impl Contacts {
    pub(super) fn new(ranges: AddressRanges) -> Self {
        Self { ranges, ..Self::default() }
    }

    /// Where a base is that says `said` in a beat that came from `from`. Commands go where the beat came from, or, where
    /// both are in the ranges, to where it says. Without ranges, what comes from this very machine may say any address of
    /// it.
    pub(super) fn place(&self, from: IpAddr, said: Option<IpAddr>) -> Result<IpAddr, Forged> {
        let (from, said) = (from.to_canonical(), said.map_or(from, |s| s.to_canonical()));
        let allowed = self.ranges.name(from) && self.ranges.name(said);
        if allowed {
            Ok(said)
        } else if said == from || from.is_loopback() && self.ranges.allow(from) && self.ranges.allow(said) {
            Ok(from)
        } else {
            Err(Forged { from, said })
        }
    }

    /// Whether what came from there may be taken for the base's word.
    pub(super) fn believes(&self, base: &BaseId, from: IpAddr, now: Instant) -> Result<(), Taken> {
        let mut known = open(&self.known);
        let Some(contact) = known.get_mut(base) else { return Ok(()) };
        let silence = now.saturating_duration_since(contact.beat);
        if contact.at.ip() == from || silence >= GONE {
            return Ok(());
        }
        let lately = contact.looked.is_some_and(|at| now.saturating_duration_since(at) < LOOKS_EVERY);
        let look = silence >= LIVES && !lately;
        if look {
            contact.looked = Some(now);
        }
        Err(Taken { base: base.clone(), at: contact.at, from, beat: contact.beat, look })
    }

    /// Nobody is there any more where it lived. Returns whether it is given up: not if it was heard meanwhile.
    pub(super) fn give_up(&self, taken: &Taken) -> bool {
        let mut known = open(&self.known);
        let silent = known.get(&taken.base).is_some_and(|contact| contact.at == taken.at && contact.beat == taken.beat);
        silent && known.remove(&taken.base).is_some()
    }

    /// A base beat that is believed. The newest beat tells where it is.
    pub(super) fn beat(&self, base: &BaseId, at: SocketAddr, now: Instant) -> Beat {
        let mut known = open(&self.known);
        if known.len() >= CONTACTS && !known.contains_key(base) {
            let oldest = known.iter().min_by_key(|(_, contact)| contact.beat).map(|(id, _)| id.clone());
            oldest.map(|id| known.remove(&id));
        }
        let before = known.insert(base.clone(), Contact { at, beat: now, told: None, looked: None });
        let Some(before) = before else { return Beat { out_of_turn: true, alternates: None } };
        let passed = now.saturating_duration_since(before.beat);
        let out_of_turn = !(EARLY..=LATE).contains(&passed);
        let told = before.told.filter(|at| now.saturating_duration_since(*at) < TELLS_EVERY);
        let two = before.at.port() != at.port() && passed < EARLY;
        if let Some(contact) = known.get_mut(base) {
            contact.told = if two { Some(told.unwrap_or(now)) } else { told };
        }
        Beat { out_of_turn, alternates: Some(before.at.port()).filter(|_| two && told.is_none()) }
    }

    /// Where its commands go.
    pub(super) fn of(&self, base: &BaseId) -> Option<SocketAddr> {
        open(&self.known).get(base).map(|contact| contact.at)
    }

    /// The base asked for its baseline, and waits. Who waits for the same base already waits in vain from now on.
    pub(super) fn waits(&self, base: &BaseId) -> oneshot::Receiver<Vec<u8>> {
        let (answer, waits) = oneshot::channel();
        let mut waiting = open(&self.waiting);
        waiting.retain(|_, answer| !answer.is_closed());
        waiting.insert(base.clone(), answer);
        waits
    }

    /// Its baseline; says whether somebody waited for it.
    pub(super) fn answer(&self, base: &BaseId, baseline: Vec<u8>) -> bool {
        let waits = open(&self.waiting).remove(base);
        waits.is_some_and(|answer| answer.send(baseline).is_ok())
    }
}

#[cfg(test)]
mod tests;
