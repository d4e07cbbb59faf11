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
/// A base that was heard within this lives where it was heard: who beats for it from elsewhere is somebody else, or the
/// same one that moved, and its turn comes when two beats of the first are missing.
const LIVES: Duration = Duration::from_secs(28);
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
    "{base} lives at {at} and was heard there {ago} s ago: nobody at {from} is taken for it until it is silent for {silent} s. \
     Two bases have one identity, a base has moved, or somebody wants its commands",
    silent = LIVES.as_secs()
)]
pub(super) struct Taken {
    base: BaseId,
    at: IpAddr,
    from: IpAddr,
    ago: u64,
}

#[derive(Clone, Copy, Debug)]
struct Contact {
    at: SocketAddr,
    beat: Instant,
    told: Option<Instant>,
}

impl Contact {
    fn believes(&self, base: &BaseId, from: IpAddr, now: Instant) -> Result<(), Taken> {
        let (at, silence) = (self.at.ip(), now.saturating_duration_since(self.beat));
        if at == from || silence >= LIVES {
            return Ok(());
        }
        Err(Taken { base: base.clone(), at, from, ago: silence.as_secs() })
    }
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
        match open(&self.known).get(base) {
            Some(contact) => contact.believes(base, from, now),
            None => Ok(()),
        }
    }

    /// A base beat. The newest beat tells where it is, if it may be believed.
    pub(super) fn beat(&self, base: &BaseId, at: SocketAddr, now: Instant) -> Result<Beat, Taken> {
        let mut known = open(&self.known);
        if let Some(contact) = known.get(base) {
            contact.believes(base, at.ip(), now)?;
        }
        if known.len() >= CONTACTS && !known.contains_key(base) {
            let oldest = known.iter().min_by_key(|(_, contact)| contact.beat).map(|(id, _)| id.clone());
            oldest.map(|id| known.remove(&id));
        }
        let before = known.insert(base.clone(), Contact { at, beat: now, told: None });
        let Some(before) = before else { return Ok(Beat { out_of_turn: true, alternates: None }) };
        let passed = now.saturating_duration_since(before.beat);
        let out_of_turn = !(EARLY..=LATE).contains(&passed);
        let told = before.told.filter(|at| now.saturating_duration_since(*at) < TELLS_EVERY);
        let two = before.at.port() != at.port() && passed < EARLY;
        if let Some(contact) = known.get_mut(base) {
            contact.told = if two { Some(told.unwrap_or(now)) } else { told };
        }
        Ok(Beat { out_of_turn, alternates: Some(before.at.port()).filter(|_| two && told.is_none()) })
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
mod tests {
    use super::*;

    fn ranges(all: &[&str]) -> AddressRanges {
        AddressRanges::new(all.iter().map(|range| range.parse().unwrap()).collect())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_beat_for_anothers_address_is_refused_unless_both_are_in_the_ranges() {
        let contacts = Contacts::new(AddressRanges::default());
        assert_eq!(contacts.place(ip("10.0.0.1"), Some(ip("10.0.0.1"))), Ok(ip("10.0.0.1")));
        assert_eq!(contacts.place(ip("::ffff:10.0.0.1"), Some(ip("10.0.0.1"))), Ok(ip("10.0.0.1")));
        assert_eq!(contacts.place(ip("10.0.0.1"), None), Ok(ip("10.0.0.1")), "what it says is no address");
        assert_eq!(contacts.place(ip("127.0.0.1"), Some(ip("192.0.2.2"))), Ok(ip("127.0.0.1")), "this machine");
        assert!(contacts.place(ip("10.0.0.1"), Some(ip("10.0.0.2"))).is_err());
        assert!(contacts.place(ip("10.0.0.1"), Some(ip("169.254.169.254"))).is_err());
        let contacts = Contacts::new(ranges(&["10.0.0.0/8", "fd00::/8"]));
        assert_eq!(contacts.place(ip("10.0.0.1"), Some(ip("10.9.0.2"))), Ok(ip("10.9.0.2")));
        assert_eq!(contacts.place(ip("fd00::1"), Some(ip("fd00::2"))), Ok(ip("fd00::2")));
        assert!(contacts.place(ip("11.0.0.1"), Some(ip("10.0.0.2"))).is_err());
        assert!(contacts.place(ip("10.0.0.1"), Some(ip("11.0.0.2"))).is_err());
        assert!(contacts.place(ip("127.0.0.1"), Some(ip("10.0.0.2"))).is_err(), "this machine is not named");
        // A proxy beside modulet speaks for bases.
        let contacts = Contacts::new(ranges(&["10.0.0.0/8", "127.0.0.1/32"]));
        assert_eq!(contacts.place(ip("127.0.0.1"), Some(ip("10.0.0.2"))), Ok(ip("10.0.0.2")));
        assert!(contacts.place(ip("127.0.0.1"), Some(ip("11.0.0.2"))).is_err());
    }

    #[test]
    fn nobody_is_taken_for_a_base_that_lives_elsewhere() {
        let (contacts, base, start) = (Contacts::default(), BaseId::new("base-1"), Instant::now());
        let at = |last: u8| SocketAddr::from(([10, 0, 0, last], 1238));
        let after = |s: u64| start + Duration::from_secs(s);
        assert!(contacts.beat(&base, at(1), start).is_ok());
        for s in [0, 1, 12, 24, 27] {
            let taken = contacts.beat(&base, at(2), after(s)).unwrap_err();
            assert!(taken.to_string().contains("base-1 lives at 10.0.0.1"), "{taken}");
            assert!(contacts.believes(&base, at(2).ip(), after(s)).is_err(), "a question for its baseline neither");
            assert!(contacts.believes(&base, at(1).ip(), after(s)).is_ok());
        }
        assert_eq!(contacts.of(&base), Some(at(1)), "what was refused leaves no trace");
        assert!(contacts.beat(&base, at(1), after(24)).is_ok(), "late, and still the same one");
        assert!(contacts.beat(&base, at(2), after(51)).is_err());
        // It is silent: who comes now is the one that moved, and the first is the stranger if it comes back.
        assert_eq!(contacts.beat(&base, at(2), after(52)), Ok(Beat { out_of_turn: true, alternates: None }));
        assert_eq!(contacts.of(&base), Some(at(2)));
        assert!(contacts.beat(&base, at(1), after(53)).is_err());
        assert!(contacts.believes(&BaseId::new("other"), at(9).ip(), start).is_ok(), "nobody knows it");
    }

    #[test]
    fn the_newest_beat_tells_where_a_base_is_and_two_that_share_an_identity_are_told_of_once() {
        let (contacts, base, start) = (Contacts::default(), BaseId::new("base-1"), Instant::now());
        let at = |port| SocketAddr::from(([10, 0, 0, 1], port));
        let after = |s: u64| start + Duration::from_secs(s);
        assert_eq!(contacts.beat(&base, at(1238), start), Ok(Beat { out_of_turn: true, alternates: None }), "the first");
        assert_eq!(contacts.beat(&base, at(1238), after(12)), Ok(Beat { out_of_turn: false, alternates: None }));
        // It restarted and has another port: at first that looks the same as a second base.
        assert_eq!(contacts.beat(&base, at(1239), after(15)), Ok(Beat { out_of_turn: true, alternates: Some(1238) }));
        assert_eq!(contacts.of(&base), Some(at(1239)));
        assert_eq!(
            contacts.beat(&base, at(1238), after(24)),
            Ok(Beat { out_of_turn: true, alternates: None }),
            "said before"
        );
        assert_eq!(
            contacts.beat(&base, at(1238), after(60)),
            Ok(Beat { out_of_turn: true, alternates: None }),
            "it was away"
        );
        assert_eq!(contacts.of(&BaseId::new("other")), None);
    }

    #[test]
    fn invented_identities_take_no_more_room_than_there_is() {
        let (contacts, start) = (Contacts::default(), Instant::now());
        let at = SocketAddr::from(([10, 0, 0, 1], 1238));
        for number in 0..CONTACTS + 10 {
            let beat = contacts.beat(&BaseId::new(format!("base-{number}")), at, start + Duration::from_millis(number as u64));
            assert!(beat.is_ok());
        }
        assert_eq!(open(&contacts.known).len(), CONTACTS);
        assert!(contacts.of(&BaseId::new("base-0")).is_none());
    }
}
