//! Whatever options and Pods say about times and numbers: nothing panics, and there is always a next look.

use std::time::Duration;

use proptest::prelude::*;

use super::{jvm::Mode, world::World};
use crate::domain::{Backoff, Content, Link, Pod, Settings, times::FAR};

fn time() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::from_nanos(1)),
        (0..100u64).prop_map(Duration::from_secs),
        Just(FAR),
        Just(Duration::from_secs(i64::MAX.unsigned_abs())),
        Just(Duration::MAX),
    ]
}

fn settings() -> impl Strategy<Value = Settings> {
    let times = prop::collection::vec(time(), 10);
    let count = prop_oneof![Just(0), Just(1), Just(4), Just(usize::MAX)];
    (times, count).prop_map(|(times, commands_in_flight)| Settings {
        ask_after: times[0],
        unreachable_after: times[1],
        busy_for: times[2],
        dead_after: times[3],
        forget_after: times[4],
        list_every: times[5],
        commands_in_flight,
        superseded_ttl: times[6],
        claim_settles: times[7],
        backoff: Backoff { initial: times[8], max: times[9] },
        metaspace: crate::domain::MetaspaceRules::default(),
    })
}

fn number() -> impl Strategy<Value = i64> {
    prop_oneof![Just(i64::MIN), Just(-1), Just(0), Just(1), Just(i64::MAX)]
}

/// Revision, creation, grace period, delay of the deletion, restarts.
type Extremes = (i64, i64, Duration, Option<Duration>, u32);

fn extremes() -> impl Strategy<Value = Extremes> {
    let restarts = prop_oneof![Just(0), Just(1), Just(u32::MAX)];
    (number(), number(), time(), prop::option::of(time()), restarts)
}

#[derive(Clone, Debug)]
enum Step {
    AddPod(Extremes, bool),
    Wait(Duration),
    Deliver,
    RestartBase(bool),
    LoseConnection,
    Silence(bool),
    Fail,
}

fn step() -> impl Strategy<Value = Step> {
    // A clock does not go on for longer than a process may live.
    let wait = time().prop_map(|time| Step::Wait(time.min(Duration::from_secs(10_000_000))));
    prop_oneof![
        3 => (extremes(), any::<bool>()).prop_map(|(extremes, evicted)| Step::AddPod(extremes, evicted)),
        4 => wait,
        6 => Just(Step::Deliver),
        1 => any::<bool>().prop_map(Step::RestartBase),
        1 => Just(Step::LoseConnection),
        1 => any::<bool>().prop_map(Step::Silence),
        1 => Just(Step::Fail),
    ]
}

proptest! {
    #[test]
    fn no_number_of_an_option_or_a_pod_makes_a_decision_panic(
        settings in settings(), steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut w = World::with(Mode::Default, settings);
        for step in steps {
            match step {
                Step::AddPod((revision, created, grace, deleting, restarts), evicted) => {
                    w.pod("w", revision, &[("biz1", &created.to_string())]);
                    let pod = w.pods.last_mut().unwrap();
                    (pod.created, pod.grace, pod.deleting, pod.evicted) = (created, grace, deleting, evicted);
                    (pod.terminal, pod.superseded) = (evicted, evicted);
                    if let Content::Modules(containers) = &mut pod.content {
                        containers[0].history.restarts = restarts;
                    }
                }
                Step::Wait(time) => w.now += time,
                Step::Deliver => {
                    w.deliver_command();
                    w.deliver_answer(true);
                }
                Step::RestartBase(asks) => w.restart_base(asks),
                Step::LoseConnection => {
                    w.base.connection_lost(w.now);
                    w.base.connection_back(w.now);
                }
                Step::Silence(silent) => w.silent = silent,
                Step::Fail => {
                    let versions = w.pods.iter().flat_map(Pod::modules).map(|m| m.id.version.clone());
                    w.jvm.broken.extend(versions);
                }
            }
            // Not the scene's own step: it holds the plan to what holds for sane options.
            let pods: Vec<_> = w.pods.iter().collect();
            let link = Link { proven: Some(w.now), suspected: false, ..Link::default() };
            let plan = w.base.step(&pods, &link, &w.contexts, &w.needs, w.now);
            w.base.recorded(plan.unrecorded.iter().cloned());
            w.to_base.extend(plan.commands.iter().cloned());
            if let Some(wake) = plan.wake {
                prop_assert!(wake > w.now, "a look that is due already would be a busy loop");
                prop_assert!(wake <= w.now + FAR, "{:?} away", wake - w.now);
            }
            let quiet = w.base.is_forgotten(w.now) || w.base.liveness.is_stopped();
            prop_assert!(plan.wake.is_some() || quiet || !plan.commands.is_empty(), "it is looked at again");
        }
    }
}
