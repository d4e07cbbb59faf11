//! Installs that take long, hang, fail, or are in doubt.

use std::time::Duration;

use super::{jvm::Mode, world::World};
use crate::domain::*;

use ModuleState::Activated;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_jar_that_takes_long_to_fetch_is_one_command_s_worth_of_trouble() {
    for has_run in [false, true] {
        let mut w = World::new(Mode::Default);
        let pod = w.pod("a", 1, &[("biz1", "1")]);
        if has_run {
            w.settle();
            w.jvm.list.clear();
        }
        w.slow = Some(Duration::from_secs(100));
        w.run_for(Duration::from_secs(95));
        assert!(w.says(&pod) == if has_run { "ModuleGone" } else { "Installing" }, "{}", w.says(&pod));
        assert!(w.message(&pod).contains("for more than a minute"), "{}", w.message(&pod));
        w.run_for(Duration::from_secs(40));
        assert!(w.is_ready(&pod), "{}", w.says(&pod));
        assert!(!w.ever_said(&pod, "InstallFailed"), "{:?}", w.words);
        assert_eq!(w.restarts(&pod), u32::from(has_run));
        assert!(w.installs() <= 2 + usize::from(has_run), "{} installs", w.installs());
    }
}

#[test]
fn an_install_that_never_ends_fails_after_a_quarter_of_an_hour() {
    let mut w = World::new(Mode::Default);
    let pod = w.pod("a", 1, &[("biz1", "1")]);
    w.slow = Some(24 * 60 * MINUTE);
    w.run_for(14 * MINUTE);
    assert_eq!(w.says(&pod), "Installing");
    w.run_for(20 * MINUTE);
    assert_eq!(w.says(&pod), "InstallFailed", "{:?}", w.words);
    assert!(w.installs() <= 4, "{} installs", w.installs());
}

#[test]
fn modules_that_hang_are_named_where_others_wait_for_them_and_do_not_hold_their_places_for_ever() {
    let mut w = World::new(Mode::Default);
    let hang: Vec<_> = (0..4).map(|n| w.pod("a", 1, &[(&format!("hangs{n}"), "1")])).collect();
    w.slow = Some(24 * 60 * MINUTE);
    w.settle();
    w.slow = None;
    let waits = w.pod("b", 1, &[("waits", "1")]);
    w.settle();
    assert_eq!(w.says(&waits), "Installing", "no word for what is usual");
    w.run_for(MINUTE);
    assert_eq!(w.says(&waits), "BaseBusy");
    for words in ["hangs0:1", "hangs3:1", "for more than"] {
        assert!(w.message(&waits).contains(words), "{}", w.message(&waits));
    }
    let said = w.words.iter().filter(|(pod, ..)| *pod == waits).count();
    assert!(said <= 4, "{:?}", w.words);
    w.run_for(2 * MINUTE);
    assert!(w.is_ready(&waits), "{}", w.message(&waits));
    assert!(hang.iter().all(|pod| w.says(pod) == "Installing"));
    // Four more that hang: more than eight are never on their way.
    w.slow = Some(24 * 60 * MINUTE);
    for n in 4..30 {
        w.pod("a", 1, &[(&format!("hangs{n}"), "1")]);
    }
    w.run_for(10 * MINUTE);
    assert!(w.at_work.len() <= 8, "{}", w.at_work.len());
}

#[test]
fn a_new_version_s_first_failure_is_its_first_though_an_older_one_restarted_often() {
    let (mut w, old) = World::serving(Mode::Default);
    for _ in 0..5 {
        w.jvm.list.clear();
        w.run_for(MINUTE);
    }
    assert_eq!(w.restarts(&old), 5);
    w.jvm.broken.insert("2".into());
    let new = w.pod("a", 2, &[("biz1", "2")]);
    w.settle();
    assert_eq!(w.says(&new), "InstallFailed");
    let before = w.installs();
    w.run_for(Duration::from_secs(11));
    assert_eq!(w.installs(), before + 1, "after 10 s");
}

#[test]
fn failed_starts_of_the_same_container_are_remembered_over_our_restart() {
    let mut w = World::new(Mode::Default);
    w.jvm.broken.insert("1".into());
    w.pod("a", 1, &[("biz1", "1")]);
    w.run_for(Duration::from_secs(75));
    assert_eq!(w.installs(), 4, "at 0, 10, 30 and 70 s");
    w.restart_controller_and_hear();
    w.settle();
    let before = w.installs();
    assert_eq!(before, 5);
    w.run_for(MINUTE);
    assert_eq!(w.installs(), before, "more than a minute");
}

#[test]
fn a_pod_is_ready_by_a_list_that_is_newer_than_the_pod() {
    let mut w = World::new(Mode::Default);
    w.jvm.list.insert(ModuleId::new("biz1", "1"), Activated);
    w.settle();
    w.jvm.list.clear();
    w.now += Duration::from_secs(1);
    let pod = w.pod("a", 1, &[("biz1", "1")]);
    w.settle();
    assert!(w.is_ready(&pod));
    assert_eq!(w.on_base().len(), 1);
    assert_eq!(w.restarts(&pod), 0, "it was never said to run before");
    assert_eq!(w.installs(), 1);
}

#[test]
fn many_pods_that_come_at_once_make_one_question() {
    let mut w = World::new(Mode::Default);
    for n in 0..50 {
        w.jvm.list.insert(ModuleId::new(format!("biz{n}"), "1"), Activated);
    }
    w.settle();
    let mut questions = 0;
    for n in 0..50 {
        w.pod("a", 1, &[(&format!("biz{n}"), "1")]);
        w.now += Duration::from_millis(1);
        let plan = w.step();
        questions += plan.commands.iter().filter(|c| **c == Command::QueryModules).count();
        assert!(!plan.pods.iter().any(PodOutcome::ready));
    }
    assert_eq!(questions, 1, "one is under way, the next can wait for its answer");
    w.settle();
    assert!(w.pods.iter().all(|p| w.is_ready(&p.uid)));
}

#[test]
fn pods_whose_modules_are_not_there_yet_make_no_question_more() {
    let mut w = World::new(Mode::Default);
    w.settle();
    let mut questions = 0;
    for n in 0..4 {
        w.pod("a", 1, &[(&format!("biz{n}"), "1")]);
        w.now += Duration::from_millis(1);
        questions += w.step().commands.iter().filter(|c| **c == Command::QueryModules).count();
    }
    assert_eq!(questions, 0);
}
