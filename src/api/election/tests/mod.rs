//! What a replica does, for what it sees; and what three do, against an API server in miniature.

mod replicas;

use super::{
    decide::{Election, Gain, Step},
    lease::{Hand, version},
};
use crate::lead::Moment;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;

/// A replica at a moment.
struct Replica {
    election: Election,
}

fn hand(pod: &str, process: &str) -> Hand {
    Hand::new("dev", "modulet", "replica", process, Some(pod))
}

fn wall() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

/// The API server: one Lease, and how often it was written.
#[derive(Default)]
struct Server {
    lease: Option<Lease>,
    version: u64,
}

impl Server {
    fn store(&mut self, mut lease: Lease) -> Lease {
        self.version += 1;
        lease.metadata.resource_version = Some(self.version.to_string());
        lease.metadata.uid.get_or_insert_with(|| "u".to_owned());
        // Each renewal has another time; ours stands still.
        if let Some(spec) = &mut lease.spec {
            let second = i64::try_from(self.version).unwrap();
            spec.renew_time = spec.renew_time.take().map(|_| {
                k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(Timestamp::from_second(second).unwrap())
            });
        }
        self.lease = Some(lease.clone());
        lease
    }

    fn write(&mut self, step: &Step) -> Option<Lease> {
        match step {
            Step::Create(lease) if self.lease.is_none() => Some(self.store((**lease).clone())),
            Step::Replace(lease) | Step::GiveUp(lease)
                if self.lease.as_ref().is_some_and(|now| version(now) == version(lease)) =>
            {
                Some(self.store((**lease).clone()))
            }
            _ => None,
        }
    }
}

/// Two replicas of one environment that has no leader yet.
fn two() -> (Server, Replica, Replica) {
    (Server::default(), Replica::new("a", "1"), Replica::new("b", "1"))
}

impl Replica {
    fn new(pod: &str, process: &str) -> Self {
        Self { election: Election::new(hand(pod, process), Moment::at(0)) }
    }

    /// Does all there is to do at that moment; says what it gained or that it lost.
    fn acts(&mut self, server: &mut Server, seconds: u64) -> (Option<Gain>, Option<String>) {
        let now = Moment::at(seconds);
        let mut gained = None;
        for _ in 0..8 {
            match self.election.next(now, wall()) {
                Step::Wait(_) => return (gained, None),
                Step::Lost(to) => return (gained, Some(to)),
                Step::Look => self.election.observed(server.lease.clone(), now),
                step => match server.write(&step) {
                    Some(lease) => gained = self.election.taken(lease, now, now).or(gained),
                    None => self.election.outdated(),
                },
            }
        }
        panic!("it never comes to rest");
    }

    fn sees(&mut self, server: &Server, seconds: u64) {
        self.election.observed(server.lease.clone(), Moment::at(seconds));
    }
}

#[test]
fn the_first_leads_and_the_second_waits_for_as_long_as_it_renews() {
    let (mut server, mut one, mut two) = two();
    assert_eq!(one.acts(&mut server, 0), (Some(Gain::Free), None));
    assert_eq!(two.acts(&mut server, 0), (None, None));
    for second in 1..40 {
        assert_eq!(one.acts(&mut server, second), (None, None));
        two.sees(&server, second);
        assert_eq!(two.acts(&mut server, second), (None, None), "at {second} s");
    }
    let writes = server.version;
    assert!((13..=20).contains(&writes), "a renewal each 2.5 s, and no more: {writes}");
    assert!(one.election.holds() && !two.election.holds());
    assert_eq!(server.lease.unwrap().spec.unwrap().lease_transitions, Some(0));
}

#[test]
fn who_does_not_renew_is_followed_ten_seconds_after_its_last_word_and_learns_of_it() {
    let (mut server, mut one, mut two) = two();
    one.acts(&mut server, 0);
    two.acts(&mut server, 3);
    assert_eq!(two.acts(&mut server, 12), (None, None), "counted from when it saw it, not from what it says");
    assert_eq!(two.acts(&mut server, 13), (Some(Gain::Expired("a_1".to_owned())), None));
    assert_eq!(one.acts(&mut server, 14), (None, Some("b_1".to_owned())), "its version is old, so it looks");
    assert_eq!(server.lease.unwrap().spec.unwrap().lease_transitions, Some(1));
}

#[test]
fn what_is_given_back_is_taken_at_once_and_what_was_this_pods_too() {
    let (mut server, mut one, mut two) = two();
    one.acts(&mut server, 0);
    two.acts(&mut server, 0);
    let lease = one.election.release(wall()).unwrap();
    server.write(&Step::Replace(lease)).unwrap();
    two.sees(&server, 1);
    assert_eq!(two.acts(&mut server, 1), (Some(Gain::HandedOver), None));
    // Its container dies and starts anew; a Pod with a longer name is another.
    assert_eq!(Replica::new("b-2", "2").acts(&mut server, 2), (None, None));
    assert_eq!(Replica::new("b", "2").acts(&mut server, 2), (Some(Gain::Inherited), None));
    assert_eq!(Replica::new("b", "2").election.release(wall()), None, "it is not its own");
}

#[test]
fn a_lease_that_a_person_deletes_is_made_anew_by_its_leader() {
    let (mut server, mut one, mut two) = two();
    one.acts(&mut server, 0);
    two.acts(&mut server, 0);
    server.lease = None;
    two.sees(&server, 1);
    assert_eq!(two.acts(&mut server, 1), (None, None), "the leader comes first");
    one.sees(&server, 1);
    assert_eq!(one.acts(&mut server, 1), (None, None));
    assert!(one.election.holds());
    // Where there is no leader it does not stay away for ever.
    server.lease = None;
    two.sees(&server, 2);
    assert_eq!(two.acts(&mut server, 12), (Some(Gain::Free), None));
}

#[test]
fn while_nobody_can_renew_nobody_counts_as_late() {
    let (mut server, mut one, mut two) = two();
    one.acts(&mut server, 0);
    two.acts(&mut server, 0);
    // The API server is away for ten minutes; both try.
    for second in 3..600 {
        for replica in [&mut one, &mut two] {
            if !matches!(replica.election.next(Moment::at(second), wall()), Step::Wait(_)) {
                replica.election.failed(Moment::at(second));
            }
        }
    }
    assert_eq!(two.acts(&mut server, 603), (None, None), "the standby looks first, and waits as long as ever");
    assert_eq!(one.acts(&mut server, 604), (None, None));
    assert!(one.election.holds());
    two.sees(&server, 605);
    assert_eq!(two.acts(&mut server, 611), (None, None));
}

#[test]
fn an_answer_that_is_lost_is_no_loss() {
    let (mut server, mut one) = (Server::default(), Replica::new("a", "1"));
    one.acts(&mut server, 0);
    let step = one.election.next(Moment::at(3), wall());
    server.write(&step).unwrap();
    one.election.failed(Moment::at(3));
    assert_eq!(one.acts(&mut server, 4), (None, None));
    assert!(one.election.holds());
}

#[test]
fn what_a_watch_says_late_is_passed_over() {
    let (mut server, mut one) = (Server::default(), Replica::new("a", "1"));
    one.acts(&mut server, 0);
    let old = server.lease.clone();
    one.acts(&mut server, 3);
    one.election.observed(old, Moment::at(3));
    let Step::Wait(_) = one.election.next(Moment::at(3), wall()) else { panic!("it believes what is old") };
}

#[test]
fn a_leader_without_a_broker_hands_over_to_who_has_it_and_only_to_that_one() {
    let (mut server, mut one, mut two) = two();
    let mut three = Replica::new("c", "1");
    one.acts(&mut server, 0);
    two.acts(&mut server, 0);
    three.acts(&mut server, 0);
    one.election.broker(false, Moment::at(1));
    three.election.broker(false, Moment::at(1));
    let mut leaders = Vec::new();
    for second in 1..10 {
        for (name, replica) in [("one", &mut one), ("three", &mut three), ("two", &mut two)] {
            replica.sees(&server, second);
            let (gained, lost) = replica.acts(&mut server, second);
            leaders.extend(gained.map(|gain| (name, gain, second)));
            assert!(lost.is_none() || name == "one", "{lost:?}");
        }
    }
    let [("two", Gain::HandedOver, at)] = leaders[..] else { panic!("{leaders:?}") };
    assert!(at <= 7, "{at} s");
    assert!(Hand::says_it_has_broker(server.lease.as_ref().unwrap()));
}

#[test]
fn where_nobody_has_the_broker_nobody_moves_and_little_is_written() {
    let (mut server, mut one, mut two) = two();
    one.acts(&mut server, 0);
    two.acts(&mut server, 0);
    for second in 1..100 {
        for replica in [&mut one, &mut two] {
            replica.election.broker(second > 90, Moment::at(second));
            replica.sees(&server, second);
            assert_eq!(replica.acts(&mut server, second), (None, None));
        }
    }
    assert!(server.version <= 45, "{}", server.version);
    assert!(Hand::says_it_has_broker(server.lease.as_ref().unwrap()));
}
