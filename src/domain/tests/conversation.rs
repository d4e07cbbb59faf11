//! Lost, doubled and late messages.

use std::time::Duration;

use super::{jvm::Mode, world::World};
use crate::domain::*;

/// A world in which the base has reported and one install is on the wire.
fn with_an_install_under_way() -> (World, PodUid) {
    let mut w = World::new(Mode::Default);
    w.settle();
    let pod = w.pod("a", 1, &[("biz1", "1")]);
    w.step();
    assert_eq!(w.installs(), 1);
    (w, pod)
}

#[test]
fn a_lost_reply_is_made_good_by_the_list() {
    let (mut w, pod) = with_an_install_under_way();
    w.deliver_command();
    w.from_base.clear();
    w.run_for(Duration::from_secs(5));
    assert!(w.is_ready(&pod));
    assert_eq!(w.installs(), 1, "no need to send it again");
}

#[test]
fn a_lost_command_is_sent_again() {
    let (mut w, pod) = with_an_install_under_way();
    w.to_base.clear();
    w.run_for(Duration::from_secs(25));
    assert_eq!(w.installs(), 1, "the base may still be fetching the jar");
    w.run_for(Duration::from_secs(15));
    assert!(w.is_ready(&pod));
    assert_eq!(w.installs(), 2);
}

#[test]
fn a_command_lost_with_the_connection_is_sent_again_as_soon_as_the_list_is_there() {
    let (mut w, pod) = with_an_install_under_way();
    w.base.connection_lost(w.now);
    w.to_base.clear();
    w.now += Duration::from_secs(15);
    assert!(w.step().commands.is_empty(), "nothing is sent while there is no broker");
    w.base.connection_back(w.now);
    w.run_for(Duration::from_secs(1));
    assert!(w.is_ready(&pod));
    assert_eq!(w.installs(), 2);
}

#[test]
fn a_doubled_reply_does_no_harm() {
    let (mut w, pod) = with_an_install_under_way();
    w.deliver_command();
    w.deliver_answer(true);
    w.settle();
    assert!(w.is_ready(&pod));
    w.delete(&pod);
    w.step();
    w.deliver_command();
    w.deliver_answer(true);
    w.settle();
    assert_eq!((w.installs(), w.uninstalls()), (1, 1));
}

#[test]
fn a_list_from_before_the_end_of_a_command_is_not_believed() {
    let (mut w, pod) = with_an_install_under_way();
    // The question goes out before the reply comes in; its answer was computed before the install.
    w.now += Duration::from_secs(4);
    let plan = w.step();
    assert_eq!(plan.commands, [Command::QueryModules]);
    w.deliver_command();
    w.deliver_answer(false);
    w.base.listed(Vec::new(), w.now);
    w.to_base.clear();
    w.settle();
    assert!(w.is_ready(&pod));
    assert_eq!(w.installs(), 1);
}

#[test]
fn a_conflict_means_wait() {
    let (mut w, pod) = with_an_install_under_way();
    let answer = Answer::Conflict;
    w.base.replied(Reply { command: "installBiz", module: Some(ModuleId::new("biz1", "1")), answer, space: None });
    w.base.listed(Vec::new(), w.now);
    w.step();
    assert_eq!(w.installs(), 1);
    w.settle();
    assert!(w.is_ready(&pod));
    assert_eq!(w.installs(), 1);
}

#[test]
fn a_slow_start_is_waited_for() {
    let (mut w, pod) = with_an_install_under_way();
    w.to_base.clear();
    w.jvm.list.insert(ModuleId::new("biz1", "1"), ModuleState::Resolved);
    w.run_for(Duration::from_secs(300));
    assert_eq!(w.installs(), 1);
    assert_eq!(w.says(&pod), "Installing");
    w.jvm.list.insert(ModuleId::new("biz1", "1"), ModuleState::Activated);
    w.run_for(Duration::from_secs(6));
    assert!(w.is_ready(&pod));
}

#[test]
fn a_silent_base_is_asked_and_then_called_unreachable_within_thirty_seconds() {
    let (mut w, pod) = World::serving(Mode::Default);
    let silent_since = w.now;
    let mut asked_health = false;
    while w.base.reachability(w.now) == Reachability::Online {
        w.now += Duration::from_millis(500);
        asked_health |= w.step().commands.contains(&Command::QueryHealth);
        w.to_base.clear();
    }
    let silence = w.now - silent_since;
    assert!(asked_health);
    assert!(silence > Duration::from_secs(15) && silence <= Duration::from_secs(30), "{silence:?}");
    let plan = w.step();
    assert!(!plan.pods.iter().any(PodOutcome::ready));
    w.base.liveness.heard(w.now);
    w.settle();
    assert!(w.is_ready(&pod));
    assert_eq!(w.installs(), 1);
}

#[test]
fn silence_does_not_count_while_we_have_no_broker() {
    let mut w = World::new(Mode::Default);
    w.settle();
    w.base.connection_lost(w.now);
    w.now += Duration::from_secs(600);
    w.step();
    assert_eq!(w.base.reachability(w.now), Reachability::Online);
    w.base.connection_back(w.now);
    // It is asked, and the link proves alive from time to time.
    for _ in 0..5 {
        w.now += Duration::from_secs(5);
        w.step();
    }
    w.now += Duration::from_secs(2);
    w.step();
    assert_eq!(w.base.reachability(w.now), Reachability::Online);
    w.now += Duration::from_secs(2);
    w.step();
    assert_eq!(w.base.reachability(w.now), Reachability::Unreachable);
    w.now += Duration::from_secs(301);
    assert_eq!(w.base.reachability(w.now), Reachability::Dead);
}

#[test]
fn a_base_that_never_answers_an_install_is_left_in_peace_between_tries() {
    let (mut w, pod) = with_an_install_under_way();
    for _ in 0..600 {
        w.to_base.retain(|c| !matches!(c, Command::Install(..)));
        while !w.to_base.is_empty() {
            w.deliver_command();
            w.deliver_answer(false);
        }
        w.now += Duration::from_secs(1);
        w.step();
        while !w.unwritten.is_empty() {
            w.write_status();
        }
    }
    assert!(w.installs() <= 10, "{} installs in ten minutes", w.installs());
    assert_eq!(w.says(&pod), "InstallFailed");
}

#[test]
fn a_reply_that_nobody_waits_for_claims_nothing() {
    let mut w = World::new(Mode::Default);
    w.jvm.list.insert(ModuleId::new("by-hand", "1"), ModuleState::Activated);
    w.settle();
    let answer = Answer::Done { actual: Some(ModuleId::new("by-hand", "1")) };
    w.base.replied(Reply { command: "installBiz", module: Some(ModuleId::new("biz1", "1")), answer, space: None });
    w.run_for(Duration::from_secs(60));
    assert_eq!(w.on_base().len(), 1);
    assert_eq!(w.uninstalls(), 0);
}
