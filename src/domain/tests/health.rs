//! How often a base is asked for its JVM.

use std::time::{Duration, Instant};

use crate::domain::health::JvmKnowledge;

/// Questions in this many seconds, each answered at once.
fn questions(jvm: &mut JvmKnowledge, start: Instant, seconds: u64, complete: impl Fn(u32) -> bool) -> u32 {
    let mut asked = 0;
    for second in 0..seconds {
        let now = start + Duration::from_secs(second);
        if jvm.ask_at().is_some_and(|at| at <= now) {
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
    let mut jvm = JvmKnowledge::new(start);
    assert!((5..=7).contains(&questions(&mut jvm, start, 300, |_| false)));
    let day = questions(&mut jvm, start + Duration::from_secs(300), 24 * 3600, |_| false);
    assert!((285..=290).contains(&day), "{day} in a day");
}

#[test]
fn a_new_jvm_is_asked_until_it_is_known_and_what_the_one_before_said_does_not_count() {
    let start = Instant::now();
    let mut jvm = JvmKnowledge::new(start);
    assert_eq!(questions(&mut jvm, start, 100, |_| true), 1);
    let again = start + Duration::from_secs(100);
    jvm.is_new(again);
    jvm.answered(true); // late, from the one before
    assert!(!jvm.is_complete());
    assert_eq!(questions(&mut jvm, again, 100, |asked| asked == 3), 3);
    assert!(jvm.is_complete());
}

#[test]
fn one_that_is_new_again_and_again_is_not_asked_each_time() {
    let (start, mut asked) = (Instant::now(), 0);
    let mut jvm = JvmKnowledge::new(start);
    for tenth in 0..600 {
        let now = start + Duration::from_millis(100 * tenth);
        jvm.is_new(now);
        asked += questions(&mut jvm, now, 1, |_| true);
    }
    assert!(asked <= 13, "{asked} in a minute");
}
