use proptest::prelude::*;

use super::*;
use crate::domain::ModuleId;

const MINUTE: Duration = Duration::from_secs(60);

fn install(base: &str, bytes: usize) -> Published {
    Published { bytes, base: BaseId::new(base), command: "installBiz" }
}

/// Sends what is admitted, each with a packet id of its own. Returns how many that were.
fn send(outbox: &mut Outbox, all: &[Published], now: Instant) -> usize {
    let admitted: Vec<_> = all.iter().filter(|what| outbox.admits(what, now).is_ok()).cloned().collect();
    for (packet, what) in (1..).zip(&admitted) {
        outbox.handed(what.clone(), now);
        outbox.written(packet);
    }
    admitted.len()
}

#[test]
fn what_the_connection_was_lost_with_twice_is_not_sent_a_third_time() {
    let (mut now, mut outbox, large) = (Instant::now(), Outbox::default(), install("base-1", 30_000));
    for _ in 0..2 {
        assert_eq!(send(&mut outbox, std::slice::from_ref(&large), now), 1);
        now += Duration::from_secs(2);
        outbox.lost(true, now);
    }
    let refusal = Refusal::TooLargeForBroker { bytes: 30_000, limit: 30_000 };
    assert_eq!(outbox.admits(&large, now), Err(refusal));
    assert!(refusal.to_string().contains("30000 bytes"));
    // Nor anything as large, from whomever; what is smaller is.
    assert!(outbox.admits(&install("base-2", 30_001), now).is_err());
    assert!(outbox.admits(&install("base-2", 29_999), now).is_ok());
    // It is tried again some time, and one loss is enough then.
    assert!(outbox.admits(&large, now + 9 * MINUTE).is_err());
    now += 11 * MINUTE;
    assert_eq!(send(&mut outbox, std::slice::from_ref(&large), now), 1);
    outbox.lost(true, now);
    assert!(outbox.admits(&large, now + 19 * MINUTE).is_err());
    assert!(outbox.admits(&large, now + 21 * MINUTE).is_ok());
}

#[test]
fn a_fleet_that_gets_it_all_at_once_makes_the_connection_fail_twice_too() {
    let (mut now, mut outbox) = (Instant::now(), Outbox::default());
    let fleet: Vec<_> = (0..100).map(|n| install(&format!("base-{n}"), 30_000 + n % 3)).collect();
    // Each time another one comes first.
    for first in [37, 12] {
        assert_eq!(send(&mut outbox, &fleet[first..=first], now), 1);
        outbox.lost(true, now);
        now += Duration::from_secs(1);
    }
    assert_eq!(send(&mut outbox, &fleet, now), fleet.iter().filter(|what| what.bytes < 30_000).count());
}

#[test]
fn only_what_is_lost_with_a_connection_that_was_closed_is_suspected() {
    let (now, large) = (Instant::now(), install("base-1", 30_000));
    let lost_twice = |mut outbox: Outbox, closed: bool, after: Duration, away: bool| {
        for _ in 0..2 {
            send(&mut outbox, std::slice::from_ref(&large), now);
            outbox.lost(closed, now + after);
            if away {
                outbox.broker_was_away();
            }
        }
        outbox
    };
    let soon = Duration::from_secs(1);
    assert!(lost_twice(Outbox::default(), true, soon, false).limit.is_some());
    assert!(lost_twice(Outbox::default(), false, soon, false).admits(&large, now).is_ok());
    assert!(lost_twice(Outbox::default(), true, MINUTE, false).admits(&large, now).is_ok());
    // A broker that was away: at most this command waits, and not for long.
    let outbox = lost_twice(Outbox::default(), true, soon, true);
    assert_eq!(outbox.admits(&large, now), Err(Refusal::LosesTheConnection { bytes: 30_000 }));
    assert!(outbox.admits(&install("base-2", 40_000), now).is_ok());
    assert!(outbox.admits(&large, now + 2 * MINUTE).is_ok());
    // The broker took as much a moment ago.
    let mut proven = Outbox::default();
    send(&mut proven, &[install("base-2", 30_000)], now);
    proven.acknowledged(1, now);
    assert!(lost_twice(proven, true, soon, false).limit.is_none());
}

#[test]
fn what_is_small_keeps_only_itself_from_being_sent() {
    let (now, mut outbox, small) = (Instant::now(), Outbox::default(), install("base-1", 200));
    for _ in 0..2 {
        assert_eq!(send(&mut outbox, &[small.clone(), install("base-2", 100)], now), 2);
        outbox.lost(true, now);
    }
    assert_eq!(outbox.admits(&small, now), Err(Refusal::LosesTheConnection { bytes: 200 }));
    for other in [install("base-1", 201), install("base-2", 200), install("base-2", 100_000)] {
        assert!(outbox.admits(&other, now).is_ok());
    }
}

#[test]
fn a_size_that_gets_through_is_no_limit_any_more() {
    let (now, mut outbox, large) = (Instant::now(), Outbox::default(), install("base-1", 30_000));
    for _ in 0..2 {
        send(&mut outbox, std::slice::from_ref(&large), now);
        outbox.lost(true, now);
    }
    let later = now + 11 * MINUTE;
    send(&mut outbox, &[install("base-2", 50_000)], later);
    outbox.acknowledged(1, later);
    send(&mut outbox, std::slice::from_ref(&large), later);
    outbox.lost(true, later);
    assert!(outbox.admits(&install("base-3", 40_000), later).is_ok());
}

#[test]
fn questions_are_never_blamed() {
    let (now, mut outbox) = (Instant::now(), Outbox::default());
    let id = BaseId::new("base-1");
    let questions = [Command::QueryHealth, Command::QueryModules].map(|question| Published::new(&id, &question, 2));
    for _ in 0..5 {
        assert_eq!(send(&mut outbox, &questions, now), 2);
        outbox.lost(true, now);
    }
    let uninstall = Published::new(&id, &Command::Uninstall(ModuleId::new("biz1", "1")), 60);
    assert!(outbox.admits(&uninstall, now).is_ok());
}

proptest! {
    /// A broker with a limit, whatever it is told: each size makes the connection fail a few times in the first
    /// ten minutes, and what is smaller than the limit always gets through.
    #[test]
    fn a_broker_with_a_limit_costs_few_connections(
        limit in 5_000_usize..100_000,
        sizes in proptest::collection::vec(1_usize..200_000, 1..40),
    ) {
        let (start, mut outbox, mut losses) = (Instant::now(), Outbox::default(), 0_usize);
        for second in 0..500_u32 {
            let now = start + Duration::from_secs(1) * second;
            let what = install(&format!("base-{}", second as usize % sizes.len()), sizes[second as usize % sizes.len()]);
            let admitted = send(&mut outbox, std::slice::from_ref(&what), now) == 1;
            prop_assert!(admitted || what.bytes > limit, "{} bytes are not sent", what.bytes);
            if admitted && what.bytes > limit {
                outbox.lost(true, now);
                losses += 1;
            } else if admitted {
                outbox.acknowledged(1, now);
            }
        }
        // Each loss but the first of a pair brings the limit down to one of the sizes.
        prop_assert!(losses <= 2 * sizes.len(), "{} losses", losses);
    }
}
