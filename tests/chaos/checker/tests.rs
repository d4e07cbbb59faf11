//! Made-up histories: each promise is seen to be broken, and what looks like it is not.

use super::super::event::Part;
use super::*;

const BASE: usize = 3;

fn s(seconds: u64) -> At {
    At::from_secs(seconds)
}

fn module(name: &str, version: &str) -> Module {
    Module::new(name, version)
}

fn pod(uid: &str, version: &str, wanted: bool, ready: bool) -> Event {
    let modules = vec![module("biz", version)];
    Event::Pod { uid: uid.into(), name: uid.into(), base: Some(BASE), modules, wanted, ready }
}

fn active(versions: &[&str]) -> Event {
    Event::Active { base: BASE, modules: versions.iter().map(|version| module("biz", version)).collect() }
}

fn told(order: Order) -> Event {
    Event::Told { base: BASE, order }
}

fn uninstall(version: &str) -> Event {
    told(Order::Uninstall(module("biz", version)))
}

fn leads(who: &str, since: u64) -> Event {
    Event::Leads { who: Some(who.into()), since: s(since) }
}

fn sent(client: &str, qos: u8, retained: bool) -> Event {
    Event::Sent { client: client.into(), topic: "koupleless_e/b/installBiz".into(), qos, retained }
}

fn commands(who: &str) -> Event {
    Event::Commands { who: who.into() }
}

fn wrote(who: &str) -> Event {
    Event::Wrote { who: who.into(), what: "patch pods".into(), counts: true }
}

/// The promises that were broken by the end of a history.
fn broken(history: impl IntoIterator<Item = (u64, Event)>) -> Vec<Promise> {
    let mut checker = Checker::default();
    let mut last = 0;
    for (at, event) in history {
        checker.observe(s(at), event);
        last = last.max(at);
    }
    // Long enough for all to be judged, and in steps, as time passes.
    for at in last..last + 60 {
        checker.tick(s(at));
    }
    checker.all_broken().iter().map(|broken| broken.promise).collect()
}

#[test]
fn what_a_pod_wants_may_not_go() {
    let history = || vec![(1, pod("a", "1", true, true)), (2, active(&["1"]))];
    let with = |more: Vec<(u64, Event)>| broken(history().into_iter().chain(more));
    assert_eq!(with(vec![(50, uninstall("1")), (51, active(&["1"]))]), [Promise::WantedStays]);
    assert_eq!(with(vec![(50, uninstall("2")), (51, active(&["1"]))]), [], "of another version");
    assert_eq!(with(vec![(50, pod("a", "1", false, false)), (51, uninstall("1"))]), [], "it is not wanted any more");
    assert_eq!(with(vec![(50, uninstall("1")), (50, pod("a", "1", false, false))]), [], "nor here: it was seen late");
    assert_eq!(with(vec![(50, Event::PodGone { uid: "a".into() }), (51, uninstall("1"))]), []);
}

#[test]
fn a_version_may_go_where_another_that_is_wanted_serves() {
    let both = || vec![(1, pod("a", "1", true, false)), (10, pod("b", "2", true, false))];
    let with = |serves: &[&str]| broken(both().into_iter().chain([(20, active(serves)), (50, uninstall("1"))]));
    assert_eq!(with(&["1", "2"]), []);
    assert_eq!(with(&["2"]), []);
    assert_eq!(with(&["1"]), [Promise::WantedStays]);
}

#[test]
fn who_could_not_know_of_a_pod_is_not_blamed() {
    let begins = |part| Event::Begins { part };
    let with = |part: Part, at: u64| {
        let ends = Event::Ends { part };
        broken([(at, begins(part)), (30, pod("a", "1", true, false)), (40, uninstall("1")), (45, ends)])
    };
    assert_eq!(with(Part::ApiServer, 29), []);
    assert_eq!(with(Part::Way, 29), []);
    assert_eq!(with(Part::Base(BASE), 29), []);
    assert_eq!(with(Part::Base(BASE + 1), 29), [Promise::WantedStays], "another base's");
    assert_eq!(with(Part::Way, 35), [Promise::WantedStays], "it could know it before");
    let long_before = [(1, begins(Part::Way)), (2, Event::Ends { part: Part::Way })];
    let history = || [(5, pod("a", "1", true, false)), (40, uninstall("1"))];
    assert_eq!(broken(long_before.into_iter().chain(history())), [Promise::WantedStays]);
    let not_told = [(1, begins(Part::DeadWay)), (2, Event::Ends { part: Part::DeadWay })];
    assert_eq!(broken(not_told.into_iter().chain(history())), [], "its watch may be dead for 40 s");
}

#[test]
fn a_pod_that_was_seen_to_go_after_the_api_server_was_away_may_have_gone_before() {
    let part = Part::ApiServer;
    let history = [
        (1, pod("a", "1", true, false)),
        (50, Event::Begins { part }),
        (55, uninstall("1")),
        (60, Event::Ends { part }),
        (61, Event::PodGone { uid: "a".into() }),
    ];
    assert_eq!(broken(history), []);
    let history = [
        (1, pod("a", "1", true, false)),
        (50, Event::Begins { part }),
        (55, uninstall("1")),
        (60, Event::Ends { part }),
        (90, Event::PodGone { uid: "a".into() }),
    ];
    assert_eq!(broken(history), [Promise::WantedStays]);
}

#[test]
fn nothing_comes_that_nobody_wants() {
    let install = |version: &str| told(Order::Install(module("biz", version)));
    assert_eq!(broken([(1, install("1"))]), [Promise::OnlyWanted]);
    assert_eq!(broken([(1, pod("a", "1", true, false)), (2, install("1"))]), []);
    assert_eq!(broken([(2, install("1")), (3, pod("a", "1", true, false))]), [], "it was seen late");
    assert_eq!(broken([(1, pod("a", "1", true, false)), (2, install("2"))]), [Promise::OnlyWanted]);
    let gone = Event::PodGone { uid: "a".into() };
    assert_eq!(broken([(1, pod("a", "1", true, false)), (5, gone), (30, install("1"))]), [Promise::OnlyWanted]);
    let baseline = told(Order::Baseline(vec![module("biz", "1"), module("other", "1")]));
    assert_eq!(broken([(1, pod("a", "1", true, false)), (2, baseline)]), [Promise::OnlyWanted]);
}

#[test]
fn ready_means_active_but_for_the_time_of_a_message() {
    let ready = || pod("a", "1", true, true);
    assert_eq!(broken([(1, active(&["1"])), (2, ready())]), []);
    assert_eq!(broken([(1, active(&["2"])), (2, ready())]), [Promise::ReadyIsActive]);
    assert_eq!(broken([(1, active(&["1"])), (2, ready()), (3, active(&[]))]), [Promise::ReadyIsActive]);
    let soon = [(1, active(&["1"])), (2, ready()), (3, active(&[])), (5, pod("a", "1", true, false))];
    assert_eq!(broken(soon), []);
    let back = [(1, active(&["1"])), (2, ready()), (3, active(&[])), (5, active(&["1"]))];
    assert_eq!(broken(back), []);
    let part = Part::Base(BASE);
    let dead = [(1, active(&["1"])), (2, ready()), (3, Event::Begins { part }), (3, active(&[]))];
    let answers = [(20, Event::Ends { part }), (21, pod("a", "1", true, false))];
    assert_eq!(broken(dead.into_iter().chain(answers)), [], "nobody could know");
    let dead = [(1, active(&["1"])), (2, ready()), (3, Event::Begins { part }), (3, active(&[]))];
    assert_eq!(broken(dead.into_iter().chain([(4, Event::Ends { part })])), [Promise::ReadyIsActive]);
}

#[test]
fn who_serves_stays_ready_whatever_else_breaks() {
    let unready = || pod("a", "1", true, false);
    let with = |more: Vec<(u64, Event)>| {
        let history = [(1, leads("a", 1)), (1, active(&["1"])), (2, pod("a", "1", true, true))];
        broken(history.into_iter().chain(more))
    };
    let part = Part::Way;
    assert_eq!(with(vec![(190, Event::Begins { part }), (195, wrote("a")), (200, unready())]), [Promise::StaysReady]);
    assert_eq!(with(vec![(190, Event::Begins { part }), (200, unready())]), [], "nobody could renew its Node");
    assert_eq!(with(vec![(195, wrote("a")), (200, active(&[])), (200, unready())]), []);
    assert_eq!(with(vec![(195, wrote("a")), (200, pod("a", "1", false, false))]), [], "it goes");
    assert_eq!(
        with(vec![(150, pod("b", "2", true, false)), (195, wrote("a")), (200, unready())]),
        [],
        "another takes over"
    );
    let hangs = |base| vec![(170, Event::Begins { part: Part::Base(base) }), (195, wrote("a")), (200, unready())];
    assert_eq!(with(hangs(BASE)), []);
    let hung = [(165, Event::Begins { part: Part::Base(BASE) }), (166, Event::Ends { part: Part::Base(BASE) })];
    assert_eq!(with(hung.into_iter().chain([(195, wrote("a")), (200, unready())]).collect()), [], "noticed late");
    assert_eq!(with(hangs(BASE + 1)), [Promise::StaysReady]);
}

#[test]
fn the_longest_moments_are_measured() {
    let mut checker = Checker::default();
    checker.observe(s(1), active(&[]));
    checker.observe(s(2), pod("a", "1", true, true));
    checker.observe(s(4), active(&["1"]));
    let longest = checker.longest();
    assert_eq!((longest[0].1, longest[1].1), (s(0), s(2)), "it was not looked at between");
    let mut checker = Checker::default();
    checker.observe(s(1), active(&[]));
    checker.observe(s(2), pod("a", "1", true, true));
    checker.tick(s(3));
    checker.tick(s(4));
    assert_eq!(checker.longest()[0].1, s(2));
}

#[test]
fn what_others_installed_is_not_touched() {
    for order in [Order::Uninstall(module(FOREIGN, "1")), Order::Baseline(vec![module(FOREIGN, "1")])] {
        assert!(broken([(1, told(order))]).contains(&Promise::ForeignStays));
    }
}

#[test]
fn commands_are_qos_1_and_not_retained() {
    let with = |sends: Event| broken([(1, leads("a", 1)), (1, commands("a")), (2, sends)]);
    assert_eq!(with(sent("modulet-commands-e", 1, false)), []);
    assert_eq!(with(sent("modulet-commands-e", 0, false)), [Promise::QosOne]);
    assert_eq!(with(sent("modulet-commands-e", 1, true)), [Promise::QosOne]);
}

#[test]
fn only_the_leader_commands() {
    let by = |more: Vec<(u64, Event)>| broken([(1, leads("a", 1)), (2, commands("a"))].into_iter().chain(more));
    let sends = || sent("modulet-commands-e", 1, false);
    assert_eq!(by(vec![(3, sent("another client", 1, false))]), [Promise::OneCommander]);
    assert_eq!(by(vec![(20, leads("b", 20)), (25, sends())]), [], "until the session is taken away");
    assert_eq!(by(vec![(20, leads("b", 20)), (50, sends())]), [Promise::OneCommander]);
    assert_eq!(by(vec![(20, leads("b", 20)), (21, commands("b")), (50, sends())]), []);
    assert_eq!(by(vec![(20, leads("b", 20)), (30, commands("a"))]), [Promise::OneCommander], "takes it back");
    assert_eq!(by(vec![(20, commands("b")), (22, leads("b", 19))]), [], "the Lease was seen late");
    assert_eq!(broken([(1, commands("a"))]), [Promise::OneCommander], "nobody leads");
}

#[test]
fn only_the_leader_writes() {
    let by = |more: Vec<(u64, Event)>| broken([(1, leads("a", 1))].into_iter().chain(more));
    assert_eq!(by(vec![(3, wrote("a"))]), []);
    assert_eq!(by(vec![(3, wrote("b"))]), [Promise::OneWriter]);
    assert_eq!(by(vec![(10, leads("b", 10)), (12, wrote("a")), (12, wrote("b"))]), [], "it was on its way");
    assert_eq!(by(vec![(10, leads("b", 10)), (15, wrote("a"))]), [Promise::OneWriter]);
    let slow = vec![(9, Event::Begins { part: Part::Way }), (10, leads("b", 10)), (15, wrote("a"))];
    assert_eq!(by(slow), [], "the way was slow");
    assert_eq!(by(vec![(10, leads("b", 10)), (12, leads("a", 12)), (15, wrote("a"))]), [], "it leads again");
}

#[test]
fn what_happened_last_is_known_but_for_leases() {
    let mut checker = Checker::default();
    checker.observe(s(1), wrote("a"));
    checker.observe(s(2), Event::Wrote { who: "a".into(), what: "a Lease".into(), counts: false });
    assert_eq!(checker.last_change().0, s(1));
    checker.observe(s(3), uninstall("1"));
    assert_eq!(checker.last_change().0, s(3));
}
