//! How often a base is asked for its JVM.

use std::time::{Duration, Instant};

use crate::domain::{
    Metaspace, MetaspaceRules, ModuleId, Took,
    known::{JvmKnowledge, Room},
};

/// Questions in this many seconds, each answered at once.
fn questions(jvm: &mut JvmKnowledge, start: Instant, seconds: u64, complete: impl Fn(u32) -> bool) -> u32 {
    let mut asked = 0;
    for second in 0..seconds {
        let now = start + Duration::from_secs(second);
        if jvm.ask_at(&MetaspaceRules::default(), now).is_some_and(|at| at <= now) {
            asked += 1;
            jvm.asked(now);
            jvm.answered(complete(asked));
        }
    }
    asked
}

#[test]
fn one_that_never_names_its_jvm_is_asked_ever_more_seldom_and_for_ever() {
    let start = Instant::now();
    let mut jvm = JvmKnowledge::default();
    assert!((5..=7).contains(&questions(&mut jvm, start, 300, |_| false)));
    let day = questions(&mut jvm, start + Duration::from_secs(300), 24 * 3600, |_| false);
    assert!((285..=290).contains(&day), "{day} in a day");
}

#[test]
fn a_new_jvm_is_asked_until_it_is_known_and_what_the_one_before_said_does_not_count() {
    let start = Instant::now();
    let mut jvm = JvmKnowledge::default();
    assert_eq!(questions(&mut jvm, start, 100, |_| true), 1);
    let again = start + Duration::from_secs(100);
    jvm.is_new();
    jvm.answered(true); // late, from the one before
    assert!(!jvm.is_complete());
    assert_eq!(questions(&mut jvm, again, 100, |asked| asked == 3), 3);
    assert!(jvm.is_complete());
}

#[test]
fn one_that_is_new_again_and_again_is_not_asked_each_time() {
    let (start, mut asked) = (Instant::now(), 0);
    let mut jvm = JvmKnowledge::default();
    for tenth in 0..600 {
        let now = start + Duration::from_millis(100 * tenth);
        jvm.is_new();
        asked += questions(&mut jvm, now, 1, |_| true);
    }
    assert!(asked <= 13, "{asked} in a minute");
}

/// Questions in this many seconds, with an install that ends each second while `installs` says so.
fn looks(used: Option<u64>, seconds: u64, installs: impl Fn(u64) -> bool) -> u32 {
    let (start, mut asked) = (Instant::now(), 0);
    let mut jvm = JvmKnowledge::default();
    let metaspace = used.map(|used| Metaspace { used, max: 100 });
    jvm.asked(start);
    jvm.answered(true);
    jvm.measured(metaspace, start);
    for second in 1..=seconds {
        let now = start + Duration::from_secs(second);
        if installs(second) {
            jvm.install_ended(now);
        }
        if jvm.ask_at(&MetaspaceRules::default(), now).is_some_and(|at| at <= now) {
            asked += 1;
            jvm.asked(now);
            jvm.answered(true);
            jvm.measured(metaspace, now);
        }
    }
    asked
}

#[test]
fn metaspace_is_asked_for_after_installs_and_now_and_then_where_little_is_left() {
    let day = 24 * 3600;
    assert_eq!(looks(Some(75), day, |_| false), 0, "at rest");
    assert_eq!(looks(Some(76), day, |_| false), 288, "watched: once in 5 minutes");
    assert_eq!(looks(Some(10), day, |second| second == 1), 1);
    assert_eq!(looks(Some(10), day, |second| second % 3600 == 0), 24);
    assert_eq!(looks(Some(10), 100, |_| true), 10, "once in 10 s, however many installs");
    assert_eq!(looks(None, day, |_| true), 0, "no limit");
}

#[test]
fn a_question_after_an_install_that_stays_open_is_repeated_once_in_5_minutes() {
    let start = Instant::now();
    let mut jvm = JvmKnowledge::default();
    jvm.asked(start);
    jvm.answered(true);
    jvm.measured(Some(Metaspace { used: 1, max: 100 }), start);
    jvm.install_ended(start + Duration::from_secs(1));
    let asked = (1..=3600).filter(|second| {
        let now = start + Duration::from_secs(*second);
        let asks = jvm.ask_at(&MetaspaceRules::default(), now).is_some_and(|at| at <= now);
        if asks {
            jvm.asked(now);
        }
        asks
    });
    assert_eq!(asked.count(), 12);
    jvm.answered(true);
    let now = start + Duration::from_secs(4000);
    assert_eq!(jvm.ask_at(&MetaspaceRules::default(), now), None);
    jvm.install_ended(now);
    jvm.is_new();
    assert!(jvm.ask_at(&MetaspaceRules::default(), now).is_some(), "another JVM is asked anyway");
}

#[test]
fn what_modules_took_that_went_counts_as_room_of_a_jvm_that_collects_and_is_remembered_of_256() {
    let now = Instant::now();
    let (rules, mut jvm) = (MetaspaceRules::default(), JvmKnowledge::default());
    let module = |number: u64| ModuleId::new(format!("biz{number}"), "1");
    let says = |jvm: &mut JvmKnowledge, used: u64| {
        jvm.asked(now);
        jvm.answered(true);
        jvm.measured(Some(Metaspace { used, max: 2000 }), now);
    };
    let fits = |jvm: &JvmKnowledge, need: u64| {
        matches!(jvm.room(need, 0, false, &rules, now), Room::Enough | Room::AfterCollecting)
    };
    let installed = |jvm: &mut JvmKnowledge, numbers: std::ops::Range<u64>, alone: bool| {
        numbers.for_each(|number| jvm.took(&Took { module: module(number), bytes: 1 }, alone));
    };
    let gone = |jvm: &mut JvmKnowledge, numbers: std::ops::Range<u64>| {
        numbers.for_each(|number| jvm.uninstalled(&module(number), now));
    };
    installed(&mut jvm, 0..100, true);
    says(&mut jvm, 1000);
    gone(&mut jvm, 0..100);
    says(&mut jvm, 1000);
    assert!(fits(&jvm, 900) && !fits(&jvm, 901), "nothing was seen to be given back");
    says(&mut jvm, 900);
    assert!(fits(&jvm, 1000) && !fits(&jvm, 1001), "and now all of it was");
    installed(&mut jvm, 0..300, true);
    says(&mut jvm, 900);
    gone(&mut jvm, 0..300);
    gone(&mut jvm, 0..300);
    says(&mut jvm, 900);
    assert!(fits(&jvm, 1256) && !fits(&jvm, 1257), "256 of them, each once");
    says(&mut jvm, 899);
    assert!(fits(&jvm, 1001) && !fits(&jvm, 1002), "it gave next to nothing back");
    says(&mut jvm, 1000);
    installed(&mut jvm, 0..100, true);
    installed(&mut jvm, 0..100, false);
    gone(&mut jvm, 0..100);
    says(&mut jvm, 900);
    assert!(fits(&jvm, 1000) && !fits(&jvm, 1001), "what others took meanwhile may be in it");
}

#[test]
fn what_a_module_left_behind_is_told_by_what_its_install_took_on_this_jvm() {
    let now = Instant::now();
    let module = |number: u64| ModuleId::new(format!("biz{number}"), "1");
    let mut jvm = JvmKnowledge::default();
    let says = |jvm: &mut JvmKnowledge, used: u64| {
        jvm.asked(now);
        jvm.answered(true);
        jvm.measured(Some(Metaspace { used, max: 2000 }), now);
        jvm.metaspace().1
    };
    [(0, 10, true), (1, 40, true), (2, 70, false)].into_iter().for_each(|(number, bytes, alone)| {
        jvm.took(&Took { module: module(number), bytes }, alone);
    });
    assert_eq!(says(&mut jvm, 500), None);
    jvm.uninstalled(&module(0), now);
    assert_eq!(says(&mut jvm, 500), Some(10), "nothing was given back of 10");
    jvm.uninstalled(&module(1), now);
    assert_eq!(says(&mut jvm, 475), Some(15), "25 of 40");
    jvm.uninstalled(&module(2), now);
    assert_eq!(says(&mut jvm, 475), Some(15), "it was installed beside others: nobody knows what it took");
    jvm.uninstalled(&module(3), now);
    assert_eq!(says(&mut jvm, 475), Some(15), "nothing is known of it at all");
}
