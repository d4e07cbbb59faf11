//! Three replicas, and whatever happens to them.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::{Replica, Server, wall};
use crate::{api::election::decide::Step, lead::Moment};

/// What happens to three replicas.
#[derive(Clone, Copy, Debug)]
enum Happens {
    /// Time passes.
    Seconds(u64),
    /// One turn of a replica; its answer is lost, or it sees what is there first.
    Turn {
        who: usize,
        lost: bool,
        sees: bool,
    },
    /// It dies, and another process begins in its Pod.
    Dies(usize),
    Broker(usize, bool),
    GivesBack(usize),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (1..4_u64).prop_map(Happens::Seconds),
        1 => Just(Happens::Seconds(11)),
        12 => (0..3_usize, prop::bool::weighted(0.1), any::<bool>()).prop_map(|(who, lost, sees)| Happens::Turn { who, lost, sees }),
        1 => (0..3_usize).prop_map(Happens::Dies),
        2 => (0..3_usize, any::<bool>()).prop_map(|(who, is)| Happens::Broker(who, is)),
        1 => (0..3_usize).prop_map(Happens::GivesBack),
    ]
}

proptest! {
    /// Who may act, by its last renewal, is one at a time, whatever is lost or late.
    #[test]
    fn never_do_two_act_at_a_time(all in prop::collection::vec(happens(), 1..120)) {
        let mut server = Server::default();
        let mut processes = 3;
        let mut replicas: Vec<_> = ["a", "b", "c"].iter().map(|pod| Replica::new(pod, "1")).collect();
        // Until when each acts.
        let mut acts: VecDeque<u64> = [0, 0, 0].into();
        let mut now = 0_u64;
        for event in all {
            match event {
                Happens::Seconds(seconds) => now += seconds,
                Happens::Broker(who, is) => replicas[who].election.broker(is, Moment::at(now)),
                Happens::Dies(who) => {
                    processes += 1;
                    replicas[who] = Replica::new(["a", "b", "c"][who], &processes.to_string());
                    acts[who] = 0;
                }
                Happens::GivesBack(who) => {
                    acts[who] = 0;
                    if let Some(lease) = replicas[who].election.release(wall()) {
                        server.write(&Step::Replace(lease));
                    }
                    processes += 1;
                    replicas[who] = Replica::new(["a", "b", "c"][who], &processes.to_string());
                }
                Happens::Turn { who, lost, sees } => {
                    if sees {
                        replicas[who].sees(&server, now);
                    }
                    let replica = &mut replicas[who].election;
                    match replica.next(Moment::at(now), wall()) {
                        Step::Wait(_) => {}
                        Step::Look => replica.observed(server.lease.clone(), Moment::at(now)),
                        Step::Lost(_) => {
                            acts[who] = 0;
                            processes += 1;
                            replicas[who] = Replica::new(["a", "b", "c"][who], &processes.to_string());
                        }
                        step => {
                            if matches!(step, Step::GiveUp(_)) {
                                acts[who] = 0;
                            }
                            match server.write(&step) {
                            Some(_) if lost => replica.failed(Moment::at(now)),
                            Some(lease) => {
                                replica.taken(lease, Moment::at(now), Moment::at(now));
                                if replica.holds() {
                                    acts[who] = now + 7;
                                } else {
                                    acts[who] = 0;
                                }
                            }
                            None => replica.outdated(),
                            }
                        }
                    }
                }
            }
            let active = acts.iter().filter(|until| **until > now).count();
            prop_assert!(active <= 1, "{active} act at {now} s: {acts:?}");
        }
    }
}
